# SPDX-License-Identifier: Apache-2.0
"""What only this platform's bench understands of an image's notes; and where things are in its addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.image.image import Segment
from nncosim.compiler.ir.layout import Layout
from nncosim.hdl.aie_ml.config import TILE_BYTES
from nncosim.platforms.aie_ml import BANK_BYTES

__all__ = [
    "BEAT_A", "BEAT_B", "AieMlNotes", "Circuit", "EarlyReads", "SharedBuffer", "Site", "Stream", "acc_part",
    "config_segment", "data_address", "early_read", "split_early_read", "tile_address", "tile_of",
]  # fmt: skip

_ROWS = 32
"""Tiles that a column has addresses for, the shim at row 0 (AM020)."""
_TILE_STRIDE = 1 << 20


@dataclass(frozen=True)
class Site:
    """A tile with a part of a layer. step: of the schedule. stores: of an inference, 0 where it gives its sums on."""

    column: int
    row: int
    step: int
    stores: int


@dataclass(frozen=True)
class Stream:
    """A stream of the shim: which one of a column, the part of a tensor that it carries, and how that lies in it."""

    column: int
    number: int
    tensor: str
    box: tuple[tuple[int, int], ...]
    layout: Layout
    words: int


@dataclass(frozen=True)
class Circuit:
    """A stream through the switches, for pictures. name: what it carries; words: of an inference. ways: to each of its
    targets, (column, row) of every tile from the source on, with it; row 0 is the shim."""

    name: str
    words: int
    ways: tuple[tuple[tuple[int, int], ...], ...]


BEAT_A, BEAT_B = 24, 25
"""In place of a register: the beat that load a, b reads."""
_PARTS = 32
"""The first part of accumulator 0; all parts of all accumulators have 32 numbers, those of a part side by side."""


@dataclass(frozen=True)
class EarlyReads:
    """What programs read on purpose while a write to it is in flight: the old value is meant, as software pipelines do.

    tiles: (column, row) of those whose programs read so. reads: numbers of `early_read`, ascending.
    """

    tiles: tuple[tuple[int, int], ...]
    reads: tuple[int, ...]


@dataclass(frozen=True)
class SharedBuffer:
    """Results that the tile east of where they are made takes from there, for pictures. name: what they are. size: in
    bytes, of a copy."""

    name: str
    column: int
    row: int
    size: int


@dataclass(frozen=True)
class AieMlNotes:
    """columns, rows: of the rectangle of core tiles from the array's corner that is used; memory_rows: below it."""

    columns: int = 1
    rows: int = 1
    memory_rows: int = 0
    sites: tuple[Site, ...] = ()
    inputs: tuple[Stream, ...] = ()
    outputs: tuple[Stream, ...] = ()
    circuits: tuple[Circuit, ...] = ()
    shared: tuple[SharedBuffer, ...] = ()
    early_reads: tuple[EarlyReads, ...] = ()

    @property
    def first_row(self) -> int:
        """Of core tiles; row 0 is the shim."""
        return 1 + self.memory_rows

    def number(self, column: int, row: int) -> int:
        """Of a core tile in records of a run, which has no others than these columns and rows."""
        return column * self.rows + row - self.first_row


def acc_part(number: int, part: int, parts: int) -> int:
    """The register number of one of an accumulator's parts, as `early_read` takes it."""
    return _PARTS + _PARTS // parts * part + number


def early_read(pc: int, cycles: int, register: int) -> int:
    """The instruction at `pc` reads a register so many cycles, 1 to 6, before a write that an earlier instruction makes
    is there. register: 0 to 23 of a vector, `acc_part`, `BEAT_A`, `BEAT_B`. `pc`: of the program memory's 1024."""
    return (pc << 3 | cycles) << 6 | register


def split_early_read(number: int) -> tuple[int, int, int]:
    """pc, cycles, register."""
    return number >> 9, number >> 6 & 7, number & 63


def tile_address(column: int, row: int) -> int:
    """Of a tile's first byte."""
    assert TILE_BYTES <= _TILE_STRIDE
    return (column * _ROWS + row) * _TILE_STRIDE


def config_segment(at: int, words: Sequence[int]) -> Segment:
    """Words of 32 bits for registers, from an address on."""
    return Segment("config", at, np.array(words, "<u4").tobytes())


def tile_of(address: int) -> tuple[int, int, int]:
    """Column, row, and the address within that tile."""
    number, at = divmod(address, _TILE_STRIDE)
    return *divmod(number, _ROWS), at


def data_address(bank: int, address: int) -> int:
    """Of a byte of a logical bank, in its tile."""
    return bank * BANK_BYTES + address
