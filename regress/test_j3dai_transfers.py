# SPDX-License-Identifier: Apache-2.0
"""Counters of the DMPA by kind of transfer: against what a bench sees on the wires, and against counts made by hand."""

import random
from types import ModuleType

import pytest
from nncosim.hdl.j3dai import counters as counters_module
from nncosim.hdl.j3dai import dmpa as dmpa_module
from nncosim.hdl.j3dai.isa import DmpaOp
from nncosim.hdl.j3dai.regs import TRANSFER_COUNTERS, TRANSFER_ENGINE, Counter, TransferCounter, TransferKind
from nncosim.hdl.j3dai.timing import LOAD_TO_STORE, STORE_TO_LOAD
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.harness import compile_case, compile_digits, random_inputs, run_compiled
from nncosim.regress.host_counters import place, with_reader
from nncosim.regress.j3dai_dmpa_bench import L2_WORDS, LIST_BASE, DescriptorTask, DmpaBench, built, machine
from nncosim.regress.j3dai_target import simulation
from nncosim.regress.planted import planted
from nncosim.regress.test_j3dai_dmpa import place_lists, quiet, random_task, run, way_back
from nncosim.tb.j3dai.build import read_host
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.j3dai.rtl import load_image, write_inputs
from nncosim.tb.sim.model import Model

LOAD, STORE, SYNC, GATHER = (op.value for op in (DmpaOp.LOAD, DmpaOp.STORE, DmpaOp.SYNC, DmpaOp.GATHER))

Counts = dict[tuple[TransferKind, TransferCounter], int]


def read(model: Model) -> Counts:
    """All counters; those that a kind does not have must be 0."""
    value = model.transfers
    found = {(kind, which): value >> 32 * (kind * len(TransferCounter) + which) & 0xFFFFFFFF
             for kind in TransferKind for which in TransferCounter}
    missing = {key: count for key, count in found.items() if key[1] not in TRANSFER_COUNTERS[key[0]]}
    assert not any(missing.values()), missing
    return {key: count for key, count in found.items() if key not in missing}


def seen(bench: DmpaBench, tasks: list[DescriptorTask], fetches: int) -> Counts:
    """What moved, as the bench saw it at the clusters and at L2's port."""
    out = {}
    ops_of = {TransferKind.LOAD: (LOAD, GATHER), TransferKind.STORE: (STORE,), TransferKind.SYNC: (SYNC,)}
    for kind, ops in ops_of.items():
        out[kind, TransferCounter.DESCRIPTORS] = sum(task.fields["op"] in ops for task in tasks)
    out[TransferKind.LOAD, TransferCounter.BEATS] = len({cycle for cycle, *_ in bench.loads})
    # Of a beat, each cluster got every word; a beat's words are all different.
    out[TransferKind.LOAD, TransferCounter.WORDS] = len({(cycle, word) for cycle, _, _, word, _ in bench.loads})
    out[TransferKind.LOAD, TransferCounter.DELIVERED] = len(bench.loads)
    out[TransferKind.STORE, TransferCounter.BEATS] = len({cycle for cycle, *_ in bench.stores})
    for what in (TransferCounter.WORDS, TransferCounter.DELIVERED):
        out[TransferKind.STORE, what] = len(bench.stores)
    out[TransferKind.FETCH, TransferCounter.BEATS] = fetches
    return out


class Fetches(DmpaBench):
    """Also counts the cycles in which L2's port reads a line of descriptors."""

    fetches = 0

    def step(self, push: int | None = None, signals: int = 0) -> None:
        self.fetches += self.model.probe_sources >> 1 & 1
        super().step(push, signals)


