# SPDX-License-Identifier: Apache-2.0
"""Every case of `nncosim.regress.cases` on a backend: all tensors bit for bit, every layer's cycles, every counter,
the committed baseline of its cycles.

Two inferences back to back, with different inputs. On rtl the direct driver runs them, unless `--driver` says
otherwise; a few run by cocotb in any case.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.kernels.base import Cost
from nncosim.regress.baselines import SEED, judge
from nncosim.regress.cases import CASES
from nncosim.regress.harness import ComparedRun, command, compile_case, run_case, run_compiled, saturated
from nncosim.tb.reference.compare import compare_frames

LARGE = {c.name for c in CASES if "large" in c.tags}
BY_COCOTB = ("conv3x3_24ch_odd", "dw3x3_s2", "chain", "random2")
# Values at an end of their range hide errors. Cases about extremes, and maxima (which lean to one end), are exempt.
SATURATING = {c.name for c in CASES if "extreme" in c.tags or c.name.startswith(("maxpool", "random"))}
MAY_SATURATE = 0.02


def check(run: ComparedRun, name: str, backend: str, driver: str, seed: int) -> None:
    """Fails with what does not hold, the seed, and the command that repeats the case."""
    problems = run.problems()
    if name not in SATURATING:
        share = saturated(run.compiled.network, run.result.frames[0].tensors) if not problems else 0.0
        problems += [f"{share:.1%} of a tensor's values are saturated"] if share > MAY_SATURATE else []
    again = command("regress/test_layers.py", name, backend, driver, seed)
    assert not problems, "\n".join([f"case {name}, seed {seed}", *problems, f"repeat with: {again}"])


@pytest.mark.parametrize("name", [c.name for c in CASES])
def test_case(name, backend, request, seed):
    driver = request.config.getoption("--driver") or "direct"
    # The large ones for one inference: the second would take as long, and shows nothing that chains do not show.
    run = run_case(name, backend, driver, seed, frames=1 if name in LARGE else 2)
    check(run, name, backend, driver, seed)
    # Baselines are of one seed: other numbers, other plans and cycles.
    judged = run if seed == SEED else run_case(name, backend, "direct", SEED)
    judge({name: judged.cycles}, request.config)


@pytest.mark.parametrize("name", BY_COCOTB)
def test_case_by_cocotb(name, seed):
    """Same bits, cycles and counters as by the direct driver."""
    runs = [run_case(name, "rtl", driver, seed, frames=2) for driver in ("cocotb", "direct")]
    check(runs[0], name, "rtl", "cocotb", seed)
    for ours, theirs in zip(*(run.result.frames for run in runs), strict=True):
        assert ours.cycles == theirs.cycles
        assert ours.intervals == theirs.intervals
        assert all(np.array_equal(ours.tensors[t], theirs.tensors[t]) for t in ours.tensors)


# The checkers themselves: each sees an error that is planted.


def flip_weight(image: bytes, compiled: Compiled) -> bytes:
    """The image with one bit of one weight changed."""
    whole = Image.from_bytes(image)
    address = compiled.placement.address[next(b.name for b in compiled.lowered.buffers if b.kind == "parameters")]
    segments = []
    for segment in whole.segments:
        data = bytearray(segment.data)
        if segment.memory == "l2":
            base = L2_BASE + address - segment.address
            data[base + 16 * 100] ^= 0x20
        segments.append(replace(segment, data=bytes(data)))
    return replace(whole, segments=tuple(segments)).to_bytes()


def test_a_wrong_weight_in_the_image_is_named(backend, seed):
    compiled = compile_case("conv3x3_16", seed)
    run = run_compiled(compiled, backend, seed=seed, spoil=lambda image: flip_weight(image, compiled))
    (problem,) = run.problems()
    assert problem.startswith("first wrong element: y[") and "expected" in problem


def test_a_wrong_expectation_is_named(seed):
    run = run_case("conv3x3_16", "iss", seed=seed)
    expected = {name: value.copy() for name, value in evaluate(run.compiled.network, run.inputs[0]).items()}
    expected["y"][3, 2, 1] += 1
    found = compare_frames(run.compiled.network, (expected,), run.result.frames)
    assert found.first is not None and found.first.index == (3, 2, 1) and not found.bit_exact
    assert replace(run, comparison=found).problems()[-1].startswith("first wrong element: y[3, 2, 1]")


def test_saturated_values_are_counted(seed):
    run = run_case("conv3x3_16", "iss", seed=seed)
    tensors = dict(run.result.frames[0].tensors)
    tensors["y"] = tensors["y"].copy()
    tensors["y"][0] = 127
    assert saturated(run.compiled.network, tensors) > MAY_SATURATE
    frame = replace(run.result.frames[0], tensors=tensors)
    with pytest.raises(AssertionError, match=r"saturated\n *repeat with: pytest regress/test_layers.py -k conv3x3_16"):
        check(replace(run, result=replace(run.result, frames=(frame,))), "conv3x3_16", "iss", "direct", seed)


def test_counters_that_do_not_add_up_are_named(seed):
    run = run_case("conv3x3_16", "iss", seed=seed)
    (frame,) = run.result.frames
    (interval,) = frame.intervals
    counters = {engine: dict(kinds) for engine, kinds in interval.counters.items()}
    counters["dmpa"]["busy"] += 1
    wrong = replace(frame, intervals=(replace(interval, counters=counters),))
    problem, other = replace(run, result=replace(run.result, frames=(wrong,))).problems()
    assert "layer 0, dmpa" in problem
    assert f"the DMPA's busy is {counters['dmpa']['busy']}, by kind of transfer {counters['dmpa']['busy'] - 1}" in other


def test_a_hang_is_named(seed):
    """A run past its limit stops and says who waits for whom."""
    compiled = compile_case("conv3x3_16", seed)
    notes = replace(compiled.image.notes, cycles=Cost.exactly(50))
    tight = replace(compiled, image=replace(compiled.image, notes=notes))
    assert run_compiled(tight, "iss", seed=seed).problems()[0].startswith("hang: ")
