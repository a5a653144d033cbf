# SPDX-License-Identifier: Apache-2.0
"""Tensors as the matrices that the core's tiles cut: what is a row, and how they lie in a tile's memory."""

from __future__ import annotations

from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Tensor
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["layout_of", "room_of", "row_axis", "row_tiles", "rows_of", "stored_bits", "too_many_axes"]

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


def row_tiles(rows: int, generation: Generation) -> int:
    """Of a matrix: blocks have two above each other where there are more rows than those of a tile."""
    return -(-rows // (2 * generation.rows)) * 2 if rows > generation.rows else 1


def layout_of(tensor: Tensor, generation: Generation, channels: int = 0) -> Layout:
    """Tiles of 4 (AIE-MLv2: 8) rows x 8 bytes or x 4 halfwords, those of the same rows one after the other.

    Args:
        channels: of the part that lies there; 0: all.
    """
    room, above = room_of(channels or tensor.channels), row_tiles(rows_of(tensor), generation)
    row, rows, word = row_axis(tensor), generation.rows, generation.word_bytes
    if stored_bits(tensor) == 8:
        within = f"{row}%{rows} C%8" if generation.wide_words else f"C/{word}%2 {row}%{rows} C%{word}"
        return Layout(f"{row}/{rows}:{above} C/8:{room // 8} {within}", 8)
    return Layout(f"{row}/{rows}:{above} C/4:{room // 4} {row}%{rows} C%4", 16)
