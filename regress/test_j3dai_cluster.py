# SPDX-License-Identifier: Apache-2.0
"""The whole cluster: random programs against a plain interpreter, with transfers in their way, cycle by cycle."""

from types import ModuleType

import numpy as np
import pytest
from nncosim.hdl.j3dai import cluster, drain, fetch
from nncosim.hdl.j3dai.isa import Agu, Drain, MacOp, Opcode
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.timing import DRAIN_TO_SETTLED, drain_cycles
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_cluster_bench import (
    ARMED,
    BEGINS,
    BENCH_PLATFORM,
    ClusterCase,
    ClusterRun,
    bench_platform,
    build_cluster,
    fresh_program,
    instruction,
    random_program,
    run_program,
)
from nncosim.regress.j3dai_cluster_timing import Timeline
from nncosim.regress.planted import planted
from nncosim.tb.sim.verilate import BuiltModel


@pytest.fixture(scope="module")
def built() -> BuiltModel:
    return build_cluster()


def differences(run: ClusterRun, program: ClusterCase) -> list[str]:
    """What differs from the interpreter, memories and signals."""
    bad = []
    for name in ("l1", "wmem", "imem"):
        got, want = getattr(run, name), getattr(program.after, name)
        wrong = np.argwhere(got != want)
        if len(wrong):
            word, byte = wrong[0]
            bad.append(f"{name}: {len(wrong)} bytes, first at word {word} byte {byte}: expected {want[word, byte]}, "
                       f"got {got[word, byte]}")
    if run.signals != program.after.signals:
        bad.append(f"signals: expected {program.after.signals}, got {run.signals}")
    if run.trap:
        bad.append("trap")
    if run.bad_stores:
        bad.append(f"{run.bad_stores} of {run.stores} STORE beats read something else")
    return [f"seed {program.seed}: {what}" for what in bad]


def timeline(program: ClusterCase) -> tuple[int, int]:
    """Cycles with `running` high and micro-operations, by the timing rules."""
    trial = fresh_program(program)
    trial.run(0)
    rules = Timeline(program.platform)
    return rules.run(trial.trace), rules.issues


@pytest.mark.parametrize("seed", range(10))
def test_random_program(built: BuiltModel, seed: int) -> None:
    program = random_program(seed)
    run = run_program(built, program)
    assert not differences(run, program)
    assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program), f"seed {seed}"


def check_categories(run: ClusterRun, program: ClusterCase, arrivals: dict[int, list[int]] | None = None) -> set[int]:
    """Every cycle counts as what the rules say of it, and the counters are the sums. Gives the categories seen."""
    rules = Timeline(program.platform, {cycle - BEGINS for cycle in run.blocked}, arrivals)
    trial = fresh_program(program)
    trial.semaphores = [255] * 8
    trial.run(0)
    end = rules.run(trial.trace)
    want = []
    for now, host in enumerate(run.hosts):
        if BEGINS < now <= BEGINS + end:
            want.append(rules.category(now - BEGINS))
        elif ARMED <= now <= BEGINS:
            want.append(Counter.WAIT_DATA)
        else:
            want.append(Counter.WAIT_HOST if host else Counter.IDLE)
    wrong = [(now - BEGINS, Counter(got).name, state.name)
             for now, (got, state) in enumerate(zip(run.states, want, strict=True)) if got != state]
    assert not wrong, f"seed {program.seed}: {len(wrong)} cycles count as another (cycle, got, expected): {wrong[:5]}"
    # A counter shows a cycle one cycle later than it happened.
    assert run.counters == [run.states[:-1].count(counter) for counter in Counter]
    return {int(state) for state in want}


@pytest.mark.parametrize("seed, store", [(60, 0.0), (61, 0.5), (62, 0.9), (63, 0.3), (64, 0.7), (65, 0.5), (66, 0.9)])
def test_every_cycle_counts_as_what_it_is(built: BuiltModel, seed: int, store: float) -> None:
    program = random_program(seed)
    run = run_program(built, program, store=store)
    assert not differences(run, program)
    seen = check_categories(run, program)
    assert seen == set(Counter) - (set() if store else {Counter.WAIT_PORT})


