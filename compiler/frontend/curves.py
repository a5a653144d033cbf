# SPDX-License-Identifier: Apache-2.0
"""Element-wise non-linear nodes between two Quants: Sigmoid, Tanh, HardSwish and their like become a Table.

A `Curve` is a real function of the integers of one tensor. Products of two curves of the same tensor are curves too,
which makes SiLU (x * Sigmoid(x)) and decomposed HardSwish tables. The Quant at the end evaluates it for every integer
that the tensor can hold, so the operator is exact whatever the function is.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from nncosim.compiler.frontend import enclosures
from nncosim.compiler.frontend.builder import Builder, Node, Refusal
from nncosim.compiler.frontend.enclosures import MAX_ARGUMENT, UNIT, Real
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.values import Affine, Curve, Quantised, Value
from nncosim.compiler.ir.network import Proof, TensorType
from nncosim.compiler.ir.operators import Requantize, Table
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.platforms.rounding import Rounding

__all__ = ["FUNCTIONS", "element_function", "product", "scaled", "write_table"]

_DIGITS = (30, 200, 4000)
"""Decimal digits that are tried one after the other until a rounding is decided."""

_TERMS = 4
"""Roundings in float32 between the integers and a node's input: dequantization and what was folded."""

Element = Callable[[Node], Callable[[Real, int], Real]]


def _number(node: Node, name: str, default: float) -> Fraction:
    return Fraction(float(np.float32(node.attributes.get(name, default))))  # type: ignore[arg-type]


def _elu(node: Node) -> Callable[[Real, int], Real]:
    alpha = _number(node, "alpha", 1.0)
    return lambda x, digits: enclosures.elu(x, digits, alpha)


def _hard_sigmoid(node: Node) -> Callable[[Real, int], Real]:
    alpha, beta = _number(node, "alpha", 0.2), _number(node, "beta", 0.5)
    return lambda x, digits: enclosures.hard_sigmoid(x, alpha, beta)


def _hard_swish(node: Node) -> Callable[[Real, int], Real]:
    return lambda x, digits: enclosures.product(x, enclosures.hard_sigmoid(x, Fraction(1, 6), Fraction(1, 2)))


def _leaky_relu(node: Node) -> Callable[[Real, int], Real]:
    alpha = _number(node, "alpha", 0.01)
    return lambda x, digits: enclosures.leaky_relu(x, alpha)


FUNCTIONS: dict[str, Element] = {
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Sigmoid": lambda node: enclosures.sigmoid,
    "Softplus": lambda node: enclosures.softplus,
    "Tanh": lambda node: enclosures.tanh,
}
"""ONNX operator to its function, attributes read. Attributes are the float32 numbers that the model holds."""


def element_function(builder: Builder, node: Node) -> Curve:
    """A node of `FUNCTIONS` on quantised data."""
    source = _curve(builder, node.input(0))
    inner, outer = source.real, FUNCTIONS[node.op](node)

    def real(q: int, digits: int) -> Real:
        x = inner(q, digits)
        if x.size > MAX_ARGUMENT:
            raise Refusal(f"its input reaches {float(x.lo):.6g}, beyond +-{MAX_ARGUMENT}",
                          "use a smaller input scale", (node.name, node.op))  # fmt: skip
        return outer(x, digits)

    return Curve(source.tensor, source.extents, source.shape, real, (*source.nodes, node.name))


def product(builder: Builder, node: Node) -> Curve:
    """Mul of two values that are functions of the same tensor."""
    a, b = (_curve(builder, node.input(i)) for i in range(2))
    if a.tensor != b.tensor or a.shape != b.shape:
        raise Refusal("multiplying two activations is not supported, unless both are functions of one quantised tensor",
                      "use no Quant between the two that are multiplied")  # fmt: skip
    f, g = a.real, b.real
    nodes = tuple(dict.fromkeys((*a.nodes, *b.nodes, node.name)))

    def real(q: int, digits: int) -> Real:
        return enclosures.product(f(q, digits), g(q, digits))

    return Curve(a.tensor, a.extents, a.shape, real, nodes)


