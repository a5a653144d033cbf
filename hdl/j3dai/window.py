# SPDX-License-Identifier: Apache-2.0
"""The window on its way from L1 to the PEs: staging, window register, lane selection, table look-up."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.banks import BANKS, WORD_BITS
from nncosim.hdl.j3dai.operands import pick, register

__all__ = ["WindowPath"]

_PES = 8


def _byte(word: Value, index: Value) -> Value:
    return pick([word[8 * n:8 * n + 8] for n in range(WORD_BITS // 8)], index)


class WindowPath(wiring.Component):
    """Eight words of a window, two registers deep, so that the next one is read while this one is used.

    Stage numbers count from the issue of a micro-operation.

    Ports:
        words (In, 8 x 128): L1's outputs, rotated so that word 0 is the fetch's address; words2, spread2, single2,
        padded2, pad, signed_a (In): see `WindowFetch`.
        load_s2 (In): the staged window becomes the window register's.
        lane_s3 (In, 4); common_s3 (Out, 72), sext_s3, one_s3 (Out, 8): see `ncb_control`.
        bytes_s3 (Out, 8 x 128): the words.
        table_select, select_lane (In): register the lane's bytes for a look-up; the table's base (In, 14).
        table_row (Out, 8 x row_bits): rows of the look-up in each bank. table_issue (In): L1 is read in the next cycle;
        banks (In, 8 x 128): L1's outputs; table_s3 (In): take the operands from them, two cycles after they were there.

    Args:
        row_bits: Width of a row number of L1.
    """

    def __init__(self, row_bits: int):
        self.row_bits = row_bits
        super().__init__({
            "words": In(WORD_BITS).array(BANKS), "banks": In(WORD_BITS).array(BANKS),
            "words2": In(_PES), "spread2": In(1), "single2": In(1), "padded2": In(_PES), "pad": In(9),
            "signed_a": In(1),
            "load_s2": In(1), "lane_s3": In(4), "common_s3": Out(9 * _PES), "sext_s3": Out(_PES), "one_s3": Out(_PES),
            "bytes_s3": Out(WORD_BITS).array(_PES),
            "table_select": In(1), "select_lane": In(4), "base": In(14), "table_row": Out(row_bits).array(BANKS),
            "table_issue": In(1), "table_s3": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        padded = Signal(_PES)
        for p in range(_PES):
            self._stage_word(m, p, padded[p])
        lane = Signal(4)
        m.d.comb += lane.eq(Mux(self.table_s3, self.select_lane, self.lane_s3))
        lanes = []
        for p in range(_PES):
            byte = Signal(8, name=f"lane{p}_s3")
            m.d.comb += byte.eq(_byte(self.bytes_s3[p], lane))
            lanes.append(byte)
        looked_up = self._table(m, lanes, padded)
        for p in range(_PES):
            plain = Cat(lanes[p], (lanes[p][7] & self.sext_s3[p]) | self.one_s3[p])
            m.d.comb += self.common_s3[9 * p:9 * p + 9].eq(Mux(self.table_s3, looked_up[p], plain))
        return m

    def _stage_word(self, m: Module, p: int, padded_s3: Value) -> None:
        """Word p: staging register, then window register, each with what extends its bytes to nine bits."""
        word = Signal(WORD_BITS, name=f"fetched{p}")
        spread = self.words[2 * (p % 4)]
        m.d.comb += word.eq(Mux(self.single2, self.words[0], Mux(self.spread2, spread, self.words[p])))
        staged = register(WORD_BITS, name=f"staged{p}")
        sext, one, padded = (register(name=f"staged{p}_{name}") for name in ("sext", "one", "padded"))
        with m.If(self.words2[p]):
            pad = self.padded2[p]
            m.d.sync += [
                staged.eq(Mux(pad, self.pad[:8].replicate(WORD_BITS // 8), word)),
                sext.eq(self.signed_a & ~pad), one.eq(self.pad[8] & pad), padded.eq(pad),
            ]
        current = register(WORD_BITS, name=f"window{p}")
        m.d.comb += self.bytes_s3[p].eq(current)
        with m.If(self.load_s2):
            m.d.sync += [current.eq(staged), self.sext_s3[p].eq(sext), self.one_s3[p].eq(one), padded_s3.eq(padded)]

    def _table(self, m: Module, lanes: list[Signal], padded: Signal) -> list[Value]:
        """One look-up in flight: its bytes wait for L1's port, then two registers follow it through L1."""
        operands = []
        issue_1, issue_2 = Signal(name="issue_1"), Signal(name="issue_2")
        m.d.sync += [issue_1.eq(self.table_issue), issue_2.eq(issue_1)]
        for p in range(_PES):
            extended = Cat(lanes[p], self.one_s3[p], padded[p])
            waiting, at_1, at_2 = (register(10, name=f"index{p}_{k}") for k in ("waiting", 1, 2))
            with m.If(self.table_select):
                m.d.sync += [waiting.eq(extended), self.table_row[p].eq(self.base[3:] + lanes[p][4:])]
            with m.If(self.table_issue):
                m.d.sync += at_1.eq(waiting)
            with m.If(issue_1):
                m.d.sync += at_2.eq(at_1)
            operand = register(9, name=f"table_operand{p}")
            byte = _byte(self.banks[p], at_2[:4])
            with m.If(issue_2):
                m.d.sync += operand.eq(Mux(at_2[9], at_2[:9], Cat(byte, byte[7] & self.signed_a)))
            operands.append(operand)
        return operands
