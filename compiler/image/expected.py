# SPDX-License-Identifier: Apache-2.0
"""What an image's notes predict of inference after inference: when each ends, what it takes, what each step takes."""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.compiler.image.notes import Notes
from nncosim.compiler.schedule import Bound, Schedule
from nncosim.kernels.base import Cost

__all__ = ["Expected", "expected"]

Times = dict[Bound, int]
"""When something happens, by the costs' lower bounds, best estimates and upper bounds."""


@dataclass(frozen=True)
class Expected:
    """One inference. `end`: cycles since the run began; `cycles`: since the inference began, its latency; `steps`: of
    each step of the schedule, from its start to its end. `interval`: since the end of the inference before."""

    end: Cost
    cycles: Cost
    steps: tuple[Cost, ...]
    interval: Cost


def expected(notes: Notes, inferences: int) -> tuple[Expected, ...]:
    """Of that many inferences, the first ones since reset, each of which begins as soon as the machine lets it."""
    if notes.schedule is not None:
        return _overlapping(notes, notes.schedule, inferences)
    out: list[Expected] = []
    for k in range(inferences):
        cycles = notes.cycles if k == 0 or notes.repeat is None else notes.repeat
        end = _plus(out[-1].end, cycles) if out else cycles
        out.append(Expected(end, cycles, tuple(step.expected(k) for step in notes.steps), cycles))
    return tuple(out)


def _plus(a: Cost, b: Cost) -> Cost:
    upper = None if a.upper is None or b.upper is None else a.upper + b.upper
    return Cost(a.lower + b.lower, a.best + b.best, upper)


def _overlapping(notes: Notes, schedule: Schedule, inferences: int) -> tuple[Expected, ...]:
    bounds: tuple[Bound, ...] = ("lower", "best", "upper") if schedule.bounded else ("best",)
    spans = {bound: schedule.spans(inferences, bound) for bound in bounds}
    layers = [{task.name for task in schedule.tasks if task.layer in (step.name, *step.ops)} for step in notes.steps]
    every = {task.name for task in schedule.tasks}

    def first(k: int, names: set[str]) -> Times:
        return {b: min((spans[b][k][name][0] for name in names), default=0) for b in bounds}

    def last(k: int, names: set[str]) -> Times:
        return {b: max((spans[b][k][name][1] for name in names), default=0) for b in bounds}

    begin: Times = dict.fromkeys(bounds, 0)
    return tuple(
        Expected(
            _between(begin, last(k, every)), _between(first(k, every), last(k, every)),
            tuple(_between(first(k, names), last(k, names)) for names in layers),
            _between(last(k - 1, every) if k else begin, last(k, every)),
        )
        for k in range(inferences)
    )  # fmt: skip


def _between(start: Times, end: Times) -> Cost:
    """From one time to another, by the bounds of both."""
    best = end["best"] - start["best"]
    if "upper" not in end:
        return Cost.estimated(best)
    if start["lower"] == start["upper"] and end["lower"] == end["upper"]:
        return Cost.exactly(best)
    return Cost(max(0, end["lower"] - start["upper"]), best, end["upper"] - start["lower"])
