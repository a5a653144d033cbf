# SPDX-License-Identifier: Apache-2.0
"""Element-wise non-linear nodes as tables: every entry against double precision and qonnx's executor."""

import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from models import Graph
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.frontend.enclosures import Real, elu, leaky_relu, sigmoid, softplus, tanh
from nncosim.compiler.frontend.quant import ROUNDINGS
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.operators import Requantize, Table
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx
from nncosim.compiler.proof.requantization import prove

FUNCTIONS = {
    "Sigmoid": ({}, lambda x: 1 / (1 + math.exp(-x))),
    "Tanh": ({}, math.tanh),
    "HardSigmoid": ({"alpha": 0.25, "beta": 0.5}, lambda x: min(max(x / 4 + 0.5, 0), 1)),
    "HardSwish": ({}, lambda x: x * min(max(x / 6 + 0.5, 0), 1)),
    "LeakyRelu": ({"alpha": 0.125}, lambda x: x if x > 0 else x / 8),
    "Elu": ({"alpha": 1.5}, lambda x: x if x > 0 else 1.5 * math.expm1(x)),
    "Softplus": ({}, lambda x: math.log1p(math.exp(x))),
}
INPUTS = [{}, {"signed": 0}, {"bits": 4}, {"narrow": 1}, {"signed": 0, "zero": 100}, {"signed": 1, "zero": -3}]


def every_integer(kind):
    """A map with each integer of a type."""
    return np.resize(np.arange(kind.lo, kind.hi + 1), (1, 1, 16, 16))


def one_node(op, *, scale=0.05, out=None, opset=14, source=None, **attributes):
    g = Graph((1, 1, 16, 16), opset=opset)
    y = g.node(op, [g.quant("x", scale, **(source or {}))], name="curve", **attributes)
    return g.model(g.quant(y, **{"scale": 1 / 60, "name": "y", **(out or {})}))


def check(model, kinds=("table",), values=None):
    """Import; every integer of the input gives what qonnx's executor gives, but for float32's error. The network."""
    network = prove(import_model(model))
    assert tuple(op.kind for op in network.ops) == kinds
    kind = network.tensors["x"].type
    integers = every_integer(kind) if values is None else values
    image = ((integers - kind.zero_point) * float(kind.scale[0])).astype(np.float32)
    report = compare_with_qonnx(model, network, [{"x": image}])
    assert report.ok, report.layers
    assert report.float_differences <= 8 * 256 // (kind.hi - kind.lo + 1)
    ours = evaluate(network, {"x": integers[0]})
    assert all((ours[n] == v).all() for n, v in evaluate(network, {"x": integers[0]}, exact=True).items())
    for name, value in ours.items():
        assert network.tensors[name].type.lo <= value.min() and value.max() <= network.tensors[name].type.hi
    return network


def entries(network):
    """(integer, real input, output integer) of a network that is one table."""
    (op,) = network.ops
    kind = network.tensors[op.inputs[0]].type
    for q in range(kind.lo, kind.hi + 1):
        yield q, (q - kind.zero_point) * kind.scale[0], op.values[q & 255]


@pytest.mark.parametrize("source", INPUTS, ids=str)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op, source):
    """In double precision, which decides all entries that are not within 1e-9 of a threshold."""
    attributes, function = FUNCTIONS[op]
    network = check(one_node(op, source=source, **attributes))
    (table,) = network.ops
    assert table.proof.exact and table.function is None and len(table.values) == len(table.nearby) == 256
    scale = float(network.tensors["y"].type.scale[0])
    decided = 0
    for _, x, got in entries(network):
        real = min(max(function(float(x)) / scale, -128), 127)
        if abs(real - math.floor(real) - 0.5) > 1e-9:
            assert got == round(real)
            decided += 1
    assert decided >= network.tensors["x"].type.hi - network.tensors["x"].type.lo - 2
    assert sum(low != high for low, high in table.nearby) < 24


