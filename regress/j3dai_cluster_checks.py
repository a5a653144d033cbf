# SPDX-License-Identifier: Apache-2.0
"""What a run of the whole cluster is held against: the plain interpreter, and the timing rules cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest
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
    fresh_program,
    instruction,
    run_program,
)
from nncosim.regress.j3dai_cluster_timing import Timeline
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["LAYERS", "check_categories", "check_layer", "differences", "layer_program", "timeline", "wrapping_program"]


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


def layer_program(
    kernel: int, stride: int, depthwise: bool, blocks: int = 2, platform: J3dai = BENCH_PLATFORM
) -> list[int]:
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


def check_layer(built: BuiltModel, platform: J3dai, kernel: int, stride: int, depthwise: bool, group: int,
                clipped: float = 0.3) -> None:
    words = layer_program(kernel, stride, depthwise, platform=platform)
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
