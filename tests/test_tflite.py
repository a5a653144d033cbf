# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite files: the importer's integers against the reference kernels of `ai-edge-litert`, by tensor."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_model, meanings, quantise_input, tflite_graph, tflite_reader
from nncosim.compiler.frontend.meanings import Rescale
from nncosim.compiler.frontend.values import Affine
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.operators import Requantize
from nncosim.compiler.proof.caps import MultiplyShiftCaps
from nncosim.compiler.proof.forms import prove_function
from nncosim.compiler.proof.litert_check import compare_with_litert
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.j3dai import PLATFORM
from nncosim.platforms.rounding import Rounding
from nncosim.regress.tflite_models import Kernels, TfliteModel, schema
from tflite_check import GIVEN, SHAPE, judged, network_of, one, written

LAYERS: dict[str, Callable[[TfliteModel, int], int]] = {
    "conv": lambda m, x: m.conv("y", x, 6),
    "conv valid": lambda m, x: m.conv("y", x, 6, same=False),
    "conv per tensor": lambda m, x: m.conv("y", x, 6, per_channel=False),
    "conv stride 2": lambda m, x: m.conv("y", x, 6, stride=2),
    "conv 5x5 stride 2": lambda m, x: m.conv("y", x, 6, 5, stride=2),
    "conv dilation 2": lambda m, x: m.conv("y", x, 6, dilation=2),
    "conv 4x3": lambda m, x: m.conv("y", x, 6, (4, 3)),
    "conv RELU": lambda m, x: m.conv("y", x, 6, activation="RELU"),
    "conv RELU6": lambda m, x: m.conv("y", x, 6, activation="RELU6"),
    "depthwise": lambda m, x: m.conv("y", x, 0, depthwise=True),
    "depthwise stride 2 RELU": lambda m, x: m.conv("y", x, 0, depthwise=True, stride=2, activation="RELU"),
    "depthwise per tensor": lambda m, x: m.conv("y", x, 0, depthwise=True, per_channel=False),
    "dense of a map": lambda m, x: m.dense("y", x, 30),
    "dense per channel": lambda m, x: m.dense("y", m.reshape("flat", x, (1, 480)), 30, per_channel=True),
    "dense RELU": lambda m, x: m.dense("y", x, 60, activation="RELU"),
    "max pool": lambda m, x: m.pool("y", x),
    "max pool 3x3 same": lambda m, x: m.pool("y", x, 3, same=True),
    "average pool": lambda m, x: m.pool("y", x, kind="AVERAGE"),
    "average pool 3x3": lambda m, x: m.pool("y", x, 3, kind="AVERAGE", stride=1),
    "average pool same": lambda m, x: m.pool("y", x, 2, kind="AVERAGE", same=True),
    "mean": lambda m, x: m.mean("y", m.conv("c", x, 32, activation="RELU")),
    "mean kept": lambda m, x: m.mean("y", m.conv("c", x, 32), keep=True, factor=0.2),
    "add": lambda m, x: m.add("y", x, m.conv("c", x, 4)),
    "add RELU": lambda m, x: m.add("y", m.conv("c", x, 8), m.conv("d", x, 8, 1), activation="RELU"),
    "concatenation": lambda m, x: m.conv("y", m.concat("k", [x, m.pool("p", x, 1, stride=1)]), 6),
    "pad": lambda m, x: m.conv("y", m.pad("p", x, 1, 2, 0, 3), 6, same=False, stride=2),
    "pad of both kinds": lambda m, x: m.conv("y", m.pad("p", x, 1, 0, 2, 1), 6, stride=2),
    "RELU": lambda m, x: m.rescaled("y", x, "RELU"),
    "RELU6": lambda m, x: m.rescaled("y", x, "RELU6", 0.9),
    "RELU at two thirds": lambda m, x: m.rescaled("y", x, "RELU", 1 / np.float32(1.5)),
    "RELU6 at two fifths": lambda m, x: m.rescaled("y", x, "RELU6", 1 / np.float32(2.5)),
    "QUANTIZE at two thirds": lambda m, x: m.rescaled("y", x, "QUANTIZE", 1 / np.float32(1.5)),
    "names of ours": lambda m, x: m.conv("y", m.conv("x.nchw", m.conv("y.scale", x, 4), 4), 4),
    "QUANTIZE": lambda m, x: m.rescaled("y", x, "QUANTIZE", 1.3, 9),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer(tmp_path, name):
    network = judged(written(tmp_path, one(LAYERS[name])))
    assert network.onnx_shapes["x"] == SHAPE and "y" in network.tensors


@pytest.mark.parametrize("seed", range(6))
def test_two_roundings_and_one(tmp_path, seed):
    """Weights of zero, so that the biases are the accumulators: around every threshold, by many scales."""
    rng = np.random.default_rng(seed)
    given, weights, factor = (np.float32(rng.uniform(*ends)) for ends in ((0.01, 0.1), (0.001, 0.01), (4, 4000)))
    scale, zero = np.float32(given * weights * factor), int(rng.integers(-20, 20))
    ratio = float(given) * float(weights) / float(scale)
    near = np.round((np.arange(-125, 125) + 0.5) / ratio).astype(np.int64)
    biases = (near[:, None] + np.arange(-2, 3)).ravel()
    m = TfliteModel(seed)
    ends = []
    for name in ("conv", "dense"):
        dense = name == "dense"
        x = m.input(f"x of {name}", (1, 2) if dense else (1, 1, 1, 2), given, 0)
        shape = (len(biases), 2) if dense else (len(biases), 1, 1, 2)
        w = m.tensor(f"{name}/w", shape, np.int8, weights, 0, np.zeros(shape))
        b = m.tensor(f"{name}/b", (len(biases),), np.int32, given * weights, 0, biases)
        ends.append(m.tensor(name, (1, len(biases)) if dense else (1, 1, 1, len(biases)), np.int8, scale, zero))
        if dense:
            m.op("FULLY_CONNECTED", [x, w, b], ends[-1], "FullyConnectedOptions")
        else:
            m.op("CONV_2D", [x, w, b], ends[-1], "Conv2DOptions", padding=schema.Padding.VALID, strideH=1, strideW=1,
                 dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    path = written(tmp_path, m.finish(*ends))
    network = prove(import_model(path), GIVEN)
    report = compare_with_litert(path, network, 1)
    assert report.ok and report.values == 2 * len(biases)
    found = evaluate(network, {name: np.zeros((2, 1, 1), np.int64) for name in network.inputs}, exact=True)
    conv, dense = (found[name].ravel() for name in network.outputs)
    assert 0 < (conv != dense).sum() < len(biases) / 2  # the two kernels do not round alike


def test_whole_network(tmp_path):
    path = written(tmp_path, network_of(TfliteModel(1)))
    network = judged(path)
    assert [op.title for op in network.ops][:4] == ["Conv 3x3", "Conv 3x3 dw", "Conv 1x1", "Add"]
    assert any("Softmax 'g' is left to the host" in text for text in network.remarks)


def test_on_a_machine(tmp_path):
    """Refused with every layer that the machine cannot compute as the kernels do; else as near as the proof says."""
    path = written(tmp_path, network_of(TfliteModel(1)))
    network = import_model(path)
    with pytest.raises(ModelError, match=r"Conv 1x1 'c': .*: ([\d,]+) of [\d,]+ acc.*--nearest takes") as error:
        compile_network(network, PLATFORM)
    assert len(error.value.problems) == 1
    compiled = compile_network(replace(network, nearest=True), PLATFORM).network
    inexact = [op for op in compiled.ops if not op.proof.exact]
    assert [op.name for op in inexact] == ["c"] and inexact[0].proof.max_lsb == 1
    report = compare_with_litert(path, compiled, 60)
    assert report.ok
    assert [layer.name for layer in report.layers if layer.wrong] == ["c"]


def test_the_proof_counts_what_differs():
    """By hand: each accumulator, through Python's own integers."""
    rescale = Rescale.of(0.0123)
    form = meanings.FixedPoint((rescale,))
    accumulators = np.arange(-20000, 20001)

    def kernel(acc: int) -> int:
        first = (acc * rescale.multiplier + (1 << 30)) >> 31
        half = 1 << -rescale.shift - 1
        magnitude = (abs(first) + half) >> -rescale.shift
        return min(max((magnitude if first >= 0 else -magnitude) + 7, -128), 127)

    function = function_of(form, 0.0123, 7)
    want = np.array([kernel(int(a)) for a in accumulators])
    assert (function.at(0, accumulators) == want).all()
    first = function.thresholds(0, -20000, 20000)
    for k, at in zip(range(-127, 128), first.tolist(), strict=True):
        assert at == next((int(a) for a, q in zip(accumulators, want, strict=True) if q >= k), 20001)
    ends = np.array([-20000]), np.array([20000])
    requant, proof = prove_function(function, *ends, MultiplyShiftCaps())
    assert not proof.exact and proof.differing_values == (requant.apply(accumulators[None])[0] != want).sum()
    assert proof.max_lsb == 1 and proof.checked_values == len(accumulators)
    positive = np.array([0]), np.array([20000])
    assert prove_function(function, *positive, MultiplyShiftCaps())[1].exact  # on one side of zero it is one rounding


def function_of(form: meanings.FixedPoint, factor: float, zero: int) -> QuantFunction:
    """A function of one channel, near to factor * accumulator + zero."""
    ratio = Fraction(factor)
    affine = Affine(Requantize("", ("x",), ""), {"C": 1, "H": 1, "W": 1}, (1, 1), ((ratio,),), (Fraction(0),), (None,),
                    (None,), (0.0,))  # fmt: skip
    return QuantFunction(((ratio,),), (Fraction(zero),), Rounding.HALF_EVEN, -128, 127,
                         form.integers(affine, np.array([20000]), zero, -128, 127))  # fmt: skip


# --- planted errors --------------------------------------------------------------------------------------------------


def _half_up(*arguments, right=meanings._stages):
    """The second rounding as the first."""
    first, then = right(*arguments)
    return first, replace(then, rounding=np.full(then.channels, int(Rounding.HALF_UP)))


PLANTED = {
    "multiplier": (meanings.Rescale, "of", staticmethod(lambda factor, right=Rescale.of: replace(
        right(factor), multiplier=right(factor).multiplier + (1 << 16))), "conv"),
    "second rounding": (meanings, "_stages", _half_up, "conv"),
    "padding": (tflite_reader, "_same", lambda *a, right=tflite_reader._same: right(*a)[::-1], "conv stride 2"),
    "bits of an add": (tflite_reader, "_HIGHEST_LEFT", 8, "add"),
    "clip": (tflite_graph, "_CLIPS", {1: (0, None), 3: (0, 5.5)}, "conv RELU6"),
    "rounding of a mean": (tflite_reader, "Rounding", type("R", (), {"HALF_AWAY": Rounding.HALF_EVEN}),
                           "average pool"),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_is_caught(tmp_path, monkeypatch, bug):
    target, name, wrong, layer = PLANTED[bug]
    path = written(tmp_path, one(LAYERS[layer]))
    monkeypatch.setattr(target, name, wrong)
    report = compare_with_litert(path, prove(import_model(path), GIVEN), 6)
    assert not report.ok and sum(each.outside for each in report.layers)


def test_float_ends_are_left_to_the_host(tmp_path):
    """A QUANTIZE of the input and a DEQUANTIZE of the output, as the converter writes them by default."""
    m = TfliteModel(2)
    ints = m.input("ints", (1, 8, 8, 3))
    y = m.conv("y", ints, 4)
    m.graph.inputs = []
    m.op("QUANTIZE", [m.input("x", (1, 8, 8, 3), dtype=np.float32)], ints, "QuantizeOptions")
    m.graph.operators.reverse()
    real = m.op("DEQUANTIZE", [y], m.tensor("real", m.shape(y), np.float32), "DequantizeOptions")
    path = written(tmp_path, m.finish(real))
    network = import_model(path)
    assert network.inputs == ("ints",) and network.outputs == ("y",)
    assert any("left to the host" in text for text in network.remarks)
    image = np.random.default_rng(1).uniform(-5, 5, (1, 8, 8, 3)).astype(np.float32)
    theirs = Kernels(path.read_bytes()).run(image)
    data = {"ints": quantise_input(network, "ints", theirs["ints"])}
    assert (evaluate(network, data, exact=True)["y"] == theirs["y"][0].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (1, 12)])
def test_float_ends_in_the_comparison(tmp_path, shape):
    """The kernels get floats of which their QUANTIZE makes the same integers."""
    m = TfliteModel(2)
    ints = m.input("ints", shape)
    y = m.conv("y", ints, 4) if len(shape) == 4 else m.dense("y", ints, 20)
    m.graph.inputs = []
    m.op("QUANTIZE", [m.input("x", shape, dtype=np.float32)], ints, "QuantizeOptions")
    m.graph.operators.reverse()
    real = m.op("DEQUANTIZE", [y], m.tensor("real", m.shape(y), np.float32), "DequantizeOptions")
    judged(written(tmp_path, m.finish(real)))


@pytest.mark.parametrize("shape", [(2, 6, 6, 4), (3, 20)])
def test_a_batch(tmp_path, shape):
    """A graph of several inferences is one inference several times; the kernels do them at once."""
    m = TfliteModel(3)
    x = m.input("x", shape)
    path = written(tmp_path, m.finish(m.conv("y", x, 8) if len(shape) == 4 else m.dense("y", x, 30)))
    network = judged(path, images=5)
    assert network.batch == shape[0] and network.onnx_shapes["x"] == (1, *shape[1:])


def test_an_input_reshaped_to_a_map(tmp_path):
    judged(written(tmp_path, one(lambda m, x: m.conv("y", m.reshape("r", x, (1, 6, 5, 4)), 6), (1, 120))))


@pytest.mark.parametrize("kind", ["SOFTMAX", "LOGISTIC"])
def test_the_end_of_a_map_is_left_to_the_host(tmp_path, kind):
    def make(m: TfliteModel, x: int) -> int:
        y = m.conv("c", x, 5)
        if kind == "SOFTMAX":
            return m.softmax("s", y)
        return m.op(kind, [y], m.tensor("s", m.shape(y), np.int8, 1 / 256, -128))

    network = judged(written(tmp_path, one(make)))
    (output,) = network.outputs
    assert any("is left to the host" in text for text in network.remarks)
    assert network.onnx_shapes[output] == (1, 12, 10, 5)


@pytest.mark.parametrize("what", ["depth multiplier", "groups", "strides", "both ends"])
def test_odd_convolutions(tmp_path, what):
    m = TfliteModel(6)
    x = m.input("x", (1, 9, 8, 4))
    y = m.conv("y", x, 0 if what == "depth multiplier" else 8, depthwise=what == "depth multiplier")
    op, tensors = m.graph.operators[-1], m.graph.tensors
    weights, bias = tensors[op.inputs[1]], tensors[op.inputs[2]]
    if what == "strides":
        op.builtinOptions.strideW = 2
        tensors[y].shape = [1, 9, 4, 8]
    elif what == "depth multiplier":
        op.builtinOptions.depthMultiplier = 2
        weights.shape, tensors[y].shape, bias.shape = [1, 3, 3, 8], [1, 9, 8, 8], [8]
        for known in (weights.quantization, bias.quantization):
            known.scale = known.scale * 2
            known.zeroPoint = [0] * 8
        for tensor in (weights, bias):
            m.model.buffers[tensor.buffer].data = np.tile(m.model.buffers[tensor.buffer].data, 2)
    elif what == "groups":
        weights.shape = [8, 3, 3, 2]
        m.model.buffers[weights.buffer].data = m.model.buffers[weights.buffer].data[: 8 * 3 * 3 * 2]
    content = m.finish(*([y, m.conv("z", y, 4)] if what == "both ends" else [y]))
    judged(written(tmp_path, content))
