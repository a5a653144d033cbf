# SPDX-License-Identifier: Apache-2.0
"""The DMPA: moves words between L2 and the clusters as lists of descriptors say.

    DescriptorFetch -> (semaphores) -> BeatWalk -> issue -> L2 port -> clusters
"""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS, EngineCounters
from nncosim.hdl.j3dai.counters import NO_STATE, TRANSFER_BITS, TransferCounters
from nncosim.hdl.j3dai.dmpa_fetch import DescriptorFetch
from nncosim.hdl.j3dai.dmpa_paths import DmpaPaths
from nncosim.hdl.j3dai.dmpa_semaphores import SEMAPHORES, OutputSemaphores
from nncosim.hdl.j3dai.dmpa_walk import BeatWalk
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp, Space
from nncosim.hdl.j3dai.regs import Counter, TransferKind
from nncosim.hdl.j3dai.timing import DRAIN_AHEAD, LOAD_TO_STORE, STORE_TO_CLUSTER, STORE_TO_LOAD
from nncosim.platforms.j3dai import J3dai

__all__ = ["Dmpa"]


def _loads(descriptor: Signal) -> Signal:
    """Whether it moves words from L2 to the clusters."""
    return (descriptor.op == DmpaOp.LOAD) | (descriptor.op == DmpaOp.GATHER)


