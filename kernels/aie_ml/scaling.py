# SPDX-License-Identifier: Apache-2.0
"""Whether the core's requantization is what scales ask for: a layer has one shift, a sum two multipliers more."""

from __future__ import annotations

from fractions import Fraction

from nncosim.compiler.ir.network import Network, Op, QuantFunction
from nncosim.platforms.rounding import Rounding

__all__ = ["MULTIPLIER_BITS", "scaling", "sum_scaling"]

MULTIPLIER_BITS = 8
"""Of an operand of a sum: it stands in a unit matrix of weights."""
_MOST = (1 << MULTIPLIER_BITS - 1) - 1
_NEAR = 2
"""Steps of a result by which a sum may be off and still be near: its multipliers, rounded to 8 bits, make half of one
each in 8-bit results, and rounding the last."""
_NEAREST = "or --nearest takes what comes nearest"


def scaling(op: Op, network: Network) -> list[tuple[str, str]]:
    """What a shift cannot compute exactly, and what would help; nothing if the network may be `nearest`."""
    if op.function is None or network.nearest:
        return []
    ratios = sorted({ratio for ratio in op.function.ratios[0] if ratio > 0})
    wrong = [ratio for ratio in ratios if not _is_shift(ratio)]
    if wrong:
        text = f"sums are multiplied by {float(wrong[0]):.6g}; the core shifts them to the right, and has no multiplier"
        remedy = "use scales that are powers of two (Brevitas: FixedPoint quantizers; QKeras: alpha=1)"
        if _is_power(wrong[0]):
            remedy = "use a scale of the results that is not finer than that of the sums"
        return [(f"{text}{_culprits(op, network, wrong[0])}", f"{remedy}, {_NEAREST}")]
    if len(ratios) > 1:
        return [(f"channels' sums are multiplied by {float(ratios[0]):.6g} to {float(ratios[-1]):.6g}; "
                 "the core has one shift for a layer", f"use one scale for all weights of the layer, {_NEAREST}")]
    if op.function.rounding == Rounding.HALF_ODD:
        zero = network.tensors[op.output].type.zero_point
        return [(f"the zero point {zero} of its results is odd, so that ties go to odd integers; the core has no such "
                 "rounding", f"use an even zero point, 0 at best, {_NEAREST}")]  # fmt: skip
    return []


def sum_scaling(op: Op, network: Network) -> list[tuple[str, str]]:
    """In what a sum that was proved differs from what its scales ask for, and what would help.

    Nothing if it is exact, or if the network may be `nearest` and it is near.
    """
    f, proof = op.function, op.proof
    if f is None or proof is None or proof.exact:
        return []
    near = proof.max_lsb <= _NEAR
    if network.nearest and near:
        return []
    text, remedy = _inexact_sum(f, network.tensors[op.output].type.zero_point)
    steps = f"so that results may differ by {proof.max_lsb}"
    return [(f"{text}, {steps}", f"{remedy}, {_NEAREST}" if near else remedy)]


def _inexact_sum(f: QuantFunction, zero_point: int) -> tuple[str, str]:
    ratios = [each[0] for each in f.ratios]
    factors = " and ".join(f"{float(r):.6g}" for r in ratios)
    text = f"operands are multiplied by {factors}; the core multiplies by up to {_MOST} and shifts to the right"
    if max(ratios) > _MOST:
        return text, "use a scale of the results that is not so much finer than those of the operands"
    if not all(_is_power(Fraction(r.denominator)) for r in ratios):
        return text, "use scales that are powers of two (Brevitas: FixedPoint quantizers; QKeras: alpha=1)"
    if max(ratios) * max(r.denominator for r in ratios) > _MOST:
        most = 1 << _MOST.bit_length() - 1
        return text, f"use scales of the operands that are powers of two and at most {most} times apart"
    if f.rounding == Rounding.HALF_ODD:
        text = f"the zero point {zero_point} of its results is odd, so that ties go to odd integers"
        return f"{text}; the core has no such rounding", "use an even zero point, 0 at best"
    return f"{text}, and rounds once", "use scales that are powers of two, and zero points of 0"


def _is_shift(ratio: Fraction) -> bool:
    return ratio.numerator == 1 and _is_power(ratio)


def _is_power(ratio: Fraction) -> bool:
    return all(n & n - 1 == 0 for n in (ratio.numerator, ratio.denominator))


def _culprits(op: Op, network: Network, ratio: Fraction) -> str:
    """Which scales are no powers of two."""
    kinds = [network.tensors[name].type for name in (op.inputs[0], op.output)]
    if any(len(kind.scale) > 1 for kind in kinds):
        return ""
    given, made = (kind.scale[0] for kind in kinds)
    scales = {"input": given, "weights": ratio * made / given, "output": made}
    found = [f"{what} {float(scale):.6g}" for what, scale in scales.items() if scale and not _is_power(scale)]
    return f" (scales that are no powers of two: {', '.join(found)})" if found else ""
