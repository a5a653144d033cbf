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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, lcm

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
_PART = 1 << 16  # pairs at a time: what fits into a cache is faster
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
    known = _multipliers([r[0] for r in function.ratios], ranges, function, caps)
    spread = [abs(more) * (end - begin) for more, (begin, end) in zip(known[0].more, ranges, strict=True)]
    parts = _Parts.of(exact, int(spread[1] > spread[0]))
    fit = _best_fit(function, parts, known, caps)
    return fit.numbers, Difference() if fit.exact else _near_pairs(fit, parts, ranges, function.rounding)


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
    """Numbers, and the bounds about a step between which y lies wherever they may differ; nowhere if `exact`. more:
    what the multipliers give more than the ratios."""

    numbers: Numbers
    low: Fraction
    high: Fraction
    exact: bool
    more: tuple[Fraction, Fraction]


@dataclass(frozen=True)
class _Gaps:
    """The least distance of any y from a step, in units of 1 / modulus: above it or at it, strictly above, strictly
    below."""

    above: int
    beyond: int
    below: int
    modulus: int

    def of(self, strict: bool, unit: int) -> tuple[int, int]:
        """Of those that are past the step, and of those that are not, in units of 1 / unit."""
        past, not_yet = (self.beyond, 0 if self.above == 0 else self.below) if strict else (self.above, self.below)
        return past * (unit // self.modulus), not_yet * (unit // self.modulus)


@dataclass(frozen=True, eq=False)
class _Parts:
    """The parts after the point of both inputs' shares, and how near they come to a whole number.

    outer: the input, 0 or 1, whose share is looked up among those of the other, the inner one.
    order, ascending: int64 (B,), places of the inner and its parts in ascending order.
    rows, opposite: int64 (A,), places of the outer and what their parts add up to a whole number with, that ascending
        too: a search for ascending values is many times faster.
    up, down: int64 (A,), from the opposite to the next part of the inner there or above, and below.
    """

    exact: ExactSum
    outer: int
    order: np.ndarray
    ascending: np.ndarray
    rows: np.ndarray
    opposite: np.ndarray
    up: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, exact: ExactSum, outer: int) -> _Parts:
        modulus, own = exact.modulus, exact.part[outer]
        order, ascending = _sorted(exact.part[1 - outer], modulus)
        rows, opposite = _sorted(np.where(own > 0, modulus - own, 0), modulus)
        at = np.searchsorted(ascending, opposite)
        up = np.append(ascending, ascending[0] + modulus)[at] - opposite
        down = opposite - np.insert(ascending, 0, ascending[-1] - modulus)[at]
        return cls(exact, outer, order, ascending, rows, opposite, up, down)


def _sorted(parts: np.ndarray, modulus: int) -> tuple[np.ndarray, np.ndarray]:
    """Stable order and values in it. Sorting values that carry their place takes a third of the time of an argsort."""
    bits = (len(parts) - 1).bit_length()
    drop = max(modulus.bit_length() + bits - 63, 0)
    keys = ((parts >> drop) << bits) + np.arange(len(parts))
    keys.sort()
    order = keys & (1 << bits) - 1
    ascending = parts[order]
    if drop and (ascending[1:] < ascending[:-1]).any():  # equal but for the digits dropped
        order = np.argsort(parts, kind="stable")
        ascending = parts[order]
    return order, ascending


def _gaps(parts: _Parts) -> _Gaps:
    modulus, slack = parts.exact.modulus, parts.exact.slack
    least = [int(parts.up.min())] * 2 + [int(parts.down.min())]
    if least[0] == 0:
        at = np.searchsorted(parts.ascending, parts.opposite, side="right")
        least[1] = int((np.append(parts.ascending, parts.ascending[0] + modulus)[at] - parts.opposite).min())
    if slack:  # the true parts are up to so much greater
        least[2] = max(least[2] - slack, 0)
        if least[0] == 0 or least[2] == 0:
            least = [0, 0, 0]
    return _Gaps(least[0], least[1], least[2], modulus)


@dataclass(frozen=True)
class _Multipliers:
    """m: nearest ones for a shift s. more: what they give more than the ratios; low, high: its bounds over all pairs;
    in units of 1 / unit."""

    m: tuple[int, int]
    s: int
    more: tuple[int, int]
    low: int
    high: int
    unit: int


