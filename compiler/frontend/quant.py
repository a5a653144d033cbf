# SPDX-License-Identifier: Apache-2.0
"""Quant and Trunc nodes, with the meaning that the qonnx package's executor gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from nncosim.compiler.frontend.builder import Builder, Node, Refusal, channel_constant
from nncosim.compiler.frontend.curves import write_table
from nncosim.compiler.frontend.inputs import network_input
from nncosim.compiler.frontend.values import (
    Affine,
    Constant,
    Curve,
    FloatInput,
    Parts,
    QuantConstant,
    Quantised,
    QuantParameters,
    Value,
    fractions,
)
from nncosim.compiler.ir.network import TensorType
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.platforms.rounding import Rounding
from qonnx.custom_op.general.quant import max_int, min_int, resolve_rounding_mode

__all__ = [
    "constant_scale", "quant", "quantise", "quantise_float32", "quantise_linear_float32", "read_parameters",
    "same_number", "shortest", "tensor_type", "trunc",
]

ROUNDINGS = {
    "ROUND": Rounding.HALF_EVEN, "HALF_EVEN": Rounding.HALF_EVEN, "CEIL": Rounding.CEIL,
    "FLOOR": Rounding.FLOOR, "UP": Rounding.AWAY, "DOWN": Rounding.TOWARD_ZERO,
    "HALF_UP": Rounding.HALF_AWAY, "HALF_DOWN": Rounding.HALF_TOWARD_ZERO,
}
"""QONNX name to rounding, as in qonnx.custom_op.general.intquant.resolve_rounding_mode."""

_NUMPY_NAMES = {value: name for name, value in ROUNDINGS.items()}


def quantise_float32(
    values: np.ndarray, scale: np.ndarray, zero_point: int, lo: int, hi: int, rounding: Rounding
) -> np.ndarray:
    """round(clip(x / scale + zero point, lo, hi)) in float32, step for step as qonnx computes it.

    `scale` broadcasts against `values`. Returns int64.
    """
    y = np.asarray(values, dtype=np.float32) / np.asarray(scale, dtype=np.float32)
    y = np.clip(y + np.float32(zero_point), np.float32(lo), np.float32(hi))
    return resolve_rounding_mode(_NUMPY_NAMES[rounding])(y).astype(np.int64)


def tensor_type(p: QuantParameters, shape: tuple[int, ...], extents: Mapping[str, int]) -> TensorType:
    """The type of an activation of ONNX shape `shape`, with the axes `extents`, after a Quant."""
    per_channel = channel_constant(p.scale, shape, extents, "the scale of an activation")
    return TensorType(p.bits, p.signed, shortest(fractions(per_channel)), p.zero_point, p.lo, p.hi)


def quantise_linear_float32(
    values: np.ndarray, scale: np.ndarray, zero_point: int | np.ndarray, lo: int, hi: int
) -> np.ndarray:
    """round(x / scale) + zero point in float32, half to even, clipped to lo..hi, as ONNX's QuantizeLinear has it.

    `scale` and `zero_point` broadcast against `values`. Returns int64.
    """
    steps = np.rint(np.asarray(values, dtype=np.float32) / np.asarray(scale, dtype=np.float32)).astype(np.float64)
    return np.clip(steps + zero_point, lo, hi).astype(np.int64)


def _rounding(node: Node, default: str) -> Rounding:
    name = node.text("rounding_mode", default).upper()
    if name not in ROUNDINGS:
        raise Refusal(f"rounding_mode {name!r} is unknown", f"use one of {', '.join(ROUNDINGS)}")
    return ROUNDINGS[name]


def same_number(array: np.ndarray, what: str) -> int:
    values = np.unique(np.asarray(array, dtype=np.float64))
    if len(values) != 1:
        raise Refusal(f"{what} must be one number for the whole tensor", "use a per-tensor value")
    if values[0] != np.round(values[0]):
        raise Refusal(f"{what} must be a whole number, not {values[0]}")
    return int(values[0])


def constant_scale(array: np.ndarray, what: str) -> np.ndarray:
    scale = np.asarray(array, dtype=np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise Refusal(f"{what} must be positive and finite, not {scale.min()}..{scale.max()}")
    return scale


def _range(signed: bool, narrow: bool, bits: int) -> tuple[int, int]:
    return int(min_int(signed, narrow, bits)), int(max_int(signed, narrow, bits))


def read_parameters(node: Node) -> QuantParameters:
    """The parameters of a Quant node, checked."""
    scale = constant_scale(node.constant(1, "the scale"), "the scale")
    zero_point = same_number(node.constant(2, "the zero point"), "the zero point")
    bits = same_number(node.constant(3, "the bit width"), "the bit width")
    signed, narrow = bool(node.integer("signed", 1)), bool(node.integer("narrow", 1))
    if bits < 1 or bits > 32:
        raise Refusal(f"the bit width must be 1 to 32, not {bits}")
    if bits == 1 and signed:
        raise Refusal("1-bit signed data is not supported", "use BipolarQuant, or 2 bits or more")
    lo, hi = _range(signed, narrow, bits)
    return QuantParameters(scale, zero_point, bits, signed, lo, hi, _rounding(node, "ROUND"))


def quant(builder: Builder, node: Node) -> Value:
    """Quant of a constant, or of anything that `quantise` takes."""
    parameters = read_parameters(node)
    value = node.input(0)
    if isinstance(value, Constant):
        return _quantise_constant(value.array, parameters)
    if isinstance(value, QuantConstant):
        real = value.ints.astype(np.float32) * value.scale
        return _quantise_constant(real, parameters)
    return quantise(builder, node, value, parameters)


def quantise(builder: Builder, node: Node, value: Value | None, parameters: QuantParameters) -> Quantised:
    """Quantise the graph's input, an affine form, a curve, or data that is already quantised, as `node`'s output."""
    if isinstance(value, Curve):
        kind = tensor_type(parameters, value.shape, value.extents)
        return write_table(builder, node, value, kind, parameters.rounding)
    if isinstance(value, FloatInput):
        kind = tensor_type(parameters, value.shape, builder.axes(value.shape))
        return network_input(builder, node, value, kind, parameters.rounding, linear=parameters.linear)
    if isinstance(value, Parts):
        return _quantise_parts(builder, node, value, parameters)
    if isinstance(value, Quantised):
        kind = tensor_type(parameters, value.shape, builder.extents(value))
        return requantise(builder, node, value, kind, parameters.rounding)
    form = builder.affine(value)
    kind = tensor_type(parameters, form.shape, form.extents)
    return builder.emit(form, kind, parameters.rounding, node)


def _quantise_constant(array: np.ndarray, p: QuantParameters) -> QuantConstant:
    # float32, as the training framework computed it: the integers are the model's, not a choice of ours
    try:
        scale = np.broadcast_to(p.scale, array.shape)
    except ValueError:
        raise Refusal(f"the scale's shape {p.scale.shape} does not broadcast to {array.shape}") from None
    ints = quantise_float32(array, scale, p.zero_point, p.lo, p.hi, p.rounding)
    return QuantConstant(ints - p.zero_point, np.asarray(scale, dtype=np.float32), p.bits)


def requantise(
    builder: Builder, node: Node, value: Quantised, kind: TensorType, rounding: Rounding,
    part: tuple[int, int] | None = None,
) -> Quantised:
    """Quantise integers again; nothing is written where that changes no value."""
    old = builder.type_of(value)
    same = (old.scale, old.zero_point, old.signed) == (kind.scale, kind.zero_point, kind.signed)
    if same and kind.lo <= old.lo and old.hi <= kind.hi:
        return value
    return builder.emit(builder.affine(value), kind, rounding, node, part=part)


def _quantise_parts(builder: Builder, node: Node, value: Parts, p: QuantParameters) -> Quantised:
    extents = builder.extents(value)
    whole = tensor_type(p, value.shape, extents)
    scales = whole.scale if len(whole.scale) > 1 else whole.scale * extents["C"]
    parts, first = [], 0
    for index, part in enumerate(value.parts):
        count = builder.extents(part)["C"]
        kind = replace(whole, scale=shortest(scales[first:first + count]))
        if isinstance(part, Quantised):
            parts.append(requantise(builder, node, part, kind, p.rounding, (index, first)))
        else:
            parts.append(builder.emit(part, kind, p.rounding, node, part=(index, first)))
        first += count
    return builder.write_concat(value, parts, node.outputs[0])


def shortest(scales: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """One scale where all channels have the same."""
    return scales[:1] if len(set(scales)) == 1 else scales


def trunc(builder: Builder, node: Node) -> Value:
    """Trunc version 1 (five inputs) and 2 (six): drop low bits of an integer sum.

    y = round(x / scale + zp) must be the sum itself, then q = clip(round(y / 2**t), lo, hi).
    """
    value = node.input(0)
    if isinstance(value, Constant | QuantConstant | FloatInput):
        raise Refusal("Trunc must follow a quantised operator", "use a Quant here")
    form = builder.affine(value)
    if len(form.ratios) != 1 or form.clipped:
        raise Refusal("Trunc after Add or Relu is not supported", "put a Quant between them")
    scale = constant_scale(node.constant(1, "the scale"), "the scale")
    zp = same_number(node.constant(2, "the zero point"), "the zero point")
    scales = fractions(channel_constant(scale, form.shape, form.extents, "the scale of Trunc"))
    low, high = form.op.bounds([builder.tensors[name] for name in form.op.inputs])
    form = _whole_sums(form, scales, zp, low, high)
    if len(node.inputs) >= 6:
        shift, kind = _trunc_v2(node, scale, zp, form)
    else:
        shift, kind = _trunc_v1(node, scales, zp, form, low, high)
    # `form` counts in steps of `scale`, zero point included; the output's zero point is part of it
    form = form.scaled((Fraction(1, 2**shift),) * form.channels if shift >= 0 else
                       (Fraction(2**-shift),) * form.channels,
                       (Fraction(-kind.zero_point),) * form.channels, (0.0,) * form.channels)
    return builder.emit(form, kind, _rounding(node, "FLOOR"), node, unit=(Fraction(1),) * form.channels)


def _whole_sums(form: Affine, scales: tuple[Fraction, ...], zp: int, low: np.ndarray, high: np.ndarray) -> Affine:
    """round(form / scale + zp) as an integer affine form, which it must be on all reachable sums."""
    slopes, shifts = [], []
    for c, scale in enumerate(scales):
        ratio, offset = form.ratios[0][c] / scale, form.offset[c] / scale + zp
        slope, shift = round(ratio), round(offset)
        for acc in (int(low[c]), int(high[c])):
            if abs(acc * (ratio - slope) + offset - shift) >= Fraction(1, 2):
                raise Refusal(
                    f"Trunc's scale must be that of its input's sums, so that it only drops bits "
                    f"(channel {c}: {float(ratio):.6g} steps a unit, offset {float(offset):.6g})",
                    "use a Quant instead of the Trunc, or a bias quantised at the sums' scale",
                )
        slopes.append(Fraction(slope))
        shifts.append(Fraction(shift))
    return replace(form, ratios=(tuple(slopes),), offset=tuple(shifts),
                   magnitude=tuple(abs(float(s)) for s in shifts))


def _trunc_v2(node: Node, scale: np.ndarray, zp: int, form: Affine) -> tuple[int, TensorType]:
    out_scale = constant_scale(node.constant(4, "the output scale"), "the output scale")
    bits = same_number(node.constant(5, "the output bit width"), "the output bit width")
    signed = bool(node.integer("signed", 1))
    shifts = np.unique(np.round(np.log2(np.asarray(out_scale, dtype=np.float64) / scale)))
    if len(shifts) != 1:
        raise Refusal("Trunc must drop the same number of bits in all channels")
    shift = int(shifts[0])
    zero_point = zp / Fraction(2) ** shift
    if zero_point.denominator != 1:
        raise Refusal(f"Trunc's zero point {zp} is no multiple of 2**{shift}", "use zero point 0")
    lo, hi = _range(signed, bool(node.integer("narrow", 0)), bits)
    scales = fractions(channel_constant(out_scale, form.shape, form.extents, "the output scale of Trunc"))
    return shift, TensorType(bits, signed, shortest(scales), int(zero_point), lo, hi)


def _trunc_v1(
    node: Node, scales: tuple[Fraction, ...], zp: int, form: Affine, low: np.ndarray, high: np.ndarray
) -> tuple[int, TensorType]:
    bits_in = same_number(node.constant(3, "the input bit width"), "the input bit width")
    bits = same_number(node.constant(4, "the output bit width"), "the output bit width")
    shift = bits_in - bits
    if shift < 0:
        raise Refusal(f"Trunc cannot widen {bits_in} bits to {bits}")
    rounding = _rounding(node, "FLOOR")
    ends = [
        round_fraction((int(acc) * r + o) / 2**shift, rounding)
        for r, o, a, b in zip(form.ratios[0], form.offset, low, high, strict=True) for acc in (a, b)
    ]
    # version 1 does not clip: the range is what the sums can reach
    lo, hi = min(ends), max(ends)
    signed = lo < 0
    need = max(hi.bit_length(), (-lo - 1).bit_length() if signed else 0) + signed
    return shift, TensorType(max(bits, need), signed, shortest(scales), zp, lo, hi)
