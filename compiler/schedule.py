# SPDX-License-Identifier: Apache-2.0
"""Schedules: tasks on named engines with dependencies. Layers and sequential order are views of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Literal

from nncosim.compiler.errors import CompileError
from nncosim.compiler.steady import Edge, longest_mean
from nncosim.kernels.base import Cost

__all__ = ["Bound", "Schedule", "ScheduleError", "Task"]


Bound = Literal["lower", "best", "upper"]


class ScheduleError(CompileError):
    """Tasks that cannot be ordered, or that read what nothing has written."""


@dataclass(frozen=True)
class Task:
    """One piece of work on one engine, or on several instances of one together.

    name: unique. layer: the operator it belongs to (several tasks may share one).
    engine, instances: a name of the platform's engines, and which of them; tasks of one instance run one after the
        other, in the order of the schedule.
    after: names of tasks that must be complete. reads, writes: buffers.
    """

    name: str
    engine: str
    layer: str
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    cost: Cost = field(default_factory=lambda: Cost.exactly(0))
    instances: tuple[int, ...] = (0,)

    @property
    def where(self) -> tuple[tuple[str, int], ...]:
        """Engine and instance of each that it runs on."""
        return tuple((self.engine, instance) for instance in self.instances)


@dataclass(frozen=True)
class Schedule:
    """Tasks in an order in which each comes after those it depends on; for every inference the same.

    overlapping: a task of the next inference starts as soon as its engine has done its tasks of this one, what it
        comes after is complete, and nothing of an earlier inference still uses what it writes. Otherwise an inference
        starts when the one before it has ended.
    copies: of a buffer that one inference may write while another still reads it, how many there are; 1 where it is
        not named.

    Raises:
        ScheduleError: a double name, an unknown or later dependency.
    """

    tasks: tuple[Task, ...]
    overlapping: bool = False
    copies: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for task in self.tasks:
            if task.name in seen:
                raise ScheduleError(f"there are two tasks named {task.name!r}")
            for name in task.after:
                if name not in seen:
                    raise ScheduleError(f"task {task.name!r} depends on {name!r}, which does not come before it")
            seen.add(task.name)

    @cached_property
    def index(self) -> dict[str, int]:
        return {task.name: i for i, task in enumerate(self.tasks)}

    @cached_property
    def _before(self) -> list[int]:
        """For each task a bit set of all tasks that are complete when it starts."""
        out: list[int] = []
        last: dict[tuple[str, int], int] = {}
        for i, task in enumerate(self.tasks):
            direct = [self.index[name] for name in task.after]
            direct += [last[where] for where in task.where if where in last]
            bits = 0
            for j in direct:
                bits |= out[j] | 1 << j
            out.append(bits)
            last.update(dict.fromkeys(task.where, i))
        return out

    def precedes(self, first: int, second: int) -> bool:
        """Whether task number `first` is always complete before task number `second` starts."""
        return bool(self._before[second] >> first & 1)

    def all_precede(self, first: Iterable[int], second: Iterable[int]) -> bool:
        """Whether each task of `first` is always complete before any of `second` starts."""
        wanted = sum(1 << i for i in first)
        return all(wanted & ~self._before[j] == 0 for j in second)

    @cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Each layer with the numbers of its tasks, in the order of their first ones."""
        out: dict[str, tuple[int, ...]] = {}
        for i, task in enumerate(self.tasks):
            out[task.layer] = (*out.get(task.layer, ()), i)
        return out

    def tasks_of(self, layers: Iterable[str]) -> tuple[int, ...]:
        """Numbers of the tasks of these layers, as far as there are such; each layer once."""
        return tuple(i for layer in dict.fromkeys(layers) for i in self.layers.get(layer, ()))

    def users(self, buffers: Iterable[str]) -> tuple[int, ...]:
        """Numbers of the tasks that read or write one of `buffers`."""
        return tuple(sorted({i for name in buffers for i in self._users.get(name, ())}))

    @cached_property
    def _users(self) -> dict[str, list[int]]:
        out: dict[str, list[int]] = {}
        for i, task in enumerate(self.tasks):
            for name in {*task.reads, *task.writes}:
                out.setdefault(name, []).append(i)
        return out

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """What each task waits for, over all inferences."""
        out = [Edge(self.index[name], j, 0) for j, task in enumerate(self.tasks) for name in task.after]
        by_engine: dict[tuple[str, int], list[int]] = {}
        for i, task in enumerate(self.tasks):
            for where in task.where:
                by_engine.setdefault(where, []).append(i)
        for order in by_engine.values():
            out += [Edge(i, j, 0) for i, j in pairwise(order)]
        if self.overlapping:
            out += [Edge(order[-1], order[0], 1) for order in by_engine.values()]
            for j, task in enumerate(self.tasks):
                out += [Edge(i, j, self.copies.get(name, 1)) for name in task.writes for i in self._users[name]]
        return tuple(dict.fromkeys(out))

    def spans(self, inferences: int = 1, bound: Bound = "best") -> tuple[dict[str, tuple[int, int]], ...]:
        """(start, end) of each task of each inference, in cycles from the start of the first, all inputs being there.

        bound: by which of the tasks' costs. With "upper" no start or end comes later than this: the order on each
            engine is given, and a task that ends early delays no other.

        Raises:
            ScheduleError: a task without an upper bound, where bounds are asked for.
        """
        costs = self._costs(bound)
        waits: dict[int, list[Edge]] = {}
        for edge in self.edges:
            waits.setdefault(edge.then, []).append(edge)
        ends: list[list[int]] = []
        out = []
        for k in range(inferences):
            begin = 0 if self.overlapping or not ends else max(ends[-1], default=0)
            now: list[int] = []
            ends.append(now)
            for j, cost in enumerate(costs):
                known = (ends[k - e.distance][e.first] for e in waits.get(j, ()) if e.distance <= k)
                now.append(max([begin, *known]) + cost)
            out.append({task.name: (end - cost, end) for task, end, cost in zip(self.tasks, now, costs, strict=True)})
        return tuple(out)

    def _costs(self, bound: Bound) -> list[int]:
        costs = [getattr(task.cost, bound) for task in self.tasks]
        if None in costs:
            raise ScheduleError(f"no bound is known of what task {self.tasks[costs.index(None)].name!r} takes")
        return [int(cost) for cost in costs]

    @property
    def bounded(self) -> bool:
        """Whether all tasks have an upper bound, so that latency and interval have one."""
        return all(task.cost.upper is not None for task in self.tasks)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Those by which `spans` can be asked for."""
        return ("lower", "best", "upper") if self.bounded else ("best",)

    def latency(self, bound: Bound = "best") -> int:
        """Cycles from the start of the first inference to its end."""
        return max((end for _, end in self.spans(1, bound)[0].values()), default=0)

    def interval(self, bound: Bound = "best") -> Fraction:
        """Cycles from the end of an inference to the end of the next, in the long run."""
        if not self.overlapping:
            return Fraction(self.latency(bound))
        return longest_mean(self._costs(bound), self.edges)

    def check_dataflow(self, given: Iterable[str]) -> None:
        """Every buffer that is read was `given`, or written by a task that is complete by then.

        Raises:
            ScheduleError: names the task and the buffer.
        """
        ready = set(given)
        writer: dict[str, list[int]] = {}
        for i, task in enumerate(self.tasks):
            for name in task.reads:
                late = name not in ready and not any(self.precedes(j, i) for j in writer.get(name, ()))
                if late:
                    raise ScheduleError(f"task {task.name!r} reads {name!r} before it is written")
            for name in task.writes:
                writer.setdefault(name, []).append(i)
