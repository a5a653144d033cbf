# SPDX-License-Identifier: Apache-2.0
"""Where an integer requantization differs from the rational function that it stands for, on all accumulators.

Numbers that are the rational ones themselves need no look. Otherwise both are monotone, so that they are compared at
each exact threshold, just before it and at the ends of the range, with the `apply` that all backends share. Of a
multiply and shift, thresholds are compared first; channels whose thresholds differ are counted by them. A table is
compared at all accumulators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import numpy as np
from nncosim.compiler.ir.arithmetic import MultiplyShift, Requant
from nncosim.compiler.ir.network import Proof, QuantFunction
from nncosim.compiler.ir.thresholds import MAX_STEPS, boundaries, step_thresholds
from nncosim.compiler.proof.multipliers import Steps
from nncosim.platforms.rounding import Rounding

__all__ = ["EXAMPLES", "Difference", "Example", "blocks", "differences", "proof_of", "steps_of", "stretches"]

EXAMPLES = 8
Example = tuple[tuple[int, ...], int, int]  # accumulators, expected, got
_Pairs = tuple[np.ndarray, np.ndarray]  # where the function steps and where the integers do
_SOME = 64  # steps of which examples are made
_MOST_TRIED = 1 << 22  # accumulators of a channel, one by one
_BLOCK = 1 << 16  # thresholds at a time: what fits into a cache is faster, and 16-bit layers have 2**23 of them


@dataclass(frozen=True)
class Difference:
    """Of one channel: how many values differ, by how much at most, and the first of them. undecided: values of which it
    is not known whether they differ (the bound `lsb` holds for them too)."""

    values: int = 0
    lsb: int = 0
    examples: tuple[Example, ...] = ()
    undecided: int = 0

    @property
    def exact(self) -> bool:
        return not self.values and not self.undecided


def blocks(channels: np.ndarray, steps: int) -> Iterator[np.ndarray]:
    """The channels in parts that have few enough thresholds to be worked on at once."""
    size = max(_BLOCK // max(steps, 1), 1)
    for first in range(0, len(channels), size):
        yield channels[first : first + size]


def steps_of(
    function: QuantFunction, channels: np.ndarray, acc_lo: np.ndarray, acc_hi: np.ndarray, every: int = 1
) -> Steps:
    """Exact thresholds of the channels, or one of so many; decreasing ones mirrored (accumulator negated)."""
    falling = np.array([function.ratios[0][c] < 0 for c in channels], dtype=bool)
    low, high = (np.asarray(end, dtype=np.int64)[channels] for end in (acc_lo, acc_hi))
    low, high = np.where(falling, -high, low), np.where(falling, -low, high)
    return Steps(function.all_thresholds(channels, low, high, every), low, high, function.lo, function.hi, every)


def differences(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, requant: Requant
) -> list[Difference]:
    """Of each channel, over every accumulator of acc_lo..acc_hi (int64 (C,))."""
    channels = np.arange(len(function.offset))
    out = [Difference() for _ in channels]
    overflows = requant.overflows(acc_lo, acc_hi)
    todo = channels[~(_same_numbers(function, requant) & ~overflows)]
    if not requant.monotone or function.hi - function.lo > MAX_STEPS:
        for c in todo.tolist():
            out[c] = _each_accumulator(function, c, int(acc_lo[c]), int(acc_hi[c]), requant)
        return out
    wrong: Iterator[tuple[int, _Pairs | None]] = ((c, None) for c in todo[overflows[todo]].tolist())
    parts = blocks(todo[~overflows[todo]], function.hi - function.lo)
    differing = (_differing(function, part, steps_of(function, part, acc_lo, acc_hi), requant) for part in parts)
    for c, pairs in chain(wrong, chain.from_iterable(differing)):
        found = _difference(function, c, int(acc_lo[c]), int(acc_hi[c]), requant, pairs)
        if found.exact:  # a sum that leaves its width somewhere else than where it was looked for
            found = Difference(0, function.hi - function.lo, undecided=int(acc_hi[c] - acc_lo[c]) + 1)
        out[c] = found
    return out


def proof_of(found: Sequence[Difference], index: np.ndarray, checked: int, acc_lo: int, acc_hi: int) -> Proof:
    """What holds for a layer whose channel c has the difference `found[index[c]]`."""
    parts = [found[i] for i in index]
    examples = [(c, *e) for c, part in enumerate(parts) if not part.exact for e in part.examples]
    same = sum(part.exact for part in parts)
    return Proof(
        same == len(parts), same, len(parts), sum(part.values for part in parts), checked,
        max(part.lsb for part in parts), tuple(examples[:EXAMPLES]), acc_lo, acc_hi,
        sum(part.undecided for part in parts),
    )  # fmt: skip


def _same_numbers(function: QuantFunction, requant: Requant) -> np.ndarray:
    """bool (C,): m / 2**s and c / 2**s are the rational numbers themselves, rounded and clipped alike."""
    if not isinstance(requant, MultiplyShift) or function.integers is not None:
        return np.zeros(requant.channels, dtype=bool)
    return np.array([
        Fraction(int(m), 1 << int(s)) == r and Fraction(int(c), 1 << int(s)) == o
        and (s == 0 or mode == function.rounding) and (lo, hi) == (function.lo, function.hi)
        for m, c, s, mode, lo, hi, r, o in zip(
            requant.m[0], requant.c, requant.s, requant.rounding, requant.lo, requant.hi,
            function.ratios[0], function.offset, strict=True)
    ], dtype=bool)  # fmt: skip


def _each_accumulator(function: QuantFunction, c: int, lo: int, hi: int, requant: Requant) -> Difference:
    """Of a channel whose results need not rise with the accumulator, or have too many values for thresholds."""
    if hi - lo >= _MOST_TRIED:
        return Difference(0, function.hi - function.lo, undecided=hi - lo + 1)
    return _counted(np.ones(hi - lo + 1, dtype=np.int64), *_at(np.arange(lo, hi + 1), function, c, requant))


def _at(
    accumulators: np.ndarray, function: QuantFunction, c: int, requant: Requant
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """These, and what is expected and got of channel c there."""
    return accumulators, function.at(c, accumulators), requant.take(np.array([c])).apply(accumulators[None, :])[0]


def _counted(length: np.ndarray, begin: np.ndarray, want: np.ndarray, got: np.ndarray) -> Difference:
    wrong = np.flatnonzero(want != got)
    examples = tuple(((int(begin[i]),), int(want[i]), int(got[i])) for i in wrong[:EXAMPLES])
    return Difference(int(length[wrong].sum()), int(np.abs(want - got).max(initial=0)), examples)


def _differing(
    function: QuantFunction, channels: np.ndarray, steps: Steps, requant: Requant
) -> Iterator[tuple[int, _Pairs | None]]:
    """Channels that differ somewhere, with the steps that do where both have steps to pair. steps: theirs."""
    alike = np.ones(len(channels), dtype=bool)
    for row, c in enumerate(channels.tolist()):
        sign = -1 if function.ratios[0][c] < 0 else 1
        low, high = sorted((sign * int(steps.acc_lo[row]), sign * int(steps.acc_hi[row])))
        integer = _integer_cuts(function, c, low, high, requant)
        if integer is not None:
            exact = steps.first[row] if sign > 0 else 1 - steps.first[row]
            apart = exact != integer
            if apart.any():
                alike[row] = False
                yield c, (exact[apart], integer[apart])
    if alike.any():
        left = channels[alike]
        wrong = left[_differs(function, left, steps.select(np.flatnonzero(alike)), requant)]
        yield from ((c, None) for c in wrong.tolist())


def _differs(function: QuantFunction, channels: np.ndarray, steps: Steps, requant: Requant) -> np.ndarray:
    """bool, by channel. Where a result is at least k at the exact threshold of k and less just before it, for all k,
    and right at the ends, a monotone function is right everywhere."""
    signs = np.array([-1 if function.ratios[0][c] < 0 else 1 for c in channels], dtype=np.int64)[:, None]
    part = requant.take(channels)
    low, high = steps.acc_lo[:, None], steps.acc_hi[:, None]
    k = np.arange(function.lo + 1, function.hi + 1)
    inside = (steps.first > low) & (steps.first <= high)
    wrong = (inside & (part.apply(np.minimum(steps.first, high) * signs) < k)).any(axis=1)
    wrong |= (inside & (part.apply(np.maximum(steps.first - 1, low) * signs) >= k)).any(axis=1)
    ends = np.concatenate([low, high], axis=1)
    want = function.lo + np.stack([(steps.first <= ends[:, i : i + 1]).sum(axis=1) for i in (0, 1)], axis=1)
    wrong |= (part.apply(ends * signs) != want).any(axis=1)
    return wrong


def _difference(
    function: QuantFunction, c: int, lo: int, hi: int, requant: Requant, pairs: _Pairs | None
) -> Difference:
    """Of a channel that differs somewhere. pairs: the steps that do, where known."""
    if pairs is None:
        pairs = _step_pairs(function, c, lo, hi, requant)
    if pairs is None:
        begin, length, want, got = stretches(function, c, lo, hi, requant)
        return _counted(length, begin, want, got)
    # the k-th step lies at two accumulators: between them the results differ; all are in ascending order
    ends = np.stack([np.minimum(*pairs), np.maximum(*pairs)])
    ends = ends[:, :: -1 if len(ends[0]) and ends[0][0] > ends[0][-1] else 1]
    before = np.concatenate([[lo], ends[1][:-1]])
    values = int(np.maximum(ends[1] - np.maximum(ends[0], before), 0).sum())
    depth = np.arange(1, len(ends[0]) + 1) - np.searchsorted(ends[1], ends[0], side="right")
    some = tuple(each[:_SOME] for each in ends)
    begin, want, got = _at(np.unique(np.concatenate([[lo], *some]).clip(lo, hi)), function, c, requant)
    found = _counted(np.ones_like(begin), begin, want, got)
    return Difference(values, int(depth.max(initial=0)), found.examples)


def _step_pairs(function: QuantFunction, c: int, lo: int, hi: int, requant: Requant) -> _Pairs | None:
    """Of steps that differ; None where they cannot be paired."""
    integer = _integer_cuts(function, c, lo, hi, requant)
    if integer is None:
        return None
    exact = _function_cuts(function, c, lo, hi)
    return exact[exact != integer], integer[exact != integer]


def _integer_cuts(function: QuantFunction, c: int, lo: int, hi: int, requant: Requant) -> np.ndarray | None:
    """Where the integers step (see `_cuts`); None where these steps are not one by one the function's."""
    if not isinstance(requant, MultiplyShift):
        return None
    ratio, s = function.ratios[0][c], int(requant.s[c])
    m, const = Fraction(int(requant.m[0][c]), 1 << s), Fraction(int(requant.c[c]), 1 << s)
    if (requant.lo[c], requant.hi[c], ratio > 0) != (function.lo, function.hi, m > 0) or not ratio or not m:
        return None
    return _cuts(m, const, Rounding(int(requant.rounding[c])), function.lo, function.hi, lo, hi)


