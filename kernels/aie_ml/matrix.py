# SPDX-License-Identifier: Apache-2.0
"""Tensors as the matrices that the core's tiles cut: what is a row, and how they lie in a tile's memory."""

from __future__ import annotations

from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Tensor

__all__ = ["ROWS", "layout_of", "room_of", "row_axis", "row_tiles", "rows_of", "stored_bits", "too_many_axes"]

ROWS = 4
"""Of a tile."""
COLUMNS = 16
"""Tensors have room for whole multiples of so many channels."""
_ACROSS = ("N", "H", "W")


def stored_bits(tensor: Tensor) -> int:
    return 8 if tensor.type.bits <= 8 else 16


def too_many_axes(tensor: Tensor) -> bool:
    """Whether its rows would lie along two axes: those of several samples with several tokens each."""
    return sum(tensor.extents.get(axis, 1) > 1 for axis in _ACROSS) > 1


def row_axis(tensor: Tensor) -> str:
    """Along which axis the rows of its matrix lie: the batch, or the tokens of one sample. Its columns are channels."""
    return next((axis for axis in _ACROSS if tensor.extents.get(axis, 1) > 1), "N")


def rows_of(tensor: Tensor) -> int:
    """Of the matrix that a tensor is."""
    return tensor.elements // tensor.channels


def room_of(channels: int) -> int:
    """Channels that there is room for."""
    return -(-channels // COLUMNS) * COLUMNS if channels > COLUMNS // 2 else COLUMNS // 2


def row_tiles(rows: int) -> int:
    """Of a matrix: blocks have two above each other where there are more than 4 rows."""
    return -(-rows // (2 * ROWS)) * 2 if rows > ROWS else 1


def layout_of(tensor: Tensor, channels: int = 0) -> Layout:
    """Tiles of 4 rows x 8 bytes or x 4 halfwords, those of the same rows one after the other.

    Args:
        channels: of the part that lies there; 0: all.
    """
    room, above, row = room_of(channels or tensor.channels), row_tiles(rows_of(tensor)), row_axis(tensor)
    if stored_bits(tensor) == 8:
        return Layout(f"{row}/4:{above} C/8:{room // 8} C/4%2 {row}%4 C%4", 8)
    return Layout(f"{row}/4:{above} C/4:{room // 4} {row}%4 C%4", 16)
