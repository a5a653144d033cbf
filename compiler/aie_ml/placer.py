# SPDX-License-Identifier: Apache-2.0
"""Where layers' rectangles lie in the array.

The cost is AIE4ML's (arXiv 2512.15946, equation 2): for each edge of the graph, columns and rows from where the one
layer's results leave it, at mid-height of its right edge, to where the other takes them, at mid-height of its left
edge; and a little for each row that a layer is above the lowest. What a placement costs on this array is the way of its
circuits, if there are any: so several are made, and what measures them chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nncosim.compiler.aie_ml.floorplan import HEIGHT, UNIT, Edge, Floor, Rectangle, Spot
from nncosim.compiler.aie_ml.mapping import Box, Split
from nncosim.compiler.aie_ml.solver import COST, LATENCY, ROOM, SHARED, solved
from nncosim.compiler.errors import CompileError

__all__ = ["STRATEGIES", "Cost", "Measure", "cost_of", "fits", "placed"]

STRATEGIES = ("best", "branch-and-bound")
_WINDOW = 6
"""Columns to both sides of where a layer would touch the one before it."""
_MOST_TRIES = 300_000
"""Of the search, so that it ends; about a second."""

Cost = tuple[int, int]
"""What an objective counts, and the cycles of an inference: of equals the faster one."""
Measure = Callable[[tuple[Box, ...]], "Cost | None"]
"""Of a network placed so; None if there are no circuits for it."""


class _Search:
    """Depth-first branch and bound: the first layer in the corner, or the next spot that is not given to another; each
    other one near the last that it takes from.

    The bound is the cost of what is placed, and a column for each edge that is left, which no two rectangles can do
    without. Spots with less cost come first. Both only shorten the paper's search; what it finds costs the same.
    """

    def __init__(self, floor: Floor):
        self.floor, self.tries = floor, 0
        self.best, self.least = floor.first_fit(), 1 << 62
        if self.best is not None:
            self.least = floor.cost(self.best)
        self.rest = [UNIT * sum(b > layer for _, b in floor.edges) for layer in range(len(floor.rectangles))]
        self.known: dict[tuple[int, tuple[Spot, ...]], list[tuple[int, Spot, int]]] = {}

    def run(self) -> list[Spot] | None:
        floor = self.floor
        corner = next((spot for spot in floor.spots(0) if not floor.taken(0, spot) & floor.reserved), None)
        if corner is not None:
            self._place([corner], floor.reserved | floor.taken(0, corner), HEIGHT * corner[1])
        return self.best

    def _place(self, spots: list[Spot], taken: int, spent: int) -> None:
        layer = len(spots)
        if layer == len(self.floor.rectangles):
            if spent < self.least:
                self.best, self.least = spots, spent
            return
        for added, spot, cells in self._near(layer, spots):
            if spent + added + self.rest[layer] >= self.least or self.tries >= _MOST_TRIES:
                return
            self.tries += 1
            if not cells & taken:
                self._place([*spots, spot], taken | cells, spent + added)

    def _near(self, layer: int, spots: Sequence[Spot]) -> list[tuple[int, Spot, int]]:
        """(cost, spot, tiles that it takes), ascending by cost."""
        floor = self.floor
        before = max(floor.givers[layer], default=layer - 1)
        key = layer, tuple(spots[a] for a in (*floor.givers[layer], before))
        if key not in self.known:
            beside = spots[before][0] + floor.rectangles[before].width + floor.margin
            every = list(floor.spots(layer))
            near = [spot for spot in every if abs(spot[0] - beside) <= _WINDOW or layer in floor.anchors]
            self.known[key] = sorted(
                ((floor.added(layer, spot, spots), spot, floor.taken(layer, spot)) for spot in near or every),
                key=lambda each: (each[0], abs(each[1][0] - beside), each[1]),
            )
        return self.known[key]


def _floor(
    splits: Sequence[Split], edges: Sequence[Edge], columns: int, rows: int, margin: int = 0,
    anchors: Mapping[int, Spot] | None = None, savings: Mapping[Edge, int] | None = None,
) -> Floor:
    shapes = tuple(Rectangle(split.cascade, split.rows) for split in splits)
    return Floor(shapes, tuple(edges), columns, rows, margin, anchors or {}, savings or {})


def cost_of(boxes: Sequence[Box], edges: Sequence[Edge], first_row: int = 0) -> float:
    """Equation 2, in columns. first_row: the lowest row of cores."""
    floor = _floor([box.split for box in boxes], edges, 0, 0)
    return floor.cost([(box.column, box.row - first_row) for box in boxes]) / UNIT


def fits(splits: Sequence[Split], columns: int, rows: int, margin: int = 0) -> bool:
    """Whether a placement was found."""
    if sum(split.tiles for split in splits) > columns * rows:
        return False
    floor = _floor(splits, (), columns, rows, margin)
    return bool(floor.side_by_side() or floor.first_fit() or solved(floor, ROOM))


def _check_anchors(floor: Floor, names: Sequence[str], first_row: int) -> None:
    """Raises CompileError: one is outside the array, or two overlap."""
    for layer, (x, y) in floor.anchors.items():
        if not 0 <= layer < len(names):
            raise CompileError(f"layer {layer} has a fixed place, and there are {len(names)} layers, the first is 0")
        shape, at = floor.rectangles[layer], f"column {x}, row {y + first_row}"
        if not floor.inside(layer, (x, y)):
            raise CompileError(
                f"{names[layer]} cannot lie at {at}: its {shape.width} columns and {shape.height} rows are not all in "
                f"the array, which has columns 0 to {floor.columns - 1} and rows {first_row} to "
                f"{first_row + floor.rows - 1}; choose another place, or none")  # fmt: skip
        for other in range(layer):
            if other in floor.anchors and floor.cells(layer, (x, y)) & floor.cells(other, floor.anchors[other]):
                raise CompileError(f"{names[layer]} cannot lie at {at}: {names[other]} takes some of these tiles; "
                                   "choose another place for one of them, or none")  # fmt: skip


def _candidates(floor: Floor) -> list[list[Spot]]:
    """Placements worth a measurement, each once, those with less cost first; none if there are none."""
    bound = _Search(floor).run()
    start = bound or floor.side_by_side() or solved(floor, ROOM)
    least = solved(floor, COST, start)
    if least and not floor.anchors:
        left = min(x for x, _ in least)
        least = [(x - left, y) for x, y in least]
    short = solved(floor, LATENCY, least or start)
    shared = solved(floor, SHARED, short) if floor.savings else None
    found = [each for each in (start, least, short, floor.side_by_side(), shared) if each]
    return sorted({tuple(each): each for each in found}.values(), key=floor.cost)


def placed(
    splits: Sequence[Split], edges: Sequence[Edge], columns: int, rows: int, *, strategy: str = "best",
    first_row: int = 0, margin: int = 0, anchors: Mapping[int, Spot] | None = None, measure: Measure | None = None,
    names: Sequence[str] = (), savings: Mapping[Edge, int] | None = None,
) -> tuple[Box, ...]:
    """A box for each layer; no two have a tile in common.

    Args:
        edges: of a graph without rings, whose layers are numbered so that each is behind those it takes from.
        columns, rows: of cores; first_row: number of the lowest row, in boxes and anchors.
        strategy: "branch-and-bound" is the paper's; "best" has no more cost, or (with `measure`) no more cycles.
        margin: free columns left of each box but at the array's edge; 1 in the paper, whose inputs lie there.
        anchors: of some layers, the column and row of the box's tile nearest to the corner.
        names: of the layers, for messages. savings: as of `nncosim.compiler.aie_ml.floorplan.Floor`: "best" tries such
            a placement, too.

    Raises:
        CompileError: no placement was found, or `measure` takes none; an anchor is wrong.
        ValueError: a strategy that there is not, or an edge backwards.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be {' or '.join(STRATEGIES)}, not {strategy!r}")
    if wrong := [edge for edge in edges if not 0 <= edge[0] < edge[1] < len(splits)]:
        raise ValueError(f"edge {wrong[0]} does not lead from one of {len(splits)} layers to a later one")
    given = {layer: (column, row - first_row) for layer, (column, row) in (anchors or {}).items()}
    floor = _floor(splits, edges, columns, rows, margin, given, savings)
    _check_anchors(floor, names or [f"layer {k}" for k in range(len(splits))], first_row)
    found = _candidates(floor) if strategy == "best" else [each for each in (_Search(floor).run(),) if each]
    if not found:
        raise CompileError(
            f"no placement of {len(splits)} layers with {sum(split.tiles for split in splits)} tiles "
            f"({' '.join(map(str, splits))}, columns x rows) was found in {columns} x {rows} tiles; use fewer tiles "
            "for some layers, or a larger array" + (", or the strategy 'best'" if strategy != "best" else "")
            + (", or no fixed places" if given else ""))  # fmt: skip
    ways = [tuple(Box(split, x, y + first_row) for split, (x, y) in zip(splits, spots, strict=True)) for spots in found]
    if measure is None:
        return ways[0]
    cycles = [(each, n) for n, each in enumerate(map(measure, ways)) if each is not None]
    if not cycles:
        raise CompileError(f"none of {len(ways)} placements of {' '.join(map(str, splits))} (columns x rows) in "
                           f"{columns} x {rows} tiles has a circuit for each stream; use fewer tiles for some layers, "
                           "or a larger array")  # fmt: skip
    return ways[min(cycles)[1]]
