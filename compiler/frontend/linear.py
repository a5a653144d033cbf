# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear, and what may stand between them: nodes that move integers, or clip them.

A QuantizeLinear is a Quant but for one thing: its zero point is added after rounding half to even, so that with an odd
one ties go to the odd integer. A DequantizeLinear names what integers mean; where it names another scale or zero point
than the QuantizeLinear before it, the integers are copied into a tensor of that meaning.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from nncosim.compiler.frontend.builder import Builder, Handler, Node, Refusal
from nncosim.compiler.frontend.moved import LAYOUT_OPS
from nncosim.compiler.frontend.quant import (
    constant_scale,
    quantise,
    quantise_linear_float32,
    same_number,
    tensor_type,
)
from nncosim.compiler.frontend.values import (
    Constant,
    FloatInput,
    Integers,
    Moved,
    Parts,
    QuantConstant,
    Quantised,
    QuantParameters,
    Value,
)
from nncosim.compiler.ir.host import inverse
from nncosim.platforms.rounding import Rounding
from onnx import TensorProto, helper

__all__ = [
    "TAKERS", "are_integers", "dequantize_linear", "dequantized", "graph_input", "linear_parameters", "on_integers",
    "quantize_linear", "spread", "write",
]

TAKERS = ("DequantizeLinear", "QuantizeLinear")
"""Beside the QLinear operators: handlers that take integers as they are."""
_MOVES = (*LAYOUT_OPS, "Concat", "MaxPool", "Resize", "Upsample")


def _integer_type(dtype: np.dtype) -> tuple[int, bool]:
    """(bits, signed) of an integer type, those of `ml_dtypes` (4 bits, 2 bits) included."""
    found = re.fullmatch(r"(u?)int(\d+)", dtype.name)
    if found is None:
        raise Refusal(f"expected integers, got {dtype.name}", "quantise to integers of 16 bits or less")
    return int(found[2]), not found[1]


def spread(array: np.ndarray, axis: int, rank: int, what: str) -> np.ndarray:
    """One number, or one for each index of an axis, so that it broadcasts against an array of that rank."""
    if array.size == 1:
        return array.reshape(())
    if array.ndim != 1:
        raise Refusal(f"{what} has shape {array.shape}: blocks of an axis with scales of their own are not supported",
                      "quantise per tensor or per channel")  # fmt: skip
    return array.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _range(dtype: np.dtype) -> tuple[int, bool, int, int]:
    """(bits, signed, lo, hi)."""
    bits, signed = _integer_type(dtype)
    return bits, signed, -(1 << bits - 1) if signed else 0, (1 << bits - signed) - 1


def linear_parameters(scale: np.ndarray, zero: int, dtype: np.dtype) -> QuantParameters:
    """Of a QuantizeLinear to integers of type `dtype`; `scale` broadcasts against the activation."""
    rounding = Rounding.HALF_ODD if zero % 2 else Rounding.HALF_EVEN
    bits, signed, low, high = _range(dtype)
    return QuantParameters(scale, zero, bits, signed, low, high, rounding, linear=True)


