# SPDX-License-Identifier: Apache-2.0
"""J3DAI's units, each as a design of its own that is mapped to cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amaranth.lib import wiring
from nncosim.hdl.counters import EngineCounters
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.control import ControlRegisters
from nncosim.hdl.j3dai.controller import Controller
from nncosim.hdl.j3dai.counters import TransferCounters
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.dmpa_fetch import DescriptorFetch
from nncosim.hdl.j3dai.dmpa_paths import DmpaPaths
from nncosim.hdl.j3dai.dmpa_pick import BytePick
from nncosim.hdl.j3dai.dmpa_semaphores import OutputSemaphores
from nncosim.hdl.j3dai.dmpa_walk import BeatWalk
from nncosim.hdl.j3dai.drain import DrainControl, DrainLine
from nncosim.hdl.j3dai.entry import Entry, EntryL2Port
from nncosim.hdl.j3dai.fetch import WindowFetch
from nncosim.hdl.j3dai.isa import COUNT_BITS
from nncosim.hdl.j3dai.ncb import Ncb
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.requantizer import Requantizer
from nncosim.hdl.j3dai.sequencer import Sequencer
from nncosim.hdl.j3dai.settle import Settle
from nncosim.hdl.j3dai.window import WindowPath
from nncosim.hdl.j3dai.writes import WritePath
from nncosim.hdl.odometer import Odometer
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.netlist.mapping import Part

__all__ = ["UNITS", "unit_part"]


def _row_bits(platform: J3dai) -> int:
    return max(1, (platform.l1_words // platform.banks - 1).bit_length())


UNITS: Mapping[str, Callable[[J3dai], wiring.Component]] = {
    "counters": lambda p: EngineCounters(Counter),
    "odometer": lambda p: Odometer(3, 0, {"a": 14, "x": 13}, {"a": 14, "x": 8}, COUNT_BITS),  # the drain's
    "controller": Controller,
    "sequencer": Sequencer,
    "fetch": WindowFetch,
    "window": lambda p: WindowPath(_row_bits(p), p),
    "settle": Settle,
    "drain_control": DrainControl,
    "drain_line": DrainLine,
    "writes": WritePath,
    "pe_column": lambda p: Ncb(p.pes_per_ncb),
    "requantizer": lambda p: Requantizer(p.ncbs_per_requantizer),
    "control": lambda p: ControlRegisters(p.clusters),
    "dmpa": Dmpa,
    "descriptor_fetch": DescriptorFetch,
    "beat_walk": BeatWalk,
    "paths": DmpaPaths,
    "pick": BytePick,
    "semaphores": lambda p: OutputSemaphores(p.clusters),
    "transfer_counters": lambda p: TransferCounters(p.banks),
    "entry": Entry,
    "entry_l2_port": EntryL2Port,
}
"""Name to what builds it. A name that `nncosim.tb.j3dai.netlist.BLOCKS` or `nncosim.tb.j3dai.blocks.TIMING_BLOCKS` has
too is the same there."""


def unit_part(platform: J3dai, name: str) -> Part:
    """A unit, without its memories."""
    return Part(name, emit_design(UNITS[name](platform), name), (SRAM_MODULE,))
