# SPDX-License-Identifier: Apache-2.0
"""Schedules: tasks on named engines with dependencies. Layers and sequential order are views of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nncosim.compiler.errors import CompileError
from nncosim.kernels.base import Cost

__all__ = ["Schedule", "ScheduleError", "Task"]


class ScheduleError(CompileError):
    """Tasks that cannot be ordered, or that read what nothing has written."""


@dataclass(frozen=True)
class Task:
    """One piece of work on one engine.

    name: unique. layer: the operator it belongs to (several tasks may share one).
    engine: a name; tasks of one engine run one after the other, in the order of the schedule.
    after: names of tasks that must be complete. reads, writes: buffers.
    """

    name: str
    engine: str
    layer: str
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    cost: Cost = field(default_factory=lambda: Cost.exactly(0))


@dataclass(frozen=True)
class Schedule:
    """Tasks in an order in which each comes after those it depends on.

    Raises:
        ScheduleError: a double name, an unknown or later dependency.
    """

    tasks: tuple[Task, ...]

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
        last: dict[str, int] = {}
        for i, task in enumerate(self.tasks):
            direct = [self.index[name] for name in task.after]
            if task.engine in last:
                direct.append(last[task.engine])
            bits = 0
            for j in direct:
                bits |= out[j] | 1 << j
            out.append(bits)
            last[task.engine] = i
        return out

    def precedes(self, first: int, second: int) -> bool:
        """Whether task number `first` is always complete before task number `second` starts."""
        return bool(self._before[second] >> first & 1)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task.layer for task in self.tasks))

    def users(self, buffers: Iterable[str]) -> tuple[int, ...]:
        """Numbers of the tasks that read or write one of `buffers`."""
        wanted = set(buffers)
        return tuple(i for i, task in enumerate(self.tasks) if wanted & {*task.reads, *task.writes})

    @cached_property
    def finish(self) -> dict[str, int]:
        """When each task ends, in cycles from the start, by the best estimates."""
        out: dict[str, int] = {}
        free: dict[str, int] = {}
        for task in self.tasks:
            start = max([free.get(task.engine, 0), *(out[name] for name in task.after)])
            out[task.name] = free[task.engine] = start + task.cost.best
        return out

    @property
    def cycles(self) -> int:
        return max(self.finish.values(), default=0)

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

    def as_dicts(self) -> list[dict[str, Any]]:
        return [
            {
                "name": t.name, "engine": t.engine, "layer": t.layer, "after": list(t.after), "reads": list(t.reads),
                "writes": list(t.writes), "cycles": [t.cost.lower, t.cost.best, t.cost.upper],
            }
            for t in self.tasks
        ]  # fmt: skip
