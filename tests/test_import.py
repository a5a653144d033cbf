# SPDX-License-Identifier: Apache-2.0
"""QONNX models of every supported kind: imported, proved, and compared with the qonnx package's executor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import pytest
from models import Graph, conv_model, random_model, residual_model, scale_for
from nncosim.compiler.frontend import dequantise_output, import_model, quantise_input, raw_outputs
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.operators import Add, Concat, Conv, Pool, Requantize, Resize
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.rounding import Rounding

ROUNDINGS = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


def check(model, *, images=3, seed=1, exact=True):
    """Import, prove and compare with exact arithmetic and with qonnx. Returns the proved network."""
    before = model.SerializeToString()
    network = prove(import_model(model))
    assert model.SerializeToString() == before
    report = compare_with_qonnx(model, network, images, seed)
    assert report.ok, [layer for layer in report.layers if layer.wrong or layer.outside]
    assert report.values > 0
    if exact:
        assert all(op.proof is None or op.proof.exact for op in network.ops)
    rng = np.random.default_rng(seed)
    data = {
        n: rng.integers(network.tensors[n].type.lo, network.tensors[n].type.hi + 1, network.tensors[n].shape)
        for n in network.inputs
    }
    ours, exact_values = evaluate(network, data), evaluate(network, data, exact=True)
    for name, value in ours.items():
        assert (value == exact_values[name]).all() or not exact
        kind = network.tensors[name].type
        assert kind.lo <= value.min() and value.max() <= kind.hi
    return network


def kinds(network):
    return [op.kind for op in network.ops]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_rounding_mode(rounding):
    check(conv_model(rounding=rounding, seed=3))


def test_rounding_names_mean_what_qonnx_computes():
    from nncosim.compiler.frontend.quant import ROUNDINGS as names
    from nncosim.compiler.ir.thresholds import round_fraction
    from qonnx.custom_op.general.intquant import resolve_rounding_mode
    for name, mode in names.items():
        for quarter in range(-20, 21):
            assert round_fraction(Fraction(quarter, 4), mode) == int(resolve_rounding_mode(name)(quarter / 4))


@pytest.mark.parametrize("options", [
    {"kernel": 1}, {"kernel": 5}, {"strides": [2, 2]}, {"pads": [0, 0, 0, 0]}, {"pads": [1, 0, 2, 1]},
    {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2], "size": 7},
    {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"},
    {"channels_in": 8, "groups": 8}, {"channels_in": 8, "channels_out": 16, "groups": 8},
    {"channels_in": 8, "channels_out": 4, "groups": 2}, {"bits": 4, "weight_bits": 3}, {"bias": None},
    {"relu": True}, {"batch_norm": True}, {"batch_norm": True, "relu": True}, {"size": 1, "kernel": 1},
], ids=str)  # fmt: skip
def test_convolutions(options):
    network = check(conv_model(**options))
    assert kinds(network) == ["conv"]
    assert network.inputs == ("x",) and network.outputs == ("y",)


def test_stimuli_use_the_range():
    network = prove(import_model(conv_model(16, 8, seed=5)))
    values = evaluate(network, {"x": np.random.default_rng(0).integers(-50, 51, (16, 8, 8))})["y"]
    assert (np.abs(values) >= 127).mean() < 0.01 and len(np.unique(values)) > 100


def test_negative_gamma_gives_a_negative_multiplier():
    network = check(conv_model(batch_norm=True))
    assert (network.ops[0].requant.m[0] < 0).any() and (network.ops[0].requant.m[0] > 0).any()


def test_weights_activation_and_bias_variants():
    g = Graph(seed=2)
    x = g.quant("x", 0.05, bits=6, narrow=1, name="x_q")
    w = g.weights((8, 3, 3, 3), axis=None, bits=5)
    y = g.conv(x, 3, 8, weights=w, bias=g.bias(8, scale=0.0131), name="conv")
    check(g.model(g.quant(y, 0.5, bits=7, narrow=1, name="y")))
    assert import_model(g.model("y")).tensors["y"].type.lo == -63


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"])
def test_quant_domains(domain):
    g = Graph(domain=domain)
    y = g.conv(g.quant("x"), 3, 4)
    check(g.model(g.quant(y, 0.4)))


def test_unsigned_narrow_range():
    g = Graph()
    y = g.relu(g.conv(g.quant("x"), 3, 4))
    network = check(g.model(g.quant(y, 0.4, bits=4, signed=0, narrow=1, name="y")))
    assert (network.tensors["y"].type.lo, network.tensors["y"].type.hi) == (0, 14)


@pytest.mark.parametrize("zero", [3, -20])
@pytest.mark.parametrize("groups", [1, 4])
def test_zero_points_fold_and_padding_pads_with_them(zero, groups):
    g = Graph((1, 4, 6, 6), seed=4)
    y = g.conv(g.quant("x", 0.04, zero=zero), 4, 4, groups=groups)
    network = check(g.model(g.quant(y, scale_for(4, groups=groups), zero=7, name="y")))
    assert network.ops[0].pad_value == zero and network.tensors["y"].type.zero_point == 7


def test_weight_zero_point():
    g = Graph(seed=4)
    values = g.constant(g.rng.uniform(0, 1, (4, 3, 3, 3)))
    weights = g.quant(values, 1 / 255, zero=100, signed=0)
    check(g.model(g.quant(g.conv(g.quant("x"), 3, 4, weights=weights), 0.05, name="y")))


def test_per_channel_activation_scale_folds_into_depthwise_and_elementwise():
    g = Graph((1, 4, 6, 6), seed=6)
    scale = np.array([0.02, 0.03, 0.05, 0.08], dtype=np.float32).reshape(1, 4, 1, 1)
    x = g.quant("x", scale, name="x_q")
    y = g.quant(g.conv(x, 4, 4, groups=4), scale * 5.1, name="y")
    g.quant(g.node("Add", [x, y]), scale * 6.3, name="z")
    network = check(g.model("z"))
    assert len(network.tensors["z"].type.scale) == 4


def test_matmul_with_bias_and_gemm_variants():
    g = Graph((1, 12), seed=1)
    x = g.quant("x", 0.05)
    y = g.node("MatMul", [x, g.weights((12, 7), axis=1)], name="matmul")
    y = g.quant(g.node("Add", [y, g.bias(7)]), 0.3)
    y = g.quant(g.gemm(y, 7, 6, transposed=0, alpha=0.5, beta=2.0), 1.5)
    network = check(g.model(y))
    assert [op.onnx_op for op in network.ops] == ["MatMul", "Gemm"]
    assert network.onnx_shapes[y] == (1, 6)


@pytest.mark.parametrize("how", ["Flatten", "Reshape", "Reshape -1"])
def test_flatten_of_a_map_gives_the_next_gemm_a_kernel(how):
    g = Graph((1, 3, 4, 5), seed=8)
    x = g.quant("x", 0.05)
    if how == "Flatten":
        y = g.node("Flatten", [x], axis=1)
    else:
        y = g.node("Reshape", [x, g.constant([1, 60] if how == "Reshape" else [0, -1], dtype=np.int64)])
    network = check(g.model(g.quant(g.gemm(y, 60, 9), 1.0)))
    assert network.ops[0].weights.shape == (9, 3, 4, 5)


def test_transposed_weights():
    g = Graph((1, 12), seed=1)
    w = g.node("Transpose", [g.weights((7, 12))], perm=[1, 0])
    check(g.model(g.quant(g.node("MatMul", [g.quant("x"), w]), 0.4)))


@pytest.mark.parametrize("options", [
    {}, {"pads": [1, 1, 1, 1]}, {"kernel_shape": [3, 2], "strides": [1, 2]}, {"ceil_mode": 1, "kernel_shape": [3, 3]},
], ids=str)  # fmt: skip
def test_max_pool(options):
    g = Graph((1, 3, 8, 8))
    options = {"kernel_shape": [2, 2], "strides": [2, 2], **options}
    y = g.node("MaxPool", [g.quant("x", zero=5)], name="pool", **options)
    network = check(g.model(g.quant(y, 0.07)))
    assert kinds(network) == ["pool", "requantize"]


@pytest.mark.parametrize("zero", [0, 9])
def test_average_pool_with_quant(zero):
    g = Graph((1, 3, 9, 9))
    y = g.node("AveragePool", [g.quant("x", zero=zero)], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
               count_include_pad=1)
    network = check(g.model(g.quant(y, 0.031)))
    assert kinds(network) == ["pool"] and network.ops[0].mode == "sum" and network.ops[0].pad_value == zero


def test_trunc_version_2():
    g = Graph((1, 3, 8, 8), trunc=2)
    y = g.node("AveragePool", [g.quant("x", 0.05, signed=0)], kernel_shape=[4, 4], strides=[4, 4])
    y = g.trunc(y, np.float32(0.05) / 16, bits_in=12, out_scale=0.05, signed=0, rounding="FLOOR")
    network = check(g.model(y))
    assert network.ops[0].requant.s[0] == 4 and network.ops[0].function.rounding == Rounding.FLOOR


def test_trunc_version_1_after_a_rescaled_pool():
    g = Graph((1, 3, 9, 9), trunc=1)
    y = g.node("AveragePool", [g.quant("x", 0.05)], kernel_shape=[3, 3], strides=[3, 3])
    y = g.node("Mul", [y, g.constant(9.0)])
    y = g.trunc(y, 0.05, bits_in=12, bits=8, rounding="ROUND")
    network = check(g.model(y))
    assert network.tensors[y].type.lo == -72  # -128 * 9 / 16, in steps of the input's scale


@pytest.mark.parametrize("op", ["GlobalAveragePool", "ReduceMean", "ReduceMean flat"])
def test_global_average(op):
    g = Graph((1, 5, 7, 7))
    options = {} if op == "GlobalAveragePool" else {"axes": [2, 3], "keepdims": int(op == "ReduceMean")}
    y = g.quant(g.node(op.split()[0], [g.quant("x")], **options), 0.01)
    if op != "ReduceMean flat":
        y = g.node("Flatten", [y])
    network = check(g.model(g.quant(g.gemm(y, 5, 4), 0.4)))
    assert kinds(network) == ["pool", "conv"]


def test_add_of_two_scales_is_checked_over_all_pairs():
    g = Graph((1, 4, 5, 5))
    other = g.input("other", (1, 4, 5, 5))
    y = g.relu(g.node("Add", [g.quant("x", 0.05), g.quant(other, 0.031, signed=0)]))
    network = check(g.model(g.quant(y, 0.047, signed=0)))
    assert isinstance(network.ops[0], Add) and network.ops[0].proof.checked_values == 4 * 65536


@pytest.mark.parametrize("options", [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
], ids=str)  # fmt: skip
def test_nearest_resize(options):
    g = Graph((1, 3, 4, 5))
    scales = g.constant([1, 1, 2, 3])
    y = g.node("Resize", [g.quant("x"), "", scales], **options)
    network = check(g.model(g.quant(g.conv(y, 3, 4), 0.4)))
    assert isinstance(network.ops[0], Resize) and network.ops[0].factors == (2, 3)


def test_concat_of_equal_scales():
    g = Graph((1, 3, 4, 4))
    x = g.quant("x")
    y = g.quant(g.conv(x, 3, 5), 0.05)
    y = g.node("Concat", [x, y], axis=1, name="concat")
    network = check(g.model(g.quant(g.conv(y, 8, 4), 0.7)))
    assert kinds(network) == ["conv", "concat", "conv"]


def test_concat_of_unequal_scales_is_exact_with_a_quant_behind_it():
    g = Graph((1, 3, 4, 4))
    x = g.quant("x")
    y = g.conv(x, 3, 5)  # not quantised before the Concat
    y = g.relu(g.node("Concat", [x, y, g.quant(x, 0.09)], axis=1, name="concat"))
    y = g.quant(y, 0.033, signed=0, name="q")
    network = check(g.model(g.quant(g.conv(y, 11, 4), 0.9)))
    assert kinds(network) == ["requantize", "requantize", "conv", "requantize", "concat", "conv"]
    assert isinstance(next(op for op in network.ops if op.output == "q"), Concat)


def test_quant_on_quantised_data_is_an_exact_operator():
    g = Graph((1, 3, 4, 4))
    g.quant(g.quant("x", 0.05), 0.0321, bits=5, name="y")
    network = check(g.model("y"))
    assert isinstance(network.ops[0], Requantize) and network.ops[0].proof.checked_values == 3 * 256


def test_quant_that_changes_nothing_costs_nothing():
    g = Graph((1, 3, 4, 4))
    y = g.node("MaxPool", [g.quant("x")], kernel_shape=[2, 2])
    network = check(g.model(g.quant(y, 0.05)))
    assert kinds(network) == ["pool"]


def test_identity_dropout_and_constants_vanish():
    g = Graph((1, 3, 4, 4))
    x = g.node("Identity", [g.quant("x")])
    x = g.node("Dropout", [x])
    scale = g.node("Div", [g.constant(1.0), g.node("Add", [g.constant(3.0), g.constant(4.5)])])
    quant = g.node("Quant", [g.conv(x, 3, 4), scale, g.constant(0), g.constant(8)], domain=g.domain, signed=1, narrow=0,
                   rounding_mode="ROUND")
    network = check(g.model(quant))
    assert kinds(network) == ["conv"]
    assert network.tensors[quant].type.scale == (Fraction(float(np.float32(1) / np.float32(7.5))),)


def test_clip_is_a_relu6():
    g = Graph((1, 3, 4, 4))
    y = g.node("Clip", [g.conv(g.quant("x"), 3, 4), g.constant(0.0), g.constant(6.0)])
    network = check(g.model(g.quant(y, 0.05, signed=0, name="y")))
    assert network.tensors["y"].type.hi == 120


@pytest.mark.parametrize("batch", ["N", 32, 1])
def test_batch_is_forced_to_one(batch):
    g = Graph((batch, 3, 4, 4))
    y = g.node("Reshape", [g.quant("x"), g.constant([batch if batch == 32 else -1, 48], dtype=np.int64)])
    network = check(g.model(g.quant(g.gemm(y, 48, 4), 0.9, name="y")))
    assert network.onnx_shapes == {"x": (1, 3, 4, 4), "y": (1, 4)}


@pytest.mark.parametrize("seed", range(3))
def test_residual_network(seed):
    network = check(residual_model(seed))
    assert kinds(network) == ["conv", "conv", "conv", "add", "pool", "pool", "conv"]
    assert all(op.onnx_nodes for op in network.ops)


def test_output_without_quant_is_the_raw_accumulator():
    g = Graph((1, 12))
    y = g.gemm(g.quant("x", zero=3), 12, 5, name="logits")
    network = check(g.model(y))
    kind = network.tensors["logits"].type
    assert kind.bits == 32 and len(kind.offset) == 5
    assert raw_outputs(network) == ("logits",) and raw_outputs(import_model(conv_model())) == ()
    image = np.random.default_rng(0).standard_normal((1, 12)).astype(np.float32)
    values = evaluate(network, {"x": quantise_input(network, "x", image)})["logits"]
    from nncosim.compiler.frontend.prepare import prepare
    from qonnx.core.onnx_exec import execute_onnx
    theirs = execute_onnx(prepare(g.model(y))[0], {"x": image})["logits"]
    np.testing.assert_allclose(dequantise_output(network, "logits", values), theirs, rtol=1e-5, atol=1e-5)


def test_several_outputs_and_an_output_that_is_also_used_inside():
    g = Graph((1, 3, 6, 6))
    a = g.quant(g.conv(g.quant("x"), 3, 4), 0.4, name="a")
    b = g.node("Flatten", [a], name="b")
    c = g.quant(g.conv(a, 4, 4), 2.0, name="c")
    network = check(g.model(a, b, c))
    assert network.outputs == ("a", "b", "c")
    assert network.onnx_shapes["b"] == (1, 144) and network.tensors["b"].shape == (4, 6, 6)


def test_unused_nodes_are_dropped():
    g = Graph((1, 3, 6, 6))
    x = g.quant("x")
    g.node("Sigmoid", [x])
    assert len(check(g.model(g.quant(g.conv(x, 3, 4), 0.4))).ops) == 1


def test_initializers_listed_as_graph_inputs():
    model = conv_model()
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert import_model(model).inputs == ("x",)


def test_import_is_reproducible_and_named_after_the_file(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(residual_model(), path)
    first, second = import_model(path), import_model(str(path))
    assert first.name == "small" and import_model(path, name="other").name == "other"
    assert [op.function for op in first.ops] == [op.function for op in second.ops]
    assert dict(first.tensors) == dict(second.tensors)


def test_conv_keeps_exact_rationals():
    g = Graph((1, 1, 2, 2))
    w = g.quant(g.constant(np.array([[[[0.5]]]])), 0.25)
    y = g.quant(g.conv(g.quant("x", 0.1), 1, 1, 1, weights=w, bias=g.constant([0.3])), 0.7, name="y")
    op = import_model(g.model(y)).ops[0]
    exact = [Fraction(float(np.float32(v))) for v in (0.1, 0.25, 0.7, 0.3)]
    assert isinstance(op, Conv) and not isinstance(op, Pool)
    assert op.function.ratios == ((exact[0] * exact[1] / exact[2],),)
    assert op.function.offset == (exact[3] / exact[2],)
    assert op.weights.tolist() == [[[[2]]]]


def test_twelve_bit_activations_and_output_that_is_the_input():
    g = Graph((1, 3, 4, 4))
    x = g.quant("x", 0.002, bits=12, name="x_q")
    network = check(g.model(x, g.quant(g.conv(x, 3, 4), 2e-2, bits=12)))
    assert network.tensors["x"].type.bits == 12 and sorted(kinds(network)) == ["conv", "requantize"]


def test_conv_read_by_two_quants():
    g = Graph((1, 3, 4, 4))
    y = g.conv(g.quant("x"), 3, 4, name="conv")
    network = check(g.model(g.quant(y, 0.3), g.quant(g.relu(y), 0.2, signed=0)))
    assert [op.name for op in network.ops] == ["conv", "conv#2"]


def test_arithmetic_on_a_sum_folds():
    g = Graph((1, 3, 4, 4))
    y = g.conv(g.quant("x"), 3, 4)
    y = g.node("Mul", [g.constant(np.array([1, -2, 0.5, 3]).reshape(4, 1, 1)), y])
    y = g.node("Div", [g.node("Sub", [y, g.constant(0.7)]), g.constant(1.3)])
    check(g.model(g.quant(g.node("Add", [y, g.constant(np.ones((1, 4, 1, 1)))]), 0.8)))


@pytest.mark.parametrize("seed", range(25))
def test_random_chains(seed):
    check(random_model(seed), images=2, seed=seed)
