# SPDX-License-Identifier: Apache-2.0
"""The search of (m, c, s) for a function of one accumulator, each channel by itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.thresholds import MAX_STEPS, boundaries
from nncosim.compiler.proof.caps import MultiplyShiftCaps
from nncosim.compiler.proof.multipliers import Found, Steps, dyadic, largest_shift, multipliers, shift_limit
from nncosim.compiler.proof.verify import blocks, steps_of
from nncosim.platforms.rounding import Rounding

__all__ = ["MANY", "find_each", "rounding_modes"]

MANY = 4096
"""Thresholds; with more, numbers are tried on one of 64 of them first."""

_EVERY = 64


def find_each(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, caps: MultiplyShiftCaps
) -> MultiplyShift:
    """Exact numbers where there are some, else near ones."""
    channels = len(function.offset)
    mode = rounding_modes(function, caps)[0]
    requant = MultiplyShift.uniform(channels, (0,), 0, 0, function.lo, function.hi, mode)
    open_channels = np.array([
        c for c in range(channels) if not _direct(function, c, int(acc_lo[c]), int(acc_hi[c]), requant, caps)
    ], dtype=np.int64)
    if len(open_channels):
        if function.hi - function.lo > MAX_STEPS:
            raise CompileError(
                f"outputs of {function.lo}..{function.hi} have too many steps for the requantization proof, "
                f"which takes {MAX_STEPS}; quantise activations to 16 bits or less"
            )
        _search(function, open_channels, acc_lo, acc_hi, requant, caps)
    return requant


def rounding_modes(function: QuantFunction, caps: MultiplyShiftCaps) -> list[Rounding]:
    """Rounding modes to try: the model's own, then those that fold another one into c. Of modes whose steps are equally
    far apart, so that c turns one into the other, the first, unless c is narrow."""
    return list(_modes(function.rounding, function.lo, function.hi, caps.roundings, caps.constant_bits >= 64))


@lru_cache(maxsize=64)
def _modes(rounding: Rounding, lo: int, hi: int, known: frozenset[Rounding], wide: bool) -> tuple[Rounding, ...]:
    order = [rounding, Rounding.FLOOR, Rounding.HALF_UP, *Rounding]
    modes = [m for i, m in enumerate(order) if m in known and m not in order[:i]]
    if not wide or hi == lo:
        return tuple(modes)
    kinds: dict[tuple[bytes, bytes], Rounding] = {}
    for mode in modes:
        twice, strict = boundaries(mode, lo, hi)
        kinds.setdefault(((twice - twice[0]).tobytes(), (strict - strict[0]).tobytes()), mode)
    return tuple(kinds.values())


def _direct(function: QuantFunction, c: int, lo: int, hi: int, requant: MultiplyShift, caps: MultiplyShiftCaps) -> bool:
    """Set channel `c` where no search is needed: m, c and s are exact numbers, or the output is constant."""
    ratio, offset = function.ratios[0][c], function.offset[c]
    if not _varies(function, c, lo, hi):
        ends = function.at(c, np.array([lo, hi]))
        if ends[0] == ends[1]:
            requant.c[c] = ends[0]  # m = 0, s = 0
            return True
    if function.integers is not None:
        return False
    numbers = dyadic((ratio,), offset, caps.multiplier_bits, caps.constant_bits, caps.max_shift)
    if numbers is None or (function.rounding not in caps.roundings and numbers[2] > 0):
        return False
    (m,), const, s = numbers
    if max(abs(lo), abs(hi)) * abs(m) + abs(const) >= 1 << 63:
        return False
    requant.m[0][c], requant.c[c], requant.s[c] = m, const, s
    requant.rounding[c] = int(function.rounding) if s else requant.rounding[c]
    return True


def _varies(function: QuantFunction, c: int, lo: int, hi: int) -> bool:
    """Whether the channel's output is seen to vary without exact arithmetic; if not, it may vary all the same."""
    ratio, offset = float(function.ratios[0][c]), float(function.offset[c])
    if (abs(lo) + abs(hi)) * abs(ratio) + abs(offset) >= 1 << 40:  # above this, doubles err by more than is left below
        return False
    ends = [min(max(acc * ratio + offset, function.lo), function.hi) for acc in (lo, hi)]
    return abs(ends[1] - ends[0]) > 2.5  # further apart than two roundings bring together


