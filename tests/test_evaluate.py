# SPDX-License-Identifier: Apache-2.0
"""The exact executor against plain loops, and the comparison with qonnx against planted errors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from models import Graph, conv_model, residual_model
from nncosim.compiler.errors import CompileError
from nncosim.compiler.frontend import import_model, quantise_input
from nncosim.compiler.frontend.prepare import prepare
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.evaluate import apply_exact, evaluate
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.operators import Concat, Conv, Pool, Resize
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images, run_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.rounding import Rounding


def loops(op, x):
    """Convolution by the definition."""
    outputs, depth, kh, kw = op.weights.shape
    top, left, bottom, right = op.pads
    per_group = outputs // op.groups
    rows = (x.shape[1] + top + bottom - op.dilation[0] * (kh - 1) - 1) // op.stride[0] + 1
    columns = (x.shape[2] + left + right - op.dilation[1] * (kw - 1) - 1) // op.stride[1] + 1
    out = np.zeros((outputs, rows, columns), dtype=object)
    for o, r, c in np.ndindex(out.shape):
        for d, i, j in np.ndindex(depth, kh, kw):
            y = r * op.stride[0] + i * op.dilation[0] - top
            z = c * op.stride[1] + j * op.dilation[1] - left
            inside = 0 <= y < x.shape[1] and 0 <= z < x.shape[2]
            value = int(x[o // per_group * depth + d, y, z]) if inside else op.pad_value
            out[o, r, c] += int(op.weights[o, d, i, j]) * value
    return out


@pytest.mark.parametrize("options", [
    {}, {"stride": (2, 1)}, {"pads": (1, 0, 2, 1), "pad_value": 7}, {"dilation": (2, 3), "pads": (2, 3, 2, 3)},
    {"groups": 4}, {"groups": 2, "stride": (2, 2)},
], ids=str)  # fmt: skip
def test_convolution_is_the_definition(options):
    rng = np.random.default_rng(1)
    groups = options.get("groups", 1)
    weights = rng.integers(-128, 128, (8, 4 // groups, 3, 2))
    op = Conv("c", ("x",), "y", weights=weights, **options)
    x = rng.integers(-128, 256, (4, 9, 8))
    assert (op.accumulate([x])[0] == loops(op, x)).all()


def test_large_sums_are_exact():
    weights = np.full((1, 4096, 1, 1), -127)
    weights[0, ::2] = 127
    x = np.arange(4096).reshape(4096, 1, 1) % 65521
    want = sum(int(w) * int(v) for w, v in zip(weights.ravel(), x.ravel(), strict=True))
    assert Conv("c", ("x",), "y", weights=weights).accumulate([x])[0].item() == want


def test_sums_beyond_float64_are_exact():
    weights = np.full((1, 3, 1, 1), (1 << 30) + 1)
    x = np.array([(1 << 30) - 1, 1, (1 << 29) + 3]).reshape(3, 1, 1)
    want = sum(int(w) * int(v) for w, v in zip(weights.ravel(), x.ravel(), strict=True))
    assert Conv("c", ("x",), "y", weights=weights).accumulate([x])[0].item() == want > 1 << 53


@pytest.mark.parametrize("mode", ["max", "sum"])
def test_pools(mode):
    rng = np.random.default_rng(2)
    x = rng.integers(-50, 50, (3, 6, 7))
    op = Pool("p", ("x",), "y", mode=mode, kernel=(3, 2), stride=(2, 2), pads=(1, 0, 0, 1), pad_value=-128)
    got = op.accumulate([x])[0]
    padded = np.full((3, 7, 8), -128)
    padded[:, 1:, :7] = x
    for c, r, k in np.ndindex(got.shape):
        window = padded[c, 2 * r:2 * r + 3, 2 * k:2 * k + 2]
        assert got[c, r, k] == (window.max() if mode == "max" else window.sum())


def test_copies():
    x = np.arange(12).reshape(2, 2, 3)
    big = Resize("r", ("x",), "y", factors=(2, 3)).accumulate([x])[0]
    assert all(big[c, r, k] == x[c, r // 2, k // 3] for c, r, k in np.ndindex(big.shape))
    both = Concat("c", ("x", "x"), "y").accumulate([x, x + 1])[0]
    assert (both == np.concatenate([x, x + 1])).all()


def test_exact_functions_of_one_and_two_operands():
    rng = np.random.default_rng(3)
    a, b = rng.integers(-128, 128, (2, 2, 3, 4))
    ratios = (Fraction(1, 3), Fraction(-5, 7)), (Fraction(2, 9), Fraction(1, 4))
    for count in (1, 2):
        function = QuantFunction(ratios[:count], (Fraction(1, 2), Fraction(-3, 8)), Rounding.HALF_EVEN, -40, 30)
        got = apply_exact(function, [a, b][:count])
        for index in np.ndindex(got.shape):
            real = function.offset[index[0]] + sum(
                int(v[index]) * r[index[0]] for v, r in zip([a, b], function.ratios, strict=False)
            )
            assert got[index] == min(max(round_fraction(real, Rounding.HALF_EVEN), -40), 30)


def test_messages():
    network = import_model(conv_model())
    with pytest.raises(CompileError, match="no data for graph input 'x'"):
        evaluate(network, {})
    with pytest.raises(CompileError, match=r"graph input 'x': expected shape \(3, 8, 8\), got \(8, 8\)"):
        evaluate(network, {"x": np.zeros((8, 8))})
    with pytest.raises(CompileError, match="layer 'conv' has no requantization yet"):
        evaluate(network, {"x": np.zeros((3, 8, 8))})


# --- the comparison with qonnx, with planted errors -------------------------------------------------------------


@pytest.fixture(scope="module")
def residual():
    model = residual_model(2)
    return model, prove(import_model(model))


def planted(network, name, **changes):
    return network.with_ops(tuple(replace(op, **changes) if op.name == name else op for op in network.ops))


def op_called(network, name):
    return next(op for op in network.ops if op.name == name)


def differences_of_outputs(model, network, count):
    """Each from the image on: the integer network, and the executor on the model as it is."""
    wrapped, scale, found = prepare(model)[0], float(network.tensors["y"].type.scale[0]), 0
    for image in random_images(network, count, 7):
        ours = evaluate(network, {"x": quantise_input(network, "x", image["x"])})["y"]
        found += int((ours.ravel() != np.rint(run_qonnx(wrapped, image)["y"].ravel() / scale)).sum())
    return found


def test_a_right_network_passes(residual):
    model, network = residual
    report = compare_with_qonnx(model, network, 20, seed=7)
    assert report.ok and report.same_prediction == 20 and report.images == 20
    assert report.values == 20 * sum(network.tensors[op.output].elements for op in network.ops)
    assert report.outputs == 20 * 10
    assert report.output_differences == differences_of_outputs(model, network, 20)


def test_a_wrong_multiplier_is_found(residual):
    model, network = residual
    old = op_called(network, "pointwise").requant
    wrong = MultiplyShift((old.m[0] + old.m[0] // 50,), old.c, old.s, old.lo, old.hi, old.rounding)
    report = compare_with_qonnx(model, planted(network, "pointwise", requant=wrong), 2, seed=7)
    assert {layer.name for layer in report.layers if layer.wrong} == {"pointwise"}
    assert not report.ok and not any(layer.outside for layer in report.layers)
    assert report.output_differences == differences_of_outputs(model, planted(network, "pointwise", requant=wrong), 2)
    assert report.output_differences > 0
    image, *_, expected, got = next(layer for layer in report.layers if layer.wrong).first_wrong
    assert image == 0 and expected != got


@pytest.mark.parametrize("plant", ["weight", "offset", "ratio", "pad"])
def test_a_wrong_import_is_found(residual, plant):
    """The function itself is wrong, so ours and exact arithmetic agree: only the executor can tell."""
    model, network = residual
    op = op_called(network, "stem")
    function = op.function
    if plant == "weight":
        weights = op.weights.copy()
        weights[3, 1, 0, 2] += 1
        changed = planted(network, "stem", weights=weights)
    elif plant == "pad":
        changed = planted(network, "stem", pad_value=1)
    else:
        more = Fraction(1, 20)
        new = replace(function, offset=tuple(o + more for o in function.offset)) if plant == "offset" else \
            replace(function, ratios=(tuple(r * (1 + more / 10) for r in function.ratios[0]),))
        changed = prove(planted(network, "stem", function=new))
    report = compare_with_qonnx(model, changed, 4, seed=7)
    assert not report.ok
    assert {layer.name for layer in report.layers if layer.outside} == {"stem"}


def test_float32_ties_are_counted_not_refused():
    """A sum beyond 2**24 steps rounds in float32; the executor then differs near thresholds only."""
    g = Graph((1, 512, 4, 4), seed=9)
    y = g.conv(g.quant("x", 0.05), 512, 8, 3)
    model = g.model(g.quant(y, 2.7e-4, bits=16))
    network = prove(import_model(model))
    report = compare_with_qonnx(model, network, 4, seed=7)
    assert report.ok and report.float_differences > 0


def test_input_quantisation_is_compared():
    model = conv_model()
    network = prove(import_model(model))
    tensor = network.tensors["x"]
    wrong = replace(tensor, type=replace(tensor.type, scale=(tensor.type.scale[0] * Fraction(101, 100),)))
    report = compare_with_qonnx(model, replace(network, tensors={**network.tensors, "x": wrong}), 1)
    assert report.input_differences > 0 and not report.ok


def test_progress_is_reported():
    model = conv_model()
    seen = []
    compare_with_qonnx(model, prove(import_model(model)), 3, progress=lambda done, all_: seen.append((done, all_)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
