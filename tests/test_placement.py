# SPDX-License-Identifier: Apache-2.0
"""Placement: nothing that is in use at one time overlaps, by a checker that plays the schedule through."""

import numpy as np
import pytest
from nncosim.compiler.placement import packing
from nncosim.compiler.placement.placement import (
    Buffer,
    PlacementError,
    conflicts,
    constants_fit,
    overlaps,
    place,
)
from nncosim.compiler.schedule import Schedule, Task
from nncosim.platforms.base import Memory


def chain(sizes):
    """Task i reads buffer i and writes buffer i + 1, one after the other."""
    tasks = tuple(Task(f"t{i}", "e", f"t{i}", (), (f"b{i}",), (f"b{i + 1}",)) for i in range(len(sizes) - 1))
    buffers = tuple(
        Buffer(f"b{i}", "m", size, "tensor", 8, from_start=i == 0, to_end=i == len(sizes) - 1)
        for i, size in enumerate(sizes)
    )
    return Schedule(tasks), buffers


def clobbered(schedule, buffers, placement):
    """Independent of `conflicts`: bytes as a set, written and read in the order of the tasks (for one engine)."""
    size = {b.name: b.size for b in buffers}
    owner = {}

    def write(name):
        owner.update(dict.fromkeys(range(placement.address[name], placement.address[name] + size[name]), name))

    def intact(name):
        at = placement.address[name]
        return all(owner.get(i) == name for i in range(at, at + size[name]))

    for b in buffers:
        if b.from_start or b.content is not None:
            write(b.name)
    for task in schedule.tasks:
        for name in task.writes:
            write(name)
        for name in task.reads:
            if not intact(name):
                return f"{task.name} reads {name}"
    return next((b.name for b in buffers if (b.to_end or b.content is not None) and not intact(b.name)), None)


@pytest.mark.parametrize("seed", range(20))
def test_random_chains(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 400, 12).tolist()
    schedule, buffers = chain(sizes)
    buffers += (Buffer("w", "m", 100, "weights", 16, content=bytes(100)),)
    placement = place(buffers, (Memory("m", 4096, 32),), schedule)
    assert clobbered(schedule, buffers, placement) is None
    assert all(placement.address[b.name] % b.align == 0 for b in buffers)
    assert placement.table[0].peak <= 112 + sum(sorted(sizes)[-4:]) + 32


def test_the_checkers_see_a_planted_overlap():
    schedule, buffers = chain([64, 64, 64, 64])
    placement = place(buffers, (Memory("m", 4096, 32),), schedule)
    placement.address["b1"] = placement.address["b2"] + 8
    assert overlaps(placement, buffers, conflicts(buffers, schedule)).count(("b1", "b2")) == 1
    assert clobbered(schedule, buffers, placement) is not None


def test_lifetimes_are_shared():
    schedule, buffers = chain([64] * 10)
    assert place(buffers, (Memory("m", 4096, 32),), schedule).table[0].peak <= 192


def test_engines_that_run_at_once_do_not_share():
    schedule = Schedule((
        Task("a", "p", "a", (), (), ("x",)), Task("b", "q", "b", (), (), ("y",)),
        Task("c", "p", "c", (), ("x",), ("z",)),
    ))  # fmt: skip
    buffers = tuple(Buffer(n, "m", 64, "tensor") for n in "xyz")
    found = conflicts(buffers, schedule)
    assert frozenset("xy") in found
    assert frozenset("yz") in found, "nothing says that b is over when c starts"


def test_views_lie_inside_their_parent():
    schedule = Schedule((
        Task("a", "p", "a", (), (), ("x",)), Task("b", "p", "b", (), (), ("y",)),
        Task("c", "p", "c", (), ("whole",), ("z",)),
    ))  # fmt: skip
    buffers = (
        Buffer("whole", "m", 96, "tensor"), Buffer("x", "m", 64, "tensor", parent="whole"),
        Buffer("y", "m", 32, "tensor", parent="whole", offset=64), Buffer("z", "m", 8, "tensor", to_end=True),
    )  # fmt: skip
    at = place(buffers, (Memory("m", 4096, 32),), schedule).address
    assert (at["x"], at["y"]) == (at["whole"], at["whole"] + 64)
    assert not at["whole"] < at["z"] + 8 <= at["whole"] + 96


