# SPDX-License-Identifier: Apache-2.0
"""Tiles: rectangles of a map that an engine computes at a time, and what their windows read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

__all__ = ["Tile", "Windows", "chain_tiles", "make_tile", "reads_all"]


class Windows(Protocol):
    """A layer that moves a window over its input. Each pair is (rows, columns); pads: above and to the left."""

    @property
    def kernel(self) -> tuple[int, int]: ...

    @property
    def stride(self) -> tuple[int, int]: ...

    @property
    def dilation(self) -> tuple[int, int]: ...

    @property
    def pads(self) -> tuple[int, int]: ...

    @property
    def in_map(self) -> tuple[int, int]: ...

    @property
    def out_map(self) -> tuple[int, int]: ...


class Tile(NamedTuple):
    """Output rows y0..y1-1 and columns x0..x1-1; input rows iy0..iy1-1, columns ix0..ix1-1, clipped to the map."""

    y0: int
    y1: int
    x0: int
    x1: int
    iy0: int
    iy1: int
    ix0: int
    ix1: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Rows and columns of output, rows and columns of input."""
        return self.y1 - self.y0, self.x1 - self.x0, self.iy1 - self.iy0, self.ix1 - self.ix0

    @property
    def rows(self) -> int:
        return self.y1 - self.y0

    @property
    def columns(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.iy1 - self.iy0

    @property
    def width(self) -> int:
        return self.ix1 - self.ix0


@lru_cache(maxsize=1 << 16)
def _axis(first: int, last: int, kernel: int, stride: int, dilation: int, pad: int, size: int) -> tuple[int, int]:
    """Input positions that outputs first..last-1 read, clipped to 0..size; never empty."""
    low = first * stride - pad
    high = (last - 1) * stride - pad + (kernel - 1) * dilation + 1
    low = min(max(low, 0), size - 1)
    return low, max(min(high, size), low + 1)


def make_tile(layer: Windows, ys: tuple[int, int], xs: tuple[int, int]) -> Tile:
    """The tile of output rows ys and columns xs, with what its windows read."""
    y = _axis(*ys, layer.kernel[0], layer.stride[0], layer.dilation[0], layer.pads[0], layer.in_map[0])
    x = _axis(*xs, layer.kernel[1], layer.stride[1], layer.dilation[1], layer.pads[1], layer.in_map[1])
    return Tile(*ys, *xs, *y, *x)


def chain_tiles(layers: Sequence[Windows], ys: tuple[int, int], xs: tuple[int, int]) -> tuple[Tile, ...]:
    """Each layer's tile for rows ys and columns xs of the last one's output, where each reads what the one before
    writes. Clipped to the maps, so that a layer's bounds do its padding; what neighbouring tiles both need they both
    compute."""
    out: list[Tile] = []
    for layer in reversed(layers):
        tile = make_tile(layer, ys, xs)
        out.append(tile)
        ys, xs = (tile.iy0, tile.iy1), (tile.ix0, tile.ix1)
    return tuple(reversed(out))


def reads_all(layer: Windows) -> bool:
    """Whether the windows touch every element of the input: what nobody reads would not be computed in a group."""
    for axis in (0, 1):
        kernel, stride, dilation = layer.kernel[axis], layer.stride[axis], layer.dilation[axis]
        end = (layer.out_map[axis] - 1) * stride - layer.pads[axis] + (kernel - 1) * dilation + 1
        if end < layer.in_map[axis] or (kernel < stride if dilation == 1 else stride > 1):
            return False
    return True
