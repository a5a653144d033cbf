# SPDX-License-Identifier: Apache-2.0
"""Folding: equal neighbouring pieces of a program become loops, which do the same in less memory.

For machines whose programs are made without loops, step by step, and that have loops with fixed counts (hardware loops,
repeated descriptors, lists of a DMA).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["FoldedLoop", "Loops", "fold"]

P = TypeVar("P", bound=Hashable)

_MOST_PERIOD = 96
"""Pieces of a loop's body at most; looking for longer ones takes long and finds little."""


@dataclass(frozen=True)
class FoldedLoop(Generic[P]):
    """A body that is run `count` times: pieces, and loops."""

    count: int
    body: tuple[P | FoldedLoop[P], ...]


@dataclass(frozen=True)
class Loops(Generic[P]):
    """What a machine's loops can do and what they cost, in instructions.

    levels: how deep they can be nested. size: of a piece. inner: levels of loops that a piece has by itself.
    head: instructions that make a loop. apart: instructions between two ends of nested loops.
    """

    levels: int
    size: Callable[[P], int]
    inner: Callable[[P], int]
    head: int = 1
    apart: int = 1

    def size_of(self, node: P | FoldedLoop[P]) -> int:
        if isinstance(node, FoldedLoop):
            return self.head + sum(map(self.size_of, node.body)) + self.apart * isinstance(node.body[-1], FoldedLoop)
        return self.size(node)

    def levels_of(self, node: P | FoldedLoop[P]) -> int:
        """How deep loops are nested in a node."""
        return 1 + max(map(self.levels_of, node.body)) if isinstance(node, FoldedLoop) else self.inner(node)


def _fold(
    nodes: Sequence[P | FoldedLoop[P]], loops: Loops[P], most: int, short: bool = False
) -> list[P | FoldedLoop[P]]:
    """Replace neighbouring repetitions by loops, the most saving first at each place.

    short: the shortest first, so that equal pieces fold equally wherever they are. most: levels of loops.
    """
    numbers: dict[P | FoldedLoop[P], int] = {}
    ids = [numbers.setdefault(node, len(numbers)) for node in nodes]
    sizes = [loops.size_of(node) for node in nodes]
    levels = [loops.levels_of(node) for node in nodes]
    out: list[P | FoldedLoop[P]] = []
    i = 0
    while i < len(ids):
        best, best_saving = (1, 1), 0
        for period in range(1, min(_MOST_PERIOD, (len(ids) - i) // 2) + 1):
            if ids[i] != ids[i + period] or (short and best_saving):
                continue
            count = 1
            while ids[i + count * period : i + (count + 1) * period] == ids[i : i + period]:
                count += 1
            saving = (count - 1) * sum(sizes[i : i + period]) - loops.head - loops.apart
            if count > 1 and saving > best_saving and max(levels[i : i + period]) < most:
                best, best_saving = (period, count), saving
        period, count = best
        if count > 1:
            out.append(FoldedLoop(count, tuple(nodes[i : i + period])))
        else:
            out.append(nodes[i])
        i += period * count
    return out


def _rounds(nodes: list[P | FoldedLoop[P]], loops: Loops[P], short: bool) -> list[P | FoldedLoop[P]]:
    """Folded until there is nothing more to fold."""
    while True:
        folded = _fold(nodes, loops, loops.levels if short else max(loops.levels - 1, 1), short)
        if len(folded) == len(nodes):
            return nodes
        nodes = folded


def _deepen(node: P | FoldedLoop[P], loops: Loops[P], room: int) -> P | FoldedLoop[P]:
    """A loop with its body folded too, if that leaves it at most `room` levels."""
    if not isinstance(node, FoldedLoop):
        return node
    body = _fold([_deepen(inner, loops, room - 1) for inner in node.body], loops, loops.levels)
    return FoldedLoop(node.count, tuple(body)) if max(map(loops.levels_of, body)) < room else node


def fold(pieces: Iterable[P], loops: Loops[P], limit: int) -> tuple[list[P | FoldedLoop[P]], int]:
    """The program folded, and its instructions: the long repetitions first, and what is in them too; if that is more
    than `limit`, the short ones first."""
    text: list[P | FoldedLoop[P]] = list(pieces)
    nodes = [_deepen(node, loops, loops.levels) for node in _rounds(text, loops, short=False)]
    if sum(map(loops.size_of, nodes)) > limit:
        nodes = _rounds(text, loops, short=True)
    return nodes, sum(map(loops.size_of, nodes))
