# SPDX-License-Identifier: Apache-2.0
"""The requantizer against `compiler.arithmetic`: all roundings, extreme values, parts of operands, pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.compiler.ir.arithmetic import round_shift
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai import requantizer
from nncosim.hdl.j3dai.isa import RequantRecord
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES, MSlice, XSlice
from nncosim.platforms.rounding import HARDWARE_ROUNDINGS
from nncosim.regress.block_bench import simulate
from nncosim.regress.j3dai_cluster_model import wrap
from nncosim.regress.planted import planted

CORNERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**18 - 1, 2**18, -(2**18), -(2**18) - 1, 2**15 - 1, 2**15, -(2**15),
           2**16 - 1, 2**16, -(2**16))
FACTORS = (0, 1, -1, 2**31 - 1, -(2**31), 2**24 - 1, 2**24, -(2**24), -(2**24) - 1, 2**23, 2**25 - 1)


@dataclass
class Result:
    """What goes in for one result: `x` of NCB `ncb`; with `add` its high half was kept from a job before."""

    x: int
    ncb: int
    pset: int
    wide_x: bool
    wide_m: bool
    add: bool

    def products(self) -> list[dict[str, int]]:
        """The partial products, in the order in which a drain begins them."""
        xs = ([(XSlice.HIGH, 0), (XSlice.PAIR, 0)] if self.add
              else [(XSlice.LOW, 0), (XSlice.HIGH, 16)] if self.wide_x else [(XSlice.NARROW, 0)])
        ms = [(MSlice.LOW, 0), (MSlice.HIGH, 24)] if self.wide_m else [(MSlice.NARROW, 0)]
        return [
            dict(x=self.x, ncb=self.ncb, pset=i if self.add else self.pset, x0=int(xs[i][0]), m0=int(m),
                 first=int(i == 0 and k == 0), shift=[0, 16, 24, 40].index(xs[i][1] + at))
            for i in range(len(xs)) for k, (m, at) in enumerate(ms)
        ]


def random_record(rng: np.random.Generator, rounding: int) -> dict[str, int]:
    """Any field at any value, and one time in two a shift that leaves ties and unclipped results."""
    s = int(rng.integers(0, 64))
    m = int(rng.choice([*FACTORS, *(int(v) for v in rng.integers(-(2**31), 2**31, 4))]))
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
    if abs(record["m"]) == 1 and 0 < record["s"] < 24 and rng.random() < 0.4:  # a tie, of an odd or an even number
        tie = int(rng.integers(-300, 300)) * 2 + 1 << record["s"] - 1
        bit = int(rng.choice([7, 15, int(rng.integers(record["s"]))]))  # or one bit away from it
        tie += int(rng.choice([0, 1, -1])) << bit if bit < record["s"] - 1 else 0
        return max(-(2**31), min(2**31 - 1, record["m"] * (tie - record["c"])))
    if rng.random() < 0.3:
        return int(rng.choice([*CORNERS, *(int(v) for v in rng.integers(-(2**31), 2**31, 4))]))
    unit = max(1, (1 << min(record["s"], 62)) // max(1, abs(record["m"])))
    beside = int(rng.choice([0, 1, -1, 1 << int(rng.integers(unit.bit_length()))]))
    near = int(rng.integers(-300, 300)) * unit // 2 + beside - record["c"] // (record["m"] or 1)
    return max(-(2**31), min(2**31 - 1, near))


def expected(result: Result, records: list[list[dict[str, int]]]) -> int:
    """The low byte of the result. `records`: two an NCB."""
    sets, bits = records[result.ncb], 32 if result.wide_m else 25
    if result.add:
        last = sets[1]
        total = wrap(result.x >> 16, 16) * wrap(sets[0]["m"], bits) + wrap(result.x, 16) * wrap(last["m"], bits)
        total = wrap(total + sets[0]["c"], 64)
    else:
        last = sets[result.pset]
        total = wrap(wrap(result.x, 32 if result.wide_x else 19) * wrap(last["m"], bits) + last["c"], 64)
    q = int(round_shift(np.int64(total), min(last["s"], 62), last["rounding"]))
    return (q if last["wrap"] else min(max(q, last["lo"]), last["hi"])) & 255


def corner_batches(ncbs: int) -> list[tuple[list[list[dict[str, int]]], list[Result]]]:
    """Each corner of m with each of an accumulator, shifted so that the result is within eight bits; and pairs."""
    out = []
    for k, m in enumerate(FACTORS):
        common = dict(m=m, c=0, lo=-256, hi=255, rounding=k % len(HARDWARE_ROUNDINGS), wrap=0)
        sets = [common | dict(s=max(1, m.bit_length() + more)) for more in (11, 24)]
        narrow_m = wrap(m, 25) == m
        results = []
        for at, x in enumerate(CORNERS):
            ncb, pair = at % ncbs, wrap(x, 16) << 16 | CORNERS[at - 1] & 0xFFFF
            results += [Result(x, ncb, 1, True, not narrow_m, False), Result(x, ncb, 1, True, True, False),
                        Result(wrap(pair, 32), ncb, 0, False, not narrow_m, True)]
            if wrap(x, 19) == x:
                results.append(Result(x, ncb, 0, False, not narrow_m, False))
        out.append(([sets] * ncbs, results))
    return out


def noise(rng: np.random.Generator, ncbs: int) -> dict[str, int]:
    """A cycle in which nothing is requantized: there are no enables, anything may stand at the ports."""
    most = dict(ncb=ncbs, pset=2, x0=4, m0=3, first=2, shift=4)
    return {"x": int(rng.integers(-(2**31), 2**31)), **{name: int(rng.integers(end)) for name, end in most.items()}}


async def feed(ctx: Any, dut: Any, results: list[Result], rng: np.random.Generator) -> list[int]:
    """Begin the results' partial products one a cycle, with gaps between results; `q` of each result."""
    steps, ends = [], []
    for result in results:
        steps += [noise(rng, dut.ncbs) for _ in range(int(rng.choice([0, 0, 0, 1, 3])))]
        steps += result.products()
        ends.append(len(steps) - 1)
    out = []
    for t in range(len(steps) + REQUANT_STAGES):
        at = [steps[t - k] if 0 <= t - k < len(steps) else noise(rng, dut.ncbs) for k in range(REQUANT_STAGES)]
        for n in range(dut.ncbs):
            ctx.set(dut.x[n], at[0]["x"] if n == at[0]["ncb"] else ~at[0]["x"])
        ctx.set(dut.x0, at[0]["x0"])
        ctx.set(dut.m0, at[0]["m0"])
        ctx.set(dut.first2, at[2]["first"])
        ctx.set(dut.shift2, at[2]["shift"])
        for k in (0, 2, 4, 5):
            ctx.set(getattr(dut, f"owner{k}"), at[k]["ncb"])
            ctx.set(getattr(dut, f"pset{k}"), at[k]["pset"])
        await ctx.tick()
        if t - REQUANT_STAGES + 1 in ends:
            out.append(ctx.get(dut.q))
    return out


