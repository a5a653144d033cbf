# SPDX-License-Identifier: Apache-2.0
"""What each engine did when: the RTL's record and the simulator's are the same, span by span."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_case, run_compiled, run_image
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.backend import Activity, Frame
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.j3dai.iss_backend import run_iss
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.run.inputs import random_frames
from nncosim.tb.run.program import compile_model

ARRAYS = ("start", "end", "kind", "text", "buffer", "step", "bytes")
CASES = ("conv3x3_24ch_odd", "dw3x3_s2", "gemm_large_k", "table_random", "add_uint8", "chain")


def differences(ours: Frame, theirs: Frame) -> list[str]:
    """Where the spans of two runs differ, engine by engine."""
    found = []
    assert [a.engine for a in ours.activity] == [a.engine for a in theirs.activity]
    for a, b in zip(ours.activity, theirs.activity, strict=True):
        tables = (a.kinds, a.texts, a.buffers) == (b.kinds, b.texts, b.buffers)
        arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)
        cycles = set(a.cycles) == set(b.cycles) and all(np.array_equal(a.cycles[c], b.cycles[c]) for c in a.cycles)
        if not (tables and arrays and cycles):
            found.append(a.engine)
    return found


def gaps(frame: Frame) -> list[str]:
    """Spans that do not follow each other from the frame's begin to its end, or do not add up to the counters."""
    found = []
    for a in frame.activity:
        whole = a.start[0] == 0 and a.end[-1] == frame.cycles
        if not whole or (a.start[1:] != a.end[:-1]).any() or (a.end <= a.start).any():
            found.append(f"{a.engine}: gaps")
        if (np.sum(list(a.cycles.values()), axis=0) != a.end - a.start).any():
            found.append(f"{a.engine}: cycles of a span do not add up")
        for interval in frame.intervals:
            inside = (a.start >= interval.start) & (a.end <= interval.end)
            sums = {name: int(values[inside].sum()) for name, values in a.cycles.items()}
            if sums != dict(interval.counters[a.engine]):
                found.append(f"{a.engine}, layer {interval.step}: {sums} are not {dict(interval.counters[a.engine])}")
    return found


@pytest.fixture(scope="module")
def digits():
    """(image, inputs) of the shipped network, with the table of what lies where."""
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as path:
        program = compile_model(path, path.read_bytes(), PLATFORM, {})
    return program.image, random_frames(program.network, 3, 2)


@pytest.mark.parametrize("driver", ["direct", "cocotb"])
def test_whole_network_is_the_same_on_rtl_and_iss(digits, driver):
    image, inputs = digits
    rtl, iss = (run_image(PLATFORM, image, inputs, *how) for how in (("rtl", driver), ("iss",)))
    assert gaps(rtl.frames[0]) == [] and gaps(iss.frames[0]) == []
    assert differences(rtl.frames[0], iss.frames[0]) == []
    dmpa = next(a for a in iss.frames[0].activity if a.engine == "dmpa")
    assert {"load input", "load weights", "load program", "store"} <= set(dmpa.kinds)


@pytest.mark.parametrize("name", CASES)
def test_layers_are_the_same_on_rtl_and_iss(name, seed):
    compiled = compile_case(name, seed)
    rtl, iss = (run_compiled(compiled, backend, seed=seed).result.frames[0] for backend in ("rtl", "iss"))
    assert gaps(rtl) == [] and differences(rtl, iss) == []


@pytest.mark.parametrize("name", CASES)
def test_cycle_by_cycle_gives_the_same_record(name, seed):
    """The simulator's record does not depend on how many cycles it simulates at a time."""
    image, records = compile_case(name, seed).image.to_bytes(), []
    for batch in (True, False):
        machine = Machine(PLATFORM, data=False, batch=batch, log_activity=True)
        machine.load_elf(image)
        machine.run_frame(10_000_000)
        changes = machine.core.changes()
        records.append(changes[np.lexsort((changes["engine"], changes["cycle"]))])
    assert np.array_equal(records[0], records[1]) and len(records[0]) > 50


def _changed(activity: Activity, index: int) -> Activity:
    start, end = activity.start.copy(), activity.end.copy()
    start[index] += 1
    end[index - 1] += 1
    return replace(activity, start=start, end=end)


def test_a_span_a_cycle_off_is_seen(digits):
    image, inputs = digits
    frame = run_image(PLATFORM, image, inputs[:1], "iss").frames[0]
    for engine in range(len(frame.activity)):
        spans = list(frame.activity)
        # A span longer than a cycle: another beginning leaves something of it.
        index = int(np.nonzero(spans[engine].end - spans[engine].start > 1)[0][1])
        spans[engine] = _changed(spans[engine], index)
        wrong = replace(frame, activity=tuple(spans))
        assert differences(frame, wrong) == [spans[engine].engine]
        assert any(line.startswith(spans[engine].engine) for line in gaps(wrong))


@pytest.mark.parametrize("limit", [700, 1203])
def test_a_run_that_stops_has_its_timeline_up_to_there(digits, limit):
    image, inputs = digits
    built = simulation(PLATFORM)
    rtl = run_built(built, PLATFORM, image, inputs[:1], driver="direct", limit_cycles=limit)
    assert rtl.diagnosis is not None and rtl.diagnosis.kind == "hang"
    (ours,), end = rtl.frames, int(rtl.frames[0].activity[0].end[-1])
    assert end == limit - 1, "the counters are late by a cycle"
    (theirs,) = run_iss(PLATFORM, image, inputs[:1], limit_cycles=end).frames
    assert differences(ours, theirs) == [] and ours.intervals == theirs.intervals
    assert all(a.end[-1] == end and (np.sum(list(a.cycles.values()), axis=0) == a.end - a.start).all()
               for a in ours.activity)  # fmt: skip


def test_where_elements_come_from_is_the_same(digits):
    """Memory, address, cycle and cluster of elements of every tensor, in two inferences."""
    image, inputs = digits
    rtl, iss = (run_image(PLATFORM, image, inputs, *how) for how in (("rtl", "direct"), ("iss",)))
    rng, seen = np.random.default_rng(11), set()
    for ours, theirs in zip(rtl.frames, iss.frames, strict=True):
        for name, values in ours.tensors.items():
            for index in [tuple(int(rng.integers(size)) for size in values.shape) for _ in range(10)]:
                origins = [frame.origin(name, index) for frame in (ours, theirs) if frame.origin]
                assert len(origins) == 2 and origins[0] == origins[1], (name, index, origins)
                assert origins[0] is not None
                seen.add((origins[0].memory, origins[0].engine))
    assert {memory for memory, _ in seen} == {"l1", "l2"} and len(seen) > 4
