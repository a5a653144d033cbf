# SPDX-License-Identifier: Apache-2.0
"""The DMPA's pipelines behind the issue of a beat: L2's port, the clusters' ports, signals, completion.

    cycle   LOAD                       STORE
    t       issue                      issue
    t+1     L2 read port               cluster rd_valid
    t+2     words in order
    t+3     bytes in place
    t+4     cluster wr_valid           cluster rd_data
    t+5     in L1; signal_in           L2 write port; signal_in
"""

from itertools import pairwise

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.dmpa_pick import BytePick
from nncosim.hdl.j3dai.dmpa_walk import pick_layout
from nncosim.hdl.j3dai.timing import LOAD_TO_CLUSTER, LOAD_TO_SIGNAL, STORE_TO_DATA, STORE_TO_SIGNAL
from nncosim.platforms.j3dai import J3dai

__all__ = ["DmpaPaths"]



def _beat(banks: int) -> data.StructLayout:
    """What travels with a beat while its data is read."""
    return data.StructLayout({"valid": 1, "clusters": 8, "space": 2, "addr": 20, "mask": banks, "list": 32})


_EVENT = data.StructLayout({"valid": 1, "mask": 8, "semaphore": 3, "end": 1})
"""What is told when a descriptor's last beat has landed."""


class DmpaPaths(wiring.Component):
    """Carries issued beats to their destination; nothing in it stalls.

    Ports (of the issuing cycle): ``load`` (GATHER too), ``store``, ``sync`` (at most one), ``l2``, ``local``, ``mask``,
    ``read`` (what of L2), ``pick`` (of a load),
    ``clusters``, ``space``, ``list``, ``last`` (the descriptor's last), ``end`` (it ends the list), ``signal_mask``,
    ``signal_semaphore``; ``fetch``, ``fetch_addr``: read a line (not together with ``load``).

    ``store_next``: a STORE beat uses L2's port in the next cycle: neither load nor fetch may be issued.
    ``in_flight``: something is on its way. The others are described in `Dmpa`.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        self.cluster_count = clusters = platform.clusters
        banks, line = platform.banks, platform.line_bits
        super().__init__({
            "load": In(1), "store": In(1), "sync": In(1), "l2": In(20), "local": In(14), "mask": In(banks),
            "read": In(banks), "pick": In(pick_layout(platform)),
            "clusters": In(8), "space": In(2), "list": In(32), "last": In(1), "end": In(1),
            "signal_mask": In(8), "signal_semaphore": In(3), "fetch": In(1), "fetch_addr": In(20),
            "store_next": Out(1), "in_flight": Out(1), "list_done": Out(1), "store_list": Out(32), "sources": Out(3),
            "signal_in": Out(8 * clusters),
            "wr_valid": Out(clusters), "wr_space": Out(2), "wr_addr": Out(14), "wr_mask": Out(banks),
            "wr_data": Out(line),
            "rd_valid": Out(clusters), "rd_addr": Out(14), "rd_data": In(line * clusters),
            "l2_addr": Out(20), "l2_mask": Out(banks), "l2_re": Out(1), "l2_we": Out(1),
            "l2_wdata": Out(line), "l2_rdata": In(line),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        store = self._stores(m)
        self._loads(m)
        self._events(m)

        # L2's port: the request of the next cycle.
        m.d.sync += [
            self.l2_we.eq(store.valid), self.l2_re.eq(self.load | self.fetch),
            self.sources.eq(Cat(self.load, self.fetch, store.valid)),
        ]
        with m.If(store.valid):
            m.d.sync += [self.l2_addr.eq(store.addr), self.l2_mask.eq(store.mask), self.store_list.eq(store.list)]
        with m.Elif(self.fetch):
            m.d.sync += [self.l2_addr.eq(self.fetch_addr), self.l2_mask.eq(~0)]
        with m.Elif(self.load):
            m.d.sync += [self.l2_addr.eq(self.l2), self.l2_mask.eq(self.read)]
        return m

    def _lowest(self) -> Signal:
        """One bit: the lowest cluster named."""
        return self.clusters & -self.clusters

    def _stores(self, m: Module) -> Signal:
        """From issue to the write's data; gives the STORE beat that writes in the next cycle."""
        stages = [Signal(_beat(self.platform.banks), name=f"store{k}") for k in range(1, STORE_TO_DATA + 1)]
        first = stages[0]
        m.d.sync += [
            first.valid.eq(self.store), first.clusters.eq(self._lowest()), first.addr.eq(self.l2),
            first.mask.eq(self.mask), first.list.eq(self.list),
            self.rd_valid.eq(Mux(self.store, self._lowest(), 0)),
        ]
        with m.If(self.store):
            m.d.sync += self.rd_addr.eq(self.local)
        for before, stage in pairwise(stages):
            m.d.sync += stage.eq(before)
        last = stages[-1]
        with m.If(last.valid):
            with m.Switch(last.clusters):
                for c in range(self.cluster_count):
                    with m.Case(1 << c):
                        m.d.sync += self.l2_wdata.eq(self.rd_data.word_select(c, self.platform.line_bits))
        m.d.comb += self.store_next.eq(last.valid)
        return last

    def _loads(self, m: Module) -> None:
        """From issue to the clusters' write ports."""
        stages = [Signal(_beat(self.platform.banks), name=f"load{k}") for k in range(1, LOAD_TO_CLUSTER)]
        m.d.sync += [
            stages[0].valid.eq(self.load), stages[0].clusters.eq(self.clusters), stages[0].space.eq(self.space),
            stages[0].addr.eq(self.local), stages[0].mask.eq(self.mask),
            *(stage.eq(before) for before, stage in pairwise(stages)),
        ]
        read = stages[-1]
        m.submodules.pick = pick = BytePick(self.platform)
        m.d.comb += [pick.load.eq(self.load), pick.pick.eq(self.pick), pick.line.eq(self.l2_rdata)]
        m.d.sync += self.wr_valid.eq(Mux(read.valid, read.clusters, 0))
        with m.If(read.valid):
            m.d.sync += [
                self.wr_space.eq(read.space), self.wr_addr.eq(read.addr), self.wr_mask.eq(read.mask),
                self.wr_data.eq(pick.words),
            ]

    def _events(self, m: Module) -> None:
        """Signals and completion, told when the last beat has landed."""
        stages = [Signal(_EVENT, name=f"event{k}") for k in range(1, STORE_TO_SIGNAL + 1)]
        event = Signal(_EVENT)
        m.d.comb += [
            event.valid.eq(self.last), event.mask.eq(self.signal_mask),
            event.semaphore.eq(self.signal_semaphore), event.end.eq(self.end),
        ]
        # A LOAD lands as soon as a STORE or sooner; no STORE issued in the cycles between can be in its way.
        m.d.sync += [stage.eq(before) for before, stage in pairwise(stages)]
        m.d.sync += stages[0].valid.eq(0)
        with m.If(self.store):
            m.d.sync += stages[0].eq(event)
        with m.Elif(self.load | self.sync):
            m.d.sync += stages[STORE_TO_SIGNAL - LOAD_TO_SIGNAL].eq(event)
        done = stages[-1]
        pulse = Signal(8)
        with m.If(done.valid):
            m.d.comb += [pulse.bit_select(done.semaphore, 1).eq(1), self.list_done.eq(done.end)]
        for c in range(self.cluster_count):
            m.d.comb += self.signal_in.word_select(c, 8).eq(Mux(done.mask[c], pulse, 0))
        m.d.comb += self.in_flight.eq(Cat(stage.valid for stage in stages).any())
