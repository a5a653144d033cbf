# SPDX-License-Identifier: Apache-2.0
"""What is predicted of inference after inference: when each ends, what it takes, what each step takes.

By an image's notes; and of a platform that knows no more than its tasks' costs, the notes by its schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.schedule import Bound, Schedule
from nncosim.kernels.base import Cost

__all__ = ["Expected", "expected", "schedule_notes"]

Times = Mapping[Bound, int]
"""When something happens, by each bound of the costs that is known."""


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
        cycles = notes.expected(k)
        end = _plus(out[-1].end, cycles) if out else cycles
        out.append(Expected(end, cycles, tuple(step.expected(k) for step in notes.steps), cycles))
    return tuple(out)


def _plus(a: Cost, b: Cost) -> Cost:
    upper = None if a.upper is None or b.upper is None else a.upper + b.upper
    return Cost(a.lower + b.lower, a.best + b.best, upper)


def _overlapping(notes: Notes, schedule: Schedule, inferences: int) -> tuple[Expected, ...]:
    played = _Played(schedule, inferences)
    layers = [schedule.tasks_of(step.layers) for step in notes.steps]
    return tuple(
        Expected(
            _between(played.begin, played.end(k)), _between(played.start(k), played.end(k)),
            tuple(_between(played.start(k, tasks), played.end(k, tasks)) for tasks in layers),
            _between(played.end(k - 1) if k else played.begin, played.end(k)),
        )
        for k in range(inferences)
    )  # fmt: skip


def schedule_notes(schedule: Schedule, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Notes:
    """Of a platform that knows no more than its tasks' costs: layers in the order in which they are complete, each from
    the completion of the one before; or, where inferences overlap, from its own start."""
    played, steps = _Played(schedule, 1), []
    before = played.begin
    for layer, tasks in sorted(schedule.layers.items(), key=lambda item: played.end(0, item[1])["best"]):
        end = played.end(0, tasks)
        took = _between(played.start(0, tasks) if schedule.overlapping else before, end)
        engines = tuple(dict.fromkeys(schedule.tasks[i].engine for i in tasks))
        estimate = None if schedule.overlapping else took.best
        steps.append(Step(layer, (layer,), engines, took, estimated_cycles=estimate))
        before = end
    whole = _between(played.begin, played.end(0))
    kept = schedule if schedule.overlapping else None
    return Notes(tuple(steps), whole, inputs=tuple(inputs), outputs=tuple(outputs), schedule=kept)


class _Played:
    """The first inferences of a schedule, by each bound of its costs: when tasks begin and end."""

    def __init__(self, schedule: Schedule, inferences: int):
        self._every = range(len(schedule.tasks))
        self._names = [task.name for task in schedule.tasks]
        self._spans = {bound: schedule.spans(inferences, bound) for bound in schedule.bounds}
        self.begin: Times = dict.fromkeys(schedule.bounds, 0)

    def start(self, inference: int, tasks: Iterable[int] | None = None) -> Times:
        """Of the first of some tasks, of all if none are named."""
        return self._edge(min, 0, inference, tasks)

    def end(self, inference: int, tasks: Iterable[int] | None = None) -> Times:
        """Of the last of them."""
        return self._edge(max, 1, inference, tasks)

    def _edge(self, of: Callable[..., int], side: int, inference: int, tasks: Iterable[int] | None) -> Times:
        names = [self._names[i] for i in (self._every if tasks is None else tasks)]
        return {bound: of((spans[inference][name][side] for name in names), default=0)
                for bound, spans in self._spans.items()}  # fmt: skip


def _between(start: Times, end: Times) -> Cost:
    """From one time to another, by the bounds of both."""
    best = end["best"] - start["best"]
    if "upper" not in end:
        return Cost.estimated(best)
    if start["lower"] == start["upper"] and end["lower"] == end["upper"]:
        return Cost.exactly(best)
    return Cost(max(0, end["lower"] - start["upper"]), best, end["upper"] - start["lower"])
