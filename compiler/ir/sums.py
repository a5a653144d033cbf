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
        twice, strict = boundaries(rounding, lo, hi)
        self.first = Fraction(int(twice[0]) % 2, 2) if len(twice) else Fraction(0)
        self._reach = 2 * ((twice - int(2 * self.first)) // 2) + strict
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
        if (abs(slope) * max(abs(low), abs(high)) + abs(base)) < 1 << 62 and not self.slack:
            return np.divmod(np.arange(low, high + 1, dtype=np.int64) * slope + base, self._scale)
        wholes, parts = [], []
        for value in range(low, high + 1):
            whole, part = divmod(value * slope + base, self._scale)
            wholes.append(whole)
            parts.append(part * self.modulus // self._scale)
        if max(map(abs, wholes)) >= _MODULUS:
            self._long = True
            wholes = [0] * len(wholes)
        return np.array(wholes, dtype=np.int64), np.array(parts, dtype=np.int64)

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
        return self.lo + np.searchsorted(self._reach, reached, side="right")

    def _decide(self, a: int, b: int) -> int:
        terms = zip((a, b), self._terms, strict=True)
        whole, part = divmod(sum(value * slope + base for value, (slope, base) in terms), self._scale)
        return min(max(2 * whole + (part > 0), -_MODULUS), _MODULUS)
