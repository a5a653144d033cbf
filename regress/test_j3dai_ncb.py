# SPDX-License-Identifier: Apache-2.0
"""One NCB: operand selection, multiply, accumulate, maximum, shadow registers, drained while the next job runs."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from nncosim.compiler.arithmetic import Rounding, round_shift
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai import ncb
from nncosim.hdl.j3dai.isa import RequantRecord
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES
from nncosim.regress.j3dai_planted import planted

PES = 8
OTHER_PES = (4, 16)
RECORD: dict[str, int] = dict(m=3 << 20, c=0, s=31, lo=-128, hi=127, rounding=Rounding.HALF_AWAY.value)


def micro_operations(rng: np.random.Generator, count: int, pes: int = PES) -> list[dict[str, Any]]:
    """Random micro-operations with idle cycles; from `pes` + 1 cycles after the last one on, one ends a job."""
    out, since, first = [], 0, True
    for _ in range(count):
        since += 1
        op: dict[str, Any] = dict(
            valid=bool(rng.random() < 0.8), own=bool(rng.integers(2)), weighted=bool(rng.integers(2)),
            max=bool(rng.integers(2)), first=first, end=False, enabled=bool(rng.random() < 0.9),
            sext=int(rng.integers(1 << pes)), one=int(rng.integers(1 << pes)), weight=int(rng.integers(256)),
            bytes=[int(v) for v in rng.integers(0, 256, pes)], common=[int(v) for v in rng.integers(0, 512, pes)],
        )
        if op["valid"]:
            first = op["end"] = since > pes and bool(rng.random() < 0.15)
            op["enabled"] |= op["first"]
            since = 0 if op["end"] else since
        out.append(op)
    return out


def corner_operations(pes: int = PES) -> list[dict[str, Any]]:
    """Jobs of one and two micro-operations: each corner of an operand with each of a weight, and their sums."""
    operands, weights = (0x100, 0x101, 0x1FF, 0, 1, 0x7F, 0x80, 0xFF), (0x80, 0x81, 0xFF, 0, 1, 0x7F)
    out: list[dict[str, Any]] = []

    def operation(at: int, weight: int, own: bool, **flags: bool) -> dict[str, Any]:
        common = [operands[(at + p) % len(operands)] for p in range(pes)]
        signs = sum((v >> 8) << p for p, v in enumerate(common))
        return dict(valid=True, own=own, weighted=True, enabled=True, weight=weight, common=common, sext=0, one=signs,
                    bytes=[v & 255 for v in common]) | flags

    for at in range(0, len(operands), min(pes, len(operands))):
        for k, weight in enumerate(weights):
            own = bool(k % 2)
            out.append(operation(at, weight, own, first=True, max=False, end=True))
            out += [dict(out[-1], valid=False, end=False)] * pes
            out.append(operation(at, weight, not own, first=True, max=True, end=False))
            out.append(operation(at + k, weights[k - 1], own, first=False, max=bool(at + k & 2), end=True))
            out += [dict(out[-1], valid=False, end=False)] * pes
    return out


def reference(operations: list[dict[str, Any]], pes: int = PES) -> list[list[int]]:
    """The results of each job, one a PE."""
    acc, jobs = [0] * pes, []
    for op in operations:
        for p in range(pes if op["valid"] and op["enabled"] else 0):
            if op["own"]:
                byte = op["bytes"][p]
                a = byte | (((byte >> 7 & op["sext"] >> p) | op["one"] >> p) & 1) << 8
            else:
                a = op["common"][p]
            a -= 512 * (a > 255)
            w = op["weight"] - 256 * (op["weight"] > 127) if op["weighted"] else 1
            acc[p] = a * w if op["first"] else max(acc[p], a * w) if op["max"] else acc[p] + a * w
        if op["end"]:
            totals = [int(round_shift(np.int64(v * RECORD["m"]), RECORD["s"], RECORD["rounding"])) for v in acc]
            jobs.append([min(max(v, -128), 127) & 255 for v in totals])
    return jobs


def results(module: ModuleType, operations: list[dict[str, Any]], pes: int = PES) -> list[list[int]]:
    """Drive the stages as a cluster does, and collect the drained results of each job."""
    dut = module.Ncb(pes)
    idle: dict[str, Any] = dict(valid=False, end=False)
    drained: dict[int, int] = {}  # cycle in which `q` holds a result -> its number
    ends = [t for t, op in enumerate(operations) if op["end"]]
    for job, t in enumerate(ends):
        for p in range(pes):
            drained[t + 7 + p + REQUANT_STAGES] = job * pes + p
    out = [[-1] * pes for _ in ends]

    async def bench(ctx: Any) -> None:
        ctx.set(dut.param_we, 1)
        ctx.set(dut.param_data, encode(RequantRecord, **RECORD))
        await ctx.tick()
        ctx.set(dut.param_we, 0)
        for t in range(len(operations) + 40):
            at = [operations[t - k] if 0 <= t - k < len(operations) else idle for k in range(7)]
            drive(ctx, dut, at)
            pixel = [t - 7 - end for end in ends if 0 <= t - 7 - end < pes]
            ctx.set(dut.q_pixel0, pixel[0] if pixel else 0)
            ctx.set(dut.q_en, sum(1 << k for k in range(REQUANT_STAGES) if t - k + REQUANT_STAGES in drained))
            if t in drained:
                out[drained[t] // pes][drained[t] % pes] = ctx.get(dut.q)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return out


def drive(ctx: Any, dut: Any, at: list[dict[str, Any]]) -> None:
    """Each stage's ports from the micro-operation that is in it."""
    ctx.set(dut.en_s3, at[3]["valid"])
    if at[3]["valid"]:
        ctx.set(dut.own_s3, at[3]["own"])
        ctx.set(dut.weighted_s3, at[3]["weighted"])
        ctx.set(dut.weight_s3, at[3]["weight"])
        ctx.set(dut.sext_s3, at[3]["sext"])
        ctx.set(dut.one_s3, at[3]["one"])
        ctx.set(dut.bytes_s3, sum(v << (8 * p) for p, v in enumerate(at[3]["bytes"])))
        ctx.set(dut.common_s3, sum(v << (9 * p) for p, v in enumerate(at[3]["common"])))
    ctx.set(dut.en_s4, at[4]["valid"])
    ctx.set(dut.en_s5, at[5]["valid"] and at[5]["enabled"])
    if at[5]["valid"]:
        ctx.set(dut.first_s5, at[5]["first"])
        ctx.set(dut.max_s5, at[5]["max"])
    ctx.set(dut.copy_s6, at[6]["end"])