def test_look_ups_count_as_waiting_for_the_port(built: BuiltModel) -> None:
    """Held up by STORE beats, also while the drain before them is too close."""
    words = [*_layer(1, 1, False, blocks=1)[:-1], instruction(Opcode.SETW, base=1024)]
    words += [instruction(Opcode.MAC, op=MacOp.TABLE, first=1, last=1, advance=1, lanes=lanes, drain=Drain.WRITE,
                          repeat=5) for lanes in (0, 15)]
    program = ClusterCase.of(words, seed=6)
    run = run_program(built, program, store=0.8)
    assert not differences(run, program)
    check_categories(run, program)
    assert run.counters[Counter.WAIT_PORT] > 100


def test_waits_for_semaphores_are_waits_for_data(built: BuiltModel) -> None:
    """WAITs behind a MAC that is still at work, one whose semaphore is there before, and one that comes late."""
    words = _layer(3, 1, False)
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


def _layer(kernel: int, stride: int, depthwise: bool, blocks: int = 2, platform: J3dai = BENCH_PLATFORM) -> list[int]:
    """A convolution of `blocks` blocks of channels to one, padded, over full groups of pixels, 6 rows of them."""
    pes, lanes = platform.pes_per_ncb, platform.word_bytes - 1
    width, height = 3 * pes, 6
    pad, groups = kernel // 2, width // stride // pes
    words = [
        instruction(Opcode.LDP, pset=0, base=1600),
        instruction(Opcode.SETB, agu=Agu.A, rewind=1, base=-pad * (width + 1) % (1 << 14), x=-pad, y=-pad),
        instruction(Opcode.SETI, width=width, height=height, pstride=stride, xpstep=stride, pad=-3),
        instruction(Opcode.SETB, agu=Agu.O, rewind=1, base=2048, x=0),
        instruction(Opcode.SETO, width=width // stride, ostride=0),
        instruction(Opcode.SETW, base=0),
    ]
    inner = [(kernel, 1, 1, 0), (kernel, width, 0, 1), (1 if depthwise else blocks, width * height, 0, 0)]
    outer = [(groups, pes * stride, pes * stride, 0), (height // stride, width * stride, 0, stride), (1, 0, 0, 0)]
    for d, (count, step, xstep, ystep) in enumerate([*inner, *outer]):
        words.append(instruction(Opcode.SETD, agu=Agu.A, dim=d, count=count, step=step, xstep=xstep, ystep=ystep))
    for d, (count, step, xstep) in enumerate([(groups, pes, pes), (height // stride, width // stride, 0), (1, 0, 0)]):
        words.append(instruction(Opcode.SETD, agu=Agu.O, dim=d, count=count, step=step, xstep=xstep))
    words.append(instruction(Opcode.MAC, op=MacOp.MAC, depthwise=depthwise, signed_a=1, first=1, last=1, advance=1,
                             lanes=lanes & 15, lanes_high=lanes >> 4, rewind_w=1, drain=Drain.WRITE,
                             wide_x=int(not depthwise),
                             repeat=groups * (height // stride) - 1))
    return words


LAYERS = pytest.mark.parametrize("kernel, stride, depthwise, group", [
    (3, 1, False, 11), (1, 1, False, 9), (3, 1, True, 9), (3, 2, False, 11), (3, 2, True, 9),
], ids=["3x3", "1x1", "depthwise", "3x3 stride 2", "depthwise stride 2"])


@LAYERS
def test_cycles_of_a_layer(built: BuiltModel, kernel: int, stride: int, depthwise: bool, group: int) -> None:
    """A window costs the greater of its fetch and its micro-operations; nothing is lost between jobs."""
    check_layer(built, BENCH_PLATFORM, kernel, stride, depthwise, group)


def check_layer(built: BuiltModel, platform: J3dai, kernel: int, stride: int, depthwise: bool, group: int,
                clipped: float = 0.3) -> None:
    words = _layer(kernel, stride, depthwise, platform=platform)
    program = ClusterCase.of(words, seed=5, group=group, platform=platform)
    run = run_program(built, program)
    assert not differences(run, program)
    assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program)
    pes, jobs = platform.pes_per_ncb, 3 // stride * (6 // stride)
    # Three cycles an instruction; the MAC's first window; then one window after the other; the pipeline.
    lanes = 1 if depthwise else platform.word_bytes
    window, windows = max(stride, lanes), kernel * kernel * (1 if depthwise else 2)
    # A drain of many PEs may take longer than a job.
    drain = drain_cycles(pes, platform.ncbs_per_requantizer, 1 if depthwise else 2)
    waits = (jobs - 1) * max(0, drain - windows * window)
    expected = (3 * len(words) + stride + jobs * windows * window + waits - (window - lanes) + drain
                + DRAIN_TO_SETTLED)
    # With one port, a drain's write takes a fetch a cycle, which tells where windows are fetched all the time.
    most = jobs if platform.l1_ports == 1 and window <= stride else 0
    assert expected <= run.cycles <= expected + most
    results = program.after.l1[2048:2048 + jobs * pes]
    assert len(np.unique(results)) > 50 and np.isin(results, (0, 127, 128, 255)).mean() < clipped


OTHERS = [(8, 4, 2, 1), (32, 16, 4, 2), (16, 8, 8, 1), (16, 8, 1, 1)]
"""NCBs, PEs, NCBs of a requantizer, L1's ports: other machines, which differ in everything that the default one's 16 x
8 could hide."""


@pytest.fixture(scope="module", params=OTHERS, ids=lambda machine: "{}x{} shared {} ports {}".format(*machine))
def other(request: pytest.FixtureRequest) -> tuple[BuiltModel, J3dai]:
    platform = bench_platform(*request.param)
    return build_cluster(platform), platform


def test_random_programs_on_another_machine(other: tuple[BuiltModel, J3dai]) -> None:
    built, platform = other
    for seed in range(40, 44):
        program = random_program(seed, platform=platform)
        run = run_program(built, program)
        assert not differences(run, program)
        assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program), f"seed {seed}"
        program = random_program(seed, platform=platform)
        run = run_program(built, program, load=0.4, store=0.3)
        assert not differences(run, program)
        assert Counter.WAIT_PORT in check_categories(run, program)
        assert run.loads > 100 and run.stores > 50


@LAYERS
def test_cycles_of_a_layer_on_another_machine(other: tuple[BuiltModel, J3dai], kernel: int, stride: int,
                                              depthwise: bool, group: int) -> None:
    check_layer(*other, kernel, stride, depthwise, group, clipped=0.4)


@pytest.mark.parametrize("words", [
    [0], [63], [instruction(Opcode.LOOP, count=0, body=1)], [instruction(Opcode.LOOP, count=1, body=0)],
    [instruction(Opcode.LOOP, count=2, body=400 - k) for k in range(5)], [instruction(Opcode.NOP), 7],
], ids=["opcode 0", "opcode 63", "count 0", "body 0", "fifth level", "opcode 7"])
def test_traps(built: BuiltModel, words: list[int]) -> None:
    run = run_program(built, ClusterCase.of(words, seed=3, execute=False), max_cycles=200)
    assert run.trap


def test_loops(built: BuiltModel) -> None:
    """Four levels, whose bodies move a job's results: the order shows in memory."""
    words = _layer(1, 1, True, blocks=1)[:-1]
    job = instruction(Opcode.MAC, op=MacOp.ADD, depthwise=1, first=1, last=1, repeat=0)
    move_a, move_o = instruction(Opcode.ADDB, agu=Agu.A, step=5), instruction(Opcode.ADDB, agu=Agu.O, step=8)
    body = [instruction(Opcode.LOOP, count=2, body=7), instruction(Opcode.LOOP, count=3, body=5),
            instruction(Opcode.LOOP, count=1, body=2), job, move_a, instruction(Opcode.NOP), move_o,
            instruction(Opcode.NOP)]
    program = ClusterCase.of([*words, *body], seed=4)
    run = run_program(built, program)
    assert not differences(run, program)
    assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program)


def wrapping_program() -> ClusterCase:
    """66,137 micro-operations into the same accumulators, in the longest MAC there is and two more: -256 x -128 beyond
    the largest number, -256 x 127 beyond the smallest."""
    common = dict(op=MacOp.MAC, depthwise=1, rewind_w=1)
    words = [
        instruction(Opcode.LDP, pset=0, base=1600), instruction(Opcode.SETI, width=0, height=0, pstride=1, pad=-256),
        instruction(Opcode.SETB, agu=Agu.O, rewind=1, base=2048), instruction(Opcode.SETO, width=4095),
        instruction(Opcode.SETW, base=0), instruction(Opcode.MAC, first=1, **common),
        instruction(Opcode.MAC, repeat=65_535, **common), instruction(Opcode.MAC, repeat=599, **common),
        instruction(Opcode.MAC, last=1, wide_x=1, wide_m=1, **common),
    ]
    program = ClusterCase.of(words, seed=8, group=23, execute=False)
    for model in (program.start, program.after):
        model.wmem[0, :8], model.wmem[0, 8:] = 128, 127
    program.after.run(0)
    return program


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
