# SPDX-License-Identifier: Apache-2.0
"""Requantization, written once: RTL, instruction-set simulator, references and proof all mean this.

Its forms are data: multiply and shift, thresholds, a table, chains and sums of them. A sum is a 64-bit two's complement
number (it wraps; the compiler proves that it never does).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from nncosim.platforms.rounding import Rounding

__all__ = ["Chain", "Lookup", "MultiplyShift", "Requant", "Sum", "Thresholds", "round_shift"]


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
    up = np.zeros_like(floor, dtype=bool)
    for mode in present:
        up = up | ((modes == mode) & _rounds_up(mode, floor, rest, half))
    return floor + up


def _rounds_up(mode: Rounding, floor: np.ndarray, rest: np.ndarray, half: np.ndarray) -> np.ndarray:
    """bool: the result is floor + 1. rest: what the shift drops, of which `half` is a tie (both 0 for a shift of 0)."""
    if mode == Rounding.FLOOR:
        return np.zeros_like(floor, dtype=bool)
    inexact = rest != 0
    if mode == Rounding.CEIL:
        return inexact
    if mode == Rounding.TOWARD_ZERO:
        return inexact & (floor < 0)
    if mode == Rounding.AWAY:
        return inexact & (floor >= 0)
    tie_goes_up = {
        Rounding.HALF_UP: np.ones_like(floor, dtype=bool),
        Rounding.HALF_EVEN: (floor & 1) == 1,
        Rounding.HALF_AWAY: floor >= 0,
        Rounding.HALF_TOWARD_ZERO: floor < 0,
    }[mode]
    return (rest > half) | (inexact & (rest == half) & tie_goes_up)


class Requant(ABC):
    """How accumulators become results, of each output channel: one of the forms below.

    `monotone`: a greater accumulator never gives a smaller result (or never a greater one, by channel).
    """

    @property
    def monotone(self) -> bool:
        return True

    @property
    @abstractmethod
    def channels(self) -> int: ...

    @abstractmethod
    def take(self, channels: np.ndarray) -> Self:
        """That of some channels, in this order."""

    @abstractmethod
    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        """Requantize int arrays, one per operand, to int64 of the same shape. `axis`: where their channels are."""

    def overflows(self, acc_lo: np.ndarray, acc_hi: np.ndarray) -> np.ndarray:
        """bool (C,): a sum may leave its width for accumulators of acc_lo..acc_hi, and `apply` is then not monotone."""
        return np.zeros(self.channels, dtype=bool)

    def key(self, channel: int) -> Hashable:
        """Equal of channels with equal numbers."""
        return _hashable(self.take(np.array([channel])))


def _hashable(value: object) -> Hashable:
    """A form, and what its fields are made of: numbers, arrays, tuples, forms."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, Requant):
        return type(value), _hashable(tuple(vars(value).values()))
    return tuple(map(_hashable, value)) if isinstance(value, tuple) else value


def _by_channel(
    function: Callable[[int, np.ndarray], np.ndarray], accumulators: Sequence[np.ndarray], axis: int
) -> np.ndarray:
    """`function` of (channel, the operands' sum there)."""
    total = np.moveaxis(np.add.reduce([each.astype(np.int64) for each in accumulators]), axis, 0)
    return np.moveaxis(np.stack([function(c, plane) for c, plane in enumerate(total)]), 0, axis)


