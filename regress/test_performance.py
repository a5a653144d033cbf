# SPDX-License-Identifier: Apache-2.0
"""How much of the machine single layers use, from the layer's start to its completion, the host's part included."""

from __future__ import annotations

import pytest
from nncosim.compiler.ir.operators import Conv
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import ComparedRun, run_case

TARGETS = {"conv3x3_128": 0.85, "conv1x1_128": 0.85, "dw3x3_128": 0.38}
"""Share of 768 MAC/cycle on a 32 x 32 map of 128 channels."""


def utilization(run: ComparedRun) -> float:
    (op,) = run.compiled.network.ops
    assert isinstance(op, Conv)
    macs = op.weights.size * 32 * 32
    return macs / run.cycles / PLATFORM.peak_macs_per_cycle


@pytest.mark.parametrize("name", TARGETS)
def test_share_of_the_peak(name, backend, seed, record_property):
    run = run_case(name, backend, "direct", seed)
    assert run.problems() == []
    share = utilization(run)
    record_property("utilization", share)
    peak = PLATFORM.peak_macs_per_cycle
    print(f"{name} on {backend}: {run.cycles} cycles, {share * peak:.1f} of {peak} MAC/cycle, {share:.2%} "
          f"(at least {TARGETS[name]:.0%})")
    assert peak == 768
    assert share >= TARGETS[name], f"{name} on {backend}: {run.cycles} cycles, {share:.2%} of the peak"
