# SPDX-License-Identifier: Apache-2.0
"""Requantization as a step function of the integer accumulator, in exact rational arithmetic.

q(acc) = clip(round(acc * ratio + offset), lo, hi) is monotone, so the accumulator values at which it
steps say everything about it: threshold k is the first accumulator at which q >= k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

import numpy as np
from nncosim.platforms.rounding import Rounding

__all__ = ["MAX_STEPS", "boundaries", "evaluate_exact", "round_fraction", "searched_thresholds",
           "step_thresholds"]  # fmt: skip

MAX_STEPS = 65535
"""A function with more output values than this is not written as thresholds."""


def round_fraction(value: Fraction, rounding: Rounding) -> int:
    """Round one exact number; the definition that everything else here is tested against."""
    return _round_quotient(value.numerator, value.denominator, rounding)


def _round_quotient(numerator: int, denominator: int, rounding: Rounding) -> int:
    floor, rest = divmod(numerator, denominator)
    if rest == 0:
        return floor
    negative = floor < 0
    above, tie = 2 * rest > denominator, 2 * rest == denominator
    up = {
        Rounding.FLOOR: False,
        Rounding.CEIL: True,
        Rounding.TOWARD_ZERO: negative,
        Rounding.AWAY: not negative,
        Rounding.HALF_UP: above or tie,
        Rounding.HALF_EVEN: above or (tie and floor % 2 == 1),
        Rounding.HALF_ODD: above or (tie and floor % 2 == 0),
        Rounding.HALF_AWAY: above or (tie and not negative),
        Rounding.HALF_TOWARD_ZERO: above or (tie and negative),
    }[rounding]
    return floor + up


@lru_cache(maxsize=16)
def boundaries(rounding: Rounding, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
    """Where rounding steps: for k = lo+1..hi, round(y) >= k means y >= b_k, or y > b_k where strict.

    Returns:
        `twice`: int64 (hi - lo,), 2 * b_k (an integer in all modes). `strict`: int64 0 or 1 of that shape.
    """
    k = np.arange(lo + 1, hi + 1, dtype=np.int64)
    positive, even = k > 0, k % 2 == 0
    whole = {  # rounds to k from k itself on, or from just above k - 1 on
        Rounding.FLOOR: np.ones_like(positive),
        Rounding.CEIL: np.zeros_like(positive),
        Rounding.TOWARD_ZERO: positive,
        Rounding.AWAY: ~positive,
    }
    if rounding in whole:
        closed = whole[rounding]
        twice = np.where(closed, 2 * k, 2 * k - 2)
    else:
        closed = {  # whether a tie rounds to k
            Rounding.HALF_UP: np.ones_like(positive),
            Rounding.HALF_EVEN: even,
            Rounding.HALF_ODD: ~even,
            Rounding.HALF_AWAY: positive,
            Rounding.HALF_TOWARD_ZERO: ~positive,
        }[rounding]
        twice = 2 * k - 1
    strict = (~closed).astype(np.int64)
    for shared in (twice, strict):  # by all who ask
        shared.setflags(write=False)
    return twice, strict


def step_thresholds(
    ratio: Fraction, offset: Fraction, twice: np.ndarray | Sequence[int], strict: np.ndarray | Sequence[int],
    acc_lo: int, acc_hi: int,
) -> np.ndarray:
    """The first accumulator at or past each boundary (see `boundaries`), for ratio > 0. int64, like `twice`.

    Each lies within acc_lo..acc_hi + 1: acc_lo means "always reached", acc_hi + 1 "never".
    """
    scale = ratio.denominator * offset.denominator
    slope = 2 * ratio.numerator * offset.denominator
    base = 2 * offset.numerator * ratio.denominator
    common = gcd(scale, slope, base)
    scale, slope, base = scale // common, slope // common, base // common
    twice, strict = np.asarray(twice, dtype=np.int64), np.asarray(strict, dtype=np.int64)
    top = acc_hi + 1
    most = max(abs(int(twice[0])), abs(int(twice[-1]))) if len(twice) else 0
    if scale * most + abs(base) + slope < 1 << 62:
        past = scale * twice - base + strict  # the first whole number past a boundary, or at it
        return np.clip(-(-past // slope), acc_lo, top)
    first = np.empty_like(twice)
    begin, end = _within(scale, base, slope, twice, acc_lo, top)
    first[:begin], first[end:] = acc_lo, top
    inner = twice[begin:end]
    first[begin:end], doubtful = _quotients(scale, base, slope, inner)
    for k in doubtful.tolist():
        far = scale * int(inner[k]) - base
        first[begin + k] = far // slope + 1 if strict[begin + k] else -(-far // slope)
    return first if len(first) and acc_lo <= first[0] and first[-1] <= top else np.clip(first, acc_lo, top, out=first)


def _within(
    scale: int, base: int, slope: int, twice: np.ndarray, acc_lo: int, top: int
) -> tuple[int, int]:
    """Of ascending boundaries, those that can lie within acc_lo..top: up to the first number all lie at acc_lo or
    before it, from the second number on at top or past it."""
    far = 1 << 62  # beyond all boundaries
    low, high = ((slope * acc + base) // scale for acc in (acc_lo - 1, top))
    begin = int(np.searchsorted(twice, min(max(low, -far), far), side="right"))
    return begin, max(int(np.searchsorted(twice, min(max(high + 1, -far), far))), begin)


def searched_thresholds(
    function: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray, acc_lo: np.ndarray, acc_hi: np.ndarray
) -> np.ndarray:
    """As `step_thresholds`, of functions that never fall, by halving: the first accumulators with the results `wanted`.

    Args:
        function: of int64 (C, K), by row. acc_lo, acc_hi: int64 (C, 1).
    """
    shape = len(acc_lo), len(wanted)
    below, above = (np.broadcast_to(end, shape) for end in (acc_lo - 1, acc_hi + 1))
    while (above - below > 1).any():
        middle = (below + above) // 2
        reached = function(middle.clip(acc_lo, acc_hi)) >= wanted
        open_ = above - below > 1
        below, above = np.where(open_ & ~reached, middle, below), np.where(open_ & reached, middle, above)
    return above


_POINT = 32  # binary digits behind the point of the short quotients below, at most
_LEAST_POINT = 16


def _quotients(scale: int, base: int, slope: int, twice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ceil((scale * b - base) / slope) for each b, and the positions where these need to be worked out exactly.

    Numerators have hundreds of digits. Two divisions give all quotients but those within a known error of a whole
    number, where ceil and floor + 1 differ too. Products may wrap: the differences are within 64 bits.
    """
    if not len(twice):
        return twice, np.arange(0)
    ends = int(twice[0]), int(twice[-1])
    reach = max(abs((scale * b - base) // slope) for b in ends) + 2
    point = min(_POINT, 61 - reach.bit_length())
    error = max(map(abs, ends)) + 1
    if point < _LEAST_POINT or error >= 1 << point - 2:
        return np.zeros_like(twice), np.arange(len(twice))
    estimates = twice * _wrapped((scale << point) // slope)
    estimates -= _wrapped((base << point) // slope)
    rest = estimates + error
    rest &= (1 << point) - 1
    estimates >>= point
    estimates += 1
    return estimates, np.flatnonzero(rest <= 2 * error)


def _wrapped(value: int) -> np.int64:
    """The number of 64 bits in two's complement that equals it modulo 2**64."""
    return np.int64((value + (1 << 63)) % (1 << 64) - (1 << 63))


def evaluate_exact(
    acc: np.ndarray, ratio: Fraction, offset: Fraction, rounding: Rounding, lo: int, hi: int
) -> np.ndarray:
    """q(acc) for an int64 array of any shape, exactly. Returns int64."""
    if ratio == 1 and offset == 0:
        return np.clip(acc, lo, hi)
    if ratio == 0:
        return np.full(acc.shape, min(max(round_fraction(offset, rounding), lo), hi), dtype=np.int64)
    if hi - lo > MAX_STEPS or acc.size < (hi - lo) // _WORTH:
        values, inverse = np.unique(acc, return_inverse=True)
        scale = lcm(ratio.denominator, offset.denominator)
        slope, base = int(ratio * scale), int(offset * scale)
        exact = [_round_quotient(a * slope + base, scale, rounding) for a in values.tolist()]
        return np.clip(np.array(exact, dtype=object), lo, hi).astype(np.int64)[inverse].reshape(acc.shape)
    find = _all_thresholds if hi - lo < _CACHED_STEPS else _all_thresholds.__wrapped__
    first = find(abs(ratio), offset, rounding, lo, hi)
    return lo + np.searchsorted(first, -acc if ratio < 0 else acc, side="right")


_WORTH = 256  # thresholds that take the time of one number
_CACHED_STEPS = 1024  # larger tables are not worth their memory


@lru_cache(maxsize=1 << 14)
def _all_thresholds(ratio: Fraction, offset: Fraction, rounding: Rounding, lo: int, hi: int) -> np.ndarray:
    twice, strict = boundaries(rounding, lo, hi)
    return step_thresholds(ratio, offset, twice, strict, -(1 << 62), 1 << 62)
