# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation: what a float network becomes, and that nothing is lost that need not be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from float_models import FloatModel, branched, plain
from nncosim.compiler.errors import InputDataError, ModelError
from nncosim.compiler.frontend import dequantise_output, import_model
from nncosim.compiler.frontend.user_arrays import quantise_inputs
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.quantize import Quantized, QuantizeOptions, emit, quantize
from nncosim.compiler.quantize.equalize import equalize
from nncosim.compiler.quantize.graph import read_float
from nncosim.compiler.quantize.options import JOINS, METHODS, SCALES
from nncosim.compiler.quantize.points import plan_points
from nncosim.compiler.quantize.scales import WeightScale
from nncosim.compiler.quantize.simulate import simulated
from nncosim.compiler.quantize.statistics import Runner
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

PLAIN = QuantizeOptions()
SCALES_MODULE = "nncosim.compiler.quantize.scales"


def outputs(model: onnx.ModelProto, images: np.ndarray, name: str = "logits") -> np.ndarray:
    runner = Runner(model, [name])
    return np.concatenate([runner({"x": image[None]})[name] for image in images])


def integers(result: Quantized, images: np.ndarray) -> list[dict[str, np.ndarray]]:
    """All tensors of each image, as the importer's network computes them in exact arithmetic."""
    network = import_model(result.model)
    return [evaluate(network, quantise_inputs(network, {"x": image[None]}), exact=True) for image in images]


def snr(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(want).sum() / np.square(want - got).sum()))


def quality(options: QuantizeOptions, network=branched) -> float:
    model, images = network()
    result = quantize(model, {"x": images}, options)
    imported = import_model(result.model)
    got = [dequantise_output(imported, "logits", t["logits"]) for t in integers(result, images[:8])]
    return snr(outputs(read_float(model).proto(), images[:8]), np.concatenate(got))


def test_points_stand_behind_what_makes_sums_and_not_behind_what_moves():
    graph = read_float(branched()[0])
    plan = plan_points(graph, "own")
    kinds = {point.node or "x": point.kind for point in plan.points.values()}
    named = {name.split("/")[0]: kind for name, kind in kinds.items()}
    assert named == {
        "x": "input", "first": "layer", "depthwise": "layer", "project": "layer", "residual": "add", "left": "layer",
        "right": "layer", "concat": "concat", "second": "layer", "silu": "curve", "average": "average",
        "logits.mm": "layer",
    }  # fmt: skip
    assert graph.dropped == ("Softmax 'probabilities'",)
    assert plan.point_of["pool"] == plan.point_of["residual"] and plan.point_of["flat"] == plan.point_of["average"]
    assert [len(points) for points in plan_points(graph, "one").joined] == [2, 2] and not plan.joined


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("options", [
    PLAIN, replace(PLAIN, per_channel=False), replace(PLAIN, unsigned=True), replace(PLAIN, joins="one"),
], ids=["channels", "tensors", "unsigned", "joined"])  # fmt: skip
def test_little_is_lost(scales, options):
    assert quality(replace(options, scales=scales)) > 31


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_network(method):
    assert quality(replace(PLAIN, method=method)) > (15 if method == "sigma" else 34)


def test_integers_are_those_that_the_qonnx_package_computes():
    """Scales are powers of two, so that its float32 is exact: every value of every point."""
    model, images = branched()
    result = quantize(model, {"x": images}, replace(PLAIN, scales="shift"))
    wrapped = ModelWrapper(result.model).transform(InferShapes())
    names = [name for name in result.plan.points if name != "x" and "silu" not in name]
    network = import_model(result.model)
    compared = 0
    for image, tensors in zip(images[:3], integers(result, images[:3]), strict=True):
        found = execute_onnx(wrapped, {"x": image[None]}, return_full_exec_context=True)
        for name in names:
            if name in tensors:
                mine = dequantise_output(network, name, tensors[name])
                np.testing.assert_array_equal(mine.ravel(), found[name].ravel())
                compared += 1
    assert compared >= 3 * 9


