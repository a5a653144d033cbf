# SPDX-License-Identifier: Apache-2.0
"""`nncosim run --coverage` of a network on AIE-ML's array, whose tiles are compiled by themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from nncosim.hdl.aie_ml import core
from nncosim.regress.dense_models import DenseSpec, dense_network
from nncosim.tb.cli.main import invoke
from nncosim.tb.coverage.code import coverage_files, read_coverage

CORE = Path(core.__file__)
VMAC = "aie_ml_tile.tile.core.vmac"


def line_of(text: str) -> int:
    """The one line of the core's source that has a text."""
    (line,) = [number for number, each in enumerate(CORE.read_text().splitlines(), 1) if each.strip() == text]
    return line


def run(folder: Path, file: Path, *words: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """What the report says of each module, and of each source."""
    line = ["run", str(file), "--platform", "aie_ml", "--coverage", str(folder), *words]
    assert invoke(line) == 0
    data = json.loads((folder / "coverage.json").read_text())
    return {"modules": {each["module"]: each for each in data["modules"]},
            "sources": {each["file"]: each for each in data["sources"]}}  # fmt: skip


def passed(folder: Path) -> int:
    """How often lines of the multiplier were passed."""
    points = read_coverage(coverage_files(folder)).counts.items()
    return sum(count for point, count in points if point.module == VMAC and point.kind == "line")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("dense") / "dense.onnx"
    onnx.save(dense_network(DenseSpec((16, 32, 8))), file)
    return file


def test_tiles_count_and_runs_add_up(tmp_path, network, capfd):
    first = run(tmp_path, network, "--driver", "direct")
    text = capfd.readouterr().out
    assert "coverage of Amaranth sources" in text and "hdl/aie_ml/core.py" in text
    vmac = first["modules"][VMAC]
    assert vmac["lines"] > 100 and vmac["lines_missed"] == [] and vmac["toggles"] > 5_000
    source = first["sources"]["hdl/aie_ml/core.py"]
    begins, halts = line_of("m.d.sync += self.busy.eq(1)"), line_of("m.d.sync += left.eq(DRAIN_CYCLES)")
    # The programs of such a network go round for ever.
    assert halts in source["lines_missed"] and begins not in source["lines_missed"]
    once, files = passed(tmp_path), len(coverage_files(tmp_path))
    both = run(tmp_path, network, "--driver", "cocotb", "--seed", "3")
    assert files == 1 and len(coverage_files(tmp_path)) == 2 and passed(tmp_path) > 1.5 * once > 0
    before, after = ({(each["line"], each["signal"], edge) for each in report["sources"]["hdl/aie_ml/core.py"][
        "signals_missed"] for edge in each["edges"]} for report in (first, both))  # fmt: skip
    assert after < before  # other data turn other bits, too
