# SPDX-License-Identifier: Apache-2.0
"""QDQ and QOperator models: the importer's integers against the plain evaluator of the graph, and against onnxruntime.

The plain evaluator shares no code with the importer; where onnxruntime differs, each difference has to be a tie or
within its float32 error.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from command_line import refused as refused_command
from command_line import runner
from nncosim.compiler.axes import in_axes_of
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_details, import_model, layers, linear, qlinear, quantise_input
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.proof.onnxruntime_check import compare_with_onnxruntime
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.j3dai import PLATFORM
from nncosim.platforms.rounding import Rounding
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference
from onnx import TensorProto
from qdq_models import LinearGraph, float_model, quantized


def referred(model, images=3, seed=5):
    """The proved network, and the report of the plain evaluator."""
    details = import_details(model)
    network = prove(details.network)
    data = random_images(network, images, seed)
    return network, compare_with_reference(OnnxReference(model), network, details.onnx_names, data)


def judged(model, images=3, seed=5):
    """The proved network after both comparisons, and onnxruntime's differences; not all values saturate."""
    network, report = referred(model, images, seed)
    assert report.ok and not report.input_differences, report.to_json()
    theirs = compare_with_onnxruntime(model, network, images, seed)
    assert not theirs.input_differences and not any(layer.outside for layer in theirs.layers), theirs
    assert sum(layer.wrong for layer in theirs.layers) == report.total("inexact")
    for image in random_images(network, 1, seed):
        values = evaluate(network, {name: quantise_input(network, name, image[name]) for name in network.inputs})
        for op in network.ops:
            kind, found = network.tensors[op.output].type, values[op.output]
            inside = (found > kind.lo) & (found < kind.hi)
            assert kind.lo == kind.hi or inside.mean() > 0.2, op.name
    return network, theirs


FORMS = [
    ("QUInt8", "QInt8", {}), ("QUInt8", "QInt8", {"per_channel": True}),
    ("QInt8", "QInt8", {"per_channel": True}), ("QInt8", "QInt8", {"symmetric": True}),
    ("QUInt8", "QUInt8", {}),
]  # fmt: skip


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("activations", "weights", "more"), FORMS, ids=str)
def test_onnxruntimes_quantizer(tmp_path, form, activations, weights, more):
    model = quantized(tmp_path, form, activations, weights, **more)
    network, theirs = judged(model)
    assert [op.title for op in network.ops if op.title.startswith(("Conv", "Gemm"))] == \
        ["Conv 3x3", "Conv 3x3 dw", "Conv 1x1", "Conv 3x3", "Gemm"]
    zeros = {network.tensors[op.output].type.zero_point for op in network.ops}
    assert len(zeros) == 1 if more.get("symmetric") else len(zeros) > 2
    if form == "QDQ":
        assert compare_with_qonnx(model, network, 2).ok
    assert theirs.float_differences <= theirs.values / 1000


def test_16_bits(tmp_path):
    """uint16 activations, with operators of onnxruntime's own domain."""
    model = quantized(tmp_path, "QDQ", "QUInt16", "QInt8", per_channel=True, contributed=True)
    assert {n.domain for n in model.graph.node if n.op_type == "QuantizeLinear"} == {"com.microsoft"}
    network, _ = judged(model, images=1)
    assert network.tensors["x"].type.bits == 16


# --- node by node ----------------------------------------------------------------------------------------------------


def convolved(g, x, *, weights=None, bias=True, channels=4, scale=0.2, zero=7, kind="uint8", name="y", **more):
    """Conv of 4 channels between DequantizeLinear and QuantizeLinear, padding 1."""
    weights = weights or g.dq(g.integers((channels, 4, 3, 3)), 0.01)
    bias = g.node("DequantizeLinear", [g.integers((channels,), "int32", -2000, 2000), g.constant(0.0005)])
    conv = g.conv(x, 4, channels, weights=weights, bias=bias, **more)
    return g.qdq(conv, scale, zero, kind, name)


def test_padding_is_the_zero_point():
    """By an asymmetric input whose zero point is far from 0; auto_pad, strides and dilations too."""
    for more in ({}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"dilations": [2, 2]}):
        g = LinearGraph()
        g.inputs[0].CopyFrom(onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8]))
        network, _ = judged(g.model(convolved(g, g.qdq("x", 0.05, 113, "uint8"), **more)))
        assert network.ops[0].pad_value == 113 and network.tensors["y"].type.zero_point == 7


def graph(shape=(1, 4, 8, 8), **more):
    return LinearGraph(shape, **more)


