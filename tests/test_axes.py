# SPDX-License-Identifier: Apache-2.0
"""Axes with names: a batch that is kept or taken apart, and tokens; `test_tokens` has these on platforms of maps."""

import io
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx
import pytest
import toy
from models import Graph
from nncosim.compiler.compile import check_network
from nncosim.compiler.errors import CompileError, InputDataError, ModelError
from nncosim.compiler.frontend import dequantise_output, import_details, import_model, quantise_input
from nncosim.compiler.frontend.prepare import prepare
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Tensor
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images, run_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.registry import get_platform
from nncosim.regress.builder import INT8
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference
from nncosim.tb.run.evaluate import executor_predictions, float_images, image_count
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.inputs import InputError, batch_size, frames, outputs_npz
from nncosim.tb.run.network_json import network_from_json, network_to_json
from nncosim.tb.run.program import compile_model, read_model
from token_models import Dyadic, token_model

toy.install()


def gemm_model(batch: int) -> onnx.ModelProto:
    """x (batch, 64) -> Gemm -> Relu -> Gemm -> y (batch, 5)."""
    g = Dyadic((batch, 64), seed=3)
    hidden = g.quant(g.relu(g.gemm(g.quant("x", 2.0**-4), 64, 16)), 0.25)
    return g.model(g.quant(g.gemm(hidden, 16, 5), 0.5, name="y"))