def test_the_solver_fits_what_greedy_does_not(monkeypatch):
    """(first task, last task, size): first fit in any of its orders needs 23 units, at most 21 are in use at once."""
    monkeypatch.setattr(packing, "_TRIES", 0)
    tasks: list[Task] = []
    spans = {
        "a": (7, 8, 4), "b": (4, 6, 3), "c": (5, 7, 8), "d": (0, 3, 1), "e": (3, 8, 8), "f": (0, 3, 6), "g": (1, 4, 6),
    }
    for t in range(9):
        uses = tuple(n for n, (first, last, _) in spans.items() if first < t <= last)
        makes = tuple(n for n, (first, _, _) in spans.items() if first == t)
        tasks.append(Task(f"t{t}", "e", f"t{t}", (), uses, makes))
    buffers = tuple(Buffer(n, "m", 8 * size, "tensor", 8) for n, (_, _, size) in spans.items())
    schedule = Schedule(tuple(tasks))
    assert place(buffers, (Memory("m", 64 * 8, 32),), schedule).table[0].peak == 23 * 8
    placement = place(buffers, (Memory("m", 21 * 8, 32),), schedule)
    assert clobbered(schedule, buffers, placement) is None
    assert place(buffers, (Memory("m", 21 * 8, 32),), schedule) == placement, "the same every time"


def test_too_much_is_refused_with_numbers():
    schedule, buffers = chain([64, 512, 512])
    with pytest.raises(PlacementError, match=r"memory 'm' holds 1000 bytes, but 1024 are needed.*tensor b1 512"):
        place(buffers, (Memory("m", 1000, 32),), schedule)


def grid(memories: int, layers: int) -> tuple[Schedule, tuple[Buffer, ...]]:
    """A pipeline over `memories` instances: each holds weights, and `layers` tensors that its own tasks pass on."""
    tasks, buffers = [], []
    for k in range(memories):
        buffers.append(Buffer(f"w{k}", "local", 256, "weights", 32, bytes([k % 256]) * 256, instance=k))
        buffers.append(Buffer(f"x{k}.0", "local", 512, "tensor", 32, instance=k))
        for i in range(layers):
            before = (f"m{k}.{i - 1}",) if i else (f"m{k - 1}.0",) if k else ()
            out = f"x{k}.{i + 1}"
            buffers.append(Buffer(out, "local", 512 >> i % 3, "tensor", 32, instance=k))
            tasks.append(Task(f"m{k}.{i}", f"tile{k}", f"L{i}", before, (f"x{k}.{i}", f"w{k}"), (out,)))
    return Schedule(tuple(tasks)), tuple(buffers)


def test_every_instance_of_a_memory_is_placed_by_itself():
    schedule, buffers = grid(9, 4)
    placement = place(buffers, (Memory("local", 4096, 32, instances=9),), schedule)
    assert [(use.memory, use.instance) for use in placement.table] == [("local", k) for k in range(9)]
    assert len({use.peak for use in placement.table}) == 1, "all are alike, and equal weights of two are not shared"
    assert overlaps(placement, buffers, conflicts(buffers, schedule)) == []
    assert all(known[0].where == known[1].where for known in (
        [b for b in buffers if b.name in pair] for pair in conflicts(buffers, schedule)))  # fmt: skip
    with pytest.raises(PlacementError, match="instance 8 of memory 'local'; the platform has 8 local"):
        place(buffers, (Memory("local", 4096, 32, instances=8),), schedule)
    with pytest.raises(PlacementError, match=r"^instance 0 of memory 'local' holds 1024 bytes, but"):
        place(buffers, (Memory("local", 1024, 32, instances=9),), schedule)


def test_hundreds_of_memories():
    """A memory for each of 304 tiles, 8 tasks each."""
    schedule, buffers = grid(304, 8)
    placement = place(buffers, (Memory("local", 4096, 32, instances=304),), schedule)
    assert len(placement.table) == 304 and len(schedule.tasks) == 2432
    assert overlaps(placement, buffers, conflicts(buffers, schedule)) == []


def test_constants_that_are_too_large_by_themselves_end_the_search():
    """No other schedule makes them smaller; programs and tensors it may."""
    def buffer(name, size, kind, **more):
        return Buffer(name, "l2", size, kind, **more)

    memories = (Memory("l2", 100, 8),)
    fit = [buffer("w", 60, "weights", content=bytes(60)), buffer("p", 40, "parameters", content=bytes(40))]
    assert constants_fit([*fit, buffer("c", 50, "program", content=bytes(50)), buffer("t", 90, "tensor")], memories)
    assert constants_fit([*fit, buffer("part", 60, "weights", content=bytes(60), parent="w")], memories)
    assert not constants_fit([*fit, buffer("q", 1, "parameters", content=bytes(1))], memories)
