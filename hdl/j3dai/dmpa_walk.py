# SPDX-License-Identifier: Apache-2.0
"""The walk of one descriptor over its runs: which words the next beat moves."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.isa import Descriptor
from nncosim.platforms.j3dai import J3dai

__all__ = ["BeatWalk"]


class BeatWalk(wiring.Component):
    """Cuts a transfer into beats of at most `J3dai.beat_words` words, run after run.

    Ports:
        load, descriptor: Start on this descriptor in the next cycle (n0 = 0 acts as one beat).
        step: The beat is issued; the next one follows.
        l2, local: Word addresses of the beat; ``local`` without the space bits. ``l2`` has a bit more than an
            address: a run does not go on at 0 behind the end of the largest L2.
        mask: Which of a line's words it has. ``count``: how many.
        end: L2 address of the word behind the beat.
        last: It is the descriptor's last.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        self.beat_words = platform.beat_words
        super().__init__({
            "load": In(1), "descriptor": In(Descriptor), "step": In(1),
            "l2": Out(21), "local": Out(14), "mask": Out(platform.banks), "count": Out(range(platform.banks + 1)),
            "end": Out(21), "last": Out(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        d = self.descriptor
        current = Signal(Descriptor)
        # what is left after this: words, runs, runs of runs
        rest0, rest1, rest2 = Signal(16, name="rest0"), Signal(12, name="rest1"), Signal(12, name="rest2")
        # where the current run of runs (dimension 2) and run began
        run_l2, run_local = Signal(20, name="run_l2"), Signal(14, name="run_local")
        plane_l2, plane_local = Signal(20, name="plane_l2"), Signal(14, name="plane_local")

        run_ends = Signal()
        m.d.comb += [
            run_ends.eq(rest0 <= self.beat_words),
            self.count.eq(Mux(run_ends, rest0, self.beat_words)),
            self.mask.eq((1 << self.count) - 1),
            self.end.eq(self.l2 + self.count),
            self.last.eq(run_ends & (rest1 == 0) & (rest2 == 0)),
        ]

        def go(l2: Signal, local: Signal, *begins: tuple[Signal, Signal]) -> None:
            for target in ((self.l2, self.local), *begins):
                m.d.sync += [target[0].eq(l2), target[1].eq(local)]

        with m.If(self.step):
            with m.If(~run_ends):
                m.d.sync += rest0.eq(rest0 - self.beat_words)
                go(self.l2 + self.beat_words, self.local + self.beat_words)
            with m.Elif(rest1 != 0):
                m.d.sync += [rest0.eq(current.n0), rest1.eq(rest1 - 1)]
                go((run_l2 + current.l2_step1)[:20], run_local + current.local_step1, (run_l2, run_local))
            with m.Elif(rest2 != 0):
                m.d.sync += [
                    rest0.eq(current.n0), rest2.eq(rest2 - 1),
                    rest1.eq(Mux(current.n1 == 0, 0, current.n1 - 1)),
                ]
                go((plane_l2 + current.l2_step2)[:20], plane_local + current.local_step2,
                   (run_l2, run_local), (plane_l2, plane_local))
        with m.If(self.load):
            m.d.sync += [
                current.eq(d), rest0.eq(d.n0),
                rest1.eq(Mux(d.n1 == 0, 0, d.n1 - 1)), rest2.eq(Mux(d.n2 == 0, 0, d.n2 - 1)),
            ]
            go(d.l2, d.local[:14], (run_l2, run_local), (plane_l2, plane_local))
        return m