@pytest.mark.parametrize(("kind", "opset"), [("int8", 13), ("uint8", 13), ("int16", 21), ("int4", 21), ("uint4", 21)])
def test_types_of_weights(kind, opset):
    """With a zero point for each channel: it is part of the weights."""
    g = graph(opset=opset)
    zeros, ends = {"int8": ([3, -5, 0, 9], (-90, 90)), "uint8": ([128, 120, 1, 255], (1, 255)),
                   "int16": ([0, 0, 0, 0], (-9000, 9000)), "int4": ([1, -2, 0, 3], (-8, 8)),
                   "uint4": ([8, 7, 0, 15], (0, 16))}[kind]  # fmt: skip
    scale = 0.01 if "8" in kind else 0.0001 if "16" in kind else 0.1
    ints = g.integers((4, 4, 3, 3), kind, *ends)
    weights = g.dq(ints, scale * np.arange(1, 5), zeros, kind, axis=0)
    network, _ = judged(g.model(convolved(g, g.qdq("x", 0.05, 3, "int8"), weights=weights, scale=1.0)))
    stored = onnx.numpy_helper.to_array(next(t for t in g.initializers if t.name == ints)).astype(np.int64)
    assert np.array_equal(network.ops[0].weights, stored - np.reshape(zeros, (4, 1, 1, 1)))
    assert network.ops[0].weight_bits == {"int8": 8, "uint8": 9, "int16": 16, "int4": 5, "uint4": 5}[kind]


def test_weights_that_the_graph_quantises_itself():
    """Float weights through Q and DQ, per channel of axis 1 (a MatMul's columns), with a zero point, and transposed."""
    g = graph((1, 12))
    values = g.constant(g.rng.standard_normal((6, 12)))
    weights = g.qdq(values, np.linspace(0.02, 0.03, 6), [0] * 6, axis=0)
    x = g.qdq("x", 0.03, -9)
    turned = g.node("Transpose", [weights], perm=[1, 0])
    y = g.node("Add", [g.node("MatMul", [x, turned]), g.dq(g.integers((6,)), 0.05)])
    network, _ = judged(g.model(g.qdq(y, 0.1, 5, name="y")))
    assert len(set(network.ops[0].function.ratios[0])) == 6 and len(network.ops) == 1


def test_integers_between_the_nodes():
    """MaxPool, Clip, Relu, Reshape and Concat of integers: they move them, or narrow their range."""
    g = graph(opset=17)
    ints = g.q("x", 0.05, 20, "uint8")
    narrow = g.node("Clip", [ints, g.constant(10, dtype=np.uint8), g.constant(250, dtype=np.uint8)])
    pool = g.node("MaxPool", [narrow], kernel_shape=[2, 2], strides=[2, 2])
    both = g.node("Concat", [pool, pool], axis=1)
    y = g.conv(g.dq(both, 0.05, 20, "uint8"), 8, 4, weights=g.dq(g.integers((4, 8, 3, 3)), 0.01))
    relu = g.node("Relu", [g.q(y, 0.2, -20)])
    clip = g.node("Clip", [relu, "", g.constant(90, dtype=np.int8)])
    flat = g.node("Reshape", [clip, g.constant([1, -1], dtype=np.int64)])
    network, _ = judged(g.model(g.dq(flat, 0.2, -20, name="y")))
    assert [op.title for op in network.ops] == ["MaxPool 2x2", "Concat", "Conv 3x3"]
    assert (network.tensors["x"].type.lo, network.tensors["x"].type.hi) == (10, 250)
    assert (network.tensors["y"].type.lo, network.tensors["y"].type.hi) == (0, 90)


