# SPDX-License-Identifier: Apache-2.0
"""Forms of requantization that J3DAI has not: one shift for a layer, thresholds, tables, chains; what each refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import conv_model
from nncosim.compiler.errors import RequantError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.arithmetic import Chain, Lookup, MultiplyShift, Thresholds
from nncosim.compiler.ir.evaluate import apply_exact, evaluate
from nncosim.compiler.ir.network import QuantFunction
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.compiler.proof.caps import (
    CapsError,
    ChainCaps,
    LookupCaps,
    MultiplyShiftCaps,
    Per,
    RequantCaps,
    ThresholdCaps,
)
from nncosim.compiler.proof.forms import prove_function
from nncosim.compiler.proof.pairs import prove_pairs
from nncosim.compiler.proof.requantization import prove
from nncosim.compiler.proof.verify import differences
from nncosim.platforms.rounding import Rounding
from nncosim.tb.run.network_json import network_from_json, network_to_json

DIANA = MultiplyShiftCaps(0, 32, 31, frozenset({Rounding.FLOOR}), shift_per=Per.LAYER)
AIE = MultiplyShiftCaps(0, 48, 47, frozenset({Rounding.FLOOR, Rounding.HALF_EVEN}), shift_per=Per.LAYER)
TENSOR = MultiplyShiftCaps(multiplier_per=Per.LAYER, shift_per=Per.LAYER)
SHIFTS = MultiplyShiftCaps(0)
NIBBLE = ThresholdCaps(most=15, threshold_bits=16)
TABLE = LookupCaps(address_bits=9)


def function_of(ratios, offsets, rounding=Rounding.HALF_EVEN, lo=-128, hi=127):
    return QuantFunction((tuple(map(Fraction, ratios)),), tuple(map(Fraction, offsets)), rounding, lo, hi)


def prove_on(function, low, high, form):
    channels = len(function.offset)
    return prove_function(function, np.full(channels, low), np.full(channels, high), form)


def count_differences(function, requant, low, high):
    """One number at a time, by the definition of the function; the integers by what all backends share."""
    count = 0
    for c, (ratio, offset) in enumerate(zip(function.ratios[0], function.offset, strict=True)):
        got = requant.take(np.array([c])).apply(np.arange(low, high + 1)[None, :])[0]
        for acc, q in zip(range(low, high + 1), got.tolist(), strict=True):
            want = min(max(round_fraction(acc * ratio + offset, function.rounding), function.lo), function.hi)
            count += want != q
    return count


def numbers(requant):
    return [sorted(set(v.tolist())) for v in (requant.m[0], requant.s, requant.rounding)]


# --- one shift for a layer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", [Rounding.FLOOR, Rounding.HALF_UP, Rounding.CEIL])
def test_a_shift_alone_folds_what_a_constant_can(rounding):
    """Floor is all that the machine has; biases finer than a step are no multiples of it."""
    function = function_of([Fraction(1, 32)] * 4, [0, 5, Fraction(7, 3), Fraction(-1, 96)], rounding)
    requant, proof = prove_on(function, -3000, 3000, DIANA)
    assert proof.exact and numbers(requant) == [[1], [5], [int(Rounding.FLOOR)]]
    assert count_differences(function, requant, -3000, 3000) == 0


def test_half_even_at_16_bits_with_one_shift():
    """128 channels, accumulators of 48 bits, results of 16: the numbers are the ratios themselves."""
    offsets = [Fraction(c, 4) for c in range(128)]
    function = function_of([Fraction(1, 1 << 31)] * 128, offsets, lo=-(2**15), hi=2**15 - 1)
    requant, proof = prove_on(function, -(2**47), 2**47 - 1, AIE)
    assert proof.exact and numbers(requant) == [[1], [31], [int(Rounding.HALF_EVEN)]]
    _, floored = prove_on(function_of([Fraction(1, 8)], [0]), -900, 900, DIANA)
    assert not floored.exact and floored.max_lsb == 1 and floored.differing_values == 113  # each second tie


def test_a_layer_gets_one_shift_and_what_is_inexact_is_counted():
    """Ratios of three powers of two: one shift is right for one of them."""
    function = function_of([Fraction(1, 16), Fraction(1, 16), Fraction(1, 8), Fraction(1, 64)], [0, 1, 0, 0])
    requant, proof = prove_on(function, -500, 500, AIE)
    assert numbers(requant)[:2] == [[1], [4]] and not proof.exact and proof.exact_channels == 2
    assert proof.differing_values == count_differences(function, requant, -500, 500) > 0
    own, exact = prove_on(function, -500, 500, SHIFTS)
    assert exact.exact and own.s.tolist() == [4, 4, 3, 6]
    rounded, counted = prove_on(function_of([Fraction(3, 50)] * 2, [0, 1]), -500, 500, AIE)
    assert numbers(rounded)[:2] == [[1], [4]] and counted.exact_channels == 0
    assert counted.differing_values == count_differences(function_of([Fraction(3, 50)] * 2, [0, 1]), rounded, -500, 500)


def test_ratios_that_thresholds_do_not_tell_from_a_shift_are_exact():
    function = function_of([Fraction(1001, 16000), Fraction(999, 16000)], [Fraction(1, 3), Fraction(-1, 3)])
    requant, proof = prove_on(function, -100, 100, DIANA)
    assert proof.exact and numbers(requant)[1] == [4]
    assert count_differences(function, requant, -100, 100) == 0


def test_no_shift_at_all():
    function = function_of([1, 1], [3, -4], lo=-8, hi=7)
    requant, proof = prove_on(function, -50, 50, replace(DIANA, max_shift=0))
    assert proof.exact and requant.s.tolist() == [0, 0] and count_differences(function, requant, -50, 50) == 0
    near = function_of([Fraction(9, 10)], [0], lo=-8, hi=7)
    requant, proof = prove_on(near, -50, 50, replace(DIANA, max_shift=0))
    assert proof.differing_values == count_differences(near, requant, -50, 50)


def test_one_multiplier_for_a_layer():
    """A tensor's scale over another's, with a bias for each channel."""
    ratio = Fraction(float(np.float32(0.0123))) / Fraction(float(np.float32(0.7)))
    function = function_of([ratio] * 6, [Fraction(c, 7) for c in range(6)])
    requant, proof = prove_on(function, -5000, 5000, TENSOR)
    assert proof.exact and [len(v) for v in numbers(requant)] == [1, 1, 1]
    assert count_differences(function, requant, -5000, 5000) == 0
    near = function_of([ratio, ratio * Fraction(100001, 100000)], [0, 0])  # nearly the same
    requant, proof = prove_on(near, -900, 900, TENSOR)
    assert proof.exact and len(numbers(requant)[0]) == 1
    apart = function_of([ratio, 2 * ratio], [0, 0])
    requant, proof = prove_on(apart, -900, 900, TENSOR)
    assert len(numbers(requant)[0]) == 1 and not proof.exact
    assert proof.differing_values == count_differences(apart, requant, -900, 900)


def test_two_bit_multipliers_keep_to_one_shift():
    function = function_of([Fraction(1, 5), Fraction(1, 40), Fraction(1, 300)], [0, 0, 0])
    requant, proof = prove_on(function, -900, 900, MultiplyShiftCaps(2, negative=False, shift_per=Per.LAYER))
    assert set(requant.m[0].tolist()) == {1} and len(numbers(requant)[1]) == 1
    assert not proof.exact and proof.differing_values == count_differences(function, requant, -900, 900)


def test_one_constant_for_a_layer():
    form = replace(TENSOR, constant_per=Per.LAYER)
    same = function_of([Fraction(2, 7)] * 2, [Fraction(1, 9), Fraction(1, 10)])
    requant, proof = prove_on(same, -100, 100, form)
    assert proof.exact and len(set(requant.c.tolist())) == 1
    other = function_of([Fraction(2, 7)] * 2, [0, 3])
    requant, proof = prove_on(other, -100, 100, form)
    assert len(set(requant.c.tolist())) == 1 and not proof.exact
    assert proof.differing_values == count_differences(other, requant, -100, 100)


def test_no_constant_at_all():
    form = replace(DIANA, constant_bits=0)
    _, floor = prove_on(function_of([Fraction(1, 4)], [0], Rounding.FLOOR), -99, 99, form)
    requant, half = prove_on(function_of([Fraction(1, 4)], [0], Rounding.HALF_UP), -99, 99, form)
    assert floor.exact and not half.exact and requant.c.tolist() == [0]


SHARING = [
    DIANA, AIE, SHIFTS, TENSOR, replace(TENSOR, constant_per=Per.LAYER), replace(DIANA, constant_bits=6),
    MultiplyShiftCaps(5, 12, shift_per=Per.LAYER), ChainCaps(AIE, (-99, 99), MultiplyShiftCaps()),
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data(), form=st.sampled_from(SHARING))
def test_what_is_said_is_true(data, form):
    fraction = st.builds(Fraction, st.integers(1, 60), st.integers(1, 60))
    channels = data.draw(st.integers(1, 3))
    ratios = data.draw(st.lists(fraction | st.just(Fraction(0)), min_size=channels, max_size=channels))
    offsets = data.draw(st.lists(fraction, min_size=channels, max_size=channels))
    rounding, lo = data.draw(st.sampled_from(list(Rounding))), data.draw(st.integers(-20, 0))
    function = function_of(ratios, offsets, rounding, lo, lo + data.draw(st.integers(1, 40)))
    requant, proof = prove_on(function, -150, 170, form)
    assert proof.differing_values == count_differences(function, requant, -150, 170) and not proof.undecided_values
    assert proof.exact == (proof.differing_values == 0)
    if isinstance(form, MultiplyShiftCaps):
        assert form.multiplier_per == Per.CHANNEL or len(set(requant.m[0].tolist())) == 1
        assert form.shift_per == Per.CHANNEL or len(set(requant.s.tolist())) == len(set(requant.rounding.tolist())) == 1
        assert form.constant_per == Per.CHANNEL or len(set(requant.c.tolist())) == 1
        assert form.multiplier_bits or set(requant.m[0].tolist()) == {1}
        assert set(requant.rounding.tolist()) <= {int(r) for r in form.roundings} and max(requant.s) <= form.max_shift
        assert all(-(2 ** (form.constant_bits - 1)) <= c < 2 ** (form.constant_bits - 1) for c in requant.c.tolist())


def test_half_odd_is_half_even_with_an_odd_zero_point():
    """No requantizer has it: its ties alternate the other way round than HALF_EVEN's, whatever c is added."""
    for quarter in range(-40, 41):
        y = Fraction(quarter, 4)
        assert round_fraction(y, Rounding.HALF_ODD) == round_fraction(y - 7, Rounding.HALF_EVEN) + 7
    function = function_of([Fraction(1, 8)], [Fraction(3)], Rounding.HALF_ODD, -20, 20)
    requant, proof = prove_on(function, -80, 80, MultiplyShiftCaps())
    assert proof.differing_values == count_differences(function, requant, -80, 80) > 0 and proof.max_lsb == 1
    assert {example[1][0] % 8 for example in proof.examples} == {4}


