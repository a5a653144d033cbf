# SPDX-License-Identifier: Apache-2.0
"""Write side of a cluster's memories: LOAD beats of the DMPA, rotated into the banks."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.banks import rotate
from nncosim.hdl.j3dai.isa import Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["LoadWrite"]


class LoadWrite(wiring.Component):
    """Turns a beat of consecutive words into a word, an enable and a row for each bank.

    Ports:
        wr_valid, wr_space, wr_addr, wr_mask, wr_data (In): as of the cluster.
        bank_data (Out, banks x word), bank_en (Out, banks): of this cycle, not registered.
        l1_en, wmem_en, imem_en (Out): the beat is for this memory.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        banks, word = platform.banks, platform.word_bits
        super().__init__({
            "wr_valid": In(1), "wr_space": In(2), "wr_addr": In(14), "wr_mask": In(banks), "wr_data": In(word * banks),
            "bank_data": Out(word).array(banks), "bank_en": Out(banks),
            "l1_en": Out(1), "wmem_en": Out(1), "imem_en": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, bits = self.platform.banks, self.platform.bank_bits
        words = [self.wr_data.word_select(i, self.platform.word_bits) for i in range(banks)]
        amount = Signal(bits)
        m.d.comb += amount.eq(-self.wr_addr[:bits])
        turned = rotate(m, words, amount, "beat")
        m.d.comb += self.bank_en.eq(Cat(rotate(m, list(self.wr_mask), amount, "mask")))
        for b in range(banks):
            m.d.comb += self.bank_data[b].eq(turned[b])
        for space, enable in ((Space.L1, self.l1_en), (Space.WMEM, self.wmem_en), (Space.IMEM, self.imem_en)):
            m.d.comb += enable.eq(self.wr_valid & (self.wr_space == space))
        return m
