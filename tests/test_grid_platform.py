# SPDX-License-Identifier: Apache-2.0
"""A platform of tiles, streams and overlapping inferences goes through every shared layer: no file of them names it."""

import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import grid
import numpy as np
import pytest
from grid.bench import Machine
from grid.machine import ANALOG, MAC, PORT, STREAM, Wait
from grid_models import BATCH, dense_model
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import CompileError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.image.tiles import TilesError, tensor_from_bytes
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.tb.report.table import print_report
from nncosim.tb.run.flow import Outcome, RunOptions, run_program
from nncosim.tb.run.program import Program, compile_model, load_image
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from rich.console import Console
from toy_models import save

grid.install()
INFERENCES = 9
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save(dense_model(), tmp_path_factory.mktemp("grid") / "dense.onnx")


@pytest.fixture(scope="module")
def program(model) -> Program:
    return compile_model(model, model.read_bytes(), grid.GRID, {})


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Batches over most of the input's range."""
    path = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(path, x=np.random.default_rng(3).integers(-25000, 25000, (INFERENCES * BATCH, 32)))
    return path


def run(program: Program, data: Path, count: int = INFERENCES) -> Outcome:
    return run_program(program, grid.GRID, {}, RunOptions(input=data, indices=tuple(range(count))))


def test_the_platform_is_small_and_no_shared_file_knows_it():
    files = list(Path(grid.__file__).parent.glob("*.py"))
    assert len(files) == 4 and sum(len(p.read_text().splitlines()) for p in files) <= 600
    its_own = re.compile(r"\b(GridBackend|grid_models|mac_dense|analog_dense)\b")
    assert any(its_own.search(p.read_text()) for p in files)
    shared = [ROOT / "pyproject.toml"]
    for part in ("platforms", "hdl", "compiler", "kernels", "tb", "regress"):
        shared += (ROOT / part).rglob("*.py")
    assert len(shared) > 300 and [p for p in shared if its_own.search(p.read_text())] == []


def test_every_bit_and_cycle_is_right(program, data):
    """Nine inferences of a batch of four each, several on the way at a time."""
    report = run(program, data).report
    assert report.verdict == "pass", report.comparison.first
    assert len(report.comparison.tensors) == 5 * INFERENCES
    assert report.comparison.from_memory == len(report.comparison.inputs) == INFERENCES
    latency, interval = report.cycles, report.steady
    schedule = program.notes.schedule
    assert latency == schedule.latency() and interval[0] == interval[1] == schedule.interval()
    assert interval[0] < latency / 2, "several inferences are under way at once"
    assert report.frame_cycles[4] > latency, "later ones wait for engines"


def test_inputs_and_outputs_pass_ports_over_time(program, data):
    """As the schedule has it: the next input comes in before the last output has left."""
    outcome = run(program, data)
    schedule, seen = program.notes.schedule, outcome.report.passages
    outputs = program.notes.outputs
    assert len(seen) == INFERENCES and all(set(each) == {"x", *outputs} for each in seen)
    predicted = schedule.spans(INFERENCES)
    for number, each in enumerate(seen):
        for name, passage in each.items():
            ends = [predicted[number][task.name] for task in schedule.tasks if task.layer == name]
            assert (passage.start, passage.end) == (min(a for a, _ in ends), max(b for _, b in ends))
            assert passage.port == f"{PORT}{0 if name == 'x' else 1}"
    assert any(after["x"].start < before[outputs[0]].end for before, after in pairwise(seen))
    assert outcome.report.to_json()["passages"][0]["x"] == {"port": f"{PORT}0", "start": 0, "end": seen[0]["x"].end}


def test_the_values_use_their_range(program, data):
    arrays = np.load(data)["x"].reshape(INFERENCES, BATCH, 32, 1, 1)
    for x in arrays[:3]:
        for name, values in evaluate(program.network, {"x": x}).items():
            kind = program.network.tensors[name].type
            saturated = np.mean((values <= kind.lo) & (kind.lo < 0) | (values >= kind.hi))
            assert saturated < 0.05 and len(np.unique(values)) > 20, name


def test_layers_overlap_in_time(program, data):
    report = run(program, data, 1).report
    spans = program.notes.schedule.spans()[0]
    left, right = (spans[op.output] for op in program.network.ops if op.name in ("left", "right"))
    assert left[0] < right[1] and right[0] < left[1]
    assert sum(layer.cycles for layer in report.layers) > report.cycles


def test_one_tensor_lies_on_two_tiles(program):
    places = read_tiles(Image.from_bytes(program.image))
    (split,) = [place for place in places.values() if len(place.fragments) > 1]
    assert [part.instance for part in split.fragments] == [0, 1] and split.tensor.channels == 48
    assert [part.shape for part in split.fragments] == [(BATCH, 24, 1, 1)] * 2
    with pytest.raises(TilesError, match=r"96 elements of tensor .* lie in none of its 1 fragments"):
        tensor_from_bytes(replace(split, fragments=split.fragments[:1]), lambda part, size: bytes(size))


def test_one_shift_a_layer_floor_and_half_even(program):
    requants = {op.name: op.requant for op in program.network.ops}
    assert all(len(set(r.s.tolist())) == 1 and set(r.m[0].tolist()) == {1} for r in requants.values())
    assert {int(r.rounding[0]) for r in requants.values()} == {0, 5}
    proofs = [op.proof for op in program.network.ops]
    assert all(proof.exact for proof in proofs) and max(proof.acc_hi for proof in proofs) > 1 << 26


