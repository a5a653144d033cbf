# SPDX-License-Identifier: Apache-2.0
"""Channels for which no integers are exact: all their accumulators tried one by one against what the proof counts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.thresholds import boundaries, step_thresholds
from nncosim.compiler.proof import single as search
from nncosim.compiler.proof import verify as checks
from nncosim.compiler.proof.caps import MultiplyShiftCaps
from nncosim.compiler.proof.forms import prove_function
from nncosim.platforms.rounding import Rounding
from test_proof import direct, random_function, rational, scalar


def inexact_layer(rng, case):
    """Numbers of few bits, results of up to 7; all roundings, channels that fall, ranges that saturate or do not."""
    modes = frozenset(Rounding) if case % 3 else frozenset({Rounding.FLOOR})
    lo = int(rng.integers(-60, 5))
    function = random_function(rng, 8, 400, rounding=Rounding(case % 8), lo=lo, hi=lo + int(rng.integers(20, 90)))
    low = rng.integers(-300, 0, 8)
    return function, low, low + rng.integers(0, 500, 8), MultiplyShiftCaps(int(rng.integers(3, 12)), roundings=modes)


def counted_rightly(function, low, high, caps):
    """Whether the proof says of each channel what trying all its accumulators does; and how many values differ."""
    requant, proof = prove_function(function, low, high, caps)
    values = [(c, a) for c in range(8) for a in range(int(low[c]), int(high[c]) + 1)]
    both = [(c, (a,), direct(function, c, a), scalar(requant, c, a)) for c, a in values]
    wrong = [each for each in both if each[2] != each[3]]
    worst = max((abs(want - got) for _, _, want, got in wrong), default=0)
    right = (proof.differing_values, proof.max_lsb) == (len(wrong), worst) and not proof.undecided_values
    right &= proof.exact_channels == 8 - len({each[0] for each in wrong})
    return right and set(proof.examples) <= set(wrong) and bool(proof.examples) == bool(wrong), len(wrong)


@pytest.mark.parametrize("many", [search.MANY, 16], ids=["all thresholds", "a part first"])
def test_inexact_channels_are_counted_in_full(many, monkeypatch):
    monkeypatch.setattr(search, "MANY", many)
    monkeypatch.setattr(search, "_EVERY", 8)
    rng = np.random.default_rng(6)
    results = [counted_rightly(*inexact_layer(rng, case)) for case in range(24)]
    assert all(right for right, _ in results) and sum(wrong > 0 for _, wrong in results) > 16


def test_integer_steps_that_are_believed_wrongly_are_found(monkeypatch):
    real = checks._integer_cuts

    def late(*arguments):
        cuts = real(*arguments)
        return cuts if cuts is None else np.minimum(cuts + 1, arguments[3] + 1)

    monkeypatch.setattr(checks, "_integer_cuts", late)
    rng = np.random.default_rng(6)
    assert not all(counted_rightly(*inexact_layer(rng, case))[0] for case in range(8))


@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.AWAY])
@pytest.mark.parametrize("reach", [2**20, 2**31, 2**60])
def test_thresholds_of_16_bits_are_first_accumulators(rounding, reach):
    """Accumulators of many more digits than results, and offsets that leave part of the results out of reach."""
    twice, strict = boundaries(rounding, -(2**15), 2**15 - 1)
    rng = np.random.default_rng(8)
    for case in range(6):
        ratio = rational(rng) / rational(rng) * (1 << 15) / reach * 4
        offset = Fraction(int(rng.integers(-(2**17), 2**17)) if case % 2 else 0) / 3
        function = QuantFunction(((ratio,),), (offset,), rounding, -(2**15), 2**15 - 1)
        first = step_thresholds(ratio, offset, twice, strict, -reach, reach - 1)
        assert (np.diff(first) >= 0).all()
        for i in [0, 1, 2**15, 65533, 65534, *rng.integers(0, 65535, 60).tolist()]:
            k, t = i - 2**15 + 1, int(first[i])
            assert t == -reach or direct(function, 0, t - 1) < k
            assert t == reach or direct(function, 0, t) >= k
