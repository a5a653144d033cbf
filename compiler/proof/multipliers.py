# SPDX-License-Identifier: Apache-2.0
"""The search for integers (m, c, s) whose step function has given thresholds.

Per channel, q(acc) is nondecreasing (decreasing channels are mirrored by the caller). With n = acc * m + c
and h_k = b_k * 2**s the boundary of output k (plus 1 where the boundary itself belongs to k - 1):

    q >= k from accumulator T_k on   <=>   T_k * m + c >= h_k   and   (T_k - 1) * m + c <= h_k - 1

For one m these are an interval of c per channel, the intersection of all k. Its length is a concave,
piecewise linear function of m, so that Newton's method from one side finds an m, or proves that none is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from nncosim.compiler.ir.thresholds import boundaries
from nncosim.platforms.rounding import Rounding

__all__ = ["FAR", "Found", "Steps", "dyadic", "heights_of", "interval", "largest_shift", "multipliers",
           "shift_limit"]

FAR = np.int64(1) << 62


@dataclass(frozen=True, eq=False)
class Steps:
    """Step functions of several channels with one lo, hi and rounding.

    first: int64 (C, K), threshold of k = lo + 1 + column * every, within acc_lo..acc_hi + 1.
    acc_lo, acc_hi: int64 (C,).
    """

    first: np.ndarray
    acc_lo: np.ndarray
    acc_hi: np.ndarray
    lo: int
    hi: int
    every: int = 1

    def select(self, channels: np.ndarray) -> Steps:
        if len(channels) == len(self.first):
            return self
        return replace(self, first=self.first[channels], acc_lo=self.acc_lo[channels], acc_hi=self.acc_hi[channels])

    def thinned(self, every: int) -> Steps:
        """One threshold of so many: what no multiplier meets here, none meets in full."""
        return replace(self, first=self.first[:, ::every], every=self.every * every)

    @property
    def constant(self) -> np.ndarray:
        """bool (C,): the channel has one output value on its whole range."""
        inside = (self.first > self.acc_lo[:, None]) & (self.first <= self.acc_hi[:, None])
        return np.logical_not(inside.any(axis=1))


@dataclass(eq=False)
class Found:
    """Result of a search: int64 (C,) each; `ok` bool (C,): the thresholds are all met."""

    m: np.ndarray
    c: np.ndarray
    s: np.ndarray
    ok: np.ndarray


def shift_limit(lo: int, hi: int, max_shift: int) -> int:
    """The largest shift with which a boundary of results lo..hi, times 2**s, stays under 2**60."""
    return min(max_shift, 60 - max(abs(lo), abs(hi), 1).bit_length())


def largest_shift(ratio: Fraction, multiplier_bits: int, shift_limit: int) -> int:
    """The largest s of 1..shift_limit with round(ratio * 2**s) within signed `multiplier_bits` (ratio > 0)."""
    most = (1 << multiplier_bits - 1) - 1
    s = most.bit_length() - (ratio.numerator.bit_length() - ratio.denominator.bit_length()) + 1
    s = max(min(s, shift_limit), 1)
    while s > 1 and round(ratio * (1 << s)) > most:
        s -= 1
    return s


def dyadic(
    ratios: tuple[Fraction, ...], offset: Fraction, multiplier_bits: int, constant_bits: int, max_shift: int
) -> tuple[tuple[int, ...], int, int] | None:
    """(m, c, s) that equal ratio and offset themselves, with the least s; None where there are none."""
    s = max(x.denominator.bit_length() - 1 for x in (*ratios, offset))
    if s > max_shift:
        return None
    scaled = [x * (1 << s) for x in (*ratios, offset)]
    if any(x.denominator != 1 for x in scaled):
        return None
    *m, c = (int(x) for x in scaled)
    fits = all(-(1 << multiplier_bits - 1) <= x < 1 << multiplier_bits - 1 for x in m)
    return (tuple(m), c, s) if fits and -(1 << constant_bits - 1) <= c < 1 << constant_bits - 1 else None


def heights_of(steps: Steps, rounding: Rounding, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h_k as int64 (C, K): as a lower bound, and as an upper one (perhaps one array); far away where T_k, or T_k - 1,
    is not reachable."""
    twice, strict = (each[:: steps.every] for each in boundaries(rounding, steps.lo, steps.hi))
    heights = twice[None, :] << np.maximum(s - 1, 0)[:, None]
    heights += strict[None, :]
    if not s.all():  # nothing is rounded
        k = np.arange(steps.lo + 1, steps.hi + 1)[:: steps.every]
        heights = np.where((s == 0)[:, None], k[None, :], heights)
    below = above = heights
    if (steps.first[:, -1:] > steps.acc_hi[:, None]).any():  # rows ascend
        below = np.where(steps.first <= steps.acc_hi[:, None], heights, -FAR)
    if (steps.first[:, :1] <= steps.acc_lo[:, None]).any():
        above = np.where(steps.first > steps.acc_lo[:, None], heights, FAR)
    return below, above