def _multipliers(
    ratios: list[Fraction], ranges: Ranges, function: QuantFunction, caps: MultiplyShiftCaps
) -> list[_Multipliers]:
    """For each shift, the best first."""
    reach = max(abs(end) for limits in ranges for end in limits)
    bits = min(caps.multiplier_bits, 61 - reach.bit_length())
    limit = shift_limit(function.lo, function.hi, caps.max_shift)
    top = largest_shift(max(*map(abs, ratios), Fraction(1, 1 << 60)), bits, limit)
    most = (1 << bits - 1) - 1
    scale = lcm(*(r.denominator for r in ratios))
    unit, numerators = scale << top, [int(r * scale) for r in ratios]
    known = []
    for s in range(top, max(top - 24, 0), -1):
        a, b = (max(min(_nearest(n << s, scale), most), -most) for n in numerators)
        more = tuple((m * scale - (n << s)) << top - s for m, n in zip((a, b), numerators, strict=True))
        corners = [more[0] * x + more[1] * y for x in ranges[0] for y in ranges[1]]
        known.append(_Multipliers((a, b), s, (more[0], more[1]), min(corners), max(corners), unit))
    return sorted(known, key=lambda each: (each.high - each.low, -each.s))


def _best_fit(function: QuantFunction, parts: _Parts, known: list[_Multipliers], caps: MultiplyShiftCaps) -> _Fit:
    """The first rounding mode that is exact; else the fit that leaves the fewest pairs to try."""
    widest = 1 << min(caps.constant_bits, 63) - 1
    gaps = _gaps(parts)
    modes = rounding_modes(function, caps)
    for each in known:
        fits = [_with_constant(each, mode, function, gaps) for mode in modes]
        fits = [fit for fit in fits if abs(fit.numbers[2]) < widest]
        if fits:
            return min(fits, key=lambda fit: (not fit.exact, fit.high - fit.low))
    raise CompileError(f"no constant of {caps.constant_bits} bits brings an Add's offset of {function.offset[0]} about")


def _nearest(numerator: int, denominator: int) -> int:
    """The quotient rounded, half to even."""
    below, rest = divmod(numerator, denominator)
    return below + (2 * rest + (below & 1) > denominator)


@lru_cache(maxsize=64)
def _kinds(rounding: Rounding, mode: Rounding, lo: int, hi: int) -> frozenset[tuple[int, int, bool]]:
    """How the steps of `mode` lie to those of `rounding`: so many halves above, itself strict or not, the other
    strict or not."""
    twice, strict = boundaries(rounding, lo, hi)
    other, above = boundaries(mode, lo, hi)
    known = np.unique((other - twice) * 4 + above * 2 + strict).tolist() if len(twice) else [0]
    return frozenset((kind >> 2, kind >> 1 & 1, bool(kind & 1)) for kind in known)


