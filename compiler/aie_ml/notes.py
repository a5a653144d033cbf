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
    "AieMlNotes", "Circuit", "SharedBuffer", "Site", "Stream", "config_segment", "data_address", "tile_address",
    "tile_of",
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

    @property
    def first_row(self) -> int:
        """Of core tiles; row 0 is the shim."""
        return 1 + self.memory_rows

    def number(self, column: int, row: int) -> int:
        """Of a core tile in records of a run, which has no others than these columns and rows."""
        return column * self.rows + row - self.first_row


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
