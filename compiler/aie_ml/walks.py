# SPDX-License-Identifier: Apache-2.0
"""In which order the words of a matrix are, in memory and on a stream; and loops from the one to the other.

A word is four bytes or two halfwords of a row (AIE-MLv2: eight, or four). It has four coordinates: `up` counts tiles of
4 (8) rows, `row` those in it, `tile` the tiles of 8 bytes or 4 halfwords (8 bytes, too) across, `word` the two words of
a row of a tile (there is one). Each order
in memory is a stride for each coordinate; each order on a stream is an order of the coordinates. So what a buffer
descriptor has to do is a loop for each coordinate, fewer where two are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from nncosim.compiler.errors import CompileError
from nncosim.platforms.aie_ml_generation import BEAT_WORDS, Generation

__all__ = ["Matrix", "Order", "Storage", "Walk", "tiles_across", "words_across"]

_TILE_BYTES = 8
"""Of a row of a tile."""


class Storage(Enum):
    """ROWS: row after row. TILES: as the core loads them. BLOCKS: as the core loads weights, columns of blocks of 8 x 8
    bytes or 4 x 4 halfwords, row after row in a block: so the core reads rows as columns."""

    ROWS = "rows"
    TILES = "tiles"
    BLOCKS = "blocks"

    def across(self, tiles: int, generation: Generation) -> int:
        """Words from a tile to the one that is so many further on in its row; of BLOCKS it is the matrix' stride."""
        return tiles * (BEAT_WORDS if self == Storage.TILES else _row_words(generation))


class Order(Enum):
    """Of a stream. ROWS: row after row, as users have it, each filled up to whole words; WHOLE_ROWS: to whole tiles.
    TILES: as tiles lie in memory. TURNED: tile after tile, in each row after row."""

    ROWS = "rows"
    WHOLE_ROWS = "whole rows"
    TILES = "tiles"
    TURNED = "turned"


_ACROSS = ("word", "tile", "row", "up")
_INNER_FIRST = {
    Order.ROWS: {8: _ACROSS, 16: _ACROSS}, Order.WHOLE_ROWS: {8: _ACROSS, 16: _ACROSS},
    Order.TILES: {8: ("row", "word", "tile", "up"), 16: ("word", "row", "tile", "up")},
    Order.TURNED: {8: ("word", "row", "tile", "up"), 16: ("word", "row", "tile", "up")},
}  # fmt: skip


@dataclass(frozen=True)
class Walk:
    """Words of a buffer in the order of a stream. loops: (step, count), the innermost first; the last one's count is
    what `length` makes of it."""

    base: int
    loops: tuple[tuple[int, int], ...]
    length: int

    def cut(self, dimensions: int) -> Iterator[Walk]:
        """Walks of at most so many loops, one after the other, that do the same."""
        if len(self.loops) <= dimensions:
            yield self
            return
        inner, (step, _) = self.loops[:-1], self.loops[-1]
        size = 1
        for _, count in inner:
            size *= count
        for k in range(-(-self.length // size)):
            rest = min(size, self.length - k * size)
            yield from Walk(self.base + k * step, inner, rest).cut(dimensions)


@dataclass(frozen=True)
class Matrix:
    """Some columns of a matrix in memory, in words of a stream.

    at: of the first word of the first column. stride: from a row of tiles to the next (TILES), from a row to the next
    (ROWS), from a column of blocks to the next (BLOCKS). bits: of an element, 8 or 16. columns: how many.
    """

    storage: Storage
    at: int
    stride: int
    bits: int
    rows: int
    columns: int
    generation: Generation

    def walk(self, order: Order) -> Walk:
        """In the order of a stream. Between tiles, whole tiles pass, filling included.

        Raises:
            CompileError: half a tile at the end of rows, where blocks need whole ones.
        """
        strides, words = self._strides(), words_across(self.columns, self.bits, self.generation)
        tile_rows, row_words = self.generation.rows, _row_words(self.generation)
        tiles, up = tiles_across(self.columns, self.bits), -(-self.rows // tile_rows)
        counts = {"word": row_words, "tile": tiles, "row": tile_rows, "up": up}
        loops = _merged([(strides[name], counts[name]) for name in _INNER_FIRST[order][self.bits]])
        if order in (Order.TILES, Order.TURNED):
            return Walk(self.at, loops, row_words * tiles * tile_rows * up)
        if order == Order.WHOLE_ROWS or words % row_words == 0:
            return Walk(self.at, loops, row_words * tiles * self.rows)
        if strides["tile"] != row_words * strides["word"]:
            raise CompileError(f"rows of {words} words do not end with a block")
        loops = _merged([(strides["word"], words), (strides["row"], tile_rows), (strides["up"], up)])
        return Walk(self.at, loops, words * self.rows)

    def _strides(self) -> dict[str, int]:
        tile_rows, words = self.generation.rows, _row_words(self.generation)
        if self.storage == Storage.ROWS:
            return {"word": 1, "tile": words, "row": self.stride, "up": tile_rows * self.stride}
        if self.storage == Storage.BLOCKS:
            return {"word": 1, "row": words, "up": tile_rows * words, "tile": self.stride}
        word, row = (tile_rows, 1) if self.bits == 8 else (1, words)
        return {"word": word, "row": row, "tile": BEAT_WORDS, "up": self.stride}

    def moved(self, words: int) -> Matrix:
        return replace(self, at=self.at + words)


def _merged(loops: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Without loops of one turn, and one in place of two that go on in the same step. At least one."""
    out: list[tuple[int, int]] = []
    for step, count in loops:
        if out and step == out[-1][0] * out[-1][1]:
            out[-1] = (out[-1][0], out[-1][1] * count)
        elif count > 1:
            out.append((step, count))
    return tuple(out) or ((1, 1),)


def _row_words(generation: Generation) -> int:
    """Of a row of a tile."""
    return _TILE_BYTES // generation.word_bytes


def tiles_across(columns: int, bits: int) -> int:
    """Tiles that hold so many columns."""
    return -(-columns * bits // 8 // _TILE_BYTES)


def words_across(columns: int, bits: int, generation: Generation) -> int:
    """Words of a stream that a row takes: filled up to whole ones, of 16 bits to whole tiles."""
    least = max(4, 8 * generation.word_bytes // bits)
    return -(-columns // least) * (least * bits // 8 // generation.word_bytes)
