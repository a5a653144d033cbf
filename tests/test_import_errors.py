# SPDX-License-Identifier: Apache-2.0
"""What the importer refuses: each message names the node, says what was expected and what would help."""

from __future__ import annotations

import re
from importlib.metadata import requires

import numpy as np
import onnx
import pytest
from models import Graph, conv_model
from nncosim.compiler.errors import CompileError, InputDataError, ModelError
from nncosim.compiler.frontend import dequantise_output, import_model, quantise_input
from nncosim.compiler.proof.requantization import prove
from packaging.requirements import Requirement
from packaging.version import Version


def refused(model, pattern):
    with pytest.raises(ModelError) as caught:
        import_model(model)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    return caught.value


def quantised(shape=(1, 4, 8, 8), **options):
    g = Graph(shape, **options)
    return g, g.quant("x", name="x_q")


def simple(op, pattern, *, shape=(1, 4, 8, 8), extra=(), **attributes):
    """One node on quantised data, then a Quant."""
    g, x = quantised(shape)
    y = g.node(op, [x, *(g.constant(e, dtype=np.asarray(e).dtype.type) for e in extra)], name="bad", **attributes)
    return refused(g.model(g.quant(y)), pattern)


@pytest.mark.parametrize(("op", "options", "pattern"), [
    ("Erf", {}, r"Erf 'bad': Erf is not supported; use HardSwish, or x \* Sigmoid\(x\)"),
    ("Softmax", {}, r"Softmax 'bad': .*end the model before it"),
    ("Sin", {}, r"Sin 'bad': Sin is not supported; supported are Add, AveragePool"),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, r"MaxPool 'bad': a dilated MaxPool"),
    ("MaxPool", {"kernel_shape": [2]}, r"MaxPool 'bad': kernel_shape must have two numbers"),
    ("MaxPool", {"kernel_shape": [9, 9]}, r"MaxPool 'bad': the kernel \(9, 9\) is larger"),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, r"AveragePool 'bad': .*count_include_pad=0.*; use"),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, r"AveragePool 'bad': ceil_mode"),
    ("ReduceMean", {"axes": [1]}, r"ReduceMean 'bad': .*height and width.*; use GlobalAveragePool"),
    ("Flatten", {"axis": 2}, r"Flatten 'bad': expected a flattening to \(1, 256\)"),
    ("Reshape", {"extra": (np.array([1, 2, 8, 16]),)}, r"Reshape 'bad': expected a flattening"),
    ("Reshape", {"extra": (np.array([1, 7]),)}, r"Reshape 'bad': cannot reshape"),
    ("Mul", {"extra": (np.ones((8, 8), np.float32) * np.arange(8, dtype=np.float32),)},
     r"Mul 'bad': .*one number, or one per channel"),
    ("Div", {"extra": (np.float32(0),)}, r"Div 'bad': division by zero"),
], ids=str)  # fmt: skip
def test_operators(op, options, pattern):
    simple(op, pattern, **options)


