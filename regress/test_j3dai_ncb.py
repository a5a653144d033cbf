# SPDX-License-Identifier: Apache-2.0
"""One NCB: operand selection, multiply, accumulate, maximum, and what is copied to the shadow registers."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import ncb
from nncosim.regress.block_bench import simulate
from nncosim.regress.j3dai_cluster_model import wrap
from nncosim.regress.planted import planted

PES = 8
OTHER_PES = (4, 16)
COPIES = ("all", "low", "high")
"""To the shadow registers: all of an accumulator, its low half to the lower one, its low half to the upper one."""


def micro_operations(rng: np.random.Generator, count: int, pes: int = PES) -> list[dict[str, Any]]:
    """Random micro-operations with idle cycles; some end a job, whose accumulators are copied in one of three ways."""
    out, first = [], True
    for _ in range(count):
        op: dict[str, Any] = dict(
            valid=bool(rng.random() < 0.8), own=bool(rng.integers(2)), weighted=bool(rng.integers(2)),
            max=bool(rng.integers(2)), first=first, copy="", enabled=bool(rng.random() < 0.9),
            sext=int(rng.integers(1 << pes)), one=int(rng.integers(1 << pes)), weight=int(rng.integers(256)),
            bytes=[int(v) for v in rng.integers(0, 256, pes)], common=[int(v) for v in rng.integers(0, 512, pes)],
        )
        if op["valid"]:
            op["enabled"] |= first
            if rng.random() < 0.2:
                op["copy"] = str(rng.choice(COPIES))
            first = bool(op["copy"])
        out.append(op)
    return out


def corner_operations(pes: int = PES) -> list[dict[str, Any]]:
    """Jobs of one and two micro-operations: each corner of an operand with each of a weight, and their sums."""
    operands, weights = (0x100, 0x101, 0x1FF, 0, 1, 0x7F, 0x80, 0xFF), (0x80, 0x81, 0xFF, 0, 1, 0x7F)
    out: list[dict[str, Any]] = []

    def operation(at: int, weight: int, own: bool, **flags: bool | str) -> dict[str, Any]:
        common = [operands[(at + p) % len(operands)] for p in range(pes)]
        signs = sum((v >> 8) << p for p, v in enumerate(common))
        return dict(valid=True, own=own, weighted=True, enabled=True, weight=weight, common=common, sext=0, one=signs,
                    bytes=[v & 255 for v in common]) | flags

    for at in range(0, len(operands), min(pes, len(operands))):
        for k, weight in enumerate(weights):
            own = bool(k % 2)
            out.append(operation(at, weight, own, first=True, max=False, copy="all"))
            out.append(operation(at, weight, not own, first=True, max=True, copy=""))
            out.append(operation(at + k, weights[k - 1], own, first=False, max=bool(at + k & 2), copy="all"))
    return out


def reference(operations: list[dict[str, Any]], pes: int = PES) -> list[list[int]]:
    """The shadow registers after each micro-operation."""
    acc, shadow, out = [0] * pes, [0] * pes, []
    for op in operations:
        for p in range(pes if op["valid"] and op["enabled"] else 0):
            if op["own"]:
                byte = op["bytes"][p]
                a = byte | (((byte >> 7 & op["sext"] >> p) | op["one"] >> p) & 1) << 8
            else:
                a = op["common"][p]
            a -= 512 * (a > 255)
            w = op["weight"] - 256 * (op["weight"] > 127) if op["weighted"] else 1
            if op["first"]:
                acc[p] = a * w
            elif op["max"]:  # of nine bits each
                acc[p] = a * w if wrap(a * w, 9) > wrap(acc[p], 9) else acc[p]
            else:
                acc[p] += a * w
        if op["valid"] and op["copy"]:
            low, high = [v & 0xFFFF for v in acc], [v >> 16 & 0xFFFF for v in acc]
            old_low, old_high = [v & 0xFFFF for v in shadow], [v >> 16 & 0xFFFF for v in shadow]
            parts = {"all": (high, low), "low": (old_high, low), "high": (low, old_low)}[op["copy"]]
            shadow = [wrap(h << 16 | v, 32) for h, v in zip(*parts, strict=True)]
        out.append(shadow)
    return out


def differences(module: ModuleType, operations: list[dict[str, Any]], pes: int = PES) -> tuple[list[str], set[int]]:
    """Drive the stages as a cluster does; shadow registers unlike the reference's, and all values seen in them."""
    dut, want = module.Ncb(pes), reference(operations, pes)
    idle: dict[str, Any] = dict(valid=False, copy="")
    bad: list[str] = []
    seen: set[int] = set()
    copied = next(t for t, op in enumerate(operations) if op["valid"] and op["copy"] == "all")  # no reset before

    async def bench(ctx: Any) -> None:
        for t in range(len(operations) + 7):
            drive(ctx, dut, [operations[t - k] if 0 <= t - k < len(operations) else idle for k in range(7)])
            pixel = t % pes
            ctx.set(dut.pixel0, pixel)
            if t - 7 >= copied:
                got = ctx.get(dut.x)
                seen.add(got)
                if got != want[t - 7][pixel]:
                    bad.append(f"cycle {t}, PE {pixel}: expected {want[t - 7][pixel]}, got {got}")
            await ctx.tick()

    simulate(dut, bench)
    return bad, seen


