# SPDX-License-Identifier: Apache-2.0
"""Proof for an Add: by its numbers where these are exact, over all pairs where those are few, else by `sums`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from nncosim.compiler.errors import RequantError
from nncosim.compiler.ir.arithmetic import Chain, MultiplyShift, Requant, round_shift
from nncosim.compiler.ir.evaluate import apply_exact
from nncosim.compiler.ir.network import Proof, QuantFunction
from nncosim.compiler.ir.thresholds import boundaries
from nncosim.compiler.proof.caps import FormCaps, MultiplyShiftCaps, Per
from nncosim.compiler.proof.forms import distinct, kinds_of, select
from nncosim.compiler.proof.multipliers import FAR, dyadic, largest_shift, shift_limit
from nncosim.compiler.proof.single import rounding_modes
from nncosim.compiler.proof.sums import Numbers, common_ratio, large_sum, of_one_sum
from nncosim.compiler.proof.verify import EXAMPLES, Difference, proof_of
from nncosim.platforms.rounding import Rounding

__all__ = ["MOST_PAIRS", "prove_pairs"]

_UNLIKE = "an Add whose ratios differ from channel to channel needs numbers for each channel"

MOST_PAIRS = 1 << 18
"""So many pairs of inputs are tried one by one."""


def prove_pairs(
    function: QuantFunction, ranges: Sequence[tuple[int, int]], form: FormCaps
) -> tuple[Requant, Proof]:
    """Search and check an Add over all pairs of input values.

    Args:
        function: two operands. ranges: (lo, hi) of each input.

    Returns:
        The integers, and what they are worth. Channels with equal ratios share one search.

    Raises:
        RequantError: the form cannot compute it, not even inexactly.
    """
    first, index = distinct(kinds_of(function))
    kinds = [select(function, [c]) for c in first]
    if isinstance(form, MultiplyShiftCaps) and form.multiplier_bits and form.constant_bits:
        requant, found = _with_multipliers(kinds, ranges, form)
    else:
        requant, found = _of_the_sum(kinds, ranges, form)
    pairs = (ranges[0][1] - ranges[0][0] + 1) * (ranges[1][1] - ranges[1][0] + 1)
    proof = proof_of(found, index, len(index) * pairs, min(r[0] for r in ranges), max(r[1] for r in ranges))
    return requant.take(index), proof


def _with_multipliers(
    kinds: list[QuantFunction], ranges: Sequence[tuple[int, int]], caps: MultiplyShiftCaps
) -> tuple[Requant, list[Difference]]:
    """A multiplier for each operand."""
    if len(kinds) > 1 and Per.LAYER in (caps.multiplier_per, caps.constant_per, caps.shift_per):
        raise RequantError(_UNLIKE)
    known = [prove_pair(kind, ranges, caps) for kind in kinds]
    requant = MultiplyShift.uniform(len(kinds), (0, 0), 0, 0, kinds[0].lo, kinds[0].hi)
    for i, (numbers, _) in enumerate(known):
        for target, value in zip((*requant.m, requant.c, requant.s, requant.rounding), numbers, strict=True):
            target[i] = int(value)
    if not caps.negative and min(int(m.min()) for m in requant.m) < 0:
        raise RequantError("an operand of an Add has a negative ratio, but m cannot be negative; negate it before")
    return requant, [found for _, found in known]


def _of_the_sum(
    kinds: list[QuantFunction], ranges: Sequence[tuple[int, int]], form: FormCaps
) -> tuple[Requant, list[Difference]]:
    """What requantizes the plain sum of both operands."""
    if len(kinds) > 1:
        raise RequantError(_UNLIKE)
    if kinds[0].integers is not None:
        raise RequantError("an Add that rounds each operand needs a multiplier for each of them")
    if common_ratio(kinds[0].ratios[0][0], kinds[0].ratios[1][0]) != (1, 1):
        raise RequantError("an Add of two scales needs a multiplier for each operand; bring both to one scale before")
    requant, found = of_one_sum(kinds[0], (1, 1), ranges, form)
    return _of_two(requant), [found]


def _of_two(requant: Requant) -> Requant:
    """The same for two operands; forms without multipliers add them up by themselves."""
    if isinstance(requant, MultiplyShift):
        return replace(requant, m=requant.m * 2)
    return Chain((_of_two(requant.stages[0]), *requant.stages[1:])) if isinstance(requant, Chain) else requant


def prove_pair(
    function: QuantFunction, ranges: Sequence[tuple[int, int]], caps: MultiplyShiftCaps
) -> tuple[Numbers, Difference]:
    """Numbers for an Add of one channel, and how they differ from it."""
    key = function.ratios[0][0], function.ratios[1][0], function.offset[0]
    direct = dyadic(key[:2], key[2], caps.multiplier_bits, caps.constant_bits, caps.max_shift)
    if direct is not None and function.integers is None and (function.rounding in caps.roundings or direct[2] == 0):
        (m_a, m_b), c, s = direct
        reach = [max(abs(end) for end in limits) for limits in ranges]
        if max(reach[0] * abs(m_a), reach[1] * abs(m_b)) * 2 + abs(c) < 1 << 62:
            return (m_a, m_b, c, s, function.rounding), Difference()
    a, b = (np.arange(lo, hi + 1, dtype=np.int64) for lo, hi in ranges)
    if len(a) * len(b) > MOST_PAIRS:
        if function.integers is not None:
            raise RequantError("an Add of more than 8 bits that rounds each operand cannot be proved")
        return large_sum(function, ranges, caps)
    pairs = np.meshgrid(a, b, indexing="ij")
    want = apply_exact(function, [each[None] for each in pairs])[0]
    numbers = _search_pair(key, function, want, a, b, caps)
    got = _apply(numbers, function, a, b)
    wrong = np.argwhere(want != got)
    examples = [((int(a[i]), int(b[j])), int(want[i, j]), int(got[i, j])) for i, j in wrong[:EXAMPLES]]
    return numbers, Difference(len(wrong), int(np.abs(want - got).max()), tuple(examples))


def _apply(numbers: Numbers, function: QuantFunction, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    m_a, m_b, c, s, rounding = numbers
    total = (a * m_a)[:, None] + (b * m_b + c)[None, :]
    return np.clip(round_shift(total, s, int(rounding)), function.lo, function.hi)


def _search_pair(
    key: tuple[Fraction, Fraction, Fraction], function: QuantFunction, want: np.ndarray, a: np.ndarray,
    b: np.ndarray, caps: MultiplyShiftCaps,
) -> Numbers:
    """Exact numbers where they exist, else the first multipliers found whose interval of c is not empty."""
    limit = shift_limit(function.lo, function.hi, caps.max_shift)
    largest = max(abs(key[0]), abs(key[1]), Fraction(1, 1 << 60))
    top = largest_shift(largest, caps.multiplier_bits, limit)
    nearest: tuple[int, Numbers] | None = None
    for mode in rounding_modes(function, caps):
        for s in range(top, max(top - 24, 0), -1):
            gap, numbers = _fit(key, function, want, a, b, s, mode, caps)
            fits = abs(numbers[2]) < 1 << min(caps.constant_bits - 1, 62)
            if fits and (nearest is None or gap < nearest[0]):
                nearest = gap, numbers
            if fits:  # a smaller shift is coarser: it helps only where c did not fit
                break
        if nearest is not None and nearest[0] <= 0:
            break
    assert nearest is not None  # s = 1 always fits
    return nearest[1]


def _fit(
    key: tuple[Fraction, Fraction, Fraction], function: QuantFunction, want: np.ndarray, a: np.ndarray,
    b: np.ndarray, s: int, mode: Rounding, caps: MultiplyShiftCaps,
) -> tuple[int, Numbers]:
    """Multipliers near the exact ones for shift s: (what the interval of c lacks, numbers); 0 or less is exact."""
    twice, strict = boundaries(mode, function.lo, function.hi)
    heights = (twice << s - 1) + strict
    rise = np.concatenate([[-FAR], heights])[want - function.lo]  # lower bound of a*m_a + b*m_b + c
    fall = np.concatenate([heights - 1, [FAR]])[want - function.lo]
    most = (1 << caps.multiplier_bits - 1) - 1
    centre = [max(min(round(r * (1 << s)), most), -most) for r in key[:2]]
    best: tuple[int, Numbers] | None = None
    shifts = sorted(((i, j) for i in range(-3, 4) for j in range(-3, 4)), key=lambda d: d[0] ** 2 + d[1] ** 2)
    for i, j in shifts:
        m_a, m_b = centre[0] + i, centre[1] + j
        if max(abs(m_a), abs(m_b)) > most:
            continue
        total = (a * m_a)[:, None] + (b * m_b)[None, :]
        low, high = int((rise - total).max()), int((fall - total).min())
        if high >= FAR // 2:  # no upper bound: the result is hi everywhere
            high = low
        if low <= -FAR // 2:
            low = high
        gap = low - high
        if best is None or gap < best[0]:
            best = gap, (m_a, m_b, low + (high - low) // 2, s, mode)
        if gap <= 0:
            break
    assert best is not None
    return best
