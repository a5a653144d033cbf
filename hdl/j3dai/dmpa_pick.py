# SPDX-License-Identifier: Apache-2.0
"""From the line that a LOAD or GATHER beat reads to the words that it moves."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.dmpa_walk import pick_layout
from nncosim.platforms.j3dai import J3dai

__all__ = ["BytePick"]


class BytePick(wiring.Component):
    """Puts the bytes of a line in their places, see `pick_layout`.

    Where each word begins in the line and which of its bytes lie in the run is worked out while L2 is read.

    Ports:
        load, pick: A beat is issued, and what of its line it takes.
        line: The line, two cycles after the issue.
        words: The beat's words, three cycles after the issue. Combinational in registers.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        super().__init__({
            "load": In(1), "pick": In(pick_layout(platform)), "line": In(platform.line_bits),
            "words": Out(platform.line_bits),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        p = self.platform
        size = p.word_bytes
        issued, read = Signal(name="issued"), Signal(name="read")
        pick = Signal(pick_layout(p), name="issued_pick")
        line, fill = Signal(p.line_bits, name="line_read"), Signal(8, name="fill")
        used, fill_read = Signal(size, name="used"), Signal(8, name="fill_read")
        m.d.sync += [issued.eq(self.load), read.eq(issued)]
        with m.If(self.load):
            m.d.sync += pick.eq(self.pick)
        with m.If(issued):
            m.d.sync += [used.eq((1 << pick.used) - 1), fill_read.eq(pick.fill)]
        with m.If(read):
            m.d.sync += [line.eq(self.line), fill.eq(fill_read)]
        for i in range(p.banks):
            begin = Signal(range(p.line_bytes), name=f"begin{i}")
            begin_read, low, high = (
                Signal.like(begin, name=f"begin_read{i}"), Signal(range(size + 1), name=f"low{i}"),
                Signal(range(size + 1), name=f"high{i}"))
            taken, filled = Signal(size, name=f"taken{i}"), Signal(size, name=f"filled{i}")
            with m.If(issued):
                at = i * pick.step
                m.d.sync += [
                    begin_read.eq(pick.offset + at), low.eq(_within(pick.left, at, size)),
                    high.eq(_within(pick.right, at, size)),
                ]
            inside = (((1 << high) - 1) & ~((1 << low) - 1))[:size]
            with m.If(read):
                m.d.sync += [begin.eq(begin_read), taken.eq(inside & used), filled.eq(~inside & used)]
            m.d.comb += self.words.word_select(i, p.word_bits).eq(self._word(m, i, line, begin, taken, filled, fill))
        return m

    def _word(
        self, m: Module, i: int, line: Signal, begin: Signal, taken: Signal, filled: Signal, fill: Signal
    ) -> Signal:
        """Word i: the bytes of the line from `begin` on; it begins in one of the words 0 to i."""
        p, size = self.platform, self.platform.word_bits
        words = [line.word_select(k, size) for k in range(p.banks)] + [Const(0, size)]
        pair, word = Signal(2 * size, name=f"pair{i}"), Signal(size, name=f"word{i}")
        with m.Switch(begin[p.lane_bits:]):
            for k in range(i + 1):
                with m.Case(k):
                    m.d.comb += pair.eq(Cat(words[k], words[k + 1]))
        with m.Switch(begin[:p.lane_bits]):
            for k in range(p.word_bytes):
                with m.Case(k):
                    m.d.comb += word.eq(pair[8 * k : 8 * k + size])
        byte = [Mux(taken[j], word.word_select(j, 8), Mux(filled[j], fill, 0)) for j in range(p.word_bytes)]
        return Cat(byte)


def _within(end: Signal, at: Signal, size: int) -> Signal:
    """How many of the `size` bytes from `at` on lie before `end`."""
    left = end - at
    return Mux(left < 0, 0, Mux(left > size, size, left))
