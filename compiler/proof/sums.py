# SPDX-License-Identifier: Apache-2.0
"""Proof for an Add of so many pairs of inputs that they cannot be tried one by one.

Let y(a, b) be the exact sum before rounding, and e(a, b) what the integers give more than y. Both are linear, so
e lies between its values at the corners of the box of inputs. A pair can differ only where y is nearer than e to a
place at which rounding steps. How near y comes to such a place, over all pairs, is found by sorting: for each a, the b
whose part after the point complements that of a. If no y is as near as e, the integers are exact. Otherwise the pairs
that are near enough are tried, all of them or as many as `MOST_TRIED`; the rest is then undecided, and said to be.

Operands with a common ratio are one accumulator, in any form; differing sums are weighted with their pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.arithmetic import MultiplyShift, Requant, round_shift
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.sums import ExactSum
from nncosim.compiler.ir.thresholds import boundaries
from nncosim.compiler.proof.caps import FormCaps, MultiplyShiftCaps
from nncosim.compiler.proof.forms import find
from nncosim.compiler.proof.multipliers import largest_shift, shift_limit
from nncosim.compiler.proof.single import rounding_modes
from nncosim.compiler.proof.verify import EXAMPLES, Difference, Example, differences, stretches
from nncosim.platforms.rounding import Rounding

__all__ = ["MOST_TRIED", "Numbers", "common_ratio", "large_sum", "of_one_sum"]

MOST_TRIED = 1 << 22
_PART = 1 << 18  # pairs at a time
_MOST_FACTOR = 16
Numbers = tuple[int, int, int, int, Rounding]  # m_a, m_b, c, s, rounding
Ranges = Sequence[tuple[int, int]]


def large_sum(function: QuantFunction, ranges: Ranges, caps: MultiplyShiftCaps) -> tuple[Numbers, Difference]:
    """Numbers for an Add of one channel, and how they differ from it."""
    factors = common_ratio(function.ratios[0][0], function.ratios[1][0])
    if factors is not None and caps.multiplier_bits - _spare_bits(factors) >= min(caps.multiplier_bits, 16):
        return _one_accumulator(function, factors, ranges, caps)
    exact = ExactSum((function.ratios[0][0], function.ratios[1][0]), function.offset[0], function.rounding,
                     function.lo, function.hi, ranges)  # fmt: skip
    fit = _best_fit(function, exact, ranges, caps)
    return fit.numbers, Difference() if fit.exact else _near_pairs(fit, exact, ranges, function.rounding)


# --- operands with a common ratio ------------------------------------------------------------------------------------


def common_ratio(a: Fraction, b: Fraction) -> tuple[int, int] | None:
    """Small integers p > 0 and q, without a common divisor, with a * q = b * p; None where there are none."""
    if a == 0 or b == 0:
        return None
    both = a / b
    p, q = abs(both.numerator), both.denominator * (1 if both > 0 else -1)
    return (p, q) if max(p, abs(q)) <= _MOST_FACTOR else None


def _spare_bits(factors: tuple[int, int]) -> int:
    """Bits of a multiplier that multiplying with the factors takes."""
    return (max(map(abs, factors)) - 1).bit_length()


def _one_accumulator(
    function: QuantFunction, factors: tuple[int, int], ranges: Ranges, caps: MultiplyShiftCaps
) -> tuple[Numbers, Difference]:
    """By the accumulator p * a + q * b."""
    narrow = replace(caps, multiplier_bits=caps.multiplier_bits - _spare_bits(factors))
    requant, found = of_one_sum(function, factors, ranges, narrow)
    assert isinstance(requant, MultiplyShift)
    m = int(requant.m[0][0])
    rounding = Rounding(int(requant.rounding[0]))
    return (m * factors[0], m * factors[1], int(requant.c[0]), int(requant.s[0]), rounding), found


def of_one_sum(
    function: QuantFunction, factors: tuple[int, int], ranges: Ranges, form: FormCaps
) -> tuple[Requant, Difference]:
    """What requantizes the accumulator p * a + q * b of one channel, and in how many pairs it differs."""
    p, q = factors
    ends = [p * a + q * b for a in ranges[0] for b in ranges[1]]
    low, high = np.array([min(ends)]), np.array([max(ends)])
    one = replace(function, ratios=((function.ratios[0][0] / p,),))
    requant = find(one, low, high, form)
    (found,) = differences(one, low, high, requant)
    return requant, _weighted(one, factors, ranges, min(ends), max(ends), requant) if found.values else found


def _weighted(
    one: QuantFunction, factors: tuple[int, int], ranges: Ranges, low: int, high: int, requant: Requant
) -> Difference:
    """The pairs whose accumulators differ."""
    begin, length, want, got = stretches(one, 0, low, high, requant)
    wrong = np.flatnonzero(want != got)
    values, lsb = 0, 0
    examples: list[Example] = []
    for first in range(0, len(wrong), _PART):
        part = wrong[first : first + _PART]
        sums = _runs(begin[part], length[part])
        expected, found = (np.repeat(v[part], length[part]) for v in (want, got))
        least, pairs = _pairs_of(sums, factors, ranges)
        values += int(pairs.sum())
        lsb = max(lsb, int((np.abs(expected - found) * (pairs > 0)).max()))
        for i in np.flatnonzero(pairs)[: EXAMPLES - len(examples)]:
            a = int(least[i])
            examples.append(((a, (int(sums[i]) - factors[0] * a) // factors[1]), int(expected[i]), int(found[i])))
    return Difference(values, lsb, tuple(examples))


def _runs(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """begin[0], begin[0] + 1, ... length[0] of them, then those of begin[1], and so on."""
    return np.arange(int(length.sum())) + np.repeat(begin - np.cumsum(length) + length, length)


def _pairs_of(sums: np.ndarray, factors: tuple[int, int], ranges: Ranges) -> tuple[np.ndarray, np.ndarray]:
    """For each sum p * a + q * b: the least such a, and the number of such pairs."""
    p, q = factors
    (a_lo, a_hi), (b_lo, b_hi) = ranges
    ends = (sums - q * b_lo, sums - q * b_hi)
    least = np.maximum(-(-np.minimum(*ends) // p), a_lo)
    most = np.minimum(np.maximum(*ends) // p, a_hi)
    size = abs(q)
    right = (sums % size) * pow(p, -1, size) % size if size > 1 else np.zeros_like(sums)  # a's rest by q
    least = least + (right - least) % size
    return least, np.maximum((most - least) // size + 1, 0)


# --- any two ratios --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    """Numbers, and the bounds about a step between which y lies wherever they may differ; nowhere if `exact`."""

    numbers: Numbers
    low: Fraction
    high: Fraction
    exact: bool


@dataclass(frozen=True)
class _Gaps:
    """The least distance of any y from a step: above it or at it, strictly above, strictly below."""

    above: Fraction
    beyond: Fraction
    below: Fraction

    def of(self, strict: bool) -> tuple[Fraction, Fraction]:
        """Of those that are past the step, and of those that are not."""
        if not strict:
            return self.above, self.below
        return self.beyond, Fraction(0) if self.above == 0 else self.below


def _gaps(exact: ExactSum) -> _Gaps:
    modulus = exact.modulus
    parts = np.unique(exact.part[1])
    opposite = (-exact.part[0]) % modulus
    up = (parts[np.searchsorted(parts, opposite) % len(parts)] - opposite) % modulus
    beyond = (parts[np.searchsorted(parts, opposite, side="right") % len(parts)] - opposite) % modulus
    down = (opposite - parts[np.searchsorted(parts, opposite) - 1]) % modulus
    beyond, down = (np.where(v == 0, modulus, v) for v in (beyond, down))
    least = [int(v.min()) for v in (up, beyond, down)]
    if exact.slack:  # the true parts are up to so much greater
        least[2] = max(least[2] - exact.slack, 0)
        if least[0] == 0 or least[2] == 0:
            least = [0, 0, 0]
    return _Gaps(*(Fraction(v, modulus) for v in least))


def _best_fit(function: QuantFunction, exact: ExactSum, ranges: Ranges, caps: MultiplyShiftCaps) -> _Fit:
    """The first rounding mode that is exact; else the fit that leaves the fewest pairs to try."""
    reach = max(abs(end) for limits in ranges for end in limits)
    bits = min(caps.multiplier_bits, 61 - reach.bit_length())
    limit = shift_limit(function.lo, function.hi, caps.max_shift)
    ratios = [r[0] for r in function.ratios]
    top = largest_shift(max(*map(abs, ratios), Fraction(1, 1 << 60)), bits, limit)
    most, widest = (1 << bits - 1) - 1, 1 << min(caps.constant_bits, 63) - 1
    gaps = _gaps(exact)
    modes = {mode: _kinds(function, mode) for mode in rounding_modes(function, caps)}
    for _, m, error, s in sorted(_multipliers(ratios, ranges, most, range(top, max(top - 24, 0), -1))):
        fits = [_with_constant((*m, s, mode), function.offset[0], kinds, error, gaps) for mode, kinds in modes.items()]
        fits = [fit for fit in fits if abs(fit.numbers[2]) < widest]
        if fits:
            return min(fits, key=lambda fit: (not fit.exact, fit.high - fit.low))
    raise CompileError(f"no constant of {caps.constant_bits} bits brings an Add's offset of {function.offset[0]} about")


def _multipliers(
    ratios: list[Fraction], ranges: Ranges, most: int, shifts: Iterable[int]
) -> Iterator[tuple[tuple[Fraction, int], tuple[int, int], tuple[Fraction, Fraction], int]]:
    """For each shift the nearest multipliers: how good they are, these, bounds of what they give more, the shift."""
    for s in shifts:
        a, b = (max(min(round(r * (1 << s)), most), -most) for r in ratios)
        more = Fraction(a, 1 << s) - ratios[0], Fraction(b, 1 << s) - ratios[1]
        corners = [more[0] * x + more[1] * y for x in ranges[0] for y in ranges[1]]
        yield (max(corners) - min(corners), -s), (a, b), (min(corners), max(corners)), s


def _kinds(function: QuantFunction, mode: Rounding) -> set[tuple[Fraction, int, bool]]:
    """How the steps of `mode` lie to the function's: so much above, itself strict or not, the other strict or not."""
    twice, strict = boundaries(function.rounding, function.lo, function.hi)
    other, above = boundaries(mode, function.lo, function.hi)
    known = np.unique(np.stack([other - twice, above, strict], axis=1), axis=0) if len(twice) else np.zeros((1, 3))
    return {(Fraction(int(apart), 2), int(up), bool(down)) for apart, up, down in known}


