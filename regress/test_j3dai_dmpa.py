# SPDX-License-Identifier: Apache-2.0
"""J3DAI's DMPA with L2: random lists against the model, every trap, the cycles, and planted bugs."""

import random
from collections import defaultdict

import pytest
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai import dmpa as dmpa_module
from nncosim.hdl.j3dai import dmpa_paths
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp, Space
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.timing import (
    LIST_TO_TAKE,
    LOAD_TO_CLUSTER,
    LOAD_TO_SIGNAL,
    LOAD_TO_STORE,
    STORE_TO_L2,
    STORE_TO_LOAD,
)
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_dmpa_bench import (
    ACTION_BASE,
    BUGS,
    CLUSTERS,
    L2_WORDS,
    LIST_BASE,
    DescriptorTask,
    DmpaBench,
    ListReference,
    built,
    machine,
)
from nncosim.tb.sim.model import Model


def random_task(rng: random.Random, platform: J3dai, actions: list[int]) -> DescriptorTask:
    """A legal descriptor; about one in three waits for clusters, which write something first."""
    clusters = platform.clusters
    op = rng.choice([DmpaOp.LOAD] * 3 + [DmpaOp.GATHER] * 3 + [DmpaOp.STORE] * 4 + [DmpaOp.SYNC])
    fields = {"op": op.value, "signal_mask": rng.choice([0, rng.randrange(1 << clusters)]),
              "signal_semaphore": rng.randrange(8)}
    task = DescriptorTask(fields)
    if rng.random() < 0.35:
        fields |= {"wait_mask": rng.randrange(1, 1 << clusters), "wait_semaphore": rng.randrange(8)}
    if op == DmpaOp.SYNC:
        return task
    n0, n1, n2 = rng.choice([1, 2, 3, 7, 8, 9, 15, 16, 17, 30]), rng.randrange(0, 5), rng.randrange(0, 4)
    step1, step2 = rng.randrange(-35, 36), rng.randrange(-60, 61)
    spread = [i1 * step1 + i2 * step2 for i1 in range(max(1, n1)) for i2 in range(max(1, n2))]
    low, high = -min(spread), LIST_BASE - n0 - max(spread)
    space = rng.choice([Space.L1, Space.L1, Space.WMEM, Space.IMEM]) if op != DmpaOp.STORE else Space.L1
    local = rng.choice([rng.randrange(300), rng.randrange(300), (1 << 14) - rng.randrange(1, 40)])
    fields |= {"clusters": rng.randrange(1, 1 << clusters), "l2": rng.randrange(low, high), "n0": n0, "n1": n1,
               "n2": n2,
               "l2_step1": step1, "l2_step2": step2, "local_step1": rng.randrange(-40, 41),
               "local_step2": rng.randrange(-60, 61), "local": space << 14 | local}
    if op == DmpaOp.GATHER:
        fields |= gather_fields(rng, platform, n0, max(1, n1), max(1, n2))
    if op == DmpaOp.STORE and "wait_mask" in fields and rng.random() < 0.7:  # fetch the clusters' results
        source = (fields["clusters"] & -fields["clusters"]).bit_length() - 1
        fields["wait_mask"] |= 1 << source
        fields |= {"local": actions[0], "local_step1": n0, "local_step2": n0 * max(1, n1)}
        words = range(actions[0], actions[0] + n0 * max(1, n1) * max(1, n2))
        task.writes = {(source, word): rng.getrandbits(platform.word_bits) for word in words}
        actions[0] += len(task.writes)
    return task


def gather_fields(rng: random.Random, platform: J3dai, n0: int, n1: int, n2: int) -> dict[str, int]:
    """What is a GATHER's own: filling on one side, both or none, runs that end within a word, bytes nobody reads."""
    word = platform.word_bytes
    step, used = rng.choice([1, word, rng.randrange(1, word + 1)]), rng.choice([word, rng.randrange(1, word + 1)])
    left = rng.choice([0, 0, used - 1, rng.randrange(used)])
    whole = max(1, (n0 - 1) * step + used - left)
    length = rng.choice([whole, whole, 1, rng.randrange(1, whole + 1), whole + rng.randrange(2 * word)])
    step1, step2 = rng.randrange(-30 * word, 30 * word), rng.randrange(-50 * word, 50 * word)
    spread = [i1 * step1 + i2 * step2 for i1 in range(n1) for i2 in range(n2)]
    low, high = -min(spread), LIST_BASE * word - length - max(spread)
    first = rng.choice([low, high, rng.randrange(low, high + 1), rng.randrange(low, high + 1)])
    return {"step": step, "used": used, "left": left, "length": length, "fill": rng.randrange(256), "l2": first // word,
            "offset": first % word, "l2_step1": step1, "l2_step2": step2}