# --- thresholds, tables, chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lo", "hi"), [(0, 3), (0, 15), (-8, 7)])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_thresholds_of_few_bits_are_always_exact(lo, hi, rounding):
    function = function_of([Fraction(1, 36), Fraction(-3, 70), 0, Fraction(1, 9999)], [1, 5, 2, 3], rounding, lo, hi)
    requant, proof = prove_on(function, -400, 400, NIBBLE)
    assert isinstance(requant, Thresholds) and proof.exact and count_differences(function, requant, -400, 400) == 0
    wrong = replace(requant, first=requant.first + (np.arange(hi - lo) == 1))
    found = differences(function, np.full(4, -400), np.full(4, 400), wrong)
    assert sum(d.values for d in found) == count_differences(function, wrong, -400, 400) > 0


def test_one_row_of_thresholds_for_a_layer():
    form = replace(NIBBLE, per=Per.LAYER)
    same = function_of([Fraction(1, 31)] * 3, [0, Fraction(1, 93), Fraction(1, 100)], lo=0, hi=15)
    requant, proof = prove_function(same, np.array([-20, -300, 0]), np.array([700, 90, 300]), form)
    assert proof.exact and len(np.unique(requant.first, axis=0)) == 1
    other = function_of([Fraction(1, 30), Fraction(1, 20)], [0, 0], lo=0, hi=15)
    requant, proof = prove_on(other, -10, 300, form)
    assert not proof.exact and proof.differing_values == count_differences(other, requant, -10, 300)


