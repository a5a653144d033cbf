# SPDX-License-Identifier: Apache-2.0
"""Memories of several banks, a word wide each, and the rotations between banks and consecutive words."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.sram import Sram
from nncosim.platforms.base import is_power_of_two

__all__ = ["BankedMemory", "bank_rows", "rotate"]


class BankedMemory(wiring.Component):
    """SRAM macros `bank0`, `bank1`...; word ``a`` lies in bank ``a % banks``, row ``a // banks``.

    Ports, each an array of one per bank:
        r_en (In, 1), r_row (In), r_data (Out, word), w_en (In, 1), w_row (In), w_data (In, word).

    Args:
        words: Size, a power of two of at least two rows.
        banks: A power of two. word: Bits of a word.
        ports: Of each macro. With one, no bank is read and written in a cycle.
    """

    def __init__(self, words: int, banks: int, word: int, ports: int = 2):
        assert is_power_of_two(words) and words >= 2 * banks
        self.words, self.ports = words, ports
        self.banks, self.word_bits = banks, word
        self.row_bits = (words // banks - 1).bit_length()
        super().__init__({
            "r_en": In(1).array(banks),
            "r_row": In(self.row_bits).array(banks),
            "r_data": Out(word).array(banks),
            "w_en": In(1).array(banks),
            "w_row": In(self.row_bits).array(banks),
            "w_data": In(word).array(banks),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for b in range(self.banks):
            sram = Sram(self.words // self.banks, self.word_bits, ports=self.ports)
            m.submodules[f"bank{b}"] = sram
            m.d.comb += [
                sram.r_en.eq(self.r_en[b]), self.r_data[b].eq(sram.r_data),
                sram.w_en.eq(self.w_en[b]), sram.w_data.eq(self.w_data[b]),
            ]
            if self.ports == 1:
                m.d.comb += sram.addr.eq(Mux(self.w_en[b], self.w_row[b], self.r_row[b]))
            else:
                m.d.comb += [sram.r_addr.eq(self.r_row[b]), sram.w_addr.eq(self.w_row[b])]
        return m


def rotate(m: Module, words: Sequence[Value], amount: Value, name: str) -> list[Signal]:
    """As many signals as words: number i is ``words[(i + amount) % banks]``; a stage of multiplexers a bit of amount.

    From banks to consecutive words of address ``a`` the amount is ``a % banks``; from words to banks ``-a % banks``.
    """
    stage: list[Value] = list(words)
    out: list[Signal] = []
    banks = len(words)
    for bit in range((banks - 1).bit_length()):
        out = [Signal(len(stage[0]), name=f"{name}_r{1 << bit}_{i}") for i in range(banks)]
        for i in range(banks):
            m.d.comb += out[i].eq(Mux(amount[bit], stage[(i + (1 << bit)) % banks], stage[i]))
        stage = list(out)
    return out


def bank_rows(m: Module, address: Value, row_bits: int, banks: int, name: str) -> list[Value]:
    """Per bank, the row that holds its one word among as many as there are banks from `address` on (rows wrap)."""
    bits = (banks - 1).bit_length()
    row = Signal(row_bits, name=f"{name}_row")
    following = Signal(row_bits, name=f"{name}_row_next")
    m.d.comb += [row.eq(address[bits:]), following.eq(row + 1)]
    return [Mux(b < address[:bits], following, row) for b in range(banks)]
