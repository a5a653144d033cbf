# SPDX-License-Identifier: Apache-2.0
"""What distinguishes the generations of AMD's array: widths, and how many registers there are. All else is alike.

The record belongs to a platform, and goes from there to RTL, compiler, kernels, simulator and bench. Sources: AM020
for AIE-ML, AM027 for AIE-MLv2; what is ours is marked in `nncosim/hdl/aie_ml/MANUAL.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AIE_ML", "AIE_ML_V2", "BEAT_WORDS", "Generation"]

_COLUMNS = 8
"""Of a tile of bytes, first operand or result."""
_DATA_BYTES, _MEMORY_TILE_BYTES = 64 * 1024, 512 * 1024
_MEMORY_BANK_ROWS = 2048
_WORDS_OF_A_LINE = 4
BEAT_WORDS = 2 * _WORDS_OF_A_LINE
"""Words of a stream in a beat, of all generations."""


@dataclass(frozen=True)
class Generation:
    """name: what its RTL and simulator are told apart by. rows: of a tile of results. word_bytes: of a word of a
    stream, which is what a DMA's addresses count. vectors, accumulators: registers of a core.

    A *beat* is what a core loads or stores in a cycle, and one vector: a tile of `rows` rows of 8 bytes. A *line* is
    what a bank of a memory holds in a row, four words of a stream; a beat is two lines, in two banks side by side.
    """

    name: str
    rows: int
    word_bytes: int
    vectors: int
    accumulators: int

    @property
    def beat_bytes(self) -> int:
        return _COLUMNS * self.rows

    @property
    def beat_bits(self) -> int:
        return 8 * self.beat_bytes

    @property
    def beats(self) -> int:
        """Of a tile's data memory."""
        return _DATA_BYTES // self.beat_bytes

    @property
    def pointers(self) -> int:
        """Beats that a pointer tells apart: those of the own memory, and behind them the west neighbour's."""
        return 2 * self.beats

    @property
    def west_bit(self) -> int:
        """Of a pointer: it is of the west neighbour's memory. The bits below are the beat there."""
        return (self.beats - 1).bit_length()

    @property
    def word_bits(self) -> int:
        return 8 * self.word_bytes

    @property
    def line_bytes(self) -> int:
        return _WORDS_OF_A_LINE * self.word_bytes

    @property
    def line_bits(self) -> int:
        return 8 * self.line_bytes

    @property
    def sums(self) -> int:
        """Of 32 bits, in an accumulator."""
        return _COLUMNS * self.rows

    @property
    def acc_bits(self) -> int:
        return 32 * self.sums

    @property
    def acc_parts(self) -> int:
        """Words of a cascade, of 512 bits, that an accumulator is."""
        return self.acc_bits // 512

    @property
    def macs(self) -> dict[tuple[int, int], int]:
        """Multiply-accumulates a cycle, by the bits of both operands."""
        most = 8 * self.sums
        return {(8, 8): most, (16, 8): most // 2, (16, 16): most // 4}

    @property
    def memory_banks(self) -> int:
        """Of a memory tile."""
        return _MEMORY_TILE_BYTES // _MEMORY_BANK_ROWS // self.line_bytes

    @property
    def wide_words(self) -> bool:
        """Whether a word of a stream is a whole row of a tile, not half of one."""
        return self.word_bytes == _COLUMNS

    def byte_at(self, row: int, column: int) -> int:
        """Where a byte of a tile of bytes lies in its beat: words of a stream, those of the same columns together."""
        word, within = divmod(column, self.word_bytes)
        return (word * self.rows + row) * self.word_bytes + within

    def sum_at(self, row: int, column: int) -> int:
        """Which of an accumulator's 32-bit sums is that of a row and a column: columns 0-3 and 4-7 are halves."""
        half, within = divmod(column, 4)
        return (half * self.rows + row) * 4 + within

    def tile_bytes(self, weight_bits: int, depth: int) -> int:
        """Of a tile of the second operand: 8 columns of bytes, 4 of 16 bits, of so many weights each."""
        return (_COLUMNS if weight_bits == 8 else 4) * depth * weight_bits // 8


AIE_ML = Generation("aie_ml", rows=4, word_bytes=4, vectors=24, accumulators=9)
AIE_ML_V2 = Generation("aie_ml_v2", rows=8, word_bytes=8, vectors=12, accumulators=8)