def way_back(rng: random.Random, task: DescriptorTask) -> DescriptorTask:
    """A descriptor that moves the last beat of `task` the other way: it must see what `task` wrote."""
    f = defaultdict(int, task.fields)
    last = (f["n0"] - 1) % 8 + 1
    i1, i2 = max(1, f["n1"]) - 1, max(1, f["n2"]) - 1
    l2 = f["l2"] + f["n0"] - last + i1 * f["l2_step1"] + i2 * f["l2_step2"]
    local = (f["local"] + f["n0"] - last + i1 * f["local_step1"] + i2 * f["local_step2"]) % (1 << 14)
    loads = f["op"] != DmpaOp.STORE.value
    if loads:  # to other words of L2
        l2 = rng.randrange(LIST_BASE - last)
    return DescriptorTask({"op": (DmpaOp.STORE if loads else DmpaOp.LOAD).value, "clusters": f["clusters"], "l2": l2,
                 "local": local, "n0": last, "signal_mask": 0})


def place_lists(bench: DmpaBench, rng: random.Random, tasks: list[DescriptorTask]) -> list[int]:
    """Put the descriptors into L2 as lists of random lengths; gives the lists' addresses."""
    starts, address, left, index = [], LIST_BASE, 0, 0
    line = bench.banks
    for number, task in enumerate(tasks):
        if left == 0:
            address = -(-address // line) * line
            starts.append(address)
            left, index = min(rng.choice([1, 2, 4, 5, 9]), len(tasks) - number), 0
        left -= 1
        task.list_index = len(starts) - 1
        assert address + 256 // bench.word_bits <= L2_WORDS
        address = bench.poke_descriptor(address, encode(Descriptor, **task.fields, end=int(left == 0)))
        index += 1
    return starts


def run(bench: DmpaBench, rng: random.Random, tasks: list[DescriptorTask], starts: list[int]) -> None:
    """Push the lists as places are free, let the clusters signal after random delays, until all is done."""
    pending = [(number, c) for number, task in enumerate(tasks)
               for c in range(bench.clusters) if task.fields.get("wait_mask", 0) >> c & 1]
    order = {c: [number for number, cluster in pending if cluster == c] for c in range(bench.clusters)}
    pushes = list(starts)
    limit = bench.cycle + 40_000
    target = len(bench.dones) + len(starts)
    while len(bench.dones) < target:
        assert bench.cycle < limit, f"hang; descriptor at {bench.model.busy}"
        push = pushes.pop(0) if pushes and bench.model.free and rng.random() < 0.2 else None
        signals = 0
        for c, numbers in order.items():
            if numbers and rng.random() < 0.03:
                number = numbers.pop(0)
                for (cluster, word), value in tasks[number].writes.items():
                    if cluster == c:
                        bench.local[c][Space.L1, word] = value
                signals |= 1 << (8 * c + tasks[number].fields["wait_semaphore"])
                bench.signalled[number, c].append(bench.cycle)
        bench.step(push, signals)
    for _ in range(8):
        bench.step()
    assert not bench.model.trap


def check(bench: DmpaBench, tasks: list[DescriptorTask], before: list[int]) -> None:
    """Everything the bench noted against the reference."""
    reference = ListReference(bench.platform, before)
    for number, task in enumerate(tasks):
        reference.execute(number, task)
    # Words written, in order; a descriptor's words land before it signals, and after it was allowed to start.
    assert [entry[1:] for entry in sort_beats(bench.loads)] == [entry[1:] for entry in sort_beats(reference.loads)]
    assert [(word, index) for _, word, index in bench.stores] == [
        (word, tasks[number].list_index) for number, word, _ in reference.stores]
    landed: dict[int, int] = defaultdict(int)
    began: dict[int, int] = {}
    for (cycle, *_), (number, *_) in [*zip(sort_beats(bench.loads), sort_beats(reference.loads), strict=True),
                                      *zip(bench.stores, reference.stores, strict=True)]:
        landed[number] = max(landed[number], cycle)
        began[number] = min(began.get(number, cycle), cycle)
    for (number, cluster), cycles in bench.signalled.items():
        assert number not in began or began[number] > max(cycles), f"descriptor {number} did not wait for {cluster}"
    expected = [(number, sum(1 << (8 * c + task.fields["signal_semaphore"]) for c in range(bench.clusters)
                             if task.fields["signal_mask"] >> c & 1)) for number, task in enumerate(tasks)]
    expected = [(number, pulses) for number, pulses in expected if pulses]
    assert [pulses for _, pulses in bench.signals] == [pulses for _, pulses in expected]
    latest = 0
    for (cycle, _), (number, _) in zip(bench.signals, expected, strict=True):
        latest = max([latest, *(landed[k] for k in range(number + 1))])
        assert cycle >= latest, f"descriptor {number} signals in cycle {cycle}, before its last word of cycle {latest}"
    last_of_list = {task.list_index: number for number, task in enumerate(tasks)}
    for index, number in last_of_list.items():
        latest = max([0, *(landed[k] for k in range(number + 1))])
        assert bench.dones[index] >= latest, f"list {index} is done too early"
    # Contents.
    assert [bench.peek(k) for k in range(LIST_BASE)] == reference.l2[:LIST_BASE]
    for c in range(bench.clusters):
        assert {k: v for k, v in bench.local[c].items() if v} == {k: v for k, v in reference.local[c].items() if v}


def sort_beats(words: list[tuple]) -> list[tuple]:
    """Per cluster, in order of time: the clusters of a broadcast are written at once."""
    return sorted(words, key=lambda entry: entry[1])


def exercise(
    platform: J3dai | None = None, seed: int = 1, count: int = 90, bug: str = "", drains: float | None = None
) -> None:
    """Random lists on a fresh simulation, with drains in their way: that share of the cycles, or a random one."""
    rng, platform = random.Random(seed), platform or machine()
    with Model(built(platform), seed=seed) as model:
        model.reset()
        chosen = rng.choice([0.0, 0.3, 0.6]) if drains is None else drains
        bench = DmpaBench(model, platform, rng, chosen, bug)
        before = [rng.getrandbits(platform.word_bits) for _ in range(L2_WORDS)]
        for address, value in enumerate(before):
            bench.poke(address, value)
        actions = [ACTION_BASE]
        tasks: list[DescriptorTask] = []
        while len(tasks) < count:
            tasks.append(random_task(rng, platform, actions))
            if tasks[-1].fields["op"] != DmpaOp.SYNC.value and rng.random() < 0.4:
                tasks.append(way_back(rng, tasks[-1]))
        starts = place_lists(bench, rng, tasks)
        for _ in range(3):
            bench.step()
        run(bench, rng, tasks, starts)
        check(bench, tasks, before)
        assert model.idle and not model.busy and model.lists_done == len(starts)
        counters = [model.counters >> (32 * k) & 0xFFFFFFFF for k in Counter]
        assert sum(counters) == bench.cycle - 1
        beats = len({entry[0] for entry in bench.loads}) + len({entry[0] for entry in bench.stores})
        assert counters[Counter.BUSY] == beats


@pytest.mark.parametrize("seed", range(8))
def test_random_lists(seed):
    exercise(seed=seed)


@pytest.mark.parametrize(("beat_words", "clusters"), [(1, 1), (2, 6), (4, 8)])
def test_sizes(beat_words, clusters):
    exercise(platform=machine(beat_words, clusters), seed=beat_words, count=50)


@pytest.mark.parametrize(("ncbs", "pes", "beat_words"), [(8, 4, 4), (8, 16, 2), (32, 16, 16), (32, 4, 1)])
def test_other_words_and_lines(ncbs, pes, beat_words):
    """Descriptors of four words, two or one; lines of one descriptor up to sixteen."""
    for seed in range(2):
        exercise(platform=machine(beat_words, 2, ncbs, pes), seed=seed, count=40)


@pytest.mark.parametrize("bug", BUGS[1:])
def test_planted_wiring_bug_is_caught(bug):
    with pytest.raises(AssertionError):
        exercise(bug=bug, drains=0.5)


@pytest.mark.parametrize(("module", "constant", "value"), [
    (dmpa_paths, "LOAD_TO_SIGNAL", 4), (dmpa_paths, "STORE_TO_SIGNAL", 4),
    (dmpa_module, "STORE_TO_LOAD", 2), (dmpa_module, "LOAD_TO_STORE", 1),
])
def test_planted_timing_bug_is_caught(monkeypatch, module, constant, value):
    monkeypatch.setattr(module, constant, value)
    with pytest.raises(AssertionError):
        for seed in range(6):
            exercise(seed=seed, drains=0.5)


def quiet(model: Model, *tasks: DescriptorTask) -> DmpaBench:
    """A bench without drains whose L2 holds one list of `tasks` at LIST_BASE and zeros elsewhere."""
    bench = DmpaBench(model, machine(), random.Random(1), drains=0.0)
    for address in range(L2_WORDS):
        bench.poke(address, 0)
    for number, task in enumerate(tasks):
        word = encode(Descriptor, **{"end": int(number == len(tasks) - 1), **task.fields})
        bench.poke_descriptor(LIST_BASE + 2 * number, word)
    for _ in range(3):
        bench.step()
    return bench


LOAD, STORE, SYNC = DmpaOp.LOAD.value, DmpaOp.STORE.value, DmpaOp.SYNC.value
GOOD = {"op": LOAD, "clusters": 1, "n0": 3}


@pytest.mark.parametrize(("name", "fields"), [
    ("n0 = 0", {"n0": 0}), ("no cluster", {"clusters": 0}), ("a cluster too many", {"clusters": 1 | 1 << CLUSTERS}),
    ("LOAD to space 3", {"local": 3 << 14}), ("STORE from WMEM", {"op": STORE, "local": 1 << 14}),
    ("beyond L2", {"l2": L2_WORDS - 2}), ("second run beyond L2", {"n1": 2, "l2_step1": L2_WORDS - 2}),
    ("below L2", {"n1": 2, "l2_step1": -1}), ("list runs beyond L2", {"end": 0}),
])
def test_trap(name, fields):
    with Model(built()) as model:
        model.reset()
        at = L2_WORDS - 8 if "list runs" in name else LIST_BASE
        bench = quiet(model, DescriptorTask(GOOD | fields))
        if at != LIST_BASE:
            good = encode(Descriptor, **GOOD)
            for word in range(0, 8, 2):
                bench.poke_descriptor(at + word, good)
        bench.step(push=at)
        for _ in range(40):
            bench.step()
        assert model.trap, name
        beats, dones = len(bench.loads), list(bench.dones)
        bench.step(push=LIST_BASE)  # stopped for good
        for _ in range(40):
            bench.step()
        assert model.trap and len(bench.loads) == beats and bench.dones == dones == []


def test_unknown_operations_trap():
    for op in (0, 5, 15):
        with Model(built()) as model:
            model.reset()
            bench = quiet(model, DescriptorTask(GOOD))
            bench.poke(LIST_BASE, bench.peek(LIST_BASE) & ~0xF | op)
            bench.step(push=LIST_BASE)
            for _ in range(20):
                bench.step()
            assert model.trap and not bench.loads, op


@pytest.mark.parametrize("address", [LIST_BASE + 4, L2_WORDS, 1 << 20, 1 << 31])
def test_push_of_a_bad_address_traps(address):
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, DescriptorTask(GOOD))
        bench.step(push=address)
        bench.step()
        assert model.trap