def graph_input(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Integers:
    """A graph input of integers, whose scale is not known yet."""
    return Integers(FloatInput(name, shape), linear_parameters(np.array(np.nan), 0, dtype), (name, ""), name)


def _output_type(node: Node) -> np.dtype:
    if node.input(2) is not None:
        return node.constant(2, "the zero point").dtype
    return helper.tensor_dtype_to_np_dtype(node.integer("output_dtype", 0) or TensorProto.UINT8)


def quantize_linear(builder: Builder, node: Node) -> Value:
    """QuantizeLinear: of a constant its integers; of an activation what is written once it is read."""
    value = node.input(0)
    if value is None or isinstance(value, Integers):
        raise Refusal("expected floats, got integers", "put a DequantizeLinear before this node")
    dtype = _output_type(node)
    shape, axis = _shape(value), node.integer("axis", 1)
    zeros = node.constant(2, "the zero point").astype(np.int64) if node.input(2) is not None else np.zeros((), int)
    scale = constant_scale(node.constant(1, "the scale"), "the scale")
    scale = spread(scale, axis, len(shape), "the scale")
    if isinstance(value, Constant | QuantConstant):
        real = value.array if isinstance(value, Constant) else value.ints.astype(np.float32) * value.scale
        zeros = spread(zeros, axis, len(shape), "the zero point")
        return Constant(quantise_linear_float32(real, scale, zeros, *_range(dtype)[2:]).astype(dtype))
    parameters = linear_parameters(scale, same_number(zeros, "the zero point"), dtype)
    return Integers(value, parameters, (node.name, node.op), node.outputs[0])  # type: ignore[arg-type]


def _shape(value: Value) -> tuple[int, ...]:
    return value.shape  # type: ignore[union-attr]


def write(builder: Builder, value: Integers) -> Quantised:
    """The integers in a tensor; they are written once, whoever reads them."""
    if not value.has_scale:
        raise Refusal("the scale of the graph input's integers is not known here", "put a DequantizeLinear before this")
    if value.output not in builder.written:
        builder.written[value.output] = _quantised(builder, value, value.parameters)
    return builder.written[value.output]


def _quantised(builder: Builder, value: Integers, parameters: QuantParameters) -> Quantised:
    node = Node(*value.node, (), (value.output,), {})
    try:
        return builder.in_layout(
            value.back, node.outputs, lambda: quantise(builder, node, value.source, parameters)
        )
    except Refusal as refusal:  # the node at fault is the quantiser, not the one that reads it
        raise Refusal(refusal.expected, refusal.remedy, refusal.where or value.node) from None


def dequantized(
    builder: Builder, node: Node, value: Value | None, scale: np.ndarray, zero: np.ndarray | None, axis: int,
) -> QuantConstant | Quantised:
    """Integers as the reals (q - zero) * scale. `axis`: of the integers, where there are several scales."""
    scale = constant_scale(scale, "the scale")
    zeros = np.zeros((), np.int64) if zero is None else np.asarray(zero).astype(np.int64)
    if isinstance(value, Constant):
        return _constant(value.array, scale, zeros, axis)
    if not isinstance(value, Integers):
        raise Refusal("expected integers, got floats", "put a QuantizeLinear before this node")
    scale = spread(scale, axis, len(value.shape), "the scale")
    named = replace(value.parameters, scale=scale, zero_point=same_number(zeros, "the zero point"))
    if not value.has_scale:
        rounding = Rounding.HALF_ODD if named.zero_point % 2 else Rounding.HALF_EVEN
        return _quantised(builder, value, replace(named, rounding=rounding))
    known = write(builder, value)
    kind = tensor_type(named, known.shape, builder.extents(known))
    old = builder.type_of(known)
    if (old.scale, old.zero_point) == (kind.scale, kind.zero_point):
        return known
    if node.op != "DequantizeLinear":
        raise Refusal("the integers are read with another scale or zero point than they were made with",
                      "put a DequantizeLinear and a QuantizeLinear between the two")  # fmt: skip
    form = builder.affine(replace(known, kind=kind))  # the same integers with the other meaning
    return builder.emit(form, replace(kind, lo=old.lo, hi=old.hi), Rounding.HALF_EVEN, node)


def _constant(array: np.ndarray, scale: np.ndarray, zeros: np.ndarray, axis: int) -> QuantConstant:
    """A constant's integers without their zero point, which may take one bit more than with it."""
    bits, _ = _integer_type(array.dtype)
    rank = array.ndim
    ints = array.astype(np.int64) - spread(zeros, axis, rank, "the zero point")
    ends = (int(ints.min()), int(ints.max())) if ints.size else (0, 0)
    if zeros.any():
        bits = max(bits, *((e if e >= 0 else ~e).bit_length() + 1 for e in ends))
    try:
        whole = np.broadcast_to(spread(scale, axis, rank, "the scale"), ints.shape)
    except ValueError:
        raise Refusal(f"the scale's shape {scale.shape} does not fit axis {axis} of {ints.shape}") from None
    return QuantConstant(ints, whole, bits)


def dequantize_linear(builder: Builder, node: Node) -> Value:
    """DequantizeLinear of a constant, or of integers that a QuantizeLinear made."""
    zero = None if node.input(2) is None else node.constant(2, "the zero point")
    return dequantized(builder, node, node.input(0), node.constant(1, "the scale"), zero, node.integer("axis", 1))


def are_integers(value: Value | None) -> bool:
    """Whether an ONNX value is of integer type, in whatever layout."""
    return isinstance(value.inner if isinstance(value, Moved) else value, Integers)


def on_integers(handler: Handler, builder: Builder, node: Node) -> Value:
    """A standard node on integers: those that move them do so whatever they mean; Clip and Relu narrow their range."""
    value = next(v for v in node.inputs if are_integers(v))
    first = value.inner if isinstance(value, Moved) else value
    assert isinstance(first, Integers)
    if node.op in ("Clip", "Relu"):
        narrow = _clipped(node, first)
        return replace(value, inner=narrow) if isinstance(value, Moved) else narrow
    if node.op not in _MOVES:
        raise Refusal(f"{node.op} of integers is not supported", "put a DequantizeLinear before this node")
    if not first.has_scale:
        if node.op not in LAYOUT_OPS:
            raise Refusal("the scale of the graph input's integers is not known here",
                          "put a DequantizeLinear before this node")  # fmt: skip
        moved = handler(builder, replace(node, inputs=(first.source, *node.inputs[1:])))
        return replace(first, source=moved, output=node.outputs[0])  # type: ignore[arg-type]
    result = handler(builder, replace(node, inputs=tuple(_stored(builder, v) for v in node.inputs)))
    inner = result.inner if isinstance(result, Moved) else result
    if isinstance(inner, Parts):
        inner = builder.concatenate(inner)
    if not isinstance(inner, Quantised):
        raise Refusal(f"{node.op} of integers is not supported", "put a DequantizeLinear before this node")
    builder.written[node.outputs[0]] = inner
    back = inverse(result.steps, inner.shape) if isinstance(result, Moved) else ()
    made = Integers(inner, first.parameters, (node.name, node.op), node.outputs[0], back)
    return replace(result, inner=made) if isinstance(result, Moved) else made


def _stored(builder: Builder, value: Value | None) -> Value | None:
    """Integers, in whatever layout, in a tensor; anything else as it is."""
    if isinstance(value, Moved) and isinstance(value.inner, Integers):
        return replace(value, inner=write(builder, value.inner))
    return write(builder, value) if isinstance(value, Integers) else value


def _clipped(node: Node, value: Integers) -> Integers:
    """Clip and Relu act on the integers themselves: the zero point has no part in it."""
    low, high = value.parameters.lo, value.parameters.hi
    if node.op == "Relu":
        low = max(low, 0)
    else:
        bounds = [None if node.input(i) is None else int(node.constant(i, "a bound of Clip").item()) for i in (1, 2)]
        low = low if bounds[0] is None else min(max(low, bounds[0]), high)
        high = high if bounds[1] is None else max(min(high, bounds[1]), low)
    return replace(value, parameters=replace(value.parameters, lo=low, hi=high), node=(node.name, node.op),
                   output=node.outputs[0])  # fmt: skip