def _with_constant(known: _Multipliers, mode: Rounding, function: QuantFunction, gaps: _Gaps) -> _Fit:
    """c for given multipliers: amid those that are exact, or that come nearest to it."""
    kinds = _kinds(function.rounding, mode, function.lo, function.hi)
    offset, s = function.offset[0], known.s
    # all in so small a unit that everything is whole
    unit = lcm(known.unit, 2 << s, offset.denominator, gaps.modulus)
    one, fine = unit >> s, unit // known.unit
    lowest, highest, base = known.low * fine, known.high * fine, offset.numerator * (unit // offset.denominator)
    # the integers' step lies so much above the exact one, and these are the gaps about the exact one
    steps = [(half * (unit // 2) + up * one, gaps.of(strict, unit)) for half, up, strict in kinds]
    least = max(shift - gap[0] for shift, gap in steps) - lowest
    most = min(shift + gap[1] for shift, gap in steps) - highest
    from_, to = -(-(base + least) // one), -(-(base + most) // one) - 1
    c = (from_ + to) // 2
    more = c * one - base
    low = min(shift for shift, _ in steps) - highest - more
    high = max(shift for shift, _ in steps) - lowest - more
    bounds = Fraction(min(low, 0), unit), Fraction(max(high, 0), unit)
    apart = Fraction(known.more[0], known.unit), Fraction(known.more[1], known.unit)
    return _Fit((*known.m, c, s, mode), *bounds, from_ <= to, apart)


def _near_pairs(fit: _Fit, parts: _Parts, ranges: Ranges, rounding: Rounding) -> Difference:
    """Try the pairs whose y lies within the fit's bounds of a step."""
    m_a, m_b, c, s, mode = fit.numbers
    exact = parts.exact
    values, lsb, tried = 0, 0, 0
    examples: list[Example] = []
    worst = floor(max(-fit.low, fit.high)) + 1 + (rounding == Rounding.AWAY)  # which steps by two at zero
    windowed = fit.high - fit.low < 1
    near, pairs = _windows(fit, parts) if windowed else _every(exact)
    for a, b in pairs:
        if tried >= MOST_TRIED:
            break
        tried += len(a)
        a, b = a + ranges[0][0], b + ranges[1][0]
        want, got = exact(a, b), np.clip(round_shift(a * m_a + b * m_b + c, s, int(mode)), exact.lo, exact.hi)
        wrong = np.flatnonzero(want != got)
        values, lsb = values + len(wrong), max(lsb, int(np.abs(want - got).max(initial=0)))
        wrong = wrong[_first(a[wrong], b[wrong], EXAMPLES if windowed else EXAMPLES - len(examples))]
        examples += [((int(a[i]), int(b[i])), int(want[i]), int(got[i])) for i in wrong]
        if windowed:  # parts are not in the order of a
            examples = sorted(examples)[:EXAMPLES]
    return Difference(values, lsb if near == tried else worst, tuple(examples), near - tried)


def _first(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """The places of so many pairs, the least by a, then by b."""
    if len(a) > count:  # most need not be sorted
        some = np.flatnonzero(a <= np.partition(a, count)[count])
        return some[np.lexsort((b[some], a[some]))][:count]
    return np.lexsort((b, a))


def _every(exact: ExactSum) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """All pairs, those of some a far apart first."""
    many, size = (len(part) for part in exact.part)
    step = max(many * size // MOST_TRIED, 1)
    rows = (row for first in range(step) for row in range(first, many, step))
    return many * size, ((np.full(size, row), np.arange(size)) for row in rows)


def _windows(fit: _Fit, parts: _Parts) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """How many pairs lie within the fit's bounds of a step, and these pairs (as places in the ranges) part by part."""
    modulus = parts.exact.modulus
    lows, highs = _row_bounds(fit, parts)
    near = (parts.up <= highs) | (parts.down <= -lows)
    lows, highs, opposite = lows[near], highs[near], parts.opposite[near]
    most = [modulus + lows.min(initial=0), highs.max(initial=0) + 1]  # what a window meets round the end
    over = np.searchsorted(parts.ascending, most)
    turned = [parts.ascending[over[0] :] - modulus, parts.ascending, parts.ascending[: over[1]] + modulus]
    order = np.concatenate([parts.order[over[0] :], parts.order, parts.order[: over[1]]])
    around = np.concatenate(turned)
    starts, counts = np.zeros((2, len(near)), dtype=np.int64)  # by place
    begin, rows = np.searchsorted(around, opposite + lows), parts.rows[near]
    starts[rows], counts[rows] = begin, np.searchsorted(around, opposite + highs, side="right") - begin
    rows = np.flatnonzero(counts)
    listed = _listed(rows, order, starts[rows], counts[rows])
    return int(counts.sum()), ((inner, outer) if parts.outer else (outer, inner) for outer, inner in listed)


def _row_bounds(fit: _Fit, parts: _Parts) -> tuple[np.ndarray, np.ndarray]:
    """The fit's bounds for each value of the outer input alone, whose share of the error is then known. int64, like
    `parts.rows`."""
    exact, modulus = parts.exact, parts.exact.modulus
    share = float(fit.more[parts.outer] * modulus) * (parts.rows + exact.lowest[parts.outer])
    low, high = fit.low * modulus, fit.high * modulus
    room = float(np.abs(share).max() + high - low) * 2.0**-48  # doubles err by less
    lows = np.floor(share.max() - share + (float(low) - room)).astype(np.int64)
    highs = np.ceil(share.min() - share + (float(high) + room)).astype(np.int64)
    return np.clip(lows, floor(low), 0) - exact.slack, np.clip(highs, 0, ceil(high))


def _listed(
    rows: np.ndarray, order: np.ndarray, starts: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    before = np.cumsum(counts)
    row = 0
    while row < len(rows):
        done = int(before[row - 1]) if row else 0
        end = max(int(np.searchsorted(before, done + _PART, side="right")), row + 1)
        yield np.repeat(rows[row:end], counts[row:end]), order[_runs(starts[row:end], counts[row:end])]
        row = end