def test_the_simulation_of_the_table_is_what_integers_give():
    model, images = plain()
    result = quantize(model, {"x": images}, replace(PLAIN, scales="shift"))
    network = import_model(result.model)
    runner = Runner(simulated(result.graph, result.plan, result.scales), list(result.plan.points))
    for image, tensors in zip(images[:4], integers(result, images[:4]), strict=True):
        values = runner({"x": image[None]})
        for name in set(result.plan.points) & set(tensors) - {"x"}:
            np.testing.assert_array_equal(dequantise_output(network, name, tensors[name]).ravel(), values[name].ravel())


def test_single_shift_is_a_single_shift():
    """Of every layer: what its accumulators are multiplied by is a power of two."""
    model, images = branched()
    for scales, most in (("shift", 1), ("dyadic", 255)):
        network = import_model(quantize(model, {"x": images}, replace(PLAIN, scales=scales)).model)
        for op in network.ops:
            if op.function is None or op.kind in ("table", "pool"):
                continue
            for ratio in {r for ratios in op.function.ratios for r in ratios}:
                assert Fraction(ratio).denominator & (ratio.denominator - 1) == 0 and ratio.numerator <= most, op.name


def test_equalisation_changes_numbers_and_no_result():
    model, images = plain()
    graph = read_float(model)
    plan = plan_points(graph, "own")
    before = outputs(graph.proto(), images[:4])
    changed = equalize(graph, plan)
    after = outputs(graph.proto(), images[:4])
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    assert max(changed.values()) > 2
    one, two = (np.abs(graph.constants[plan.layers[name].weights]) for name in ("one", "two"))
    np.testing.assert_allclose(one.max(axis=(1, 2, 3)), two.max(axis=(1, 2, 3)), rtol=0.05)


def test_equalisation_helps_where_channels_differ():
    per_tensor = replace(PLAIN, per_channel=False, equalize=False)
    assert quality(replace(per_tensor, equalize=True), plain) > quality(per_tensor, plain) + 2


def test_ranges_of_single_shift_are_made_to_fit():
    """Layers' results are scaled so that powers of two lose nothing: nearly as good as any scale."""
    with_any = quality(replace(PLAIN, per_channel=False), plain)
    assert quality(replace(PLAIN, per_channel=False, scales="shift"), plain) > with_any - 3


def test_the_table_speaks_of_the_network_as_it_was():
    """Whatever was scaled on the way: what was seen is what the float network gives."""
    model, images = plain()
    graph = read_float(model)
    names = list(plan_points(graph, "own").points)
    runner = Runner(graph.proto(), names)
    values = [runner({"x": image[None]}) for image in images]
    for scales in SCALES:
        result = quantize(model, {"x": images}, replace(PLAIN, scales=scales, equalize=False))
        for name, row in zip(names, result.costs, strict=True):
            seen = min(v[name].min() for v in values), max(v[name].max() for v in values)
            assert row.seen == pytest.approx(seen, rel=1e-3) and row.high >= 0.7 * seen[1]


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_bits_of_single_layers(bits):
    model, images = plain()
    result = quantize(model, {"x": images}, replace(PLAIN, layer_bits={"three": bits}))
    network = import_model(result.model)
    op = next(op for op in network.ops if op.name == "three")
    assert op.weight_bits == bits and np.abs(op.weights).max() <= 2 ** (bits - 1) - 1
    assert len(np.unique(op.weights)) > 0.6 * (2**bits - 1)
    assert {row.layer: row.weight_bits for row in result.costs}["three"] == bits


@pytest.mark.parametrize("average", [6, 4.5, 3, 2])
def test_a_budget_is_kept_and_spent(average):
    model, images = plain()
    result = quantize(model, {"x": images[:4]}, PLAIN, average_bits=average)
    assert average - 1.5 < result.average_bits <= average
    widths = {result.options.bits_of(name) for name in result.plan.layers}
    assert widths <= {2, 4, 8}


def test_sensitivity_names_the_layer_that_costs_most():
    """A layer of 2 bits among layers of 8."""
    model, images = plain()
    result = quantize(model, {"x": images}, replace(PLAIN, layer_bits={"three": 2}))
    rows = result.sensitivities(np.arange(32) % 10)
    assert rows[0].layer == "three" and rows[0].output_db < rows[1].output_db - 6
    assert all(row.right is not None for row in rows) and len(rows) == len(result.plan.points)