def interval(first: np.ndarray, heights: tuple[np.ndarray, np.ndarray], m: np.ndarray) -> tuple[np.ndarray, ...]:
    """c's interval for given m, and the thresholds that bound it: low, high, T at low, T - 1 at high."""
    rows = np.arange(len(m))
    product = first * m[:, None]
    low = heights[0] - product
    i = low.argmax(axis=1)
    high = low if heights[1] is heights[0] else np.subtract(heights[1], product, out=product)
    j = high.argmin(axis=1)
    return low[rows, i], high[rows, j] + m - 1, first[rows, i], first[rows, j] - 1


def _interval_of(
    rows: np.ndarray, first: np.ndarray, heights: tuple[np.ndarray, np.ndarray], m: np.ndarray
) -> tuple[np.ndarray, ...]:
    """`interval` of some channels; of all without a copy."""
    if len(rows) == len(m):
        return interval(first, heights, m)
    below = heights[0][rows]
    above = below if heights[1] is heights[0] else heights[1][rows]
    return interval(first[rows], (below, above), m[rows])


def multipliers(
    steps: Steps, m: np.ndarray, s: np.ndarray, rounding: Rounding, multiplier_bits: int, constant_bits: int,
    rounds: int = 64,
) -> Found:
    """Search m and c for given s.

    Args:
        steps: no constant channel among them. m: first guess round(ratio * 2**s), int64 (C,).
        s: int64 (C,), at least 1, so small that hi * 2**s stays under 2**60.
        rounds: of Newton's method at most; 0: the first guess is not looked at.

    Returns:
        For channels that are not ok, the last m and the c nearest to the thresholds.
    """
    heights = heights_of(steps, rounding, s)
    most = np.int64((1 << multiplier_bits - 1) - 1)
    start = np.clip(m, 1, most)
    m, least_m, most_m = start.copy(), np.ones_like(start), np.full_like(start, most)
    c, ok, todo = np.zeros_like(m), np.zeros(len(m), dtype=bool), np.arange(len(m))
    for _ in range(rounds):
        if not len(todo):
            break
        low, high, at_low, at_high = _interval_of(todo, steps.first, heights, m)
        c[todo] = low + (high - low) // 2
        good = high >= low
        ok[todo[good]] = True
        # the tangent at m bounds the interval's length from above: no m on this side of its zero will do
        slope = at_low - at_high
        need = -(-(low - high) // np.maximum(np.abs(slope), 1))
        up, down = ~good & (slope > 0), ~good & (slope < 0)
        least_m[todo[up]] = np.maximum(least_m[todo[up]], (m[todo] + need)[up])
        most_m[todo[down]] = np.minimum(most_m[todo[down]], (m[todo] - need)[down])
        go = (up | down) & (least_m[todo] <= most_m[todo])
        m[todo[up & go]] = least_m[todo[up & go]]
        m[todo[down & go]] = most_m[todo[down & go]]
        todo = todo[go]
    bad = np.flatnonzero(~ok)
    m[bad] = start[bad]
    if len(bad):
        low, high, _, _ = _interval_of(bad, steps.first, heights, m)
        c[bad] = low + (high - low) // 2
    limit = FAR if constant_bits >= 64 else np.int64(1 << constant_bits - 1)
    ok &= (c < limit) & (c >= -limit)
    return Found(m, c, s.copy(), ok)