def test_a_table_of_accumulators_is_exact_and_every_entry_of_it_is_looked_at():
    function = function_of([Fraction(1, 36), Fraction(1, 12)], [0, 1])
    requant, proof = prove_on(function, -200, 311, TABLE)
    assert isinstance(requant, Lookup) and proof.exact and count_differences(function, requant, -200, 311) == 0
    values = requant.values.copy()
    values[1, 77] += 1
    (right, wrong) = differences(function, np.full(2, -200), np.full(2, 311), replace(requant, values=values))
    assert right.exact and wrong.values == 1 and wrong.examples[0][0] == (77 - 200,)


def test_a_table_behind_a_shift():
    """Accumulators of 14 bits, rounded to 8, are addresses of a table."""
    form = ChainCaps(replace(DIANA, constant_bits=0), (-128, 127), LookupCaps(8))
    function = function_of([Fraction(1, 64)], [0], Rounding.FLOOR, -16, 15)
    requant, proof = prove_on(function, -8192, 8191, form)
    assert isinstance(requant, Chain) and proof.exact and requant.stages[0].s.tolist() == [6]
    assert count_differences(function, requant, -8192, 8191) == 0
    uneven = function_of([Fraction(1, 100)], [0], Rounding.FLOOR, -16, 15)
    requant, proof = prove_on(uneven, -8192, 8191, form)
    assert not proof.exact and proof.max_lsb == 1
    assert proof.differing_values == count_differences(uneven, requant, -8192, 8191)


