# SPDX-License-Identifier: Apache-2.0
"""What holds of each run of a compiled network on the array: every bit of every tensor, every cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from nncosim.compiler.compile import Compiled
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.backend import RunResult

__all__ = ["check_run", "check_runs", "normal_inputs"]

_MOST_SATURATED = 0.02


def normal_inputs(network: Network, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Of so many inferences, normally distributed over the inputs' types."""
    rng, out = np.random.default_rng([seed, 7]), []
    for _ in range(count):
        given = {}
        for name in network.inputs:
            tensor = network.tensors[name]
            lo, hi = tensor.type.lo, tensor.type.hi
            values = rng.normal((lo + hi) / 2, (hi - lo) / 6, tensor.shape)
            given[name] = np.clip(np.rint(values), lo, hi).astype(np.int64)
        out.append(given)
    return out


def check_run(made: Compiled, run: RunResult, given: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Tensors as they are computed by the network, cycles as they are predicted.

    Raises:
        AssertionError: they are not.
    """
    assert run.diagnosis is None and len(run.frames) == len(given)
    for frame, inputs in zip(run.frames, given, strict=True):
        want = evaluate(made.network, inputs)
        assert {op.output for op in made.network.ops} == set(frame.tensors)
        for name, values in (*frame.tensors.items(), *frame.memory.items()):
            assert (values == want[name]).all(), f"{run.backend}: {name}"
        assert frame.cycles == made.iss_cycles == sum(i.end - i.start for i in frame.intervals)
        assert all(sum(each.values()) == i.end - i.start for i in frame.intervals for each in i.counters.values())
    starts = [frame.start for frame in run.frames]
    for before, after in pairwise(run.frames):
        assert before.start is not None and after.start is not None and before.start + before.cycles <= after.start, (
            f"{run.backend}: one after the other, not at once: they began at {starts}")  # fmt: skip


def check_runs(made: Compiled, given: Sequence[Mapping[str, np.ndarray]], driver: str = "direct") -> None:
    """On RTL and on the simulator, the same in all; and results that use their range.

    Raises:
        AssertionError: what is not so.
    """
    platform, image = made.platform, made.image.to_bytes()
    assert isinstance(platform, AieMl)
    runs = [BENCH.run(platform, image, given, backend=backend, driver=driver if backend == "rtl" else None, seed=3)
            for backend in ("rtl", "iss")]  # fmt: skip
    for run in runs:
        check_run(made, run, given)
    for rtl, iss in zip(runs[0].frames, runs[1].frames, strict=True):
        assert rtl.intervals == iss.intervals
    for output in made.network.outputs:
        results, kind = runs[0].frames[0].memory[output], made.network.tensors[output].type
        if results.size > 200:
            saturated = np.mean((results >= kind.hi) | (results <= kind.lo) & (kind.lo < 0))
            assert saturated < _MOST_SATURATED and len(np.unique(results)) > 40
