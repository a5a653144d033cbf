# SPDX-License-Identifier: Apache-2.0
"""From when the tasks of a schedule ran to the steps and the activity of an inference, for any machine that tells that.

`spans`: of each inference of a run, number of a task in the schedule to (start, end) in cycles since the run began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from nncosim.compiler.image.notes import Notes
from nncosim.compiler.schedule import Schedule, Task
from nncosim.platforms.base import Platform
from nncosim.tb.backend import Activity, Interval, Passage

__all__ = ["activities_of_tasks", "instances_of", "passages_of_tasks", "steps_of_tasks"]

Spans = Mapping[int, tuple[int, int]]

KINDS = ("compute", "other inferences", "idle")


def instances_of(task: Task, platform: Platform) -> tuple[str, ...]:
    """What counters and pictures call the engines' or movers' instances that run a task: "tile4", or "dma" of one."""
    names = platform.instance_names(task.engine)
    return tuple(names[k] for k in task.instances)


def steps_of_tasks(notes: Notes, schedule: Schedule, platform: Platform, spans: Spans) -> tuple[Interval, ...]:
    """The steps of which all tasks have ended, from the first start to the last end, since the inference's own start;
    with the cycles in which each engine that took part was busy for the step."""
    begin = min((start for start, _ in spans.values()), default=0)
    out = []
    for number, step in enumerate(notes.steps):
        mine = schedule.tasks_of(step.layers)
        if not mine or not all(i in spans for i in mine):
            continue
        first, last = min(spans[i][0] for i in mine), max(spans[i][1] for i in mine)
        busy: dict[str, int] = {}
        for i in mine:
            for name in instances_of(schedule.tasks[i], platform):
                busy[name] = busy.get(name, 0) + spans[i][1] - spans[i][0]
        counters = {name: {"busy": cycles, "idle": last - first - cycles} for name, cycles in busy.items()}
        out.append(Interval(number, first - begin, last - begin, counters))
    return tuple(out)


def passages_of_tasks(notes: Notes, schedule: Schedule, platform: Platform, spans: Spans) -> dict[str, Passage]:
    """Graph inputs and outputs that tasks of their own bring in or take out: from the first one's start to the last
    one's end. Such a task's `layer` is the tensor."""
    out = {}
    for name in (*notes.inputs, *notes.outputs):
        mine = [i for i in schedule.tasks_of((name,)) if i in spans]
        if mine:
            ports = dict.fromkeys(port for i in mine for port in instances_of(schedule.tasks[i], platform))
            out[name] = Passage(", ".join(ports), min(spans[i][0] for i in mine), max(spans[i][1] for i in mine))
    return out


def activities_of_tasks(
    notes: Notes, schedule: Schedule, platform: Platform, run: Sequence[Spans], inference: int = 0
) -> tuple[Activity, ...]:
    """What each engine did from the start of one inference to its end; of the work for others, that it was one."""
    step_of = {layer: i for i, step in enumerate(notes.steps) for layer in step.layers}
    begin, end = min(s for s, _ in run[inference].values()), max(e for _, e in run[inference].values())
    did: dict[str, list[tuple[int, int, int]]] = {}
    for i, task in enumerate(schedule.tasks):
        for name in instances_of(task, platform):
            rows = did.setdefault(name, [])
            for k, spans in enumerate(run):
                start, stop = (min(max(at, begin), end) for at in spans.get(i, (end, end)))
                if start < stop:
                    rows.append((start, stop, step_of[task.layer] if k == inference else -1))
    return tuple(_activity(name, rows, begin, end) for name, rows in did.items())


def _activity(engine: str, did: Sequence[tuple[int, int, int]], begin: int, end: int) -> Activity:
    rows, at = [], begin
    for start, stop, step in [*sorted(did), (end, end, -1)]:
        if at < start:
            rows.append((at, start, 2, -1))
        if start < stop:
            rows.append((start, stop, 0 if step >= 0 else 1, step))
        at = stop
    starts, stops, kind, steps = np.array(rows, np.int64).T
    took, zero = stops - starts, np.zeros(len(rows), np.int64)
    cycles = {"busy": took * (kind == 0), "other inferences": took * (kind == 1), "idle": took * (kind == 2)}
    return Activity(engine, starts - begin, stops - begin, KINDS, kind, ("",), zero, (), zero - 1, steps, zero, cycles)
