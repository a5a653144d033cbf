# SPDX-License-Identifier: Apache-2.0
"""From tasks to the steps of an inference: predicted and measured ones are told alike."""

from dataclasses import replace

import grid
from grid.machine import MAC, STREAM
from nncosim.compiler.image.expected import expected
from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.schedule import Schedule, Task
from nncosim.kernels.base import Cost
from nncosim.tb.run.tasks import activities_of_tasks, instances_of, steps_of_tasks

SCHEDULE = Schedule((
    Task("load", STREAM, "conv", (), (), ("x",), Cost.exactly(4)),
    Task("sum", MAC, "conv", ("load",), ("x",), ("s",), Cost.exactly(10), instances=(1, 2)),
    Task("clip", MAC, "relu", ("sum",), ("s",), ("y",), Cost.exactly(3), instances=(1,)),
    Task("last", MAC, "head", ("clip",), ("y",), ("z",), Cost.exactly(5), instances=(0,)),
), overlapping=True)  # fmt: skip
STEPS = (Step("conv+relu", ("conv", "relu"), (STREAM, MAC), Cost.exactly(17)),
         Step("head", ("head",), (MAC,), Cost.exactly(5)))
NOTES = Notes(STEPS, Cost.exactly(22), schedule=SCHEDULE)


def spans(inference: int = 0) -> dict[int, tuple[int, int]]:
    of = SCHEDULE.spans(inference + 1)[inference]
    return {i: of[task.name] for i, task in enumerate(SCHEDULE.tasks)}


def test_a_step_of_several_operators_has_the_tasks_of_all():
    (known,) = expected(NOTES, 1)
    assert [step.best for step in known.steps] == [17, 5]
    found = steps_of_tasks(NOTES, SCHEDULE, grid.GRID, spans())
    assert [(row.start, row.end) for row in found] == [(0, 17), (17, 22)]
    assert found[0].counters[f"{MAC}1"] == {"busy": 13, "idle": 4}
    assert found[0].counters[f"{MAC}2"] == {"busy": 10, "idle": 7}
    rows = {row.engine: row for row in activities_of_tasks(NOTES, SCHEDULE, grid.GRID, [spans()])}
    assert rows[f"{MAC}1"].step.tolist() == [-1, 0, 0, -1] and rows[f"{MAC}0"].step.tolist() == [-1, 1]


def test_a_step_without_all_its_tasks_is_not_told():
    """Of an inference that did not end, or a step that no task works for."""
    of = spans()
    del of[2]
    assert [row.step for row in steps_of_tasks(NOTES, SCHEDULE, grid.GRID, of)] == [1]
    more = replace(NOTES, steps=(*STEPS, Step("reshape", ("reshape",), (), Cost.exactly(0))))
    assert [row.step for row in steps_of_tasks(more, SCHEDULE, grid.GRID, spans())] == [0, 1]


def test_instances_are_called_as_the_platform_does():
    assert instances_of(SCHEDULE.tasks[1], grid.GRID) == grid.GRID.instance_names(MAC)[1:3] == (f"{MAC}1", f"{MAC}2")
    assert grid.GRID.instance_names("nothing") == ()
