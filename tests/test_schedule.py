# SPDX-License-Identifier: Apache-2.0
"""Schedules: order, dependencies, and what may overlap."""

import numpy as np
import pytest
from nncosim.compiler.schedule import Schedule, ScheduleError, Task
from nncosim.kernels.base import Cost, KernelError

C = Cost.exactly


def test_two_engines_run_at_once():
    s = Schedule((
        Task("a", "p", "L0", (), (), ("x",), C(10)), Task("b", "q", "L1", (), (), ("y",), C(4)),
        Task("c", "q", "L2", ("a",), ("x", "y"), ("z",), C(5)),
    ))  # fmt: skip
    assert s.finish == {"a": 10, "b": 4, "c": 15}
    assert s.cycles == 15
    assert s.layers == ("L0", "L1", "L2")
    assert not s.precedes(0, 1)
    assert s.precedes(0, 2)
    assert s.precedes(1, 2), "tasks of one engine run in order"
    s.check_dataflow(())


def test_precedes_equals_reachability():
    rng = np.random.default_rng(1)
    tasks = []
    for i in range(40):
        after = tuple(f"t{j}" for j in range(i) if rng.random() < 0.05)
        tasks.append(Task(f"t{i}", f"e{rng.integers(4)}", "L", after))
    schedule = Schedule(tuple(tasks))
    reach = np.zeros((40, 40), dtype=bool)
    for i, task in enumerate(tasks):
        for j in range(i):
            if f"t{j}" in task.after or tasks[j].engine == task.engine:
                reach[j, i] = True
    for k in range(40):
        reach |= np.outer(reach[:, k], reach[k])
    assert all(schedule.precedes(i, j) == reach[i, j] for i in range(40) for j in range(40) if i < j)


def test_a_read_that_races_with_its_write_is_refused():
    s = Schedule((Task("w", "p", "L0", (), (), ("x",)), Task("r", "q", "L1", (), ("x",), ())))
    with pytest.raises(ScheduleError, match="'r' reads 'x' before it is written"):
        s.check_dataflow(())
    s.check_dataflow(("x",))


def test_bad_tasks_are_refused():
    with pytest.raises(ScheduleError, match="two tasks named 'a'"):
        Schedule((Task("a", "p", "L"), Task("a", "p", "L")))
    with pytest.raises(ScheduleError, match="depends on 'b', which does not come before it"):
        Schedule((Task("a", "p", "L", ("b",)), Task("b", "p", "L")))


def test_costs_are_ordered():
    with pytest.raises(KernelError):
        Cost(5, 4, 6)
