# SPDX-License-Identifier: Apache-2.0
"""Tokens on platforms of maps: pixels of one row there, (1, T, C) for the user."""

import io
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx
import pytest
import toy
from command_line import refused, runner
from models import Graph
from nncosim.compiler.axes import in_axes_of
from nncosim.compiler.compile import prove_network
from nncosim.compiler.errors import CompileError, InputDataError, ModelError
from nncosim.compiler.frontend import import_details, import_model, quantise_input
from nncosim.compiler.frontend.prepare import prepare
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network, Tensor
from nncosim.compiler.ir.operators import Conv, Requantize, Transpose
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images, run_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import INT8
from nncosim.regress.token_models import mixer_block
from nncosim.regress.tokens import mixer_model, token_inputs
from nncosim.tb.backend import Frame
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.compare import compare_frames
from nncosim.tb.reference.onnx_reference import OnnxReference
from nncosim.tb.report.report import divergence_json
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.inputs import outputs_npz, random_frames
from nncosim.tb.run.network_json import network_from_json, network_to_json
from nncosim.tb.run.program import compile_model
from token_models import joined_model, token_model

toy.install()

MODELS = {"mixer": mixer_model, "tokens": token_model, "joined": joined_model}
SHAPES = {"mixer": (37, 20), "tokens": (16, 64), "joined": (11, 16)}
PLATFORMS = {"j3dai": PLATFORM, "toy": toy.TOY}


@dataclass(frozen=True)
class Wide(toy.machine.Toy):
    """The toy for a batch, as far as the shared layers ask."""

    tensor_axes: ClassVar = (("N", "C", "H", "W"),)


@dataclass(frozen=True)
class Tokens(toy.machine.Toy):
    """The toy for maps and for tokens as they are."""

    tensor_axes: ClassVar = (("C", "H", "W"), ("T", "C"))


def inputs(name: str, seed: int, count: int = 1) -> np.ndarray:
    return token_inputs(seed, count, *SHAPES[name])


