# SPDX-License-Identifier: Apache-2.0
"""Nodes on a float graph input: the user's host computes them before the input is quantised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from nncosim.compiler.frontend.builder import Builder, Node, Refusal
from nncosim.compiler.frontend.values import Constant, FloatInput, QuantConstant, Quantised, Value
from nncosim.compiler.ir.host import HostStep, shapes_of
from nncosim.compiler.ir.network import TensorType
from nncosim.platforms.rounding import Rounding

__all__ = ["after", "arithmetic", "clipped", "moved", "network_input"]


def _float32(value: Value | None) -> np.ndarray:
    if isinstance(value, QuantConstant):
        return value.ints.astype(np.float32) * value.scale
    if isinstance(value, Constant):
        return value.array.astype(np.float32)
    raise Refusal("expected a constant operand, got two activations")


def after(value: FloatInput, node: Node, *steps: HostStep) -> FloatInput:
    """A graph input after arithmetic by constants that do not enlarge it."""
    for step in steps:
        full = np.broadcast_shapes(step.numbers, value.shape)
        if full != value.shape:
            raise Refusal(f"the constant of shape {step.numbers} enlarges the graph input {value.shape}",
                          "use one number, or one per channel")  # fmt: skip
    return replace(value, steps=(*value.steps, *steps), at=node.outputs[0])


def arithmetic(node: Node) -> FloatInput:
    """Add, Sub, Mul or Div of a float graph input and a constant, in either order."""
    first, second = node.input(0), node.input(1)
    if isinstance(first, FloatInput):
        constant = _float32(second)
        if node.op == "Div" and (constant == 0).any():
            raise Refusal("division by zero")
        return after(first, node, HostStep.by(node.op, constant))
    if not isinstance(second, FloatInput):
        raise Refusal("expected a graph input")
    steps = [HostStep.by("Add" if node.op == "Sub" else node.op, _float32(first))]
    if node.op == "Div":
        raise Refusal("a constant divided by an activation is not supported")
    if node.op == "Sub":  # c - x is -x + c, with the same rounding
        steps.insert(0, HostStep.by("Mul", np.array(-1)))
    return after(second, node, *steps)


def clipped(value: FloatInput, node: Node, low: object, high: object) -> FloatInput:
    """Relu or Clip of a float graph input; None: no bound."""
    bounds = (("Max", low), ("Min", high))
    return after(value, node, *(HostStep.by(op, np.array(float(b))) for op, b in bounds if b is not None))  # type: ignore[arg-type]


def moved(value: FloatInput, node: Node, op: str, numbers: tuple[int, ...]) -> FloatInput:
    """Reshape to, or Transpose by, `numbers`."""
    steps = (*value.steps, HostStep(op, numbers))
    return replace(value, shape=shapes_of(value.shape, steps[-1:])[-1], steps=steps, at=node.outputs[0])


def _kept(value: FloatInput) -> tuple[HostStep, ...]:
    """The steps; none where they only reshape, because a tensor's values are in the order of the array's."""
    return value.steps if any(step.op != "Reshape" for step in value.steps) else ()


def network_input(
    builder: Builder, node: Node, value: FloatInput, kind: TensorType, rounding: Rounding, linear: bool = False
) -> Quantised:
    """The integers that a Quant (or, `linear`, a QuantizeLinear) makes of a graph input, as the network's input tensor.

    Raises:
        Refusal: another Quant makes others of it.
    """
    extents = builder.axes(value.shape)
    known, steps = builder.tensors.get(value.name), _kept(value)
    if known is not None:
        given = builder.input_rounding[value.name], builder.input_steps.get(value.name, ())
        if (known.type, known.extents, *given, value.name in builder.linear_inputs) != (
            kind, extents, rounding, steps, linear
        ):  # fmt: skip
            raise Refusal(
                f"graph input {value.name!r} is quantised twice in different ways",
                "quantise the input once and use that result everywhere",
            )
        return Quantised(value.name, value.shape)
    builder.add_tensor(value.name, extents, kind, node.outputs[0])
    builder.input_rounding[value.name] = rounding
    if linear:
        builder.linear_inputs.append(value.name)
    if steps:
        builder.input_steps[value.name] = steps
    return Quantised(value.name, value.shape)
