# SPDX-License-Identifier: Apache-2.0
"""The whole cluster: random programs against a plain interpreter, with transfers in their way, cycle by cycle."""

from types import ModuleType

import numpy as np
import pytest
from nncosim.hdl.j3dai import cluster, drain, fetch
from nncosim.hdl.j3dai.isa import Agu, Drain, MacOp, Opcode
from nncosim.hdl.j3dai.regs import Counter
from nncosim.regress.j3dai_cluster_bench import (
    BENCH_PLATFORM,
    ClusterCase,
    build_cluster,
    instruction,
    random_program,
    run_program,
)
from nncosim.regress.j3dai_cluster_checks import (
    LAYERS,
    check_categories,
    check_layer,
    differences,
    layer_program,
    timeline,
    wrapping_program,
)
from nncosim.regress.planted import planted
from nncosim.tb.sim.verilate import BuiltModel


@pytest.fixture(scope="module")
def built() -> BuiltModel:
    return build_cluster()


@pytest.mark.parametrize("seed", range(10))
def test_random_program(built: BuiltModel, seed: int) -> None:
    program = random_program(seed)
    run = run_program(built, program)
    assert not differences(run, program)
    assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program), f"seed {seed}"


@pytest.mark.parametrize("seed, store", [(60, 0.0), (61, 0.5), (62, 0.9), (63, 0.3), (64, 0.7), (65, 0.5), (66, 0.9)])
def test_every_cycle_counts_as_what_it_is(built: BuiltModel, seed: int, store: float) -> None:
    program = random_program(seed)
    run = run_program(built, program, store=store)
    assert not differences(run, program)
    seen = check_categories(run, program)
    assert seen == set(Counter) - (set() if store else {Counter.WAIT_PORT})


def test_look_ups_count_as_waiting_for_the_port(built: BuiltModel) -> None:
    """Held up by STORE beats, also while the drain before them is too close."""
    words = [*layer_program(1, 1, False, blocks=1)[:-1], instruction(Opcode.SETW, base=1024)]
    words += [instruction(Opcode.MAC, op=MacOp.TABLE, first=1, last=1, advance=1, lanes=lanes, drain=Drain.WRITE,
                          repeat=5) for lanes in (0, 15)]
    program = ClusterCase.of(words, seed=6)
    run = run_program(built, program, store=0.8)
    assert not differences(run, program)
    check_categories(run, program)
    assert run.counters[Counter.WAIT_PORT] > 100


def test_waits_for_semaphores_are_waits_for_data(built: BuiltModel) -> None:
    """WAITs behind a MAC that is still at work, one whose semaphore is there before, and one that comes late."""
    words = layer_program(3, 1, False)
    waits = [instruction(Opcode.WAIT, semaphore=k) for k in (2, 3, 2, 0)]
    arrivals = {2: [5, 9000], 3: [8000], 0: [9001]}
    program = ClusterCase.of([*words, *waits], seed=5, group=11, execute=False)
    program.after.semaphores = [255] * 8
    program.after.run(0)
    run = run_program(built, program, store=0.3, arrivals=arrivals)
    assert not differences(run, program)
    check_categories(run, program, arrivals)
    assert run.counters[Counter.WAIT_DATA] > 1000


@pytest.mark.parametrize("seed, load, store", [
    (20, 0.3, 0.3), (21, 0.9, 0.1), (22, 0.1, 0.8), (23, 0.5, 0.5), (24, 0.9, 0.0),
])
def test_random_program_with_transfers_in_its_way(built: BuiltModel, seed: int, load: float, store: float) -> None:
    program = random_program(seed)
    alone, _ = timeline(program)
    run = run_program(built, program, load=load, store=store)
    assert not differences(run, program)
    assert run.loads > 100 and (run.stores > 50 or not store)
    assert run.cycles >= alone if store else run.cycles == alone, "only STORE beats may delay a program"


def test_load_beats_that_ignore_drains_are_noticed(built: BuiltModel) -> None:
    """What `drain_ahead` is for: a LOAD beat in a drain's cycle is lost."""
    seen = []
    for seed in (20, 21):
        program = random_program(seed)
        seen += differences(run_program(built, program, load=0.9, obey=False), program)
    assert seen


@LAYERS
def test_cycles_of_a_layer(built: BuiltModel, kernel: int, stride: int, depthwise: bool, group: int) -> None:
    """A window costs the greater of its fetch and its micro-operations; nothing is lost between jobs."""
    check_layer(built, BENCH_PLATFORM, kernel, stride, depthwise, group)


@pytest.mark.parametrize("words", [
    [0], [63], [instruction(Opcode.LOOP, count=0, body=1)], [instruction(Opcode.LOOP, count=1, body=0)],
    [instruction(Opcode.LOOP, count=2, body=400 - k) for k in range(5)], [instruction(Opcode.NOP), 7],
], ids=["opcode 0", "opcode 63", "count 0", "body 0", "fifth level", "opcode 7"])
def test_traps(built: BuiltModel, words: list[int]) -> None:
    run = run_program(built, ClusterCase.of(words, seed=3, execute=False), max_cycles=200)
    assert run.trap


def test_loops(built: BuiltModel) -> None:
    """Four levels, whose bodies move a job's results: the order shows in memory."""
    words = layer_program(1, 1, True, blocks=1)[:-1]
    job = instruction(Opcode.MAC, op=MacOp.ADD, depthwise=1, first=1, last=1, repeat=0)
    move_a, move_o = instruction(Opcode.ADDB, agu=Agu.A, step=5), instruction(Opcode.ADDB, agu=Agu.O, step=8)
    body = [instruction(Opcode.LOOP, count=2, body=7), instruction(Opcode.LOOP, count=3, body=5),
            instruction(Opcode.LOOP, count=1, body=2), job, move_a, instruction(Opcode.NOP), move_o,
            instruction(Opcode.NOP)]
    program = ClusterCase.of([*words, *body], seed=4)
    run = run_program(built, program)
    assert not differences(run, program)
    assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program)


def test_accumulators_wrap_in_the_longest_mac(built: BuiltModel) -> None:
    program = wrapping_program()
    run = run_program(built, program, max_cycles=70_000)
    assert not differences(run, program)
    assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program)
    total = program.after.acc[:, 0]
    assert (total[:8] < -2_000_000_000).all() and (total[8:] > 2_000_000_000).all()
    assert len(np.unique(run.l1[2048])) > 4


@pytest.mark.parametrize("part, module, right, wrong, traffic", [
    ("DrainControl", drain, "upper_address.eq(job.a + pes)", "upper_address.eq(job.a + pes - 1)", 0.0),
    ("WindowFetch", fetch, "self.go.eq(self.wants & ~self.blocked)", "self.go.eq(self.wants)", 0.4),
], ids=["address of the upper line", "dropped ready"])
def test_planted_bug_is_noticed(monkeypatch: pytest.MonkeyPatch, part: str, module: ModuleType, right: str, wrong: str,
                                traffic: float) -> None:
    monkeypatch.setattr(cluster, part, getattr(planted(module, right, wrong), part))
    faulty = build_cluster()
    seen = []
    for seed in range(20, 24):
        program = random_program(seed)
        seen += differences(run_program(faulty, program, store=traffic), program)
    assert seen
