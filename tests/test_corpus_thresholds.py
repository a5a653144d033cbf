# SPDX-License-Identifier: Apache-2.0
"""MultiThreshold, and integer weights by annotation: what FINN's streamlining leaves."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import onnx
import pytest
from command_line import runner
from corpus_check import annotate, bytes_image, executor, imported, outputs, refused, same
from models import Graph
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_details, multithreshold
from nncosim.compiler.frontend.multithreshold import line_through
from nncosim.compiler.frontend.prepare import with_forms
from nncosim.compiler.ir.arithmetic import Thresholds
from nncosim.compiler.ir.operators import Table
from nncosim.compiler.proof.caps import RequantCaps, ThresholdCaps
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images
from nncosim.compiler.proof.requantization import prove, require_exact
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def thresholds(g, x, rows, *, name="", layout="", dtype="UINT4", **more):
    return g.node("MultiThreshold", [x, g.constant(rows)], name=name, domain=g.domain, out_dtype=dtype,
                  data_layout=layout, **more)  # fmt: skip


def rows_of(rng, channels, count, low, high):
    """Thresholds of a uniform quantiser behind a BatchNormalization, rounded up to integers; a start and step each."""
    start, end = rng.uniform(low, low * 0.7, channels), rng.uniform(high * 0.7, high, channels)
    return np.ceil(np.linspace(start, end, count, axis=1))


def streamlined(seed=0, last=False):
    """Bytes, integer weights, thresholds, as FINN leaves them; `last`: NHWC around the thresholds."""
    g = Graph((1, 3, 6, 6), seed=seed)
    w0 = g.constant(g.rng.integers(-7, 8, (8, 3, 3, 3)), "w0")
    y = g.node("Conv", ["x", w0], name="conv0", kernel_shape=[3, 3], pads=[1] * 4)
    y = g.node("Transpose", [y], perm=TO_LAST) if last else y
    rows = rows_of(g.rng, 8, 15, -3000, 3000)
    y = thresholds(g, y, rows, name="t0", layout="NHWC" if last else "NCHW", out_bias=-8.0, dtype="INT4")
    y = g.node("Transpose", [y], perm=TO_FIRST) if last else y
    y = g.node("Mul", [y, g.constant(0.25)])  # between the thresholds and the next layer
    w1 = g.constant(g.rng.choice([-1.0, 1.0], (6, 8, 1, 1)), "w1")
    y = g.node("Conv", [y, w1], name="conv1", kernel_shape=[1, 1])
    y = g.node("Mul", [y, g.constant(np.linspace(-1.93, 2.07, 6).reshape(1, 6, 1, 1))])
    y = thresholds(g, y, np.linspace(-6.13, 6.31, 31)[None], name="y", out_scale=0.5, out_bias=-8.0, dtype="INT6")
    return annotate(g.model(y), x="UINT8", w0="INT4", w1="BIPOLAR")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_streamlined_network(seed, last):
    model = streamlined(seed, last)
    network = imported(model)
    assert [op.title for op in network.ops] == ["Conv 3x3", "Conv 1x1"]
    kinds = [(network.tensors[op.output].type.bits, network.tensors[op.output].type.signed) for op in network.ops]
    assert kinds == [(4, True), (6, True)] and [op.weight_bits for op in network.ops] == [4, 2]
    for n in range(3):
        same(model, network, {"x": bytes_image((1, 3, 6, 6), n)})
    images = [{"x": bytes_image((1, 3, 6, 6), 9)}]
    written = with_forms(model, {})
    assert compare_with_qonnx(written, network, images).ok
    assert compare_with_reference(OnnxReference(written), network, import_details(written).onnx_names, images).ok


def test_a_platform_with_thresholds_gets_thresholds():
    network = imported(streamlined())
    proved = prove(network, RequantCaps((ThresholdCaps(31),)))
    assert all(isinstance(op.requant, Thresholds) and op.proof.exact for op in proved.ops)
    rows = onnx.numpy_helper.to_array(next(t for t in streamlined().graph.initializer if len(t.dims) == 2))
    assert (proved.ops[0].requant.first == rows).all()


@pytest.mark.parametrize("seed", range(40))
def test_a_line_through_steps(seed):
    """Steps of a rounded line: one is found that gives them at every accumulator."""
    rng = np.random.default_rng(seed)
    slope, offset, count = Fraction(rng.uniform(0.001, 3)), Fraction(rng.uniform(-9, 9)), int(rng.integers(1, 40))
    lo, hi = -int(rng.integers(1, 900)), int(rng.integers(1, 900))
    right = [min(max(floor(slope * x + offset), 0), count) for x in range(lo, hi + 1)]
    every = [*zip(range(lo, hi + 1), right, strict=True)]
    steps = [next((x for x, q in every if q >= k), hi + 1) for k in range(1, count + 1)]
    ratio, shift = line_through(steps, lo, hi)
    assert [min(max(floor(ratio * x + shift), 0), count) for x in range(lo, hi + 1)] == right


def test_no_line_goes_through_steps_that_are_not_even():
    assert line_through([0, 1, 2, 50, 51], -99, 99) is None and line_through([0, 0, 30, 60], -99, 99) is None
    assert line_through([5], -9, 9) is not None and line_through([-9, -9], -9, 9) is not None
    assert line_through([10, 10], -9, 9) is not None


def uneven(after="Conv", per_channel=True, relu=False):
    """Thresholds that no line meets, some of them equal, behind sums or an 8-bit tensor."""
    g = Graph((1, 4, 6, 6), seed=3)
    y = g.quant("x", 0.5, name="x_q")
    if after == "Conv":
        y = g.conv(y, 4, 4, 1, bias=None, weights=g.quant(g.constant(g.rng.integers(-3, 4, (4, 4, 1, 1))), 1.0, bits=4))
    y = g.relu(y) if relu else y
    rows = np.sort(g.rng.normal(0, 16, (4 if per_channel else 1, 15)) ** 3 / 256, axis=1)
    rows[:, 7] = rows[:, 6]
    return g.model(thresholds(g, y, rows, name="y", out_bias=-8.0, dtype="INT4"))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("after", ["Conv", "Quant"])
def test_uneven_thresholds(after, per_channel, relu):
    """What a machine with thresholds computes is the graph; one without has the nearest, and the proof counts."""
    model = uneven(after, per_channel, relu)
    network = import_details(model).network
    (op,) = network.ops
    exact = prove(network, RequantCaps((ThresholdCaps(15),)))
    assert exact.ops[0].proof.exact
    seen = set()
    for image in random_images(network, 4, 0):
        found = outputs(exact, image)["y"]
        assert (found == executor(model, image)["y"]).all()
        seen |= set(found.ravel().tolist())
    assert len(seen) > (2 if relu else 8)
    names = import_details(model).onnx_names
    assert compare_with_reference(OnnxReference(model), exact, names, random_images(network, 2, 1)).ok
    tables = after == "Quant" and not per_channel
    near = prove(network, RequantCaps(tables=True))
    assert isinstance(near.ops[0], Table) == near.ops[0].proof.exact == tables
    if tables:
        return
    require_exact(replace(near, nearest=True))
    with pytest.raises(ModelError, match=r"[\d,]+ of [\d,]+ accumulators give another result.*--nearest"):
        require_exact(near)
    low, high = op.bounds(network.op_inputs(op))
    wrong = 0
    for c in range(4):
        every = np.arange(int(low[c]), int(high[c]) + 1)
        wrong += int((near.ops[0].requant.take(np.array([c])).apply(every[None]) != op.function.at(c, every)).sum())
    assert near.ops[0].proof.differing_values == wrong > 0


@pytest.mark.parametrize("scale, bias", [(2.0, -1.0), (0.5, -0.25)])
def test_one_threshold_is_a_sign(scale, bias):
    g = Graph((1, 12), seed=5)
    y = g.node("MatMul", [g.quant("x", 0.1, name="x_q"), g.weights((12, 9), axis=1)])
    y = thresholds(g, y, g.rng.normal(0, 1, (9, 1)), name="y", dtype="BIPOLAR", out_scale=scale, out_bias=bias)
    model = g.model(y)
    network = imported(model)
    assert network.tensors["y"].type.bits == 2 and network.ops[0].signs
    seen = set()
    for image in random_images(network, 5, 0):
        found = outputs(network, image)["y"]
        assert (found == executor(model, image)["y"]).all()
        seen |= set(found.ravel().tolist())
    assert seen == {scale / 2, -scale / 2}
    names = import_details(model).onnx_names
    assert compare_with_reference(OnnxReference(model), network, names, random_images(network, 2, 1)).ok


@pytest.mark.parametrize("kind", ["relu", "clip", "falling"])
def test_what_stands_before_thresholds(kind):
    g = Graph((1, 3, 5, 5), seed=6)
    y = g.conv(g.quant("x", 0.05, name="x_q"), 3, 6, 3, name="conv")
    y = {"relu": lambda: g.relu(y), "clip": lambda: g.node("Clip", [y, g.constant(-0.5), g.constant(2.0)]),
         "falling": lambda: g.node("Mul", [y, g.constant(np.linspace(-1, 1, 6).reshape(6, 1, 1))])}[kind]()  # fmt: skip
    model = g.model(thresholds(g, y, np.linspace(-2.2, 4.1, 15)[None], name="y"))
    image = np.random.default_rng(0).normal(0, 2.2, (1, 3, 5, 5)).astype(np.float32)
    same(model, imported(model), {"x": image}, least=7)


def test_a_step_too_many_is_seen(monkeypatch):
    """A planted error: each step one accumulator late."""
    original = multithreshold._first

    def late(form, c, threshold, lo, hi):
        found = original(form, c, threshold, lo, hi)
        return found + (lo < found < hi)

    monkeypatch.setattr(multithreshold, "_first", late)
    with pytest.raises(AssertionError):
        test_a_streamlined_network(0, False)


def test_refusals():
    def model(rows, **more):
        g = Graph((1, 4, 3, 3))
        return g.model(thresholds(g, g.quant("x", 1.0), rows, name="t", **more))

    refused(model([[1.0, 2.0]], out_scale=0.0), r"'t': out_scale must be positive")
    refused(model([[1.0, 2.0]], out_bias=0.5), r"'t': out_bias 0.5 must be a multiple of out_scale 1.0")
    refused(model([[1.0, 2.0]] * 3), r"'t': thresholds of shape \(3, 2\) do not fit 4 channels")
    refused(model([[1.0, 2.0]] * 4, layout="NHWC"), r"'t': data_layout NHWC is not the layout")
    g = Graph((1, 4, 3, 3))
    refused(g.model(thresholds(g, "x", [[1.0, 2.0]], name="t")), r"'t': the graph input 'x' is a float")
    g = Graph((1, 4, 3, 3))
    y = g.node("Add", [g.quant("x", 1.0, name="a"), g.quant("x", 1.0, name="b")])
    refused(g.model(thresholds(g, y, [[1.0, 2.0]], name="t")), r"'t': thresholds of a sum of two")


def test_on_j3dai(tmp_path, capfd):
    onnx.save(streamlined(1, True), tmp_path / "m.onnx")
    done = runner(capfd)("run", tmp_path / "m.onnx", "--backend", "iss")
    assert done.status == 0 and "exact in all" in done.out and "its annotation UINT8" in done.out, done


def test_a_threshold_far_from_the_others_does_not_spoil_them():
    g = Graph((1, 4, 6, 6), seed=3)
    weights = g.quant(g.constant(g.rng.integers(-3, 4, (4, 4, 1, 1))), 1.0, bits=4)
    y = g.conv(g.quant("x", 0.5, name="x_q"), 4, 4, 1, bias=None, weights=weights)
    model = g.model(thresholds(g, y, [[*range(-7, 7), 200]], name="y", out_bias=-8.0, dtype="INT4"))
    network = import_details(model).network
    near = prove(network, RequantCaps())
    low, high = near.ops[0].bounds(network.op_inputs(near.ops[0]))
    # by hand: floor(acc / 2) + 8 of them, which is right but from 14 to 400, where the last threshold lies
    wrong = 0
    for c in range(4):
        every = np.arange(int(low[c]), int(high[c]) + 1)
        wrong += int((np.clip(np.floor(every / 2), -8, 7) != near.ops[0].function.at(c, every)).sum())
    assert near.ops[0].proof.differing_values <= wrong and near.ops[0].proof.max_lsb == 1
