"""J3DAI's DMPA with L2 against a model that executes descriptor lists one word after the other."""

import random
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.emit import emit_design
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai import dmpa as dmpa_module
from nncosim.hdl.j3dai import dmpa_paths
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp, Space
from nncosim.hdl.j3dai.l2 import L2
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.timing import (
    LIST_TO_TAKE,
    LOAD_TO_CLUSTER,
    LOAD_TO_SIGNAL,
    LOAD_TO_STORE,
    STORE_TO_L2,
    STORE_TO_LOAD,
)
from nncosim.tb.model import Model
from nncosim.tb.verilate import build

CLUSTERS = 3
L2_WORDS = 1280
LIST_BASE = 768  # words from here up hold descriptors
ACTION_BASE = 4096  # L1 words that only the clusters' own results are written to
WORD = (1 << 128) - 1


class DmpaWithL2(wiring.Component):
    """DMPA and L2 wired as in the SoC; `bug` plants an error between the DMPA and the clusters."""

    def __init__(self, beat_words: int = 8, clusters: int = CLUSTERS, bug: str = ""):
        self.beat_words, self.clusters, self.bug = beat_words, clusters, bug
        self.dmpa = Dmpa(clusters, L2_WORDS, beat_words)
        ports = {name: member for name, member in self.dmpa.signature.members.items()
                 if not name.startswith(("l2_", "probe"))}
        super().__init__(ports | {"probe_sources": Out(3), "l2_we": Out(1), "l2_re": Out(1), "l2_addr": Out(20),
                                  "l2_mask": Out(8), "probe_list": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dmpa = dmpa = self.dmpa
        m.submodules.l2 = l2 = L2(L2_WORDS, self.beat_words)
        for name, member in self.signature.members.items():
            if member.flow == In:
                m.d.comb += getattr(dmpa, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(dmpa, name))
        m.d.comb += [l2.addr.eq(dmpa.l2_addr), l2.mask.eq(dmpa.l2_mask), l2.r_en.eq(dmpa.l2_re),
                     l2.w_en.eq(dmpa.l2_we), l2.w_data.eq(dmpa.l2_wdata), dmpa.l2_rdata.eq(l2.r_data)]
        if self.bug == "address":
            m.d.comb += self.wr_addr.eq(dmpa.wr_addr + (dmpa.wr_addr[:3] == 7))
        if self.bug == "mask":
            m.d.comb += self.wr_mask.eq(dmpa.wr_mask | 0x80)
        if self.bug == "back-pressure":
            m.d.comb += dmpa.drain_ahead.eq(0)
        if self.bug == "store mask":
            m.d.comb += l2.mask.eq(dmpa.l2_mask | (dmpa.l2_mask << 1))
        return m


def built(bug: str = "", beat_words: int = 8, clusters: int = CLUSTERS):
    """The design under test as a simulation."""
    return build(emit_design(DmpaWithL2(beat_words, clusters, bug), "dmpa_bench"), "dmpa_bench")


@dataclass
class Task:
    """A descriptor's fields, and what the clusters write to their L1 before they signal it."""

    fields: dict
    list_index: int = 0
    writes: dict = field(default_factory=dict)  # (cluster, word address) -> value, before the SIGNAL


class Reference:
    """Memory contents and, per descriptor, the words written, by the manual's words alone."""

    def __init__(self, l2: list[int], clusters: int):
        self.l2 = list(l2)
        self.local = [defaultdict(int) for _ in range(clusters)]  # (space, word) -> value
        self.loads: list[tuple[int, int, int, int, int]] = []  # (task, cluster, space, word, value)
        self.stores: list[tuple[int, int, int]] = []  # (task, l2 word, value)

    def execute(self, number: int, task: Task) -> None:
        f = defaultdict(int, task.fields)
        for (cluster, word), value in task.writes.items():
            self.local[cluster][Space.L1, word] = value
        if f["op"] == DmpaOp.SYNC.value:
            return
        space, base = f["local"] >> 14, f["local"] & 0x3FFF
        targets = [c for c in range(8) if f["clusters"] >> c & 1]
        for i2 in range(max(1, f["n2"])):
            for i1 in range(max(1, f["n1"])):
                for i0 in range(f["n0"]):
                    far = f["l2"] + i1 * f["l2_step1"] + i2 * f["l2_step2"] + i0
                    near = (base + i1 * f["local_step1"] + i2 * f["local_step2"] + i0) % (1 << 14)
                    if f["op"] == DmpaOp.LOAD.value:
                        for cluster in targets:
                            self.local[cluster][space, near] = self.l2[far]
                            self.loads.append((number, cluster, space, near, self.l2[far]))
                    else:
                        self.l2[far] = self.local[targets[0]][space, near]
                        self.stores.append((number, far, self.l2[far]))


class Bench:
    """Plays the clusters and the host, cycle by cycle, and notes what the DMPA did and when."""

    def __init__(self, model: Model, clusters: int, beat_words: int, rng: random.Random, drains: float):
        self.model, self.clusters, self.rng, self.drains = model, clusters, rng, drains
        self.beat_words = beat_words
        self.local = [defaultdict(int) for _ in range(clusters)]
        self.loads, self.stores, self.signals = [], [], []  # as in Reference, with the cycle first
        self.dones: list[int] = []
        self.signalled: dict[tuple[int, int], list[int]] = defaultdict(list)  # when the clusters signalled
        self.cycle = 0
        self.reads, self.answers, self.landing, self.drain_history = {}, {}, {}, {}
        self.states = [model.memory(f"l2.bank{k}") for k in range(8)]

    def poke(self, address: int, value: int) -> None:
        self.states[address % 8][address // 8] = np.frombuffer(value.to_bytes(16, "little"), dtype="<u4")

    def peek(self, address: int) -> int:
        return int.from_bytes(self.states[address % 8][address // 8].tobytes(), "little")

    def step(self, push: int | None = None, signals: int = 0) -> None:
        """One cycle: drive inputs, look at what is on the wires, go on."""
        m, t = self.model, self.cycle
        drain = 0
        for c in range(self.clusters):
            drain |= (self.rng.random() < self.drains) << c
        self.drain_history[t] = drain
        m.drain_ahead = drain
        m.push, m.push_addr = (push is not None), push or 0
        m.signal_out = signals
        if t in self.answers:
            cluster, data = self.answers.pop(t)
            m.rd_data = data << (1024 * cluster)
        sources = m.probe_sources
        assert sources in (0, 1, 2, 4), f"cycle {t}: L2's port is used by several: {sources:03b}"
        self._cluster_side(t)
        self._l2_side(t)
        m.tick()
        for cluster, where, value in self.landing.pop(t, []):
            self.local[cluster][where] = value
        self.cycle += 1

    def _cluster_side(self, t: int) -> None:
        m = self.model
        for cluster, words in self.reads.pop(t, []):  # L1's read port: sees what landed before this cycle
            data = sum(self.local[cluster][Space.L1, word] << (128 * i) for i, word in enumerate(words))
            self.answers[t + 2] = cluster, data
        if valid := m.wr_valid:
            space, base, mask, data = m.wr_space, m.wr_addr, m.wr_mask, m.wr_data
            if space == Space.L1:
                assert not valid & self.drain_history[t - 3], f"cycle {t}: a LOAD beat meets a drain in L1"
            assert mask < 1 << self.beat_words, f"cycle {t}: beat of words {mask:#x}"
            for c in range(self.clusters):
                for i in range(8):
                    if valid >> c & 1 and mask >> i & 1:
                        where, value = (space, (base + i) % (1 << 14)), data >> (128 * i) & WORD
                        self.landing.setdefault(t + 1, []).append((c, where, value))
                        self.loads.append((t + 1, c, *where, value))
        if valid := m.rd_valid:
            assert valid & (valid - 1) == 0
            cluster, base = valid.bit_length() - 1, m.rd_addr
            self.reads.setdefault(t + 1, []).append((cluster, [(base + i) % (1 << 14) for i in range(8)]))
        if pulses := m.signal_in:
            self.signals.append((t, pulses))

    def _l2_side(self, t: int) -> None:
        m = self.model
        if m.l2_we:
            mask, base = m.l2_mask, m.l2_addr
            assert mask < 1 << self.beat_words, f"cycle {t}: L2 beat of words {mask:#x}"
            self.stores += [(t, base + i, m.probe_list) for i in range(8) if mask >> i & 1]
        if m.list_done:
            self.dones.append(t)


def random_task(rng: random.Random, clusters: int, actions: list[int]) -> Task:
    """A legal descriptor; about one in three waits for clusters, which write something first."""
    op = rng.choice([DmpaOp.LOAD] * 4 + [DmpaOp.STORE] * 4 + [DmpaOp.SYNC])
    fields = {"op": op.value, "signal_mask": rng.choice([0, rng.randrange(1 << clusters)]),
              "signal_semaphore": rng.randrange(8)}
    task = Task(fields)
    if rng.random() < 0.35:
        fields |= {"wait_mask": rng.randrange(1, 1 << clusters), "wait_semaphore": rng.randrange(8)}
    if op == DmpaOp.SYNC:
        return task
    n0, n1, n2 = rng.choice([1, 2, 3, 7, 8, 9, 15, 16, 17, 30]), rng.randrange(0, 5), rng.randrange(0, 4)
    step1, step2 = rng.randrange(-35, 36), rng.randrange(-60, 61)
    spread = [i1 * step1 + i2 * step2 for i1 in range(max(1, n1)) for i2 in range(max(1, n2))]
    low, high = -min(spread), LIST_BASE - n0 - max(spread)
    space = rng.choice([Space.L1, Space.L1, Space.WMEM, Space.IMEM]) if op == DmpaOp.LOAD else Space.L1
    local = rng.choice([rng.randrange(300), rng.randrange(300), (1 << 14) - rng.randrange(1, 40)])
    fields |= {"clusters": rng.randrange(1, 1 << clusters), "l2": rng.randrange(low, high), "n0": n0, "n1": n1,
               "n2": n2,
               "l2_step1": step1, "l2_step2": step2, "local_step1": rng.randrange(-40, 41),
               "local_step2": rng.randrange(-60, 61), "local": space << 14 | local}
    if op == DmpaOp.STORE and "wait_mask" in fields and rng.random() < 0.7:  # fetch the clusters' results
        source = (fields["clusters"] & -fields["clusters"]).bit_length() - 1
        fields["wait_mask"] |= 1 << source
        fields |= {"local": actions[0], "local_step1": n0, "local_step2": n0 * max(1, n1)}
        task.writes = {(source, actions[0] + i): rng.getrandbits(128) for i in range(n0 * max(1, n1) * max(1, n2))}
        actions[0] += len(task.writes)
    return task


def way_back(rng: random.Random, task: Task) -> Task:
    """A descriptor that moves the last beat of `task` the other way: it must see what `task` wrote."""
    f = defaultdict(int, task.fields)
    last = (f["n0"] - 1) % 8 + 1
    i1, i2 = max(1, f["n1"]) - 1, max(1, f["n2"]) - 1
    l2 = f["l2"] + f["n0"] - last + i1 * f["l2_step1"] + i2 * f["l2_step2"]
    local = (f["local"] + f["n0"] - last + i1 * f["local_step1"] + i2 * f["local_step2"]) % (1 << 14)
    loads = f["op"] == DmpaOp.LOAD.value
    if loads:  # to other words of L2
        l2 = rng.randrange(LIST_BASE - last)
    return Task({"op": (DmpaOp.STORE if loads else DmpaOp.LOAD).value, "clusters": f["clusters"], "l2": l2,
                 "local": local, "n0": last, "signal_mask": 0})


def place_lists(bench: Bench, rng: random.Random, tasks: list[Task]) -> list[int]:
    """Put the descriptors into L2 as lists of random lengths; gives the lists' addresses."""
    starts, address, left, index = [], LIST_BASE, 0, 0
    lines: dict[int, int] = {}
    for number, task in enumerate(tasks):
        if left == 0:
            address = (address + 7) // 8 * 8
            starts.append(address)
            left, index = min(rng.choice([1, 2, 4, 5, 9]), len(tasks) - number), 0
        left -= 1
        task.list_index = len(starts) - 1
        word = encode(Descriptor, **task.fields, end=int(left == 0))
        lines[address], lines[address + 1] = word & WORD, word >> 128
        address += 2
        index += 1
    assert address <= L2_WORDS
    for where, value in lines.items():
        bench.poke(where, value)
    return starts


def run(bench: Bench, rng: random.Random, tasks: list[Task], starts: list[int]) -> None:
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


def check(bench: Bench, tasks: list[Task], before: list[int]) -> None:
    """Everything the bench noted against the reference."""
    reference = Reference(before, bench.clusters)
    for number, task in enumerate(tasks):
        reference.execute(number, task)
    # Words written, in order; a descriptor's words land before it signals, and after it was allowed to start.
    assert [entry[1:] for entry in sort_beats(bench.loads)] == [entry[1:] for entry in sort_beats(reference.loads)]
    assert [(word, index) for _, word, index in bench.stores] == [
        (word, tasks[number].list_index) for number, word, _ in reference.stores]
    landed, began = defaultdict(int), {}
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


def exercise(bug: str = "", beat_words: int = 8, clusters: int = CLUSTERS, seed: int = 1, count: int = 90) -> None:
    """Random lists on a fresh simulation."""
    rng = random.Random(seed)
    with Model(built(bug, beat_words, clusters), seed=seed) as model:
        model.reset()
        bench = Bench(model, clusters, beat_words, rng, drains=rng.choice([0.0, 0.3, 0.6]) if not bug else 0.5)
        before = [rng.getrandbits(128) for _ in range(L2_WORDS)]
        for address, value in enumerate(before):
            bench.poke(address, value)
        actions = [ACTION_BASE]
        tasks: list[Task] = []
        while len(tasks) < count:
            tasks.append(random_task(rng, clusters, actions))
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
    exercise(beat_words=beat_words, clusters=clusters, seed=beat_words, count=50)


@pytest.mark.parametrize("bug", ["address", "mask", "back-pressure", "store mask"])
def test_planted_wiring_bug_is_caught(bug):
    with pytest.raises(AssertionError):
        exercise(bug)


@pytest.mark.parametrize(("module", "constant", "value"), [
    (dmpa_paths, "LOAD_TO_SIGNAL", 3), (dmpa_paths, "STORE_TO_SIGNAL", 4),
    (dmpa_module, "STORE_TO_LOAD", 2), (dmpa_module, "LOAD_TO_STORE", 1),
])
def test_planted_timing_bug_is_caught(monkeypatch, module, constant, value):
    monkeypatch.setattr(module, constant, value)
    with pytest.raises(AssertionError):
        for seed in range(6):
            exercise(bug=" ", seed=seed)


def quiet(model: Model, *tasks: Task) -> Bench:
    """A bench without drains whose L2 holds one list of `tasks` at LIST_BASE and zeros elsewhere."""
    bench = Bench(model, CLUSTERS, 8, random.Random(1), drains=0.0)
    for address in range(L2_WORDS):
        bench.poke(address, 0)
    for number, task in enumerate(tasks):
        word = encode(Descriptor, **{"end": int(number == len(tasks) - 1), **task.fields})
        bench.poke(LIST_BASE + 2 * number, word & WORD)
        bench.poke(LIST_BASE + 2 * number + 1, word >> 128)
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
        bench = quiet(model, Task(GOOD | fields))
        if at != LIST_BASE:
            good = encode(Descriptor, **GOOD)
            for word in range(8):
                bench.poke(at + word, good >> (128 * (word % 2)) & WORD)
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
    for op in (0, 4, 15):
        with Model(built()) as model:
            model.reset()
            bench = quiet(model, Task(GOOD))
            bench.poke(LIST_BASE, bench.peek(LIST_BASE) & ~0xF | op)
            bench.step(push=LIST_BASE)
            for _ in range(20):
                bench.step()
            assert model.trap and not bench.loads, op


@pytest.mark.parametrize("address", [LIST_BASE + 4, L2_WORDS, 1 << 20, 1 << 31])
def test_push_of_a_bad_address_traps(address):
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, Task(GOOD))
        bench.step(push=address)
        bench.step()
        assert model.trap


def test_push_to_a_full_queue_traps():
    """One list waits for a cluster for ever, one is fetched behind it, four are queued: the next is one too many."""
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, Task(GOOD | {"wait_mask": 1}))
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
        wait = Task({"op": SYNC, "wait_mask": 2, "wait_semaphore": 3})
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
    load, store = Task(GOOD | {"n0": 20}), Task(GOOD | {"op": STORE, "n0": 20})
    tasks = [load, load, store, store, load, Task({"op": SYNC, "signal_mask": 1}), Task(GOOD)]
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