def executor(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """All values of the ONNX graph by qonnx's executor."""
    return run_qonnx(prepare(model, len(x))[0], {"x": x})


def plain_mixer(model: onnx.ModelProto, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`mixer_model` written once more, in float64: (inner, y) as integers, x (N, T, C)."""
    values = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}

    def quant(array: np.ndarray, name: str, low: int = -128, high: int = 127) -> np.ndarray:
        return np.rint(np.clip(array / values[f"{name}.scale"], low, high))

    def product(array: np.ndarray, name: str) -> np.ndarray:
        w, b = (quant(values[f"{name}.{kind}"], f"{name}.{kind}_quant") * values[f"{name}.{kind}_quant.scale"]
                for kind in ("weight", "bias"))  # fmt: skip
        return np.einsum("ntc,cd->ntd", array, w) + b

    first = quant(x.astype(np.float64), "x_quant") / 16
    inner = quant(product(first, "widen"), "inner_quant", 0, 255)
    narrow = quant(product(inner / 16, "narrow"), "narrow_quant") / 2
    return inner, quant(first + narrow, "y_quant")


def saved(model: onnx.ModelProto, tmp_path, x: np.ndarray | None = None, name: str = "m"):
    onnx.save(model, tmp_path / f"{name}.onnx")
    if x is not None:
        np.savez(tmp_path / "x.npz", x=x)
    return tmp_path / f"{name}.onnx"


# --- tensors and networks ---


def test_a_tensor_knows_the_order_of_the_graph():
    tensor = Tensor("t", (3, 1, 5), INT8, onnx_axes=("W", "C"))
    array = np.arange(15).reshape(1, 5, 3)
    values = tensor.from_onnx(array)
    assert values.shape == (3, 1, 5) and values[2, 0, 4] == array[0, 4, 2] and values[2, 0, 1] == array[0, 1, 2]
    assert np.array_equal(tensor.to_onnx(values), array[0])
    assert tensor.onnx_index((2, 0, 4)) == (4, 2) and tensor.onnx_channel_axis == 2
    kept = Tensor("t", (2, 3, 1, 5), INT8, ("N", "C", "H", "W"), ("N", "W", "C"))
    both = np.arange(30).reshape(2, 5, 3)
    values = kept.from_onnx(both)
    assert values[1, 2, 0, 4] == both[1, 4, 2] and np.array_equal(kept.to_onnx(values), both)
    plain = Tensor("t", (3, 1, 5), INT8)
    assert np.array_equal(plain.from_onnx(array), array.reshape(3, 1, 5)) and plain.onnx_index((2, 0, 4)) == (2, 0, 4)
    for order in (("W",), ("H", "C"), ("W", "C", "C"), ("W", "C", "T")):
        with pytest.raises(CompileError, match="cannot have the axes"):
            replace(tensor, onnx_axes=order)


@pytest.mark.parametrize("keep", [False, True], ids=["apart", "kept"])
@pytest.mark.parametrize("name", MODELS)
def test_maps_hold_what_the_tokens_hold(name, keep):
    """Every tensor, value for value; no platform that takes tokens has them moved."""
    network = prove(import_model(MODELS[name](), keep_batch=keep))
    moved = in_axes_of(Wide() if keep else PLATFORM, network)
    assert {t.axes for t in moved.tensors.values()} == {("N", "C", "H", "W") if keep else ("C", "H", "W")}
    assert {t.onnx_axes for t in moved.tensors.values()} == {("N", "W", "C") if keep else ("W", "C")}
    assert [op.title for op in moved.ops] == [op.title for op in network.ops]
    assert [moved.macs(op) for op in moved.ops] == [network.macs(op) for op in network.ops]
    assert (moved.inputs, moved.outputs, moved.onnx_shapes) == (network.inputs, network.outputs, network.onnx_shapes)
    x = inputs(name, 2)
    theirs = evaluate(network, {"x": quantise_input(network, "x", x)})
    ours = evaluate(moved, {"x": quantise_input(moved, "x", x)})
    for tensor in moved.tensors.values():
        assert np.array_equal(tensor.to_onnx(ours[tensor.name]), theirs[tensor.name]) and len(np.unique(ours["y"])) > 50
    assert in_axes_of(Tokens(), import_model(MODELS[name]())).tensors == import_model(MODELS[name]()).tensors


def test_a_layer_of_tokens_is_a_convolution():
    network = in_axes_of(PLATFORM, prove(import_model(mixer_model())))
    first, second, add = network.ops
    assert isinstance(first, Conv) and (first.weights.shape, first.title) == ((45, 20, 1, 1), "MatMul")
    assert second.weights.shape == (20, 45, 1, 1) and add.kind == "add" and first.proof is not None
    assert [network.tensors[n].shape for n in ("x", "y")] == [(20, 1, 37)] * 2
    read = network_from_json(network_to_json(network))
    assert read.tensors == network.tensors and read.tensors["y"].onnx_axes == ("W", "C")


def test_a_seed_means_the_same_input_on_every_platform():
    network = import_model(mixer_model())
    moved = in_axes_of(PLATFORM, network)
    (ours,), (theirs,) = random_frames(moved, 3), random_frames(network, 3)
    assert np.array_equal(moved.tensors["x"].to_onnx(ours["x"]), theirs["x"])
    (ours,), (theirs,) = random_images(moved, 1, 3), random_images(network, 1, 3)
    assert np.array_equal(ours["x"], theirs["x"]) and ours["x"].shape == (1, 37, 20)


# --- runs ---


@pytest.mark.parametrize(("platform", "name"), [*(("j3dai", name) for name in MODELS), ("toy", "mixer")])
@pytest.mark.parametrize("seed", [1, 2])
def test_runs_give_what_the_graph_gives(platform, name, seed, tmp_path):
    """Compiled and run on the simulator: the outputs of two images, in the graph's shape, are qonnx's.

    The toy rounds ties upwards, where the graph takes the even number: there some are a few steps away.
    """
    model, x = MODELS[name](), inputs(name, seed, 2)
    path = saved(model, tmp_path, x)
    program = compile_model(path, path.read_bytes(), PLATFORMS[platform], {})
    backend = {"j3dai": "iss"}.get(platform)
    options = RunOptions(backend=backend, input=tmp_path / "x.npz", indices=(0, 1), seed=seed)
    outcome = run_program(program, PLATFORMS[platform], {}, options)
    assert outcome.report.verdict == "pass", outcome.report
    got, right = np.load(io.BytesIO(outcome.files["outputs.npz"])), executor(model, x)["y"]
    assert got["y__float"].shape == right.shape == (2, *x.shape[1:-1], right.shape[-1])
    assert np.mean(got["y__float"] != right) <= {"j3dai": 0, "toy": 0.2}[platform] and len(np.unique(right)) > 50
    assert np.mean(abs(got["y"]) >= 127) < 0.01


def test_runs_give_what_numpy_gives(tmp_path):
    model, x = mixer_model(5), token_inputs(5)
    path = saved(model, tmp_path, x[0])  # the batch of 1 may be left out
    program = compile_model(path, path.read_bytes(), PLATFORM, {})
    outcome = run_program(program, PLATFORM, {}, RunOptions(backend="iss", input=tmp_path / "x.npz"))
    inner, y = plain_mixer(model, x)
    assert np.array_equal(np.load(io.BytesIO(outcome.files["outputs.npz"]))["y"], y)
    assert np.mean(inner == 255) < 0.01 and len(np.unique(inner)) > 100


def test_an_input_that_is_taken_the_wrong_way_round_is_seen(tmp_path, monkeypatch):
    """What the tests above hold outputs against is not moved by the code that moves them."""
    model, x = mixer_model(), token_inputs(1)
    path = saved(model, tmp_path, x)
    program = compile_model(path, path.read_bytes(), PLATFORM, {})
    monkeypatch.setattr(Tensor, "from_onnx", lambda tensor, array: array.reshape(tensor.shape))
    outcome = run_program(program, PLATFORM, {}, RunOptions(backend="iss", input=tmp_path / "x.npz"))
    got = np.load(io.BytesIO(outcome.files["outputs.npz"]))["y"]
    assert outcome.report.verdict == "pass" and not np.array_equal(got, plain_mixer(model, x)[1])


def test_two_axes_of_tokens_that_the_graph_makes_one():
    """x (1, 4, 6, 8) is made (1, 24, 8) before its Quant: the user's arrays keep the first shape."""
    g = Graph((1, 4, 6, 8), seed=2)
    flat = g.quant(g.node("Reshape", ["x", g.constant([1, 24, 8], dtype=np.int64)]), 2.0**-4)
    y = g.quant(g.node("MatMul", [flat, g.weights((8, 5), scale=2.0**-6)]), 2.0**-3, name="y")
    model = g.model(y)
    network = prove_network(import_model(model), PLATFORM)
    x = token_inputs(3, 1, 24, 8).reshape(1, 4, 6, 8)
    values = evaluate(network, {"x": quantise_input(network, "x", x)})
    got = np.load(io.BytesIO(outputs_npz(network, [values])))["y__float"]
    assert np.array_equal(got, executor(model, x)["y"]) and got.shape == (1, 24, 5)


# --- what is told of elements ---


def test_a_wrong_element_is_named_as_the_graph_has_it():
    network = prove_network(import_model(mixer_model()), PLATFORM)
    (frame,) = random_frames(network, 1)
    right = evaluate(network, frame)
    made = {name: right[name].copy() for name in (op.output for op in network.ops)}
    made["y"][3, 0, 29] += 1
    found = compare_frames(network, (right,), (Frame(1, made, (), memory={"y": made["y"]}),))
    assert found.first is not None and (found.first.index, found.first.told) == ((3, 0, 29), (29, 3))
    assert str(found.first).startswith("y[29, 3]: expected ") and divergence_json(found.first)["index"] == [29, 3]


def spoilt(network: Network, channel: int) -> Network:
    """The last layer's constant is five steps off in one channel; of two parts that of the second."""
    number, last = next((k, op) for k, op in reversed([*enumerate(network.ops)]) if op.requantized)
    c = last.requant.c.copy()
    c[channel] += 5 << int(last.requant.s[channel])
    wrong = replace(last, requant=replace(last.requant, c=c))
    return network.with_ops((*network.ops[:number], wrong, *network.ops[number + 1 :]))


@pytest.mark.parametrize("name", MODELS)
def test_comparisons_with_the_graph_see_wrong_channels(name):
    model = MODELS[name]()
    network, names = prove_network(import_model(model), PLATFORM), import_details(model).onnx_names
    for case, wrong in ((network, False), (spoilt(network, 7), True)):
        report = compare_with_qonnx(model, case, 2)
        other = compare_with_reference(OnnxReference(model), case, names, random_images(network, 2, 3))
        assert report.ok == other.ok == (not wrong)
        for layers in (report.layers, other.layers):
            (*_, first) = (None, *(layer.first_wrong for layer in layers if layer.first_wrong))
            assert first is None if not wrong else len(first) == 5 and first[2] == 7  # image, token, channel, ...


# --- the command ---


@pytest.fixture
def command(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return runner(capfd)


def test_the_command_takes_tokens(command, tmp_path):
    model, x = mixer_model(), token_inputs(7, 3)
    saved(model, tmp_path, x)
    assert command("check", "m.onnx").status == 0
    assert command("compile", "m.onnx", "--out", "compiled").status == 0
    right = executor(model, x)["y"]
    for number, source in enumerate(("m.onnx", "compiled/image.elf")):
        out = f"out{number}"
        result = command("run", source, "--backend", "iss", "--input", "x.npz", "--index", 1, "--out", out)
        assert result.status == 0, result
        with np.load(tmp_path / out / "outputs.npz") as got:
            assert np.array_equal(got["y__float"], right[1:2])
        assert command("report", out).status == 0
    for against in ("qonnx", "onnx"):
        for more in ((), ("--reference",)):
            result = command("evaluate", "m.onnx", "--against", against, "--images", 2, *more)
            assert result.status == 0, result
    np.savez(tmp_path / "labelled.npz", x=x, labels=right.reshape(3, -1).argmax(axis=1))
    result = command("evaluate", "m.onnx", "--data", "labelled.npz", "--against", "qonnx", "--json", "accuracy.json")
    assert result.status == 0, result
    assert json.loads((tmp_path / "accuracy.json").read_text())["accuracy"] == 1


def test_arrays_of_another_shape_are_refused(command, tmp_path):
    saved(mixer_model(), tmp_path, token_inputs(1).transpose(0, 2, 1))
    refused(command("run", "m.onnx", "--backend", "iss", "--input", "x.npz"), "'x'", "expected (1, 37, 20)")
    network = in_axes_of(PLATFORM, import_model(mixer_model()))
    with pytest.raises(InputDataError, match=r"expected shape \(1, 37, 20\), got \(20, 1, 37\)"):
        quantise_input(network, "x", np.zeros((20, 1, 37), np.float32))


class Turned(Requantize):
    """An operator of somebody else's, of which nothing is known on pixels."""

    def on_pixels(self):
        return None


def test_an_operator_that_has_no_form_over_pixels_is_refused():
    network = import_model(mixer_model())
    add = network.ops[-1]
    turned = Turned("turned", (add.inputs[0],), add.output, function=network.ops[0].function)
    text = r"Turned 'turned': works on tokens, .* \(T 37 x C 20\).*platform j3dai"
    with pytest.raises(ModelError, match=text) as told:
        in_axes_of(PLATFORM, network.with_ops((*network.ops[:-1], turned)))
    assert len(told.value.problems) == 1


def across(kind: str) -> onnx.ModelProto:
    """A graph that mixes tokens: a product of activations, or tokens and channels exchanged."""
    g = Graph((1, 8, 8), seed=1)
    x = g.quant("x", 2.0**-4)
    if kind == "MatMul":
        y = g.node("MatMul", [x, g.quant(g.relu(x), 2.0**-4)], name="across")
    else:
        y = g.node("Transpose", [x], name="across", perm=[0, 2, 1])
    return g.model(g.quant(g.node("MatMul", [g.quant(y, 0.5), g.weights((8, 4), axis=1)]), 2.0, name="y"))


LINES = (("check",), ("compile", "--out", "out"), ("run", "--backend", "iss"), ("evaluate", "--against", "onnx"))


def test_a_product_of_activations_is_refused(command, tmp_path):
    saved(across("MatMul"), tmp_path)
    for name, *more in LINES:
        text = refused(command(name, "m.onnx", *more), "MatMul 'across'")
        assert text.count("across") == 1


def test_a_transposition_is_refused_where_the_machine_has_none(command, tmp_path):
    saved(across("Transpose"), tmp_path)
    for name, *more in LINES:
        refused(command(name, "m.onnx", *more), "Transpose 'across': has no kernel on platform j3dai")


@pytest.mark.parametrize("model", [mixer_block(12, 20, (8, 24)), mixer_block(6, 9, (16, 5))])
def test_transpositions_are_the_graphs(model):
    """Between layers, and of a graph input that is used in both ways."""
    network = prove_network(import_model(model, keep_batch=True), AieMl())
    details, names = import_details(model, keep_batch=True), random_images(network, 2, 3)
    assert any(isinstance(op, Transpose) for op in network.ops)
    assert compare_with_qonnx(model, network, names).ok
    assert compare_with_reference(OnnxReference(model), network, details.onnx_names, names).ok


def test_a_transposition_that_does_nothing_is_seen():
    """Of as many tokens as channels: the shapes alone do not tell."""
    model = mixer_block(8, 8, (8, 8))
    network = prove_network(import_model(model, keep_batch=True), AieMl())
    idle = tuple(replace(op, axes=(-1, -1)) if isinstance(op, Transpose) else op for op in network.ops)
    found = compare_with_reference(OnnxReference(model), network.with_ops(idle),
                                   import_details(model, keep_batch=True).onnx_names, random_images(network, 2, 3))
    assert not found.ok


def test_more_tokens_than_a_row_has_pixels_are_refused(command, tmp_path):
    saved(mixer_model(tokens=4096), tmp_path)
    refused(command("check", "m.onnx"), "1 x 4096, at most 4095 x 4095")