def test_clipped_sums_are_judged_by_the_kernel_not_by_the_graph(program, data):
    """The analog engine clips: the run passes, the proof says that this is not the graph, and it is not."""
    head = program.network.ops[-1]
    assert program.notes.steps[-2].engines == (ANALOG,)
    assert "are clipped at 32768" in head.proof.deviation and not head.proof.equals_graph
    outcome = run(program, data)
    assert outcome.report.passed and outcome.report.requantization.inexact == ("head",)
    arrays = np.load(data)["x"].reshape(INFERENCES, BATCH, 32, 1, 1)
    graph = np.concatenate([evaluate(program.network, {"x": x})["y"] for x in arrays]).reshape(-1, 10)
    got = np.load(io.BytesIO(outcome.files["outputs.npz"]))["y"]
    assert got.shape == graph.shape and 0 < np.mean(got != graph) < 0.5


def test_outputs_equal_the_models_own_executor(model, data):
    """With an engine that clips later than any sum, they are those of the graph."""
    program = compile_model(model, model.read_bytes(), replace(grid.GRID, clip_bits=24), {})
    assert all(op.proof.equals_graph for op in program.network.ops)
    outcome = run_program(program, replace(grid.GRID, clip_bits=24), {}, RunOptions(input=data, indices=(0, 1)))
    assert outcome.report.passed
    wrapped = ModelWrapper(str(model)).transform(InferShapes())
    got = np.load(io.BytesIO(outcome.files["outputs.npz"]))["y__float"]
    for k, batch in enumerate(np.load(data)["x"][:2 * BATCH].reshape(2, BATCH, 32)):
        expected = execute_onnx(wrapped, {"x": batch.astype(np.float32) * np.float32(2.0 ** -12)})["y"]
        assert np.array_equal(got[k * BATCH:(k + 1) * BATCH], expected)


def test_what_predicts_the_cycles_is_called_what_it_is(program, data):
    """There is no instruction-set simulator here."""
    stream = io.StringIO()
    print_report(run(program, data, 2).report, Console(file=stream, width=200))
    assert "the cycles are those of the cycle model" in stream.getvalue()
    assert re.search(r"\biss\b", stream.getvalue(), re.IGNORECASE) is None


def test_the_image_alone_gives_the_same_run(program, data):
    again, platform, settings = load_image(program.source, program.image)
    assert platform == grid.GRID and settings == {}
    assert run(again, data).report.to_json()["intervals"] == run(program, data).report.to_json()["intervals"]


@pytest.mark.parametrize(("engine", "distance"), [
    ((MAC, 0), 0), ((MAC, 2), 0), ((STREAM, 2), 0), ((ANALOG, 0), 0), ((PORT, 1), 0), ((MAC, 0), 2), ((PORT, 0), 2),
])  # fmt: skip
def test_waits_that_are_lost_are_seen(program, data, engine, distance, monkeypatch):
    """An engine that does not wait for what it reads (0), or for who still reads what it writes (2 inferences ago):
    wrong bits, or other cycles."""
    real = Machine.__init__

    def planted(self, *arguments):
        real(self, *arguments)
        for command in self.programs[engine]:
            for slot, wait in enumerate(command.waits):
                if wait.used and wait.distance == distance:
                    command.waits[slot] = Wait()

    monkeypatch.setattr(Machine, "__init__", planted)
    report = run(program, data).report
    assert report.verdict in ("mismatch", "cycles")


def test_slower_streams_are_seen(program, data, monkeypatch):
    """The machine takes a hop more than the compiler was told."""
    real = Machine._hops
    monkeypatch.setattr(Machine, "_hops", lambda self, engine, command: real(self, engine, command) + 1)
    report = run(program, data).report
    assert report.verdict == "cycles" and any(late.what == "total" for late in report.late)


def test_a_task_on_a_tile_that_does_not_reach_its_buffer_is_refused(model, monkeypatch):
    monkeypatch.setattr(type(grid.GRID), "neighbours", lambda self, tile: tuple(range(self.tiles)))
    network = import_model(model, keep_batch=True)
    platform = replace(grid.GRID)
    engines = platform.engines
    monkeypatch.undo()
    near = tuple(replace(e, reaches={"data": tuple((k,) for k in range(e.instances))}) for e in engines)
    monkeypatch.setattr(type(grid.GRID), "engines", property(lambda self: near))
    with pytest.raises(CompileError, match=r"after pass 'lower': task .* uses .*, which its engine does not reach"):
        compile_network(network, platform)


def test_a_memory_that_is_too_small_is_named(model):
    small = replace(grid.GRID, data_bytes=1024)
    with pytest.raises(CompileError, match=r"instance \d of memory 'data' holds 1024 bytes, but \d+ are needed"):
        compile_network(import_model(model, keep_batch=True), small)


def test_every_command_takes_it(model, data, tmp_path, command):
    """check, run with a page, and a sweep over its parameters."""
    assert command("check", model, "--platform", "grid")[0] == 0
    status, text, err = command("run", model, "--platform", "grid", "--input", data, "--index", "0", "--index", "1",
                                "--out", tmp_path / "o", "--json", tmp_path / "r.json")  # fmt: skip
    assert status == 0 and "then an inference every" in text and err == ""
    assert json.loads((tmp_path / "r.json").read_text())["steady_interval"] > 0
    assert command("report", tmp_path / "o")[0] == 0
    status, text, _ = command("sweep", model, "--platform", "grid", "--grid", "lanes=8,16", "--workers", 1,
                              "--out", tmp_path / "s")  # fmt: skip
    assert status == 0 and "lanes" in text


def test_the_interval_is_exact(program):
    assert isinstance(program.notes.schedule.interval(), Fraction)
