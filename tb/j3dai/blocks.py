# SPDX-License-Identifier: Apache-2.0
"""J3DAI's blocks as they are mapped to cells: each a design of its own, timed and measured by `nncosim.tb.timing.sta`.

NCBs with the requantizer that they share, the cluster with one such group inside (of the others, what the first has
shown they need at their ports), the DMPA with L2, and the control registers. Results are kept on disk by content; the
first time takes minutes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from nncosim.hdl.cv32e40p import core_files
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.cluster import GROUP_MODULE, Cluster
from nncosim.hdl.j3dai.control import ControlRegisters
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.entry import Entry, EntryL2Port
from nncosim.hdl.j3dai.host import j3dai_host
from nncosim.hdl.j3dai.l2 import l2_memory
from nncosim.hdl.j3dai.ncb import NcbGroup
from nncosim.hdl.j3dai.requantizer import Requantizer
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.tb.timing.sta import OSU018, SRAM, LogicArea, StaOptions, TimingReport, map_area, time_design

__all__ = ["HOST_OPTIONS", "TIMING_BLOCKS", "DmpaWithL2", "MeasuredBlock", "cluster", "control", "core_sources", "dmpa",
           "host", "host_sources", "l2_area", "measure_area", "ncb", "requantizer", "requantizer_area", "time_block"]


HOST_OPTIONS = StaOptions(speed=True)
"""The core's multiplier fills the period; its RTL is not ours to cut by a register."""

_CLOCK_GATE = """module cv32e40p_clock_gate (input clk_i, input en_i, input scan_cg_en_i, output clk_o);
  (* keep *) reg enable;
  always @(posedge clk_i) enable <= en_i | scan_cg_en_i;
  assign clk_o = clk_i;
endmodule
"""