def test_relu_of_integers_before_a_layer():
    """No QuantizeLinear behind the Relu: it is one of integers all the same, and written once for both that read it."""
    g = graph()
    relu = g.node("Relu", [g.qdq("x", 0.05, 9)], name="r")
    pools = [g.node("MaxPool", [relu], kernel_shape=[k, k], pads=[k // 2] * 4) for k in (1, 3)]
    network, _ = judged(g.model(*(g.qdq(p, 0.05, 9, name=f"y{n}") for n, p in enumerate(pools))))
    assert [op.title for op in network.ops] == ["Requantize", "MaxPool 1x1", "MaxPool 3x3"]


def test_parameters_in_constant_nodes(tmp_path):
    """As PyTorch writes them."""
    for form in ("QDQ", "QOperator"):
        model = quantized(tmp_path, form, "QInt8", "QInt8")
        nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
        del model.graph.initializer[:]
        nodes += model.graph.node
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        judged(model, images=1)


def test_another_meaning_of_the_same_integers():
    g = graph()
    again = g.dq(g.q("x", 0.05, 3), 0.0625, -4, name="again")
    network, _ = judged(g.model(convolved(g, again)))
    first = network.ops[0]
    assert first.function.ratios == ((1,) * 4,) and network.tensors[first.output].type.zero_point == -4
    assert network.tensors["x"].type.zero_point == 3


def test_ties_go_to_the_odd_integer_where_the_zero_point_is_odd():
    """Sums of four quarter steps: onnxruntime, the plain evaluator and the integer network agree on every tie."""
    for zero, rounding in ((6, Rounding.HALF_EVEN), (7, Rounding.HALF_ODD)):
        g = graph()
        pool = g.node("AveragePool", [g.qdq("x", 0.25, zero)], kernel_shape=[2, 2], strides=[2, 2])
        network, report = referred(g.model(g.qdq(pool, 0.25, zero, name="y")))
        assert report.ok and network.ops[0].function.rounding == rounding
        theirs = compare_with_onnxruntime(g.model("y"), network, 3)
        layer = theirs.layers[0]
        assert (layer.float_differences, layer.outside) == (0, 0)
        assert (layer.wrong > 0) == (report.total("inexact") > 0) == (zero == 7)  # no requantizer has those ties


def test_inputs_are_rounded_before_the_zero_point_is_added():
    """x / scale a hair below a tie: float32 has it, but not with 101 added."""
    g = graph((1, 4))
    x = np.float32([[0.49999997, 0.5, 1.5, -0.49999997]])
    network = import_model(g.model(g.qdq(g.qdq("x", 1.0, 101), 2.0, 0, name="y")))
    assert quantise_input(network, "x", x).ravel().tolist() == [101, 101, 103, 101]
    values = OnnxReference(g.model("y")).run({"x": x})
    assert values[g.nodes[0].output[0]].ints.ravel().tolist() == [101, 101, 103, 101]


# --- QLinear operators -----------------------------------------------------------------------------------------------

X = (0.05, 20, "uint8")
Y = (0.08, 121, "uint8")


@pytest.mark.parametrize(("op", "titles"), [
    ("QLinearAdd", ["Add"]), ("constant QLinearAdd", ["Requantize"]), ("QLinearMul", ["Requantize"]),
    ("QLinearAveragePool", ["AveragePool 2x2"]), ("QLinearGlobalAveragePool", ["AveragePool 8x8"]),
    ("QLinearConcat", ["Concat"]), ("QLinearSigmoid", ["Table"]), ("QLinearLeakyRelu", ["Table"]),
])  # fmt: skip
def test_qlinear_operators(op, titles):
    g = graph()
    x = g.q("x", *X)
    constant = g.integers((1, 4, 1, 1), "uint8", 3, 250)
    if op == "QLinearAdd":
        other = g.q("x", *X)
        y = g.linear(op, (x, *X), (g.node("MaxPool", [other], kernel_shape=[1, 1]), *X), ("", *Y), name="y")
        titles = ["MaxPool 1x1", *titles]
    elif op in ("constant QLinearAdd", "QLinearMul"):
        y = g.linear(op.split()[-1], (x, *X), (constant, 0.01, 9, "uint8"), ("", *Y), name="y")
    elif op == "QLinearConcat":
        y = g.linear(op, ("", *X), (x, *X), (x, *X), axis=1, name="y")
    else:
        more = {"QLinearAveragePool": {"kernel_shape": [2, 2], "strides": [2, 2]}, "QLinearLeakyRelu": {"alpha": 0.1}}
        out = {"QLinearSigmoid": (1 / 256, 0, "uint8"), "QLinearGlobalAveragePool": (0.03, 3, "uint8")}.get(op, Y)
        y = g.linear(op, (x, *X), ("", *out), name="y", **more.get(op, {}))
    network, _ = judged(g.model(y, kinds=[TensorProto.UINT8]))
    assert [op.title for op in network.ops] == titles


def test_qlinear_layers_with_integers_as_inputs_and_outputs():
    """QLinearConv, QLinearMatMul (row of scales) and QGemm (alpha, bias, float output); uint8 in and out."""
    g = graph()
    g.inputs[0].CopyFrom(onnx.helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4, 8, 8]))
    scales = [0.01, 0.011, 0.012, 0.013, 0.014]
    conv = g.linear("QLinearConv", ("x", *X), (g.integers((5, 4, 3, 3)), scales, [0] * 5, "int8"),
                    ("", 0.2, 103, "uint8"), g.integers((5,), "int32", -999, 999), domain="", pads=[1] * 4)  # fmt: skip
    flat = g.node("Flatten", [conv])
    row = (g.integers((320, 3)), [[0.01, 0.02, 0.03]], [[0] * 3], "int8")
    product = g.linear("QLinearMatMul", (flat, 0.2, 103, "uint8"), row, ("", 2.0, 111, "uint8"), domain="", name="p")
    gemm = (g.integers((6, 320)), 0.01, 0, "int8")
    last = g.linear("QGemm", (flat, 0.2, 103, "uint8"), gemm, g.integers((6,), "int32"), transB=1, alpha=0.5, name="g")
    model = g.model(product, last, kinds=[TensorProto.UINT8, TensorProto.FLOAT])
    network, _ = judged(model)
    with pytest.raises(ModelError, match=r"float inputs only; compare with --against onnxruntime"):
        compare_with_qonnx(model, network, 1)
    assert network.tensors["p"].type.bits == 8 and network.tensors["g"].type.bits == 32
    ints = np.random.default_rng(0).integers(0, 256, (1, 4, 8, 8), np.uint8)
    assert np.array_equal(quantise_input(network, "x", ints).ravel(), ints.ravel())
    theirs = OnnxReference(model).run({"x": ints})
    assert np.array_equal(evaluate(network, {"x": quantise_input(network, "x", ints)})["p"].ravel(),
                          theirs["p"].ints.ravel())  # fmt: skip


def test_tokens_as_pixels():
    """Integers in, on a platform of maps: the order of a user's arrays stays that of the graph."""
    g = graph((1, 6, 8))
    g.inputs[0].CopyFrom(onnx.helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 6, 8]))
    row = (g.integers((8, 3)), [0.01, 0.02, 0.03], [0] * 3, "int8")
    y = g.linear("QLinearMatMul", ("x", *X), row, ("", 0.2, 111, "uint8"), domain="", name="y")
    model = g.model(y, kinds=[TensorProto.UINT8])
    details = import_details(model)
    network = prove(in_axes_of(PLATFORM, details.network))
    images = random_images(details.network, 3, 5)
    report = compare_with_reference(OnnxReference(model), network, details.onnx_names, images)
    theirs = compare_with_onnxruntime(model, network, images)
    assert network.tensors["x"].axes == ("C", "H", "W") and report.ok and theirs.ok
    assert report.total("values") == theirs.values == 3 * 6 * 3 and not theirs.float_differences


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(model, pattern):
    with pytest.raises(ModelError) as caught:
        import_model(model)
    assert re.search(pattern, str(caught.value)), str(caught.value)


