# SPDX-License-Identifier: Apache-2.0
"""Sharing a layer among engines, and each one's share among steps: which ways of cutting are worth an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Grid", "cuts", "doublings", "grids", "split"]


@dataclass(frozen=True)
class Grid:
    """How engines share a layer: rows x columns of the map x ranges of output blocks."""

    rows: int
    columns: int
    channels: int

    @property
    def engines(self) -> int:
        return self.rows * self.columns * self.channels

    def over(self, engines: str) -> str:
        """For people. engines: what they are called."""
        return f"{self.rows} x {self.columns} x {self.channels} {engines} (rows x columns x channels)"


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


def grids(rows: int, columns: int, blocks: int, engines: int) -> Iterator[Grid]:
    """Ways to share a layer among that many engines. rows, columns, blocks: parts that each axis has at most."""
    n = engines
    for py in range(1, min(n, rows) + 1):
        for px in range(1, min(n // py, columns) + 1):
            for pc in range(1, min(n // (py * px), blocks) + 1):
                # Grids that leave engines idle are worth a look only if no axis can take another.
                if (py + 1) * px * pc > n or py == rows:
                    if py * (px + 1) * pc > n or px == columns:
                        if py * px * (pc + 1) > n or pc == blocks:
                            yield Grid(py, px, pc)


def cuts(size: int, most: int) -> list[int]:
    """Numbers of parts worth trying: those that change the size of a part."""
    out, seen = [], set()
    for parts in range(1, min(size, most) + 1):
        part = -(-size // parts)
        if part not in seen:
            seen.add(part)
            out.append(parts)
    return out


def doublings(share: int) -> list[int]:
    """Numbers of blocks a step worth trying: powers of two, and the whole share."""
    out = [1]
    while out[-1] * 2 <= share:
        out.append(out[-1] * 2)
    if share not in out:
        out.append(share)
    return out
