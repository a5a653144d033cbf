# SPDX-License-Identifier: Apache-2.0
"""The proof of wide activations and of an Add of many pairs, against all pairs tried one by one, and planted errors."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from nncosim.compiler.ir import sums as exact_sums
from nncosim.compiler.ir.evaluate import apply_exact
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.sums import ExactSum
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.compiler.proof import sums
from nncosim.compiler.proof.caps import MultiplyShiftCaps
from nncosim.compiler.proof.forms import prove_function
from nncosim.compiler.proof.pairs import MOST_PAIRS, prove_pairs
from nncosim.platforms.rounding import Rounding

LOW, HIGH = -(2**15), 2**15 - 1
WIDE = [(LOW, HIGH)] * 2


def add(a, b, *, offset=Fraction(0), rounding=Rounding.HALF_EVEN, lo=LOW, hi=HIGH, channels=1):
    return QuantFunction(((a,) * channels, (b,) * channels), (offset,) * channels, rounding, lo, hi)


def float_ratio(rng):
    return Fraction(float(np.float32(rng.uniform(0.01, 3)))) / Fraction(float(np.float32(rng.uniform(0.1, 1))))


def value(function, a, b):
    real = a * function.ratios[0][0] + b * function.ratios[1][0] + function.offset[0]
    return min(max(round_fraction(real, function.rounding), function.lo), function.hi)


def integer(function, numbers, a, b):
    m_a, m_b, c, s, rounding = numbers
    q = round_fraction(Fraction(a * m_a + b * m_b + c, 1 << s), rounding)
    return min(max(q, function.lo), function.hi)


def small_cases(count):
    """Ratios of float32 scales, small fractions (ties), common ratios; all roundings, narrow and wide multipliers."""
    rng = np.random.default_rng(1)

    def ratio(kind):
        small = Fraction(int(rng.integers(-9, 10)), int(rng.integers(1, 12)))
        return float_ratio(rng) if kind == 0 else small

    for case in range(count):
        kind = case % 5
        a, b, offset = (ratio(kind) for _ in range(3))
        if kind == 4:
            b = a * Fraction(int(rng.integers(-5, 6)) or 1, int(rng.integers(1, 5)))
        lo, bits = int(rng.integers(-30, 5)), int(rng.integers(4, 24)) if case % 3 else 32
        modes = frozenset({Rounding.FLOOR} if case % 7 == 0 else Rounding)
        function = add(a, b, offset=offset, rounding=Rounding(case % 8), lo=lo, hi=lo + int(rng.integers(0, 60)))
        ranges = [(int(rng.integers(-20, 5)), int(rng.integers(5, 25))) for _ in "ab"]
        yield function, ranges, MultiplyShiftCaps(multiplier_bits=bits, roundings=modes)


def wrong_pairs(function, ranges, numbers):
    pairs = ((a, b) for a in range(ranges[0][0], ranges[0][1] + 1) for b in range(ranges[1][0], ranges[1][1] + 1))
    both = ((p, value(function, *p), integer(function, numbers, *p)) for p in pairs)
    return [each for each in both if each[1] != each[2]]


def tells_the_truth(function, ranges, caps):
    """"exact", "counted" or "undecided"; "" where what is said of the pairs is false."""
    numbers, found = sums.large_sum(function, ranges, caps)
    wrong = wrong_pairs(function, ranges, numbers)
    worst = max((abs(want - got) for _, want, got in wrong), default=0)
    if not all(example in wrong for example in found.examples):
        return ""
    if found.undecided:
        right = found.values <= len(wrong) <= found.values + found.undecided and worst <= found.lsb
        return "undecided" if right else ""
    return ("exact" if found.exact else "counted") if (found.values, found.lsb) == (len(wrong), worst) else ""


@pytest.mark.parametrize("tried", [sums.MOST_TRIED, 100])
def test_what_is_said_of_an_add_is_true_of_all_its_pairs(tried, monkeypatch):
    monkeypatch.setattr(sums, "MOST_TRIED", tried)
    monkeypatch.setattr(sums, "_PART", min(tried, 64))
    kinds = [tells_the_truth(*case) for case in small_cases(80)]
    assert "" not in kinds and min(kinds.count(k) for k in ("exact", "counted")) >= 5
    assert (kinds.count("undecided") >= 5) == (tried == 100)


def test_a_gap_believed_too_wide_is_found(monkeypatch):
    real = sums._gaps

    def wider(parts):
        gaps = real(parts)
        return replace(gaps, above=gaps.above * 2, beyond=gaps.beyond * 2, below=gaps.below * 2)

    monkeypatch.setattr(sums, "_gaps", wider)
    assert "" in [tells_the_truth(*case) for case in small_cases(80)]


def test_pairs_left_out_are_found(monkeypatch):
    def fewer(fit, exact, real=sums._windows):
        return real(replace(fit, low=fit.low / 2, high=fit.high / 2), exact)

    monkeypatch.setattr(sums, "_windows", fewer)
    assert "" in [tells_the_truth(*case) for case in small_cases(80)]


def test_bounds_of_a_row_that_are_too_narrow_are_found(monkeypatch):
    def narrower(fit, parts, real=sums._row_bounds):
        lows, highs = real(fit, parts)
        return -(-lows // 2), highs // 2

    monkeypatch.setattr(sums, "_row_bounds", narrower)
    assert "" in [tells_the_truth(*case) for case in small_cases(80)]


@pytest.mark.parametrize("outer", [0, 1])
def test_either_input_may_be_looked_up(outer, monkeypatch):
    monkeypatch.setattr(sums._Parts, "of", lambda exact, _, real=sums._Parts.of: real(exact, outer))
    assert "" not in [tells_the_truth(*case) for case in small_cases(80)]


def test_values_are_sorted_with_their_places_whatever_digits_are_dropped():
    rng = np.random.default_rng(4)
    for top, spread in [(12, 12), (20, 8), (60, 60), (60, 3)]:
        parts = ((1 << top) - 1) - rng.integers(0, 1 << spread, 300)
        order, ascending = sums._sorted(parts, 1 << top)
        assert order.tolist() == np.argsort(parts, kind="stable").tolist() and (ascending == np.sort(parts)).all()


@pytest.mark.parametrize("doubt", [exact_sums._DOUBT, 0])
@pytest.mark.parametrize("digits", [exact_sums._DIGITS, 8])
def test_shares_are_those_of_long_division(digits, doubt, monkeypatch):
    """Those in doubt are worked out; believed all the same, some are wrong."""
    monkeypatch.setattr(exact_sums, "_DIGITS", digits)
    monkeypatch.setattr(exact_sums, "_DOUBT", doubt)
    rng, wrong = np.random.default_rng(5), 0
    for scale in (7, (1 << 45) - 55, 1 << 60, 3**50, 10**40 + 1):
        for _ in range(10):
            start, slope = (int(v) * scale // 1000 + int(v) for v in rng.integers(-5000, 5000, 2))
            exact = [divmod(start + i * slope, scale) for i in range(200)]
            if scale <= 1 << 60:
                both = exact_sums._progression(start, slope, scale, 200)
                assert list(zip(*(v.tolist() for v in both), strict=True)) == exact
            whole, part = (v.tolist() for v in exact_sums._leading(start, slope, scale, 200))
            leading = [(w, (rest << 60) // scale) for w, rest in exact]
            wrong += list(zip(whole, part, strict=True)) != leading
    assert (wrong > 0) == (doubt == 0)


@pytest.mark.parametrize("modulus", [1 << 60, 1 << 12], ids=["64 bit", "few digits"])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_exact_sums_are_the_definition(rounding, modulus, monkeypatch):
    """Also where the leading digits decide nothing."""
    monkeypatch.setattr("nncosim.compiler.ir.sums._MODULUS", modulus)
    rng = np.random.default_rng(int(rounding))
    a, b = rng.integers(-40, 40, 200), rng.integers(-30, 50, 200)
    for ratios in [(Fraction(3, 8), Fraction(1, 6)), (float_ratio(rng), -float_ratio(rng)), (Fraction(10**30, 3),) * 2]:
        function = add(*ratios, offset=Fraction(1, 3), rounding=rounding, lo=-50, hi=60)
        exact = ExactSum(ratios, Fraction(1, 3), rounding, -50, 60, [(-40, 40), (-30, 50)])
        assert exact(a, b).tolist() == [value(function, int(x), int(y)) for x, y in zip(a, b, strict=True)]


# --- 16 bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "rounding", "exact"), [
    (Fraction(3, 8), Fraction(5, 16), Rounding.HALF_EVEN, True),
    (Fraction(1, 3), Fraction(1, 5), Rounding.HALF_UP, True),
    (Fraction(1, 3), Fraction(1, 101), Rounding.FLOOR, True),
    (Fraction(1, 6), Fraction(1, 6), Rounding.HALF_EVEN, False),
], ids=["numbers", "ties that go up", "a lattice without near steps", "ties to even"])  # fmt: skip
def test_adds_of_16_bits(a, b, rounding, exact):
    function = add(a, b, rounding=rounding, channels=128)
    requant, proof = prove_pairs(function, WIDE, MultiplyShiftCaps())
    assert proof.exact == exact and proof.checked_values == 128 << 32 and not proof.undecided_values
    rng = np.random.default_rng(3)
    pairs = rng.integers(LOW, HIGH + 1, (2, 128, 200))
    assert np.count_nonzero(requant.apply(*pairs) != apply_exact(function, list(pairs))) == 0 or not exact


def test_ties_of_a_common_ratio_are_counted():
    """Floats round t / 6 half to even as integers do: ties of it are halves, and no other is near one."""
    function = add(Fraction(1, 6), Fraction(1, 6))
    requant, proof = prove_pairs(function, WIDE, MultiplyShiftCaps())
    assert requant.m[0][0] == requant.m[1][0]
    t = np.arange(2 * LOW, 2 * HIGH + 1)
    pairs = np.minimum(HIGH, t - LOW) - np.maximum(LOW, t - HIGH) + 1
    differ = np.rint(t / 6).astype(int) != requant.apply(t[None, :], np.zeros_like(t)[None, :])[0]
    assert proof.differing_values == pairs[differ].sum() > 2**32 // 13


def test_float32_scales_of_16_bits_are_counted_in_full():
    rng = np.random.default_rng(0)
    function = add(float_ratio(rng) / 4, float_ratio(rng) / 4)
    numbers, found = sums.large_sum(function, WIDE, MultiplyShiftCaps())
    assert 0 < found.values < 2**17 and found.undecided == 0 and found.lsb == 1 and len(found.examples) == 8
    for (a, b), want, got in found.examples:
        assert (want, got) == (value(function, a, b), integer(function, numbers, a, b)) and want != got
    a = np.int64(found.examples[0][0][0])  # all pairs with this a
    b = np.arange(LOW, HIGH + 1)
    q = [value(function, int(a), int(x)) for x in b], [integer(function, numbers, int(a), int(x)) for x in b]
    wrong = [int(x) for x, want, got in zip(b, *q, strict=True) if want != got]
    assert [e[0][1] for e in found.examples if e[0][0] == a] == wrong[:8]


def test_narrow_multipliers_leave_pairs_undecided_and_say_so():
    rng = np.random.default_rng(0)
    function = add(float_ratio(rng) / 4, float_ratio(rng) / 4)
    _, proof = prove_pairs(function, WIDE, MultiplyShiftCaps(multiplier_bits=16))
    assert not proof.exact and proof.exact_channels == 0 and proof.differing_values > 0
    assert proof.differing_values + proof.undecided_values <= 2**32 and proof.undecided_values > 2**31


def test_the_two_ways_agree_where_all_pairs_can_be_tried():
    rng = np.random.default_rng(7)
    ranges = [(-256, 255)] * 2
    assert 512 * 512 <= MOST_PAIRS
    for _ in range(4):
        function = add(float_ratio(rng), -float_ratio(rng), offset=float_ratio(rng), lo=-200, hi=200)
        _, proof = prove_pairs(function, ranges, MultiplyShiftCaps())
        assert proof.exact and sums.large_sum(function, ranges, MultiplyShiftCaps())[1].exact


def test_a_wide_layer_takes_little_memory():
    """128 channels of 65,535 thresholds each, of scales that are powers of two and of such that are not."""
    rng = np.random.default_rng(2)
    ratios = tuple(Fraction(1, 4) if c % 16 else float_ratio(rng) / 8 for c in range(128))
    function = QuantFunction((ratios,), (Fraction(0),) * 128, Rounding.HALF_EVEN, LOW, HIGH)
    tracemalloc.start()
    requant, proof = prove_function(function, np.full(128, LOW), np.full(128, HIGH), MultiplyShiftCaps())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert proof.exact and peak < 64 << 20
    accumulators = rng.integers(LOW, HIGH + 1, (128, 40))
    assert (requant.apply(accumulators) == apply_exact(function, [accumulators])).all()


def test_an_inexact_wide_layer_takes_little_memory_too():
    """Multipliers of 16 bits miss nearly all thresholds, and accumulators of 32 bits reach far beyond them."""
    rng = np.random.default_rng(2)
    ratios = tuple(float_ratio(rng) / 2**14 for _ in range(16))
    function = QuantFunction((ratios,), (Fraction(0),) * 16, Rounding.HALF_EVEN, LOW, HIGH)
    low, high = np.full(16, -(2**31)), np.full(16, 2**31 - 1)
    tracemalloc.start()
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps(multiplier_bits=16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert proof.exact_channels == 0 and not proof.undecided_values and peak < 64 << 20
    accumulators = rng.integers(-(2**31), 2**31, (16, 20000))
    differ = np.count_nonzero(requant.apply(accumulators) != apply_exact(function, [accumulators]))
    share = proof.differing_values / proof.checked_values
    assert abs(differ / accumulators.size - share) < 0.01


def test_a_wrong_number_in_a_wide_layer_is_found_and_counted():
    function = QuantFunction(((Fraction(1, 3),),), (Fraction(1, 7),), Rounding.HALF_UP, LOW, HIGH)
    low, high = np.array([LOW]), np.array([HIGH])
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps())
    assert proof.exact
    wrong = replace(requant, c=requant.c + (np.int64(1) << (requant.s - 1)))
    from nncosim.compiler.proof.verify import differences
    (found,) = differences(function, low, high, wrong)
    accumulators = np.arange(LOW, HIGH + 1)[None, :]
    differ = wrong.apply(accumulators) != apply_exact(function, [accumulators])
    assert found.values == np.count_nonzero(differ) > 0 and not found.exact
