# SPDX-License-Identifier: Apache-2.0
"""The cycle model: what the machine manual says about time, and prediction without data."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.j3dai.cycle_model import LayerRun, Timeline
from nncosim.hdl.j3dai import timing
from nncosim.hdl.j3dai.asm import ClusterProgram, DescriptorList, address
from nncosim.hdl.j3dai.isa import Agu, MacOp, Space
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.iss.elf import IssError
from nncosim.tb.j3dai.cycles import PredictionError, layer_script, predict_layers
from nncosim.tb.j3dai.iss import Machine

PLATFORM = J3dai(clusters=2, l2_bytes=256 * 1024)


def layer(
    program: ClusterProgram, lists: DescriptorList | None = None, clusters: int = 1
) -> tuple[dict[int, bytes], LayerRun]:
    """A list at word 0 that loads the program from word 512, starts it, does `lists`, and waits for SIGNAL 0."""
    own = DescriptorList()
    program.signal(0)
    program.halt()
    own.load(l2=512, clusters=clusters, local=address(Space.IMEM, 0), n0=len(program.to_bytes()) // 16,
             signal_mask=clusters, signal_semaphore=7)
    own._fields += lists._fields if lists else []
    own.sync(wait_mask=clusters, wait_semaphore=0)
    return {0: own.to_bytes(), 512: program.to_bytes()}, LayerRun(0, clusters)


def cycles(program: ClusterProgram, lists: DescriptorList | None = None) -> Timeline:
    memory, run = layer(program, lists)
    return predict_layers(memory, [run], PLATFORM)


def mac_program(repeat: int, windows: int, pstride: int, **fields: int) -> ClusterProgram:
    p = ClusterProgram()
    p.setd(Agu.A, 0, windows, 1)
    p.seti(4095, 4095, pstride)
    p.mac(repeat=repeat, **fields)
    return p


@pytest.mark.parametrize("pstride, fetch", [(1, 1), (2, 2), (3, 8), (-1, 8)])
@pytest.mark.parametrize("lanes", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("windows", [1, 3, 9])
@pytest.mark.parametrize("last, wide_x, wide_m", [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1)])
def test_cost_of_a_job(pstride: int, fetch: int, lanes: int, windows: int, last: int, wide_x: int, wide_m: int) -> None:
    """windows * max(fetch, lanes), and 8 at least between drains, twice as many for each of what is wide."""
    fields = {"lanes": lanes - 1, "last": last, "first": 1, "wide_x": wide_x, "wide_m": wide_m}
    few, many = (cycles(mac_program(r, windows, pstride, **fields)) for r in (9, 59))
    job = max(windows * max(fetch, lanes), 8 * (1 + wide_x) * (1 + wide_m) if last else 0)
    assert many.cycles - few.cycles == 50 * job
    assert many.counters["cluster0"]["busy"] == 60 * windows * lanes


@pytest.mark.parametrize("op", [MacOp.ADD, MacOp.MAX])
def test_depthwise_takes_one_micro_operation_a_window(op: MacOp) -> None:
    def run(repeat: int) -> Timeline:
        p = ClusterProgram()
        p.setd(Agu.A, 0, 9, 1)
        p.seti(4095, 4095)
        p.mac(op, depthwise=1, repeat=repeat)
        return cycles(p)
    assert run(59).cycles - run(9).cycles == 50 * 9


def test_table_costs_its_lanes_and_a_latency() -> None:
    """Fetch, one cycle, latency, lanes; the next fetch starts when the last lane is through."""
    def run(repeat: int) -> Timeline:
        p = ClusterProgram()
        p.seti(4095, 4095)
        p.mac(MacOp.TABLE, first=1, last=1, repeat=repeat, wide_x=0, wide_m=0)
        return cycles(p)
    assert run(59).cycles - run(9).cycles == 50 * (16 + timing.TABLE_LATENCY + 3)


def test_an_instruction_takes_three_cycles() -> None:
    def run(nops: int) -> Timeline:
        p = ClusterProgram()
        with p.loop(10):
            for _ in range(nops):
                p.nop()
        return cycles(p)
    assert run(7).cycles - run(5).cycles == 2 * 10 * timing.CONTROLLER_CYCLES


def test_fence_waits_for_the_pipeline() -> None:
    def run(fence: bool) -> Timeline:
        p = mac_program(0, 1, 1, first=1, last=1, wide_x=0, wide_m=0)
        p.fence() if fence else p.nop()
        p.nop()
        return cycles(p)
    # Behind the FENCE a NOP, and the SIGNAL's own cycles; without it, the SIGNAL executes two instructions behind the
    # MAC's one micro-operation, and then takes as long as it takes at least.
    settled = timing.drain_cycles(PLATFORM.pes_per_ncb, 1, 1) + timing.DRAIN_TO_SETTLED
    behind_fence = settled + 2 * timing.CONTROLLER_CYCLES + timing.SIGNAL_CYCLES
    assert run(True).cycles - run(False).cycles == behind_fence - max(settled, 1 + timing.SIGNAL_CYCLES)


@pytest.mark.parametrize("words, beats", [(8, 1), (9, 2), (80, 10), (1, 1)])
def test_a_beat_a_cycle(words: int, beats: int) -> None:
    """Per run, whatever its alignment."""
    def run(runs: int) -> Timeline:
        lists = DescriptorList()
        lists.load(l2=1003, clusters=0b11, local=address(Space.WMEM, 5), n0=words, n1=runs, l2_step1=words,
                   local_step1=3)
        p = ClusterProgram()
        p.wait(1)
        lists.sync(signal_mask=1, signal_semaphore=1)
        return cycles(p, lists)
    few, many = run(10), run(110)
    assert many.cycles - few.cycles == 100 * beats
    assert many.counters["dmpa"]["busy"] - few.counters["dmpa"]["busy"] == 100 * beats


def test_store_beats_take_the_read_port() -> None:
    """A STORE during a MAC that fetches in every cycle delays it by a cycle a beat."""
    def run(beats: int) -> Timeline:
        lists = DescriptorList()
        lists.sync(signal_mask=1, signal_semaphore=1)
        for _ in range(20):
            lists.sync()
        if beats:
            lists.store(l2=4096, clusters=1, local=0, n0=8 * beats)
        p = ClusterProgram()
        p.wait(1)
        p.seti(4095, 4095, 3)
        p.mac(repeat=99, lanes=0)
        return cycles(p, lists)
    without, some = run(0), run(64)
    assert some.counters["cluster0"]["wait_port"] == 64
    assert some.cycles == without.cycles + 64


@pytest.mark.parametrize("space", [Space.L1, Space.WMEM])
def test_drains_delay_loads(space: Space) -> None:
    """One cycle in eight of the cluster's write path is the drains' when a job takes eight cycles."""
    def run(last: int) -> Timeline:
        lists = DescriptorList()
        lists.sync(signal_mask=1, signal_semaphore=1)
        for _ in range(60):
            lists.sync()
        lists.load(l2=1000, clusters=1, local=address(space, 0), n0=512)
        p = ClusterProgram()
        p.wait(1)
        p.seti(4095, 4095)
        p.mac(repeat=199, lanes=7, first=1, last=last, wide_x=0, wide_m=0)
        return cycles(p, lists)
    assert run(0).counters["dmpa"]["wait_port"] <= 2
    assert 8 <= run(1).counters["dmpa"]["wait_port"] <= 12


def overlapping_layers() -> tuple[dict[int, bytes], list[LayerRun]]:
    """Three layers that load, compute and store; the second program lies behind the first in IMEM."""
    memory: dict[int, bytes] = {}
    runs = []
    for k in range(3):
        p, lists = mac_program(40 + 30 * k, 5, 1 + k, first=1, last=1, advance=1), DescriptorList()
        p.signal(0)
        p.halt()
        code = p.to_bytes()
        lists.load(l2=1024 + 64 * k, clusters=0b11, local=address(Space.IMEM, 16 * k), n0=len(code) // 16,
                   signal_mask=0b11, signal_semaphore=7)
        lists.load(l2=2048, clusters=0b11, local=address(Space.WMEM, 0), n0=300)
        for cluster in range(2):
            lists.store(l2=8000 + 500 * k, clusters=1 << cluster, local=0, n0=77, wait_mask=1 << cluster,
                        wait_semaphore=0)
        memory |= {64 * k: lists.to_bytes(), 1024 + 64 * k: code}
        runs.append(LayerRun(64 * k, 0b11, 32 * k))
    return memory, runs


def test_prediction_needs_no_data() -> None:
    """The same cycles, list by list and counter by counter, as a run with data and in single steps; the sums hold."""
    memory, runs = overlapping_layers()
    timeline = predict_layers(memory, runs, PLATFORM)
    machine = Machine(PLATFORM, seed=9, batch=False)
    for word, contents in memory.items():
        machine.l2[16 * word : 16 * word + len(contents)] = np.frombuffer(contents, np.uint8)
    machine.run_script(layer_script(runs))
    result = machine.run_frame(100_000)
    assert (timeline.cycles, timeline.counters) == (result.cycles, result.counters)
    for mine, other in zip(timeline.layers, result.lists, strict=True):
        assert (mine.start, mine.end, mine.counters) == (other.start, other.end, other.counters)
    assert len(timeline.layers) == 3 and timeline.layers[0].start == 0
    for entry in timeline.layers:
        assert all(sum(kinds.values()) == entry.cycles for kinds in entry.counters.values())
    for engine, kinds in timeline.counters.items():
        for kind, value in kinds.items():
            assert sum(entry.counters[engine][kind] for entry in timeline.layers) <= value


def test_layers_overlap() -> None:
    """What the host does for the second layer happens while the first computes."""
    memory, runs = overlapping_layers()
    together = predict_layers(memory, runs[:2], PLATFORM).cycles
    apart = sum(predict_layers(memory, [run], PLATFORM).cycles for run in runs[:2])
    assert together < apart


def test_a_program_that_never_ends_is_an_error() -> None:
    p = ClusterProgram()
    p.wait(6)
    with pytest.raises(PredictionError, match="waits at 0 for input semaphore 6") as caught:
        cycles(p)
    assert caught.value.diagnosis.kind == "hang"


def test_contents_beyond_l2_are_refused() -> None:
    with pytest.raises(IssError, match="reach beyond"):
        predict_layers({PLATFORM.l2_words - 1: bytes(32)}, [], PLATFORM)
