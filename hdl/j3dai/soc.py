# SPDX-License-Identifier: Apache-2.0
"""The whole J3DAI accelerator: entry port, host, control registers, DMPA, L2 and the clusters."""

from collections.abc import Callable

from amaranth.hdl import Cat, Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS
from nncosim.hdl.cv32e40p import Cv32e40pHost
from nncosim.hdl.emit import Block, emit_design
from nncosim.hdl.j3dai.cluster import Cluster
from nncosim.hdl.j3dai.control import ControlRegisters
from nncosim.hdl.j3dai.counters import TRANSFER_BITS
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.entry import ENTRY_COUNTER_BITS, Entry, EntryL2Port
from nncosim.hdl.j3dai.host import j3dai_host
from nncosim.hdl.j3dai.l2 import l2_memory
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.line_memory import LineMemory
from nncosim.platforms.j3dai import J3dai

__all__ = ["SOC_MODULE", "ClusterFactory", "Soc", "emit_soc"]

SOC_MODULE = "j3dai_soc"
CLUSTER_MODULE = "j3dai_cluster"

ClusterFactory = Callable[[J3dai], wiring.Component]


class Soc(wiring.Component):
    """The accelerator with its host.

    Ports: ``frame`` (pulse: one more inference), ``frames_done``, ``error``, ``trap`` (of the entry port, the DMPA or a
    cluster), ``lists_done``; ``entry``, a stream of words by which firmware, weights and images come in (see `Entry`);
    ``boot`` (strap: 1: the host waits for the entry port's GO; 0: it runs from reset, a test mode, for what is in its
    memories must have come by a back door); ``input_free`` (the next image may come). With `probes`, for benches only,
    ports that drive nothing in the design:

        probe_cycle: Cycles since reset.
        probe_l2_re, probe_l2_we, probe_l2_addr, probe_l2_mask, probe_l2_data: L2's port in this cycle; word i of
            ``data`` goes to word address addr + i if bit i of ``mask`` is set. ``probe_l2_sources``: which of LOAD
            beat, line fetch and STORE beat use it.
        probe_list: Index, counted from reset, of the list whose beat is written. ``probe_list_done``: pulse: all
            writes of the next list in turn are in L2.
        probe_counters: 192 bits an engine: the clusters, the DMPA, the host; six 32-bit counters each.
            They are one cycle late: an engine's counters add up to ``probe_cycle`` - 1. ``probe_transfers``: those of
            the DMPA by kind of transfer, see `TransferCounters`; as late.
        probe_wr_valid, probe_wr_space, probe_drain_ahead: LOAD beats at the clusters, and their drains.
        probe_running, probe_armed, probe_trap: Bit per cluster; of ``probe_trap`` bits 8, 9: DMPA, entry port.
        probe_cluster: 32 bits a cluster, the `probe` of `Cluster`.
        probe_dmpa: Descriptor's word address (19:0), operation (23:20), semaphore waited for (26:24), idle (27),
            running (28), the `Counter` of the cycle before (31:29), clusters waited for (39:32).
        probe_lost: Bit 8 c + i: a signal of cluster c in this cycle is lost, as output semaphore i is at 255.
        probe_frame: Pulse: an inference was asked for. ``probe_run``: the host may fetch. ``probe_entry``: the counters
            of `Entry`. ``probe_entry_write``, ``probe_entry_addr``, ``probe_entry_data``: its word for L2.
        probe_host_sleeping, probe_host_pc, probe_host_state (the `Counter` of the cycle before).

    Args:
        platform: Sizes.
        cluster: What builds a cluster; another than the default only for benches of the rest.
        probes: Whether there are the ports for benches.
    """

    def __init__(self, platform: J3dai, cluster: ClusterFactory = Cluster, *, probes: bool = False):
        self.platform, self.probes = platform, probes
        self._cluster = cluster
        self.engines = platform.clusters + 2
        super().__init__({
            "frame": In(1), "frames_done": Out(32), "error": Out(32), "trap": Out(1), "lists_done": Out(32),
            "boot": In(1), "entry": In(stream.Signature(platform.word_bits)), "input_free": Out(1),
            **(self._probes() if probes else {}),
        })

    def _probes(self) -> dict[str, wiring.Member]:
        platform, count = self.platform, self.platform.clusters
        return {
            "probe_cycle": Out(64),
            "probe_l2_re": Out(1), "probe_l2_we": Out(1), "probe_l2_addr": Out(20),
            "probe_l2_mask": Out(platform.banks), "probe_l2_data": Out(platform.line_bits), "probe_l2_sources": Out(3),
            "probe_list": Out(32), "probe_list_done": Out(1),
            "probe_counters": Out(COUNTER_BITS * len(Counter) * self.engines), "probe_transfers": Out(TRANSFER_BITS),
            "probe_wr_valid": Out(count), "probe_wr_space": Out(2), "probe_drain_ahead": Out(count),
            "probe_running": Out(count), "probe_armed": Out(count), "probe_trap": Out(10),
            "probe_cluster": Out(32 * count), "probe_dmpa": Out(40), "probe_lost": Out(8 * count),
            "probe_host_sleeping": Out(1), "probe_host_pc": Out(32), "probe_host_state": Out(3),
            "probe_frame": Out(1), "probe_run": Out(1), "probe_entry": Out(ENTRY_COUNTER_BITS),
            "probe_entry_write": Out(1), "probe_entry_addr": Out(20), "probe_entry_data": Out(platform.word_bits),
        }

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        p = self.platform
        m.submodules.host = host = j3dai_host(p)
        m.submodules.control = control = ControlRegisters(p.clusters)
        m.submodules.dmpa = dmpa = Dmpa(p)
        m.submodules.l2 = l2 = l2_memory(p)
        clusters = [self._cluster(p) for _ in range(p.clusters)]
        for index, cluster in enumerate(clusters):
            m.submodules[f"cluster{index}"] = block = Block(cluster, CLUSTER_MODULE)
            clusters[index] = block
            self._connect_cluster(m, index, block, control, dmpa)

        m.d.comb += [
            control.addr.eq(host.mmio_addr), control.r_en.eq(host.mmio_r_en), host.mmio_r_data.eq(control.r_data),
            control.w_en.eq(host.mmio_w_en), control.w_data.eq(host.mmio_w_data),
            host.irq.eq(control.irq), host.in_frame.eq(control.in_frame), control.frame.eq(self.frame),
            dmpa.push.eq(control.push), dmpa.push_addr.eq(control.push_addr), dmpa.in_frame.eq(control.in_frame),
            control.dmpa_free.eq(dmpa.free), control.dmpa_busy.eq(dmpa.busy), control.dmpa_trap.eq(dmpa.trap),
            control.lists_done.eq(dmpa.lists_done),
            dmpa.l2_rdata.eq(l2.r_data),
            control.counters.eq(Cat([cluster.counters for cluster in clusters], dmpa.counters, host.counters)),
            control.transfers.eq(dmpa.transfers),
            self.frames_done.eq(control.frames_done), self.error.eq(control.error), self.lists_done.eq(dmpa.lists_done),
        ]
        entry, port = self._connect_entry(m, host, control, dmpa, l2)
        m.d.comb += self.trap.eq(control.cluster_trap.any() | dmpa.trap | entry.trap)
        if self.probes:
            self._probe(m, clusters, control, dmpa, host)
            self._probe_entry(m, entry, port)
        return m

    def _connect_entry(self, m: Module, host: Cv32e40pHost, control: ControlRegisters, dmpa: Dmpa, l2: LineMemory
                       ) -> tuple[Entry, EntryL2Port]:
        """The entry port, and L2's port shared between it and the DMPA."""
        m.submodules.entry = entry = Entry(self.platform)
        m.submodules.l2_port = port = EntryL2Port(self.platform)
        wiring.connect(m, wiring.flipped(self.entry), entry.i)
        m.d.comb += [
            entry.boot.eq(self.boot), host.run.eq(entry.run), control.entry_frame.eq(entry.frame),
            entry.input_free.eq(control.input_free), self.input_free.eq(control.input_free),
            control.entry_status.eq(entry.status), control.entry_counters.eq(entry.counters),
            host.load_valid.eq(entry.host_valid), host.load_imem.eq(entry.host_imem),
            host.load_addr.eq(entry.host_addr), host.load_data.eq(entry.host_data),
            entry.host_ready.eq(host.load_ready),
            port.addr.eq(dmpa.l2_addr), port.mask.eq(dmpa.l2_mask), port.r_en.eq(dmpa.l2_re),
            port.w_en.eq(dmpa.l2_we), port.w_data.eq(dmpa.l2_wdata), port.entry_valid.eq(entry.l2_valid),
            port.entry_addr.eq(entry.l2_addr), port.entry_data.eq(entry.l2_data), entry.l2_busy.eq(port.busy),
            l2.addr.eq(port.l2_addr), l2.mask.eq(port.l2_mask), l2.r_en.eq(port.l2_r_en), l2.w_en.eq(port.l2_w_en),
            l2.w_data.eq(port.l2_w_data),
        ]
        return entry, port

    def _connect_cluster(self, m: Module, index: int, cluster: wiring.Component, control: ControlRegisters,
                         dmpa: Dmpa) -> None:
        m.d.comb += [
            cluster.start.eq(control.start[index]), cluster.start_pc.eq(control.start_pc),
            cluster.wr_valid.eq(dmpa.wr_valid[index]), cluster.wr_space.eq(dmpa.wr_space),
            cluster.wr_addr.eq(dmpa.wr_addr), cluster.wr_mask.eq(dmpa.wr_mask), cluster.wr_data.eq(dmpa.wr_data),
            cluster.rd_valid.eq(dmpa.rd_valid[index]), cluster.rd_addr.eq(dmpa.rd_addr),
            dmpa.rd_data.word_select(index, self.platform.line_bits).eq(cluster.rd_data),
            dmpa.drain_ahead[index].eq(cluster.drain_ahead),
            cluster.signal_in.eq(dmpa.signal_in.word_select(index, 8)),
            dmpa.signal_out.word_select(index, 8).eq(cluster.signal_out),
            cluster.in_frame.eq(control.in_frame), cluster.dmpa_idle.eq(dmpa.idle),
            control.running[index].eq(cluster.running), control.armed[index].eq(cluster.armed),
            control.cluster_trap[index].eq(cluster.trap),
        ]

    def _probe_entry(self, m: Module, entry: Entry, port: EntryL2Port) -> None:
        m.d.comb += [
            self.probe_trap[9].eq(entry.trap),
            self.probe_frame.eq(self.frame | entry.frame), self.probe_run.eq(entry.run),
            self.probe_entry.eq(entry.counters), self.probe_entry_write.eq(port.entry_write),
            self.probe_entry_addr.eq(entry.l2_addr), self.probe_entry_data.eq(entry.l2_data),
        ]

    def _probe(self, m: Module, clusters: list[Block], control: ControlRegisters, dmpa: Dmpa, host: Cv32e40pHost
               ) -> None:
        m.d.sync += self.probe_cycle.eq(self.probe_cycle + 1)
        m.d.comb += [
            self.probe_l2_re.eq(dmpa.l2_re), self.probe_l2_we.eq(dmpa.l2_we), self.probe_l2_addr.eq(dmpa.l2_addr),
            self.probe_l2_mask.eq(dmpa.l2_mask), self.probe_l2_data.eq(dmpa.l2_wdata),
            self.probe_l2_sources.eq(dmpa.probe_sources),
            self.probe_list.eq(dmpa.probe_list), self.probe_list_done.eq(dmpa.list_done),
            self.probe_counters.eq(control.counters), self.probe_transfers.eq(dmpa.transfers),
            self.probe_wr_valid.eq(dmpa.wr_valid), self.probe_wr_space.eq(dmpa.wr_space),
            self.probe_drain_ahead.eq(dmpa.drain_ahead),
            self.probe_running.eq(control.running), self.probe_armed.eq(control.armed),
            self.probe_trap[:self.platform.clusters].eq(control.cluster_trap), self.probe_trap[8].eq(dmpa.trap),
            self.probe_cluster.eq(Cat(cluster.probe for cluster in clusters)),
            self.probe_dmpa.eq(Cat(dmpa.probe_descriptor, dmpa.probe_op, dmpa.probe_semaphore, dmpa.idle,
                                   dmpa.probe_running, dmpa.probe_state, dmpa.probe_waiting)),
            self.probe_lost.eq(dmpa.probe_lost),
            self.probe_host_sleeping.eq(host.sleeping), self.probe_host_pc.eq(host.pc),
            self.probe_host_state.eq(host.probe_state),
        ]


def emit_soc(platform: J3dai, cluster: ClusterFactory = Cluster) -> dict[str, str]:
    """Verilog of the SoC with its probes, without the host's core: file name to text; the top is `SOC_MODULE`."""
    return emit_design(Soc(platform, cluster, probes=True), SOC_MODULE)
