# SPDX-License-Identifier: Apache-2.0
"""Requantization as a step function of the integer accumulator, in exact rational arithmetic.

q(acc) = clip(round(acc * ratio + offset), lo, hi) is monotone, so the accumulator values at which it
steps say everything about it: threshold k is the first accumulator at which q >= k.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd

import numpy as np
from nncosim.platforms.rounding import Rounding

__all__ = ["MAX_STEPS", "boundaries", "evaluate_exact", "round_fraction", "step_thresholds"]

MAX_STEPS = 65535
"""A function with more output values than this is not written as thresholds."""


def round_fraction(value: Fraction, rounding: Rounding) -> int:
    """Round one exact number; the definition that everything else here is tested against."""
    floor, rest = divmod(value.numerator, value.denominator)
    if rest == 0:
        return floor
    negative = floor < 0
    above, tie = 2 * rest > value.denominator, 2 * rest == value.denominator
    up = {
        Rounding.FLOOR: False,
        Rounding.CEIL: True,
        Rounding.TOWARD_ZERO: negative,
        Rounding.AWAY: not negative,
        Rounding.HALF_UP: above or tie,
        Rounding.HALF_EVEN: above or (tie and floor % 2 == 1),
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
    first, doubtful = _quotients(scale, base, slope, twice)
    for k in doubtful.tolist():
        far = scale * int(twice[k]) - base
        exact = far // slope + 1 if strict[k] else -(-far // slope)
        first[k] = min(max(exact, acc_lo), top)
    return np.clip(first, acc_lo, top)


_POINT = 32  # binary digits behind the point of the short quotients below


def _quotients(scale: int, base: int, slope: int, twice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ceil((scale * b - base) / slope) for each b, and the positions where these need to be worked out exactly.

    Numerators have hundreds of digits. Two divisions give all quotients but those within a known error of a whole
    number, where ceil and floor + 1 differ too.
    """
    ratio, offset = (scale << _POINT) // slope, (base << _POINT) // slope
    error = max(abs(int(twice[0])), abs(int(twice[-1]))) + 1 if len(twice) else 1
    if abs(ratio) * error + abs(offset) >= 1 << 62:
        return np.zeros_like(twice), np.arange(len(twice))
    estimates = ratio * twice - offset
    rest = estimates & ((1 << _POINT) - 1)
    near = (rest <= error) | (rest >= (1 << _POINT) - error)
    return (estimates >> _POINT) + 1, np.flatnonzero(near)


def evaluate_exact(
    acc: np.ndarray, ratio: Fraction, offset: Fraction, rounding: Rounding, lo: int, hi: int
) -> np.ndarray:
    """q(acc) for an int64 array of any shape, exactly. Returns int64."""
    if ratio == 1 and offset == 0:
        return np.clip(acc, lo, hi)
    if ratio == 0:
        return np.full(acc.shape, min(max(round_fraction(offset, rounding), lo), hi), dtype=np.int64)
    if hi - lo > MAX_STEPS:
        values, inverse = np.unique(acc, return_inverse=True)
        exact = [round_fraction(int(a) * ratio + offset, rounding) for a in values]
        return np.clip(np.array(exact, dtype=object), lo, hi).astype(np.int64)[inverse].reshape(acc.shape)
    find = _all_thresholds if hi - lo < _CACHED_STEPS else _all_thresholds.__wrapped__
    first = find(abs(ratio), offset, rounding, lo, hi)
    return lo + np.searchsorted(first, -acc if ratio < 0 else acc, side="right")


_CACHED_STEPS = 1024  # larger tables are not worth their memory


@lru_cache(maxsize=1 << 14)
def _all_thresholds(ratio: Fraction, offset: Fraction, rounding: Rounding, lo: int, hi: int) -> np.ndarray:
    twice, strict = boundaries(rounding, lo, hi)
    return step_thresholds(ratio, offset, twice, strict, -(1 << 62), 1 << 62)