def stretches(
    function: QuantFunction, c: int, lo: int, hi: int, requant: Requant
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Channel c's accumulators lo..hi in parts, within which all differ by the same amount or none does.

    Returns:
        First accumulator, number of accumulators, expected and got at the first of them. int64 (parts,) each.
    """
    pairs = _step_pairs(function, c, lo, hi, requant)
    if pairs is None:
        exact = _function_cuts(function, c, lo, hi)
        one = requant.take(np.array([c]))
        pairs = exact, _searched_cuts(one, lo, hi) if one.monotone else np.arange(lo, hi + 1)
    cuts = np.unique(np.concatenate([[lo, hi + 1], *pairs]))
    begin, want, got = _at(cuts[:-1], function, c, requant)
    return begin, np.diff(cuts), want, got


def _searched_cuts(one: Requant, lo: int, hi: int) -> np.ndarray:
    """Accumulators of lo + 1..hi from which on a monotone result is another one, by halving."""
    def value(accumulators: np.ndarray) -> np.ndarray:
        return one.apply(accumulators[None, :])[0]

    ends = value(np.array([lo, hi]))
    sign = 1 if ends[1] >= ends[0] else -1
    least, most = sorted((sign * ends).tolist())
    k = np.arange(least + 1, most + 1)
    below, above = np.full(len(k), lo), np.full(len(k), hi)  # not yet k; at least k
    while (above - below > 1).any():
        middle = (below + above) // 2
        reached = sign * value(middle) >= k
        below, above = np.where(reached, below, middle), np.where(reached, middle, above)
    return above


def _function_cuts(function: QuantFunction, c: int, lo: int, hi: int) -> np.ndarray:
    """See `_cuts`."""
    ratio = function.ratios[0][c]
    if ratio == 0:
        return np.zeros(0, dtype=np.int64)
    return function.thresholds(c, lo, hi) if ratio > 0 else 1 - function.thresholds(c, -hi, -lo)


def _cuts(
    ratio: Fraction, offset: Fraction, rounding: Rounding, low: int, high: int, acc_lo: int, acc_hi: int
) -> np.ndarray:
    """For each k of low + 1..high the accumulator of acc_lo..acc_hi + 1 from which on the result is, or is no longer,
    at least k; none where all results are equal."""
    if ratio == 0:
        return np.zeros(0, dtype=np.int64)
    twice, strict = boundaries(rounding, low, high)
    if ratio > 0:
        return step_thresholds(ratio, offset, twice, strict, acc_lo, acc_hi)
    return 1 - step_thresholds(-ratio, offset, twice, strict, -acc_hi, -acc_lo)
