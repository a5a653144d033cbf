# SPDX-License-Identifier: Apache-2.0
"""What a layer's list can already do for the layers after it: load their programs, and weights where there is room.

Tokens are counted, and the mover works in order (see `order`). So what is loaded early must come behind everything that
gives the same token to the same engine for a layer before; an engine then takes for each layer what was loaded for
it. One that is started early waits for its first input, which comes with its own list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from nncosim.compiler.transfers.order import Synchronised

__all__ = ["Loaded", "Movable", "Range", "load_ahead"]

_LAYERS = 3
"""How many lists ahead of its own something may be loaded."""

_BUSY = 0.75
"""Share of a layer's cycles in which the mover may be busy before what it does for others costs time."""


@dataclass(frozen=True)
class Range:
    """Words of an engine's memory."""

    start: int
    words: int

    @property
    def end(self) -> int:
        return self.start + self.words

    def apart(self, other: Range) -> bool:
        return self.end <= other.start or other.end <= self.start


class Loaded(Synchronised, Protocol):
    """A transfer that may be moved ahead.

    early: whether it needs nothing of its layer to have begun. loads: whether it writes engines' memories.
    touched: (memory, words from the first to the last) that it writes there; only asked of early ones.
    """

    @property
    def early(self) -> bool: ...

    @property
    def loads(self) -> bool: ...

    @property
    def touched(self) -> Sequence[tuple[str, Range]]: ...


T = TypeVar("T", bound=Loaded)
T_co = TypeVar("T_co", bound=Loaded, covariant=True)


class Movable(Protocol[T_co]):
    """A layer whose program and weights may lie anywhere in its engines' memories.

    cycles: of the layer on its own. needs: words of each memory. transfers: in order, for the place where it is.
    """

    @property
    def cycles(self) -> int: ...

    @property
    def needs(self) -> Mapping[str, int]: ...

    @property
    def transfers(self) -> Sequence[T_co]: ...

    def at(self, bases: Mapping[str, int]) -> Self:
        """The same layer elsewhere. bases: first word of each memory."""


A = TypeVar("A", bound=Movable)


@dataclass
class _List(Generic[A, T]):
    """A layer's list being made. own: the layer's transfers in order, `early` those for later layers.

    slack: cycles that the mover has left for later layers.
    """

    layer: A
    ranges: Mapping[str, Range]
    own: list[T]
    early: list[T]
    slack: int

    def merged(self) -> tuple[T, ...]:
        """The early ones between the loads of the list's second half, but behind all for the same semaphores."""
        if not self.early:
            return tuple(self.own)
        # A token says no more than that one more transfer has landed: were an early one ahead of the list's own for the
        # same token, an engine would take it for what its running layer waits for.
        signals = {t.signal for t in self.early}
        first = max((i + 1 for i, t in enumerate(self.own) if t.signal in signals and t.loads), default=0)
        last = max((i + 1 for i, t in enumerate(self.own) if t.loads), default=0)
        at = max(first, last // 2)
        # Before a transfer that waits, the mover has time. What is not gone by the last load goes ahead of the stores
        # of the end, of which each waits for engines.
        out, waiting = self.own[:at], list(self.early)
        for transfer in self.own[at:last]:
            if waiting and transfer.wait is not None:
                out.append(waiting.pop(0))
            out.append(transfer)
        return (*out, *waiting, *self.own[last:])


def _beside(before: Sequence[Range], words: int, size: int) -> Range:
    """A range of `words` that touches none of those, of which the last matter most; else the memory's beginning."""
    for first in range(len(before)):
        others = before[first:]
        for start in sorted({0, *(other.end for other in others)}):
            found = Range(start, words)
            if found.end <= size and all(found.apart(other) for other in others):
                return found
    return Range(0, words)


def load_ahead(
    layers: Sequence[A], size: Mapping[str, int], cycles: Callable[[T], int]
) -> list[tuple[A, tuple[T, ...]]]:
    """All layers, each at its place in the engines' memories, and with its list, which does for the next ones what it
    can.

    Args:
        size: words of each memory that something may be loaded to ahead of time. cycles: of a transfer, about.
    """
    lists: list[_List[A, T]] = []
    latest: dict[tuple[int | None, int], int] = {}  # (token, engine) -> list of the last transfer that gives it
    for number, layer in enumerate(layers):
        near = lists[-_LAYERS:]
        ranges = {m: _beside([before.ranges[m] for before in near], layer.needs[m], size[m]) for m in size}
        layer = layer.at({memory: found.start for memory, found in ranges.items()})
        this = _List[A, T](layer, ranges, [], [], 0)
        busy = 0
        lists.append(this)
        for transfer in layer.transfers:
            keys = [(transfer.signal, engine) for engine in transfer.members]
            cost = cycles(transfer)
            first = max(number - _LAYERS, *(latest.get(key, 0) for key in keys), 0)
            at = _choose(lists, first, transfer, cost, size) if transfer.early else number
            latest.update(dict.fromkeys(keys, at))
            if at == number:
                this.own.append(transfer)
                busy += cost
            else:
                lists[at].early.append(transfer)
                lists[at].slack -= cost
        this.slack = max(0, int(_BUSY * layer.cycles) - busy)
    return [(each.layer, each.merged()) for each in lists]


def _choose(lists: Sequence[_List[A, T]], first: int, transfer: T, cost: int, size: Mapping[str, int]) -> int:
    """The list that is to hold a transfer of the last layer: the nearest with time for it, not before `first`."""
    # Backwards from its own list: it can go one list further ahead as long as nothing there uses the words that it
    # writes. The first list with time for all of it is taken; if none has, the one with most time left.
    number = len(lists) - 1
    best = number
    for at in range(number - 1, first - 1, -1):
        for memory, touched in transfer.touched:
            if touched.end > size[memory] or not touched.apart(lists[at].ranges[memory]):
                return best
        if best == number or lists[at].slack > max(lists[best].slack, 0):
            best = at
        if lists[best].slack >= cost:
            return best
    return best
