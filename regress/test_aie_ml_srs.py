# SPDX-License-Identifier: Apache-2.0
"""The shift-round-saturate unit against rational arithmetic: all forms, roundings and saturations, with stalls.

The codes of roundings and saturations stand here as numbers, from `MANUAL.md`: those of the unit are judged too.
"""

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.aie_ml import srs
from nncosim.hdl.aie_ml.isa import Form
from nncosim.regress.block_bench import simulate
from nncosim.regress.planted import planted, some

STAGES = 3
INPUTS = {"acc": 1024, "form": 2, "half": 1, "shift": 6, "rounding": 4, "saturation": 2, "signed": 1}
"""Ports and their bits."""
SHAPES = {Form.ACC32_8: (32, 32, 8), Form.ACC32_16: (32, 16, 16), Form.ACC64_16: (64, 16, 16),
          Form.ACC64_32: (64, 8, 32)}  # fmt: skip
"""Bits of a sum, results, bits of a result."""


def rounded(value: int, shift: int, code: int) -> int:
    """`value` / 2**`shift` to an integer, by the meaning of each code."""
    exact = Fraction(value, 1 << shift)
    low, high = math.floor(exact), math.ceil(exact)
    near_zero, far = (low, high) if exact >= 0 else (high, low)
    even, odd = (low, high) if low % 2 == 0 else (high, low)
    if code < 8 or code > 13:
        return {1: high, 2: near_zero, 3: far}.get(code, low)
    if exact - low != Fraction(1, 2):
        return low if exact - low < Fraction(1, 2) else high
    return {8: low, 9: high, 10: near_zero, 11: far, 12: even, 13: odd}[code]


def limits(bits: int, saturation: int, signed: int) -> tuple[int, int]:
    """The least and the greatest result of `bits` bits, where it saturates (1 or 2)."""
    if not signed:
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)) + (saturation == 2), 2 ** (bits - 1) - 1


def expected(sums: list[int], case: dict[str, int]) -> int:
    """The 256 bits."""
    _, count, bits = SHAPES[Form(case["form"])]
    out = 0
    for k, value in enumerate(sums[count * case["half"]:][:count] if count < len(sums) else sums):
        q = rounded(value, case["shift"], case["rounding"])
        if case["saturation"]:
            least, most = limits(bits, case["saturation"], case["signed"])
            q = min(max(q, least), most)
        out |= q % 2**bits << bits * k
    return out


def random_sum(rng: np.random.Generator, case: dict[str, int]) -> int:
    """Extremes; ties of odd and even numbers and of both signs; near where it saturates; anything. And beside these."""
    sum_bits, _, bits = SHAPES[Form(case["form"])]
    shift, kind = case["shift"], int(rng.integers(4))
    beside = int(rng.choice([0, 0, 1, -1]))
    if kind == 0:
        value = int(rng.choice([0, 2 ** (sum_bits - 1) - 1, -(2 ** (sum_bits - 1))])) + beside
    elif kind == 1:  # ties, and whole numbers
        value = (int(rng.integers(-600, 600)) << shift) // 2 + beside
    elif kind == 2:
        limit = int(rng.choice(limits(bits, case["saturation"], case["signed"]))) + int(rng.integers(-1, 2))
        value = (limit << shift) + int(rng.choice([0, 1 << shift >> 1])) + beside
    else:
        value = int(rng.integers(-(2**63), 2**63 - 1)) >> int(rng.integers(63))
    half = 2 ** (sum_bits - 1)
    return (value + half) % (2 * half) - half