class Dmpa(wiring.Component):
    """Executes descriptor lists; see the manual, section 3.

    A descriptor is taken (its semaphores too) in the cycle in which its predecessor issues its last beat, or later;
    its first beat is issued in the next cycle at the earliest. A LOAD, GATHER or SYNC waits until all words of earlier
    STOREs are in L2, a STORE until all words of earlier LOADs are in L1.

    Ports (c = cluster):
        push, push_addr, free, busy, trap, lists_done: Control registers. ``list_done``: pulse.
        in_frame: An inference is in progress (for the counters). ``idle``: nothing queued, running or in flight.
        signal_out: Bit 8 c + i: SIGNAL i of cluster c. ``signal_in``: bit 8 c + i: increment.
        drain_ahead: Bit c. See `timing.DRAIN_AHEAD`.
        wr_valid: Bit c; ``wr_space``, ``wr_addr``, ``wr_mask``, ``wr_data``: the beat, the same for all clusters.
        rd_valid: Bit c; ``rd_addr``; ``rd_data``: a line a cluster, `STORE_TO_DATA` cycles after issue.
        l2_addr, l2_mask, l2_re, l2_we, l2_wdata, l2_rdata: The port of L2.
        counters: 6 x 32 bits, in `Counter` order. ``transfers``: see `TransferCounters`.
        probe_sources: Which of the LOAD beat, the line fetch and the STORE beat use L2's port in this cycle.
        probe_list: Index of the list whose beat is written. ``probe_descriptor``: word address of the descriptor
            that runs, or waits to. ``probe_op``: its operation. ``probe_waiting``, ``probe_semaphore``: the clusters it
            waits for, and which semaphore of theirs. ``probe_running``: it runs. ``probe_state``: the `Counter` of the
            cycle before. ``probe_lost``: signals that are lost, see `OutputSemaphores`.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        self.clusters = clusters = platform.clusters
        banks, line = platform.banks, platform.line_bits
        super().__init__({
            "push": In(1), "push_addr": In(32), "free": Out(3), "busy": Out(1), "trap": Out(1),
            "lists_done": Out(32), "list_done": Out(1), "in_frame": In(1), "idle": Out(1),
            "signal_out": In(SEMAPHORES * clusters), "signal_in": Out(SEMAPHORES * clusters),
            "drain_ahead": In(clusters),
            "wr_valid": Out(clusters), "wr_space": Out(2), "wr_addr": Out(14), "wr_mask": Out(banks),
            "wr_data": Out(line),
            "rd_valid": Out(clusters), "rd_addr": Out(14), "rd_data": In(line * clusters),
            "l2_addr": Out(20), "l2_mask": Out(banks), "l2_re": Out(1), "l2_we": Out(1),
            "l2_wdata": Out(line), "l2_rdata": In(line),
            "counters": Out(COUNTER_BITS * len(Counter)), "transfers": Out(TRANSFER_BITS),
            "probe_sources": Out(3), "probe_list": Out(32), "probe_descriptor": Out(20), "probe_op": Out(4),
            "probe_waiting": Out(8), "probe_semaphore": Out(3), "probe_running": Out(1), "probe_state": Out(3),
            "probe_lost": Out(SEMAPHORES * clusters),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.fetch = fetch = DescriptorFetch(self.platform)
        m.submodules.semaphores = semaphores = OutputSemaphores(self.clusters)
        m.submodules.walk = walk = BeatWalk(self.platform)
        m.submodules.paths = paths = DmpaPaths(self.platform)
        self._connect(m, fetch, semaphores, walk, paths)

        # The descriptor whose beats are being issued.
        current = Signal(Descriptor)
        running, current_list, current_addr = (
            Signal(name="running"), Signal(32, name="current_list"), Signal(20, name="current_addr"))
        issue, port_wait = Signal(name="issue"), Signal(name="port_wait")
        beyond = self._issue(m, current, running, walk, fetch, paths, issue, port_wait)

        finished = Signal()
        take, refuse = Signal(name="take"), Signal(name="refuse")
        turn = fetch.next_valid & (~running | finished) & ~self.trap
        m.d.comb += [
            finished.eq(issue & (walk.last | (current.op == DmpaOp.SYNC))),
            refuse.eq(turn & self._bad(fetch.next)),
            take.eq(turn & semaphores.ready & ~refuse),
            fetch.take.eq(take), semaphores.take.eq(take), walk.load.eq(take), walk.step.eq(issue),
        ]
        with m.If(finished):
            m.d.sync += running.eq(0)
        with m.If(take):
            m.d.sync += [running.eq(1), current.eq(fetch.next), current_list.eq(fetch.next_list),
                         current_addr.eq(fetch.next_addr)]
        no_line = fetch.bad_line & ~fetch.next_valid & ~running
        with m.If(refuse | beyond | no_line | fetch.refused):
            m.d.sync += self.trap.eq(1)

        m.d.comb += [paths.last.eq(finished), paths.list.eq(current_list), paths.end.eq(current.end)]
        with m.If(self.list_done):
            m.d.sync += self.lists_done.eq(self.lists_done + 1)
        nothing = Signal()
        m.d.comb += [
            nothing.eq(fetch.empty & ~running), self.idle.eq(nothing & ~paths.in_flight),
            self.busy.eq(~self.idle),
            self.probe_descriptor.eq(Mux(running, current_addr, fetch.next_addr)),
            self.probe_op.eq(Mux(running, current.op.as_value(), fetch.next.op.as_value())),
            self.probe_semaphore.eq(fetch.next.wait_semaphore), self.probe_running.eq(running),
        ]
        with m.If(~running & fetch.next_valid):
            m.d.comb += self.probe_waiting.eq(semaphores.waiting)
        beat, waits = Signal(name="beat"), Signal(name="waits")
        m.d.comb += [
            beat.eq(issue & (current.op != DmpaOp.SYNC)),
            waits.eq(fetch.next_valid & ~running & ~semaphores.ready),
        ]
        self._count(m, beat, port_wait, nothing, waits)
        transfers = self._count_transfers(m, fetch, walk, current)
        m.d.comb += [
            transfers.beat.eq(beat), transfers.done.eq(finished), transfers.wait_data.eq(waits & ~self.trap),
            transfers.wait_port.eq(port_wait),
        ]
        return m

    def _count_transfers(self, m: Module, fetch: DescriptorFetch, walk: BeatWalk, current: Signal) -> TransferCounters:
        m.submodules.transfer_counters = counters = TransferCounters(self.platform.banks)
        m.d.comb += [
            counters.words.eq(walk.count), counters.copies.eq(sum(current.clusters[c] for c in range(self.clusters))),
            counters.wait_turn.eq(self._turning), counters.fetch.eq(fetch.fetch), counters.fetch_wait.eq(fetch.held),
            self.transfers.eq(counters.counters),
        ]
        with m.Switch(self.probe_op):
            with m.Case(DmpaOp.LOAD, DmpaOp.GATHER):
                m.d.comb += counters.kind.eq(TransferKind.LOAD)
            with m.Case(DmpaOp.STORE):
                m.d.comb += counters.kind.eq(TransferKind.STORE)
            with m.Default():
                m.d.comb += counters.kind.eq(TransferKind.SYNC)
        return counters

    def _connect(self, m: Module, fetch: DescriptorFetch, semaphores: OutputSemaphores, walk: BeatWalk,
                 paths: DmpaPaths) -> None:
        """Wires that carry no decision."""
        m.d.comb += [
            fetch.push.eq(self.push & ~self.trap), fetch.push_addr.eq(self.push_addr), self.free.eq(fetch.free),
            fetch.port_free.eq(~paths.store_next), fetch.line.eq(self.l2_rdata), fetch.stop.eq(self.trap),
            semaphores.signal.eq(self.signal_out), self.probe_lost.eq(semaphores.lost),
            semaphores.mask.eq(fetch.next.wait_mask), semaphores.index.eq(fetch.next.wait_semaphore),
            walk.descriptor.eq(fetch.next),
            paths.fetch.eq(fetch.fetch), paths.fetch_addr.eq(fetch.fetch_addr),
            paths.l2.eq(walk.l2), paths.local.eq(walk.local), paths.mask.eq(walk.mask), paths.read.eq(walk.read),
            paths.pick.eq(walk.pick),
            self.list_done.eq(paths.list_done), self.probe_list.eq(paths.store_list),
            self.probe_sources.eq(paths.sources),
        ]
        for port in ("signal_in", "wr_valid", "wr_space", "wr_addr", "wr_mask", "wr_data", "rd_valid", "rd_addr",
                     "l2_addr", "l2_mask", "l2_re", "l2_we", "l2_wdata"):
            m.d.comb += getattr(self, port).eq(getattr(paths, port))
        m.d.comb += [paths.rd_data.eq(self.rd_data), paths.l2_rdata.eq(self.l2_rdata)]

    def _issue(self, m: Module, current: Signal, running: Signal, walk: BeatWalk, fetch: DescriptorFetch,
               paths: DmpaPaths, issue: Signal, port_wait: Signal) -> Signal:
        """Decide whether this cycle issues a beat; gives the condition of an L2 address beyond the end."""
        is_load, is_store = _loads(current), current.op == DmpaOp.STORE
        loads, stores = Signal(LOAD_TO_STORE - 1, name="loads"), Signal(STORE_TO_LOAD - 1, name="stores")
        m.d.sync += [loads.eq(Cat(issue & is_load, loads)), stores.eq(Cat(issue & is_store, stores))]
        # A drain takes the write path in the cycle of a LOAD's words; of a STORE's read, L1's only port.
        named = current.clusters[:self.clusters]
        load_meets, store_meets = (named & self.drain_ahead).any(), Const(0)
        if self.platform.l1_ports == 1:
            later = self.drain_ahead
            for k in range(DRAIN_AHEAD - STORE_TO_CLUSTER - 1):
                earlier, later = later, Signal(self.clusters, name=f"drain_ahead_{k + 1}")
                m.d.sync += later.eq(earlier)
            # the lowest cluster is the one that is read; waiting for any of them is right too, and shorter
            store_meets = (named & later).any()
        beyond, ordered = Signal(name="beyond"), Signal(name="ordered")
        self._turning = Signal()  # it waits for words of the other direction
        m.d.comb += [
            ordered.eq(running & ~self.trap & Mux(is_store, ~loads.any(), ~stores.any())),
            self._turning.eq(running & ~self.trap & ~ordered),
            beyond.eq(ordered & (is_load | is_store) & walk.beyond),
            port_wait.eq(ordered & ((is_load & (fetch.fetch | load_meets)) | (is_store & store_meets))),
            issue.eq(ordered & ~port_wait & ~beyond),
            paths.load.eq(issue & is_load), paths.store.eq(issue & is_store), paths.sync.eq(
                issue & ~(is_load | is_store)),
            paths.clusters.eq(current.clusters), paths.space.eq(current.local[14:]),
            paths.signal_mask.eq(current.signal_mask), paths.signal_semaphore.eq(current.signal_semaphore),
        ]
        return beyond

    def _bad(self, descriptor: Signal) -> Signal:
        """The descriptor's fields make it trap."""
        d, word = descriptor, self.platform.word_bytes
        is_load, is_store = _loads(d), d.op == DmpaOp.STORE
        no_cluster = (d.clusters == 0) | (d.clusters[self.clusters:] != 0)
        space = d.local[14:]
        return (
            ~(is_load | is_store | (d.op == DmpaOp.SYNC))
            | ((is_load | is_store) & ((d.n0 == 0) | no_cluster))
            | (is_load & (space == 3)) | (is_store & (space != Space.L1))
            | ((d.op == DmpaOp.GATHER) & (
                (d.step == 0) | (d.step > word) | (d.used == 0) | (d.used > word) | (d.offset >= word)
                | (d.left >= d.used) | (d.length == 0)))
        )

    def _count(self, m: Module, busy: Signal, port: Signal, nothing: Signal, waits: Signal) -> None:
        m.submodules.counter = counter = EngineCounters(Counter)
        state, registered = Signal(3, name="state"), Signal(3, init=NO_STATE, name="registered")
        m.d.sync += registered.eq(state)
        m.d.comb += [
            counter.state.eq(registered), self.counters.eq(counter.counters), self.probe_state.eq(registered),
        ]
        with m.If(busy):
            m.d.comb += state.eq(Counter.BUSY)
        with m.Elif(self.trap):
            m.d.comb += state.eq(Counter.IDLE)
        with m.Elif(port):
            m.d.comb += state.eq(Counter.WAIT_PORT)
        with m.Elif(waits):
            m.d.comb += state.eq(Counter.WAIT_DATA)
        with m.Elif(~nothing):
            m.d.comb += state.eq(Counter.CONTROL)
        with m.Elif(self.in_frame):
            m.d.comb += state.eq(Counter.WAIT_HOST)
        with m.Else():
            m.d.comb += state.eq(Counter.IDLE)
