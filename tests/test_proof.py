# SPDX-License-Identifier: Apache-2.0
"""The requantization proof: searched integers against the exact function, and planted errors in each checker."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Graph, conv_model, residual_model
from nncosim.compiler.errors import AccumulatorError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.arithmetic import MultiplyShift, round_shift
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.overflow import check_accumulators
from nncosim.compiler.ir.thresholds import boundaries, evaluate_exact, round_fraction, step_thresholds
from nncosim.compiler.proof import single as search
from nncosim.compiler.proof.caps import MultiplyShiftCaps, RequantCaps
from nncosim.compiler.proof.forms import prove_function
from nncosim.compiler.proof.pairs import prove_pairs
from nncosim.compiler.proof.requantization import prove
from nncosim.compiler.proof.verify import differences, proof_of
from nncosim.platforms.rounding import HARDWARE_ROUNDINGS, Rounding

FLOOR_ONLY = MultiplyShiftCaps(roundings=frozenset({Rounding.FLOOR}))


def rational(rng, low=0.1, high=1.0):
    return Fraction(float(np.float32(rng.uniform(low, high))))


def random_function(rng, channels, span, *, rounding=Rounding.HALF_EVEN, lo=-128, hi=127):
    """Float32 scales of weights, inputs and outputs, biases that are no multiple of them; the range is used."""
    ratios, offsets = [], []
    for c in range(channels):
        size = Fraction(float(np.float32(rng.uniform(0.5, 2) * (hi - lo) / span)))
        ratio = size * rational(rng) / rational(rng)
        ratios.append(-ratio if c % 7 == 0 else ratio)
        offsets.append(Fraction(float(np.float32(rng.normal() * 30 + (lo + hi) / 2))) / rational(rng, 0.5, 1))
    return QuantFunction((tuple(ratios),), tuple(offsets), rounding, lo, hi)


def direct(function, channel, *accumulators):
    """The definition, one number at a time: independent of thresholds and of numpy."""
    real = function.offset[channel] + sum(a * r[channel] for a, r in zip(accumulators, function.ratios, strict=True))
    return min(max(round_fraction(real, function.rounding), function.lo), function.hi)


@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
def test_shifts_of_numbers_and_of_arrays(rounding):
    """A number gives a number, whatever the mode: all halves, quarters and eighths about 0."""
    values = np.arange(-40, 41, dtype=np.int64)
    for shift in range(5):
        want = [round_fraction(Fraction(int(v), 1 << shift), rounding) for v in values]
        assert round_shift(values, shift, rounding).tolist() == want
        assert [int(round_shift(v, shift, rounding)) for v in values] == want
        assert round_shift(values[:, None], np.array([[shift]]), np.array([[rounding]])).shape == (81, 1)


def scalar(requant, channel, *accumulators):
    """`Requant` on Python integers."""
    total = int(requant.c[channel]) + sum(a * int(m[channel]) for a, m in zip(accumulators, requant.m, strict=True))
    assert -(1 << 63) <= total < 1 << 63
    real = Fraction(total, 1 << int(requant.s[channel]))
    q = round_fraction(real, Rounding(int(requant.rounding[channel])))
    return min(max(q, int(requant.lo[channel])), int(requant.hi[channel]))


def verify(function, low, high, requant):
    """The proof of numbers that no search found."""
    found = differences(function, low, high, requant)
    return proof_of(found, np.arange(len(found)), int((high - low + 1).sum()), int(low.min()), int(high.max()))


@pytest.mark.parametrize("span", [2**8, 2**16, 2**20, 2**24])
def test_a_thousand_random_scales_with_unquantised_biases_are_exact(span):
    rng = np.random.default_rng(span)
    function = random_function(rng, 1000, span)
    low, high = np.full(1000, -span // 2), np.full(1000, span // 2 - 1)
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps())
    assert proof.exact and proof.exact_channels == 1000 and proof.differing_values == 0
    accs = rng.integers(-span // 2, span // 2, (1000, 50))
    got = requant.apply(accs)
    for c in range(1000):
        for i in range(0, 50, 10):
            assert got[c, i] == direct(function, c, int(accs[c, i])) == scalar(requant, c, int(accs[c, i]))
    assert np.abs(requant.m[0]).max() < 2**31 and requant.s.max() <= 62
    assert len(np.unique(got)) > 200


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("caps", [MultiplyShiftCaps(), FLOOR_ONLY], ids=["native", "floor only"])
def test_small_ranges_in_full(rounding, caps):
    rng = np.random.default_rng(int(rounding))
    # toward zero and away from it, the step at zero is twice as wide as the others: no other mode folds that
    bent = caps is FLOOR_ONLY and rounding in (Rounding.TOWARD_ZERO, Rounding.AWAY)
    function = random_function(rng, 12, 300, rounding=rounding, lo=1 if bent else -8, hi=16 if bent else 7)
    requant, proof = prove_function(function, np.full(12, -150), np.full(12, 150), caps)
    assert proof.exact and set(requant.rounding.tolist()) <= {int(r) for r in caps.roundings}
    for c in range(12):
        for acc in range(-150, 151):
            assert scalar(requant, c, acc) == direct(function, c, acc)


@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
def test_ties_of_power_of_two_ratios_need_the_native_mode(rounding):
    function = QuantFunction(((Fraction(1, 8), Fraction(-3, 4)),), (Fraction(1, 2), Fraction(5)), rounding, -20, 20)
    low, high = np.array([-200, -200]), np.array([200, 200])
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps())
    assert proof.exact and requant.s.tolist() == [3, 2] and requant.m[0].tolist() == [1, -3]
    _, floored = prove_function(function, low, high, FLOOR_ONLY)
    # half even alternates; the modes bent at zero are too wide there; a tie that turns over at zero is within reach
    folds = rounding not in (Rounding.HALF_EVEN, Rounding.TOWARD_ZERO, Rounding.AWAY)
    assert floored.exact == folds
    if not folds:
        assert floored.max_lsb == 1 and floored.differing_values > 0


def test_what_is_not_exact_is_counted_and_named():
    """Half-even ties of a ratio of 1/36 alternate: no multiplier meets all of them."""
    function = QuantFunction(((Fraction(1, 36),),), (Fraction(0),), Rounding.HALF_EVEN, 0, 255)
    requant, proof = prove_function(function, np.array([0]), np.array([255 * 36]), MultiplyShiftCaps())
    differ = [a for a in range(255 * 36 + 1) if scalar(requant, 0, a) != direct(function, 0, a)]
    assert not proof.exact and proof.differing_values == len(differ) > 0
    assert proof.checked_values == 255 * 36 + 1 and proof.max_lsb == 1
    assert [e[1][0] for e in proof.examples] == differ[: len(proof.examples)]
    channel, (acc,), want, got = proof.examples[0]
    assert (want, got) == (direct(function, channel, acc), scalar(requant, channel, acc))


def test_narrow_multipliers_reproduce_the_published_experience():
    """With 16 bit few channels are exact at a span of 2**16, with 24 bit nearly all, with 31 all."""
    function = random_function(np.random.default_rng(0), 200, 2**16)
    low, high = np.full(200, -(2**15)), np.full(200, 2**15 - 1)
    exact = [
        prove_function(function, low, high, MultiplyShiftCaps(multiplier_bits=bits))[1].exact_channels
        for bits in (16, 24, 32)
    ]
    assert exact[0] < 80 and exact[1] >= 170 and exact[2] == 200


def test_constants_stay_within_their_width():
    function = random_function(np.random.default_rng(1), 100, 2**12)
    low, high = np.full(100, -(2**11)), np.full(100, 2**11)
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps(constant_bits=32))
    assert np.abs(requant.c).max() < 2**31 and proof.exact_channels > 50


@pytest.mark.parametrize("exponent", [20, 40, 100])
def test_ratios_beyond_all_multipliers_saturate_at_once(exponent):
    """Every accumulator but 0 is at an end of the range, so the greatest multiplier does what the ratio does."""
    function = QuantFunction(((Fraction(10**exponent, 3), Fraction(-7 * 10**exponent)),), (Fraction(0), Fraction(1)),
                             Rounding.HALF_EVEN, -128, 127)
    requant, proof = prove_function(function, np.full(2, -1000), np.full(2, 1000), MultiplyShiftCaps())
    assert proof.exact
    for channel in range(2):
        got = [scalar(requant, channel, acc) for acc in range(-3, 4)]
        assert got == [direct(function, channel, acc) for acc in range(-3, 4)] and len(set(got)) == 3


def test_channels_with_one_value_and_with_no_slope():
    function = QuantFunction(
        ((Fraction(0), Fraction(1, 10**6), Fraction(7)),), (Fraction(7, 2), Fraction(-999), Fraction(10**9)),
        Rounding.HALF_EVEN, -128, 127,
    )
    requant, proof = prove_function(function, np.full(3, -1000), np.full(3, 1000), MultiplyShiftCaps())
    assert proof.exact and requant.apply(np.zeros((3, 1), dtype=int)).ravel().tolist() == [4, -128, 127]


def test_sums_stay_within_64_bits_at_the_widest_accumulators():
    function = random_function(np.random.default_rng(5), 50, 2**32)
    low, high = np.full(50, -(2**31)), np.full(50, 2**31 - 1)
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps())
    for c in range(50):
        for acc in (-(2**31), 2**31 - 1):
            scalar(requant, c, acc)
    assert proof.differing_values < proof.checked_values // 10**6 and proof.max_lsb <= 1


def test_an_overflowing_sum_is_found():
    function = QuantFunction(((Fraction(1),),), (Fraction(0),), Rounding.FLOOR, -8, 7)
    good = MultiplyShift.uniform(1, (1 << 30,), 0, 30, -8, 7, Rounding.FLOOR)
    low, high = np.array([-(2**20)]), np.array([2**20])
    assert verify(function, low, high, good).exact
    far = MultiplyShift.uniform(1, (1 << 30,), (1 << 63) - 1 - (1 << 49), 30, -8, 7, Rounding.FLOOR)
    assert not verify(function, low, high, far).exact


@settings(max_examples=80, deadline=None)
@given(
    p=st.integers(-2000, 2000), q=st.integers(1, 3000), t=st.integers(-5000, 5000), u=st.integers(1, 50),
    rounding=st.sampled_from(list(Rounding)), lo=st.integers(-20, 0), width=st.integers(1, 40),
    acc_lo=st.integers(-300, 0), span=st.integers(0, 300),
)
def test_proof_tells_the_truth(p, q, t, u, rounding, lo, width, acc_lo, span):
    """Any rational function: the reported count is the true one, found by trying all accumulators."""
    function = QuantFunction(((Fraction(p, q),),), (Fraction(t, u),), rounding, lo, lo + width)
    requant, proof = prove_function(function, np.array([acc_lo]), np.array([acc_lo + span]), MultiplyShiftCaps())
    differ = sum(scalar(requant, 0, a) != direct(function, 0, a) for a in range(acc_lo, acc_lo + span + 1))
    assert proof.differing_values == differ and proof.exact == (differ == 0)


@pytest.mark.parametrize("rounding", list(Rounding))
def test_boundaries_are_those_of_rounding(rounding):
    twice, strict = boundaries(rounding, -5, 5)
    for k, b, above in zip(range(-4, 6), twice, strict, strict=True):
        for eighth in range(-56, 57):
            y = Fraction(eighth, 8)
            past = 2 * y > b if above else 2 * y >= b
            assert past == (round_fraction(y, rounding) >= k)


@pytest.mark.parametrize("ratio", [Fraction(3, 7), Fraction(-5, 11), Fraction(1), Fraction(0)])
def test_evaluate_exact_is_the_definition(ratio):
    function = QuantFunction(((ratio,),), (Fraction(1, 3),), Rounding.HALF_AWAY, -30, 20)
    accs = np.arange(-100, 101)
    got = evaluate_exact(accs, ratio, Fraction(1, 3), Rounding.HALF_AWAY, -30, 20)
    assert got.tolist() == [direct(function, 0, int(a)) for a in accs]
    wide = evaluate_exact(accs, ratio, Fraction(1, 3), Rounding.HALF_AWAY, -(2**31), 2**31 - 1)
    assert (np.clip(wide, -30, 20) == got).all()


# --- planted errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["m", "c", "s", "lo", "hi", "rounding"])
def test_a_wrong_number_in_one_channel_is_found(field):
    rng = np.random.default_rng(3)
    function = random_function(rng, 20, 2**12)
    low, high = np.full(20, -(2**11)), np.full(20, 2**11)
    requant, proof = prove_function(function, low, high, MultiplyShiftCaps())
    assert proof.exact
    numbers = {n: getattr(requant, n).copy() for n in ("c", "s", "lo", "hi", "rounding")}
    m = requant.m[0].copy()
    if field == "m":
        m[5] += m[5] // 200
    elif field == "c":
        numbers["c"][5] += np.int64(1) << (numbers["s"][5] - 3)
    elif field == "rounding":
        numbers["rounding"][5] = int(Rounding.FLOOR)
    else:
        numbers[field][5] += {"lo": 70, "hi": -70, "s": 1}[field]
    wrong = MultiplyShift((m,), **numbers)
    found = verify(function, low, high, wrong)
    assert not found.exact and found.exact_channels == 19 and found.differing_values > 0
    assert {e[0] for e in found.examples} == {5}
    differ = sum(scalar(wrong, 5, a) != direct(function, 5, a) for a in range(-(2**11), 2**11 + 1))
    assert found.differing_values == differ


def test_a_wrong_threshold_in_the_search_is_found(monkeypatch):
    """The search believes its thresholds; the verification computes the exact ones itself."""
    function = random_function(np.random.default_rng(4), 10, 2**12)
    low, high = np.full(10, -(2**11)), np.full(10, 2**11)
    real = search.steps_of

    def off_by_one(*arguments):
        steps = real(*arguments)
        return replace(steps, first=np.minimum(steps.first + 1, steps.acc_hi[:, None] + 1))

    requant = MultiplyShift.uniform(10, (0,), 0, 0, function.lo, function.hi)
    monkeypatch.setattr(search, "steps_of", off_by_one)
    search._search(function, np.arange(10), low, high, requant, MultiplyShiftCaps())
    monkeypatch.setattr(search, "steps_of", real)
    found = verify(function, low, high, requant)
    assert not found.exact and found.exact_channels == 0


def test_thresholds_are_first_accumulators():
    twice, strict = (a.tolist() for a in boundaries(Rounding.HALF_EVEN, -4, 4))
    first = step_thresholds(Fraction(2, 7), Fraction(1, 9), twice, strict, -100, 100)
    function = QuantFunction(((Fraction(2, 7),),), (Fraction(1, 9),), Rounding.HALF_EVEN, -4, 4)
    for k, t in zip(range(-3, 5), first, strict=True):
        assert direct(function, 0, t) >= k > direct(function, 0, t - 1)


def test_thresholds_equal_those_of_exact_division():
    """Quotients near whole numbers, long numerators, ranges that clip, sizes that leave 64 bits."""
    rng, whole = np.random.default_rng(3), 0
    for case in range(600):
        ratio, offset = rational(rng) / rational(rng), rational(rng) - rational(rng)
        if case % 3 == 0:  # boundaries met exactly
            ratio = Fraction(int(rng.integers(1, 9)), int(rng.integers(1, 40)))
            offset = Fraction(int(rng.integers(-9, 9)), 2)
        if case % 5 == 0:
            ratio += Fraction(1, 1 << int(rng.integers(20, 200)))
        if case % 7 == 0:
            ratio /= 1 << int(rng.integers(0, 50))
        twice, strict = boundaries(Rounding(case % 8), -128, 127)
        limits = (-(1 << 62), 1 << 62) if case % 11 == 0 else (-3000, 2500)
        exact = []
        for b, above in zip(twice.tolist(), strict.tolist(), strict=True):
            at = (Fraction(b, 2) - offset) / ratio
            first = math.floor(at) + 1 if above else math.ceil(at)
            whole += at.denominator == 1
            exact.append(min(max(first, limits[0]), limits[1] + 1))
        assert step_thresholds(ratio, offset, twice, strict, *limits).tolist() == exact
    assert whole > 1000


# --- two operands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("caps", [MultiplyShiftCaps(), FLOOR_ONLY], ids=["native", "floor only"])
def test_add_of_random_scales_is_exact_over_all_pairs(seed, caps):
    rng = np.random.default_rng(seed)
    ratios = rational(rng) / rational(rng), -rational(rng) / rational(rng)
    function = QuantFunction(((ratios[0],), (ratios[1],)), (rational(rng),), Rounding.HALF_EVEN, 0, 255)
    requant, proof = prove_pairs(function, [(0, 255), (-128, 127)], caps)
    assert proof.exact and proof.checked_values == 65536
    for a, b in rng.integers(0, 128, (300, 2)).tolist():
        assert scalar(requant, 0, a, -b) == direct(function, 0, a, -b)


def test_add_with_ties_is_counted():
    function = QuantFunction(((Fraction(1, 6),), (Fraction(1, 6),)), (Fraction(0),), Rounding.HALF_EVEN, -9, 9)
    requant, proof = prove_pairs(function, [(-20, 20), (-20, 20)], MultiplyShiftCaps())
    pairs = [(a, b) for a in range(-20, 21) for b in range(-20, 21)]
    differ = [p for p in pairs if scalar(requant, 0, *p) != direct(function, 0, *p)]
    assert not proof.exact and proof.differing_values == len(differ) and proof.examples[0][1] == differ[0]


@pytest.mark.parametrize("shift", [1, 4])
def test_add_of_powers_of_two_is_exact_with_ties(shift):
    ratio = Fraction(1, 1 << shift)
    function = QuantFunction(((ratio,), (ratio,)), (Fraction(0),), Rounding.HALF_EVEN, -128, 127)
    requant, proof = prove_pairs(function, [(-128, 127), (-128, 127)], MultiplyShiftCaps())
    assert proof.exact and requant.s[0] == shift


# --- networks and overflow --------------------------------------------------------------------------------------


def test_network_is_proved_and_unchanged_otherwise():
    network = import_model(residual_model())
    proved = prove(network)
    assert all(op.proof is not None and op.requant is not None for op in proved.ops)
    assert [op.function for op in proved.ops] == [op.function for op in network.ops]
    assert all(op.proof is None for op in network.ops)


def test_bounds_are_reached():
    network = import_model(conv_model(2, 3, 2, 4, pads=[0, 0, 0, 0]))
    op = network.ops[0]
    low, high = op.bounds(network.op_inputs(op))
    for c in range(3):
        patch = np.where(op.weights[c] > 0, 127, -128)
        assert op.accumulate([patch])[0][c, 0, 0] == high[c]
        patch = np.where(op.weights[c] > 0, -128, 127)
        assert op.accumulate([patch])[0][c, 0, 0] == low[c]


def test_partial_sums_are_bounded_in_any_order():
    """Unsigned inputs from 200 on would hide partial sums that pass beyond the finished ones."""
    network = import_model(conv_model(2, 3, 2, 4))
    op = network.ops[0]
    tensor = network.tensors["x"]
    far = replace(tensor, type=replace(tensor.type, lo=100, hi=127))
    low, high = replace(op, pads=(0, 0, 0, 0)).bounds([far])
    least, most = replace(op, pads=(0, 0, 0, 0)).partial_bounds([far])
    positive = np.maximum(op.weights, 0).reshape(3, -1).sum(axis=1) * 127
    negative = np.minimum(op.weights, 0).reshape(3, -1).sum(axis=1) * 127
    assert (most == positive).all() and (least == negative).all()
    assert (least < low).all() and (most > high).all()


def test_an_accumulator_that_may_overflow_is_refused():
    network = import_model(conv_model(16, 4, 3))
    check_accumulators(network, 32)
    op = network.ops[0]
    bound = max(abs(int(b)) for pair in op.partial_bounds(network.op_inputs(op)) for b in pair)
    bits = bound.bit_length() + 1
    check_accumulators(network, bits)
    message = rf"accumulators of {bits - 1} bits .*layer 'conv': partial sums reach -"
    with pytest.raises(AccumulatorError, match=message):
        prove(network, RequantCaps(accumulator_bits=bits - 1))


def test_padding_counts_in_the_bound():
    g = Graph((1, 2, 4, 4))
    y = g.quant(g.conv(g.quant("x", zero=100, bits=8), 2, 2), 0.5)
    op = import_model(g.model(y)).ops[0]
    tensor = import_model(g.model(y)).tensors["x"]
    small = replace(tensor, type=replace(tensor.type, lo=0, hi=1))
    _, high = op.bounds([small])
    assert (high >= np.maximum(op.weights, 0).reshape(2, -1).sum(axis=1) * 100).all()
