# SPDX-License-Identifier: Apache-2.0
"""Addresses for things of which some must keep certain distances: lowest address first, then search, then a solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ortools.sat.python import cp_model

__all__ = ["Apart", "Item", "Packing", "pack"]

Range = tuple[int, int]
Apart = Mapping[tuple[str, str], Sequence[Range]]
"""(a, b) to the ranges low..high-1, ascending, in which (address of b - address of a) must not lie, in bytes."""

_TRIES = 300
_SOLVER_TIME = 8.0  # deterministic: about seconds, but counted in work


@dataclass(frozen=True)
class Item:
    """Bytes to place. `order`: tuples to sort by, one for each order worth trying."""

    name: str
    size: int
    align: int
    order: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Packing:
    """Addresses, and the lowest address behind all of them. `proved`: none that ends lower exists."""

    at: dict[str, int]
    end: int
    proved: bool = False


def _up(value: int, align: int) -> int:
    return -(-value // align) * align


@dataclass(frozen=True, eq=False)
class _Task:
    items: tuple[Item, ...]
    apart: Apart
    base: int

    @cached_property
    def around(self) -> dict[str, dict[str, list[Range]]]:
        """item -> other -> ranges, relative to the other's address, in which the item's must not lie."""
        out: dict[str, dict[str, list[Range]]] = {item.name: {} for item in self.items}
        for (a, b), ranges in self.apart.items():
            out[b][a] = list(ranges)
            out[a][b] = [(1 - high, 1 - low) for low, high in reversed(ranges)]
        return out

    def first_fit(self, order: Sequence[Item]) -> Packing:
        """Each item in its turn at the lowest address that those before it leave."""
        at: dict[str, int] = {}
        end = self.base
        for item in order:
            taken = sorted(
                (at[other] + low, at[other] + high)
                for other, ranges in self.around[item.name].items() if other in at for low, high in ranges
            )
            address = _up(self.base, item.align)
            for low, high in taken:
                if low > address:
                    break
                if high > address:
                    address = _up(high, item.align)
            at[item.name] = address
            end = max(end, address + item.size)
        return Packing(at, end)


def pack(items: Sequence[Item], apart: Apart, base: int, limit: int, floor: int) -> Packing:
    """Addresses from `base` on. Ends beyond `limit` if nothing better was found. The same on every machine.

    floor: no packing ends below (the search stops there).
    """
    task = _Task(tuple(items), apart, base)
    if not items:
        return Packing({}, base, True)
    best, order = _orders(task, floor)
    if best.end > floor and len(items) > 2:
        best = _shuffle(task, best, order, floor)
    if best.end > limit:
        best = _solve(task, best, limit)
    return Packing(best.at, best.end, best.proved or best.end <= floor)


def _orders(task: _Task, floor: int) -> tuple[Packing, list[Item]]:
    """The best of first fit in each of the items' own orders, and largest first."""
    keys: list[Callable[[Item], tuple[int, ...]]] = [lambda i: (-i.size,)]
    keys += [(lambda i, k=k: i.order[k]) for k in range(min(len(i.order) for i in task.items))]  # type: ignore[misc]
    best: tuple[Packing, list[Item]] | None = None
    for key in keys:
        order = sorted(task.items, key=lambda i: (key(i), i.name))
        made = task.first_fit(order)
        if best is None or made.end < best[0].end:
            best = made, order
        if made.end <= floor:
            break
    assert best is not None
    return best


def _shuffle(task: _Task, best: Packing, order: list[Item], floor: int) -> Packing:
    """Exchange items of the order, keep what is no worse: what reaches the end is moved to the front most often."""
    rng = np.random.default_rng(len(order))
    for _ in range(_TRIES):
        tried = list(order)
        high = [k for k, item in enumerate(order) if best.at[item.name] + item.size == best.end]
        i = int(rng.choice(high)) if rng.random() < 0.5 else int(rng.integers(len(order)))
        tried.insert(int(rng.integers(len(order))), tried.pop(i))
        made = task.first_fit(tried)
        if made.end <= best.end:
            best, order = made, tried
        if best.end <= floor:
            break
    return best


def _allowed(ranges: Sequence[Range], unit: int, span: int) -> cp_model.Domain:
    """What `ranges` leave of -span..span, in units."""
    out, at = [], -span
    for low, high in ranges:
        first, behind = -(-low // unit), -(-high // unit)
        if first > at:
            out.append([at, first - 1])
        at = max(at, behind)
    if at <= span:
        out.append([at, span])
    return cp_model.Domain.from_intervals(out)


def _solve(task: _Task, best: Packing, limit: int) -> Packing:
    """Constraint programming in units of the smallest alignment; gives `best` if it finds nothing that fits."""
    unit = min(item.align for item in task.items)
    base = _up(task.base, unit)
    top = (limit - base) // unit
    length = {item.name: -(-item.size // unit) for item in task.items}
    if top < max(length.values()):
        return best
    model = cp_model.CpModel()
    at = {name: model.new_int_var(0, top - size, name) for name, size in length.items()}
    end = model.new_int_var(max(length.values()), top, "end")
    for item in task.items:
        model.add(at[item.name] + length[item.name] <= end)
        if item.align > unit:
            model.add_modulo_equality(0, at[item.name] + base // unit, item.align // unit)
    for (a, b), ranges in task.apart.items():
        if ranges:
            model.add_linear_expression_in_domain(at[b] - at[a], _allowed(ranges, unit, top))
    for name, var in at.items():
        model.add_hint(var, min((best.at[name] - base) // unit, top - length[name]))
    model.minimize(end)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = _SOLVER_TIME
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Packing(best.at, best.end, True)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return best
    placed = {name: base + solver.value(var) * unit for name, var in at.items()}
    return Packing(placed, max(placed[i.name] + i.size for i in task.items), status == cp_model.OPTIMAL)
