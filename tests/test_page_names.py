# SPDX-License-Identifier: Apache-2.0
"""Names on the page of a run: long ones leave room for what they name, members of a group are found by theirs."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from importlib.resources import as_file, files
from pathlib import Path
from urllib.parse import quote

import pytest
from models import Graph
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import RESULTS
from nncosim.tb.report.pages.labels import NAME, shortened
from toy_models import save

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """The folder of a run of the digits network, which has a fused group, with its report."""
    out = tmp_path_factory.mktemp("names") / "run"
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        assert invoke(["run", str(model), "--platform", "j3dai", "--backend", "iss", "--out", str(out)]) == 0
    assert invoke(["report", str(out)]) == 0
    return out


def test_shortened_names_keep_both_ends():
    assert shortened("conv_1") == "conv_1" and shortened("n" * NAME) == "n" * NAME
    long = "features.block_1.very.deep/" + "x" * 60 + "/conv_17"
    assert len(shortened(long)) == NAME and shortened(long).startswith("features.") and long.endswith("/conv_17")
    assert shortened(long).endswith("conv_17") and shortened("abcdefgh", 5) == "ab\u2026gh"


def test_long_names_leave_room_for_the_bars(tmp_path):
    """No label at the side of a plot is longer than what it has room for; the whole name is in the tooltip's data."""
    g = Graph((1, 4, 8, 8), seed=5)
    x = g.quant("x", 0.05)
    names = [f"{number}{'features/block/' * 8}conv{number}" for number in range(2)]
    for name in names:
        x = g.quant(g.conv(x, 4, 4, name=name), 0.4)
    out = tmp_path / "o"
    file = save(g.model(x), tmp_path / "m.onnx")
    assert invoke(["run", str(file), "--platform", "j3dai", "--backend", "iss", "--out", str(out)]) == 0
    assert invoke(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    layers = json.loads((out / "report.json").read_text())["layers"]
    factors = [json.loads(found) for found in re.findall(r'"factors":(\[[^]]*\])', page)]
    assert len(factors) >= 2
    for labels in factors:
        labels = [label.replace("\\u2026", "\u2026") for label in labels]
        assert len(labels) == len(layers) and max(map(len, labels)) <= NAME + 4, labels
    assert all(page.count(json.dumps(layer["name"])) >= 2 for layer in layers)


def tables_of(folder: Path) -> dict:
    found = re.search(r'id="timeline-tables">([^<]*)<', (folder / "report.html").read_text())
    assert found
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


def test_every_file_of_a_run_is_known_to_collide(drawn):
    """What `check_outputs` refuses to write twice is all that is written."""
    assert {path.name for path in drawn.iterdir()} == set(RESULTS)


def test_the_timeline_knows_the_members_of_its_layers(drawn):
    layers = json.loads((drawn / "report.json").read_text())["layers"]
    assert any(len(layer["members"]) > 1 for layer in layers)
    shown = tables_of(drawn)["layers"]
    assert [layer["members"] for layer in shown] == [[m["name"] for m in layer["members"]] for layer in layers]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_member_s_name_in_the_address_points_at_its_group(drawn):
    layers = tables_of(drawn)["layers"]
    group = next(layer for layer in layers if len(layer["members"]) > 1)

    def shown(place: str) -> str:
        """The cycles in sight at an address."""
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom",
                   f"file://{drawn}/report.html#{place}"]  # fmt: skip
        page = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        found = re.search(r'data-range="([^"]*)"', page)
        assert found, page[-2000:]
        return found[1]

    assert shown(f"layer={quote(group['members'][-1])}") == f"{group['start']}-{group['end']}"
    assert shown("layer=%") == f"0-{layers[-1]['end']}"  # no text at all: the whole, and no error
