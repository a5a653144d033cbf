# SPDX-License-Identifier: Apache-2.0
"""L2: eight banks of one-word macros behind one port that moves up to eight consecutive words a cycle."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.errors import HdlError
from nncosim.hdl.sram import Sram

__all__ = ["BANKS", "L2", "WORD_BITS", "Rotate"]

BANKS = 8
WORD_BITS = 128


class Rotate(wiring.Component):
    """Rotation of eight words towards word 0: ``o`` word i is ``i`` word (i + amount) % 8. Combinational.

    Words of ``o`` from ``used`` up are zero; words of ``i`` from ``given`` up are never looked at.
    """

    def __init__(self, *, given: int = BANKS, used: int = BANKS):
        self.given = given
        self.used = used
        super().__init__({
            "i": In(BANKS * WORD_BITS),
            "amount": In(3),
            "o": Out(BANKS * WORD_BITS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        words = [self.i.word_select(k, WORD_BITS) for k in range(BANKS)]
        # One selection per amount rather than three stages: a simulator then copies each word once.
        with m.Switch(self.amount):
            for amount in range(BANKS):
                with m.Case(amount):
                    sources = [(k + amount) % BANKS for k in range(self.used)]
                    m.d.comb += self.o.eq(Cat(
                        words[k] if k < self.given else Const(0, WORD_BITS) for k in sources))
        return m


class L2(wiring.Component):
    """The L2 memory of ``words`` words of 128 bits; word a lies in bank a % 8, row a // 8.

    Ports: in a cycle with ``r_en`` or ``w_en``, the words ``addr`` + i with bit i of ``mask`` set are read or
    written, for any alignment of ``addr``. Word i is at bits 128 i of ``w_data`` and ``r_data``. ``r_data`` is
    valid in the next cycle. The user never sets ``r_en`` and ``w_en`` together (one port), and never addresses a word
    beyond the end.

    Args:
        words: A multiple of 8.
        beat_words: The most words of a write; w_data from there up is ignored.

    Raises:
        HdlError: If ``words`` is no positive multiple of 8.
    """

    def __init__(self, words: int, beat_words: int = BANKS):
        if words < BANKS or words % BANKS:
            raise HdlError(f"L2 of {words} words: its size must be a positive multiple of {BANKS} words")
        self.words = words
        self.beat_words = beat_words
        super().__init__({
            "addr": In(20),
            "mask": In(BANKS),
            "r_en": In(1),
            "r_data": Out(BANKS * WORD_BITS),
            "w_en": In(1),
            "w_data": In(BANKS * WORD_BITS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        offset = self.addr[:3]
        row, row_after = Signal(17, name="row"), Signal(17, name="row_after")
        m.d.comb += [row.eq(self.addr[3:]), row_after.eq(row + 1)]

        # Bank k holds word (k - offset) % 8 of the beat: a rotation the other way.
        m.submodules.align = align = Rotate(given=self.beat_words)
        m.d.comb += [align.i.eq(self.w_data), align.amount.eq(-offset)]
        enabled = Signal(BANKS)
        twice = Signal(2 * BANKS)
        m.d.comb += [twice.eq(self.mask << offset), enabled.eq(twice[:BANKS] | twice[BANKS:])]

        read = []
        for k in range(BANKS):
            bank = Sram(self.words // BANKS, WORD_BITS)
            m.submodules[f"bank{k}"] = bank
            m.d.comb += [
                bank.r_en.eq(self.r_en & enabled[k]),
                bank.w_en.eq(self.w_en & enabled[k]),
                bank.w_data.eq(align.o.word_select(k, WORD_BITS)),
            ]
            for address in (bank.r_addr, bank.w_addr):
                m.d.comb += address.eq(row)
                with m.If(offset > k):
                    m.d.comb += address.eq(row_after)
            read.append(bank.r_data)

        amount = Signal(3)
        with m.If(self.r_en):
            m.d.sync += amount.eq(offset)
        m.submodules.unalign = unalign = Rotate()
        m.d.comb += [unalign.i.eq(Cat(read)), unalign.amount.eq(amount), self.r_data.eq(unalign.o)]
        return m
