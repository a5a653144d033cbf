# SPDX-License-Identifier: Apache-2.0
"""Buffers that are used in turn."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Slots"]


@dataclass(frozen=True)
class Slots:
    """Equal buffers behind each other in an engine's memory. Load or result number `index` uses slot index % count.

    base: word address of the first. words: of each.
    """

    base: int
    count: int
    words: int

    def at(self, index: int) -> int:
        """Word address."""
        return self.base + index % self.count * self.words

    @property
    def end(self) -> int:
        """Word address behind the last."""
        return self.base + self.count * self.words

    def used_before(self, index: int) -> bool:
        """Whether number `index` finds its slot with another one's contents."""
        return index >= self.count

    def used_again(self, index: int, uses: int) -> bool:
        """Whether the slot of number `index` serves another of `uses` in all."""
        return index + self.count < uses

    def __str__(self) -> str:
        return f"{self.count} x {self.words}"