def cases(rng: np.random.Generator) -> Iterator[tuple[dict[str, int], int]]:
    """Every form with every rounding, saturation and sign, in any order: what goes in, the 256 bits to come."""
    every = list(itertools.product(range(4), range(16), range(3), range(2)))
    for number in rng.permutation(len(every)):
        form, rounding, saturation, signed = every[number]
        shift = int(rng.choice([0, 1, 31, 32, 33, 63, *rng.integers(64, size=4), *rng.integers(1, 24, size=6)]))
        case = dict(form=form, half=int(rng.integers(2)), shift=shift, rounding=rounding, saturation=saturation,
                    signed=signed)  # fmt: skip
        sum_bits = SHAPES[Form(form)][0]
        sums = [random_sum(rng, case) for _ in range(1024 // sum_bits)]
        acc = sum(value % 2**sum_bits << sum_bits * k for k, value in enumerate(sums))
        yield {"acc": acc, **case}, expected(sums, case)


def noise(rng: np.random.Generator) -> dict[str, int]:
    return {name: int.from_bytes(rng.bytes(128), "little") % 2**bits for name, bits in INPUTS.items()}


def mismatch(module: ModuleType, seed: int) -> str | None:
    """The first wrong result. In cycles without `en` anything stands at the ports, and the result holds."""
    dut, found = module.ShiftRoundSaturate(), None

    async def bench(ctx: Any) -> None:
        nonlocal found
        rng = np.random.default_rng(seed)
        given = list(cases(rng))
        at = 0  # inputs taken
        while at < len(given) + STAGES - 1:
            enabled = rng.random() < 0.7
            for name, value in (given[at][0] if enabled and at < len(given) else noise(rng)).items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.en, enabled)
            await ctx.tick()
            at += enabled
            if at >= STAGES and (got := ctx.get(dut.result)) != (want := given[at - STAGES])[1]:
                found = f"{want[0]}, {enabled=}: expected {want[1]:064x}, got {got:064x}"
                return

    simulate(dut, bench)
    return found


def test_all_forms_and_modes() -> None:
    assert srs.SRS_STAGES == STAGES
    assert (wrong := mismatch(srs, 1)) is None, wrong


def test_codes_are_the_manual_s() -> None:
    assert {each.name: each.value for each in srs.RoundingCode} == {
        "FLOOR": 0, "CEIL": 1, "TOWARD_ZERO": 2, "AWAY": 3, "HALF_DOWN": 8, "HALF_UP": 9, "HALF_TOWARD_ZERO": 10,
        "HALF_AWAY": 11, "HALF_EVEN": 12, "HALF_ODD": 13}  # fmt: skip
    assert {each.name: each.value for each in srs.Saturation} == {"NONE": 0, "SATURATE": 1, "SYMMETRIC": 2}


PLANTED = {
    "ties go to the other number": ("half & (rest | floor[0])", "half & (rest | ~floor[0])"),
    "two codes are exchanged": ("HALF_UP = 9\n    HALF_TOWARD_ZERO = 10", "HALF_UP = 10\n    HALF_TOWARD_ZERO = 9"),
    "shifts past 31 wrap": ("self.source >> self.shift)", "self.source >> self.shift[:5])"),
    "one past the limit is not clipped": ("value > high, high", "value > high + 1, high"),
    "the result does not hold": ("m.If(self.en):\n            with m.Switch", "m.If(1):\n            with m.Switch"),
    "above a half is not up": ("HALF_DOWN: half & rest", "HALF_DOWN: half & 0"),
    "inexact is only the half": ("RoundingCode.CEIL: inexact", "RoundingCode.CEIL: half"),
    "rounding as of a cycle later": ("_up(m, rounding, floor", "_up(m, self.rounding, floor"),
    "symmetric has the least": ("Mux(symmetric, Const(-most,", "Mux(0, Const(-most,"),
    "a half is the other": ("Mux(half, acc.word_select(wide // 2 +", "Mux(~half, acc.word_select(wide // 2 +"),
    "a stage does not hold": ("m.If(self.en):\n            for stages", "m.If(1):\n            for stages"),
}


@pytest.mark.parametrize("name", some(PLANTED, 5))
def test_a_planted_bug_is_seen(name: str) -> None:
    assert mismatch(planted(srs, *PLANTED[name]), 2)
