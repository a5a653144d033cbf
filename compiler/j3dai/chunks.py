# SPDX-License-Identifier: Apache-2.0
"""Cutting: ranges of units, and one output block's weights into pieces."""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.kernels.j3dai.nest import Nest

__all__ = ["Chunk", "chunks_of", "split"]


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


def split(total: int, parts: int, unit: int = 1) -> list[tuple[int, int]]:
    """Cut 0..total into `parts` ranges of whole units, the longer ones first; empty ranges are left out."""
    units = -(-total // unit)
    quotient, rest = divmod(units, parts)
    out, at = [], 0
    for i in range(parts):
        size = quotient + (i < rest)
        if size:
            out.append((at * unit, min((at + size) * unit, total)))
        at += size
    return out


def chunks_of(nest: Nest, words: int) -> tuple[Chunk, ...]:
    """Cut one block's weights into pieces of at most `words` that address generator A can walk."""
    kh, kw = nest.kernel
    blocks, plane = nest.reads[0][1], kh * kw * nest.lanes
    out: list[Chunk] = []

    def add(c0: int, n: int, r0: int, rows: int, k0: int, columns: int) -> None:
        start = out[-1].start + out[-1].words if out else 0
        out.append(Chunk(c0, n, r0, rows, k0, columns, start, n * rows * columns * nest.lanes))

    if plane <= words:
        for low, high in split(blocks, -(-blocks // (words // plane))):
            add(low, high - low, 0, kh, 0, kw)
        return tuple(out)
    row = kw * nest.lanes
    for c in range(blocks):
        if row <= words:
            for low, high in split(kh, -(-kh // (words // row))):
                add(c, 1, low, high - low, 0, kw)
        else:
            for r in range(kh):
                for low, high in split(kw, -(-kw // (words // nest.lanes))):
                    add(c, 1, r, 1, low, high - low)
    return tuple(out)