@pytest.mark.parametrize("rounding", ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
def test_leaky_relu_meets_ties_in_every_rounding(rounding):
    """All of it is rational: x / 8 in steps of 2 * scale has a tie at every 16th integer."""
    model = one_node("LeakyRelu", scale=0.5, out={"scale": 1.0, "rounding": rounding}, alpha=0.125)
    network = check(model)
    for _, x, got in entries(network):
        assert got == round_fraction(x if x > 0 else x / 8, ROUNDINGS[rounding])


def test_narrow_types_and_zero_points_of_the_output():
    network = check(one_node("Tanh", out={"bits": 4, "narrow": 1, "scale": 0.1, "zero": -2}))
    assert network.tensors["y"].type.bits == 4
    assert {v for _, _, v in entries(network)} == set(range(-7, 8))
    check(one_node("Sigmoid", out={"signed": 0, "scale": 1 / 255}))


@pytest.mark.parametrize(("rounding", "ends"), [("FLOOR", (-1, 0)), ("CEIL", (0, 1)), ("ROUND", (-1, 1))])
def test_roundings_that_only_many_digits_decide(rounding, ends):
    """tanh(1270) is below 1 by 10**-1103, which float32 and double cannot tell from 1."""
    network = prove(import_model(one_node("Tanh", scale=10.0, out={"scale": 1.0, "rounding": rounding})))
    (op,) = network.ops
    assert (op.values[129], op.values[127]) == ends
    assert op.values[0] == 0
    assert op.nearby[127] == ((0, 1) if rounding == "FLOOR" else (1, 1) if rounding == "ROUND" else (1, 2))


def test_half_of_sigmoid_is_a_tie():
    values = import_model(one_node("Sigmoid", out={"scale": 1.0})).ops[0].values
    assert (values[255], values[0], values[1]) == (0, 0, 1)


def test_products_of_functions_of_one_tensor():
    """SiLU, decomposed HardSwish, Mish."""
    def model(build):
        g = Graph((1, 1, 16, 16), opset=14)
        x = g.quant("x", 0.05)
        return g.model(g.quant(build(g, x), 1 / 20, name="y"))

    def silu(g, x):
        return g.node("Mul", [x, g.node("Sigmoid", [x])])

    def hard_swish(g, x):
        wide = g.node("Clip", [g.node("Add", [x, g.constant(3)]), g.constant(0), g.constant(6)])
        return g.node("Div", [g.node("Mul", [wide, x]), g.constant(6)])

    def mish(g, x):
        return g.node("Mul", [x, g.node("Tanh", [g.node("Softplus", [x])])])

    def shifted(g, x):
        return g.node("Add", [g.node("Mul", [g.node("Sigmoid", [g.node("Relu", [x])]), g.constant(-2)]), g.constant(1)])

    found = {}
    for build in (silu, hard_swish, mish, shifted):
        found[build] = check(model(build)).ops[0].values
    assert found[hard_swish] == import_model(one_node("HardSwish", out={"scale": 1 / 20})).ops[0].values
    double = {
        silu: lambda x: x / (1 + math.exp(-x)), mish: lambda x: x * math.tanh(math.log1p(math.exp(x))),
        shifted: lambda x: 1 - 2 / (1 + math.exp(-max(x, 0))),
    }  # fmt: skip
    for build, function in double.items():
        for q in range(-128, 128):
            assert found[build][q & 255] == round(function(q * float(np.float32(0.05))) / float(np.float32(0.05)))


def small_model():
    """conv -> Quant -> Sigmoid -> Quant -> conv, the sigmoid read twice."""
    g = Graph((1, 3, 7, 9), seed=3)
    a = g.quant(g.conv(g.quant("x", 0.05), 3, 20), 0.1, name="a")
    s = g.node("Sigmoid", [a], name="s")
    left, right = g.quant(s, 1 / 255, signed=0, name="left"), g.quant(s, 1 / 120, name="right")
    g.quant(g.conv(left, 20, 5, 1), 0.05, name="y")
    return g.model("y", g.quant(g.conv(right, 20, 6, 1), 0.05, name="z"))


def test_a_small_network_against_qonnx():
    model = small_model()
    network = prove(import_model(model))
    assert [op.kind for op in network.ops] == ["conv", "table", "table", "conv", "conv"]
    assert all(op.proof.exact for op in network.ops)
    report = compare_with_qonnx(model, network, 5, seed=2)
    assert report.ok and report.values > 20_000 and report.float_differences < report.values // 10_000


def test_a_wrong_entry_is_seen():
    model = one_node("Sigmoid")
    network = import_model(model)
    (op,) = network.ops
    values = list(op.values)
    values[17] += 1
    wrong = network.with_ops((replace(op, values=tuple(values)),))
    image = every_integer(network.tensors["x"].type) * np.float32(0.05)
    report = compare_with_qonnx(model, wrong, [{"x": image.astype(np.float32)}])
    assert not report.ok and report.layers[0].outside == 1


def refused(model, pattern):
    with pytest.raises(ModelError) as caught:
        import_model(model)
    assert re.search(pattern, str(caught.value)), str(caught.value)


def test_messages():
    refused(one_node("Sigmoid", source={"bits": 9}), r"Sigmoid 'curve': its input has 9 bits, .*at most 8; quantise")
    refused(one_node("Sigmoid", scale=40.0), r"Sigmoid 'curve': its input reaches -5120, beyond \+-4096; use a smaller")
    g = Graph((1, 4, 8, 8))
    x = g.quant("x", np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1) / 50)
    refused(g.model(g.quant(g.node("Tanh", [x], name="t"), 0.01)), r"Tanh 't': .*channel to channel.*use a per-tensor")
    g = Graph((1, 4, 8, 8))
    t = g.node("Tanh", [g.conv(g.quant("x"), 4, 4)], name="t")
    refused(g.model(g.quant(t)), r"Tanh 't': the input is not quantised \(a float.*add a Quant")
    g = Graph((1, 4, 8, 8))
    t = g.node("Tanh", [g.quant("x")], name="t")
    refused(g.model(t), r"Tanh 't': this graph output is a float; add an output Quant")
    g = Graph((1, 4, 8, 8))
    t = g.conv(g.node("Tanh", [g.quant("x")]), 4, 4, name="c")
    refused(g.model(g.quant(t)), r"Conv 'c': the input is not quantised \(a float lies between")
    g = Graph((1, 4, 8, 8))
    x = g.quant("x")
    t = g.node("Mul", [x, g.quant(g.node("Sigmoid", [x]), 0.01)], name="m")
    refused(g.model(g.quant(t)), r"Mul 'm': multiplying two activations .*; use no Quant between")
    g = Graph((1, 4, 8, 8))
    t = g.node("Mul", [g.node("Tanh", [g.quant("x")]), g.constant(np.arange(4).reshape(1, 4, 1, 1))], name="m")
    refused(g.model(g.quant(t)), r"Mul 'm': the constant differs from channel to channel")
    g = Graph((1, 4, 8, 8))
    scale = np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1) / 50
    refused(g.model(g.quant(g.node("Tanh", [g.quant("x")]), scale, name="q")), r"Quant 'q': per-channel scales are not")


