# SPDX-License-Identifier: Apache-2.0
"""The three published networks whole on the J3DAI, from the first input byte in L2 to the last output byte in L2.

Each test asks for all that is promised: every tensor of every inference, cycles those of the ISS, counters that add up,
the committed baseline, and a share of 768 MAC/cycle, on the RTL and on the simulator.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress import zoo
from nncosim.regress.baselines import judge
from nncosim.regress.harness import ComparedRun, run_compiled
from nncosim.tb.run.inputs import frames

SEED = 1
LEAST = {"mobilenet_v1": 0.92, "mobilenet_v2": 0.83, "segmentation": 0.89}
"""MAC/cycle over the peak, of one inference with the host's part in it."""
PUBLISHED = {"mobilenet_v1": 992_000, "mobilenet_v2": 808_000, "segmentation": 1_486_000}
"""Cycles: latency at 200 MHz in table 4.1 of Szczepanski et al. (2025)."""


@functools.lru_cache(maxsize=3)
def compiled(name: str, platform: J3dai = PLATFORM) -> Compiled:
    return compile_network(import_model(zoo.model_path(name)), platform)


def run(name: str, backend: str, driver: str | None = None, count: int = 1) -> ComparedRun:
    program = compiled(name)
    inputs = frames(program.network, zoo.sample_inputs(name, SEED, count), range(count), "sample")
    return run_compiled(program, backend, driver, inputs=inputs)


def utilization(name: str, cycles: int) -> float:
    return zoo.NETWORKS[name].macs / cycles / PLATFORM.peak_macs_per_cycle


def assert_good(name: str, result: ComparedRun, count: int) -> None:
    assert result.problems() == []
    assert len(result.result.frames) == count
    network = result.compiled.network
    whole = sum(network.tensors[op.output].elements for op in network.ops)
    assert result.comparison.elements == count * whole, "a tensor was not compared"
    for frame in result.result.frames:
        print(f"{name}: {frame.cycles:,} cycles, {utilization(name, frame.cycles):.1%} of the peak")
        assert frame.cycles < PUBLISHED[name]
        assert utilization(name, frame.cycles) >= LEAST[name]


def assert_fits(program: Compiled) -> None:
    """Weights, parameters, maps, programs and descriptors, in 5 MiB."""
    (use,) = [use for use in program.memory if use.memory == "l2"]
    assert use.peak <= use.size == 5 << 20


def assert_same(ours: ComparedRun, theirs: ComparedRun) -> None:
    """Tensors, cycles and counters."""
    for a, b in zip(ours.result.frames, theirs.result.frames, strict=True):
        assert set(a.tensors) == set(b.tensors)
        assert [name for name in a.tensors if not np.array_equal(a.tensors[name], b.tensors[name])] == []
        assert a.cycles == b.cycles
        assert a.intervals == b.intervals


@pytest.mark.parametrize(("name", "count"), [("mobilenet_v1", 1), ("mobilenet_v2", 2), ("segmentation", 1)])
def test_whole_on_rtl_and_iss(name, count, pytestconfig):
    """`count` different images back to back, without a reset between them."""
    assert_fits(compiled(name))
    rtl = run(name, "rtl", "direct", count)
    assert_good(name, rtl, count)
    judge({name: rtl.cycles}, pytestconfig)
    outputs = [frame.tensors["logits"] for frame in rtl.result.frames]
    assert all(np.mean(a != b) > 0.5 for a, b in itertools.pairwise(outputs)), "a leftover of the first?"
    iss = run(name, "iss", count=count)
    assert iss.problems() == []
    assert_same(iss, rtl)


@pytest.mark.parametrize("name", [pytest.param("mobilenet_v1", marks=pytest.mark.slow), "mobilenet_v2",
                                  pytest.param("segmentation", marks=pytest.mark.slow)])  # fmt: skip
def test_cocotb_gives_the_same_as_iss(name):
    ours = run(name, "rtl", "cocotb")
    assert_good(name, ours, 1)
    assert_same(ours, run(name, "iss"))