@pytest.mark.parametrize("seed", [1, 2])
def test_jobs_agree_with_the_reference(seed: int) -> None:
    operations = micro_operations(np.random.default_rng(seed), 700)
    want = reference(operations)
    assert results(ncb, operations) == want, f"seed {seed}"
    flat = [v for job in want for v in job]
    assert len(want) > 20 and len(set(flat)) > 60 and sum(v in (127, 128) for v in flat) < len(flat) // 4


@pytest.mark.parametrize("pes", [4, PES])
def test_corners_of_operands(pes: int) -> None:
    operations = corner_operations(pes)
    assert results(ncb, operations, pes) == reference(operations, pes)


@pytest.mark.parametrize("pes", OTHER_PES)
def test_other_numbers_of_pes(pes: int) -> None:
    operations = micro_operations(np.random.default_rng(pes), 400, pes)
    want = reference(operations, pes)
    assert results(ncb, operations, pes) == want
    assert len(want) > 10 and len({v for job in want for v in job}) > 40


@pytest.mark.parametrize("right, wrong", [
    ("register(signed(17), name=f\"pe{p}_product_s5\")", "register(signed(16), name=f\"pe{p}_product_s5\")"),
    ("register(signed(9), name=f\"pe{p}_a_s4\")", "register(signed(8), name=f\"pe{p}_a_s4\")"),
], ids=["-256 x -128", "operand of 8 bits"])
def test_planted_short_register_is_noticed(right: str, wrong: str) -> None:
    operations = corner_operations()
    assert results(planted(ncb, right, wrong), operations) != reference(operations)


@pytest.mark.parametrize("right, wrong", [
    ("register(signed(9), name=f\"pe{p}_a_s4\")", "register(9, name=f\"pe{p}_a_s4\")"),
    ("w_s4 = register(signed(8))", "w_s4 = register(8)"),
    ("product_s5 <= acc_s6", "product_s5 >= acc_s6"),
    ("self.max_s5 & ~self.first_s5 &", "self.max_s5 &"),
    ("with m.If(self.copy_s6):", "with m.If(self.copy_s6 | self.first_s5):"),
    ("own = self.bytes_s3[8 * p:8 * p + 8]", "own = self.bytes_s3[8 * (7 - p):8 * (7 - p) + 8]"),
], ids=["activation sign", "weight sign", "maximum", "first", "shadow", "pixel order"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    operations = micro_operations(np.random.default_rng(1), 300)
    assert results(planted(ncb, right, wrong), operations) != reference(operations)
