# SPDX-License-Identifier: Apache-2.0
"""The search and proof of a function of one accumulator, in whichever form an engine has."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

import numpy as np
from nncosim.compiler.errors import RequantError
from nncosim.compiler.ir.arithmetic import Chain, Lookup, MultiplyShift, Requant, Thresholds, round_shift
from nncosim.compiler.ir.network import Proof, QuantFunction
from nncosim.compiler.proof.caps import ChainCaps, FormCaps, LookupCaps, MultiplyShiftCaps, Per, ThresholdCaps
from nncosim.compiler.proof.layered import find_shared
from nncosim.compiler.proof.single import find_each
from nncosim.compiler.proof.verify import Difference, differences, proof_of, steps_of
from nncosim.platforms.rounding import Rounding

__all__ = ["distinct", "find", "kinds_of", "prove_function", "select"]


def prove_function(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, form: FormCaps
) -> tuple[Requant, Proof]:
    """Search the requantization of a function of one accumulator.

    Args:
        function: one operand. acc_lo, acc_hi: int64 (C,), the reachable accumulators of each channel.

    Returns:
        The integers, and what they are worth.

    Raises:
        RequantError: the form cannot compute it, not even inexactly.
    """
    keys = zip(kinds_of(function), acc_lo.tolist(), acc_hi.tolist(), strict=True)
    first, index = distinct(keys)
    part, low, high = select(function, first), acc_lo[first], acc_hi[first]
    requant = find(part, low, high, form)
    checked = int((acc_hi - acc_lo + 1).sum())
    found = differences(part, low, high, requant)
    if part.integers is not None and not all(each.exact for each in found):
        requant, found = _fewest(part, low, high, form, requant, found)
    return requant.take(index), proof_of(found, index, checked, int(acc_lo.min()), int(acc_hi.max()))


def _fewest(
    function: QuantFunction, low: np.ndarray, high: np.ndarray, form: FormCaps, requant: Requant,
    found: list[Difference],
) -> tuple[Requant, list[Difference]]:
    """That requantization, or the one of the function that it is near to: which of the two differs on fewer
    accumulators."""
    other = find(replace(function, integers=None), low, high, form)
    theirs = differences(function, low, high, other)
    counts = [sum(each.values + each.undecided for each in some) for some in (found, theirs)]
    return (requant, found) if counts[0] <= counts[1] else (other, theirs)


def kinds_of(function: QuantFunction) -> list[Hashable]:
    """By channel, what it computes: equal of channels that compute the same."""
    kinds: list[Hashable] = [*zip(*function.ratios, function.offset, strict=True)]
    if function.integers is not None:
        kinds = [(kind, function.integers.key(c)) for c, kind in enumerate(kinds)]
    return kinds


def distinct(keys: Iterable[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Of channels with these keys the first of each kind, and for each channel the place of its kind there. Many layers
    have one scale."""
    place: dict[Hashable, int] = {}
    first: list[int] = []
    index: list[int] = []
    for c, key in enumerate(keys):
        if key not in place:
            place[key] = len(first)
            first.append(c)
        index.append(place[key])
    return np.array(first), np.array(index)


def select(function: QuantFunction, channels: Iterable[int]) -> QuantFunction:
    """That of some channels, in this order."""
    channels = list(channels)
    ratios = tuple(tuple(each[c] for c in channels) for each in function.ratios)
    integers = None if function.integers is None else function.integers.take(np.array(channels))
    offset = tuple(function.offset[c] for c in channels)
    return replace(function, ratios=ratios, offset=offset, integers=integers)


def find(function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, form: FormCaps) -> Requant:
    """Numbers that are exact where such are found; whether they are has to be proved."""
    if isinstance(form, MultiplyShiftCaps):
        return (find_each if form.free else find_shared)(function, acc_lo, acc_hi, form)
    if isinstance(form, ThresholdCaps):
        return _thresholds(function, acc_lo, acc_hi, form)
    if isinstance(form, LookupCaps):
        return _lookup(function, acc_lo, acc_hi, form)
    return _chain(function, acc_lo, acc_hi, form)


