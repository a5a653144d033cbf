# SPDX-License-Identifier: Apache-2.0
"""The requantization proof: each operator's rational function as integers, exact or with its differences.

For every channel the exact function and the integer one are step functions of the accumulator. They
agree on all reachable accumulators exactly when their thresholds agree; an Add is checked over all
pairs of inputs. What is written into `Proof` is found by evaluating the finished `Requant`, not by trust in the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.arithmetic import Requant
from nncosim.compiler.ir.network import Network, Op, Proof, QuantFunction, Tensor
from nncosim.compiler.ir.operators import Requantize, Table
from nncosim.compiler.ir.overflow import check_accumulators
from nncosim.compiler.ir.thresholds import MAX_STEPS, boundaries, round_fraction, step_thresholds
from nncosim.compiler.proof.multipliers import Found, Steps, dyadic, largest_shift, multipliers
from nncosim.compiler.proof.pairs import prove_pairs
from nncosim.platforms.rounding import Rounding

__all__ = ["RequantCaps", "prove", "prove_function", "prove_op"]

_EXAMPLES = 8
Example = tuple[int, tuple[int, ...], int, int]  # channel, accumulators, expected, got


@dataclass(frozen=True)
class RequantCaps:
    """What a platform's requantizer can do.

    multiplier_bits, constant_bits: widths of the signed m and c. narrow_multiplier_bits: a width of m with which the
    platform requantizes faster: taken wherever it is exact. max_shift: largest s. roundings: the
    modes it has. accumulator_bits: width of the signed accumulator. The sum acc * m + c has 64 bits.
    tables: whether the platform has an operator `ir.Table`.
    """

    multiplier_bits: int = 32
    constant_bits: int = 64
    max_shift: int = 62
    roundings: frozenset[Rounding] = frozenset(Rounding)
    accumulator_bits: int = 32
    tables: bool = False
    narrow_multiplier_bits: int | None = None


def prove(network: Network, caps: RequantCaps | None = None) -> Network:
    """The network with `requant` and `proof` filled in for every operator that has a function.

    Raises:
        AccumulatorError: a layer's partial sums may leave `caps.accumulator_bits`.
    """
    caps = caps or RequantCaps()
    check_accumulators(network, caps.accumulator_bits)
    return network.with_ops(tuple(prove_op(op, network.op_inputs(op), caps) for op in network.ops))


def prove_op(op: Op, inputs: tuple[Tensor, ...], caps: RequantCaps) -> Op:
    """One operator with `requant` and `proof`; where it is not requantized it is as it was.

    A Requantize whose roundings no integers meet (ties of half to even) becomes a Table where `caps` allows it.
    """
    if not op.requantized or op.function is None:
        return op
    if caps.narrow_multiplier_bits is not None:
        narrow = replace(caps, multiplier_bits=caps.narrow_multiplier_bits, narrow_multiplier_bits=None, tables=False)
        proved = prove_op(op, inputs, narrow)
        if proved.proof is not None and proved.proof.exact:
            return proved
    if len(op.function.ratios) > 1:
        ranges = [(t.type.lo, t.type.hi) for t in inputs]
        requant, proof = prove_pairs(op.function, ranges, caps)
    else:
        try:
            low, high = op.bounds(inputs)
            requant, proof = prove_function(op.function, low, high, caps)
        except CompileError as error:
            raise CompileError(f"layer {op.name!r}: {error}") from error
    if caps.tables and isinstance(op, Requantize) and not proof.exact:
        table = _as_table(op, op.function, inputs[0])
        if table is not None:
            return table
    return replace(op, requant=requant, proof=proof)


def _as_table(op: Requantize, function: QuantFunction, source: Tensor) -> Table | None:
    """The same operator as a table; None for more than 8 bits, or a function that differs from channel to channel."""
    kind, channels = source.type, len(function.offset)
    fits = (-128 if kind.signed else 0) <= kind.lo and kind.hi <= (127 if kind.signed else 255)
    if not fits or len({*zip(function.ratios[0], function.offset, strict=True)}) > 1:
        return None
    reach = [min(max(b - 256 if kind.signed and b > 127 else b, kind.lo), kind.hi) for b in range(256)]
    proof = Proof(True, channels, channels, checked_values=kind.hi - kind.lo + 1, acc_lo=kind.lo, acc_hi=kind.hi)
    values = tuple(_value(function, q) for q in reach)
    return Table(op.name, op.inputs, op.output, onnx_nodes=op.onnx_nodes, function=function, proof=proof, values=values)


def prove_function(
    function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, caps: RequantCaps
) -> tuple[Requant, Proof]:
    """Search the requantization of a function of one accumulator.

    Args:
        function: one operand. acc_lo, acc_hi: int64 (C,), the reachable accumulators of each channel.

    Returns:
        The integers, and what they are worth.
    """
    channels = len(function.offset)
    mode = _modes(function.rounding, caps)[0]
    requant = Requant.uniform(channels, (0,), 0, 0, function.lo, function.hi, mode)
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
    return requant, _verify(function, acc_lo, acc_hi, requant)


def _modes(rounding: Rounding, caps: RequantCaps) -> list[Rounding]:
    """Rounding modes to try: the model's own, then those that fold another one into c."""
    order = [rounding, Rounding.FLOOR, Rounding.HALF_UP, *Rounding]
    return [m for i, m in enumerate(order) if m in caps.roundings and m not in order[:i]]


