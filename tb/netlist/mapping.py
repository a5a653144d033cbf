# SPDX-License-Identifier: Apache-2.0
"""Parts of a design mapped to a cell library, with the modules in them that hold memories kept as modules."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.netlist.gates import Gates, read_gates
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.synthesis import recipe, synthesize, yosys_version

__all__ = ["Part", "mapped", "mapped_file", "unpacked"]

_MAPPED = "mapped.json.gz"


@dataclass(frozen=True)
class Part:
    """What is mapped in one run of Yosys: everything under `top` that is not cut, flat but for `kept`.

    Attributes:
        sources: file name to Verilog; of modules that are cut only the ports count.
        cut: modules that are mapped elsewhere, or never: memories, a core.
        kept: modules that stay modules, so that what they hold keeps its name in the hierarchy. Yosys' patterns.
        clock: port of the top. parameters: of the top, if it is SystemVerilog.
    """

    top: str
    sources: Mapping[str, str]
    cut: Sequence[str] = ()
    kept: Sequence[str] = ()
    clock: str = "clk"
    parameters: Mapping[str, int] = field(default_factory=dict)


def mapped(part: Part, liberty: Path, models: Mapping[str, CellModel]) -> dict[str, Gates]:
    """The part's modules as gates, by name; mapped, or found mapped already.

    Raises:
        BenchError, ToolCrash: as `nncosim.tb.timing.synthesis.synthesize` and `nncosim.tb.netlist.gates.read_gates`.
    """
    found = read_gates(mapped_file(part, liberty), models, part.clock)
    found[part.top].parameters = part.parameters
    return found


def mapped_file(part: Part, liberty: Path) -> Path:
    """The part's netlist as Yosys wrote it, compressed; mapped, or found mapped already.

    Raises:
        BenchError, ToolCrash: as `nncosim.tb.timing.synthesis.synthesize`.
    """
    constraints = read_library(liberty).constraints

    def fill(folder: Path) -> None:
        shutil.copyfile(liberty, folder / "cells.lib")
        plain = synthesize(folder, part.sources, part.top, cut=part.cut, kept=part.kept,
                           parameters=part.parameters, constraints=constraints)  # fmt: skip
        with plain.open("rb") as source, gzip.open(folder / _MAPPED, "wb", compresslevel=4) as packed:
            shutil.copyfileobj(source, packed)
        plain.unlink()

    script = recipe(part.sources, part.top, cut=part.cut, kept=part.kept, parameters=part.parameters)
    key = content_key([script, constraints, yosys_version(), liberty.read_bytes(),
                       *(text for pair in part.sources.items() for text in pair)])
    return obtain(key, fill, "netlists") / _MAPPED


def unpacked(path: Path) -> dict[str, Any]:
    """The modules of a compressed file of Yosys' write_json, by name."""
    with gzip.open(path) as file:
        return dict(json.load(file)["modules"])