def test_round_twice_with_a_clip_between():
    form = ChainCaps(AIE, (-2048, 2047), MultiplyShiftCaps(16))
    function = function_of([Fraction(3, 700)] * 2, [Fraction(1, 11), Fraction(1, 3)])
    requant, proof = prove_on(function, -2000, 2000, form)
    assert proof.exact and count_differences(function, requant, -2000, 2000) == 0
    assert requant.stages[0].s.tolist() == [0, 0]
    requant, proof = prove_on(function, -12000, 12000, form)
    assert requant.stages[0].s.tolist() == [3, 3] and not proof.exact
    count = count_differences(function, requant, -12000, 12000)
    assert proof.differing_values == count < proof.checked_values // 30
    clipped = Chain((replace(requant.stages[0], hi=np.full(2, 900)), requant.stages[1]))
    found = differences(function, np.full(2, -12000), np.full(2, 12000), clipped)
    assert sum(d.values for d in found) == count_differences(function, clipped, -12000, 12000) > count


# --- refusals, layers, networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "message"), [
    (DIANA, "channel 1 falls with its accumulator, and no multiplier can be negative; negate its weights"),
    (TENSOR, "channel 1 falls with its accumulator, others rise, and all have one multiplier"),
    (replace(NIBBLE, falling=False), "channel 1 falls with its accumulator, which thresholds cannot follow"),
    (replace(NIBBLE, most=3), r"results of 0\.\.15 need 15 thresholds, of which there are 3"),
    (LookupCaps(4), r"accumulators of -100\.\.100 are 201 values, but a table has 16 entries"),
], ids=["shift", "one multiplier", "thresholds", "many thresholds", "table"])  # fmt: skip
def test_what_a_form_cannot_do_is_refused(form, message):
    function = function_of([Fraction(1, 8), Fraction(-1, 8)], [0, 0], lo=0, hi=15)
    with pytest.raises(RequantError, match=message):
        prove_on(function, -100, 100, form)