class DmpaWithL2(wiring.Component):
    """The DMPA, the entry port, and the memory that they share: paths into and out of L2's macros are inside.

    Ports: those of the DMPA but its probes, which are there for benches only, and of the entry port with ``entry_`` in
    front.
    """

    def __init__(self, platform: J3dai):
        self.dmpa = Dmpa(platform)
        self.entry = Entry(platform)
        self.port = EntryL2Port(platform)
        self.l2 = l2_memory(platform)
        super().__init__({
            **{name: member for name, member in self.dmpa.signature.members.items()
               if not name.startswith(("l2_", "probe_"))},
            **{f"entry_{name}": member for name, member in self.entry.signature.members.items()
               if not name.startswith("l2_")},
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.dmpa, m.submodules.l2 = dmpa, l2 = self.dmpa, self.l2
        m.submodules.entry, m.submodules.port = entry, port = self.entry, self.port
        for name, member in self.signature.members.items():
            part = entry if name.startswith("entry_") else dmpa
            outer, inner = getattr(self, name), getattr(part, name.removeprefix("entry_"))
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        m.d.comb += [
            port.addr.eq(dmpa.l2_addr), port.mask.eq(dmpa.l2_mask), port.r_en.eq(dmpa.l2_re),
            port.w_en.eq(dmpa.l2_we), port.w_data.eq(dmpa.l2_wdata), port.entry_valid.eq(entry.l2_valid),
            port.entry_addr.eq(entry.l2_addr), port.entry_data.eq(entry.l2_data), entry.l2_busy.eq(port.busy),
            l2.addr.eq(port.l2_addr), l2.mask.eq(port.l2_mask), l2.r_en.eq(port.l2_r_en), l2.w_en.eq(port.l2_w_en),
            l2.w_data.eq(port.l2_w_data), dmpa.l2_rdata.eq(l2.r_data),
        ]
        return m


@functools.cache
def ncb(platform: J3dai = PLATFORM, liberty: Path = OSU018) -> TimingReport:
    """With the requantizer that it shares with its group, and the others of the group."""
    group = NcbGroup(platform.pes_per_ncb, platform.ncbs_per_requantizer)
    return time_design(emit_design(group, GROUP_MODULE), GROUP_MODULE, StaOptions(liberty=liberty))


@functools.cache
def requantizer(platform: J3dai = PLATFORM, liberty: Path = OSU018) -> TimingReport:
    """By itself; it is within `ncb` too."""
    return time_design(emit_design(Requantizer(platform.ncbs_per_requantizer), "requantizer"), "requantizer",
                       StaOptions(liberty=liberty))  # fmt: skip


@functools.cache
def cluster(platform: J3dai = PLATFORM, liberty: Path = OSU018) -> TimingReport:
    """With ``group0`` of NCBs inside; the others are cut out."""
    options = StaOptions(cut={SRAM_MODULE: SRAM, GROUP_MODULE: ncb(platform, liberty).budget()},
                         keep={"group0": GROUP_MODULE}, liberty=liberty)
    return time_design(emit_design(Cluster(platform), "cluster"), "cluster", options)


@functools.cache
def dmpa(platform: J3dai = PLATFORM, liberty: Path = OSU018) -> TimingReport:
    """With L2."""
    return time_design(emit_design(DmpaWithL2(platform), "dmpa_with_l2"), "dmpa_with_l2", StaOptions(liberty=liberty))


@functools.cache
def control(platform: J3dai = PLATFORM, liberty: Path = OSU018) -> TimingReport:
    return time_design(emit_design(ControlRegisters(platform.clusters), "control"), "control",
                       StaOptions(liberty=liberty))  # fmt: skip


@functools.cache
def host(platform: J3dai = PLATFORM, liberty: Path = OSU018) -> TimingReport:
    """The core with its memories and the decoder of its bus, mapped for delay first; see `host_sources`."""
    return time_design(host_sources(platform), "host", replace(HOST_OPTIONS, liberty=liberty))


def host_sources(platform: J3dai = PLATFORM) -> dict[str, str]:
    """The core is SystemVerilog, for slang's reader. Its clock is ideal, like all others: instead of the gate there is
    what a gate asks of its enable, to be there before the rising edge."""
    return emit_design(j3dai_host(platform), "host") | core_sources(_CLOCK_GATE)


def core_sources(clock_gate: str) -> dict[str, str]:
    """The host's core as SystemVerilog, file name to text, with a module ``cv32e40p_clock_gate`` of one's own."""
    files = {path.name: path.read_text() for path in core_files() if "clock_gate" not in path.name}
    return {"clock_gate.sv": clock_gate} | files


TIMING_BLOCKS: dict[str, tuple[str, Callable[[J3dai, Path], TimingReport]]] = {
    "ncb": ("a group of NCBs with their requantizer", ncb),
    "requantizer": ("the requantizer of a group by itself", requantizer),
    "cluster": ("a cluster with one group of NCBs inside, the others cut out", cluster),
    "dmpa_with_l2": ("DMPA, entry port and L2", dmpa),
    "control": ("control registers", control),
    "host": ("host core, its memories and the decoder of its bus, mapped for delay first", host),
}
"""Name on the command line to what it is, and the function that times it."""


def time_block(platform: J3dai, block: str, liberty: Path = OSU018) -> TimingReport:
    """A block of `TIMING_BLOCKS`.

    Raises:
        BenchError, ToolError: as `nncosim.tb.timing.sta.time_design`.
    """
    return TIMING_BLOCKS[block][1](platform, liberty)


@functools.cache
def requantizer_area(platform: J3dai = PLATFORM) -> LogicArea:
    """Mapped by itself: in the group's netlist its gates have no names."""
    return map_area(emit_design(Requantizer(platform.ncbs_per_requantizer), "requantizer"), "requantizer")


@functools.cache
def l2_area(platform: J3dai = PLATFORM) -> LogicArea:
    """L2's logic around the macros, mapped by itself."""
    return map_area(emit_design(l2_memory(platform), "l2"), "l2")


@dataclass(frozen=True)
class MeasuredBlock:
    """Logic of one block, in NAND2 equivalents: of one instance, and how many the chip has."""

    name: str
    instances: int
    area: LogicArea

    @property
    def total(self) -> float:
        return self.instances * self.area.total


def measure_area(platform: J3dai = PLATFORM) -> tuple[MeasuredBlock, ...]:
    """Logic of the chip by block, from mapped netlists. Parts of one netlist are told apart by subtraction: PEs are a
    group without its requantizer, the rest of the cluster is the cluster without ``group0``, the DMPA is without L2."""
    p, count, shared = platform, platform.clusters, platform.ncbs_per_requantizer
    ncbs = count * p.ncbs_per_cluster
    return (
        MeasuredBlock("PEs of an NCB", ncbs, (ncb(p).area - requantizer_area(p)) / shared),
        MeasuredBlock("requantizer", ncbs // shared, requantizer_area(p)),
        MeasuredBlock("cluster without NCBs", count, cluster(p).area - ncb(p).area),
        MeasuredBlock("DMPA", 1, dmpa(p).area - l2_area(p)),
        MeasuredBlock("L2's logic", 1, l2_area(p)),
        MeasuredBlock("control registers", 1, control(p).area),
        MeasuredBlock("host", 1, host(p).area),
    )
