# SPDX-License-Identifier: Apache-2.0
"""The requantizer against `compiler.arithmetic`: all roundings, extreme values, wide registers."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from nncosim.compiler.arithmetic import Rounding, round_shift
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai import requantizer
from nncosim.hdl.j3dai.isa import Drain, RequantRecord
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES
from nncosim.regress.j3dai_planted import planted

PIXELS = 8


@dataclass
class Pixel:
    x: int
    pset: int
    number: int
    mode: Drain


def wrap(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def random_record(rng: np.random.Generator, rounding: int) -> dict[str, int]:
    """Any field at any value, and one time in two a shift that leaves ties and unclipped results."""
    s = int(rng.integers(0, 64))
    m = int(rng.choice([1, -1, 2**31 - 1, -(2**31), 0, int(rng.integers(-(2**31), 2**31))]))
    c = int(rng.choice([0, -(2**63), 2**63 - 1, int(rng.integers(-(2**40), 2**40))]))
    lo, hi = int(rng.integers(-256, 256)), int(rng.integers(-256, 256))
    if rng.random() < 0.6:
        s, m = int(rng.integers(1, 24)), int(rng.choice([1, -1, 3, 1 << 10, -(1 << 12)]))
        c, lo, hi = int(rng.choice([0, int(rng.integers(-(1 << s), 1 << s))])), -256, 255
    elif rng.random() < 0.3:  # a result of a few units at the greatest shifts
        s, c, lo, hi = int(rng.integers(61, 64)), int(rng.integers(-(2**63), 2**63 - 1)), -256, 255
    return dict(m=m, c=c, s=s, lo=lo, hi=hi, rounding=rounding)


def random_x(rng: np.random.Generator, record: dict[str, int]) -> int:
    """Often near a multiple of half the divisor, within the range that is not clipped."""
    if abs(record["m"]) == 1 and 0 < record["s"] < 24 and rng.random() < 0.3:  # a tie, of an odd or an even number
        tie = int(rng.integers(-300, 300)) * 2 + 1 << record["s"] - 1
        bit = int(rng.choice([7, 15, int(rng.integers(record["s"]))]))  # or one bit away from it
        tie += int(rng.choice([0, 1, -1])) << bit if bit < record["s"] - 1 else 0
        return max(-(2**31), min(2**31 - 1, record["m"] * (tie - record["c"])))
    if rng.random() < 0.3:
        return int(rng.choice([0, 1, -1, 2**31 - 1, -(2**31), int(rng.integers(-(2**31), 2**31))]))
    unit = max(1, (1 << min(record["s"], 62)) // max(1, abs(record["m"])))
    beside = int(rng.choice([0, 1, -1, 1 << int(rng.integers(unit.bit_length()))]))
    near = int(rng.integers(-300, 300)) * unit // 2 + beside - record["c"] // (record["m"] or 1)
    return max(-(2**31), min(2**31 - 1, near))


def expected(pixels: list[Pixel], records: list[dict[str, int]], wide: list[int]) -> list[int | None]:
    """Low byte per pixel; None where nothing is written. `wide` holds the registers t and is updated."""
    out: list[int | None] = []
    for p in pixels:
        r = records[p.pset]
        total = wrap(p.x * r["m"] + (wide[p.number] if p.mode == Drain.ADD else r["c"]))
        if p.mode == Drain.KEEP:
            wide[p.number] = total
            out.append(None)
            continue
        q = int(round_shift(np.int64(total), min(r["s"], 62), r["rounding"]))
        out.append((q if r["wrap"] else min(max(q, r["lo"]), r["hi"])) & 255)
    return out


async def feed(ctx: Any, dut: Any, pixels: list[Pixel], rng: np.random.Generator) -> list[int]:
    """Push the pixels through, one a cycle with gaps; what comes out for each. A stage without one sees noise."""
    flow: list[Pixel | None] = []
    for pixel in pixels:
        flow += [None] * int(rng.choice([0, 0, 0, 0, 1, 3]))
        flow.append(pixel)
    out = []
    noise = [Pixel(int(x), int(pset), int(number), Drain(int(mode))) for x, pset, number, mode in rng.integers(
        [-(2**31), 0, 0, 0], [2**31, 2, max(p.number for p in pixels) + 1, 3], (64, 4))]
    for t in range(len(flow) + REQUANT_STAGES):
        held = [flow[t - k] if 0 <= t - k < len(flow) else None for k in range(REQUANT_STAGES)]
        shown = [there or noise[(9 * t + k) % 64] for k, there in enumerate(held)]
        ctx.set(dut.q_en, sum(1 << k for k, p in enumerate(held) if p))
        ctx.set(dut.q_pset, sum(1 << k for k, p in enumerate(shown) if p.pset))
        ctx.set(dut.x, shown[0].x)
        ctx.set(dut.q_pixel3, shown[3].number)
        ctx.set(dut.q_add3, shown[3].mode == Drain.ADD)
        ctx.set(dut.q_pixel5, shown[5].number)
        ctx.set(dut.q_keep5, shown[5].mode == Drain.KEEP)
        await ctx.tick()
        if t >= REQUANT_STAGES - 1 and held[REQUANT_STAGES - 1]:
            out.append(ctx.get(dut.q))
    return out


def mismatches(module: ModuleType, seed: int, batches: int = 64, pes: int = PIXELS) -> tuple[list[str], list[int]]:
    """Run random batches: descriptions of wrong results, and all results."""
    rng, dut = np.random.default_rng(seed), module.Requantizer(pes)
    noise = np.random.default_rng([seed, 1])
    bad: list[str] = []
    seen: list[int] = []

    async def bench(ctx: Any) -> None:
        for batch in range(batches):
            records = [
                random_record(rng, (batch + k) % len(Rounding)) | {"wrap": (batch + k) % 5 == 4} for k in range(2)
            ]
            if batch % 2:  # so that what is kept and what is added weigh the same
                records[1] |= {name: records[0][name] for name in ("m", "s")}
            for k, record in enumerate(records):
                ctx.set(dut.param_we, 1 << k)
                ctx.set(dut.param_data, encode(RequantRecord, **record))
                await ctx.tick()
            ctx.set(dut.param_we, 0)
            ctx.set(dut.param_data, int.from_bytes(noise.bytes(16), "little"))
            wide = [0] * pes
            pixels = [Pixel(random_x(rng, records[pset]), pset, p, mode)
                      for mode, pset in ((Drain.WRITE, 0), (Drain.KEEP, 0), (Drain.ADD, 1), (Drain.WRITE, 1))
                      for p in range(pes)]
            got_all = await feed(ctx, dut, pixels, noise)
            for p, want, got in zip(pixels, expected(pixels, records, wide), got_all, strict=True):
                if want is not None:
                    seen.append(want)
                    if want != got:
                        bad.append(f"{p} {records[p.pset]}: expected {want}, got {got}")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return bad, seen


@pytest.mark.parametrize("seed", [1, 2])
def test_results_are_those_of_the_arithmetic(seed: int) -> None:
    bad, seen = mismatches(requantizer, seed)
    assert not bad, f"seed {seed}: {len(bad)} wrong, first: {bad[0]}"
    assert len(set(seen)) > 150, "the stimuli do not use the range of results"


@pytest.mark.parametrize("pes", [4, 16])
def test_other_numbers_of_pes(pes: int) -> None:
    bad, _ = mismatches(requantizer, pes, batches=16, pes=pes)
    assert not bad, f"{len(bad)} wrong, first: {bad[0]}"


@pytest.mark.parametrize("right, wrong", [
    ("Rounding.HALF_EVEN: above | tie & odd", "Rounding.HALF_EVEN: above | tie"),
    ("Mux(fits | wrap_q7, floor_q7[:10].as_signed(), limit)", "floor_q7[:10].as_signed()"),
    ("Mux(fits | wrap_q7, floor_q7", "Mux(fits, floor_q7"),
    ("Mux(wrap_q8, rounded, clipped)", "clipped"),
    ("negative, odd = floor_q7[63], floor_q7[0]", "negative, odd = ~floor_q7[63], floor_q7[0]"),
    ("x_q1 * m_q1[24:].as_signed()", "x_q1 * m_q1[24:]"),
    ("(rounded > hi_q8) | (lo_q8 > hi_q8)", "(rounded > hi_q8)"),
    ("s[0] & ~s.all()", "s[0]"),
    ("Mux(self.q_add3, kept,", "Mux(self.q_add3, kept + 1,"),
    ("sticky_q6 | (guard_q6 & (s_q6 != 0)) |", "sticky_q6 |"),
    ("with m.If(self.q_en[5] & self.q_keep5):", "with m.If(self.q_keep5):"),
    ("with m.If(self.param_we[k]):", "with m.If(1):"),
], ids=["rounding", "saturation", "wrap past ten bits", "wrap", "sign", "multiplier", "bounds", "shift 63", "wide",
        "sticky", "wide without a pixel", "parameters without an enable"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    bad, _ = mismatches(planted(requantizer, right, wrong), seed=1)
    assert bad