def _direct(function: QuantFunction, c: int, lo: int, hi: int, requant: Requant, caps: RequantCaps) -> bool:
    """Set channel `c` where no search is needed: m, c and s are exact numbers, or the output is constant."""
    ratio, offset = function.ratios[0][c], function.offset[c]
    if not _varies(function, c, lo, hi):
        ends = [round_fraction(acc * ratio + offset, function.rounding) for acc in (lo, hi)]
        ends = [min(max(e, function.lo), function.hi) for e in ends]
        if ends[0] == ends[1]:
            requant.c[c] = ends[0]  # m = 0, s = 0
            return True
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


def _steps(function: QuantFunction, channels: np.ndarray, acc_lo: np.ndarray, acc_hi: np.ndarray) -> Steps:
    """Exact thresholds of the channels, decreasing ones mirrored (accumulator negated)."""
    twice, strict = boundaries(function.rounding, function.lo, function.hi)
    first, lows, highs = [], [], []
    for c in channels:
        ratio = function.ratios[0][c]
        lo, hi = int(acc_lo[c]), int(acc_hi[c])
        if ratio < 0:
            lo, hi = -hi, -lo
        first.append(step_thresholds(abs(ratio), function.offset[c], twice, strict, lo, hi))
        lows.append(lo)
        highs.append(hi)
    rows = np.array(first, dtype=np.int64).reshape(len(channels), function.hi - function.lo)
    return Steps(rows, np.array(lows, dtype=np.int64), np.array(highs, dtype=np.int64), function.lo, function.hi)


def _search(
    function: QuantFunction, channels: np.ndarray, acc_lo: np.ndarray, acc_hi: np.ndarray, requant: Requant,
    caps: RequantCaps,
) -> None:
    """Fill `requant` for the channels; the first rounding mode that is exact, else the nearest fit."""
    steps = _steps(function, channels, acc_lo, acc_hi)
    ratios = [abs(function.ratios[0][c]) for c in channels]
    signs = np.array([-1 if function.ratios[0][c] < 0 else 1 for c in channels], dtype=np.int64)
    # hi * 2**s < 2**60 and acc * m < 2**61 keep acc * m + c within 63 bits
    reach = int(max(np.abs(steps.acc_lo).max(), np.abs(steps.acc_hi).max()))
    caps = replace(caps, multiplier_bits=min(caps.multiplier_bits, 62 - reach.bit_length()))
    limit = min(caps.max_shift, 60 - max(abs(function.lo), abs(function.hi), 1).bit_length())
    best: Found | None = None
    for mode in _modes(function.rounding, caps):
        found = _search_mode(steps, ratios, limit, mode, caps)
        new = np.ones(len(channels), dtype=bool) if best is None else found.ok & ~best.ok
        at = channels[new]
        requant.m[0][at], requant.c[at], requant.s[at] = (found.m * signs)[new], found.c[new], found.s[new]
        requant.rounding[at] = int(mode)
        best = found if best is None else Found(found.m, found.c, found.s, found.ok | best.ok)
        if best.ok.all():
            return