@pytest.mark.parametrize("spoil", ["weights", "scale", "clip"])
def test_a_planted_error_is_seen(spoil, monkeypatch):
    """What the quality of a whole network would say of an error in a place of its own."""
    good = quality(PLAIN)
    if spoil == "weights":
        real_shape = emit.along  # the scale of another channel
        monkeypatch.setattr(emit, "along", lambda scale, ndim, axis: real_shape(scale[::-1], ndim, axis))
    elif spoil == "scale":
        real = WeightScale.largest.fget
        monkeypatch.setattr(WeightScale, "largest", property(lambda self: real(self) // 2))
        monkeypatch.setattr(f"{SCALES_MODULE}._weight_step", lambda row, levels, options: row.max() / levels / 2)
    else:
        monkeypatch.setattr(f"{SCALES_MODULE}.activation_range", lambda seen, levels, options: seen.high / 8)
    assert quality(PLAIN) < good - 10


def test_the_same_twice():
    model, images = branched()
    once, again = (quantize(model, {"x": images}, PLAIN).model.SerializeToString(deterministic=True) for _ in range(2))
    assert once == again


def test_every_reason_of_a_refusal_is_told():
    m = FloatModel()
    x = m.conv("x", 3, 8, 3, "conv")
    x = m.node("LRN", [x], "lrn", size=3)
    x = m.node("ConvTranspose", [m.node("Relu", [m.conv("x", 3, 8, 3, "other")], "r"), m.constant(
        np.ones((8, 4, 2, 2)), "tw")], "up")  # fmt: skip
    with pytest.raises(ModelError) as told:
        quantize(m.model("up", (1, 4, 17, 17)), {"x": m.images(2)}, PLAIN)
    assert "ConvTranspose 'up': ConvTranspose is not supported; supported are" in str(told.value)
    y = m.node("Add", [m.node("LRN", [x], "lrn2", size=3), x], "sum")
    with pytest.raises(ModelError) as told:
        quantize(m.model(y, (1, 4, 17, 17)), {"x": m.images(2)}, PLAIN)
    assert len(told.value.problems) == 1  # what depends on a refused node stays silent


def test_data_that_do_not_fit():
    model, images = plain()
    for arrays, text in (
        ({"y": images}, "no array 'x'; expected one per graph input (x), found y"),
        ({"x": images[:, :2]}, "array 'x' has shape (32, 2, 16, 16); expected (N, 3, 16, 16)"),
        ({"x": images[:0]}, "has shape (0, 3, 16, 16)"),
        ({"x": images.astype("U3")}, "holds <U3; expected numbers"),
        ({"x": np.where(images > 3, np.nan, images)}, "has values that are not finite"),
    ):  # fmt: skip
        with pytest.raises(InputDataError) as told:
            quantize(model, arrays, PLAIN)
        assert text in str(told.value)
    with pytest.raises(InputDataError, match="there is no layer 'fourth'; layers are one, two, three, four"):
        quantize(model, {"x": images}, replace(PLAIN, layer_bits={"fourth": 4}))
    with pytest.raises(InputDataError, match=r"an average of 1.5 bits is asked for; the fewest bits"):
        quantize(model, {"x": images}, PLAIN, average_bits=1.5)


def test_what_is_quantised_already_is_not_quantised_again():
    model, images = plain()
    done = quantize(model, {"x": images}, PLAIN).model
    with pytest.raises(ModelError, match="quantised already; expected a float network; give it to nncosim run"):
        quantize(done, {"x": images}, PLAIN)


def test_a_dead_layer_does_no_harm():
    """All zeros: weights, and a value that never is anything else."""
    model, images = plain()
    for tensor in model.graph.initializer:
        if tensor.name.startswith("three."):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    for scales in SCALES:
        result = quantize(model, {"x": images}, replace(PLAIN, scales=scales))
        import_model(result.model)


def test_joins_on_one_scale():
    model, images = branched()
    assert set(JOINS) == {"own", "one"}
    own, one = (quantize(model, {"x": images}, replace(PLAIN, joins=joins)) for joins in JOINS)
    values = [name for name in one.plan.points if name.startswith(("left", "right"))]
    assert len({one.scales.points[v].scale for v in values}) == 1 < len({own.scales.points[v].scale for v in values})
    assert not any(point.kind == "concat" for point in one.plan.points.values())