def _thresholds(function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, form: ThresholdCaps) -> Thresholds:
    """The exact ones. One row for a layer: of each threshold what all channels allow, where they agree."""
    count = function.hi - function.lo
    if count > form.most:
        what = f"results of {function.lo}..{function.hi} need {count} thresholds"
        raise RequantError(f"{what}, of which there are {form.most}")
    falling = np.array([ratio < 0 for ratio in function.ratios[0]])
    if falling.any() and not form.falling:
        what = f"the result of channel {falling.argmax()} falls with its accumulator"
        raise RequantError(f"{what}, which thresholds cannot follow; negate its weights before")
    steps = steps_of(function, np.arange(len(falling)), acc_lo, acc_hi)
    first = steps.first
    if form.per == Per.LAYER:
        if falling.any() and not falling.all():
            raise RequantError("results of some channels fall, of others rise, with one row of thresholds for all")
        always, never = first <= steps.acc_lo[:, None], first > steps.acc_hi[:, None]
        far = np.iinfo(np.int64).max // 2
        lowest = np.where(always, -far, first).max(axis=0)  # no lower, or some channel's results rise too early
        highest = np.where(never, far, first).min(axis=0)
        # where all channels are always past it, or never, any threshold outside of their ranges will do
        row = np.where(lowest > -far, lowest, highest)
        first = np.broadcast_to(np.maximum.accumulate(np.clip(row, -far, far)), first.shape)
    most = 1 << form.threshold_bits - 1
    return Thresholds(np.clip(first, -most, most - 1), function.lo, falling)


def _lookup(function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, form: LookupCaps) -> Lookup:
    low, high = int(acc_lo.min()), int(acc_hi.max())
    if high - low >= 1 << form.address_bits:
        what = f"accumulators of {low}..{high} are {high - low + 1} values"
        raise RequantError(f"{what}, but a table has {1 << form.address_bits} entries")
    every = np.arange(low, high + 1)
    rows = [function.at(c, every) for c in range(len(function.offset))]
    return Lookup(np.stack(rows[:1] * len(rows) if form.per == Per.LAYER else rows), low)


def _chain(function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, form: ChainCaps) -> Chain:
    """Of the three least shifts with which nothing is clipped in between, the first that is exact, or the best."""
    low, high = form.between
    mode = function.rounding if function.rounding in form.first.roundings else min(form.first.roundings)
    ends = np.array([acc_lo.min(), acc_hi.max()])
    most_shift = form.first.max_shift
    shifted = [round_shift(ends, s, mode) for s in range(most_shift)]
    least = next((s for s, r in enumerate(shifted) if low <= r[0] and r[1] <= high), most_shift)
    tries = []
    for s in range(least, min(least + 3, most_shift + 1)):
        chain = _chain_by(function, acc_lo, acc_hi, form, s, mode)
        found = differences(function, acc_lo, acc_hi, chain)
        tries.append((sum(d.values + d.undecided for d in found), s, chain))
        if not tries[-1][0]:
            break
    return min(tries, key=lambda each: each[:2])[2]


def _chain_by(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, form: ChainCaps, s: int, mode: Rounding
) -> Chain:
    first = MultiplyShift.uniform(len(function.offset), (1,), 0, s, *form.between, mode)
    # what is dropped counts half of the most that it can be, where the first rounding is one-sided
    dropped = {Rounding.FLOOR: 1, Rounding.CEIL: -1}.get(mode, 0) * ((1 << s) - 1)
    ratios = function.ratios[0]
    then = replace(
        function, ratios=(tuple(r * (1 << s) for r in ratios),),
        offset=tuple(o + r * dropped / 2 for r, o in zip(ratios, function.offset, strict=True)), integers=None,
    )  # fmt: skip
    ends = first.apply(np.stack([acc_lo, acc_hi], axis=1))
    return Chain((first, find(then, ends[:, 0], ends[:, 1], form.then)))
