# SPDX-License-Identifier: Apache-2.0
"""From what was seen of a value to the range that its integers cover.

A range is symmetric, [-r, r], or [0, r] where no value is negative and integers have no sign; so it is one number r.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nncosim.compiler.quantize.options import QuantizeOptions
from nncosim.compiler.quantize.statistics import Statistics

__all__ = ["activation_range", "range_by_error"]

_CANDIDATES = 160
"""Ranges that are tried, evenly from the largest magnitude down to a tenth of it."""
_KL_BINS = 2048


def activation_range(seen: Statistics, levels: int, options: QuantizeOptions) -> float:
    """r > 0. `levels`: the largest integer."""
    largest = max(abs(seen.low), abs(seen.high))
    if largest == 0 or seen.histogram.sum() == 0:
        return largest or 1.0
    magnitudes, counts = _folded(seen)
    if options.method == "percentile":
        return _percentile(magnitudes, counts, options.percentile, largest)
    if options.method == "sigma":
        return min(largest, max(abs(seen.mean + s * options.sigmas * seen.deviation) for s in (-1, 1)))
    if options.method == "mse":
        return range_by_error(magnitudes, counts.astype(np.float64), levels, largest)
    if options.method == "kl":
        return _kl(magnitudes, counts, levels, largest)
    return largest


def _folded(seen: Statistics) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Magnitudes, ascending, and how many there are of each."""
    magnitudes = np.abs(seen.centres)
    order = np.argsort(magnitudes, kind="stable")
    return magnitudes[order], seen.histogram[order]


def _percentile(
    magnitudes: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], share: float, largest: float
) -> float:
    wanted = counts.sum() * share / 100
    at = int(np.searchsorted(np.cumsum(counts), wanted))
    return largest if at >= len(magnitudes) - 1 else float(magnitudes[at]) or largest


def range_by_error(
    magnitudes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], levels: int, largest: float
) -> float:
    """The range with the least mean squared error of what is rounded and clipped. `weights`: of the magnitudes."""
    candidates = np.linspace(largest, largest / 10, _CANDIDATES)
    used = weights > 0
    magnitudes, weights = magnitudes[used], weights[used]
    errors = []
    for r in candidates:
        step = r / levels
        shown = np.minimum(np.rint(magnitudes / step), levels) * step
        errors.append(float((np.square(magnitudes - shown) * weights).sum()))
    return float(candidates[int(np.argmin(errors))])


def _kl(
    magnitudes: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], levels: int, largest: float
) -> float:
    """The range whose quantised distribution tells the least apart from the one seen (Migacz, "8-bit Inference with
    TensorRT", 2017): the last bin takes what is clipped; a level's share goes to those of its bins that had any."""
    seen = np.histogram(magnitudes, _KL_BINS, (0, largest), weights=counts.astype(np.float64))[0]
    seen[0] = 0  # the zeros of a Relu are exact whatever the range
    best, found = np.inf, largest
    for stop in range(levels + 1, _KL_BINS + 1, 8):
        reference = seen[:stop].copy()
        reference[-1] += seen[stop:].sum()
        divergence = _divergence(reference, _merged(seen[:stop], levels))
        if divergence < best:
            best, found = divergence, largest * stop / _KL_BINS
    return found


def _merged(bins: npt.NDArray[np.float64], levels: int) -> npt.NDArray[np.float64]:
    """Bins as `levels` levels tell them."""
    level = np.arange(len(bins)) * levels // len(bins)
    alive = bins > 0
    share = np.bincount(level, bins, levels) / np.maximum(np.bincount(level, alive, levels), 1)
    return np.where(alive, share[level], 0.0)


def _divergence(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    p, q = p / max(p.sum(), 1e-300), q / max(q.sum(), 1e-300)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())
