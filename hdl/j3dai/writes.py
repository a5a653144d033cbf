# SPDX-License-Identifier: Apache-2.0
"""Write side of a cluster's memories: LOAD beats of the DMPA and lines of results, rotated into the banks."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.banks import bank_rows, rotate
from nncosim.hdl.j3dai.isa import Space
from nncosim.hdl.logic import register
from nncosim.platforms.j3dai import J3dai

__all__ = ["WritePath"]


class WritePath(wiring.Component):
    """Turns consecutive words into a word, a row and enables for each bank: those of a LOAD beat, or of a drain.

    There is one such path for all memories, so in the cycle of a drain a LOAD beat is lost, whatever its memory: the
    DMPA keeps out of that cycle (`drain_ahead`).

    Ports:
        wr_valid, wr_space, wr_addr, wr_mask, wr_data (In): a LOAD beat, as of the cluster.
        drain (In): a drain's words are written, to L1; drain_addr (In, 14), drain_mask, drain_words (In, words of a
            line): as of a LOAD beat.
        data (Out, banks x word), row (Out, banks x row), l1_en, wmem_en, imem_en (Out, banks): for the write ports;
            registered.
        to_l1 (Out): L1's write port is used in the next cycle.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        banks, word = platform.banks, platform.word_bits
        self._row_bits = 14 - platform.bank_bits
        super().__init__({
            "wr_valid": In(1), "wr_space": In(2), "wr_addr": In(14), "wr_mask": In(banks), "wr_data": In(word * banks),
            "drain": In(1), "drain_addr": In(14), "drain_mask": In(banks), "drain_words": In(word).array(banks),
            "data": Out(word).array(banks), "row": Out(self._row_bits).array(banks),
            "l1_en": Out(banks), "wmem_en": Out(banks), "imem_en": Out(banks), "to_l1": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, bits, word = self.platform.banks, self.platform.bank_bits, self.platform.word_bits
        address, amount = Signal(14), Signal(bits)
        m.d.comb += [address.eq(Mux(self.drain, self.drain_addr, self.wr_addr)), amount.eq(-address[:bits])]
        words = [Mux(self.drain, self.drain_words[i], self.wr_data.word_select(i, word)) for i in range(banks)]
        mask = Mux(self.drain, self.drain_mask, self.wr_mask)
        rows = bank_rows(m, address, self._row_bits, banks, "write")
        # Without an enable: what stands there is written only with one of the enables.
        for b, turned in enumerate(rotate(m, words, amount, "turned")):
            data, row = register(word, name=f"data{b}"), register(self._row_bits, name=f"row{b}")
            m.d.sync += [data.eq(turned), row.eq(rows[b])]
            m.d.comb += [self.data[b].eq(data), self.row[b].eq(row)]
        enables = Cat(rotate(m, [mask[i] for i in range(banks)], amount, "enable"))
        loads = self.wr_valid & ~self.drain
        m.d.comb += self.to_l1.eq(self.drain | (loads & (self.wr_space == Space.L1)))
        for used, enable in ((self.to_l1, self.l1_en), (loads & (self.wr_space == Space.WMEM), self.wmem_en),
                             (loads & (self.wr_space == Space.IMEM), self.imem_en)):
            m.d.sync += enable.eq(Mux(used, enables, 0))
        return m
