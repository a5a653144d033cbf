# SPDX-License-Identifier: Apache-2.0
"""The walk of one descriptor over its runs: which words the next beat moves, and of a GATHER which bytes they have."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp
from nncosim.platforms.j3dai import J3dai

__all__ = ["BeatWalk", "pick_layout"]


def pick_layout(platform: J3dai) -> data.StructLayout:
    """Which bytes of the line that a beat reads its words are made of.

    Byte j of word i is byte `offset` + k of the line, k = i * `step` + j; it is `fill` where not `left` <= k < `right`,
    and 0 where j >= `used`.
    """
    word = range(platform.word_bytes + 1)
    return data.StructLayout({
        "offset": platform.lane_bits, "step": word, "used": word, "left": platform.lane_bits,
        "right": range(platform.line_bytes + 1), "fill": 8,
    })


class BeatWalk(wiring.Component):
    """Cuts a transfer into beats of at most `J3dai.beat_words` words, run after run.

    Within it all addresses of L2 are those of bytes: with 20 bits for the word.

    Ports:
        load, descriptor: Start on this descriptor in the next cycle (n0 = 0 acts as one beat).
        step: The beat is issued; the next one follows.
        l2, local: Word addresses of the beat; ``local`` without the space bits.
        mask: Which of a line's words it has. ``count``: how many.
        read: Which words from ``l2`` on it reads or writes in L2.
        pick: What its words are made of, see `pick_layout`.
        beyond: It would touch an address beyond L2's end.
        last: It is the descriptor's last.
    """

    def __init__(self, platform: J3dai):
        self.platform, self._lane = platform, platform.lane_bits
        super().__init__({
            "load": In(1), "descriptor": In(Descriptor), "step": In(1),
            "l2": Out(20), "local": Out(14), "mask": Out(platform.banks), "count": Out(range(platform.banks + 1)),
            "read": Out(platform.banks), "pick": Out(pick_layout(platform)), "beyond": Out(1), "last": Out(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        p, d = self.platform, self.descriptor
        bits = 20 + self._lane
        current = Signal(Descriptor)
        gathers = Signal(name="gathers")
        # what is left after this: words, runs, runs of runs
        rest0, rest1, rest2 = Signal(16, name="rest0"), Signal(12, name="rest1"), Signal(12, name="rest2")
        # byte addresses: of the beat; where the current run of runs (dimension 2) and run began; their last bytes
        run_at, plane_at, run_last, plane_last = (
            Signal(bits, name=name) for name in ("run_at", "plane_at", "run_last", "plane_last"))
        at = Signal(bits + 1, name="at")  # a run of words does not go on at 0 behind the end of the largest L2
        run_local, plane_local = Signal(14, name="run_local"), Signal(14, name="plane_local")
        step1, step2 = Signal(bits, name="step1"), Signal(bits, name="step2")
        # of a full beat: words, and bytes that the next one is further on
        words, advance = Signal(range(p.banks + 1), name="words"), Signal(range(p.line_bytes + 1), name="advance")
        begins, left = Signal(name="begins"), Signal(p.lane_bits, name="left")

        run_ends = Signal()
        m.d.comb += [
            run_ends.eq(rest0 <= words),
            self.count.eq(Mux(run_ends, rest0, words)),
            self.mask.eq((1 << self.count) - 1),
            self.last.eq(run_ends & (rest1 == 0) & (rest2 == 0)),
            self.l2.eq(at[self._lane : bits]),
        ]
        self._reach(m, gathers, at, run_last, begins, left)
        m.d.comb += self.pick.left.eq(left)

        with m.If(self.step):
            with m.If(~run_ends):
                m.d.sync += [
                    rest0.eq(rest0 - words), at.eq(at + advance), self.local.eq(self.local + words),
                    begins.eq(0), left.eq(Mux(left > advance, left - advance, 0)),
                ]
            with m.Else():
                m.d.sync += [rest0.eq(current.n0), begins.eq(1), left.eq(Mux(gathers, current.left, 0))]
                with m.If(rest1 != 0):
                    local = run_local + current.local_step1
                    m.d.sync += [
                        rest1.eq(rest1 - 1), at.eq((run_at + step1)[:bits]), run_at.eq(run_at + step1),
                        run_last.eq(run_last + step1), self.local.eq(local), run_local.eq(local),
                    ]
                with m.Elif(rest2 != 0):
                    local = plane_local + current.local_step2
                    m.d.sync += [
                        rest2.eq(rest2 - 1), rest1.eq(Mux(current.n1 == 0, 0, current.n1 - 1)),
                        *(address.eq((plane_at + step2)[:bits]) for address in (at, run_at, plane_at)),
                        *(address.eq(plane_last + step2) for address in (run_last, plane_last)),
                        *(address.eq(local) for address in (self.local, run_local, plane_local)),
                    ]
        with m.If(self.load):
            first, start, last = self._begin(m)
            m.d.sync += [
                current.eq(d), rest0.eq(d.n0), begins.eq(1), left.eq(Mux(first, d.left, 0)), gathers.eq(first),
                rest1.eq(Mux(d.n1 == 0, 0, d.n1 - 1)), rest2.eq(Mux(d.n2 == 0, 0, d.n2 - 1)),
                *(address.eq(start) for address in (at, run_at, plane_at)),
                *(address.eq(last) for address in (run_last, plane_last)),
                *(address.eq(d.local[:14]) for address in (self.local, run_local, plane_local)),
                step1.eq(self._bytes(first, d.l2_step1)), step2.eq(self._bytes(first, d.l2_step2)),
                self.pick.step.eq(Mux(first, d.step, p.word_bytes)),
                self.pick.used.eq(Mux(first, d.used, p.word_bytes)), self.pick.fill.eq(d.fill),
            ]
            self._beat(m, words, advance, first)
        return m

    def _bytes(self, gathers: Signal, step: Signal) -> Signal:
        """A step of the descriptor in bytes."""
        return Mux(gathers, step, step << self._lane)

    def _begin(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Whether the descriptor to be started gathers, its first word's and its first run's last byte address."""
        d, bits = self.descriptor, 20 + self._lane
        gathers, start, last = Signal(name="first_gathers"), Signal(bits, name="start"), Signal(bits, name="run_end")
        at = Cat(Mux(gathers, d.offset[:self._lane], 0)[:self._lane], d.l2)
        m.d.comb += [
            gathers.eq(d.op == DmpaOp.GATHER), start.eq(at - Mux(gathers, d.left, 0)), last.eq(at + d.length - 1),
        ]
        return gathers, start, last

    def _beat(self, m: Module, words: Signal, advance: Signal, gathers: Signal) -> None:
        """Size of the beats of the descriptor to be started: what lies in a line whatever its first byte."""
        p = self.platform
        m.d.sync += [words.eq(p.beat_words), advance.eq(p.beat_words * p.word_bytes)]
        with m.If(gathers), m.Switch(self.descriptor.step):
            for step in range(1, p.word_bytes + 1):
                with m.Case(step):
                    m.d.sync += [words.eq(p.gather_words(step)), advance.eq(p.gather_words(step) * step)]

    def _reach(self, m: Module, gathers: Signal, at: Signal, last: Signal, begins: Signal, left: Signal) -> None:
        """How far a beat reaches: words read, bytes that lie in the run, and whether that is beyond L2."""
        p, lane = self.platform, self._lane
        bits = len(last)
        first_word = at[lane:bits]
        # Signed: past the run's last byte there is only filling.
        bytes_left, words_left = Signal(bits, name="bytes_left"), Signal(20, name="words_left")
        # The run's first byte lies in the next word: what comes before may be anybody's, or nobody's.
        next_word, before, end = Signal(name="next_word"), Signal(name="before"), Signal(21, name="end")
        m.d.comb += [
            bytes_left.eq(last - at[:bits]), words_left.eq(last[lane:] - first_word),
            next_word.eq((at[:lane] + left)[lane]), before.eq(next_word & first_word.all()),
            self.pick.offset.eq(at[:lane]), self.pick.right.eq(p.line_bytes), self.read.eq(self.mask),
            end.eq(at[lane:] + self.count), self.beyond.eq(end > p.l2_words),
        ]
        with m.If(gathers):
            with m.If(bytes_left[-1]):
                m.d.comb += self.pick.right.eq(0)
            with m.Elif(bytes_left < p.line_bytes):
                m.d.comb += self.pick.right.eq(bytes_left[:(p.line_bytes - 1).bit_length()] + 1)
            reads = [(words_left >= i) & ~words_left[-1] for i in range(p.banks)]
            m.d.comb += [
                self.read.eq(Cat(reads[0] & ~next_word, *reads[1:])),
                self.beyond.eq(begins & ((last[lane:] >= p.l2_words) | (~before & (last < at[:bits])))),
            ]