def map_model(batch: int) -> onnx.ModelProto:
    """x (batch, 3, 6, 6): convolution, pooling, resizing, Add, Concat, Flatten, Gemm -> y (batch, 4)."""
    g = Dyadic((batch, 3, 6, 6), seed=4)
    x = g.quant("x", 2.0**-4)
    left = g.quant(g.conv(x, 3, 4, strides=[2, 2]), np.array([8, 16, 8, 4]).reshape(1, 4, 1, 1) ** -1.0)
    right = g.quant(g.conv(g.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2]), 3, 4), 0.25)
    both = g.quant(g.node("Add", [left, right]), 0.25)
    joined = g.quant(g.node("Concat", [both, right], axis=1), 0.25)
    scales = g.constant([1, 1, 2, 2])
    wide = g.node("Resize", [joined, "", scales], coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    mean = g.quant(g.node("AveragePool", [wide], kernel_shape=[4, 4], strides=[2, 2]), 0.125)
    return g.model(g.quant(g.gemm(g.node("Flatten", [mean], axis=1), 32, 4), 1.0, name="y"))


MODELS = {"gemm": gemm_model, "map": map_model, "tokens": token_model}
AXES = {"gemm": ("C", "H", "W"), "map": ("C", "H", "W"), "tokens": ("T", "C")}


def floats(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def executor(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The ONNX graph's y by qonnx's executor, its batch taken from x."""
    return run_qonnx(prepare(model, len(x))[0], {"x": x})["y"]


# --- tensors ---


def test_a_tensor_knows_its_axes():
    tensor = Tensor("t", (8, 16, 64), INT8, ("N", "T", "C"))
    assert (tensor.channels, tensor.channel_axis, tensor.onnx_channel_axis, tensor.elements) == (64, 2, 2, 8 * 16 * 64)
    assert tensor.extents == {"N": 8, "T": 16, "C": 64} and tensor.per_channel(range(64)).shape == (1, 1, 64)
    assert Tensor("t", (3, 4, 5), INT8).per_channel([0.5]).shape == (1, 1, 1)
    assert Tensor("t", (2, 3, 4, 5), INT8, ("N", "C", "H", "W")).per_channel(range(3)).shape == (1, 3, 1, 1)
    for axes in (("C", "H"), ("C", "C", "H"), ("N", "H", "W")):
        with pytest.raises(CompileError, match="needs an axis for each size"):
            Tensor("t", (3, 4, 5), INT8, axes)


@pytest.mark.parametrize("axis", range(3))
def test_requantization_goes_along_the_channels(axis):
    """Each channel by its own numbers, wherever the channels are."""
    rng = np.random.default_rng(axis)
    m, c = rng.integers(1, 9, 4), rng.integers(-50, 50, 4)
    full = np.zeros(4, dtype=np.int64)
    requant = MultiplyShift((m,), c, full + 2, full - 128, full + 127, full)
    values = np.moveaxis(rng.integers(-100, 100, (4, 4, 4)), 0, axis)
    got = requant.apply(values, axis=axis)
    for at in np.ndindex(values.shape):
        k = at[axis]
        assert got[at] == min(max((int(values[at]) * int(m[k]) + int(c[k])) // 4, -128), 127)


# --- batch and tokens, against the ONNX graph ---


@pytest.mark.parametrize("keep", [False, True], ids=["apart", "kept"])
@pytest.mark.parametrize("name", MODELS)
def test_any_axes_mean_what_the_graph_means(name, keep):
    """Layer by layer, and from the input to the output, where float32 has nothing to round."""
    model = MODELS[name](4)
    network = prove(import_model(model, keep_batch=keep))
    axes = (("N",) if keep else ()) + AXES[name]
    assert {t.axes for t in network.tensors.values()} == {axes}
    assert (network.batch, network.inference_batch) == ((1, 4) if keep else (4, 1))
    report = compare_with_qonnx(model, network, 3 if keep else 8)
    assert report.ok and report.values > 150 and len(report.layers) == len(network.ops)
    assert report.float_differences == report.output_differences == 0
    for image in random_images(network, 2, 7):
        values = evaluate(network, {"x": quantise_input(network, "x", image["x"])})
        ours, theirs = dequantise_output(network, "y", values["y"]), executor(model, image["x"])
        assert np.array_equal(ours, theirs)
        assert len(np.unique(ours)) > 10 or network.tensors["y"].elements < 10


@pytest.mark.parametrize("keep", [False, True], ids=["apart", "kept"])
@pytest.mark.parametrize("name", MODELS)
def test_the_plain_evaluator_agrees(name, keep):
    """Against rational arithmetic on the graph, which shares no code with the importer."""
    model = MODELS[name](2)
    network = prove(import_model(model, keep_batch=keep))
    names = import_details(model, keep_batch=keep).onnx_names
    report = compare_with_reference(OnnxReference(model), network, names, random_images(network, 2, 3))
    assert report.ok, report.faulty


def test_a_wrong_channel_is_found():
    """The comparison catches one channel's number, along whatever axis."""
    model = token_model(2)
    for keep in (False, True):
        network = prove(import_model(model, keep_batch=keep))
        last = network.ops[-1]
        c = last.requant.c.copy()
        c[7] += 5 << int(last.requant.s[7])
        wrong = network.with_ops((*network.ops[:-1], replace(last, requant=replace(last.requant, c=c))))
        layer = compare_with_qonnx(model, wrong, 2).layers[-1]
        assert layer.wrong and layer.first_wrong[-3] == 7  # image, ..., channel, expected, got


def test_tokens_keep_their_names_and_parts():
    network = import_model(token_model())
    assert [op.kind for op in network.ops].count("matmul") == 4
    assert network.tensors["both"].shape == (16, 6) and network.onnx_shapes == {"x": (1, 16, 64), "y": (1, 16, 12)}
    concat = next(op for op in network.ops if op.kind == "concat")
    assert concat.axis == -1 and network.tensors[concat.output].shape == (16, 9)
    product = next(op for op in network.ops if op.output == "y")
    assert network.macs(product) == 16 * 9 * 12 and product.constants[0].shape == (12, 9)


def test_an_image_keeps_the_axes():
    network = prove(import_model(token_model(4), keep_batch=True))
    read = network_from_json(network_to_json(network))
    assert read.tensors == network.tensors and read.keeps_batch
    assert network_from_json(network_to_json(prove(import_model(gemm_model(8))))).batch == 8


def test_what_stands_across_the_axes_is_refused():
    g = Graph((1, 16, 16))
    with pytest.raises(ModelError, match=r"expected a map \(1, C, H, W\), not \(1, 16, 16\)"):
        import_model(g.model(g.quant(g.batch_norm(g.quant("x"), 16))))  # 16 channels by ONNX's rules, which are tokens
    g = Graph((1, 16, 8))
    with pytest.raises(ModelError, match="one per channel"):
        import_model(g.model(g.quant("x", np.linspace(0.1, 0.2, 16).reshape(1, 16, 1))))
    g = Graph((1, 16, 8))
    with pytest.raises(ModelError, match=r"tokens \(1, 16, 8\) cannot be reshaped to \(1, 128\)"):
        import_model(g.model(g.node("Flatten", [g.quant("x")], axis=1)))
    g = Graph((8, 4))
    g.input("z", (1, 4))
    with pytest.raises(ModelError, match="batches of 1 and 8; expected one for all"):
        import_model(g.model(g.quant(g.node("Add", [g.quant("x"), g.quant("z")]))))
    for keep in (False, True):  # two inferences' numbers in one vector
        g = Graph((8, 4))
        y = g.node("Reshape", [g.quant("x"), g.constant([4, 8], dtype=np.int64)])
        with pytest.raises(ModelError, match=r"reshape|flattening"):
            import_model(g.model(g.quant(g.gemm(y, 8, 3))), keep_batch=keep)


# --- arrays for a kept batch ---


def test_arrays_of_a_kept_batch():
    network = prove(import_model(gemm_model(4), keep_batch=True))
    x = floats((8, 64))
    assert batch_size(network, {"x": x}, "f") == 2
    given = frames(network, {"x": x}, [1, 0], "f")
    assert given[0]["x"].shape == (4, 64, 1, 1)
    results = [evaluate(network, frame) for frame in given]
    apart = prove(import_model(gemm_model(4)))
    for k in range(4):
        alone = evaluate(apart, {"x": quantise_input(apart, "x", x[4 + k])})["y"]
        assert np.array_equal(results[0]["y"][k], alone)
    stored = np.load(io.BytesIO(outputs_npz(network, results)))
    assert stored["y"].shape == (8, 5)
    with pytest.raises(InputError, match=r"expected \(4, 64\) \(or a multiple of 4 in place of 4"):
        batch_size(network, {"x": x[:6]}, "f")
    with pytest.raises(InputDataError, match=r"expected shape \(4, 64\), got \(64,\)"):
        quantise_input(network, "x", x[0])


def test_labelled_images_of_a_kept_batch(tmp_path):
    """So many images an inference; each has a class of its own."""
    path = tmp_path / "gemm.onnx"
    onnx.save(gemm_model(4), path)
    network = import_model(path, keep_batch=True)
    x = floats((8, 64))
    assert image_count(network, {"x": x}, "f", None) == 8 and image_count(network, {"x": x}, "f", 4) == 4
    with pytest.raises(InputError, match=r"run 4 at a time; give a multiple of 4"):
        image_count(network, {"x": x}, "f", 6)
    images = float_images(network, {"x": x}, "f")
    assert [image["x"].shape for image in images] == [(4, 64)] * 2
    found = executor_predictions(path, network, images)
    assert np.array_equal(found, executor(gemm_model(4), x).argmax(axis=1)) and len(np.unique(found)) > 1


# --- platforms ---


def test_a_batch_is_run_inference_by_inference(tmp_path):
    """A Gemm of batch 8 on a platform that takes no batch: eight inferences, and their outputs together."""
    path = tmp_path / "gemm.onnx"
    onnx.save(gemm_model(8), path)
    x = floats((8, 64))
    np.savez(tmp_path / "x.npz", x=x)
    program = compile_model(path, path.read_bytes(), toy.TOY, {})
    outcome = run_program(program, toy.TOY, {}, RunOptions(input=tmp_path / "x.npz"))
    report = outcome.report
    assert report.verdict == "pass" and len(report.frame_cycles) == 8
    got = np.load(io.BytesIO(outcome.files["outputs.npz"]))["y__float"]
    assert np.array_equal(got, executor(gemm_model(8), x)) and got.shape == (8, 5) and len(np.unique(got)) > 10
    assert run_program(program, toy.TOY, {}, RunOptions()).report.input == "random (one of the graph's batch of 8)"


@dataclass(frozen=True)
class Wide(toy.machine.Toy):
    """The toy for a batch, as far as the shared layers ask."""

    tensor_axes: ClassVar = (("N", "C", "H", "W"),)


def test_a_platform_that_takes_a_batch_gets_it(tmp_path):
    path = tmp_path / "gemm.onnx"
    onnx.save(gemm_model(8), path)
    kept = read_model(path, path.read_bytes(), Wide())
    assert kept.tensors["x"].extents == {"N": 8, "C": 64, "H": 1, "W": 1} and kept.ops[0].title == "Gemm"
    assert kept.macs(kept.ops[0]) == 8 * 64 * 16
    (problem, *_) = check_network(kept, get_platform("j3dai")).problems
    assert "'x' (N 8 x C 64 x H 1 x W 1)" in problem.expected
    (problem, *_) = check_network(read_model(path, path.read_bytes(), toy.TOY), Wide()).problems
    assert "it takes (N, C, H, W)" in problem.expected