@dataclass(frozen=True, eq=False)
class MultiplyShift(Requant):
    """q = clip(round_shift(sum_i acc_i * m_i + c, s), lo, hi). A shift alone is this with m = 1.

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
    ) -> MultiplyShift:
        """The same numbers for every channel; the defaults pass int8 through."""
        def full(value: int) -> np.ndarray:
            return np.full(channels, value, dtype=np.int64)
        return cls(tuple(full(x) for x in m), full(c), full(s), full(lo), full(hi), full(int(rounding)))

    @property
    def channels(self) -> int:
        return len(self.c)

    def take(self, channels: np.ndarray) -> MultiplyShift:
        return MultiplyShift(tuple(m[channels] for m in self.m), self.c[channels], self.s[channels], self.lo[channels],
                             self.hi[channels], self.rounding[channels])  # fmt: skip

    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        shape = [1] * accumulators[0].ndim
        shape[axis] = -1
        with np.errstate(over="ignore"):
            total = self.c.reshape(shape)
            for acc, m in zip(accumulators, self.m, strict=True):
                total = total + acc.astype(np.int64) * m.reshape(shape)
        rounded = round_shift(total, self.s.reshape(shape), self.rounding.reshape(shape))
        return np.clip(rounded, self.lo.reshape(shape), self.hi.reshape(shape))

    def overflows(self, acc_lo: np.ndarray, acc_hi: np.ndarray) -> np.ndarray:
        reach = np.maximum(np.abs(acc_lo), np.abs(acc_hi)).tolist()
        terms = zip(*(np.abs(m).tolist() for m in self.m), strict=True)
        numbers = zip(reach, terms, self.c.tolist(), strict=True)  # Python integers, so that this itself cannot
        return np.array([r * sum(m) + abs(c) >= 1 << 63 for r, m, c in numbers], dtype=bool)


@dataclass(frozen=True, eq=False)
class Thresholds(Requant):
    """q = lo + how many thresholds the accumulator reaches.

    Attributes:
        first: int64 (C, K), ascending. lo: result below all of them.
        falling: bool (C,): it is the accumulator's negative that is compared.
    """

    first: np.ndarray
    lo: int
    falling: np.ndarray

    @property
    def channels(self) -> int:
        return len(self.first)

    def take(self, channels: np.ndarray) -> Thresholds:
        return Thresholds(self.first[channels], self.lo, self.falling[channels])

    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        def count(c: int, acc: np.ndarray) -> np.ndarray:
            return self.lo + np.searchsorted(self.first[c], -acc if self.falling[c] else acc, side="right")

        return _by_channel(count, accumulators, axis)


@dataclass(frozen=True, eq=False)
class Lookup(Requant):
    """q = values[channel, accumulator - low]; accumulators beyond either end take the last value there.

    Attributes:
        values: int64 (C, entries). low: the accumulator of the first entry.
    """

    values: np.ndarray
    low: int

    @property
    def monotone(self) -> bool:
        return False

    @property
    def channels(self) -> int:
        return len(self.values)

    def take(self, channels: np.ndarray) -> Lookup:
        return Lookup(self.values[channels], self.low)

    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        last = self.values.shape[1] - 1
        return _by_channel(lambda c, acc: self.values[c][np.clip(acc - self.low, 0, last)], accumulators, axis)


@dataclass(frozen=True, eq=False)
class Chain(Requant):
    """One form after the other: what is rounded, or clipped, twice."""

    stages: tuple[Requant, ...]

    @property
    def monotone(self) -> bool:
        return all(stage.monotone for stage in self.stages)

    @property
    def channels(self) -> int:
        return self.stages[0].channels

    def take(self, channels: np.ndarray) -> Chain:
        return Chain(tuple(stage.take(channels) for stage in self.stages))

    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        first, *others = self.stages
        value = first.apply(*accumulators, axis=axis)
        for stage in others:
            value = stage.apply(value, axis=axis)
        return value

    def overflows(self, acc_lo: np.ndarray, acc_hi: np.ndarray) -> np.ndarray:
        wrong = np.zeros(self.channels, dtype=bool)
        for stage in self.stages:
            wrong |= stage.overflows(acc_lo, acc_hi)
            ends = stage.apply(np.stack([acc_lo, acc_hi], axis=1))
            acc_lo, acc_hi = ends.min(axis=1), ends.max(axis=1)
        return wrong


@dataclass(frozen=True, eq=False)
class Sum(Requant):
    """The sum of what each operand's own form makes of it."""

    parts: tuple[Requant, ...]

    @property
    def monotone(self) -> bool:
        return all(part.monotone for part in self.parts)

    @property
    def channels(self) -> int:
        return self.parts[0].channels

    def take(self, channels: np.ndarray) -> Sum:
        return Sum(tuple(part.take(channels) for part in self.parts))

    def apply(self, *accumulators: np.ndarray, axis: int = 0) -> np.ndarray:
        results = [part.apply(acc, axis=axis) for part, acc in zip(self.parts, accumulators, strict=True)]
        return np.add.reduce(results)