def _search_mode(
    steps: Steps, ratios: list[Fraction], limit: int, mode: Rounding, caps: RequantCaps
) -> Found:
    """The largest shift first; a smaller one only where c does not fit into its width."""
    shifts = np.array([largest_shift(r, caps.multiplier_bits, limit) for r in ratios], dtype=np.int64)
    found = multipliers(steps, _guess(ratios, shifts, caps), shifts, mode, caps.multiplier_bits, caps.constant_bits)
    width = np.int64(1) << min(caps.constant_bits - 1, 62)
    wide = np.flatnonzero((np.abs(found.c) >= width) & (found.s > 1))
    while len(wide):
        shifts[wide] -= 1
        part = _guess([ratios[i] for i in wide], shifts[wide], caps)
        again = multipliers(steps.select(wide), part, shifts[wide], mode,
                            caps.multiplier_bits, caps.constant_bits)
        found.m[wide], found.c[wide], found.s[wide], found.ok[wide] = again.m, again.c, again.s, again.ok
        wide = wide[(np.abs(again.c) >= width) & (again.s > 1)]
    return found


def _guess(ratios: list[Fraction], shifts: np.ndarray, caps: RequantCaps) -> np.ndarray:
    """round(ratio * 2**s), or the greatest multiplier where a ratio is beyond all: its results saturate at once."""
    most = (1 << caps.multiplier_bits - 1) - 1
    return np.array([min(round(r * (1 << int(s))), most) for r, s in zip(ratios, shifts, strict=True)], dtype=np.int64)


def _verify(function: QuantFunction, acc_lo: np.ndarray, acc_hi: np.ndarray, requant: Requant) -> Proof:
    """Compare `requant` with `function` on every reachable accumulator.

    Both are monotone, so they are compared at each exact threshold, just before it, and at the ends of the range, with
    the `Requant.apply` that all backends share. Channels that differ are counted by their own thresholds.
    """
    channels = np.arange(len(function.offset))
    spans = int((acc_hi - acc_lo + 1).sum())
    limits: dict[str, Any] = {"acc_lo": int(acc_lo.min()), "acc_hi": int(acc_hi.max()), "channels": len(channels)}
    if function.hi - function.lo > MAX_STEPS:
        same = _same_numbers(function, requant)
        return Proof(bool(same.all()), int(same.sum()), checked_values=spans, **limits)
    varying = np.array([c for c in channels if function.ratios[0][c] != 0], dtype=np.int64)
    steps = _steps(function, varying, acc_lo, acc_hi)
    wrong = _differing_channels(function, varying, steps, requant)
    wrong += [
        c for c in channels.tolist() if function.ratios[0][c] == 0 and not _constant_right(function, c, requant)
    ]
    count, worst = 0, 0
    examples: list[Example] = []
    for c in wrong:
        number, lsb, some = _differences(function, c, int(acc_lo[c]), int(acc_hi[c]), requant)
        count, worst = count + number, max(worst, lsb)
        examples += some[:_EXAMPLES - len(examples)]
    return Proof(not wrong, len(channels) - len(wrong), differing_values=count, checked_values=spans,
                 max_lsb=worst, examples=tuple(examples), **limits)


def _same_numbers(function: QuantFunction, requant: Requant) -> np.ndarray:
    """bool (C,): m / 2**s and c / 2**s are the rational numbers themselves and nothing is rounded otherwise."""
    return np.array([
        Fraction(int(m), 1 << int(s)) == r and Fraction(int(c), 1 << int(s)) == o
        and (s == 0 or mode == function.rounding)
        for m, c, s, mode, r, o in zip(requant.m[0], requant.c, requant.s, requant.rounding,
                                       function.ratios[0], function.offset, strict=True)
    ])