def scaled(curve: Curve, factors: np.ndarray | None, shifts: np.ndarray | None, node: Node) -> Curve:
    """factor * curve + shift; the arrays hold one Fraction a channel."""
    inner = curve.real
    numbers = []
    for given, neutral in ((factors, 1), (shifts, 0)):
        values = {Fraction(neutral)} if given is None else set(given.tolist())
        if len(values) > 1:
            raise Refusal("the constant differs from channel to channel, but there is one table for all",
                          "use one number")  # fmt: skip
        numbers.append(values.pop())
    factor, shift = numbers
    return Curve(curve.tensor, curve.extents, curve.shape,
                 lambda q, digits: inner(q, digits).affine(factor, shift), (*curve.nodes, node.name))  # fmt: skip


def _curve(builder: Builder, value: Value | None) -> Curve:
    """A value as a function of the integers of one tensor; refused where it is none, or varies with the channel."""
    if isinstance(value, Curve):
        return value
    if not (isinstance(value, Affine) and isinstance(value.op, Requantize)):
        value = builder.quantised(value)
    nodes = value.nodes if isinstance(value, Affine) else ()
    form = builder.affine(value)
    tensor = form.op.inputs[0]
    kind = builder.tensors[tensor].type
    if kind.lo < (-128 if kind.signed else 0) or kind.hi > (127 if kind.signed else 255):
        raise Refusal(f"its input has {kind.bits} bits, a table of 256 values takes at most 8",
                      "quantise the input to 8 bits or less")  # fmt: skip
    if len({*zip(form.ratios[0], form.offset, form.low, form.high, strict=True)}) > 1:
        raise Refusal("its input is scaled differently from channel to channel, but there is one table for all",
                      "use a per-tensor scale for the input")  # fmt: skip
    ratio, offset, low, high = form.ratios[0][0], form.offset[0], form.low[0], form.high[0]
    magnitude = Fraction(max(form.magnitude))

    def real(q: int, digits: int) -> Real:
        x = q * ratio + offset
        return Real(x, x, _TERMS * UNIT * (abs(q * ratio) + magnitude)).clip(low, high)

    return Curve(tensor, form.extents, form.shape, real, nodes)


def write_table(builder: Builder, node: Node, curve: Curve, kind: TensorType, rounding: Rounding) -> Quantised:
    """Quantise a curve: a Table with the exact result for each integer of its tensor."""
    if len(kind.scale) > 1:
        raise Refusal("per-channel scales are not supported here", "use a per-tensor scale")
    source = builder.type_of(Quantised(curve.tensor, curve.shape))
    rows = {q: _row(curve, q, kind, rounding) for q in range(source.lo, source.hi + 1)}
    ends = min(r[0] for r in rows.values()), max(r[0] for r in rows.values())
    whole = []
    for byte in range(256):  # integers that the tensor cannot hold get the nearest one's value
        q = byte - 256 if source.signed and byte > 127 else byte
        whole.append(rows[min(max(q, source.lo), source.hi)])
    output = unique_name(node.outputs[0], builder.tensors)
    made = TensorType(kind.bits, kind.signed, kind.scale, kind.zero_point, *ends)
    builder.add_tensor(output, curve.extents, made, node.outputs[0])
    channels = curve.extents["C"]
    proof = Proof(True, channels, channels, checked_values=len(rows), acc_lo=ends[0], acc_hi=ends[1])
    builder.ops.append(Table(
        builder.op_name(curve.nodes[0]), (curve.tensor,), output, onnx_nodes=(*curve.nodes, node.name), proof=proof,
        values=tuple(r[0] for r in whole), nearby=tuple((r[1], r[2]) for r in whole),
    ))  # fmt: skip
    return Quantised(output, curve.shape)


def _row(curve: Curve, q: int, kind: TensorType, rounding: Rounding) -> tuple[int, int, int]:
    """(the exact result, the lowest and the highest that float32 may give) for one input integer."""

    def rounded(value: Fraction) -> int:
        return min(max(round_fraction(value, rounding), kind.lo), kind.hi)

    for digits in _DIGITS:
        real = curve.real(q, digits).affine(1 / kind.scale[0], Fraction(kind.zero_point))
        value = rounded(real.lo)
        if value == rounded(real.hi):
            return value, rounded(real.lo - real.error), rounded(real.hi + real.error)
    raise Refusal(f"the result for the input integer {q} cannot be told from a rounding threshold",
                  "use another output scale")  # fmt: skip