def test_push_to_a_full_queue_traps():
    """One list waits for a cluster for ever, one is fetched behind it, four are queued: the next is one too many."""
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, DescriptorTask(GOOD | {"wait_mask": 1}))
        for _ in range(2):
            bench.step(push=LIST_BASE)
            for _ in range(10):
                bench.step()
        for free in (4, 3, 2, 1):
            assert model.free == free and not model.trap
            bench.step(push=LIST_BASE)
        assert model.free == 0 and not model.trap
        bench.step(push=LIST_BASE)
        bench.step()
        assert model.trap


def test_semaphores_saturate():
    """300 signals count 255: 255 waits pass, the next does not."""
    with Model(built()) as model:
        model.reset()
        wait = DescriptorTask({"op": SYNC, "wait_mask": 2, "wait_semaphore": 3})
        bench = quiet(model, wait)
        for _ in range(300):
            bench.step(signals=1 << (8 + 3))
        pushed = 0
        for _ in range(6000):
            push = LIST_BASE if pushed < 256 and model.free else None
            pushed += push is not None
            bench.step(push=push)
        assert len(bench.dones) == 255 and model.busy and not model.trap
        bench.step(signals=1 << (8 + 3))
        for _ in range(10):
            bench.step()
        assert len(bench.dones) == 256 and model.idle