def random_results(rng: np.random.Generator, records: list[list[dict[str, int]]], count: int) -> list[Result]:
    out = []
    for _ in range(count):
        ncb, pset, add = int(rng.integers(len(records))), int(rng.integers(2)), bool(rng.random() < 0.3)
        x = random_x(rng, records[ncb][pset])
        if add:
            parts = [wrap(random_x(rng, records[ncb][k]) if rng.random() < 0.7 else int(rng.choice(CORNERS)), 16)
                     for k in range(2)]
            x = wrap(parts[0] << 16 | parts[1] & 0xFFFF, 32)
        fits_x, fits_m = wrap(x, 19) == x, wrap(records[ncb][pset]["m"], 25) == records[ncb][pset]["m"]
        # mostly as a compiler would choose, and now and then too narrow
        out.append(Result(x, ncb, pset, bool(rng.random() < (0.3 if fits_x else 0.9)),
                          bool(rng.random() < (0.3 if fits_m else 0.9)), add))
    return out


def random_batches(rng: np.random.Generator, count: int, ncbs: int
                   ) -> Iterator[tuple[list[list[dict[str, int]]], list[Result]]]:
    for batch in range(count):
        records = [[random_record(rng, (batch + k + n) % len(HARDWARE_ROUNDINGS)) | {"wrap": (batch + k) % 5 == 4}
                    for k in range(2)] for n in range(ncbs)]
        for sets in records if batch % 2 else ():  # so that both of a pair weigh the same
            sets[1] |= {name: sets[0][name] for name in ("m", "s")}
        yield records, random_results(rng, records, 32)