@pytest.mark.parametrize(("mode", "more", "pattern"), [
    ("linear", {}, r"Resize 'bad': bilinear is not supported; use nearest"),
    ("cubic", {}, r"Resize 'bad': cubic is not supported; use nearest"),
    ("nearest", {"coordinate_transformation_mode": "align_corners", "nearest_mode": "floor"}, r"Resize 'bad': .*whole"),
    ("nearest", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"}, r"Resize 'bad': .*whole"),
])
def test_resize(mode, more, pattern):
    g, x = quantised()
    y = g.node("Resize", [x, "", g.constant([1, 1, 2, 2])], name="bad", mode=mode, **more)
    refused(g.model(g.quant(y)), pattern)


def test_resize_by_a_fraction():
    g, x = quantised()
    y = g.node("Resize", [x, "", g.constant([1, 1, 1.5, 2])], name="bad", mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    refused(g.model(g.quant(y)), r"Resize 'bad': .*whole factor")


def test_all_problems_in_one_report():
    g, x = quantised()
    a = g.quant(g.node("Erf", [x], name="one"))
    b = g.node("Resize", [x, "", g.constant([1, 1, 2, 2])], name="two", mode="linear")
    c = g.conv(x, 4, 4, weights=g.constant(np.ones((4, 4, 3, 3))), name="three")
    d = g.quant(g.node("Concat", [a, b, c], axis=1, name="silent"), name="q")
    e = g.node("Sin", [d], name="four")
    error = refused(g.model(e), r"model test: 4 problems\n  1\. Erf 'one'")
    assert [p.node for p in error.problems] == ["one", "two", "three", "four"]


def test_float_between_quantised_operators():
    g, x = quantised()
    y = g.conv(x, 4, 4, name="first")
    refused(g.model(g.quant(g.conv(y, 4, 4, name="second"))),
            r"Conv 'second': the input is not quantised \(a float lies between.*QuantIdentity or QuantReLU")


def test_unquantised_input_and_weights():
    g = Graph((1, 4, 8, 8))
    refused(g.model(g.quant(g.conv("x", 4, 4, name="c"))), r"Conv 'c': the graph input 'x' is a float.*--input-quant")
    g, x = quantised()
    y = g.conv(x, 4, 4, weights=g.constant(np.ones((4, 4, 3, 3))), name="c")
    refused(g.model(g.quant(y)), r"Conv 'c': the weights are not quantised; put a Quant")


def test_arithmetic_before_the_first_quant():
    g = Graph((1, 4, 8, 8))
    y = g.quant(g.node("Mul", ["x", g.constant(np.ones((3, 4, 8, 8)))], name="m"))
    refused(g.model(y), r"Mul 'm': the constant of shape \(3, 4, 8, 8\) enlarges the graph input")


def test_input_quantised_twice():
    g = Graph((1, 4, 8, 8))
    refused(g.model(g.quant("x", 0.1), g.quant("x", 0.2, name="again")),
            r"Quant 'again': graph input 'x' is quantised twice")


def test_no_quant_at_all():
    g = Graph((1, 4, 8, 8))
    error = refused(g.model(g.relu("x")), r"the model is float: .*nncosim quantize MODEL --data CALIB.npz --out Q.onnx")
    assert len(error.problems) == 1


def test_float_output():
    g, x = quantised()
    refused(g.model(g.relu(g.conv(x, 4, 4), "r")), r"Relu 'r': this graph output is a float; add an output Quant")


def test_bipolar_and_other_quantisers():
    g, x = quantised()
    refused(g.model(g.quant(x, bits=1, name="b")), r"Quant 'b': 1-bit signed data .*BipolarQuant")


@pytest.mark.parametrize(("options", "pattern"), [
    ({"scale": 0.0}, r"Quant 'q': the scale must be positive"),
    ({"scale": float("nan")}, r"Quant 'q': the scale must be positive and finite"),
    ({"bits": 2.5}, r"Quant 'q': the bit width must be a whole number, not 2.5"),
    ({"bits": 40}, r"Quant 'q': the bit width must be 1 to 32"),
    ({"zero": 0.5}, r"Quant 'q': the zero point must be a whole number"),
    ({"zero": [[[[1]], [[2]], [[3]], [[4]]]]}, r"Quant 'q': the zero point must be one number"),
    ({"rounding": "STOCHASTIC"}, r"Quant 'q': rounding_mode 'STOCHASTIC' is unknown; use one of ROUND"),
    ({"scale": np.arange(1, 9) / 10}, r"Quant 'q': the scale of an activation must be one number, or one per channel"),
], ids=str)
def test_quant_parameters(options, pattern):
    g, x = quantised()
    refused(g.model(g.quant(g.relu(x), name="q", **options)), pattern)


def test_scale_computed_at_run_time():
    g, x = quantised()
    y = g.node("Quant", [x, x, g.constant(0), g.constant(8)], name="q", domain=g.domain, signed=1, narrow=0)
    refused(g.model(y), r"Quant 'q': the scale must be a constant")


def test_per_channel_scale_does_not_fold_into_a_dense_layer():
    g = Graph((1, 4, 8, 8))
    x = g.quant("x", np.array([1, 2, 3, 4]).reshape(1, 4, 1, 1) / 50)
    refused(g.model(g.quant(g.conv(x, 4, 4, name="dense"))),
            r"Conv 'dense': a per-channel activation scale does not fold")


def test_weight_scale_per_input_channel():
    g, x = quantised()
    w = g.quant(g.constant(np.ones((4, 4, 3, 3))), np.array([1, 2, 3, 4]).reshape(1, 4, 1, 1) / 50)
    refused(g.model(g.quant(g.conv(x, 4, 4, weights=w, name="c"))), r"Conv 'c': the weight scale .*per output channel")


def test_concat_of_unequal_scales():
    g, x = quantised()
    y = g.node("Concat", [x, g.quant(x, 0.3)], axis=1, name="cat")
    refused(g.model(g.quant(g.conv(y, 8, 4, name="c"))),
            r"Concat 'cat': expected inputs of one scale.*share one activation quantiser")
    y = g.node("Concat", [x, x], axis=2, name="rows")
    refused(g.model(y), r"Concat 'rows': Concat works on channels")


def test_zero_point_that_the_data_cannot_hold_with_padding():
    g = Graph((1, 4, 8, 8))
    x = g.quant("x", zero=-3, signed=0)
    refused(g.model(g.quant(g.conv(x, 4, 4, name="c"))), r"Conv 'c': padding writes the zero point -3")


def test_add_of_unequal_shapes():
    g, x = quantised()
    y = g.node("Add", [x, g.quant(g.input("b", (1, 4, 1, 1)))], name="a")
    refused(g.model(g.quant(y)), r"Add 'a': Add needs two inputs of one shape")


def test_trunc_that_is_no_truncation():
    g, x = quantised()
    y = g.trunc(g.conv(x, 4, 4), 0.0123, bits_in=16, out_scale=0.0123 * 16, name="t")
    refused(g.model(y), r"Trunc 't': Trunc's scale must be that of its input's sums.*use a Quant")
    g, x = quantised((1, 4, 8, 8))
    y = g.trunc(g.node("GlobalAveragePool", [x]), 0.05 / 64, bits_in=16, out_scale=0.05, zero=3, name="t")
    refused(g.model(y), r"Trunc 't': .*")


def test_clip_that_differs_per_channel():
    g, x = quantised()
    y = g.relu(g.conv(x, 4, 4))
    y = g.quant(g.batch_norm(y, 4), name="q")
    refused(g.model(y), r"Quant 'q': the clip \(Relu\) .*quantise between")


def test_conv_and_gemm_shapes():
    g, x = quantised()
    refused(g.model(g.quant(g.conv(x, 3, 4, name="c"))),
            r"Conv 'c': weights \(4, 3, 3, 3\) .* do not fit 4 input channels")
    g, x = quantised()
    refused(g.model(g.quant(g.gemm(x, 4, 4, name="g"))), r"Gemm 'g': expected an activation of shape \(1, K\).*Flatten")
    g, x = quantised((1, 5))
    refused(g.model(g.quant(g.gemm(x, 4, 4, name="g"))), r"Gemm 'g': weights for 4 inputs do not fit")
    g, x = quantised((1, 5))
    refused(g.model(g.quant(g.node("MatMul", [x, x], name="m"))), r"MatMul 'm': the second input must be constant")
    g, x = quantised((1, 4, 5, 2, 2))
    refused(g.model(g.quant(g.relu(x))), r"activations must have shape \(1, C, H, W\), \(1, T, C\) or \(1, N\)")


def test_input_without_a_fixed_size():
    g = Graph((1, 3, "H", "W"))
    refused(g.model(g.quant("x")), r"'x': the graph input has no fixed shape.*1 x 3 x H x W.*fixed input size")


def test_unknown_domain_and_broken_graph():
    g, x = quantised()
    refused(g.model(g.quant(g.node("Conv", [x], name="odd", domain="my.domain"))), r"Conv 'odd': Conv is not supported")
    g, x = quantised()
    refused(g.model(g.quant(g.node("Relu", ["nowhere"], name="r"))),
            r"Relu 'r': input 'nowhere' is made by no node before it")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_constants_that_are_not_finite(value):
    weights = np.ones((4, 4, 1, 1), np.float32)
    weights[2, 1] = value
    g, x = quantised()
    bad = g.node("Conv", [x, g.quant(g.constant(weights), name="w_q")], name="c", kernel_shape=[1, 1])
    refused(g.model(g.quant(bad)), r"'w_q': constant '.*' has 1 of 16 values that are NaN or infinite")


def test_a_clip_without_bounds_in_effect():
    g, x = quantised()
    low, high = (g.constant(np.float32(v)) for v in (-np.inf, np.inf))
    assert import_model(g.model(g.quant(g.node("Clip", [x, low, high], name="c"))))
    g, x = quantised()
    bad = g.node("Clip", [x, g.constant(np.float32(np.nan))], name="c")
    refused(g.model(g.quant(bad)), r"Clip 'c': constant '.*' has 1 of 1 values that are NaN")


def test_two_activations_where_one_operand_must_be_constant():
    g, x = quantised()
    refused(g.model(g.quant(g.node("Sub", [x, x], name="s"))), r"Sub 's': expected a constant operand, got two")


def test_malformed_nodes_and_missing_outputs():
    g, x = quantised()
    refused(g.model(g.quant(g.conv(x, 4, 4, name="c", strides=[0, 1]))),
            r"Conv 'c': strides must be 1 or more, not \(0, 1\)")
    g, x = quantised()
    y = g.node("BatchNormalization", [x, *(g.constant(np.ones(n)) for n in (4, 3, 4, 4))], name="b")
    refused(g.model(g.quant(y)), r"BatchNormalization 'b': .*4 channels|'b': the node is malformed.*onnx.checker")
    g, x = quantised()
    mask = f"{g.node('Dropout', [x], name='d', outputs=2)}.1"
    refused(g.model(g.quant(mask)), r"use the first output of Dropout")


def test_too_wide_for_the_proof():
    g, x = quantised()
    model = g.model(g.quant(g.conv(x, 4, 4, name="c"), 1e-5, bits=24))
    with pytest.raises(CompileError, match=r"layer 'c': outputs of .* too many steps.*16 bits or less"):
        prove(import_model(model))


def test_files(tmp_path):
    refused(tmp_path / "none.onnx", r"there is no such file")
    (tmp_path / "text.onnx").write_text("this is not a model at all, only text\n" * 20)
    refused(tmp_path / "text.onnx", r"text.onnx.*this is not an ONNX file")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(tmp_path / "empty.onnx", r"not an ONNX file, or its graph is empty")
    whole = conv_model().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.onnx", r"cut.onnx.*")


def test_user_arrays():
    network = import_model(conv_model())
    with pytest.raises(InputDataError, match=r"no graph input 'z'; inputs are x"):
        quantise_input(network, "z", np.zeros(1))
    with pytest.raises(InputDataError, match=r"expected shape \(1, 3, 8, 8\), got \(3, 8\)"):
        quantise_input(network, "x", np.zeros((3, 8)))
    with pytest.raises(InputDataError, match=r"integers must be -128..127, got 0..128"):
        quantise_input(network, "x", np.arange(192).reshape(3, 8, 8) % 129)
    with pytest.raises(InputDataError, match=r"finite floats or integers"):
        quantise_input(network, "x", np.full((3, 8, 8), np.nan))
    ints = np.random.default_rng(0).integers(-128, 128, (1, 3, 8, 8))
    assert (quantise_input(network, "x", ints) == ints[0]).all()
    real = dequantise_output(network, "x", ints[0])
    assert real.dtype == np.float32 and real.shape == (1, 3, 8, 8)
    assert (quantise_input(network, "x", real) == ints[0]).all()


def test_onnx_is_pinned_below_the_version_that_onnxruntime_refuses():
    pins = [Requirement(r) for r in requires("nncosim") or []]
    pin = next(p for p in pins if p.name == "onnx")
    assert Version("1.23.0") not in pin.specifier and Version(onnx.__version__) in pin.specifier
    # the reason for the pin: what this onnx writes, onnxruntime reads
    import onnxruntime
    g = Graph((1, 4))
    model = g.model(g.relu("x"))
    model.ir_version = onnx.IR_VERSION
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del model.opset_import[1:]
    assert onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": -np.ones((1, 4), np.float32)})