def test_what_is_refused():
    refused(float_model(), r"the model is float.*nncosim quantize MODEL --data CALIB.npz --out Q.onnx")
    g = graph()
    refused(g.model(g.node("ConvInteger", [g.q("x"), g.integers((4, 4, 3, 3))], name="c")),
            r"ConvInteger 'c': .*depend on the data: quantise statically")
    g = graph()
    refused(g.model(g.dq("x", name="d")), r"DequantizeLinear 'd': expected integers, got floats")
    g = graph()
    refused(g.model(g.q(g.q("x"), name="twice")), r"QuantizeLinear 'twice': expected floats, got integers")
    g = graph()
    curve = g.node("Sigmoid", [g.q("x")], name="s")
    refused(g.model(g.q(curve)), r"Sigmoid 's': Sigmoid of integers.*DequantizeLinear")
    g = graph()
    blocks = g.dq(g.integers((4, 4, 3, 3)), np.full((2, 4, 3, 3), 0.1), np.zeros((2, 4, 3, 3)), axis=0, block_size=2,
                  name="b")  # fmt: skip
    refused(g.model(convolved(g, g.qdq("x"), weights=blocks)), r"DequantizeLinear 'b': .*blocks of an axis")
    g = graph()
    refused(g.model(g.q("x", 0.1, [0, 1, 2, 3], name="z")), r"QuantizeLinear 'z': the zero point must be one number")
    g = graph()
    x = g.q("x", *X)
    refused(g.model(g.linear("QLinearMul", (x, *X), (g.node("MaxPool", [x], kernel_shape=[1, 1]), *X), ("", *Y),
                             name="m")), r"QLinearMul 'm': multiplying two activations")  # fmt: skip
    refused(g.model(g.linear("QLinearAdd", (x, *X), (x, 0.04, 20, "uint8"), ("", *Y), name="o")),
            r"QLinearAdd 'o': the integers are read with another scale")
    refused(g.model(g.linear("QLinearGlobalAveragePool", (x, *X), ("", *Y), channels_last=1, name="n")),
            r"QLinearGlobalAveragePool 'n': channels_last=1")