def _with_constant(
    known: tuple[int, int, int, Rounding], offset: Fraction, kinds: set[tuple[Fraction, int, bool]],
    error: tuple[Fraction, Fraction], gaps: _Gaps,
) -> _Fit:
    """c for given multipliers: amid those that are exact, or that come nearest to it.

    error: bounds of what the multipliers give more than the ratios.
    """
    m_a, m_b, s, mode = known
    one = 1 << s
    # the integers' step lies so much above the exact one, and these are the gaps about the exact one
    steps = [(apart + Fraction(up, one), gaps.of(strict)) for apart, up, strict in kinds]
    least = max(shift - gap[0] for shift, gap in steps) - error[0]
    most = min(shift + gap[1] for shift, gap in steps) - error[1]
    from_, to = ceil((offset + least) * one), ceil((offset + most) * one) - 1
    c = (from_ + to) // 2
    more = Fraction(c, one) - offset
    low = min(shift for shift, _ in steps) - error[1] - more
    high = max(shift for shift, _ in steps) - error[0] - more
    return _Fit((m_a, m_b, c, s, mode), min(low, Fraction(0)), max(high, Fraction(0)), from_ <= to)


def _near_pairs(fit: _Fit, exact: ExactSum, ranges: Ranges, rounding: Rounding) -> Difference:
    """Try the pairs whose y lies within the fit's bounds of a step."""
    m_a, m_b, c, s, mode = fit.numbers
    values, lsb, tried = 0, 0, 0
    examples: list[Example] = []
    worst = floor(max(-fit.low, fit.high)) + 1 + (rounding == Rounding.AWAY)  # which steps by two at zero
    near, parts = _windows(fit, exact) if fit.high - fit.low < 1 else _every(exact)
    for a, b in parts:
        if tried >= MOST_TRIED:
            break
        tried += len(a)
        a, b = a + ranges[0][0], b + ranges[1][0]
        want, got = exact(a, b), np.clip(round_shift(a * m_a + b * m_b + c, s, int(mode)), exact.lo, exact.hi)
        wrong = np.flatnonzero(want != got)
        values, lsb = values + len(wrong), max(lsb, int(np.abs(want - got).max(initial=0)))
        wrong = wrong[np.lexsort((b[wrong], a[wrong]))][: EXAMPLES - len(examples)]
        examples += [((int(a[i]), int(b[i])), int(want[i]), int(got[i])) for i in wrong]
    return Difference(values, lsb if near == tried else worst, tuple(examples), near - tried)


