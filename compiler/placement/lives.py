# SPDX-License-Identifier: Apache-2.0
"""When each part of a buffer is in use, and at which distances two buffers may therefore lie over each other.

A platform whose memory traffic has one order, enforced by the hardware, can say for every unit of a buffer at which
position of that order it is written first and used last. Two units may share an address if one is used last
before the other is written first. Predicted times play no part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["BEFORE", "BEHIND", "Life", "Lives", "clashes", "expand", "forbidden", "live_peak"]

BEFORE, BEHIND = -1, 1 << 60
"""Positions of what comes from outside before the order begins, and of what is read outside after its end."""

_MOST_SEGMENTS = 3000

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Life:
    """Use of a buffer. Units start[i]..stop[i]-1 are written at position born[i] and used last at dies[i].

    Segments ascend and do not touch each other's units; what lies between them is never used.
    """

    start: _Ints
    stop: _Ints
    born: _Ints
    dies: _Ints

    @classmethod
    def of_units(cls, born: _Ints, dies: _Ints) -> Life:
        """From one value a unit; those with dies < born are not in use."""
        if not len(born):
            return cls(*(np.zeros(0, np.int64) for _ in range(4)))
        cut = np.flatnonzero((born[1:] != born[:-1]) | (dies[1:] != dies[:-1])) + 1
        start = np.concatenate([[0], cut]).astype(np.int64)
        stop = np.concatenate([cut, [len(born)]]).astype(np.int64)
        used = dies[start] >= born[start]
        return cls(start[used], stop[used], born[start][used], dies[start][used])

    @property
    def first(self) -> int:
        """Position of the first write."""
        return int(self.born.min(initial=BEHIND))

    @property
    def last(self) -> int:
        return int(self.dies.max(initial=BEFORE))

    @property
    def whole(self) -> bool:
        """Whether no unit between the first and the last is never used."""
        return bool(np.all(self.start[1:] == self.stop[:-1]))

    def within(self, first: int, last: int) -> Life:
        """Only segments that are in use at some position from `first` to `last`."""
        used = (self.born <= last) & (self.dies >= first)
        return Life(self.start[used], self.stop[used], self.born[used], self.dies[used])

    def coarse(self, most: int = _MOST_SEGMENTS) -> Life:
        """With about `most` segments, where gaps allow: neighbours joined, in use whenever one of them is."""
        if len(self.start) <= most:
            return self
        group = -(-len(self.start) // most)
        begins = np.arange(len(self.start)) % group == 0
        begins[1:] |= self.start[1:] != self.stop[:-1]
        at = np.flatnonzero(begins)
        ends = np.append(at[1:], len(self.start)) - 1
        return Life(
            self.start[at], self.stop[ends], np.minimum.reduceat(self.born, at), np.maximum.reduceat(self.dies, at)
        )


@dataclass(frozen=True, eq=False)
class Lives:
    """Of the buffers of one instance of a memory, by name (none that lie inside another).

    unit: bytes. steps: (first position, name) of each layer, ascending.
    """

    memory: str
    unit: int
    of: Mapping[str, Life] = field(default_factory=dict)
    steps: tuple[tuple[int, str], ...] = ()
    instance: int = 0

    @property
    def where(self) -> tuple[str, int]:
        """Memory and instance."""
        return self.memory, self.instance

    def step_at(self, position: int) -> str:
        """The layer that a position belongs to."""
        name = self.steps[0][1] if self.steps else ""
        for first, step in self.steps:
            if first > position:
                break
            name = step
        return name


def forbidden(a: Life, b: Life) -> list[tuple[int, int]]:
    """Distances (address of b - address of a), in units, at which a unit of both is in use at a time.

    Gives ascending ranges (low, high) with high excluded; what they leave out is safe.
    """
    if a.last < b.first or b.last < a.first or not len(a.start) or not len(b.start):
        return []
    lowest, highest = int(a.start[0] - b.stop[-1]) + 1, int(a.stop[-1] - b.start[0])
    if a.whole and b.whole and a.born.max() <= b.dies.min() and b.born.max() <= a.dies.min():
        return [(lowest, highest)]
    a, b = a.within(b.first, b.last).coarse(), b.within(a.first, a.last).coarse()
    change = np.zeros(highest - lowest + 2, np.int64)
    if not len(a.start) or not len(b.start):
        return []
    rows = max(1, 2_000_000 // len(b.start))
    for at in range(0, len(a.start), rows):
        part = slice(at, at + rows)
        both = (a.born[part, None] <= b.dies) & (b.born <= a.dies[part, None])
        i, j = np.nonzero(both)
        low = a.start[part][i] - b.stop[j] + 1 - lowest
        high = a.stop[part][i] - b.start[j] - lowest
        change += np.bincount(low, minlength=len(change)) - np.bincount(high, minlength=len(change))
    taken = np.concatenate([[False], np.cumsum(change) > 0, [False]])
    edges = np.flatnonzero(taken[1:] != taken[:-1]) + lowest
    return [(int(low), int(high)) for low, high in edges.reshape(-1, 2)]


def clashes(lives: Lives, address: Mapping[str, int], names: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Pairs of buffers of which a unit shares its address with one of the other while both are in use.

    Unit by unit, for a check of what was placed by `forbidden`. address: byte of each buffer's beginning.
    """
    chosen = sorted(lives.of if names is None else names)
    rows = [(name, lives.of[name], address[name] // lives.unit) for name in chosen if len(lives.of[name].start)]
    found = []
    for k, (name, life, base) in enumerate(rows):
        for other, life2, base2 in rows[k + 1 :]:
            low = max(base + int(life.start[0]), base2 + int(life2.start[0]))
            high = min(base + int(life.stop[-1]), base2 + int(life2.stop[-1]))
            if low >= high:
                continue
            born, dies = expand(life, low - base, high - base)
            born2, dies2 = expand(life2, low - base2, high - base2)
            if bool(np.any((born <= dies2) & (born2 <= dies) & (born <= dies) & (born2 <= dies2))):
                found.append((name, other))
    return found


def expand(life: Life, low: int, high: int) -> tuple[_Ints, _Ints]:
    """(born, dies) of units low..high-1; those never used have dies < born."""
    units = np.arange(low, high)
    at = np.searchsorted(life.start, units, side="right") - 1
    inside = (at >= 0) & (units < life.stop[at])
    return np.where(inside, life.born[at], BEHIND), np.where(inside, life.dies[at], BEFORE - 1)


def live_peak(lives: Lives) -> tuple[int, int]:
    """(bytes, position): most units in use at one position, and where. No placement can do with fewer bytes."""
    starts = [np.maximum(life.born, BEFORE) for life in lives.of.values()]
    if not starts:
        return 0, BEFORE
    length = np.concatenate([life.stop - life.start for life in lives.of.values()])
    born = np.concatenate(starts)
    dies = np.concatenate([life.dies for life in lives.of.values()])
    when = np.concatenate([born, dies + 1])
    order = np.argsort(when, kind="stable")
    total = np.cumsum(np.concatenate([length, -length])[order])
    # All changes at one position count together: only the last of them is a state.
    last = np.append(when[order][1:] != when[order][:-1], True)
    states, at = total[last], when[order][last]
    if not len(states):
        return 0, BEFORE
    best = int(np.argmax(states))
    return int(states[best]) * lives.unit, int(at[best])
