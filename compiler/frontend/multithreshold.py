# SPDX-License-Identifier: Apache-2.0
"""MultiThreshold: how many thresholds a value reaches, as a requantization.

The thresholds become those of the integer accumulator. Where a line meets them all (they are those of a uniform
quantiser, rounded however), the result is floor(line), clipped: as exact as the thresholds, and a function that every
form of requantization can be searched for. Else the thresholds themselves are what is computed (by a machine that has
such, or a table), and the line is only near to them.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
from nncosim.compiler.frontend.builder import Builder, Node, Refusal
from nncosim.compiler.frontend.values import Affine, Parts, Quantised, Value, fractions
from nncosim.compiler.ir.arithmetic import Thresholds
from nncosim.compiler.ir.network import TensorType
from nncosim.platforms.rounding import Rounding
from qonnx.core.datatype import DataType

__all__ = ["line_through", "multi_threshold"]

_CHANNEL = {"": 1, "NC": 1, "NCHW": 1, "NHWC": 3, "NWC": 2, "NCW": 1}


def multi_threshold(builder: Builder, node: Node) -> Value:
    """MultiThreshold of quantised data or of sums."""
    value = node.input(0)
    if isinstance(value, Parts):
        value = builder.concatenate(value)
    form = builder.affine(value)
    if len(form.ratios) > 1:
        raise Refusal("thresholds of a sum of two activations are not supported", "put a Quant after the Add")
    rows = np.asarray(node.constant(1, "the thresholds"), dtype=np.float64)
    layout = node.text("data_layout", "")
    if layout and len(layout) == len(form.shape) and layout.find("C") != 1 and len(rows) > 1:
        raise Refusal(f"data_layout {layout} is not the layout of its input", "transpose it before")
    if rows.ndim != 2 or len(rows) not in (1, form.channels) or not rows.size:
        raise Refusal(f"thresholds of shape {rows.shape} do not fit {form.channels} channels")
    kind, sign = _kind(node, rows.shape[1])
    return _emit(builder, node, form, np.sort(rows, axis=1), kind, sign)


def _kind(node: Node, count: int) -> tuple[TensorType, bool]:
    """The type of the result, and whether it is +1 and -1."""
    scale, bias = (Fraction(float(np.float32(node.attributes.get(k, d))))  # type: ignore[arg-type]
                   for k, d in (("out_scale", 1.0), ("out_bias", 0.0)))  # fmt: skip
    if scale <= 0:
        raise Refusal(f"out_scale must be positive, not {float(scale)}")
    if count == 1 and bias == -scale / 2:
        return TensorType(2, True, (scale / 2,), 0, -1, 1), True
    if (bias / scale).denominator > 1:
        raise Refusal(f"out_bias {float(bias)} must be a multiple of out_scale {float(scale)}", "use Add after it")
    lo = int(bias / scale)
    hi = lo + count
    bits = max(hi.bit_length(), (-lo - 1).bit_length() if lo < 0 else 0, 1) + (lo < 0)
    try:
        named = DataType[node.text("out_dtype", "")]
        if named.is_integer() and named.min() <= lo and hi <= named.max() and bool(named.signed()) == (lo < 0):
            bits = int(named.bitwidth())
    except (KeyError, ValueError):
        pass  # the name says nothing
    return TensorType(bits, lo < 0, (scale,), 0, lo, hi), False


def _emit(builder: Builder, node: Node, form: Affine, rows: np.ndarray, kind: TensorType, sign: bool) -> Quantised:
    low, high = form.op.bounds([builder.tensors[name] for name in form.op.inputs])
    lines, every, falls = [], [], [ratio < 0 for ratio in form.ratios[0]]
    bounds: dict[str, list[Fraction | None]] = {"low": [], "high": []}
    for c in range(form.channels):
        row = fractions(rows[c if len(rows) > 1 else 0])
        ends = (-int(high[c]), -int(low[c])) if falls[c] else (int(low[c]), int(high[c]))
        steps = [_first(form, c, t, *ends) for t in row]
        lines.append(line_through(steps, *ends))
        every.append([_clipped(step, t, form, c, *ends) for step, t in zip(steps, row, strict=True)])
        if sign:  # floor(line) is 1 or 0
            lines[-1] = Fraction(2), Fraction(1 - 2 * steps[0])
        for name, found in bounds.items():  # of a Relu or Clip before: what it reaches at least, or at most
            bound = getattr(form, name)[c]
            reached = 0 if bound is None else sum(t <= bound for t in row)
            found.append(None if bound is None else Fraction(kind.lo + reached * (2 if sign else 1)))
    integers = None
    if not sign and (None in lines or any(len({*found}) > 1 for found in bounds.values())):
        integers = Thresholds(np.array(every, dtype=np.int64), kind.lo, np.array(falls))
        bounds = {name: [None] * form.channels for name in bounds}
    both = zip(low.tolist(), high.tolist(), falls, strict=True)
    ranges = [(-b, -a) if falling else (a, b) for a, b, falling in both]
    known = [line or _near(steps, *each) for line, steps, each in zip(lines, every, ranges, strict=True)]
    made = replace(
        form, ratios=(tuple(-r if falling else r for (r, _), falling in zip(known, falls, strict=True)),),
        offset=tuple(o if sign else o + kind.lo for _, o in known), low=tuple(bounds["low"]),
        high=tuple(bounds["high"]),
    )  # fmt: skip
    made = replace(made, magnitude=tuple(abs(float(o)) for o in made.offset))
    unit = (Fraction(1),) * form.channels
    return builder.emit(made, kind, Rounding.FLOOR, node, unit=unit, integers=integers)


def _clipped(step: int, threshold: Fraction, form: Affine, c: int, lo: int, hi: int) -> int:
    """Where the clip of `form` always reaches a threshold, or never does, that is so for all accumulators."""
    low, high = form.low[c], form.high[c]
    if low is not None and threshold <= low:
        return lo
    return hi + 1 if high is not None and threshold > high else step


_TRIED = 9
"""Steps of a row, evenly chosen, through pairs of which lines are tried."""


def _near(steps: list[int], lo: int, hi: int) -> tuple[Fraction, Fraction]:
    """(ratio, offset) of a line through two of the steps, after which clip(floor(line), 0, K) differs from how many of
    them are reached for the fewest numbers of lo..hi."""
    every = np.array(steps, dtype=np.int64)
    k = np.arange(1, len(steps) + 1)
    chosen = np.unique(np.linspace(0, len(steps) - 1, _TRIED).round().astype(int))
    best: tuple[int, Fraction, Fraction] | None = None
    for i in chosen:
        for j in chosen[chosen > i]:
            run = int(every[j] - every[i])
            if run <= 0:
                continue
            ratio = Fraction(int(j - i), run)
            reached = every[i] - ((i + 1 - k) * run // int(j - i))  # where floor(line) comes to k
            wrong = int(np.abs(np.clip(reached, lo, hi + 1) - every).sum())
            if best is None or wrong < best[0]:
                best = wrong, ratio, int(i) + 1 - ratio * int(every[i])
    return best[1:] if best else (Fraction(1), Fraction(1 - steps[0]))


def _first(form: Affine, c: int, threshold: Fraction, lo: int, hi: int) -> int:
    """The first accumulator of lo..hi (mirrored where the form falls) that reaches a threshold; hi + 1: none does."""
    ratio = abs(form.ratios[0][c])
    if ratio == 0:
        return lo if form.offset[c] >= threshold else hi + 1
    return min(max(ceil((threshold - form.offset[c]) / ratio), lo), hi + 1)


def line_through(steps: list[int], lo: int, hi: int) -> tuple[Fraction, Fraction] | None:
    """(ratio, offset) with clip(floor(ratio * x + offset), 0, K) = how many of the K steps x reaches, on all of lo..hi.

    `steps`: ascending. None: no line does that.
    """
    t = np.array(steps, dtype=np.int64)
    k = np.arange(1, len(steps) + 1)
    reached, below = t <= hi, t > lo
    at, before = (t[reached], k[reached]), (t[below] - 1, k[below])
    # at[i] * r + o >= i and before[j] * r + o < j: without o, (before[j] - at[i]) * r < j - i
    run = before[0][None, :] - at[0][:, None]
    rise = before[1][None, :] - at[1][:, None]
    if (rise[run == 0] <= 0).any():
        return None
    up = rise[run > 0] / run[run > 0]
    down = rise[run < 0] / run[run < 0]
    most = Fraction(up.min()) if up.size else None
    least = max(Fraction(down.max()) if down.size else Fraction(0), Fraction(0))
    ratio = least + 1 if most is None else (least + most) / 2
    ratio = min((Fraction(ratio).limit_denominator(1 << n) for n in (8, 16, 24, 32, 48)),
                key=lambda r: (not least < r < (most or r + 1), r.denominator))  # fmt: skip
    floor = max((int(j) - ratio * int(x) for x, j in zip(*at, strict=True)), default=None)
    roof = min((int(j) - ratio * int(x) for x, j in zip(*before, strict=True)), default=None)
    if floor is None or roof is None:
        return ratio, floor if floor is not None else (roof or Fraction(1)) - 1
    return (ratio, (floor + roof) / 2) if floor < roof and ratio >= 0 else None
