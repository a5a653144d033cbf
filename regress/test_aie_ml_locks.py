# SPDX-License-Identifier: Apache-2.0
"""The locks of AIE-ML's tiles, cycle by cycle against a model of its own; requests are random anew each cycle.

What the manual says of a value outside 0..63 is asked for often: deltas and values are corners as often as not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.aie_ml import locks
from nncosim.regress.aie_ml_lock_model import Reference, Request, random_request
from nncosim.regress.block_bench import garbage, simulate
from nncosim.regress.planted import planted

SIZES = {"core tile": (16, 6), "memory tile": (64, 12)}
"""Locks, requesters."""


def differences(dut: Any, seed: int, cycles: int, seen: Counter[str]) -> list[str]:
    rng, reference, bad = np.random.default_rng(seed), Reference(len(dut.values)), list[str]()

    async def bench(ctx: Any) -> None:
        few, density = len(dut.values), 0.5
        for cycle in range(cycles):
            if cycle % 50 == 0:
                few, density = int(rng.choice([1, 2, len(dut.values)])), float(rng.choice([0.2, 0.6, 1.0]))
            asked: list[Request | None] = []
            for port in dut.request:
                request = random_request(rng, reference, few) if rng.random() < density else None
                garbage(ctx, rng, port.lock, port.value)
                ctx.set(port.valid, int(request is not None))
                if request:
                    for name, value in request._asdict().items():
                        ctx.set(getattr(port, name), value)
                asked.append(request)
            setting = rng.random() < 0.05
            garbage(ctx, rng, dut.set.lock, dut.set.value)
            ctx.set(dut.set.valid, int(setting))
            number = None if setting else reference.served(asked)
            if (got := [ctx.get(value) for value in dut.values]) != reference.values:
                bad.append(f"cycle {cycle}: values {got}, expected {reference.values}")
            grants = [ctx.get(port.grant) for port in dut.request]
            if grants != [int(k == number) for k in range(len(grants))]:
                bad.append(f"cycle {cycle}: of {asked} granted {grants}, expected {number}")
            chosen = None if number is None else asked[number]
            fault = chosen is not None and reference.do(chosen)
            if ctx.get(dut.fault) != fault:
                bad.append(f"cycle {cycle}: {chosen}: fault is {not fault}")
            if setting:
                reference.values[ctx.get(dut.set.lock)] = ctx.get(dut.set.value)
            note(seen, asked, number, setting, fault)
            if bad:
                return
            await ctx.tick()

    simulate(dut, bench)
    return bad


def note(seen: Counter[str], asked: list[Request | None], number: int | None, setting: bool, fault: bool) -> None:
    for k, request in enumerate(asked):
        if request:
            seen[f"{k} {request.op.name} {'served' if k == number else 'not'}"] += 1
    seen["a later one passes"] += number is not None and any(asked[:number])
    seen["set while asked"] += setting and any(asked)
    seen["fault"] += fault
    seen["none can be"] += any(asked) and number is None and not setting


@pytest.mark.parametrize("tile, seed", [
    ("core tile", 0), ("core tile", 1), ("memory tile", 0), pytest.param("memory tile", 1, marks=pytest.mark.slow),
])  # fmt: skip
def test_random_requests(tile: str, seed: int) -> None:
    count, requesters = SIZES[tile]
    seen: Counter[str] = Counter()
    assert differences(locks.Locks(count, requesters), seed, 1500, seen) == []
    needed = {f"{k} {op} {what}" for k in range(requesters)
              for op in ("ACQUIRE_AT_LEAST", "ACQUIRE_EQUAL", "RELEASE") for what in ("served", "not")}
    needed |= {"a later one passes", "set while asked", "fault", "none can be"}
    assert {name for name in needed if not seen[name]} == set()


BUGS = {
    "at least is more than": ("value >= asked.value", "value > asked.value"),
    "equal is at least": ("value == asked.value, 1", "value >= asked.value, 1"),
    "all that can be are served": ("((can & (1 << number) - 1) == 0)", "1"),
    "one that cannot be stops those behind it": (
        "(can & (1 << number)", "(Cat(each.valid for each in self.request) & (1 << number)"),
    "the last one first": ("(can & (1 << number) - 1) == 0", "(can >> number + 1) == 0"),
    "granted while it is set": ("- 1) == 0) & ~self.set.valid", "- 1) == 0)"),
    "an acquire takes nothing": ("value - asked.value))", "value))"),
    "acquire equal leaves it": (
        "value - asked.value))", "Mux(asked.op == LockOp.ACQUIRE_EQUAL, value, value - asked.value)))"),
    "a delta without sign": ("value + asked.value", "value + asked.value[:6]"),
    "below 0 wraps": ("Mux(low, 0, ", "Mux(0, 0, "),
    "above 63 wraps": ("Mux(high, (1 << VALUE_BITS) - 1, total)", "total"),
    "no fault below 0": ("(low | high)", "high"),
    "no fault above 63": ("(low | high)", "low"),
    "a set writes the lock asked for": ("values[self.set.lock]", "values[lock]"),
    "a lock's number a bit short": ("pick(self.values, asked.lock)", "pick(self.values[::2], asked.lock[1:])"),
    "locks are half as many": ("values[lock].eq(", "values[lock[:-1]].eq("),
}


@pytest.mark.parametrize("tile", ["core tile", pytest.param("memory tile", marks=pytest.mark.slow)])
def test_planted_bugs_are_noticed(tile: str) -> None:
    same = "VALUE_BITS = 6"
    assert differences(planted(locks, same, same).Locks(*SIZES[tile]), 1, 300, Counter()) == []
    assert [name for name, (right, wrong) in BUGS.items()
            if not any(differences(planted(locks, right, wrong).Locks(*SIZES[tile]), seed, 300, Counter())
                       for seed in (1, 2, 3))] == []  # fmt: skip
