# SPDX-License-Identifier: Apache-2.0
"""BipolarQuant: +1 from 0 on, -1 below, times a scale; kept as 2-bit signed integers that are never 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm

import numpy as np
from nncosim.compiler.frontend.builder import Builder, Node
from nncosim.compiler.frontend.inputs import after, network_input
from nncosim.compiler.frontend.quant import constant_scale, shortest, tensor_type
from nncosim.compiler.frontend.values import (
    Affine,
    Constant,
    FloatInput,
    Parts,
    QuantConstant,
    Quantised,
    QuantParameters,
    Value,
)
from nncosim.compiler.ir.host import HostStep
from nncosim.compiler.ir.network import TensorType
from nncosim.platforms.rounding import Rounding

__all__ = ["bipolar_quant"]

_BITS = 2


def bipolar_quant(builder: Builder, node: Node) -> Value:
    """BipolarQuant of a constant, the graph's input, an affine form, or integers."""
    scale = constant_scale(node.constant(1, "the scale"), "the scale")
    value = node.input(0)
    if isinstance(value, Constant | QuantConstant):
        array = value.array if isinstance(value, Constant) else value.ints
        ints = np.where(array >= 0, 1, -1).astype(np.int64)
        return QuantConstant(ints, np.array(np.broadcast_to(scale, ints.shape)), _BITS)
    parameters = QuantParameters(scale, 0, _BITS, True, -1, 1, Rounding.HALF_EVEN)
    if isinstance(value, FloatInput):
        signs = after(value, node, HostStep("Sign"), HostStep.by("Mul", scale))
        kind = tensor_type(parameters, value.shape, builder.axes(value.shape))
        return network_input(builder, node, signs, kind, parameters.rounding)
    if isinstance(value, Parts):
        return _parts(builder, node, value, parameters)
    form = builder.affine(value)
    return _sign(builder, node, form, tensor_type(parameters, form.shape, form.extents))


def _sign(
    builder: Builder, node: Node, form: Affine, kind: TensorType, part: tuple[int, int] | None = None
) -> Quantised:
    """The sign of a form as a clip: y = (sum_i n_i acc_i + n) / d in integers is 0 or more where the odd 2 d y + 1 is
    1 or more."""
    ratios, offset, sizes = [], [], []
    for c in range(form.channels):
        numbers = [each[c] for each in form.ratios] + [form.offset[c]]
        if form.low[c] is not None and form.low[c] >= 0:  # type: ignore[operator]
            numbers = [Fraction(0)] * len(numbers)
        elif form.high[c] is not None and form.high[c] < 0:  # type: ignore[operator]
            numbers = [Fraction(0)] * (len(numbers) - 1) + [Fraction(-1)]
        twice = 2 * lcm(*(x.denominator for x in numbers))
        ratios.append([x * twice for x in numbers[:-1]])
        offset.append(numbers[-1] * twice + 1)
        sizes.append(form.magnitude[c] * twice)
    none: Sequence[None] = (None,) * form.channels
    odd = replace(
        form, ratios=tuple(tuple(each) for each in zip(*ratios, strict=True)), offset=tuple(offset), low=tuple(none),
        high=tuple(none), magnitude=tuple(sizes),
    )  # fmt: skip
    return builder.emit(odd, kind, Rounding.HALF_EVEN, node, unit=(Fraction(1),) * form.channels, part=part)


def _parts(builder: Builder, node: Node, value: Parts, p: QuantParameters) -> Quantised:
    extents = builder.extents(value)
    whole = tensor_type(p, value.shape, extents)
    scales = whole.scale if len(whole.scale) > 1 else whole.scale * extents["C"]
    parts, first = [], 0
    for index, part in enumerate(value.parts):
        form = builder.affine(part)
        kind = replace(whole, scale=shortest(scales[first : first + form.channels]))
        parts.append(_sign(builder, node, form, kind, (index, first)))
        first += form.channels
    return builder.write_concat(value, parts, node.outputs[0])
