# SPDX-License-Identifier: Apache-2.0
"""J3DAI can clock: no path over 70 FO4, storage in SRAM macros, few flip-flops in an NCB.

Mapped and timed are the NCB, the cluster with one NCB inside (of the others, what the first has shown they need at
their ports), the DMPA and the entry port with L2, and the control registers. How: see `nncosim.tb.sta`. The first run
takes two to three minutes; the results are cached by content.
"""

import functools
from collections.abc import Callable

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.cluster import NCB_MODULE, Cluster
from nncosim.hdl.j3dai.control import ControlRegisters
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.entry import Entry, EntryL2Port
from nncosim.hdl.j3dai.l2 import L2
from nncosim.hdl.j3dai.ncb import Ncb
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.j3dai import NCB_FLIP_FLOP_BITS, J3dai
from nncosim.tb.sta import LIMIT, SRAM, StaOptions, TimingReport, time_design

NCB_FLIP_FLOPS = 8 * 1024


class DmpaWithL2(wiring.Component):
    """The DMPA, the entry port, and the memory that they share: paths into and out of L2's macros are inside.

    Ports: those of the DMPA, and of the entry port with ``entry_`` in front.
    """

    def __init__(self, platform: J3dai):
        self.dmpa = Dmpa(platform)
        self.entry = Entry(platform)
        self.port = EntryL2Port(platform)
        self.l2 = L2(platform)
        super().__init__({
            **{name: member for name, member in self.dmpa.signature.members.items() if not name.startswith("l2_")},
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
def ncb() -> TimingReport:
    return time_design(emit_design(Ncb(J3dai().pes_per_ncb), NCB_MODULE), NCB_MODULE)


@functools.cache
def cluster() -> TimingReport:
    options = StaOptions(cut={SRAM_MODULE: SRAM, NCB_MODULE: ncb().budget()}, keep={"ncb0": NCB_MODULE})
    return time_design(emit_design(Cluster(J3dai()), "cluster"), "cluster", options)


@functools.cache
def dmpa() -> TimingReport:
    return time_design(emit_design(DmpaWithL2(J3dai()), "dmpa_with_l2"), "dmpa_with_l2")


@functools.cache
def control() -> TimingReport:
    return time_design(emit_design(ControlRegisters(J3dai().clusters), "control"), "control")


DESIGNS: dict[str, Callable[[], TimingReport]] = {
    "NCB": ncb, "cluster": cluster, "DMPA and L2": dmpa, "control registers": control}

_MEMORY = ("l1.", "wmem.")
_NCB = "ncb"
_UNITS = ("fetch.", "sequencer.", "drain.")
# Name: design, start, end. None may be without a path, or the check would pass for lack of something to check.
BLOCKS: dict[str, tuple[Callable[[], TimingReport], str | tuple[str, ...], str | tuple[str, ...]]] = {
    "NCB": (ncb, "", ""),
    "PE, accumulation and requantizer input": (ncb, ("pe", "w_"), ("pe", "requantizer.")),
    "requantizer": (ncb, "requantizer.", ("requantizer.", "port q")),
    "controller, from its registers": (cluster, "controller.", ""),
    "controller, to its registers": (cluster, "", "controller."),
    "AGUs and sequencer, from their registers": (cluster, _UNITS, ""),
    "AGUs and sequencer, to their registers": (cluster, "", _UNITS),
    "SRAM to crossbar": (cluster, _MEMORY, ""),
    "crossbar to PE": (cluster, "", _NCB),
    "requantizer to L1": (cluster, ("ncb0.requantizer.q", "ncb1", "line.", "drain."), ""),
    "registers to SRAM": (cluster, "", (*_MEMORY, "imem.")),
    "cluster": (cluster, "", ""),
    "L2 to DMPA and clusters": (dmpa, "l2.", ""),
    "DMPA to L2": (dmpa, "", "l2."),
    "entry port to L2": (dmpa, "entry.", "l2."),
    "entry port, from its registers": (dmpa, "entry.", ""),
    "entry port, to its registers": (dmpa, "", "entry."),
    "DMPA": (dmpa, "", ""),
    "control registers": (control, "", ""),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_paths(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No path of the block is longer than the limit; the ten worst are printed."""
    design, starts, ends = BLOCKS[block]
    report = design()
    paths = report.between(starts, ends)
    assert paths, f"{block}: no path was found"
    with capsys.disabled():
        print(f"\n{block}: FO4 = {report.fo4_ns:.4f} ns, limit {LIMIT:.0f} FO4, worst {paths[0].fo4:.1f} FO4\n"
              f"{report.table(paths)}")
    too_long = [path for path in paths if path.fo4 > LIMIT]
    assert not too_long, f"paths over {LIMIT:.0f} FO4:\n{report.table(too_long, len(too_long))}"


# Block that drives, port; block that is driven, port. The ports of SRAM and host are inside, or have their budget.
CONNECTIONS = [
    *((dmpa, port, cluster, port) for port in (
        "wr_valid", "wr_space", "wr_addr", "wr_mask", "wr_data", "rd_valid", "rd_addr", "signal_in")),
    (dmpa, "idle", cluster, "dmpa_idle"),
    *((cluster, port, dmpa, port) for port in ("rd_data", "drain_ahead", "signal_out")),
    *((control, port, dmpa, port) for port in ("push", "push_addr", "in_frame")),
    *((control, port, cluster, port) for port in ("start", "start_pc", "in_frame")),
    *((dmpa, f"{port}", control, f"dmpa_{port}") for port in ("free", "busy", "trap")),
    (dmpa, "lists_done", control, "lists_done"), (dmpa, "counters", control, "counters"),
    (dmpa, "transfers", control, "transfers"),
    *((dmpa, f"entry_{port}", control, f"entry_{port}") for port in ("status", "counters", "frame")),
    (control, "input_free", dmpa, "entry_input_free"),
    (cluster, "counters", control, "counters"), (cluster, "running", control, "running"),
    (cluster, "armed", control, "armed"), (cluster, "trap", control, "cluster_trap"),
]


def test_ports_close(capsys: pytest.CaptureFixture[str]) -> None:
    """From block to block: when the one's output is there, and what the other still needs, fit a cycle together."""
    lengths = {
        f"{source.__name__}.{output} -> {target.__name__}.{port}": source().outputs[output] + target().inputs[port]
        for source, output, target, port in CONNECTIONS}
    worst = sorted(lengths.items(), key=lambda item: -item[1])
    with capsys.disabled():
        print("\nbetween blocks:\n" + "\n".join(f"  {length:6.1f} FO4  {name}" for name, length in worst[:10]))
    assert {name: length for name, length in worst if length > LIMIT} == {}


def test_ncb_flip_flops(capsys: pytest.CaptureFixture[str]) -> None:
    """An NCB has at most 8 Kibit of flip-flops: counted alone, and in the cluster."""
    alone, inside = ncb().flip_flop_bits(), cluster().flip_flop_bits("ncb0.")
    with capsys.disabled():
        print(f"\nflip-flops of an NCB: {alone} bits (in the cluster: {inside}), at most {NCB_FLIP_FLOPS}")
    assert 0 < alone <= NCB_FLIP_FLOPS
    assert alone == NCB_FLIP_FLOP_BITS, "platforms/j3dai.py states another number"
    assert 0 < inside <= NCB_FLIP_FLOPS


@pytest.mark.parametrize("name", DESIGNS)
def test_storage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What holds more than 1 Kibit is an SRAM macro."""
    report = DESIGNS[name]()
    with capsys.disabled():
        print(f"\n{name}: {report.flip_flop_bits()} bits of flip-flops; storage over 1 Kibit:")
        print("\n".join(f"  {entry}" for entry in report.storage) or "  none")
    assert report.storage_in_flip_flops() == []
    assert {entry.module for entry in report.storage} <= {SRAM_MODULE}


def test_memories_are_found() -> None:
    """The macros that the platform's sizes ask for are among the storage: the list is not empty for want of looking."""
    platform = J3dai()
    bits = {prefix: sum(entry.bits for entry in cluster().storage if entry.name.startswith(prefix))
            for prefix in ("l1.", "wmem.", "imem.")}
    words = {"l1.": platform.l1_words, "wmem.": platform.wmem_words, "imem.": platform.imem_words}
    assert bits == {prefix: 128 * count for prefix, count in words.items()}
    assert sum(entry.bits for entry in dmpa().storage) == 128 * platform.l2_words
