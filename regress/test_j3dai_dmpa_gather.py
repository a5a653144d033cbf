# SPDX-License-Identifier: Apache-2.0
"""GATHER of J3DAI's DMPA: each offset, step, use and filling, at both ends of L2, beat by beat, and planted bugs."""

import itertools
import random
from collections import defaultdict
from types import ModuleType

import pytest
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai import dmpa as dmpa_module
from nncosim.hdl.j3dai import dmpa_pick, dmpa_walk
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp, Space
from nncosim.hdl.j3dai.timing import LIST_TO_TAKE, LOAD_TO_CLUSTER
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_dmpa_bench import (
    L2_WORDS,
    LIST_BASE,
    DescriptorTask,
    DmpaBench,
    ListReference,
    built,
    machine,
)
from nncosim.regress.planted import planted
from nncosim.regress.test_j3dai_dmpa import place_lists, quiet, run
from nncosim.tb.sim.model import Model

GATHER, WORD = DmpaOp.GATHER.value, 16
GOOD = {"op": GATHER, "clusters": 1, "n0": 3, "step": 3, "used": 3, "length": 9}


def beat_words(platform: J3dai, step: int) -> int:
    """By the manual: as many words as lie within a line, begin they where they may in its first word."""
    line, word = platform.banks * platform.ncbs_per_cluster, platform.ncbs_per_cluster
    fitting = [k for k in range(1, platform.banks + 1) if word - 1 + (k - 1) * step + word <= line]
    return min(max(fitting), platform.dmpa_bits // (8 * word), platform.banks)


def sweep(platform: J3dai, rng: random.Random) -> list[DescriptorTask]:
    """Every step with every offset; every use with every filling to the left, and ends at every byte of a word."""
    word, tasks = platform.word_bytes, []

    def add(first: int, n0: int, step: int, used: int, left: int, length: int, further: int | None = None) -> None:
        tasks.append(DescriptorTask({
            "op": GATHER, "clusters": rng.randrange(1, 1 << platform.clusters), "l2": first // word,
            "offset": first % word, "n0": n0, "step": step, "used": used, "left": left, "length": length,
            "fill": rng.randrange(1, 256), "local": Space.L1 << 14 | rng.randrange(200), "signal_mask": 0,
            "n1": 1 if further is None else 2, "l2_step1": further or 0, "local_step1": n0,
        }))

    size = LIST_BASE * word
    for step, offset in itertools.product(range(1, word + 1), range(word)):
        used, n0 = rng.randrange(1, word + 1), beat_words(platform, step) + rng.randrange(1, 4)
        add(rng.randrange(LIST_BASE // 2) * word + offset, n0, step, used, 0, (n0 - 1) * step + used)
    for used in range(1, word + 1):
        for left in range(used):
            step, n0 = rng.randrange(1, word + 1), rng.randrange(1, 12)
            whole = max(1, (n0 - 1) * step + used - left)
            length = max(1, whole - rng.randrange(2 * word))
            # the first and last bytes of what may be read
            first, second = (rng.choice([0, size - length, rng.randrange(size - length)]) for _ in range(2))
            add(first, n0, step, used, left, length, second - first)
    return tasks


def gathered(platform: J3dai, tasks: list[DescriptorTask], seed: int, drains: float) -> None:
    """The tasks in lists, against the reference, word by word; beats against the manual's size of one."""
    rng = random.Random(seed)
    with Model(built(platform), seed=seed) as model:
        model.reset()
        bench = DmpaBench(model, platform, rng, drains)
        before = [rng.getrandbits(platform.word_bits) for _ in range(L2_WORDS)]
        for address, value in enumerate(before):
            bench.poke(address, value)
        room = (L2_WORDS - LIST_BASE) // platform.banks * platform.line_descriptors // 10
        reference = ListReference(platform, before)
        for at in range(0, len(tasks), room):
            some, start = tasks[at : at + room], len(bench.loads)
            starts = place_lists(bench, rng, some)
            bench.step()
            run(bench, rng, some, starts)
            reference.loads.clear()
            for number, task in enumerate(some):
                reference.execute(number, task)
            by_cluster: dict[bool, dict[int, list]] = {True: defaultdict(list), False: defaultdict(list)}
            for entry in bench.loads[start:]:
                by_cluster[True][entry[1]].append(entry[2:])
            for entry in reference.loads:
                by_cluster[False][entry[1]].append(entry[2:])
            assert by_cluster[True] == by_cluster[False]
            beats = sum(
                task.fields["n1"] * -(-task.fields["n0"] // beat_words(platform, task.fields["step"])) for task in some)
            assert len({entry[0] for entry in bench.loads[start:]}) == beats
        assert model.idle and not model.trap


@pytest.mark.parametrize(("platform", "drains"), [
    (machine(), 0.0), (machine(), 0.5), (machine(2, 2), 0.3), (machine(4, 2, 8, 4), 0.3),
], ids=["default", "drains", "narrow", "8x4"])  # fmt: skip
def test_every_offset_step_use_and_filling(platform, drains):
    gathered(platform, sweep(platform, random.Random(5)), 5, drains)


@pytest.mark.slow
@pytest.mark.parametrize("platform", [machine(16, 2, 32, 16), machine(1, 1, 32, 4), machine(2, 2, 8, 16)], ids=str)
def test_every_offset_step_use_and_filling_of_other_machines(platform):
    gathered(platform, sweep(platform, random.Random(6)), 6, 0.3)


def test_beats_follow_each_other():
    """A beat a cycle, and the next descriptor right behind it."""
    tasks = [DescriptorTask(GOOD | {"n0": 20, "step": step, "used": 1, "length": 400}) for step in (16, 13, 1)]
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, *tasks)
        start = bench.cycle
        bench.step(push=LIST_BASE)
        for _ in range(40):
            bench.step()
        beats = sorted({entry[0] for entry in bench.loads})
        first = start + LIST_TO_TAKE + 1 + LOAD_TO_CLUSTER + 1
        assert beats[:3] == [first, first + 1, first + 2] and len(beats) == 3 * 3
        sizes = [sum(entry[0] == cycle for entry in bench.loads) for cycle in beats]
        assert sizes == [7, 7, 6, 8, 8, 4, 8, 8, 4]


@pytest.mark.parametrize(("name", "fields"), [
    ("step 0", {"step": 0}), ("step above a word", {"step": 17}), ("step 63", {"step": 63}), ("used 0", {"used": 0}),
    ("used above a word", {"used": 17}), ("offset above a word", {"offset": 16}), ("offset 31", {"offset": 31}),
    ("all filling", {"left": 3}), ("no bytes", {"length": 0}), ("no words", {"n0": 0}), ("no cluster", {"clusters": 0}),
    ("space 3", {"local": 3 << 14}), ("one byte beyond L2", {"l2": L2_WORDS - 1, "offset": 8}),
    ("second run beyond", {"n1": 2, "l2_step1": WORD * L2_WORDS - 8}), ("below L2", {"n1": 2, "l2_step1": -1}),
    ("below L2, filling before", {"n1": 2, "l2_step1": -2, "left": 1, "used": 16}),
    ("bytes that no word has", {"length": WORD * L2_WORDS + 1}),
    ("round the end", {"l2": (1 << 20) - 1, "offset": 15}),
    ("round the end, filling before", {"l2": (1 << 20) - 1, "offset": 15, "left": 2}),
])  # fmt: skip
def test_trap(name, fields):
    assert trapped(fields), name


def trapped(fields: dict[str, int], platform: J3dai | None = None) -> bool:
    """Whether a list of one GATHER traps, or else is done."""
    platform = platform or machine()
    with Model(built(platform)) as model:
        model.reset()
        bench = DmpaBench(model, platform, random.Random(1), drains=0.0)
        bench.poke_descriptor(LIST_BASE, encode(Descriptor, **GOOD | fields, end=1))
        bench.step(push=LIST_BASE)
        for _ in range(60):
            bench.step()
        assert model.trap != len(bench.dones)
        return bool(model.trap)


@pytest.mark.parametrize("fields", [
    {"l2": L2_WORDS - 1, "offset": 7}, {"left": 2}, {"n1": 2, "l2_step1": WORD * L2_WORDS - 9},
    {"length": WORD * L2_WORDS}, {"l2": L2_WORDS - 1, "offset": 15, "length": 1, "n0": 30, "step": 16, "used": 16},
])  # fmt: skip
def test_just_within_is_no_trap(fields):
    assert not trapped(fields)


def test_no_other_word_of_l2_is_read():
    reads_its_own(machine())


def reads_its_own(platform: J3dai) -> None:
    """What lies before a run's first byte and behind its last may be anybody's."""
    rng, word = random.Random(3), platform.word_bytes
    with Model(built(platform)) as model:
        model.reset()
        for _ in range(60):
            used, first = rng.randrange(1, word + 1), rng.randrange(word, 600 * word)
            length = rng.randrange(1, 4 * word)
            fields = GOOD | {
                "l2": first // word, "offset": first % word, "left": rng.randrange(used), "length": length,
                "n0": rng.randrange(1, 9), "step": rng.randrange(1, word + 1), "used": used,
            }
            bench = DmpaBench(model, platform, rng, drains=0.0)
            bench.poke_descriptor(LIST_BASE, encode(Descriptor, **fields, end=1))
            read = set()
            for k in range(30):
                if model.probe_sources & 1:
                    read |= {model.l2_addr + i for i in range(platform.banks) if model.l2_mask >> i & 1}
                bench.step(push=LIST_BASE if k == 0 else None)
            assert bench.dones and read <= set(range(first // word, (first + length - 1) // word + 1))


BUGS = [
    (dmpa_walk, "reads[0] & ~next_word", "reads[0]"),
    (dmpa_walk, "(words_left >= i) & ~words_left[-1]", "(words_left >= i)"),
    (dmpa_walk, "bytes_left[:(p.line_bytes - 1).bit_length()] + 1", "bytes_left[:(p.line_bytes - 1).bit_length()]"),
    (dmpa_walk, "Mux(left > advance, left - advance, 0)", "0"),
    (dmpa_walk, "left.eq(Mux(gathers, current.left, 0))", "left.eq(0)"),
    (dmpa_walk, "(~before & (last < at[:bits]))", "0"),
    (dmpa_walk, "begins & ((last", "((last"),
    (dmpa_walk, "last.eq(at + d.length - 1)", "last.eq(at + d.length)"),
    (dmpa_walk, "start.eq(at - Mux(gathers, d.left, 0))", "start.eq(at)"),
    (dmpa_pick, "taken.eq(inside & used)", "taken.eq(inside)"),
    (dmpa_pick, "filled.eq(~inside & used)", "filled.eq(~inside)"),
    (dmpa_pick, "for k in range(i + 1)", "for k in range(max(i, 1))"),
    (dmpa_module, "(d.left >= d.used)", "(d.left > d.used)"),
    (dmpa_module, "(d.offset >= word)", "0"),
]


@pytest.mark.parametrize(("module", "right", "wrong"), BUGS, ids=[wrong for _, _, wrong in BUGS])
def test_planted_bug_is_caught(monkeypatch, module: ModuleType, right, wrong):
    name, user = {dmpa_walk: ("BeatWalk", "hdl.j3dai.dmpa"), dmpa_pick: ("BytePick", "hdl.j3dai.dmpa_paths"),
                  dmpa_module: ("Dmpa", "regress.j3dai_dmpa_bench")}[module]
    monkeypatch.setattr(f"nncosim.{user}.{name}", getattr(planted(module, right, wrong), name))
    with pytest.raises(AssertionError):
        small_machine()


def small_machine() -> None:
    """All of the above on a machine that is quickly built."""
    small = machine(2, 1, 8, 4)
    gathered(small, sweep(small, random.Random(5)), 1, 0.0)
    reads_its_own(small)
    for fields in ({"offset": 8}, {"left": 3}, {"l2": (1 << 20) - 1, "offset": 7, "left": 2}):
        assert trapped(fields, small)


def test_small_machine():
    small_machine()