def _every(exact: ExactSum) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """All pairs, those of some a far apart first."""
    many, size = (len(part) for part in exact.part)
    step = max(many * size // MOST_TRIED, 1)
    rows = (row for first in range(step) for row in range(first, many, step))
    return many * size, ((np.full(size, row), np.arange(size)) for row in rows)


def _windows(fit: _Fit, exact: ExactSum) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """How many pairs lie within the fit's bounds of a step, and these pairs (as places in the ranges) part by part."""
    order = np.argsort(exact.part[1], kind="stable")
    parts, modulus = exact.part[1][order], exact.modulus
    low = floor(fit.low * modulus) - exact.slack
    high = ceil(fit.high * modulus)
    begin, count = [], []
    for turn in range(3):
        ends = turn * modulus - exact.part[0]
        first = np.searchsorted(parts, ends + low)
        begin.append(first)
        count.append(np.searchsorted(parts, ends + high, side="right") - first)
    starts, counts = np.stack(begin, axis=1), np.stack(count, axis=1)
    return int(counts.sum()), _listed(order, starts, counts)


def _listed(order: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = np.cumsum(counts.sum(axis=1))
    row = 0
    while row < len(rows):
        before = int(rows[row - 1]) if row else 0
        end = max(int(np.searchsorted(rows, before + _PART, side="right")), row + 1)
        start, count = starts[row:end].ravel(), counts[row:end].ravel()
        yield np.repeat(np.arange(row, end).repeat(starts.shape[1]), count), order[_runs(start, count)]
        row = end