def _constant_right(function: QuantFunction, c: int, requant: Requant) -> bool:
    want = min(max(round_fraction(function.offset[c], function.rounding), function.lo), function.hi)
    return int(requant.m[0][c]) == 0 and int(requant.c[c]) == want and int(requant.s[c]) == 0


def _differing_channels(
    function: QuantFunction, channels: np.ndarray, steps: Steps, requant: Requant
) -> list[int]:
    if not len(channels):
        return []
    signs = np.array([-1 if function.ratios[0][c] < 0 else 1 for c in channels], dtype=np.int64)[:, None]
    ends = np.stack([steps.acc_lo, steps.acc_hi], axis=1)
    points = np.concatenate([steps.first, steps.first - 1, ends], axis=1)
    points = np.clip(points, steps.acc_lo[:, None], steps.acc_hi[:, None])
    want = function.lo + _counts(steps.first, points)
    got = _take(requant, channels).apply(points * signs)
    backwards = np.sign(requant.m[0][channels]) * signs[:, 0] < 0
    return [int(c) for c in channels[(want != got).any(axis=1) | backwards | _overflows(requant, channels, steps)]]


def _overflows(requant: Requant, channels: np.ndarray, steps: Steps) -> np.ndarray:
    """bool per channel: acc * m + c may leave 64 bits (Python integers, so that this itself cannot)."""
    reach = np.maximum(np.abs(steps.acc_lo), np.abs(steps.acc_hi)).tolist()
    numbers = zip(reach, requant.m[0][channels].tolist(), requant.c[channels].tolist(), strict=True)
    return np.array([r * abs(m) + abs(c) >= 1 << 63 for r, m, c in numbers])


def _counts(first: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many thresholds of each row are at or below each of the row's points."""
    return np.stack([np.searchsorted(f, p, side="right") for f, p in zip(first, points, strict=True)])


def _take(requant: Requant, channels: np.ndarray) -> Requant:
    return Requant(tuple(m[channels] for m in requant.m), requant.c[channels], requant.s[channels],
                   requant.lo[channels], requant.hi[channels], requant.rounding[channels])


def _differences(
    function: QuantFunction, c: int, lo: int, hi: int, requant: Requant
) -> tuple[int, int, list[Example]]:
    """Number of differing accumulators of a channel, the largest difference, and examples."""
    one = _take(requant, np.array([c]))
    exact = QuantFunction(((function.ratios[0][c],),), (function.offset[c],), function.rounding, function.lo,
                          function.hi)
    integer = QuantFunction(
        ((Fraction(int(one.m[0][0]), 1 << int(one.s[0])),),), (Fraction(int(one.c[0]), 1 << int(one.s[0])),),
        Rounding(int(one.rounding[0])), int(one.lo[0]), int(one.hi[0]),
    )
    # both functions are constant between the points where either steps
    cuts = sorted({lo, hi + 1, *_cuts(exact, lo, hi), *_cuts(integer, lo, hi)})
    begin = np.array(cuts[:-1], dtype=np.int64)
    want = np.array([_value(exact, int(a)) for a in begin], dtype=np.int64)
    got = one.apply(begin[None, :])[0]
    length = np.diff(np.array(cuts, dtype=np.int64))
    wrong = np.flatnonzero(want != got)
    examples: list[Example] = [(c, (int(begin[i]),), int(want[i]), int(got[i])) for i in wrong[:_EXAMPLES]]
    return int(length[wrong].sum()), int(np.abs(want - got).max(initial=0)), examples


def _cuts(function: QuantFunction, lo: int, hi: int) -> list[int]:
    """Accumulators of lo..hi + 1 at which a one-channel function takes a new value."""
    ratio = function.ratios[0][0]
    if ratio == 0:
        return []
    twice, strict = boundaries(function.rounding, function.lo, function.hi)
    if ratio > 0:
        return step_thresholds(ratio, function.offset[0], twice, strict, lo, hi).tolist()
    return (1 - step_thresholds(-ratio, function.offset[0], twice, strict, -hi, -lo)).tolist()


def _value(function: QuantFunction, acc: int) -> int:
    q = round_fraction(acc * function.ratios[0][0] + function.offset[0], function.rounding)
    return min(max(q, function.lo), function.hi)
