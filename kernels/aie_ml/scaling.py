# SPDX-License-Identifier: Apache-2.0
"""Whether the core's requantization, one shift for a layer, is what a layer's scales ask for."""

from __future__ import annotations

from fractions import Fraction

from nncosim.compiler.ir.network import Network, Op
from nncosim.platforms.rounding import Rounding

__all__ = ["scaling"]

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
