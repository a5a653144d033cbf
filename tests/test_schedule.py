# SPDX-License-Identifier: Apache-2.0
"""Schedules: order, dependencies, and what may overlap."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from nncosim.compiler.placement.placement import Buffer, conflicts
from nncosim.compiler.schedule import Schedule, ScheduleError, Task
from nncosim.kernels.base import Cost, KernelError

C = Cost.exactly


def test_two_engines_run_at_once():
    s = Schedule((
        Task("a", "p", "L0", (), (), ("x",), C(10)), Task("b", "q", "L1", (), (), ("y",), C(4)),
        Task("c", "q", "L2", ("a",), ("x", "y"), ("z",), C(5)),
    ))  # fmt: skip
    assert s.spans() == ({"a": (0, 10), "b": (0, 4), "c": (10, 15)},)
    assert s.latency() == s.interval() == 15
    assert s.spans(2)[1] == {"a": (15, 25), "b": (15, 19), "c": (25, 30)}, "one inference after the other"
    assert tuple(s.layers) == ("L0", "L1", "L2")
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


def played(schedule: Schedule, inferences: int) -> list[dict[str, tuple[int, int]]]:
    """Cycle by cycle: each engine takes its next task when it may start; a buffer is free when all are done with it."""
    out: list[dict[str, tuple[int, int]]] = [{} for _ in range(inferences)]
    queues = {e: [(k, t) for k in range(inferences) for t in schedule.tasks if t.engine == e]
              for e in {t.engine for t in schedule.tasks}}  # fmt: skip
    users = {b: [t.name for t in schedule.tasks if b in t.reads + t.writes] for t in schedule.tasks for b in t.writes}
    cycle = 0

    def over(name: str, inference: int) -> bool:
        return inference < 0 or (name in out[inference] and out[inference][name][1] <= cycle)

    while any(queues.values()):
        started = True
        while started:  # tasks of no cycles let others start in the same one
            started = False
            for queue in queues.values():
                if not queue:
                    continue
                k, task = queue[0]
                earlier = [t.name for t in schedule.tasks if t.engine == task.engine]
                at = earlier.index(task.name)
                before = (k, earlier[at - 1]) if at else (k - 1, earlier[-1])
                ready = over(before[1], before[0]) and all(over(name, k) for name in task.after)
                for b in task.writes:
                    ready = ready and all(over(u, k - schedule.copies.get(b, 1)) for u in users[b])
                if ready:
                    out[k][task.name] = (cycle, cycle + task.cost.best)
                    queue.pop(0)
                    started = True
        cycle += 1
    return out


def pipeline(seed: int) -> Schedule:
    """Random tasks on four engines; each buffer has one writer, and later readers."""
    rng = np.random.default_rng(seed)
    tasks: list[Task] = []
    for i in range(int(rng.integers(2, 12))):
        reads = [j for j in range(i) if rng.random() < 0.3]
        tasks.append(Task(f"t{i}", f"e{rng.integers(4)}", "L", tuple(f"t{j}" for j in reads),
                          tuple(f"b{j}" for j in reads), (f"b{i}",), C(int(rng.integers(0, 30)))))  # fmt: skip
    copies = {f"b{i}": int(rng.integers(1, 4)) for i in range(len(tasks)) if rng.random() < 0.7}
    return Schedule(tuple(tasks), True, copies)


@pytest.mark.parametrize("seed", range(60))
def test_inferences_that_overlap(seed):
    schedule = pipeline(seed)
    found = list(schedule.spans(40))
    assert found == played(schedule, 40)
    ends = [max(end for _, end in inference.values()) for inference in schedule.spans(400)]
    # In the long run: the mean over a multiple of every period that so few tasks can have.
    assert Fraction(ends[399] - ends[399 - 60], 60) == schedule.interval()
    assert schedule.latency() == ends[0]


def test_two_copies_let_a_writer_go_ahead():
    tasks = (Task("make", "p", "L0", (), (), ("x",), C(10)), Task("use", "q", "L1", ("make",), ("x",), ("y",), C(10)))
    assert Schedule(tasks, True).interval() == 20, "the one buffer is written, then read"
    assert Schedule(tasks, True, {"x": 2}).interval() == 10
    assert Schedule(tasks).interval() == 20


def test_an_interval_need_not_be_whole():
    """Three inferences share two copies: two of them every 31 cycles."""
    tasks = (Task("make", "p", "L0", (), (), ("x",), C(10)), Task("use", "q", "L1", ("make",), ("x",), ("y",), C(21)))
    assert Schedule(tasks, True, {"x": 2, "y": 2}).interval() == 21
    slow = (Task("make", "p", "L0", (), (), ("x",), C(10)), Task("hop", "s", "L0", ("make",), ("x",), ("h",), C(20)),
            Task("use", "q", "L1", ("hop",), ("h", "x"), ("y",), C(15)))  # fmt: skip
    assert Schedule(slow, True, {"x": 2, "y": 2, "h": 2}).interval() == Fraction(45, 2)


def test_bounds_hold_whatever_tasks_take():
    rng = np.random.default_rng(5)
    schedule = pipeline(17)
    loose = replace(schedule, tasks=tuple(
        replace(t, cost=Cost(t.cost.best // 2, t.cost.best, t.cost.best * 2)) for t in schedule.tasks))  # fmt: skip
    for _ in range(20):
        real = replace(loose, tasks=tuple(
            replace(t, cost=C(int(rng.integers(t.cost.lower, t.cost.upper + 1)))) for t in loose.tasks))  # fmt: skip
        assert loose.latency("lower") <= real.latency() <= loose.latency("upper")
        assert loose.interval("lower") <= real.interval() <= loose.interval("upper")


def test_buffers_of_overlapping_inferences_never_share_bytes():
    """One after the other they may: the same tasks, overlapping, may not."""
    tasks = (Task("a", "p", "L", (), ("in",), ("x",), C(1)), Task("b", "p", "L", ("a",), ("x",), ("y",), C(1)),
             Task("c", "p", "L", ("b",), ("y",), ("z",), C(1)))  # fmt: skip
    buffers = [Buffer(name, "m", 8, "tensor") for name in "xyz"]
    assert frozenset("xz") not in conflicts(buffers, Schedule(tasks))
    assert frozenset("xz") in conflicts(buffers, Schedule(tasks, True))
