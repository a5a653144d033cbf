# SPDX-License-Identifier: Apache-2.0
"""q = clip(round(a * r_a + b * r_b + offset), lo, hi) of two integers, exactly and without a table of all pairs.

Where rounding steps, y = a * r_a + b * r_b + offset is a whole number, or half of an odd one, in every mode. So y is
split at these places: y = first + whole + part, first 0 or 1/2, whole an integer, 0 <= part < 1. The parts of a and of
b are integers over one modulus; of numerators too long for 64 bits the leading ones are kept, and a sum that is too
near to zero for those is decided by all.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import lcm

import numpy as np
from nncosim.compiler.ir.thresholds import boundaries
from nncosim.platforms.rounding import Rounding

__all__ = ["ExactSum"]

_MODULUS = 1 << 60


class ExactSum:
    """The function on one box of inputs.

    Attributes:
        first: 0 or 1/2. modulus: what the parts are counted in. slack: the true part of a sum is less than this above
            the sum of the two parts; 0 where these are exact.
        whole, part: int64 arrays of both inputs, by value - lowest value.
    """

    def __init__(
        self, ratios: Sequence[Fraction], offset: Fraction, rounding: Rounding, lo: int, hi: int,
        ranges: Sequence[tuple[int, int]],
    ):
        self.lo, self.hi = lo, hi
        half, self._lowest_reach, self._results = _steps(rounding, lo, hi)
        self.first = Fraction(half, 2)
        self.lowest = tuple(low for low, _ in ranges)
        offset -= self.first
        self._scale = lcm(offset.denominator, *(r.denominator for r in ratios))
        slopes, bases = ([int(x * self._scale) for x in each] for each in (ratios, (offset, Fraction(0))))
        self._terms = list(zip(slopes, bases, strict=True))
        exact = self._scale <= _MODULUS
        self.modulus, self.slack = (self._scale, 0) if exact else (_MODULUS, 2)
        self._long = False  # whole parts that leave 64 bits: then every sum is decided by all digits
        both = [self._split(*term, *limits) for term, limits in zip(self._terms, ranges, strict=True)]
        self.whole, self.part = (tuple(each) for each in zip(*both, strict=True))

    def _split(self, slope: int, base: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        start, count = base + low * slope, high - low + 1
        if max(abs((base + end * slope) // self._scale) for end in (low, high)) >= _MODULUS:
            self._long = True
            slope, start = slope % self._scale, start % self._scale
        if not self.slack:
            return _progression(start, slope, self._scale, count)
        return _leading(start, slope, self._scale, count)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """q as int64, for int64 arrays within the ranges that broadcast."""
        i, j = a - self.lowest[0], b - self.lowest[1]
        part = self.part[0][i] + self.part[1][j]
        whole = self.whole[0][i] + self.whole[1][j] + (part >= self.modulus)
        part = np.where(part >= self.modulus, part - self.modulus, part)
        reached = 2 * whole + (part > 0)
        if self.slack or self._long:  # at zero, or so little below the next whole number that it may be there
            for at in np.argwhere((part == 0) | (part > self.modulus - self.slack) | self._long):
                index = tuple(at)
                reached[index] = self._decide(*(int(v[index]) for v in np.broadcast_arrays(a, b)))
        reached -= self._lowest_reach
        return self._results[np.clip(reached, -1, len(self._results) - 2, out=reached)]

    def _decide(self, a: int, b: int) -> int:
        terms = zip((a, b), self._terms, strict=True)
        whole, part = divmod(sum(value * slope + base for value, (slope, base) in terms), self._scale)
        return min(max(2 * whole + (part > 0), -_MODULUS), _MODULUS)


@lru_cache(maxsize=16)
def _steps(rounding: Rounding, lo: int, hi: int) -> tuple[int, int, np.ndarray]:
    """1 where steps lie at halves; the least that twice a whole part, plus 1 where something follows, reaches a step
    with; the results from there on, by such a number, the last that of less."""
    twice, strict = boundaries(rounding, lo, hi)
    if not len(twice):
        return 0, 0, np.array([lo, lo])
    half = int(twice[0]) % 2
    reach = 2 * ((twice - half) // 2) + strict
    results = lo + np.searchsorted(reach, np.arange(reach[0], reach[-1] + 1), side="right")
    results = np.append(results, lo)
    results.setflags(write=False)
    return half, int(reach[0]), results


def _progression(start: int, slope: int, scale: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """divmod(start + i * slope, scale) for i of 0..count - 1, by doubling where a product may leave 64 bits. int64;
    scale at most 2**61."""
    if abs(start) + count * abs(slope) < 1 << 62:
        return np.divmod(np.arange(count, dtype=np.int64) * slope + start, scale)
    whole, part = np.empty((2, count), dtype=np.int64)
    whole[0], part[0] = divmod(start, scale)
    done = 1
    while done < count:
        more = min(done, count - done)
        steps, rest = divmod(done * slope, scale)
        sums = part[:more] + rest
        carry = sums >= scale
        part[done : done + more] = sums - carry * np.int64(scale)
        whole[done : done + more] = whole[:more] + carry + steps
        done += more
    return whole, part


_DIGITS = 60  # binary digits below those that are kept, so that what they carry is known
_DOUBT = 64  # more than what all doublings drop of the last digit


def _leading(start: int, slope: int, scale: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_progression`, the rest in units of scale / _MODULUS, rounded down; for any scale."""
    whole, part, below = np.empty((3, count), dtype=np.int64)

    def split(value: int) -> tuple[int, int, int]:
        first, rest = divmod((value * _MODULUS << _DIGITS) // scale, _MODULUS << _DIGITS)
        return first, rest >> _DIGITS, rest & (1 << _DIGITS) - 1

    whole[0], part[0], below[0] = split(start)
    done = 1
    while done < count:
        more = min(done, count - done)
        steps = split(done * slope)
        low = below[:more] + steps[2]
        sums = part[:more] + (low >> _DIGITS) + steps[1]
        carry = sums >= _MODULUS
        below[done : done + more] = low & (1 << _DIGITS) - 1
        part[done : done + more] = sums - carry * np.int64(_MODULUS)
        whole[done : done + more] = whole[:more] + carry + steps[0]
        done += more
    for i in np.flatnonzero(below >= (1 << _DIGITS) - _DOUBT).tolist():
        whole[i], part[i], _ = split(start + i * slope)
    return whole, part
