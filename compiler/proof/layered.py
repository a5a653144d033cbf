# SPDX-License-Identifier: Apache-2.0
"""The search of (m, c, s) for a function of one accumulator where numbers are a layer's, or a part of them is missing.

A trial has one shift and one rounding mode. For its multipliers, thresholds give each channel an interval of c, as in
`multipliers`; one c for all channels has to lie in all intervals, one m has to leave each interval long enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from nncosim.compiler.errors import RequantError
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.thresholds import MAX_STEPS
from nncosim.compiler.proof.caps import MultiplyShiftCaps, Per
from nncosim.compiler.proof.multipliers import FAR, heights_of, interval, largest_shift, multipliers, shift_limit
from nncosim.compiler.proof.single import MANY, rounding_modes
from nncosim.compiler.proof.verify import blocks, steps_of
from nncosim.platforms.rounding import Rounding

__all__ = ["find_shared"]


def find_shared(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, caps: MultiplyShiftCaps
) -> MultiplyShift:
    """The first shift and mode that are exact for all channels; else those nearest to it.

    Raises:
        RequantError: a channel falls with its accumulator, and no multiplier can turn it.
    """
    _check_signs(function, caps)
    return _equal(function, caps) or _searched(function, acc_lo, acc_hi, caps)


def _check_signs(function: QuantFunction, caps: MultiplyShiftCaps) -> None:
    falling = [c for c, ratio in enumerate(function.ratios[0]) if ratio < 0]
    if not falling:
        return
    what, turn = f"the result of channel {falling[0]} falls with its accumulator", "negate its weights and bias before"
    if not (caps.multiplier_bits and caps.negative):
        raise RequantError(f"{what}, and no multiplier can be negative; {turn}")
    if caps.multiplier_per == Per.LAYER and any(ratio > 0 for ratio in function.ratios[0]):
        raise RequantError(f"{what}, others rise, and all have one multiplier; {turn}")


def _equal(function: QuantFunction, caps: MultiplyShiftCaps) -> MultiplyShift | None:
    """Numbers that are the rational ones themselves."""
    if function.integers is not None:
        return None
    ratios, offsets = function.ratios[0], function.offset
    denominators = [x.denominator for x in (*ratios, *offsets)]
    s = max(denominators).bit_length() - 1
    if any(d & (d - 1) for d in denominators) or s > caps.max_shift or (s and function.rounding not in caps.roundings):
        return None
    m, c = ([int(x * (1 << s)) for x in each] for each in (ratios, offsets))
    most = 1 << caps.multiplier_bits - 1 if caps.multiplier_bits else 2
    fits = all(-most <= x < most for x in m) if caps.multiplier_bits else set(m) == {1}
    low, high = _constants(caps)
    fits &= all(low <= x <= high for x in c)
    fits &= caps.multiplier_per == Per.CHANNEL or len(set(m)) == 1
    fits &= caps.constant_per == Per.CHANNEL or len(set(c)) == 1
    if not fits:
        return None
    bounds = MultiplyShift.uniform(len(m), (0,), 0, s, function.lo, function.hi, function.rounding if s else _any(caps))
    return MultiplyShift((np.array(m),), np.array(c), bounds.s, bounds.lo, bounds.hi, bounds.rounding)


def _any(caps: MultiplyShiftCaps) -> Rounding:
    return min(caps.roundings)


def _constants(caps: MultiplyShiftCaps) -> tuple[int, int]:
    """Least and greatest c."""
    if not caps.constant_bits:
        return 0, 0
    most = 1 << min(caps.constant_bits - 1, 62)
    return -most, most - 1


@dataclass(eq=False)
class _Trial:
    """Numbers of all channels for one shift and mode; gap: float64 (C,), output steps by which c's interval is too
    short, 0 where the channel is exact."""

    mode: Rounding
    s: int
    m: np.ndarray
    c: np.ndarray
    gap: np.ndarray

    @property
    def order(self) -> tuple[int, float]:
        return int((self.gap > 0).sum()), float(self.gap.sum())


def _searched(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, caps: MultiplyShiftCaps
) -> MultiplyShift:
    if function.hi - function.lo > MAX_STEPS:
        raise RequantError(f"outputs of {function.lo}..{function.hi} have too many steps to search a shift for them")
    layer = _LayerThresholds(function, acc_lo, acc_hi, caps)
    trials: list[_Trial] = []
    for mode, s in layer.settings():
        trials.append(layer.trial(mode, s))
        if not trials[-1].gap.any():
            trials = trials[-1:]
            break
    if caps.shift_per == Per.LAYER:
        trials = [min(trials, key=lambda t: t.order)]
    best = np.stack([t.gap for t in trials]).argmin(axis=0)  # by channel

    def chosen(values: list[np.ndarray]) -> np.ndarray:
        return np.stack(values)[best, np.arange(len(best))]

    width = len(best)
    bounds = MultiplyShift.uniform(width, (0,), 0, 0, function.lo, function.hi)
    return MultiplyShift(
        (chosen([t.m for t in trials]) * layer.signs,), chosen([t.c for t in trials]),
        chosen([np.full(width, t.s) for t in trials]), bounds.lo, bounds.hi,
        chosen([np.full(width, int(t.mode)) for t in trials]),
    )  # fmt: skip


class _LayerThresholds:
    """The channels' thresholds, and what one shift and mode make of them."""

    def __init__(self, function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, caps: MultiplyShiftCaps):
        ratios = function.ratios[0]
        self.function, self.caps = function, caps
        self.channels = np.arange(len(ratios))
        self.signs = np.array([-1 if r < 0 else 1 for r in ratios], dtype=np.int64)
        self.ratios = [abs(r) for r in ratios]
        self.steps = steps_of(function, self.channels, acc_lo, acc_hi)
        reach = int(max(np.abs(acc_lo).max(), np.abs(acc_hi).max()))
        self.bits = min(caps.multiplier_bits, 62 - reach.bit_length())
        self.limit = shift_limit(function.lo, function.hi, caps.max_shift)

    def settings(self) -> list[tuple[Rounding, int]]:
        """Modes and shifts to try. Of many thresholds, a part says first which ones are worth it."""
        every = [(mode, s) for s in self._shifts() for mode in rounding_modes(self.function, self.caps)]
        if self.steps.first.shape[1] <= MANY:
            return every
        full, self.steps = self.steps, self.steps.thinned(64)
        rough = [self.trial(*setting) for setting in every]
        self.steps = full
        gaps = np.stack([trial.gap for trial in rough])
        if self.caps.shift_per == Per.CHANNEL:
            return [setting for setting, gap in zip(every, gaps, strict=True) if (gap == gaps.min(axis=0)).any()]
        best = min(trial.order for trial in rough)
        return [setting for setting, trial in zip(every, rough, strict=True) if trial.order == best]

    def _shifts(self) -> list[int]:
        known = [r for r in self.ratios if r]
        if not known:
            return [0]
        if self.caps.multiplier_bits:
            top = largest_shift(max(known), self.bits, self.limit)
            return [top] if self.caps.constant_bits >= 64 else list(range(top, max(top - 16, 0), -1))
        sizes = [r.denominator.bit_length() - r.numerator.bit_length() for r in (min(known), max(known))]
        return list(range(min(max(sizes[1] - 1, 0), self.limit), min(max(sizes[0] + 1, 0), self.limit) + 1))

    def trial(self, mode: Rounding, s: int) -> _Trial:
        if not self.caps.multiplier_bits:
            m = np.ones_like(self.channels)
        elif self.caps.multiplier_per == Per.LAYER:
            m = self._one_multiplier(mode, s)
        else:
            m = self._multipliers(mode, s)
        low, high, _, _ = self._interval(mode, s, m)
        return self._with_constants(mode, s, m, low, high)

    def _interval(self, mode: Rounding, s: int, m: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = []
        for block in blocks(self.channels, self.steps.hi - self.steps.lo):
            steps = self.steps.select(block)
            parts.append(interval(steps.first, heights_of(steps, mode, np.full(len(block), s)), m[block]))
        return tuple(np.concatenate(each) for each in zip(*parts, strict=True))

    def _guess(self, ratio: Fraction, s: int) -> int:
        return max(min(round(ratio * (1 << s)), (1 << self.bits - 1) - 1), 1)

    def _multipliers(self, mode: Rounding, s: int) -> np.ndarray:
        parts = []
        for block in blocks(self.channels, self.steps.hi - self.steps.lo):
            guess = np.array([self._guess(self.ratios[c], s) for c in block])
            found = multipliers(self.steps.select(block), guess, np.full(len(block), s), mode, self.bits, 64)
            parts.append(np.where([self.ratios[c] == 0 for c in block], 1, found.m))
        return np.concatenate(parts)

    def _one_multiplier(self, mode: Rounding, s: int) -> np.ndarray:
        """By Newton's method from one side, as in `multipliers`, on the channel, or channels, with the least room."""
        start = self._guess(sorted(self.ratios)[len(self.ratios) // 2], s)
        m, least, most = start, 1, (1 << self.bits - 1) - 1
        for _ in range(64):
            low, high, at_low, at_high = self._interval(mode, s, np.full_like(self.channels, m))
            i = j = int((high - low).argmin())
            if self.caps.constant_per == Per.LAYER:
                i, j = int(low.argmax()), int(high.argmin())
            lacking, slope = int(low[i]) - int(high[j]), int(at_low[i]) - int(at_high[j])
            if lacking <= 0:
                return np.full_like(self.channels, m)
            if slope == 0:
                break
            need = -(-lacking // abs(slope))
            if slope > 0:
                m = least = max(least, m + need)
            else:
                m = most = min(most, m - need)
            if least > most:
                break
        return np.full_like(self.channels, start)

    def _with_constants(self, mode: Rounding, s: int, m: np.ndarray, low: np.ndarray, high: np.ndarray) -> _Trial:
        if self.caps.constant_per == Per.LAYER:
            low, high = np.full_like(low, low.max()), np.full_like(high, high.min())
        least, most = _constants(self.caps)
        low, high = np.where(low <= -FAR // 2, least, low), np.where(high >= FAR // 2, most, high)
        from_, to = np.maximum(low, least), np.minimum(high, most)
        c = np.clip(low + (high - low) // 2, least, most)
        c = np.where(from_ <= to, np.clip(c, from_, to), c)
        return _Trial(mode, s, m, c, np.maximum(from_ - to, 0) / float(1 << s))
