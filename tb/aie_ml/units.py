# SPDX-License-Identifier: Apache-2.0
"""AIE-ML's units without memories in them, each as a design of its own: mapped to cells, or on an FPGA."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amaranth.lib import wiring
from nncosim.hdl.aie_ml.agu import AddressGenerators
from nncosim.hdl.aie_ml.locks import Locks
from nncosim.hdl.aie_ml.srs import SrsUnit
from nncosim.hdl.aie_ml.vmac import DotLane
from nncosim.hdl.emit import emit_design
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.fpga.block import FpgaBlock
from nncosim.tb.netlist.mapping import Part

__all__ = ["UNITS", "UNITS_ARE", "unit_on_fpga", "unit_part"]

UNITS: Mapping[str, Callable[[AieMl], wiring.Component]] = {
    "agus": lambda p: AddressGenerators(),
    "lane": lambda p: DotLane(1),
    "locks": lambda p: Locks(),
    "srs_unit": lambda p: SrsUnit(64),
}
"""Name to what builds it; a name that `nncosim.tb.aie_ml.timing.TIMING_BLOCKS` has too is the same there."""

UNITS_ARE = {
    "agus": "the address generators of a core",
    "lane": "a lane of eight multipliers",
    "locks": "the locks of a tile",
    "srs_unit": "shift, round, saturate: one sum of 64 bits",
}


def unit_part(platform: AieMl, name: str) -> Part:
    """A unit, as it is mapped."""
    top = f"aie_ml_{name}"
    return Part(top, _sources(platform, name, top))


def unit_on_fpga(platform: AieMl, name: str) -> FpgaBlock:
    """A unit for an FPGA."""
    top = f"aie_ml_{name}"
    return FpgaBlock(name, UNITS_ARE[name], top, _sources(platform, name, top))


def _sources(platform: AieMl, name: str, top: str) -> dict[str, str]:
    return {file: str(text) for file, text in emit_design(UNITS[name](platform), top).items()}
