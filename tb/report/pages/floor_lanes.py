# SPDX-License-Identifier: Apache-2.0
"""Lines over a floor plan that do not cover each other: each straight run of a link has a lane of its row or column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nncosim.tb.floor_plan import FloorLink, Point

__all__ = ["Lanes", "branches", "lanes_of"]

Track = tuple[int, int]
"""An axis (0: a row, whose lanes lie above each other; 1: a column) and its number."""


@dataclass
class Lanes:
    """of: (link, axis, tile) -> lane, where the link runs along that axis there. counts: lanes of each row and column
    that has some."""

    of: dict[tuple[int, int, Point], int] = field(default_factory=dict)
    counts: dict[Track, int] = field(default_factory=dict)

    def offset(self, link: int, axis: int, at: Point) -> float:
        """Of a link from the middle of a tile, in lanes; 0 where it does not run along that axis."""
        lane = self.of.get((link, axis, at))
        return 0.0 if lane is None else lane - (self.counts[axis, at[1 - axis]] - 1) / 2


def branches(link: FloorLink) -> list[tuple[Point, ...]]:
    """A link's ways without what an earlier one has drawn already: each begins on one of those before it."""
    seen: set[Point] = set()
    found = []
    for way in link.ways:
        start = max((k for k, point in enumerate(way) if point in seen), default=0)
        if len(way) > start + 1:
            found.append(way[start:])
        seen.update(way)
    return found


def _runs(link: FloorLink) -> Iterable[tuple[Track, int, int]]:
    """Maximal straight pieces, from a first tile to a last one."""
    pieces: dict[Track, list[tuple[int, int]]] = {}
    for branch in branches(link):
        for a, b in pairwise(branch):
            axis = int(a[0] == b[0])
            pieces.setdefault((axis, a[1 - axis]), []).append((min(a[axis], b[axis]), max(a[axis], b[axis])))
    for track, found in pieces.items():
        begin, end = min(found)
        for low, high in sorted(found):
            if low > end:
                yield track, begin, end
                begin = low
            end = max(end, high)
        yield track, begin, end


def lanes_of(links: Sequence[FloorLink]) -> Lanes:
    """A lane for each run, the lowest that is free over its whole length; long runs first, so that these are nearest to
    each other."""
    lanes = Lanes()
    taken: dict[tuple[Track, int], list[tuple[int, int]]] = {}
    runs = [(number, *run) for number, link in enumerate(links) for run in _runs(link)]
    for number, track, begin, end in sorted(runs, key=lambda run: (run[2] - run[3], run[0])):
        lane = 0
        while any(low <= end and begin <= high for low, high in taken.get((track, lane), ())):
            lane += 1
        taken.setdefault((track, lane), []).append((begin, end))
        lanes.counts[track] = max(lanes.counts.get(track, 0), lane + 1)
        axis, fixed = track
        for at in range(begin, end + 1):
            lanes.of[number, axis, (at, fixed) if axis == 0 else (fixed, at)] = lane
    return lanes
