# SPDX-License-Identifier: Apache-2.0
"""The plain evaluator of ONNX graphs: is it what it says, and does it find an importer's errors where they are?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from models import DOMAIN, Graph, conv_model, random_model, residual_model
from nncosim.compiler.frontend import elementwise, import_details, importer, layers, quant
from nncosim.compiler.proof.qonnx_check import random_images
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.rounding import Rounding
from nncosim.tb.reference import onnx_reference
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference, ReferenceFailure
from onnx import TensorProto, helper
from qonnx.custom_op.general.intquant import int_quant
from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

MODES = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


def compare(model, images=3, seed=5, change=lambda network: network):
    details = import_details(model)
    network = change(prove(details.network))
    data = images if isinstance(images, list) else random_images(details.network, images, seed)
    return compare_with_reference(OnnxReference(model), network, details.onnx_names, data)


# --- the evaluator ---------------------------------------------------------------------------------------------------


def test_it_shares_no_code_with_the_compiler():
    code = "import sys, nncosim.tb.reference.onnx_reference; print(*(m for m in sys.modules if m.split('.')[0] in " \
           "('nncosim', 'qonnx', 'onnxruntime')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = "nncosim.tb.reference"
    ours = {f"{here}.onnx_{name}" for name in ("reference", "exact", "layouts", "linear", "values", "windows")}
    assert set(done.stdout.split()) <= {"nncosim", "nncosim.tb", here} | ours


def quantiser(op, inputs, **attributes):
    """A graph of Add (x + 0: an activation, no input of the graph) and the node."""
    constants = [onnx.numpy_helper.from_array(np.float32(v), f"c{n}") for n, v in enumerate((0.0, *inputs))]
    nodes = [helper.make_node("Add", ["x", "c0"], ["a"]),
             helper.make_node(op, ["a", *(f"c{n + 1}" for n in range(len(inputs)))], ["y"], domain=DOMAIN,
                              **attributes)]  # fmt: skip
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 400]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 2)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("signed", "narrow", "zero", "bits"), [(1, 0, 0, 8), (1, 1, 3, 4), (0, 0, 7, 8), (0, 1, 0, 5)])
def test_quant_is_that_of_the_qonnx_package(mode, signed, narrow, zero, bits):
    """Multiples of a sixteenth of a power of two: float32 has them exactly, ties and all."""
    x = (np.arange(400) - 200).reshape(1, 400) / np.float32(16)
    scale = np.float32(0.25)
    model = quantiser("Quant", (scale, zero, bits), signed=signed, narrow=narrow, rounding_mode=mode)
    y = OnnxReference(model).run({"x": x})["y"]
    theirs = int_quant(x, scale, np.float32(zero), np.float32(bits), signed, narrow, mode)
    assert np.array_equal(y.real, theirs)
    assert np.array_equal(y.ints, theirs / scale + zero) and (y.scale == scale).all()
    assert y.ints.min() == y.low or y.ints.min() > y.low
    assert (y.zero, y.high - y.low) == (zero, 2**bits - 1 - narrow)


@pytest.mark.parametrize("mode", MODES)
def test_trunc_is_that_of_the_qonnx_package(mode):
    x = (np.arange(400) - 200).reshape(1, 400) * np.float32(0.5)
    half, two = np.float32(0.5), np.float32(2)
    old = OnnxReference(quantiser("Trunc", (half, 0, 9, 6), rounding_mode=mode)).run({"x": x})["y"]
    assert np.array_equal(old.real, trunc_v1(x, half, np.float32(0), np.float32(9), np.float32(6), mode))
    model = quantiser("Trunc", (half, 4, 10, two, 6), rounding_mode=mode, signed=1, narrow=0)
    new = OnnxReference(model).run({"x": x})["y"]
    theirs = trunc_v2(x, half, np.float32(4), np.float32(10), 0, 1, two, np.float32(6), mode)
    assert np.array_equal(new.real, theirs) and new.zero == 1


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_float64_and_rationals_agree_on_every_element(seed, monkeypatch):
    """Each element is computed both ways, and may be a rounding error apart: the library's operators, and ours."""
    model = random_model(seed)
    reference = OnnxReference(model)
    image = random_images(import_details(model).network, 1, seed)[0]
    before = reference.run(image)
    monkeypatch.setattr(onnx_reference, "NEAR", 1.0)
    after = reference.run(image)
    assert all(np.array_equal(v.ints, after[name].ints) for name, v in before.items() if v.ints is not None)
    assert not any(d.undecided or d.tipped for d in reference.decided.values())
    inside = sum(d.again for d in reference.decided.values())
    assert inside >= 0.3 * sum(d.elements for d in reference.decided.values())


