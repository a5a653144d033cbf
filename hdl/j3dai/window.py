# SPDX-License-Identifier: Apache-2.0
"""The window on its way from L1 to the PEs: staging, window register, lane selection, table look-up."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import pick, register
from nncosim.platforms.j3dai import J3dai

__all__ = ["WindowPath"]

def _byte(word: Value, index: Value) -> Value:
    return pick([word[8 * n:8 * n + 8] for n in range(len(word) // 8)], index)


class WindowPath(wiring.Component):
    """The words of a window, two registers deep, so that the next one is read while this one is used.

    Stage numbers count from the issue of a micro-operation.

    Ports:
        words (In, PEs x word): L1's outputs, rotated so that word 0 is the fetch's address; words2, spread2, single2,
        padded2, pad, signed_a (In): see `WindowFetch`.
        load_s2 (In): the staged window becomes the window register's.
        lane_s3 (In); common_s3, sext_s3, one_s3 (Out): see `ncb_control`.
        bytes_s3 (Out, PEs x word): the words.
        table_select, select_lane (In): register the lane's bytes for a look-up; the table's base (In, 14).
        table_row (Out, banks x row_bits): rows of the look-up in each bank. table_issue (In): L1 is read in the
        next cycle; banks (In, banks x word): L1's outputs; table_s3 (In): take the operands from them, two cycles after
        they were there.

    Args:
        row_bits: Width of a row number of L1.
        platform: What a word is, and how many PEs there are.
    """

    def __init__(self, row_bits: int, platform: J3dai):
        self.row_bits = row_bits
        self.platform = platform
        pes, word, lane = platform.pes_per_ncb, platform.word_bits, platform.lane_bits
        super().__init__({
            "words": In(word).array(pes), "banks": In(word).array(pes),
            "words2": In(pes), "spread2": In(1), "single2": In(1), "padded2": In(pes), "pad": In(9),
            "signed_a": In(1),
            "load_s2": In(1), "lane_s3": In(lane), "common_s3": Out(9 * pes), "sext_s3": Out(pes), "one_s3": Out(pes),
            "bytes_s3": Out(word).array(pes),
            "table_select": In(1), "select_lane": In(lane), "base": In(14), "table_row": Out(row_bits).array(pes),
            "table_issue": In(1), "table_s3": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pes = self.platform.pes_per_ncb
        padded = Signal(pes)
        for p in range(pes):
            self._stage_word(m, p, padded[p])
        lane = Signal(self.platform.lane_bits)
        m.d.comb += lane.eq(Mux(self.table_s3, self.select_lane, self.lane_s3))
        lanes = []
        for p in range(pes):
            byte = Signal(8, name=f"lane{p}_s3")
            m.d.comb += byte.eq(_byte(self.bytes_s3[p], lane))
            lanes.append(byte)
        looked_up = self._table(m, lanes, padded)
        for p in range(pes):
            plain = Cat(lanes[p], (lanes[p][7] & self.sext_s3[p]) | self.one_s3[p])
            m.d.comb += self.common_s3[9 * p:9 * p + 9].eq(Mux(self.table_s3, looked_up[p], plain))
        return m

    def _stage_word(self, m: Module, p: int, padded_s3: Value) -> None:
        """Word p: staging register, then window register, each with what extends its bytes to nine bits."""
        bits, pes = self.platform.word_bits, self.platform.pes_per_ncb
        word = Signal(bits, name=f"fetched{p}")
        spread = self.words[2 * (p % (pes // 2))]
        m.d.comb += word.eq(Mux(self.single2, self.words[0], Mux(self.spread2, spread, self.words[p])))
        staged = register(bits, name=f"staged{p}")
        sext, one, padded = (register(name=f"staged{p}_{name}") for name in ("sext", "one", "padded"))
        with m.If(self.words2[p]):
            pad = self.padded2[p]
            m.d.sync += [
                staged.eq(Mux(pad, self.pad[:8].replicate(bits // 8), word)),
                sext.eq(self.signed_a & ~pad), one.eq(self.pad[8] & pad), padded.eq(pad),
            ]
        current = register(bits, name=f"window{p}")
        m.d.comb += self.bytes_s3[p].eq(current)
        with m.If(self.load_s2):
            m.d.sync += [current.eq(staged), self.sext_s3[p].eq(sext), self.one_s3[p].eq(one), padded_s3.eq(padded)]

    def _table(self, m: Module, lanes: list[Signal], padded: Signal) -> list[Value]:
        """One look-up in flight: its bytes wait for L1's port, then two registers follow it through L1."""
        operands = []
        bank_bits, lane_bits = self.platform.bank_bits, self.platform.lane_bits
        issue_1, issue_2 = Signal(name="issue_1"), Signal(name="issue_2")
        m.d.sync += [issue_1.eq(self.table_issue), issue_2.eq(issue_1)]
        for p in range(self.platform.pes_per_ncb):
            extended = Cat(lanes[p], self.one_s3[p], padded[p])
            waiting, at_1, at_2 = (register(10, name=f"index{p}_{k}") for k in ("waiting", 1, 2))
            with m.If(self.table_select):
                m.d.sync += [waiting.eq(extended), self.table_row[p].eq(self.base[bank_bits:] + lanes[p][lane_bits:])]
            with m.If(self.table_issue):
                m.d.sync += at_1.eq(waiting)
            with m.If(issue_1):
                m.d.sync += at_2.eq(at_1)
            operand = register(9, name=f"table_operand{p}")
            byte = _byte(self.banks[p], at_2[:lane_bits])
            with m.If(issue_2):
                m.d.sync += operand.eq(Mux(at_2[9], at_2[:9], Cat(byte, byte[7] & self.signed_a)))
            operands.append(operand)
        return operands
