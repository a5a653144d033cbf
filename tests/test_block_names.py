# SPDX-License-Identifier: Apache-2.0
"""What the tables of blocks and units call a part of J3DAI: one thing has one name, and one name is one thing."""

from typing import Any

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.soc import SOC_MODULE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.j3dai import blocks
from nncosim.tb.j3dai.blocks import TIMING_BLOCKS
from nncosim.tb.j3dai.netlist import BLOCKS
from nncosim.tb.j3dai.recorded import place_of
from nncosim.tb.j3dai.units import UNITS
from nncosim.tb.timing.sta import OSU018


def test_units_that_are_blocks_have_their_names() -> None:
    """By where they are in the chip: a module of the SoC is a block, by the name that it has there."""
    places = {unit: f"{SOC_MODULE}.{place_of(PLATFORM, unit).scope}" for unit in UNITS}
    shared = {unit: block for unit, place in places.items() for block, modules in BLOCKS.items() if place == modules[0]}
    assert shared == {name: name for name in ("control", "dmpa", "entry")}
    assert shared.keys() == UNITS.keys() & BLOCKS.keys()


def test_units_that_are_timed_have_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their Verilog; the DMPA is timed together with L2, and that is not called like the DMPA."""
    assert UNITS.keys() & TIMING_BLOCKS.keys() == {"requantizer", "control"}
    monkeypatch.setattr(blocks, "time_design", lambda sources, *_: sources)
    timed: Any = TIMING_BLOCKS["control"][1]
    sources = timed.__wrapped__(PLATFORM, OSU018)  # not what is kept
    unit = emit_design(UNITS["control"](PLATFORM), "control")
    assert {name: str(text) for name, text in sources.items()} == {name: str(text) for name, text in unit.items()}