def test_a_float64_that_is_off_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_reference, "NEAR", 1.0)
    monkeypatch.setattr(onnx_reference, "ERROR", 1e-18)
    with pytest.raises(ReferenceFailure, match=r"Quant.*float64 gives .*, rationals"):
        compare(conv_model(), 1)


def test_ties_are_decided_by_rationals():
    """q * c / c * s / 2s is q / 2 and a tie for every odd q; float64 rounds on the way, and has some of them wrong."""
    g = Graph((1, 255))
    c = g.constant(1 / 3)
    y = g.node("Div", [g.node("Mul", [g.quant("x", 0.1, name="x_q"), c]), c])
    reference = OnnxReference(g.model(g.quant(y, 0.2, name="y")))
    ints = np.arange(-127, 128).reshape(1, 255)
    got = reference.run({"x": (ints * np.float64(np.float32(0.1))).astype(np.float32)})["y"].ints
    assert got.ravel().tolist() == [round(Fraction(int(q), 2)) for q in ints.ravel()]
    assert reference.decided["y"].again == 128 and reference.decided["y"].tipped > 0


def test_what_it_cannot_do_is_said():
    g = Graph((1, 4))
    y = g.node("Nonsense", [g.quant("x", 0.1)], name="here")
    with pytest.raises(ReferenceFailure, match=r"here \(Nonsense\)"):
        OnnxReference(g.model(g.quant(y))).run({"x": np.zeros((1, 4), np.float32)})


# --- the comparison --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_random_models_are_what_their_graphs_say(seed):
    report = compare(random_model(seed), 2, seed)
    assert report.ok and report.faulty == [] and report.total("values") > 0
    assert report.output_differences == 0


@pytest.mark.parametrize("pads", [(1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0), (0, 1, 0, 1)])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_with_uneven_padding(op, pads):
    g = Graph((1, 3, 7, 6))
    more = {} if op == "MaxPool" else {"count_include_pad": 1}
    y = g.node(op, [g.quant("x", 0.05)], kernel_shape=[2, 3], strides=[2, 1], pads=list(pads), **more)
    assert compare(g.model(g.quant(y, 0.04))).ok


@pytest.mark.parametrize("attributes", [{"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"},
                                        {"ceil_mode": 1}, {"ceil_mode": 1, "pads": [1, 1, 1, 0]}], ids=str)  # fmt: skip
def test_other_windows(attributes):
    g = Graph((1, 3, 8, 7))
    x = g.quant("x", 0.05)
    pooled = g.node("MaxPool", [x], kernel_shape=[3, 2], strides=[2, 2], **attributes)
    if "ceil_mode" not in attributes:
        pooled = g.quant(g.conv(pooled, 3, 4, (2, 3), strides=[1, 2], **attributes), 0.4)
    assert compare(g.model(pooled)).ok


def test_a_batch_in_the_graph_and_raw_outputs():
    g = Graph((4, 3, 2, 2))
    y = g.node("Reshape", [g.quant("x", 0.05), g.constant([4, 12], dtype=np.int64)])
    report = compare(g.model(g.gemm(y, 12, 5, name="raw")))
    assert report.ok and report.total("values") == 3 * 5 and report.outputs == 0

    def shift(network):
        (op,) = network.ops
        one = replace(op.requant, c=op.requant.c + 1)
        return network.with_ops((replace(op, requant=one),))

    assert compare(g.model("raw"), change=shift).faulty == ["raw"]


def test_constants_are_computed_in_float32():
    g = Graph((1, 3, 4, 4))
    scale = g.node("Div", [g.constant(1.0), g.node("Add", [g.constant(3.0), g.constant(4.5)])])
    inputs = [g.conv(g.quant("x"), 3, 4), scale, g.constant(0), g.constant(8)]
    model = g.model(g.node("Quant", inputs, domain=DOMAIN, signed=1, narrow=0, rounding_mode="ROUND", name="y"))
    report = compare(model)
    assert report.ok and [layer.meaning for layer in report.layers] == [""]


def test_curves_are_compared_too():
    g = Graph((1, 3, 4, 4))
    y = g.quant(g.node("Sigmoid", [g.quant("x", 0.05)]), 1 / 255, signed=0)
    report = compare(g.model(g.quant(g.node("HardSigmoid", [y]), 1 / 255, signed=0)))
    assert report.ok and report.total("values") == 2 * 3 * 48