def test_cycles():
    """The distances that the cycle model is built on."""
    load, store = DescriptorTask(GOOD | {"n0": 20}), DescriptorTask(GOOD | {"op": STORE, "n0": 20})
    tasks = [load, load, store, store, load, DescriptorTask({"op": SYNC, "signal_mask": 1}), DescriptorTask(GOOD)]
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, *tasks)
        start = bench.cycle
        bench.step(push=LIST_BASE)
        for _ in range(80):
            bench.step()
        beats = sorted({entry[0] for entry in bench.loads})  # in L1
        issue = [cycle - LOAD_TO_CLUSTER - 1 - start for cycle in beats]
        first = LIST_TO_TAKE + 1
        writes = sorted({cycle - STORE_TO_L2 - start for cycle, *_ in bench.stores})
        assert issue[:6] == list(range(first, first + 6)), "two LOADs follow each other without a gap"
        stores = first + 5 + LOAD_TO_STORE
        assert writes == list(range(stores, stores + 6))
        second_load = stores + 5 + STORE_TO_LOAD
        assert issue[6:9] == [second_load, second_load + 1, second_load + 2]
        assert bench.signals == [(start + second_load + 3 + LOAD_TO_SIGNAL, 1)], "SYNC is issued right behind"
        assert bench.dones == [start + second_load + 4 + LOAD_TO_SIGNAL]