def differences(seed: int, platform: J3dai | None = None) -> list[str]:
    """Random lists with drains and late signals: what the counters say otherwise than the bench."""
    rng, platform = random.Random(seed), platform or machine()
    with Model(built(platform), seed=seed) as model:
        model.reset()
        bench = Fetches(model, platform, rng, drains=rng.choice([0.0, 0.3, 0.6]))
        for address in range(L2_WORDS):
            bench.poke(address, rng.getrandbits(platform.word_bits))
        tasks: list[DescriptorTask] = []
        actions = [4096]
        while len(tasks) < 70:
            tasks.append(random_task(rng, platform, actions))
            if tasks[-1].fields["op"] != SYNC and rng.random() < 0.4:
                tasks.append(way_back(rng, tasks[-1]))
        starts = place_lists(bench, rng, tasks)
        for _ in range(3):
            bench.step()
        run(bench, rng, tasks, starts)
        found = read(model)
        engine = {counter: model.counters >> 32 * counter & 0xFFFFFFFF for counter in Counter}
    wrong = [f"{kind.name} {which.name}: {found[kind, which]}, seen {count}"
             for (kind, which), count in seen(bench, tasks, bench.fetches).items() if found[kind, which] != count]
    for counter, which in ((Counter.BUSY, TransferCounter.BEATS), (Counter.WAIT_DATA, TransferCounter.WAIT_DATA)):
        parts = sum(found.get((kind, which), 0) for kind in (TransferKind.LOAD, TransferKind.STORE, TransferKind.SYNC))
        if parts != engine[counter]:
            wrong.append(f"{counter.name}: {engine[counter]}, by kind {parts}")
    if found[TransferKind.LOAD, TransferCounter.WAIT_PORT] != engine[Counter.WAIT_PORT]:
        wrong.append("WAIT_PORT")
    if sum(found.get((kind, TransferCounter.WAIT_TURN), 0) for kind in TransferKind) > engine[Counter.CONTROL]:
        wrong.append("WAIT_TURN is more than CONTROL")
    return wrong


@pytest.mark.parametrize("seed", range(3))
def test_random_lists(seed):
    assert differences(seed) == []


@pytest.mark.parametrize("platform", [machine(2, 6), machine(4, 8), machine(16, 2, 8, 16)])
def test_sizes(platform):
    assert differences(1, platform) == []


def by_hand() -> Counts:
    """Counters after a list whose counts can be told from the manual alone."""
    tasks = [
        DescriptorTask({"op": LOAD, "clusters": 0b111, "n0": 11}),  # 2 beats, 11 words, 33 delivered
        # 2 beats, 6 words
        DescriptorTask({"op": LOAD, "clusters": 0b100, "n0": 3, "n1": 2, "l2_step1": 50, "local_step1": 50}),
        DescriptorTask({"op": STORE, "clusters": 0b001, "n0": 16, "l2": 100}),  # waits for the LOAD's last beat
        DescriptorTask({"op": SYNC, "signal_mask": 1}),  # waits for the STORE's last beat
        DescriptorTask({"op": STORE, "clusters": 0b010, "n0": 1, "l2": 200, "wait_mask": 0b010, "wait_semaphore": 3}),
        DescriptorTask({"op": SYNC, "wait_mask": 0b110, "wait_semaphore": 5}),
    ]
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, *tasks)
        bench.step(push=LIST_BASE)
        for _ in range(60):  # it waits for cluster 1 now
            bench.step()
        waiting = read(model)
        for _ in range(25):
            bench.step()
        assert read(model)[TransferKind.STORE, TransferCounter.WAIT_DATA] == (
            waiting[TransferKind.STORE, TransferCounter.WAIT_DATA] + 25), "cycle by cycle"
        bench.step(signals=1 << 8 + 3)
        for _ in range(20):
            bench.step()
        waiting = read(model)
        bench.step(signals=1 << 8 + 5)
        for _ in range(9):
            bench.step()
        bench.step(signals=1 << 16 + 5)
        for _ in range(9):
            bench.step()
        found = read(model)
        assert bench.dones and model.idle
        # A signal counts in the semaphore a cycle later, and the counters are a cycle late: as many as lie between.
        wait = TransferKind.SYNC, TransferCounter.WAIT_DATA
        assert found[wait] - waiting[wait] == 12
    return found


def expected() -> Counts:
    """The counts of `by_hand` that do not depend on when the clusters signalled."""
    kind, which = TransferKind, TransferCounter
    return {
        (kind.LOAD, which.DESCRIPTORS): 2, (kind.LOAD, which.BEATS): 4, (kind.LOAD, which.WORDS): 17,
        (kind.LOAD, which.DELIVERED): 39, (kind.LOAD, which.WAIT_DATA): 0, (kind.LOAD, which.WAIT_TURN): 0,
        (kind.LOAD, which.WAIT_PORT): 0,
        (kind.STORE, which.DESCRIPTORS): 2, (kind.STORE, which.BEATS): 3, (kind.STORE, which.WORDS): 17,
        (kind.STORE, which.DELIVERED): 17, (kind.STORE, which.WAIT_TURN): LOAD_TO_STORE - 1,
        (kind.SYNC, which.DESCRIPTORS): 2, (kind.SYNC, which.WAIT_TURN): STORE_TO_LOAD - 1,
        (kind.FETCH, which.BEATS): 2,
    }


def test_counts_by_hand():
    found = by_hand()
    assert {key: found[key] for key in expected()} == expected()
    assert found[TransferKind.FETCH, TransferCounter.WAIT_PORT] <= 2


