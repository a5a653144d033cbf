# SPDX-License-Identifier: Apache-2.0
"""A block of its own as gates, for its own bench: the ports are those of the RTL, memories stay behavioural."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from nncosim.hdl.emit import emit_design
from nncosim.hdl.sram import SRAM_MODULE, SRAM_VERILOG
from nncosim.tb.netlist.cells import CellModel, cell_models
from nncosim.tb.netlist.design import SliceOf, gate_design
from nncosim.tb.netlist.mapping import Part, mapped
from nncosim.tb.sim.building import UNOPTIMIZED
from nncosim.tb.sim.verilate import BuiltModel, build
from nncosim.tb.timing.sta import OSU018

__all__ = ["build_block"]


def build_block(component: wiring.Component, name: str, *, liberty: Path = OSU018,
                models: Mapping[str, CellModel] | None = None, **arguments: Any) -> BuiltModel:
    """The block mapped to a cell library, under Verilator; mapped and built, or found in the cache.

    Args:
        name: of the Verilog module. models: what cells compute, if it is not what the library says, to show that a
            bench notices. arguments: of `nncosim.tb.sim.verilate.build`.

    Raises:
        BenchError, BuildError, ToolCrash, ToolError: as `nncosim.tb.netlist.mapping.mapped` and that.
    """
    sources = {file: str(text) for file, text in emit_design(component, name).items()}
    part = Part(name, sources, (SRAM_MODULE,))
    registers = any(each.registers for each in mapped(part, liberty, cell_models(liberty)).values())
    gates = gate_design([part], liberty, [SliceOf(name, 1)] if registers else [], models=models,
                        jobs=1)  # fmt: skip
    files = [SRAM_VERILOG] if any(SRAM_MODULE in text for text in gates.sources.values()) else []
    return build(gates.sources, name, files=files, cpp_sources=gates.cpp,
                 **{"options": UNOPTIMIZED, **arguments})  # fmt: skip