def drive(ctx: Any, dut: Any, at: list[dict[str, Any]]) -> None:
    """Each stage's ports from the micro-operation that is in it; without one they keep the values of the last."""
    if at[3]["valid"]:
        ctx.set(dut.own_s3, at[3]["own"])
        ctx.set(dut.weighted_s3, at[3]["weighted"])
        ctx.set(dut.weight_s3, at[3]["weight"])
        ctx.set(dut.sext_s3, at[3]["sext"])
        ctx.set(dut.one_s3, at[3]["one"])
        ctx.set(dut.bytes_s3, sum(v << (8 * p) for p, v in enumerate(at[3]["bytes"])))
        ctx.set(dut.common_s3, sum(v << (9 * p) for p, v in enumerate(at[3]["common"])))
    ctx.set(dut.en_s5, at[5]["valid"] and at[5]["enabled"])
    if at[5]["valid"]:
        ctx.set(dut.first_s5, at[5]["first"])
        ctx.set(dut.max_s5, at[5]["max"])
    for name, port in (("all", dut.copy_s6), ("low", dut.copy_low_s6), ("high", dut.copy_high_s6)):
        ctx.set(port, at[6]["valid"] and at[6]["copy"] == name)


@pytest.mark.parametrize("seed", [1, 2])
def test_shadow_registers_agree_with_the_reference(seed: int) -> None:
    bad, seen = differences(ncb, micro_operations(np.random.default_rng(seed), 700))
    assert not bad, f"seed {seed}: {bad[0]}"
    assert len(seen) > 400


@pytest.mark.parametrize("pes", [4, PES])
def test_corners_of_operands(pes: int) -> None:
    bad, _ = differences(ncb, corner_operations(pes), pes)
    assert not bad, bad[0]


@pytest.mark.parametrize("pes", OTHER_PES)
def test_other_numbers_of_pes(pes: int) -> None:
    bad, seen = differences(ncb, micro_operations(np.random.default_rng(pes), 400, pes), pes)
    assert not bad, bad[0]
    assert len(seen) > 200


@pytest.mark.parametrize("right, wrong", [
    ("register(signed(17), name=f\"pe{p}_product_s5\")", "register(signed(16), name=f\"pe{p}_product_s5\")"),
    ("register(signed(9), name=f\"pe{p}_a_s4\")", "register(signed(8), name=f\"pe{p}_a_s4\")"),
], ids=["-256 x -128", "operand of 8 bits"])
def test_planted_short_register_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(ncb, right, wrong), corner_operations())[0]


@pytest.mark.parametrize("right, wrong", [
    ("register(signed(9), name=f\"pe{p}_a_s4\")", "register(9, name=f\"pe{p}_a_s4\")"),
    ("w_s4 = register(signed(8))", "w_s4 = register(8)"),
    ("acc_s6[:MAX_BITS].as_signed())", "acc_s6)"),
    (".as_signed() > acc_s6", ".as_signed() < acc_s6"),
    ("self.first_s5 | ~self.max_s5 | greater", "~self.max_s5 | greater"),
    ("adds & (self.first_s5 | self.max_s5)", "self.first_s5 | self.max_s5"),
    ("with m.If(self.copy_s6 | self.copy_low_s6):", "with m.If(self.copy_s6 | self.first_s5):"),
    ("Mux(self.copy_s6, acc_s6[KEPT_BITS:]", "Mux(self.copy_s6 | self.max_s5, acc_s6[KEPT_BITS:]"),
    ("own = self.bytes_s3[8 * p:8 * p + 8]", "own = self.bytes_s3[8 * (7 - p):8 * (7 - p) + 8]"),
], ids=["activation sign", "weight sign", "bits of the maximum", "maximum", "first", "enable", "shadow", "kept",
        "pixel order"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(ncb, right, wrong), micro_operations(np.random.default_rng(1), 300))[0]
