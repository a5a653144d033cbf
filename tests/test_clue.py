# SPDX-License-Identifier: Apache-2.0
"""After a failure: layer, cycle, cluster and address of a wrong element, and the command that traces it."""

import json
import shlex
from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import pytest
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.hdl.j3dai.timing import STORE_TO_L2
from nncosim.kernels.base import Cost
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.backend import ElementOrigin
from nncosim.tb.j3dai import iss_backend
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.report.clue import Clue
from nncosim.tb.run import flow as run_module
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.inputs import random_frames
from nncosim.tb.run.program import compile_model


@pytest.fixture(scope="module")
def program():
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as path:
        return compile_model(path, path.read_bytes(), PLATFORM, {})


@pytest.fixture
def ran(program, monkeypatch):
    """(machine, frames, what each wrote to L1) of inferences on the simulator."""
    machines, l1_writes = [], []

    def kept(platform, image, writes, l1, *others, real=iss_backend.origins):
        l1_writes.append(l1)
        return real(platform, image, writes, l1, *others)

    class Kept(Machine):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            machines.append(self)

    monkeypatch.setattr(iss_backend, "Machine", Kept)
    monkeypatch.setattr(iss_backend, "origins", kept)
    inputs = random_frames(program.network, 3, 2)
    result = iss_backend.run_iss(PLATFORM, program.image, inputs)
    return machines[0], result.frames, l1_writes


def test_where_the_elements_of_the_output_lie(program, ran):
    """Each address holds the value: read from the memory itself."""
    machine, frames, _ = ran
    (name,) = program.network.outputs
    values = frames[-1].tensors[name]
    for index in np.ndindex(values.shape):
        origin = frames[-1].origin(name, index)
        assert origin.memory == "l2"
        byte = machine.l2[origin.address - L2_BASE]
        assert byte == values[index] & 0xFF


def test_who_wrote_an_element_and_when(ran):
    """The timeline has a STORE of that cluster when the word was on its way; another cluster's is told apart."""
    (frame, _), seen = ran[1], set()
    (dmpa,) = (a for a in frame.activity if a.engine == "dmpa")
    rng = np.random.default_rng(7)
    for name, values in frame.tensors.items():
        for index in [tuple(int(rng.integers(size)) for size in values.shape) for _ in range(6)]:
            origin = frame.origin(name, index)
            if origin.memory != "l2" or origin.cycle is None:
                continue
            span = int(np.searchsorted(dmpa.start, origin.cycle - STORE_TO_L2, side="right")) - 1
            text = dmpa.texts[dmpa.text[span]]
            assert text.startswith("store") and text.endswith(f"of {origin.engine.replace('r', 'r ', 1)}"), (name, text)
            assert name in text
            seen.add(origin.engine)
    assert len(seen) > 1


def test_tensors_that_stay_in_l1(program, ran):
    """Each element of a fused group's inner tensor was written to its address in that cycle, in its layer."""
    (_, (frame, _), (writes, _)) = ran
    written = {
        (f"cluster{record['cluster']}", int(record["cycle"]), int(word)): data
        for record in writes for bank, (word, data) in enumerate(zip(record["address"], record["data"], strict=True))
        if record["mask"] >> bank & 1
    }  # fmt: skip
    inner = [name for name in frame.tensors if frame.origin(name, (0, 0, 0)).memory == "l1"]
    assert inner
    for name in inner:
        op = next(op.name for op in program.network.ops if op.output == name)
        step = next(i for i, entry in enumerate(program.schedule) if op in entry.ops)
        for index in np.ndindex(frame.tensors[name].shape):
            origin = frame.origin(name, index)
            assert frame.intervals[step].start <= origin.cycle < frame.intervals[step].end
            word, byte = divmod(origin.address, PLATFORM.word_bytes)
            assert written[origin.engine, origin.cycle, word][byte] == frame.tensors[name][index] & 0xFF


def test_an_input_is_written_by_nothing(program, ran):
    (name,) = program.network.inputs
    origin = ran[1][0].origin(name, (0, 0, 0))
    assert origin.cycle is None and origin.engine == "" and origin.address >= L2_BASE


def _report(program, monkeypatch, spoil=lambda frame: frame):
    """The report of a run whose inferences are changed before they are judged."""
    real = run_module.execute

    def execute(*arguments, **more):
        result = real(*arguments, **more)
        return replace(result, frames=tuple(spoil(frame) for frame in result.frames))

    monkeypatch.setattr(run_module, "execute", execute)
    return run_program(program, PLATFORM, {}, RunOptions(backend="iss")).report


def test_what_a_mismatch_says(program, monkeypatch):
    name = "Quant_11_out0"

    def spoil(frame):
        wrong = frame.tensors[name].copy()
        wrong[5, 0, 1] ^= 1
        return replace(frame, tensors={**frame.tensors, name: wrong})

    report = _report(program, monkeypatch, spoil)
    clue = report.to_json()["clue"]
    assert report.verdict == "mismatch" and report.comparison.first.index == (5, 0, 1)
    layer = next(layer for layer in report.layers if layer.first is not None)
    begin = sum(other.cycles for other in report.layers[: report.layers.index(layer)])
    assert clue["layer"] == layer.name and begin <= clue["cycle"] < begin + layer.cycles
    assert clue["memory"] == "l2" and clue["address"] >= L2_BASE and clue["engine"].startswith("cluster")
    words = shlex.split(clue["trace"])
    assert words[:2] == ["nncosim", "run"] and words[-4:] == ["--trace", "failure.fst", "--trace-layer", layer.name]
    assert words[words.index("--backend") + 1] == "rtl", "the simulator has no waveforms"
    text = "\n".join(report.clue.lines())
    assert layer.name in text and f"in cycle {clue['cycle']:,} to L2 address {clue['address']:#x}" in text


def test_a_run_that_passed_has_no_clue(program, monkeypatch):
    report = _report(program, monkeypatch)
    assert report.passed and report.to_json()["clue"] is None
    assert json.dumps(report.to_json())


def test_what_was_never_written():
    origin = ElementOrigin("l2", L2_BASE + 16)
    told = f"in layer Conv_3: nothing was written to L2 address {L2_BASE + 16:#x}"
    assert Clue("Conv_3", origin, "").lines() == [told]


def test_a_hang_is_traced_to_its_end(program, monkeypatch):
    """The simulator stops at its limit: the last cycles before it."""
    monkeypatch.setattr(run_module, "HANG_FACTOR", 1)
    short = replace(program, notes=replace(program.notes, cycles=Cost.exactly(1260), repeat=None))
    report = run_program(short, PLATFORM, {}, RunOptions(backend="iss")).report
    assert report.verdict == "hang"
    words = shlex.split(report.clue.trace)
    assert words[-2:] == ["--trace-from", "260"] and report.clue.layer == ""
