# SPDX-License-Identifier: Apache-2.0
"""Data that is spoilt between an observer and the memory it goes to: no run of it passes, by whatever way it goes.

What passes by an observer is no proof that a memory took it. So graph outputs are read from memory; and of what
goes into the clusters' memories, wrong results tell.
"""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.j3dai import firmware
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images, run_compiled
from nncosim.regress.j3dai_faults import WAYS, planted
from nncosim.regress.spoilt import Fault
from nncosim.tb.j3dai import iss_backend, rtl
from nncosim.tb.j3dai.capture import places
from nncosim.tb.run import drive


@functools.cache
def with_variables_in_memory() -> Compiled:
    """The shipped network, with firmware that keeps its counters in data memory."""
    with pytest.MonkeyPatch.context() as patch:
        whole = firmware.firmware_source

        def source(*arguments):
            text = whole(*arguments)
            assert text.count(" uint32_t pushed") == 1
            return text.replace(" uint32_t pushed", " volatile uint32_t pushed")

        patch.setattr(firmware, "firmware_source", source)
        return compile_network(compile_digits().network, PLATFORM)


def program(way):
    return with_variables_in_memory() if way == "host's store" else compile_digits()


@pytest.mark.parametrize("way", [None, *WAYS])
@pytest.mark.parametrize("backend", ["iss", "rtl"])
def test_no_way_into_a_memory_is_taken_for_granted(way, backend, monkeypatch):
    compiled = program(way)
    fault = Fault(way or "store to L2", first=0 if way else 99)
    with planted(monkeypatch, PLATFORM, compiled.image, fault, backend) as spoilt:
        run = run_compiled(compiled, backend)
    if way is None:  # the machinery itself changes nothing
        assert (run.report.verdict, spoilt(), run.problems()) == ("pass", 0, [])
        return
    assert spoilt() > 0, "nothing went this way"
    assert run.report.verdict not in ("pass", "cycles") and run.problems()
    if way == "last store to L2":
        check_last_store(run)


def check_last_store(run):
    """Everything but what lies in memory is right, and that is what the message says."""
    first = run.comparison.first
    assert (first.tensor, first.got) == ("logits", ~first.expected)
    assert f"in memory, but {first.expected} was written" in first.note
    assert [t.tensor for t in run.comparison.tensors if not t.exact] == ["logits"]
    assert run.result.diagnosis is None


def test_the_last_store_under_cocotb(monkeypatch, tmp_path):
    """The simulation is another process, which reads its memory itself."""
    fault, whole = Fault("last store to L2"), drive.run_cocotb
    (tmp_path / "fault.pickle").write_bytes(pickle.dumps(fault))

    def run_cocotb(built, module, folder, **options):
        inner = tmp_path / "run"
        inner.mkdir()
        (inner / "job.pickle").write_bytes((folder / "job.pickle").read_bytes())
        options["arguments"] = {**options["arguments"], "folder": str(inner)}
        found = whole(built, "nncosim.regress.j3dai_fault_cocotb", inner, tests=["run_spoilt"], **options)
        (folder / "result.pickle").write_bytes((inner / "result.pickle").read_bytes())
        return found

    monkeypatch.setattr(drive, "run_cocotb", run_cocotb)
    run = run_compiled(compile_digits(), "rtl", "cocotb")
    assert int((tmp_path / "count").read_text()) > 0 and run.report.verdict == "mismatch"
    check_last_store(run)


@pytest.mark.parametrize("backend", ["iss", "rtl"])
def test_a_store_that_is_lost_does_not_leave_the_result_of_the_inference_before(backend, monkeypatch):
    """Two equal inferences: what the first left in memory would be right for the second."""
    compiled, fault = compile_digits(), Fault("last store to L2", lost=True, first=1)
    images = digits_images(compiled, 0, 0)
    with planted(monkeypatch, PLATFORM, compiled.image, fault, backend) as spoilt:
        run = run_compiled(compiled, backend, inputs=images)
    first = run.comparison.first
    assert spoilt() > 0 and run.report.verdict == "mismatch" and first is not None
    assert (first.tensor, first.frame) == ("logits", 1) and f"but {first.expected} was written" in first.note


@pytest.mark.parametrize("backend", ["iss", "rtl"])
def test_an_input_that_is_spoilt_on_its_way_into_l2_is_told_as_such(backend, monkeypatch):
    compiled = compile_digits()
    word = places(compiled.image)["image"].word
    module = iss_backend if backend == "iss" else rtl

    def spoilt(place, values, whole=module.pack_input):
        data = bytearray(whole(place, values))
        data[0] ^= 64 if place.word == word else 0
        return bytes(data)

    monkeypatch.setattr(module, "pack_input", spoilt)
    run = run_compiled(compiled, backend, inputs=digits_images(compiled, 0))
    first = run.comparison.first
    assert run.report.verdict == "mismatch" and first is not None
    assert first.tensor == "image" and "graph input, as loaded" in first.note


def test_both_drivers_and_the_simulator_read_the_same_from_memory():
    compiled = compile_digits()
    images = digits_images(compiled, 3, 5)
    runs = [run_compiled(compiled, *where, inputs=images) for where in (("iss",), ("rtl", "direct"), ("rtl", "cocotb"))]
    for number in range(2):
        frames = [run.result.frames[number] for run in runs]
        assert {name for frame in frames for name in frame.memory} >= {"logits"}
        for frame in frames:
            assert frame.memory.keys() == frames[0].memory.keys() and frame.loaded.keys() == {"image"}
            assert all(np.array_equal(frame.memory[name], frames[0].memory[name]) for name in frame.memory)
            assert np.array_equal(frame.loaded["image"], images[number]["image"])
