# SPDX-License-Identifier: Apache-2.0
"""Write side of a cluster's memories: LOAD beats of the DMPA, rotated into the banks."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.banks import BANKS, WORD_BITS, rotate
from nncosim.hdl.j3dai.isa import Space

__all__ = ["LoadWrite"]


class LoadWrite(wiring.Component):
    """Turns a beat of up to eight consecutive words into a word, an enable and a row for each bank.

    Ports:
        wr_valid, wr_space, wr_addr, wr_mask, wr_data (In): as of the cluster.
        bank_data (Out, 8 x 128), bank_en (Out, 8): of this cycle, not registered.
        l1_en, wmem_en, imem_en (Out): the beat is for this memory.
    """

    def __init__(self) -> None:
        super().__init__({
            "wr_valid": In(1), "wr_space": In(2), "wr_addr": In(14), "wr_mask": In(BANKS),
            "wr_data": In(WORD_BITS * BANKS),
            "bank_data": Out(WORD_BITS).array(BANKS), "bank_en": Out(BANKS),
            "l1_en": Out(1), "wmem_en": Out(1), "imem_en": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = [self.wr_data.word_select(i, WORD_BITS) for i in range(BANKS)]
        amount = Signal(3)
        m.d.comb += amount.eq(-self.wr_addr[:3])
        turned = rotate(m, words, amount, "beat")
        m.d.comb += self.bank_en.eq(Cat(rotate(m, list(self.wr_mask), amount, "mask")))
        for b in range(BANKS):
            m.d.comb += self.bank_data[b].eq(turned[b])
        for space, enable in ((Space.L1, self.l1_en), (Space.WMEM, self.wmem_en), (Space.IMEM, self.imem_en)):
            m.d.comb += enable.eq(self.wr_valid & (self.wr_space == space))
        return m
