# SPDX-License-Identifier: Apache-2.0
"""Cutting one output block's weights into pieces, of a layer that cannot hold even one block's at a time."""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.compiler.tiling.grids import split

__all__ = ["Chunk", "chunks_of"]


@dataclass(frozen=True)
class Chunk:
    """A piece of a block's weights: input blocks c0.., kernel rows r0.., kernel columns k0.., and its words."""

    c0: int
    blocks: int
    r0: int
    rows: int
    k0: int
    columns: int
    start: int
    words: int


def chunks_of(kernel: tuple[int, int], blocks: int, lanes: int, words: int) -> tuple[Chunk, ...]:
    """Cut one block's weights into pieces of at most `words`, each of them a box of (input blocks, rows, columns), so
    that an address generator can walk it: whole blocks if they fit, else rows of one block, else parts of one row.

    Args:
        kernel: (rows, columns). blocks: of input. lanes: words of weights for each block, row and column.
    """
    kh, kw = kernel
    plane = kh * kw * lanes
    out: list[Chunk] = []

    def add(c0: int, n: int, r0: int, rows: int, k0: int, columns: int) -> None:
        start = out[-1].start + out[-1].words if out else 0
        out.append(Chunk(c0, n, r0, rows, k0, columns, start, n * rows * columns * lanes))

    if plane <= words:
        for low, high in split(blocks, -(-blocks // (words // plane))):
            add(low, high - low, 0, kh, 0, kw)
        return tuple(out)
    row = kw * lanes
    for c in range(blocks):
        if row <= words:
            for low, high in split(kh, -(-kh // (words // row))):
                add(c, 1, low, high - low, 0, kw)
        else:
            for r in range(kh):
                for low, high in split(kw, -(-kw // (words // lanes))):
                    add(c, 1, r, 1, low, high - low)
    return tuple(out)
