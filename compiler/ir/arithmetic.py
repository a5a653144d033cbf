# SPDX-License-Identifier: Apache-2.0
"""Requantization, written once: RTL, instruction-set simulator, references and proof all mean this.

    q = clip(round_shift(sum_i acc_i * m_i + c, s), lo, hi)

The sum is a 64-bit two's complement number (it wraps; the compiler proves that it never does).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nncosim.platforms.rounding import Rounding

__all__ = ["Requant", "round_shift"]


def round_shift(value: np.ndarray | np.int64, shift: np.ndarray | int, rounding: np.ndarray | int) -> np.ndarray:
    """Divide int64 `value` by 2**shift (0 to 62) and round; arrays broadcast against each other."""
    value = np.asarray(value, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    modes = np.asarray(rounding)
    floor = value >> shift
    present = [Rounding(int(m)) for m in np.unique(modes)]
    if present == [Rounding.FLOOR]:
        return floor
    rest = value - (floor << shift)
    half = (np.int64(1) << shift) >> 1
    up = np.zeros(1, dtype=bool)
    for mode in present:
        up = up | ((modes == mode) & _rounds_up(mode, floor, rest, half))
    return floor + up


def _rounds_up(mode: Rounding, floor: np.ndarray, rest: np.ndarray, half: np.ndarray) -> np.ndarray:
    """bool: the result is floor + 1. rest: what the shift drops, of which `half` is a tie (both 0 for a shift of 0)."""
    if mode == Rounding.FLOOR:
        return np.zeros(1, dtype=bool)
    inexact = rest != 0
    if mode == Rounding.CEIL:
        return inexact
    if mode == Rounding.TOWARD_ZERO:
        return inexact & (floor < 0)
    if mode == Rounding.AWAY:
        return inexact & (floor >= 0)
    tie_goes_up = {
        Rounding.HALF_UP: np.ones(1, dtype=bool),
        Rounding.HALF_EVEN: (floor & 1) == 1,
        Rounding.HALF_AWAY: floor >= 0,
        Rounding.HALF_TOWARD_ZERO: floor < 0,
    }[mode]
    return (rest > half) | (inexact & (rest == half) & tie_goes_up)


@dataclass(frozen=True, eq=False)
class Requant:
    """Integer requantization of one operator, per output channel.

    Attributes:
        m: one int64 array per operand (an Add has two), each of shape (C,): signed 32-bit multipliers.
        c: int64 array (C,): bias, zero points and rounding residue.
        s: int64 array (C,): right shift, 0 to 62.
        lo, hi: int64 arrays (C,): clip bounds of the result.
        rounding: array (C,) of `Rounding`.
    """

    m: tuple[np.ndarray, ...]
    c: np.ndarray
    s: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    rounding: np.ndarray

    @classmethod
    def uniform(
        cls, channels: int, m: tuple[int, ...] = (1,), c: int = 0, s: int = 0,
        lo: int = -128, hi: int = 127, rounding: Rounding = Rounding.FLOOR,
    ) -> Requant:
        """The same numbers for every channel; the defaults pass int8 through."""
        def full(value: int) -> np.ndarray:
            return np.full(channels, value, dtype=np.int64)
        return cls(tuple(full(x) for x in m), full(c), full(s), full(lo), full(hi), full(int(rounding)))

    @property
    def channels(self) -> int:
        return len(self.c)

    def take(self, channels: np.ndarray) -> Requant:
        """That of some channels, in this order."""
        return Requant(tuple(m[channels] for m in self.m), self.c[channels], self.s[channels], self.lo[channels],
                       self.hi[channels], self.rounding[channels])  # fmt: skip

    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        """Requantize int arrays, one per operand, to int64 of the same shape. `axis`: where their channels are."""
        shape = [1] * accumulators[0].ndim
        shape[axis] = -1
        with np.errstate(over="ignore"):
            total = self.c.reshape(shape)
            for acc, m in zip(accumulators, self.m, strict=True):
                total = total + acc.astype(np.int64) * m.reshape(shape)
        rounded = round_shift(total, self.s.reshape(shape), self.rounding.reshape(shape))
        return np.clip(rounded, self.lo.reshape(shape), self.hi.reshape(shape))
