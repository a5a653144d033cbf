# SPDX-License-Identifier: Apache-2.0
"""Eight-bank memories of 128-bit words, and the rotations between banks and consecutive words."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.sram import Sram
from nncosim.platforms.base import is_power_of_two

__all__ = ["BANKS", "WORD_BITS", "BankedMemory", "bank_rows", "rotate"]

BANKS = 8
WORD_BITS = 128


class BankedMemory(wiring.Component):
    """Eight SRAM macros `bank0`..`bank7`; word ``a`` lies in bank ``a % 8``, row ``a // 8``.

    Ports, each an array of one per bank:
        r_en (In, 1), r_row (In), r_data (Out, 128), w_en (In, 1), w_row (In), w_data (In, 128).

    Args:
        words: Size in 128-bit words, a power of two of at least 16.
    """

    def __init__(self, words: int):
        assert is_power_of_two(words) and words >= 2 * BANKS
        self.words = words
        self.row_bits = (words // BANKS - 1).bit_length()
        super().__init__({
            "r_en": In(1).array(BANKS),
            "r_row": In(self.row_bits).array(BANKS),
            "r_data": Out(WORD_BITS).array(BANKS),
            "w_en": In(1).array(BANKS),
            "w_row": In(self.row_bits).array(BANKS),
            "w_data": In(WORD_BITS).array(BANKS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for b in range(BANKS):
            sram = Sram(self.words // BANKS, WORD_BITS)
            m.submodules[f"bank{b}"] = sram
            m.d.comb += [
                sram.r_en.eq(self.r_en[b]), sram.r_addr.eq(self.r_row[b]), self.r_data[b].eq(sram.r_data),
                sram.w_en.eq(self.w_en[b]), sram.w_addr.eq(self.w_row[b]), sram.w_data.eq(self.w_data[b]),
            ]
        return m


def rotate(m: Module, words: Sequence[Value], amount: Value, name: str) -> list[Signal]:
    """Eight signals: number i is ``words[(i + amount) % 8]``; three stages of word multiplexers.

    From banks to consecutive words of address ``a`` the amount is ``a % 8``; from words to banks ``-a % 8``.
    """
    stage: list[Value] = list(words)
    out: list[Signal] = []
    for bit in range(3):
        out = [Signal(len(stage[0]), name=f"{name}_r{1 << bit}_{i}") for i in range(BANKS)]
        for i in range(BANKS):
            m.d.comb += out[i].eq(Mux(amount[bit], stage[(i + (1 << bit)) % BANKS], stage[i]))
        stage = list(out)
    return out


def bank_rows(m: Module, address: Value, row_bits: int, name: str) -> list[Value]:
    """Per bank, the row that holds its one word among the eight from `address` on (rows wrap)."""
    row = Signal(row_bits, name=f"{name}_row")
    following = Signal(row_bits, name=f"{name}_row_next")
    m.d.comb += [row.eq(address[3:]), following.eq(row + 1)]
    return [Mux(b < address[:3], following, row) for b in range(BANKS)]
