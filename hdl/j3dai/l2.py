# SPDX-License-Identifier: Apache-2.0
"""L2: banks of stacked macros, a word wide, behind one port that moves up to a line of consecutive words a cycle."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.sram import SramStack
from nncosim.platforms.j3dai import J3dai

__all__ = ["L2", "Rotate"]


class Rotate(wiring.Component):
    """Rotation of a line's words towards word 0: ``o`` word i is ``i`` word (i + amount) % banks. Combinational.

    Words of ``i`` from ``given`` up are never looked at.
    """

    def __init__(self, platform: J3dai, *, given: int | None = None):
        self.platform = platform
        self.given = platform.banks if given is None else given
        super().__init__({
            "i": In(platform.line_bits), "amount": In(platform.bank_bits), "o": Out(platform.line_bits),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        banks, word = self.platform.banks, self.platform.word_bits
        words = [self.i.word_select(k, word) for k in range(banks)]
        # One selection per amount rather than a stage a bit: a simulator then copies each word once.
        with m.Switch(self.amount):
            for amount in range(banks):
                with m.Case(amount):
                    sources = [(k + amount) % banks for k in range(banks)]
                    m.d.comb += self.o.eq(Cat(
                        words[k] if k < self.given else Const(0, word) for k in sources))
        return m


class L2(wiring.Component):
    """The L2 memory: word a lies in bank a % banks, row a // banks.

    Ports: in a cycle with ``r_en`` or ``w_en``, the words ``addr`` + i with bit i of ``mask`` set are read or
    written, for any alignment of ``addr``. Word i is the i-th of ``w_data`` and ``r_data``. ``r_data`` is
    valid in the next cycle. The user never sets ``r_en`` and ``w_en`` together (one port), and never addresses a word
    beyond the end.

    Args:
        platform: Sizes. A write has `beat_words` at most; w_data from there up is ignored.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        super().__init__({
            "addr": In(20), "mask": In(platform.banks),
            "r_en": In(1), "r_data": Out(platform.line_bits),
            "w_en": In(1), "w_data": In(platform.line_bits),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        p = self.platform
        banks, bits, word = p.banks, p.bank_bits, p.word_bits
        offset = self.addr[:bits]
        row, row_after = Signal(20 - bits, name="row"), Signal(20 - bits, name="row_after")
        m.d.comb += [row.eq(self.addr[bits:]), row_after.eq(row + 1)]

        # Bank k holds word (k - offset) % banks of the beat: a rotation the other way.
        m.submodules.align = align = Rotate(p, given=p.beat_words)
        m.d.comb += [align.i.eq(self.w_data), align.amount.eq(-offset)]
        enabled = Signal(banks)
        twice = Signal(2 * banks)
        m.d.comb += [twice.eq(self.mask << offset), enabled.eq(twice[:banks] | twice[banks:])]

        read = []
        for k in range(banks):
            bank = SramStack(p.l2_words // banks, word)
            m.submodules[f"bank{k}"] = bank
            m.d.comb += [
                bank.r_en.eq(self.r_en & enabled[k]),
                bank.w_en.eq(self.w_en & enabled[k]),
                bank.w_data.eq(align.o.word_select(k, word)),
            ]
            for address in (bank.r_addr, bank.w_addr):
                m.d.comb += address.eq(row)
                with m.If(offset > k):
                    m.d.comb += address.eq(row_after)
            read.append(bank.r_data)

        amount = Signal(bits)
        with m.If(self.r_en):
            m.d.sync += amount.eq(offset)
        m.submodules.unalign = unalign = Rotate(p)
        m.d.comb += [unalign.i.eq(Cat(read)), unalign.amount.eq(amount), self.r_data.eq(unalign.o)]
        return m
