# SPDX-License-Identifier: Apache-2.0
"""Banks of stacked macros, a word wide, behind one port that moves up to a line of consecutive words a cycle."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.sram import SramStack

__all__ = ["LineMemory", "Rotate"]


class Rotate(wiring.Component):
    """Rotation of a line's words towards word 0: ``o`` word i is ``i`` word (i + amount) % banks. Combinational.

    Words of ``i`` from ``given`` up are never looked at.

    Args:
        banks: Words of a line, a power of two. word: Bits of a word.
    """

    def __init__(self, banks: int, word: int, *, given: int | None = None):
        self.banks, self.word_bits = banks, word
        self.given = banks if given is None else given
        super().__init__({"i": In(banks * word), "amount": In((banks - 1).bit_length()), "o": Out(banks * word)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        banks, word = self.banks, self.word_bits
        words = [self.i.word_select(k, word) for k in range(banks)]
        # One selection per amount rather than a stage a bit: a simulator then copies each word once.
        with m.Switch(self.amount):
            for amount in range(banks):
                with m.Case(amount):
                    sources = [(k + amount) % banks for k in range(banks)]
                    m.d.comb += self.o.eq(Cat(
                        words[k] if k < self.given else Const(0, word) for k in sources))
        return m


class LineMemory(wiring.Component):
    """A memory of consecutive words: word a lies in bank a % banks, row a // banks.

    Ports: in a cycle with ``r_en`` or ``w_en``, the words ``addr`` + i with bit i of ``mask`` set are read or
    written, for any alignment of ``addr``. Word i is the i-th of ``w_data`` and ``r_data``. ``r_data`` is
    valid in the next cycle. The user never sets ``r_en`` and ``w_en`` together (one port), and never addresses a word
    beyond the end.

    Args:
        words: Size. banks: Words of a line, a power of two. word: Bits of a word.
        written: The most words of a write; w_data from there up is ignored.
        address_bits: Of ``addr``.
    """

    def __init__(self, words: int, banks: int, word: int, written: int, address_bits: int):
        self.words, self.banks, self.word_bits = words, banks, word
        self.written, self.address_bits = written, address_bits
        super().__init__({
            "addr": In(address_bits), "mask": In(banks),
            "r_en": In(1), "r_data": Out(banks * word),
            "w_en": In(1), "w_data": In(banks * word),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        banks, bits, word = self.banks, (self.banks - 1).bit_length(), self.word_bits
        row_bits = self.address_bits - bits
        offset = self.addr[:bits]
        row, row_after = Signal(row_bits, name="row"), Signal(row_bits, name="row_after")
        m.d.comb += [row.eq(self.addr[bits:]), row_after.eq(row + 1)]

        # Bank k holds word (k - offset) % banks of the beat: a rotation the other way.
        m.submodules.align = align = Rotate(banks, word, given=self.written)
        m.d.comb += [align.i.eq(self.w_data), align.amount.eq(-offset)]
        enabled = Signal(banks)
        twice = Signal(2 * banks)
        m.d.comb += [twice.eq(self.mask << offset), enabled.eq(twice[:banks] | twice[banks:])]

        read = []
        for k in range(banks):
            bank = SramStack(self.words // banks, word)
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
        m.submodules.unalign = unalign = Rotate(banks, word)
        m.d.comb += [unalign.i.eq(Cat(read)), unalign.amount.eq(amount), self.r_data.eq(unalign.o)]
        return m
