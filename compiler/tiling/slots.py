# SPDX-License-Identifier: Apache-2.0
"""Where buffers lie in an engine's memory: those that are used in turn, and those between members of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Slots", "opposite_ends", "two_of_each"]


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


def two_of_each(words: tuple[int, int], uses: tuple[int, int], room: int) -> tuple[Slots, Slots] | None:
    """Buffers of inputs and, behind them, of results: two of each, so that transfers and work overlap; where they do
    not fit, one input and two results, else one of each. None if not even those fit.

    Args:
        words: of an input and of a result. uses: loads of inputs, and results: there are no more buffers than that.
        room: words of the memory.
    """
    for most in ((2, 2), (1, 2), (1, 1)):
        inputs = Slots(0, min(most[0], uses[0]), words[0])
        outputs = Slots(inputs.end, min(most[1], uses[1]), words[1])
        if outputs.end <= room:
            return inputs, outputs
    return None


def opposite_ends(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Where the results between members of a chain lie, and how many words they take together: each is used with the
    one before and the one behind it only, so neighbours lie at opposite ends of a range."""
    total = max([*sizes, *(a + b for a, b in pairwise(sizes))], default=0)
    return tuple(total - size if i % 2 else 0 for i, size in enumerate(sizes)), total