def _search(
    function: QuantFunction, channels: np.ndarray, acc_lo: np.ndarray, acc_hi: np.ndarray, requant: MultiplyShift,
    caps: MultiplyShiftCaps,
) -> None:
    """Fill `requant` for the channels; the first rounding mode that is exact, else the nearest fit."""
    # hi * 2**s < 2**60 and acc * m < 2**61 keep acc * m + c within 63 bits
    reach = int(max(np.abs(acc_lo[channels]).max(), np.abs(acc_hi[channels]).max()))
    caps = replace(caps, multiplier_bits=min(caps.multiplier_bits, 62 - reach.bit_length()))
    limit = shift_limit(function.lo, function.hi, caps.max_shift)
    modes = rounding_modes(function, caps)
    every = _EVERY if function.hi - function.lo > MANY and caps.constant_bits >= 64 else 1
    for block in blocks(channels, (function.hi - function.lo) // every):
        steps = steps_of(function, block, acc_lo, acc_hi, every)
        ratios = [abs(function.ratios[0][c]) for c in block]
        signs = np.array([-1 if function.ratios[0][c] < 0 else 1 for c in block], dtype=np.int64)
        shifts = np.array([largest_shift(r, caps.multiplier_bits, limit) for r in ratios], dtype=np.int64)
        left = np.arange(len(block))  # no mode so far is exact for these
        for mode in modes:
            near = mode == modes[0]
            found = _search_mode(steps.select(left), [ratios[i] for i in left], shifts[left], mode, caps)
            if every > 1:
                for i in np.flatnonzero(found.ok | near).tolist():
                    full = steps_of(function, block[left[[i]]], acc_lo, acc_hi)
                    _in_full(full, found, i, _guess([ratios[left[i]]], shifts[left[[i]]], caps), mode, caps)
            new = found.ok | near
            at = left[new]
            to = block[at]
            requant.m[0][to], requant.c[to], requant.s[to] = found.m[new] * signs[at], found.c[new], found.s[new]
            requant.rounding[to] = int(mode)
            left = left[~found.ok]
            if not len(left):
                break


def _search_mode(
    steps: Steps, ratios: list[Fraction], shifts: np.ndarray, mode: Rounding, caps: MultiplyShiftCaps
) -> Found:
    """The largest shifts first; a smaller one only where c does not fit into its width."""
    guess, widths = _guess(ratios, shifts, caps), (caps.multiplier_bits, caps.constant_bits)
    found = multipliers(steps, guess, shifts, mode, *widths)
    if steps.every > 1:
        return found
    width = np.int64(1) << min(caps.constant_bits - 1, 62)
    wide = np.flatnonzero((np.abs(found.c) >= width) & (found.s > 1))
    while len(wide):
        shifts[wide] -= 1
        part = _guess([ratios[i] for i in wide], shifts[wide], caps)
        again = multipliers(steps.select(wide), part, shifts[wide], mode, *widths)
        _replace(found, wide, again)
        wide = wide[(np.abs(again.c) >= width) & (again.s > 1)]
    return found


def _in_full(
    steps: Steps, found: Found, i: int, guess: np.ndarray, mode: Rounding, caps: MultiplyShiftCaps
) -> None:
    """What was found for a channel on a part of its thresholds, on all: the search again where numbers met that part,
    else the nearest ones."""
    rounds = 64 if found.ok[i] else 0
    at = np.array([i])
    widths = caps.multiplier_bits, caps.constant_bits
    _replace(found, at, multipliers(steps, guess, found.s[at], mode, *widths, rounds))


def _replace(found: Found, at: np.ndarray, again: Found) -> None:
    found.m[at], found.c[at], found.s[at], found.ok[at] = again.m, again.c, again.s, again.ok


def _guess(ratios: list[Fraction], shifts: np.ndarray, caps: MultiplyShiftCaps) -> np.ndarray:
    """round(ratio * 2**s), or the greatest multiplier where a ratio is beyond all: its results saturate at once."""
    most = (1 << caps.multiplier_bits - 1) - 1
    return np.array([min(round(r * (1 << int(s))), most) for r, s in zip(ratios, shifts, strict=True)], dtype=np.int64)
