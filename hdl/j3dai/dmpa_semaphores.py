# SPDX-License-Identifier: Apache-2.0
"""The output semaphores of all clusters: incremented by SIGNAL, taken by descriptors."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SEMAPHORES", "OutputSemaphores"]

SEMAPHORES = 8
_BITS = 8


class OutputSemaphores(wiring.Component):
    """8 saturating counters of 8 bits for each cluster.

    Ports:
        signal: Bit 8 c + i: add 1 to semaphore i of cluster c.
        mask, index: What the descriptor at the head waits for: semaphore ``index`` of the clusters in ``mask``.
        ready: All of these are above 0.
        waiting: Those clusters of ``mask`` whose semaphore is 0.
        take: Take 1 from each. Only with ``ready``.
        lost: Bit 8 c + i: a signal finds semaphore i of cluster c at 255.
    """

    def __init__(self, clusters: int):
        self.clusters = clusters
        super().__init__({
            "signal": In(SEMAPHORES * clusters), "mask": In(clusters), "index": In(3),
            "ready": Out(1), "waiting": Out(clusters), "take": In(1), "lost": Out(SEMAPHORES * clusters),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        wanted = Signal(SEMAPHORES)
        m.d.comb += wanted.bit_select(self.index, 1).eq(1)
        for c in range(self.clusters):
            above = Signal(SEMAPHORES, name=f"above{c}")
            signals = self.signal.word_select(c, SEMAPHORES)
            m.d.comb += self.waiting[c].eq(self.mask[c] & ~(above & wanted).any())
            take = Signal(name=f"take{c}")
            m.d.comb += take.eq(self.take & self.mask[c])
            values = [Signal(_BITS, name=f"semaphore{c}_{i}") for i in range(SEMAPHORES)]
            m.d.comb += above.eq(Cat(value.any() for value in values))
            for i, value in enumerate(values):
                m.d.comb += self.lost[SEMAPHORES * c + i].eq(signals[i] & ~(take & wanted[i]) & value.all())
            with m.If(take | signals.any()):  # nothing to evaluate in most cycles
                for i, value in enumerate(values):
                    taken = take & wanted[i]
                    with m.If(signals[i] & ~taken & ~value.all()):
                        m.d.sync += value.eq(value + 1)
                    with m.Elif(~signals[i] & taken):
                        m.d.sync += value.eq(value - 1)
        m.d.comb += self.ready.eq(~self.waiting.any())
        return m
