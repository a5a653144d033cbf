# SPDX-License-Identifier: Apache-2.0
"""Rectangles in an array: which tiles they take, what their places cost by AIE4ML, and two simple ways to place them.

Rows are counted from the lowest row of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["HEIGHT", "UNIT", "Edge", "Floor", "Rectangle", "Spot", "way"]

UNIT, HEIGHT = 20, 1
"""Of the cost, in twentieths: a column or row between two layers (the paper's lambda is 1.0), a row of height (its mu
is 0.05)."""

Edge = tuple[int, int]
"""Numbers of a layer and of one that takes its results."""
Spot = tuple[int, int]
"""Column and row of a rectangle's tile that is nearest to the array's corner."""


@dataclass(frozen=True)
class Rectangle:
    width: int
    height: int

    @property
    def middle(self) -> int:
        """Row, within it, at which streams enter on its left and leave on its right."""
        return self.height // 2


def way(start: Spot, giver: Rectangle, end: Spot, taker: Rectangle) -> int:
    """Columns and rows from where results leave one rectangle to where another takes them."""
    columns = end[0] - (start[0] + giver.width - 1)
    return abs(columns) + abs(end[1] + taker.middle - start[1] - giver.middle)


@dataclass(frozen=True, eq=False)
class Floor:
    """What is to be placed, and where. margin: columns left of each rectangle that no other may have; at the array's
    left edge there are none. anchors: spots that are given. savings: cycles that some edges need less where the taker
    lies right of the giver, from the same row on."""

    rectangles: tuple[Rectangle, ...]
    edges: tuple[Edge, ...]
    columns: int
    rows: int
    margin: int
    anchors: Mapping[int, Spot]
    savings: Mapping[Edge, int] = field(default_factory=dict)

    @cached_property
    def givers(self) -> tuple[tuple[int, ...], ...]:
        """Of each layer, those whose results it takes."""
        return tuple(tuple(a for a, b in self.edges if b == layer) for layer in range(len(self.rectangles)))

    def inside(self, layer: int, spot: Spot) -> bool:
        (x, y), shape = spot, self.rectangles[layer]
        return 0 <= x <= self.columns - shape.width and 0 <= y <= self.rows - shape.height

    def cells(self, layer: int, spot: Spot) -> int:
        """Tiles that it takes with its margin, a bit each."""
        (x, y), shape = spot, self.rectangles[layer]
        high = ((1 << shape.height) - 1) << y
        return sum(high << column * self.rows for column in range(max(0, x - self.margin), x + shape.width))

    def taken(self, layer: int, spot: Spot) -> int:
        """Tiles that it takes besides those that are reserved: none, if its spot is given."""
        return 0 if layer in self.anchors else self.cells(layer, spot)

    @cached_property
    def reserved(self) -> int:
        """Tiles of all whose spots are given."""
        tiles = 0
        for layer, spot in self.anchors.items():
            tiles |= self.cells(layer, spot)
        return tiles

    def spots(self, layer: int) -> Iterator[Spot]:
        """All that it may have; the lowest come first, of those the leftmost."""
        if layer in self.anchors:
            yield self.anchors[layer]
            return
        shape = self.rectangles[layer]
        for y in range(self.rows - shape.height + 1):
            yield from ((x, y) for x in range(self.columns - shape.width + 1))

    def added(self, layer: int, spot: Spot, before: Sequence[Spot]) -> int:
        """Cost of one layer more."""
        ways = (way(before[a], self.rectangles[a], spot, self.rectangles[layer]) for a in self.givers[layer])
        return UNIT * sum(ways) + HEIGHT * spot[1]

    def cost(self, spots: Sequence[Spot]) -> int:
        """Equation 2, in twentieths of a column."""
        return sum(self.added(layer, spot, spots) for layer, spot in enumerate(spots))

    def side_by_side(self) -> list[Spot] | None:
        """From the corner to the right; None if that does not fit, or spots are given."""
        spots, x = [], 0
        for layer, shape in enumerate(self.rectangles):
            if not self.inside(layer, (x, 0)) or self.anchors:
                return None
            spots.append((x, 0))
            x += shape.width + self.margin
        return spots

    def first_fit(self) -> list[Spot] | None:
        """Each right of the one before it, or else in the first spot that is free; None if one has none."""
        spots: list[Spot] = []
        taken = self.reserved
        for layer in range(len(self.rectangles)):
            near = []
            if spots and layer not in self.anchors:
                beside = spots[-1][0] + self.rectangles[layer - 1].width + self.margin, spots[-1][1]
                near = [beside] if self.inside(layer, beside) else []
            found = next((s for s in (*near, *self.spots(layer)) if not self.taken(layer, s) & taken), None)
            if found is None:
                return None
            spots.append(found)
            taken |= self.taken(layer, found)
        return spots