@pytest.mark.parametrize("function", [sigmoid, tanh, softplus, lambda x, digits: elu(x, digits, Fraction(-2))])
def test_enclosures_nest(function):
    """More digits give an interval within the one of fewer digits, and an interval's value holds that of its points."""
    for number in (Fraction(-37, 3), Fraction(-1, 10**40), Fraction(0), Fraction(1, 7), Fraction(50)):
        wide, narrow = (function(Real(number, number), digits) for digits in (20, 60))
        assert wide.lo <= narrow.lo <= narrow.hi <= wide.hi
        assert narrow.hi - narrow.lo <= Fraction(1, 10**55)
        spread = function(Real(number - Fraction(1, 9), number + Fraction(1, 9)), 20)
        assert spread.lo <= narrow.lo and narrow.hi <= spread.hi


def test_leaky_relu_of_an_interval():
    x = Real(Fraction(-2), Fraction(3))
    assert (leaky_relu(x, Fraction(1, 2)).lo, leaky_relu(x, Fraction(1, 2)).hi) == (-1, 3)
    assert (leaky_relu(x, Fraction(-2)).lo, leaky_relu(x, Fraction(-2)).hi) == (0, 4)


def test_a_table_is_not_a_requantize():
    network = import_model(one_node("Sigmoid"))
    assert isinstance(network.ops[0], Table) and not isinstance(network.ops[0], Requantize)
    assert network.ops[0].onnx_nodes == ("curve", "y")
