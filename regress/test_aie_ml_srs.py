# SPDX-License-Identifier: Apache-2.0
"""The shift-round-saturate unit against rational arithmetic: all forms, roundings and saturations, with stalls."""

import math
from fractions import Fraction

import numpy as np
import pytest
from amaranth.sim import Simulator
from nncosim.hdl.aie_ml import srs
from nncosim.hdl.aie_ml.isa import Form
from nncosim.hdl.aie_ml.srs import SRS_STAGES, RoundingCode, Saturation, ShiftRoundSaturate, SrsUnit

CORNERS = {bits: (0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), -(2 ** (bits - 1)) + 1) for bits in (32, 64)}


def rounded(value: int, shift: int, code: int) -> int:
    """By the meaning of each code."""
    exact = Fraction(value, 1 << shift)
    low, high = math.floor(exact), math.ceil(exact)
    if code in (RoundingCode.CEIL, RoundingCode.TOWARD_ZERO, RoundingCode.AWAY):
        return {RoundingCode.CEIL: high, RoundingCode.TOWARD_ZERO: math.trunc(exact),
                RoundingCode.AWAY: high if exact > 0 else low}[RoundingCode(code)]  # fmt: skip
    if code not in tuple(RoundingCode) or code == RoundingCode.FLOOR:
        return low
    if exact - low != Fraction(1, 2):
        return low if exact - low < Fraction(1, 2) else high
    even, odd = (low, high) if low % 2 == 0 else (high, low)
    return {RoundingCode.HALF_DOWN: low, RoundingCode.HALF_UP: high, RoundingCode.HALF_EVEN: even,
            RoundingCode.HALF_ODD: odd, RoundingCode.HALF_TOWARD_ZERO: min(low, high, key=abs),
            RoundingCode.HALF_AWAY: max(low, high, key=abs)}[RoundingCode(code)]  # fmt: skip


def clipped(value: int, bits: int, saturation: int, signed: bool) -> int:
    most = (1 << bits - signed) - 1
    least = -most - (saturation != Saturation.SYMMETRIC) if signed else 0
    return value if saturation == Saturation.NONE else min(max(value, least), most)


def result(sums: list[int], case: dict[str, int], bits: int) -> int:
    """The 256 bits."""
    out = 0
    for k, value in enumerate(sums):
        q = clipped(rounded(value, case["shift"], case["rounding"]), bits, case["saturation"], bool(case["signed"]))
        out |= (q & (1 << bits) - 1) << bits * k
    return out


def sums_of(rng: np.random.Generator, bits: int, shift: int, count: int) -> list[int]:
    """Corners, ties of odd and even numbers and of both signs, what lies one beside them, anything."""
    out = []
    for _ in range(count):
        kind = int(rng.integers(4))
        if kind == 0:
            value = int(rng.choice(CORNERS[bits]))
        elif kind == 1 and shift:
            value = (2 * int(rng.integers(-200, 200)) + 1 << shift - 1) + int(rng.choice([0, 0, 1, -1]))
        elif kind == 2:
            value = int(rng.integers(-300, 300)) << max(0, shift - 1)
        else:
            value = int(rng.integers(-(2**62), 2**62)) >> int(rng.integers(0, 62))
        out.append((value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1))
    return out


def cases(seed: int, count: int):
    """(inputs of the unit, the 256 bits that are to come)."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        form = Form(number % 4)
        wide = form in (Form.ACC64_16, Form.ACC64_32)
        bits, lanes = (64, 16) if wide else (32, 32)
        shift = int(rng.choice([rng.integers(64), rng.integers(20)]))
        case = dict(form=form.value, half=int(rng.integers(2)), shift=shift,
                    rounding=int(rng.choice([*(each.value for each in RoundingCode), 4])),
                    saturation=int(rng.integers(3)), signed=int(rng.integers(2)))  # fmt: skip
        sums = sums_of(rng, bits, case["shift"], lanes)
        chosen, out_bits = {
            Form.ACC32_8: (sums, 8), Form.ACC32_16: (sums[16 * case["half"] :][:16], 16), Form.ACC64_16: (sums, 16),
            Form.ACC64_32: (sums[8 * case["half"] :][:8], 32),
        }[form]  # fmt: skip
        acc = sum((value & (1 << bits) - 1) << bits * k for k, value in enumerate(sums))
        yield {"acc": acc, **case}, result(chosen, case, out_bits)


def mismatches(seed: int, count: int) -> int:
    dut, wrong = ShiftRoundSaturate(), 0

    async def bench(ctx):
        nonlocal wrong
        rng, waiting = np.random.default_rng(seed), []
        for inputs, expected in [*cases(seed, count), *[({}, None)] * SRS_STAGES]:
            for name, value in inputs.items():
                ctx.set(getattr(dut, name), value)
            waiting.append(expected)
            while rng.random() < 0.3:  # a stall: nothing may move
                ctx.set(dut.en, 0)
                await ctx.tick()
            ctx.set(dut.en, 1)
            await ctx.tick()
            if len(waiting) >= SRS_STAGES and waiting[-SRS_STAGES] is not None:
                wrong += ctx.get(dut.result) != waiting[-SRS_STAGES]

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return wrong


def test_all_forms_and_modes():
    assert mismatches(1, 200) == 0


def wrong_up(change):
    original = srs._up
    return lambda m, rounding, floor, half, rest: original(m, rounding, *change(floor, half, rest))


def wrong_clip(self, value, bits):
    """As if 8 bits had no sign."""
    return ORIGINAL_CLIP(self, value, bits if bits != 16 else 15)


def wrong_source(self, m, unit, source):
    """Neighbouring sums are exchanged."""
    ORIGINAL_SOURCE(self, m, unit ^ 1, source)


ORIGINAL_CLIP, ORIGINAL_SOURCE = SrsUnit._clip, ShiftRoundSaturate._source
PLANTED = {
    "bits below the half are lost": (srs, "_up", wrong_up(lambda floor, half, rest: (floor, half, rest & 0))),
    "ties go to the other number": (srs, "_up", wrong_up(lambda floor, half, rest: (~floor, half, rest))),
    "the half is always there": (srs, "_up", wrong_up(lambda floor, half, rest: (floor, half | 1, rest))),
    "a result clips one bit early": (SrsUnit, "_clip", wrong_clip),
    "two sums are exchanged": (ShiftRoundSaturate, "_source", wrong_source),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_seen(monkeypatch, name):
    monkeypatch.setattr(*PLANTED[name])
    assert mismatches(2, 60) > 0
