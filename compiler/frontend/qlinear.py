# SPDX-License-Identifier: Apache-2.0
"""QLinear operators, ONNX's and onnxruntime's (domain com.microsoft).

Each is an operator on reals between a DequantizeLinear of each input and a QuantizeLinear of the output, with their
scales and zero points as inputs of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from nncosim.compiler.frontend import curves, elementwise, layers, moved
from nncosim.compiler.frontend.builder import Builder, Handler, Node, Refusal
from nncosim.compiler.frontend.linear import dequantized, linear_parameters, spread
from nncosim.compiler.frontend.quant import constant_scale, same_number
from nncosim.compiler.frontend.values import Constant, Integers, Moved, QuantConstant, Value
from nncosim.compiler.ir.host import inverse

__all__ = ["OPERATORS", "qlinear"]


@dataclass(frozen=True)
class _Operator:
    """`op`, `handler`: the operator on reals. `reads`: where each (integers, scale, zero point) begins. `writes`: where
    the output's (scale, zero point) does. `bias`: an input of 32-bit integers with the product of both scales."""

    op: str
    handler: Handler
    reads: tuple[int, ...]
    writes: int
    bias: int | None = None


OPERATORS: Mapping[str, _Operator] = {
    "QGemm": _Operator("Gemm", layers.gemm, (0, 3), 7, bias=6),
    "QLinearAdd": _Operator("Add", elementwise.add, (0, 3), 6),
    "QLinearAveragePool": _Operator("AveragePool", layers.average_pool, (0,), 3),
    "QLinearConcat": _Operator("Concat", elementwise.concat, (), 0),
    "QLinearConv": _Operator("Conv", layers.conv, (0, 3), 6, bias=8),
    "QLinearGlobalAveragePool": _Operator("GlobalAveragePool", layers.global_average_pool, (0,), 3),
    "QLinearLeakyRelu": _Operator("LeakyRelu", curves.element_function, (0,), 3),
    "QLinearMatMul": _Operator("MatMul", layers.gemm, (0, 3), 6),
    "QLinearMul": _Operator("Mul", elementwise.multiply, (0, 3), 6),
    "QLinearSigmoid": _Operator("Sigmoid", curves.element_function, (0,), 3),
}


def _zero(node: Node, index: int) -> np.ndarray | None:
    return None if node.input(index) is None else node.constant(index, "a zero point")


def _axis(node: Node) -> int:
    """The output channels in the second input of a Conv, Gemm or MatMul."""
    return 0 if node.op == "QLinearConv" or node.integer("transB", 0) else 1


def _bias(node: Node, index: int) -> QuantConstant | None:
    """The bias, 32-bit integers that count in products of the input's scale and the weights'."""
    if node.input(index) is None:
        return None
    ints = node.constant(index, "the bias").astype(np.int64)
    scales = (constant_scale(node.constant(i, "a scale"), "a scale").astype(np.float64).ravel() for i in (1, 4))
    product = np.prod(np.broadcast_arrays(*scales), axis=0)  # exact: a product of two float32 fits float64
    return QuantConstant(ints, np.broadcast_to(product if product.size > 1 else product.reshape(()), ints.shape), 32)


def qlinear(builder: Builder, node: Node) -> Value:
    """Any operator of `OPERATORS`."""
    known = OPERATORS[node.op]
    if node.integer("channels_last", 0):
        raise Refusal("channels_last=1 is not supported", "keep activations in NCHW order")
    reads = known.reads or tuple(range(2, len(node.inputs), 3))
    inputs: list[Value | None] = []
    for at in reads:
        scale = node.constant(at + 1, "a scale")
        zero = _zero(node, at + 2)
        if node.op == "QLinearMatMul":  # a row of scales may be written as (1, N)
            scale, zero = scale.ravel(), None if zero is None else zero.ravel()
        value = node.input(at)
        if isinstance(value, Moved):
            real = dequantized(builder, node, value.inner, scale, zero, _axis(node))
            inputs.append(replace(value, inner=real))  # type: ignore[arg-type]
        else:
            inputs.append(dequantized(builder, node, value, scale, zero, _axis(node)))
    attributes = dict(node.attributes)
    if known.bias is not None:
        inputs.append(_bias(node, known.bias))
        if node.op == "QGemm":  # its alpha scales the sum with the bias in it
            attributes["beta"] = attributes.get("alpha", 1.0)
    real_node = replace(node, op=known.op, inputs=tuple(inputs), attributes=attributes)
    result = moved.handled(builder, real_node, known.handler)
    if node.input(known.writes) is None:
        return result  # a QGemm of float output
    return _integers(node, known.writes, result)


def _integers(node: Node, at: int, result: Value) -> Value:
    """The result, to be quantised with the output's scale and zero point."""
    if isinstance(result, Constant | QuantConstant):
        raise Refusal("all inputs are constants", "fold them, as onnxruntime's optimizer does")
    zero = _zero(node, at + 1)
    scale = spread(constant_scale(node.constant(at, "the output's scale"), "the output's scale"), 1, 1, "the scale")
    number = 0 if zero is None else same_number(zero.astype(np.int64), "the output's zero point")
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    parameters = linear_parameters(scale, number, dtype)
    if isinstance(result, Moved):
        back = inverse(result.steps, result.inner.shape)
        made = Integers(result.inner, parameters, (node.name, node.op), node.outputs[0], back)  # type: ignore[arg-type]
        return replace(result, inner=made)
    return Integers(result, parameters, (node.name, node.op), node.outputs[0])  # type: ignore[arg-type]
