# SPDX-License-Identifier: Apache-2.0
"""Rectangles placed by a constraint solver: the least cost of all placements, or the shortest circuits, or any at all.

One worker, a seed, and a limit that counts work: the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence

from nncosim.compiler.aie_ml.floorplan import HEIGHT, UNIT, Edge, Floor, Spot
from ortools.sat.python import cp_model

__all__ = ["COST", "LATENCY", "ROOM", "SHARED", "solved"]

COST, LATENCY, SHARED, ROOM = "cost", "latency", "shared", "room"
"""What is wanted: the least of equation 2; the fewest cycles on the longest way of streams and cascades; the same with
what sharing buffers saves; just room."""
HOP, CASCADE = 4, 20
"""Cycles: from a tile's stream switch to its neighbour's; at least, from a core's start to that of the next in its
chain."""
_LONGEST = 1 << 16
_LIMITS = {COST: 0.6, LATENCY: 1.0, SHARED: 1.0, ROOM: 0.3}  # deterministic: about seconds, but counted in work

_Sum = cp_model.LinearExprT


class _Model:
    def __init__(self, floor: Floor):
        self.floor, self.model = floor, cp_model.CpModel()
        make, shapes = self.model, floor.rectangles
        self.x = [make.new_int_var(0, floor.columns - s.width, f"x{k}") for k, s in enumerate(shapes)]
        self.y = [make.new_int_var(0, floor.rows - s.height, f"y{k}") for k, s in enumerate(shapes)]
        make.add_no_overlap_2d(
            [make.new_fixed_size_interval_var(x - floor.margin, s.width + floor.margin, f"w{k}")
             for k, (x, s) in enumerate(zip(self.x, shapes, strict=True))],
            [make.new_fixed_size_interval_var(y, s.height, f"h{k}")
             for k, (y, s) in enumerate(zip(self.y, shapes, strict=True))],
        )  # fmt: skip
        for layer, (x, y) in floor.anchors.items():
            make.add(self.x[layer] == x)
            make.add(self.y[layer] == y)

    def largest(self, *sums: _Sum) -> cp_model.IntVar:
        """At least each of them, and no more where it is minimized."""
        most = self.model.new_int_var(0, 2 * (self.floor.columns + self.floor.rows), "")
        for each in sums:
            self.model.add(most >= each)
        return most

    def cost(self) -> _Sum:
        shapes, total = self.floor.rectangles, HEIGHT * sum(self.y)
        for a, b in self.floor.edges:
            dx = self.x[b] - self.x[a] - (shapes[a].width - 1)
            dy = self.y[b] + shapes[b].middle - self.y[a] - shapes[a].middle
            total += UNIT * (self.largest(dx, -dx) + self.largest(dy, -dy))
        return total

    def lost(self, edge: Edge) -> cp_model.IntVar:
        """Cycles that are not saved, as the taker does not lie right of the giver."""
        (a, b), beside = edge, self.model.new_bool_var("")
        lost = self.model.new_int_var(0, _LONGEST, "")
        self.model.add(self.x[b] == self.x[a] + self.floor.rectangles[a].width).only_enforce_if(beside)
        self.model.add(self.y[b] == self.y[a]).only_enforce_if(beside)
        self.model.add(lost == self.floor.savings.get(edge, 0) * (1 - beside))
        return lost

    def latency(self, *, shared: bool) -> _Sum:
        """Cycles on the longest way from the shim through hops and cascades back to the shim; how long the kernels take
        is left out. A column takes what the chains with the same part of the tensor give, in all of its rows.

        shared: with those that are not saved by sharing."""
        floor, shapes, model = self.floor, self.floor.rectangles, self.model
        ends = [[model.new_int_var(0, _LONGEST, "") for _ in range(s.height)] for s in shapes]
        for b, shape in enumerate(shapes):
            for a in floor.givers[b]:
                rise, lost = self.y[b] - self.y[a], self.lost((a, b)) if shared and (a, b) in floor.savings else 0
                up = {n: self.largest(rise + n, -rise - n) for n in range(1 - shapes[a].height, shape.height)}
                for c in range(shape.width):
                    dx = self.x[b] + c - self.x[a] - (shapes[a].width - 1)
                    along, behind = self.largest(dx, -dx), CASCADE * (shape.width - c)
                    for chain in _common(c, shape.width, shapes[a].height):
                        for r, end in enumerate(ends[b]):
                            model.add(end >= ends[a][chain] + HOP * (along + up[r - chain]) + behind + lost)
            if not floor.givers[b]:
                for r, end in enumerate(ends[b]):
                    model.add(end >= HOP * (self.y[b] + r + 1) + CASCADE * shape.width)
        last = model.new_int_var(0, _LONGEST, "")
        for a in set(range(len(shapes))) - {a for a, _ in floor.edges}:
            for r, end in enumerate(ends[a]):
                model.add(last >= end + HOP * (self.y[a] + r + 1))
        return len(shapes) * (floor.columns + floor.rows) * last + sum(self.x) + sum(self.y)

    def solve(self, start: Sequence[Spot] | None, limit: float) -> list[Spot] | None:
        for (x, y), at, up in zip(start or (), self.x, self.y, strict=False):
            self.model.add_hint(at, x)
            self.model.add_hint(up, y)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 1
        solver.parameters.max_deterministic_time = limit
        if solver.solve(self.model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        return [(solver.value(x), solver.value(y)) for x, y in zip(self.x, self.y, strict=True)]


def _common(part: int, parts: int, others: int) -> range:
    """Of an axis cut in `others` equal parts, those that have something of this one of `parts`."""
    return range(part * others // parts, -(-(part + 1) * others // parts))


def solved(floor: Floor, wanted: str, start: Sequence[Spot] | None = None) -> list[Spot] | None:
    """Spots of all rectangles, or None if none were found (there are none, or they are too hard to find).

    wanted: `COST`, `LATENCY`, `SHARED` or `ROOM`. start: a placement to better.
    """
    if any(s.width > floor.columns or s.height > floor.rows for s in floor.rectangles):
        return None
    made = _Model(floor)
    if wanted != ROOM:
        made.model.minimize(made.cost() if wanted == COST else made.latency(shared=wanted == SHARED))
    return made.solve(start, _LIMITS[wanted])