def test_contradictions_are_refused():
    with pytest.raises(CapsError, match="at least 2 bits"):
        MultiplyShiftCaps(1)
    with pytest.raises(CapsError, match="needs one shift for it; got a shift for each channel"):
        MultiplyShiftCaps(multiplier_per=Per.LAYER)
    with pytest.raises(CapsError, match="at least one rounding"):
        MultiplyShiftCaps(roundings=frozenset())


@pytest.mark.parametrize("form", [DIANA, ThresholdCaps(255), LookupCaps(9), ChainCaps(AIE, (-256, 255), SHIFTS)])
def test_an_add_of_one_scale_in_forms_without_multipliers(form):
    function = QuantFunction(((Fraction(1, 2),) * 3,) * 2, (Fraction(1, 2),) * 3, Rounding.FLOOR, -128, 127)
    requant, proof = prove_pairs(function, [(-128, 127), (-128, 127)], form)
    pairs = np.random.default_rng(1).integers(-128, 128, (2, 3, 500))
    assert proof.exact and (requant.apply(*pairs) == apply_exact(function, list(pairs))).all()
    unlike = replace(function, ratios=((Fraction(1, 2),) * 3, (Fraction(1, 4),) * 3))
    with pytest.raises(RequantError, match="an Add of two scales needs a multiplier for each operand"):
        prove_pairs(unlike, [(-128, 127), (-128, 127)], form)


def test_an_add_with_one_set_of_numbers_for_a_layer():
    ratios = (Fraction(1, 2), Fraction(1, 2)), (Fraction(1, 3), Fraction(1, 3))
    function = QuantFunction(ratios, (Fraction(0),) * 2, Rounding.HALF_UP, -128, 127)
    requant, proof = prove_pairs(function, [(-128, 127), (-128, 127)], TENSOR)
    assert proof.exact and [len(set(v.tolist())) for v in (*requant.m, requant.c, requant.s)] == [1, 1, 1, 1]
    with pytest.raises(RequantError, match="differ from channel to channel"):
        prove_pairs(replace(function, offset=(Fraction(0), Fraction(1))), [(-128, 127)] * 2, TENSOR)


def test_the_first_exact_form_is_taken_and_refusals_name_the_layer():
    network = import_model(conv_model(4, 3, 3, weight_bits=2))
    (table,) = prove(network, RequantCaps((LookupCaps(3), LookupCaps(16), MultiplyShiftCaps()))).ops
    assert isinstance(table.requant, Lookup) and table.proof.exact
    (last,) = prove(network, RequantCaps((LookupCaps(3), MultiplyShiftCaps(4)))).ops
    assert isinstance(last.requant, MultiplyShift) and not last.proof.exact
    with pytest.raises(RequantError, match=r"layer 'conv': accumulators of .* but a table has 8 entries"):
        prove(network, RequantCaps((LookupCaps(3),)))


@pytest.mark.parametrize("form", [TABLE, ThresholdCaps(255), MultiplyShiftCaps(), ChainCaps(AIE, (-99, 99), TABLE)])
def test_each_form_runs_and_is_kept_in_an_image(form):
    network = import_model(conv_model(2, 3, 1, weight_bits=2))
    proved = prove(network, RequantCaps((form, MultiplyShiftCaps())))
    again = network_from_json(network_to_json(proved))
    x = {name: np.random.default_rng(2).integers(-100, 100, network.tensors[name].shape) for name in network.inputs}
    assert type(again.ops[0].requant) is type(proved.ops[0].requant)
    for name, value in evaluate(proved, x).items():
        assert (evaluate(again, x)[name] == value).all()