@pytest.mark.parametrize("step", [1, 2])
def test_what_nothing_decides_may_be_one_step_off(step, monkeypatch):
    """There are no rational values of Sigmoid: near a threshold (here: everywhere) the neighbour is as good."""
    g = Graph((1, 3, 4, 4))
    model = g.model(g.quant(g.node("Sigmoid", [g.quant("x", 0.05)], name="curve"), 1 / 100, signed=0))

    def shift(network):
        (op,) = network.ops
        return network.with_ops((replace(op, values=tuple(v + step for v in op.values)),))

    assert compare(model, change=shift).faulty == ["curve"]
    monkeypatch.setattr(onnx_reference, "NEAR", 1.0)
    report = compare(model, change=shift)
    counts = (report.ok, report.total("undecided"), report.total("wrong"))
    assert counts == ((True, 144, 0) if step == 1 else (False, 0, 144))


def test_what_the_proof_admits_is_explained_and_nothing_else():
    """A layer whose integers differ from its function within the bound of its proof: allowed; beyond it: wrong."""
    g = Graph((1, 4, 2, 3))
    y = g.node("GlobalAveragePool", [g.quant("x", 0.1, name="x_q")], name="mean")
    model = g.model(g.quant(y, 0.1, name="y"))

    def inexact(bound, more=0):
        def change(network):
            (op,) = network.ops
            r = op.requant
            wrong = replace(r, c=r.c + (1 << int(r.s[0])) // 3 + more * (1 << int(r.s[0])))
            return network.with_ops((replace(op, requant=wrong, proof=replace(op.proof, exact=False, max_lsb=bound)),))
        return change

    report = compare(model, 20, change=inexact(1))
    assert report.ok and report.total("inexact") > 0 and report.total("wrong") == 0
    report = compare(model, 20, change=inexact(1, more=1))
    assert not report.ok and report.faulty == ["mean"]


# --- planted errors of the importer: what it makes is proved exact, and wrong -----------------------------------------


def victim():
    """Something of everything: uneven padding, stride, signed data after Relu, zero points, ties."""
    g = Graph((1, 3, 9, 9), seed=4)
    x = g.quant("x", 0.05, zero=3, name="x_q")
    a = g.conv(x, 3, 8, 3, pads=[1, 0, 0, 1], strides=[2, 2], name="stem")
    a = g.quant(g.relu(g.batch_norm(a, 8)), 0.08, name="stem_q")
    b = g.quant(g.conv(a, 8, 8, 3, groups=8, name="depthwise"), 0.25, zero=-2, name="depthwise_q")
    c = g.quant(g.relu(g.conv(b, 8, 8, 1, name="pointwise")), 0.3, signed=0, name="pointwise_q")
    y = g.quant(g.node("Add", [b, c], name="add"), 0.4, name="add_q")
    y = g.node("MaxPool", [y], name="max", kernel_shape=[2, 2], strides=[1, 1], pads=[1, 0, 0, 1])
    y = g.quant(g.node("AveragePool", [y], name="average", kernel_shape=[2, 2], strides=[1, 1]), 0.4, name="average_q")
    y = g.gemm(g.node("Flatten", [y], name="flatten"), 8 * 3 * 3, 10, name="classifier")
    return g.model(g.quant(y, 2.0, name="y"))


def parameters(monkeypatch, name, **change):
    """Quant `name` is read with other parameters: each a function of what is right."""
    right = quant.read_parameters

    def wrong(node):
        found = right(node)
        new = {k: f(found) for k, f in change.items()} if node.name == name else {}
        return replace(found, **new)

    monkeypatch.setattr(quant, "read_parameters", wrong)


def result(monkeypatch, op, name, change):
    """The handler of node `name` gives something else: a function of what is right."""
    right = importer.HANDLERS[op]
    monkeypatch.setitem(importer.HANDLERS, op, lambda builder, node: change(right(builder, node))
                        if node.name == name else right(builder, node))  # fmt: skip


def weights(change):
    return lambda form: replace(form, op=replace(form.op, weights=change(form.op.weights)))


def ratios(change):
    return lambda form: replace(form, ratios=change(form.ratios))


def pads(change):
    return lambda form: replace(form, op=replace(form.op, pads=change(*form.op.pads)))


PLANTS = {
    "scale doubled": ("depthwise", lambda m: parameters(m, "depthwise_q", scale=lambda p: p.scale * 2)),
    "zero point off by one": ("depthwise", lambda m: parameters(m, "depthwise_q",
                                                                zero_point=lambda p: p.zero_point + 1)),
    "zero point of an input forgotten": ("stem", lambda m: result(m, "Conv", "stem", lambda form: replace(
        form, offset=(Fraction(0),) * form.channels))),
    "padded with zero, not the zero point": ("stem", lambda m: result(m, "Conv", "stem", lambda form: replace(
        form, op=replace(form.op, pad_value=0)))),
    "signed taken for unsigned": ("stem", lambda m: parameters(
        m, "stem_q", signed=lambda p: False, lo=lambda p: 0, hi=lambda p: 255)),
    "unsigned taken for signed": ("pointwise", lambda m: parameters(
        m, "pointwise_q", signed=lambda p: True, lo=lambda p: -128, hi=lambda p: 127)),
    "wrong ties": ("average", lambda m: parameters(m, "average_q", rounding=lambda p: Rounding.HALF_AWAY)),
    "rounds down": ("add", lambda m: parameters(m, "add_q", rounding=lambda p: Rounding.FLOOR)),
    "rows and columns of pads swapped": ("stem", lambda m: result(m, "Conv", "stem", pads(
        lambda top, left, bottom, right: (left, top, right, bottom)))),
    "begins one row late": ("stem", lambda m: result(m, "Conv", "stem", pads(
        lambda top, left, bottom, right: (top - 1, left, bottom + 1, right)))),
    "channels of a depthwise layer in another order": ("depthwise", lambda m: result(
        m, "Conv", "depthwise", weights(lambda w: w[::-1].copy()))),
    "kernel mirrored": ("depthwise", lambda m: result(m, "Conv", "depthwise", weights(lambda w: w[..., ::-1].copy()))),
    "one weight off by one": ("pointwise", lambda m: result(m, "Conv", "pointwise", weights(
        lambda w: w + (np.arange(w.size) == 9).reshape(w.shape)))),
    "bias dropped": ("pointwise", lambda m: result(m, "Conv", "pointwise", lambda form: replace(
        form, offset=tuple(-int(s) * -2 * r for s, r in zip(form.op.weights.sum(axis=(1, 2, 3)), form.ratios[0],
                                                            strict=True))))),
    "Relu dropped": ("stem", lambda m: m.setitem(importer.HANDLERS, "Relu", elementwise.identity)),
    "divided by another count": ("average", lambda m: result(m, "AveragePool", "average", ratios(
        lambda r: (tuple(x * 4 / 5 for x in r[0]),)))),
    "the operands of an addition changed places": ("add", lambda m: result(m, "Add", "add", ratios(lambda r: r[::-1]))),
    "flattened in another order": ("classifier", lambda m: result(m, "Gemm", "classifier", weights(
        lambda w: w.transpose(0, 1, 3, 2).copy()))),
    "a pool's window one row late": ("max", lambda m: m.setattr(
        layers, "_enlarged", lambda node, chw, kernel, stride, p: (p[0] - 1, p[1], p[2] + 1, p[3]))),
    "epsilon forgotten": ("stem", lambda m: m.setattr(elementwise, "_square_root", lambda v, right=elementwise.
                                                      _square_root: right(v - Fraction(float(np.float32(1e-5)))))),
}  # fmt: skip
"""What, the layer that is to be named first, and how it is planted in the front end."""


def test_the_victim_is_right():
    report = compare(victim(), 20)
    assert report.ok and len(report.layers) == 7


@pytest.mark.parametrize("what", PLANTS)
def test_an_error_of_the_importer_is_found_in_its_layer(what, monkeypatch):
    layer, plant = PLANTS[what]
    model = victim()
    plant(monkeypatch)
    details = import_details(model)
    network = prove(details.network)
    assert all(op.proof.exact for op in network.ops if op.proof), "the proof is content: it has the same error"
    report = compare(model, 20)
    assert not report.ok
    after = [op.name for op in network.ops if set(op.inputs) & {o.output for o in network.ops if o.name == layer}]
    assert report.faulty[0] == layer and set(report.faulty) <= {layer, *after}


@pytest.mark.parametrize("what", ["scale", "rounding"])
def test_a_wrong_input_quantiser_is_found(what, monkeypatch):
    change = {"scale": lambda p: p.scale * np.float32(1.01)} if what == "scale" else \
        {"rounding": lambda p: Rounding.FLOOR}
    parameters(monkeypatch, "x_q", **change)
    report = compare(victim(), 5)
    assert not report.ok and report.input_differences > 0


def test_a_wrong_word_about_names_is_found():
    model = residual_model(2)
    details = import_details(model)
    network = prove(details.network)
    with pytest.raises(ReferenceFailure, match=r"tensor 'stem_q' stands for 'stem', which the graph does not quantise"):
        compare_with_reference(OnnxReference(model), network, details.onnx_names | {"stem_q": ("stem", 0)},
                               random_images(network, 1, 3))  # fmt: skip
    names = details.onnx_names | {"stem_q": details.onnx_names["depthwise_q"]}
    report = compare_with_reference(OnnxReference(model), network, names, random_images(network, 1, 3))
    assert "stem" in report.faulty
