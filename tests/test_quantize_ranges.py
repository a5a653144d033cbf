# SPDX-License-Identifier: Apache-2.0
"""From what calibration saw to a range: each method against a slow one that shares nothing with it."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.quantize import QuantizeOptions
from nncosim.compiler.quantize.ranges import activation_range
from nncosim.compiler.quantize.statistics import BINS, Statistics

RNG = np.random.default_rng(5)


def seen_of(values: np.ndarray, parts: int = 3) -> Statistics:
    seen = Statistics()
    for part in np.array_split(values.astype(np.float32), parts):
        seen.see(part)
    for part in np.array_split(values.astype(np.float32), parts):
        seen.place(part)
    return seen


def found(values: np.ndarray, levels: int = 127, **options: object) -> float:
    return activation_range(seen_of(values), levels, QuantizeOptions(**options))


def error(values: np.ndarray, r: float, levels: int) -> float:
    step = r / levels
    return float(np.square(values - np.clip(np.rint(values / step), -levels, levels) * step).mean())


def test_statistics_are_those_of_numpy():
    values = RNG.normal(0.3, 2, 100_000).astype(np.float32)
    seen = seen_of(values)
    assert (seen.low, seen.high) == (values.min(), values.max()) and seen.histogram.sum() == len(values)
    assert seen.mean == pytest.approx(values.mean(dtype=np.float64)) and seen.deviation == pytest.approx(
        values.std(dtype=np.float64))  # fmt: skip
    assert seen.outside(-2, 2) == pytest.approx(np.mean(np.abs(values) > 2), abs=0.002)
    seen.scale(3.0)
    assert seen.mean == pytest.approx(3 * values.mean(dtype=np.float64)) and seen.outside(-6, 6) == pytest.approx(
        np.mean(np.abs(values) > 2), abs=0.002)  # fmt: skip


def test_the_largest_magnitude():
    values = RNG.normal(0, 1, 1000)
    assert found(values) == pytest.approx(np.abs(values).max())


@pytest.mark.parametrize("share", [99.9, 99, 90])
def test_percentile(share):
    values = RNG.laplace(0, 1, 200_000)
    bin_width = (values.max() - values.min()) / BINS
    got = found(values, method="percentile", percentile=share)
    assert got == pytest.approx(np.percentile(np.abs(values), share), abs=2 * bin_width)


@pytest.mark.parametrize("levels", [7, 127])
def test_least_squares_is_the_least(levels):
    """No range of a fine grid is better by more than the grid and the bins tell."""
    values = RNG.laplace(0, 1, 50_000)
    got = found(values, levels, method="mse")
    best = min(error(values, r, levels) for r in np.linspace(0.05, 1, 60) * np.abs(values).max())
    assert error(values, got, levels) < 1.05 * best
    assert error(values, got, levels) < 0.9 * error(values, np.abs(values).max(), levels)


def test_sigmas():
    values = np.maximum(RNG.normal(0, 1, 50_000), 0)
    want = values.mean() + 3 * values.std()
    assert found(values, method="sigma", sigmas=3.0) == pytest.approx(want, rel=1e-3)
    assert found(values, method="sigma", sigmas=30.0) == pytest.approx(values.max())


def test_kl_cuts_a_long_tail_and_leaves_a_short_one():
    even = RNG.uniform(-1, 1, 100_000)
    assert found(even, method="kl") > 0.9
    tail = np.concatenate([RNG.normal(0, 1, 100_000), [40.0, -35.0]])
    got = found(tail, method="kl")
    assert 3 < got < 12 and got < np.abs(tail).max() / 3


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "kl", "sigma"])
def test_what_is_always_the_same_has_a_range(method):
    for value in (0.0, 3.0, -3.0):
        r = found(np.full(10, value), method=method)
        assert r > 0 and np.isfinite(r) and (value == 0 or r >= 3 * (1 - 1e-6))
