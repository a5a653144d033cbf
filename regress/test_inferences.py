# SPDX-License-Identifier: Apache-2.0
"""Several inferences without a reset: each takes the cycles of the ISS, and each is judged."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

import pytest
from nncosim.kernels.base import Cost
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import ComparedRun, compile_digits, digits_images, run_compiled
from nncosim.tb.run.flow import Outcome, RunOptions, run_program
from nncosim.tb.run.program import Program, compile_model

IMAGES = (7, 301, 12, 44)


def digits(backend: str, driver: str | None) -> ComparedRun:
    compiled = compile_digits()
    return run_compiled(compiled, backend, driver, inputs=digits_images(compiled, *IMAGES))


@pytest.mark.parametrize(("backend", "driver"), [("iss", None), ("rtl", "direct"), ("rtl", "cocotb")])
def test_every_inference_takes_the_cycles_of_the_iss(backend, driver):
    """The first differs from the others (boot, a cold list queue); all others are alike."""
    run = digits(backend, driver)
    assert run.problems() == []
    notes = run.compiled.image.notes
    assert notes.repeat is not None and notes.repeat != notes.cycles
    assert [frame.cycles for frame in run.result.frames] == [notes.cycles.best] + [notes.repeat.best] * 3
    for number in range(len(IMAGES)):
        assert [(measured, name) for name, iss, measured in run.layers(number) if measured != iss] == []


@pytest.fixture(scope="module")
def program() -> Program:
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as path:
        return compile_model(path, path.read_bytes(), PLATFORM, {})


def run(program: Program, count: int) -> Outcome:
    with as_file(files("nncosim.regress.networks") / "digits_test.npz") as path:
        return run_program(program, PLATFORM, {}, RunOptions(backend="iss", input=path, indices=IMAGES[:count]))


def test_a_late_layer_of_a_later_inference_fails_the_run(program):
    """Cycles on the ISS of later inferences that are off by 101 cycles and 5 % in one layer, the total unchanged."""
    for layer, step in enumerate(program.schedule):
        wrong = replace(step, repeat=Cost.exactly(step.repeat.best + max(101, step.repeat.best // 10)))
        steps = (*program.schedule[:layer], wrong, *program.schedule[layer + 1 :])
        planted = replace(program, notes=replace(program.notes, steps=steps))
        assert run(planted, 1).report.verdict == "pass"  # nothing is wrong with the first
        report = run(planted, 3).report
        assert report.verdict == "cycles"
        assert [(late.what, late.frame) for late in report.late] == [(f"layer {step.name}", n) for n in (1, 2)]


def test_a_late_total_of_a_later_inference_fails_the_run(program):
    late = Cost.exactly(program.notes.repeat.best * 103 // 100)
    planted = replace(program, notes=replace(program.notes, repeat=late))
    assert run(planted, 1).report.verdict == "pass"
    report = run(planted, 2).report
    assert report.verdict == "cycles" and [(late.what, late.frame) for late in report.late] == [("total", 1)]
