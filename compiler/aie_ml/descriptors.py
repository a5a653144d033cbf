# SPDX-License-Identifier: Apache-2.0
"""Buffer descriptors of a tile's DMA: how a buffer in tiles of 4 rows goes over a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from amaranth.hdl import Shape
from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml import dma
from nncosim.hdl.aie_ml.dma import DESCRIPTORS
from nncosim.hdl.formats import EncodingError, encode

__all__ = ["Descriptor", "Region", "matrix", "rows_of_tiles", "words_of_row"]

_TILE_ROWS = 4


@dataclass(frozen=True)
class Descriptor:
    """Fields as in the manual. acquire: (lock, value), at least; release: (lock, delta); None: neither."""

    base: int
    length: int
    steps: tuple[int, int, int] = (1, 0, 0)
    counts: tuple[int, int] = (0, 0)
    iteration: tuple[int, int] = (0, 0)
    next: int | None = None
    acquire: tuple[int, int] | None = None
    release: tuple[int, int] | None = None

    @property
    def words(self) -> tuple[int, ...]:
        """The six words in memory.

        Raises:
            CompileError: a field does not hold its value.
        """
        fields = {
            "base": self.base, "length": self.length, "count0": self.counts[0], "count1": self.counts[1],
            **{f"step{k}": step for k, step in enumerate(self.steps)},
            "iteration_step": self.iteration[0], "iteration_count": self.iteration[1],
        }
        if self.next is not None:
            fields |= {"next": self.next, "use_next": 1}
        if self.acquire is not None:
            fields |= {"acquire": 1, "acquire_lock": self.acquire[0], "acquire_value": self.acquire[1], "at_least": 1}
        if self.release is not None:
            fields |= {"release": 1, "release_lock": self.release[0], "release_delta": self.release[1]}
        word = sum(_encoded(name, value) for name, value in fields.items())
        return tuple(word >> 32 * k & 0xFFFFFFFF for k in range(dma.DESCRIPTOR_WORDS))


def _encoded(name: str, value: int) -> int:
    try:
        return encode(dma.Descriptor, **{name: value})
    except EncodingError:
        shape = Shape.cast(dma.Descriptor.as_shape()[name].shape)
        bits = f"{shape.width} {'signed ' if shape.signed else ''}bits"
        raise CompileError(f"a field of {bits} of a buffer descriptor cannot be {value}") from None


@dataclass(frozen=True)
class Region:
    """A part of a matrix in a tile's memory: whole columns, 8 at a time.

    at: words of its first tile, one for each copy of the buffer. row_words: from a row of tiles to the next.
    bits: of an element. rows: that count. columns: how many, from the region's first on.
    """

    at: tuple[int, ...]
    row_words: int
    bits: int
    rows: int
    columns: int

    @property
    def iteration(self) -> tuple[int, int]:
        return (self.at[1] - self.at[0], len(self.at)) if len(self.at) > 1 else (0, 0)


def rows_of_tiles(region: Region, lock: tuple[int, int], first: int) -> list[Descriptor]:
    """As it lies in memory, whole tiles: between tiles.

    Args:
        lock: what is acquired, and what is released. first: number of the descriptor.
    """
    across = -(-region.columns // 8) * 8 * region.bits // 8  # a word has 4 bytes, and a tile 4 rows
    tiles = -(-region.rows // _TILE_ROWS)
    return [Descriptor(region.at[0], across * tiles, (1, region.row_words, 0), (across, tiles), region.iteration, first,
                       (lock[0], 1), (lock[1], 1))]  # fmt: skip


def words_of_row(columns: int, bits: int) -> int:
    """Words of a stream that a row of a matrix takes: filled up to one, of 16 bits to two."""
    return -(-columns // 4) * bits // 8


def matrix(region: Region, lock: tuple[int, int], first: int) -> list[Descriptor]:
    """Row after row, each filled up (`words_of_row`): as a user has it.

    Of 16 bits, a row of a tile is two words, which takes a dimension more: a descriptor for each row of tiles.

    Raises:
        CompileError: more descriptors than there are.
    """
    across = words_of_row(region.columns, region.bits)
    if region.bits == 8:
        return [Descriptor(region.at[0], across * region.rows, (4, 1, region.row_words), (across, _TILE_ROWS),
                           region.iteration, first, (lock[0], 1), (lock[1], 1))]  # fmt: skip
    return list(_chained(region, across, lock, first))


def _chained(region: Region, across: int, lock: tuple[int, int], first: int) -> Iterator[Descriptor]:
    tiles = -(-region.rows // _TILE_ROWS)
    if tiles > DESCRIPTORS // 2:
        raise CompileError(f"a batch of {region.rows} with values of 16 bits takes {tiles} buffer descriptors, and a "
                           f"channel has {DESCRIPTORS // 2}; use a batch of {DESCRIPTORS // 2 * _TILE_ROWS} at most")
    for tile in range(tiles):
        rows = min(_TILE_ROWS, region.rows - tile * _TILE_ROWS)
        made = Descriptor(region.at[0] + tile * region.row_words, across * rows, (1, 8, 2), (2, across // 2),
                          region.iteration, first + (tile + 1) % tiles)  # fmt: skip
        if tile == 0:
            made = replace(made, acquire=(lock[0], 1))
        if tile == tiles - 1:
            made = replace(made, release=(lock[1], 1))
        yield made