def test_a_quantiser_at_fault_is_named_once():
    g = graph()
    wrong = g.q(convolved(g, g.qdq("x")), np.arange(1, 6) / 10, [0] * 5, name="wrong")
    with pytest.raises(ModelError) as caught:
        import_model(g.model(g.dq(wrong, name="a"), g.dq(wrong, name="b")))
    assert [(p.node, p.op) for p in caught.value.problems] == [("wrong", "QuantizeLinear")]


# --- planted errors --------------------------------------------------------------------------------------------------


def _negated(array, what):
    return -int(np.asarray(array).ravel()[0])


def _even(scale, zero, dtype, real=linear.linear_parameters):
    return replace(real(scale, zero, dtype), rounding=Rounding.HALF_EVEN)


def _unscaled_bias(node, index, real=qlinear._bias):
    bias = real(node, index)
    return bias and replace(bias, scale=bias.scale * 1.5)


@pytest.mark.parametrize(("module", "name", "wrong", "form"), [
    (linear, "same_number", _negated, "QDQ"),
    (qlinear, "same_number", _negated, "QOperator"),
    (layers, "_pad_value", lambda kind, pads: 0, "QDQ"),
    (qlinear, "_bias", _unscaled_bias, "QOperator"),
    (linear, "_constant", lambda a, s, z, axis, real=linear._constant: real(a, s.ravel()[:1], z, axis), "QDQ"),
    (linear, "_constant", lambda a, s, z, axis, real=linear._constant: real(a, s, z * 0, axis), "unsigned"),
], ids=["zero point", "zero point of QLinear", "padding", "bias", "one scale", "zero point of weights"])  # fmt: skip
def test_planted_errors_are_seen(tmp_path, monkeypatch, module, name, wrong, form):
    weights = "QUInt8" if form == "unsigned" else "QInt8"
    model = quantized(tmp_path, form.replace("unsigned", "QDQ"), "QUInt8", weights, per_channel=form == "QDQ")
    assert referred(model, 1)[1].ok
    monkeypatch.setattr(module, name, wrong)
    try:
        network, report = referred(model, 1)
    except ModelError as error:
        assert "zero point" in str(error)
    else:
        assert not report.ok and not compare_with_onnxruntime(model, network, 1).ok


def test_ties_to_even_with_an_odd_zero_point_are_seen(monkeypatch):
    g = graph()
    pool = g.node("AveragePool", [g.qdq("x", 0.25, 7)], kernel_shape=[2, 2], strides=[2, 2])
    model = g.model(g.qdq(pool, 0.25, 7, name="y"))
    monkeypatch.setattr(linear, "linear_parameters", _even)
    network, report = referred(model)
    assert report.faulty == [network.ops[0].name] and report.total("wrong") > 0
    theirs = compare_with_onnxruntime(model, network, 3)
    assert theirs.layers[0].ties == theirs.layers[0].float_differences > 0  # a tie, and told as one


# --- from end to end -------------------------------------------------------------------------------------------------


def test_on_j3dai(tmp_path, capfd):
    command = runner(capfd)
    onnx.save(quantized(tmp_path, "QDQ", "QUInt8", "QInt8", per_channel=True), tmp_path / "q.onnx")
    status, text, _ = command("run", tmp_path / "q.onnx", "--backend", "iss", "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 0 and report["bit_exact"] and report["requantization"]["exact_layers"] > 8, text
    against = ("--against", "onnxruntime", "--images", 2)
    status, text, _ = command("evaluate", tmp_path / "q.onnx", *against, "--json", tmp_path / "e.json")
    found = json.loads((tmp_path / "e.json").read_text())["onnxruntime"]
    assert status == 0 and found["ok"] and found["values"] > 5000, text
    x = np.random.default_rng(3).integers(0, 256, (4, 3, 12, 10), np.uint8)
    np.savez(tmp_path / "x.npz", x=x, labels=np.zeros(4, int))
    status, text, _ = command("evaluate", tmp_path / "q.onnx", "--data", tmp_path / "x.npz", *against)
    assert status == 0 and "onnxruntime executor: same class on 2 of 2 images" in text
    onnx.save(quantized(tmp_path, "QOperator", "QUInt8", "QUInt8"), tmp_path / "u.onnx")
    refused_command(command("check", tmp_path / "u.onnx"), "weights reach", "without a zero point")
    refused_command(command("evaluate", tmp_path / "u.onnx", "--reference", "--against", "qonnx"),
                    "does not know QGemm, QLinearAdd", "--against onnxruntime")  # fmt: skip