def test_drains_hold_up_loads():
    """A drain in every cycle of the LOAD's first beat but the last: so many cycles are counted, of LOAD alone."""
    with Model(built()) as model:
        model.reset()
        bench = quiet(model, DescriptorTask({"op": LOAD, "clusters": 1, "n0": 8}))
        bench.drains = 1.0
        bench.step(push=LIST_BASE)
        for _ in range(40):
            bench.step()
        assert not bench.loads
        bench.drains = 0.0
        before = read(model)[TransferKind.LOAD, TransferCounter.WAIT_PORT]
        assert 30 <= before <= 36
        for _ in range(10):
            bench.step()
        found = read(model)
        assert len(bench.loads) == 8 and found[TransferKind.LOAD, TransferCounter.WAIT_PORT] == before + 1
        assert found[TransferKind.FETCH, TransferCounter.WAIT_PORT] == 0


def test_simulator_and_rtl_agree():
    """The shipped network, twice: every counter of every layer."""
    compiled = compile_digits()
    runs = [run_compiled(compiled, backend, frames=2) for backend in ("iss", "rtl")]
    assert [run.problems() for run in runs] == [[], []]
    iss, rtl = ([interval.transfers for frame in run.result.frames for interval in frame.intervals] for run in runs)
    assert iss == rtl
    total = {which: sum(moved["load"][which] for moved in rtl) for which in ("words", "delivered", "wait_turn")}
    assert total["delivered"] > total["words"] > 0, "there are broadcasts"
    assert sum(moved["fetch"]["beats"] for moved in rtl) >= len(rtl), "a list has a line at least"


def test_simulating_several_cycles_at_a_time_counts_the_same():
    image, found = compile_digits().image.to_bytes(), []
    for batch in (True, False):
        machine = Machine(PLATFORM, data=False, batch=batch)
        machine.load_elf(image)
        result = machine.run_frame(100_000)
        found.append([result.transfers, *(entry.transfers for entry in result.lists)])
    assert found[0] == found[1] and found[0][0]["load"]["beats"]


def test_the_host_reads_them():
    """A program on the real core stores every counter, those that do not exist included, when the layer is done."""
    compiled = compile_case("conv3x3_16", 1)
    image = with_reader(compiled, PLATFORM, [TRANSFER_ENGINE + kind for kind in TransferKind], len(TransferCounter))
    with Model(simulation(PLATFORM), seed=1) as model:
        model.poison(1)
        load_image(model, PLATFORM, image)
        model.reset(cycles=4)
        write_inputs(model, compiled.image, random_inputs(compiled.network, 1))
        model.frame = 1
        model.tick()
        model.frame = 0
        model.run_until("frames_done", 1, 10 * compiled.iss_cycles)
        memory = read_host(model, "dmem").view("<u4")
        count = len(TransferKind) * len(TransferCounter)
        stored = [int(word) for word in memory[place(PLATFORM) // 4 :][:count]]
        assert stored == [model.probe_transfers >> 32 * k & 0xFFFFFFFF for k in range(count)]
    assert stored[TransferKind.LOAD * len(TransferCounter) + TransferCounter.DELIVERED] > 0


BUGS = [
    (dmpa_module, "m.Case(DmpaOp.LOAD, DmpaOp.GATHER)", "m.Case(DmpaOp.LOAD)"),
    (counters_module, 'late["words"] * late["copies"]', 'late["words"]'),
    (counters_module, "late[when] & (late[\"kind\"] == kind)", "late[when]"),
    (counters_module, 'TransferCounter.WORDS: ("beat", late["words"])', 'TransferCounter.WORDS: ("beat", 8)'),
    (dmpa_module, "transfers.done.eq(finished)", "transfers.done.eq(walk.last)"),
    (dmpa_module, "waits & ~self.trap", "fetch.next_valid"),
    (dmpa_module, "self._turning.eq(running & ~self.trap & ~ordered)", "self._turning.eq(running)"),
    (dmpa_module, "counters.kind.eq(TransferKind.STORE)", "counters.kind.eq(TransferKind.LOAD)"),
]


@pytest.mark.parametrize(("module", "right", "wrong"), BUGS)
def test_planted_bug_is_caught(monkeypatch, module: ModuleType, right, wrong):
    name = {counters_module: "TransferCounters", dmpa_module: "Dmpa"}[module]
    target = "nncosim.hdl.j3dai.dmpa" if module is counters_module else "nncosim.regress.j3dai_dmpa_bench"
    monkeypatch.setattr(f"{target}.{name}", getattr(planted(module, right, wrong), name))
    with pytest.raises(AssertionError):
        test_counts_by_hand()
        assert differences(1) == []
