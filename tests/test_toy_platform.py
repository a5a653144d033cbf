# SPDX-License-Identifier: Apache-2.0
"""A platform that is not J3DAI goes through every shared layer unchanged."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from nncosim.compiler.compile import compile_network
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.regress.harness import run_compiled
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.inputs import random_frames
from nncosim.tb.run.program import compile_model, load_image
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from toy_models import branching_model, save

toy.install()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save(branching_model(), tmp_path_factory.mktemp("toy") / "branching.onnx")


@pytest.fixture(scope="module")
def program(model):
    return compile_model(model, model.read_bytes(), toy.TOY, {})


def run(program, **options):
    return run_program(program, toy.TOY, {}, RunOptions(**options))


def test_the_platform_is_small():
    files = [p for p in Path(toy.__file__).parent.iterdir() if p.is_file()]
    assert len(files) == 5 and sum(len(p.read_text().splitlines()) for p in files) <= 410


@pytest.mark.parametrize("seed", range(20))
def test_every_bit_and_cycle_is_right(program, seed):
    report = run(program, seed=seed).report
    assert report.verdict == "pass", report.comparison.first
    assert len(report.comparison.tensors) == 4 and report.backend == "python" and report.driver is None
    assert report.comparison.from_memory >= 1 and len(report.comparison.inputs) >= 1
    assert sum(layer.cycles for layer in report.layers) == report.cycles == program.iss_cycles


def test_outputs_equal_the_models_own_executor(program, model):
    """Floor rounding on the machine, half to even in the model: the proof makes them one."""
    outcome = run(program, seed=77)
    assert outcome.report.requantization.exact_layers == outcome.report.requantization.layers
    x = np.random.default_rng(77).integers(0, 15, (2, 8, 8), endpoint=True) * np.float32(0.25)
    wrapped = ModelWrapper(str(model)).transform(InferShapes())
    expected = execute_onnx(wrapped, {"x": x[np.newaxis].astype(np.float32)})["y"]
    got = np.load(io.BytesIO(outcome.files["outputs.npz"]))["y__float"]
    assert np.array_equal(got, expected)
    assert len(np.unique(got)) > 3


def test_the_values_use_their_range(program):
    tensors = [evaluate(program.network, frame) for frame in random_frames(program.network, 1, 10)]
    for name in program.network.tensors:
        values = np.concatenate([t[name].ravel() for t in tensors])
        assert len(np.unique(values)) >= 8, name


def test_both_engines_work_at_once(program):
    report = run(program).report
    engines = {layer.engine for layer in report.layers}
    assert engines == {"matrix", "stream"}
    together = [layer for layer in report.layers if all(c["busy"] for c in layer.counters.values())]
    assert together, "no step in which both engines are busy"
    for layer in report.layers:
        assert all(sum(c.values()) == layer.cycles for c in layer.counters.values())


def test_tensors_of_four_bits_are_packed(program):
    places = read_tiles(Image.from_bytes(program.image))
    narrow = [p for p in places.values() if p.tensor.type.bits <= 4]
    assert len(narrow) == 4 and all(p.size == p.tensor.elements // 2 for p in narrow)


def test_the_image_alone_gives_the_same_run(program, tmp_path):
    loaded, platform, _ = load_image(tmp_path / "i.elf", program.image)
    first, second = run(program, seed=3), run_program(loaded, platform, {}, RunOptions(seed=3))
    assert second.report.verdict == "pass" and second.report.iss_cycles == first.report.iss_cycles
    assert first.files["outputs.npz"] == second.files["outputs.npz"]


def test_another_size_of_the_platform(model):
    wide = replace(toy.TOY, lanes=64)
    program = compile_model(model, model.read_bytes(), wide, {"lanes": 64})
    report = run_program(program, wide, {"lanes": 64}, RunOptions()).report
    assert report.verdict == "pass"
    assert report.iss_cycles < compile_model(model, model.read_bytes(), toy.TOY, {}).iss_cycles


def test_the_harness_of_the_regressions_runs_it(program):
    """Of the platform it knows the name of a backend only; a spoilt image is noticed."""
    compiled = compile_network(program.network, toy.TOY)
    assert run_compiled(compiled, "python", seed=5, frames=2).problems() == []

    def spoil(data: bytes) -> bytes:
        image = Image.from_bytes(data)
        weights = max((s for s in image.segments if s.memory == "data"), key=lambda s: len(s.data))
        other = replace(weights, data=bytes(byte ^ 1 for byte in weights.data))
        return replace(image, segments=tuple(other if s is weights else s for s in image.segments)).to_bytes()

    assert run_compiled(compiled, "python", seed=5, spoil=spoil).problems() != []


def test_two_inferences_back_to_back(program, tmp_path):
    images = np.random.default_rng(8).integers(0, 15, (3, 2, 8, 8), endpoint=True)
    np.savez(tmp_path / "x.npz", x=images)
    report = run(program, input=tmp_path / "x.npz", indices=(2, 0)).report
    assert report.verdict == "pass" and len(report.frame_cycles) == 2
    assert len(report.comparison.tensors) == 8


def test_an_output_spoilt_behind_the_observer_is_a_mismatch(program, monkeypatch):
    """What is watched as tasks end is right; memory is wrong when the inference has ended."""
    place = read_tiles(Image.from_bytes(program.image))["y"]

    def spoilt(self, *arguments, whole=toy.bench.Machine.run):
        found = whole(self, *arguments)
        self.memory[place.only.address] ^= 4
        return found

    monkeypatch.setattr(toy.bench.Machine, "run", spoilt)
    outcome = run(program)
    first = outcome.report.comparison.first
    assert outcome.report.verdict == "mismatch" and (first.tensor, first.index) == ("y", (0, 0, 0))
    assert first.got ^ first.expected == 4 and f"in memory, but {first.expected} was written" in first.note
    assert np.load(io.BytesIO(outcome.files["outputs.npz"]))["y"].flat[0] == first.got


def test_an_output_of_the_inference_before_is_no_output(program, tmp_path, monkeypatch):
    """The second of two equal inferences loses its results on their way to memory, where the first one's lay."""
    place, ends = read_tiles(Image.from_bytes(program.image))["y"], []

    def lost(self, *arguments, whole=toy.bench.Machine.run):
        before = self.memory[place.only.address:][:place.size].copy()
        found = whole(self, *arguments)
        ends.append(found)
        if len(ends) == 2:
            self.memory[place.only.address:][:place.size] = before
        return found

    monkeypatch.setattr(toy.bench.Machine, "run", lost)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(8).integers(0, 15, (1, 2, 8, 8), endpoint=True))
    report = run(program, input=tmp_path / "x.npz", indices=(0, 0)).report
    assert report.verdict == "mismatch" and report.comparison.first.frame == 1
    assert "was written" in report.comparison.first.note


def test_an_input_spoilt_on_its_way_in_is_a_mismatch(program, monkeypatch):
    place = read_tiles(Image.from_bytes(program.image))["x"]

    def spoilt(self, places, which, whole=toy.bench.Machine.held):
        if which(place) and not which(read_tiles(Image.from_bytes(program.image))["y"]):
            self.memory[place.only.address] ^= 1
        return whole(self, places, which)

    monkeypatch.setattr(toy.bench.Machine, "held", spoilt)
    report = run(program).report
    first = report.comparison.first
    assert report.verdict == "mismatch" and first.tensor == "x" and "graph input, as loaded" in first.note
    assert report.to_json()["tensors"]["compared"] == 4


def test_the_files_tell_what_is_in_the_image(program):
    listing, memory = program.files["listing.txt"].decode(), program.files["memory.txt"].decode()
    assert "matrix program" in listing and "kernels.c" in listing and "0x10000000" in listing
    assert "head.weights" in memory