def mismatches(module: ModuleType, seed: int, batches: int = 48, ncbs: int = 1) -> tuple[list[str], list[int]]:
    """Run the corners and random batches: descriptions of wrong results, and all results."""
    rng, dut = np.random.default_rng(seed), module.Requantizer(ncbs)
    bad: list[str] = []
    seen: list[int] = []

    async def bench(ctx: Any) -> None:
        for records, results in [*corner_batches(ncbs), *random_batches(rng, batches, ncbs)]:
            for n, sets in enumerate(records):
                for k, record in enumerate(sets):
                    ctx.set(dut.param_we[n], 1 << k)
                    ctx.set(dut.param_data[n], encode(RequantRecord, **record))
                    await ctx.tick()
                ctx.set(dut.param_we[n], 0)
                ctx.set(dut.param_data[n], int.from_bytes(rng.bytes(16), "little"))
            for result, got in zip(results, await feed(ctx, dut, results, rng), strict=True):
                want = expected(result, records)
                seen.append(want)
                if want != got:
                    bad.append(f"{result} {records[result.ncb]}: expected {want}, got {got}")

    simulate(dut, bench)
    return bad, seen


@pytest.mark.parametrize("seed", [1, 2])
def test_results_are_those_of_the_arithmetic(seed: int) -> None:
    bad, seen = mismatches(requantizer, seed)
    assert not bad, f"seed {seed}: {len(bad)} wrong, first: {bad[0]}"
    assert len(set(seen)) > 150, "the stimuli do not use the range of results"


@pytest.mark.parametrize("ncbs", [2, 4, 8])
def test_shared_by_ncbs(ncbs: int) -> None:
    bad, _ = mismatches(requantizer, ncbs, batches=16, ncbs=ncbs)
    assert not bad, f"{len(bad)} wrong, first: {bad[0]}"


@pytest.mark.parametrize("right, wrong", [
    ("Rounding.HALF_EVEN: above | tie & floor[0]", "Rounding.HALF_EVEN: above | tie"),
    ("Mux(ten | wrap, floor, limit)", "floor"),
    ("Mux(ten | wrap, floor", "Mux(ten, floor"),
    ("Mux(wrap_q5, rounded, clipped)", "clipped"),
    ("sign_q4.eq(total_q3[63])", "sign_q4.eq(~total_q3[63])"),
    ("factor[M_LOW:].as_signed(), factor", "factor[M_LOW:], factor"),
    ("(rounded > hi) | (lo > hi)", "(rounded > hi)"),
    ("s[0] & ~s.all()", "s[0]"),
    ("x[31].replicate(3), x[15].replicate(3)]", "x[31].replicate(3), Const(0, 3)]"),
    ("other[8 * k + 16:].any() if k < 6", "other[8 * k + 17:].any() if k < 6"),
    ("total_q3[:8 * k - 1].any()", "total_q3[:8 * k - 2].any()"),
    ("register(signed(NARROW_X_BITS + NARROW_M_BITS))", "register(signed(NARROW_X_BITS + NARROW_M_BITS - 1))"),
    ("Mux(self.first2, self._param(2, \"c\"), total_q3)", "self._param(2, \"c\")"),
    ("with m.If(self.param_we[n][k]):", "with m.If(1):"),
], ids=["rounding", "saturation", "wrap past ten bits", "wrap", "sign", "high part of m", "bounds", "shift 63", "pair",
        "far too large", "sticky", "product", "sum", "parameters without an enable"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    bad, _ = mismatches(planted(requantizer, right, wrong), seed=1)
    assert bad
