# SPDX-License-Identifier: Apache-2.0
"""Address generation: the odometer against nested indexes, at the extremes of every count, step and base."""

from collections import Counter
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl import odometer
from nncosim.regress.block_bench import corner, garbage, simulate
from nncosim.regress.planted import planted

COORDINATES = {"a": 14, "x": 13}
STEPS = {"a": 14, "x": 8}
SHAPES = ((4, 2), (6, 3), (3, 0))
"""Dimensions, and the inner ones: one of no machine, AGU A and AGU O."""
LONGEST = (2047, 2048, 2049, 4094, 4095)


@dataclass
class Offsets:
    """The manual's AGU: a base and an offset for each dimension, each a pair (a, x)."""

    dims: int
    inner: int
    base: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.count, self.index = [0] * self.dims, [0] * self.dims
        self.step, self.offset = ([[0, 0] for _ in range(self.dims)] for _ in range(2))

    def at(self) -> tuple[int, ...]:
        return tuple((self.base[k] + sum(o[k] for o in self.offset)) % (1 << bits)
                     for k, bits in enumerate(COORDINATES.values()))

    def inner_last(self) -> bool:
        return all(self.index[d] + 1 >= self.count[d] for d in range(self.inner))

    def advance(self, outer: bool) -> None:
        for d in range(self.dims if outer else self.inner):
            if self.index[d] + 1 < self.count[d]:
                self.index[d] += 1
                self.offset[d] = [o + s for o, s in zip(self.offset[d], self.step[d], strict=True)]
                return
            self.index[d], self.offset[d] = 0, [0, 0]

    def inside_job(self) -> bool:
        return any(self.index[:self.inner])

    def set_base(self, given: list[int], add: bool, rewind: bool) -> None:
        self.base = [b + g for b, g in zip(self.base, given, strict=True)] if add else given
        if rewind:
            for d in range(self.dims):
                self.index[d], self.offset[d] = 0, [0, 0]


class OdometerBench:
    """An odometer beside its model; ports that do not count hold any value. `seen`: what happened, and how often."""

    def __init__(self, module: ModuleType, shape: tuple[int, int], seed: int):
        self.dims, self.inner = shape
        self.rng, self.model = np.random.default_rng(seed), Offsets(*shape)
        self.dut = module.Odometer(*shape, COORDINATES, STEPS, count_bits=12)
        self.bad: list[str] = []
        self.seen: Counter[str] = Counter()

    def check(self, ctx: Any, what: str) -> None:
        got = (ctx.get(self.dut.at_a), ctx.get(self.dut.at_x))
        if got != self.model.at() or bool(ctx.get(self.dut.inner_last)) != self.model.inner_last():
            self.bad.append(f"after {what}: expected {self.model.at()} {self.model.inner_last()}, got {got}")

    async def step(self, ctx: Any, advance: bool, outer: bool | None = None) -> None:
        dut = self.dut
        garbage(ctx, self.rng, dut.outer, dut.dim_count, dut.dim_step_a, dut.dim_step_x, dut.base_a, dut.base_x,
                dut.base_add, dut.base_rewind)
        if outer is not None:
            ctx.set(dut.outer, outer)
        ctx.set(dut.advance, advance)
        await ctx.tick()
        ctx.set(dut.advance, 0)

    async def dimension(self, ctx: Any, d: int, count: int, step: list[int]) -> None:
        """As SETD: the next advance is two cycles later at the earliest."""
        dut = self.dut
        self.model.count[d], self.model.step[d] = count, step
        garbage(ctx, self.rng, dut.base_a, dut.base_x, dut.base_add, dut.base_rewind)
        for port, value in ((dut.dim_count, count), (dut.dim_step_a, step[0]), (dut.dim_step_x, step[1])):
            ctx.set(port, value)
        ctx.set(dut.dim_we, 1 << d)
        await ctx.tick()
        ctx.set(dut.dim_we, 0)
        await self.step(ctx, False)

    async def base(self, ctx: Any, given: list[int], add: bool, rewind: bool) -> None:
        """As SETB and ADDB: the next advance is two cycles later at the earliest."""
        dut = self.dut
        self.model.set_base(given, add, rewind)
        garbage(ctx, self.rng, dut.dim_count, dut.dim_step_a, dut.dim_step_x)
        for port, value in ((dut.base_a, given[0]), (dut.base_x, given[1]), (dut.base_add, add),
                            (dut.base_rewind, rewind)):
            ctx.set(port, value)
        ctx.set(dut.base_we, 1)
        await ctx.tick()
        ctx.set(dut.base_we, 0)
        await self.step(ctx, False)

    async def command(self, ctx: Any) -> None:
        rng = self.rng
        if rng.random() < 0.6:
            d = int(rng.integers(self.dims))
            count = int(rng.choice([0, 1, 2, 2, 3, 4 if d < self.inner else 4095]))
            self.seen["below index"] += self.model.index[d] > count
            self.seen["moved"] += any(self.model.index)
            await self.dimension(ctx, d, count, [corner(rng, bits, True) for bits in STEPS.values()])
            return
        add = bool(rng.integers(2))
        rewind = bool(rng.integers(2)) and not add
        self.seen[f"add {add} rewind {rewind}"] += any(self.model.index)
        await self.base(ctx, [corner(rng, bits) for bits in COORDINATES.values()], add, rewind)

    async def random(self, ctx: Any, resets: Any) -> None:
        """Commands between jobs, advances at any time, a reset now and then: nothing is set that need not be."""
        for now in range(1200):
            if self.rng.random() < 0.005 or not now:
                ctx.set(resets, 1)
                await ctx.tick()
                ctx.set(resets, 0)
                await self.step(ctx, False)
                self.model = Offsets(self.dims, self.inner)
                self.seen["reset"] += 1
                self.check(ctx, "reset")
            if not self.model.inside_job() and self.rng.random() < 0.5:
                await self.command(ctx)
                self.check(ctx, "a command")
            outer, go = bool(self.rng.integers(2)), bool(self.rng.random() < 0.8)
            if go:
                self.seen["outer kept"] += self.model.inner_last() and not outer
                self.model.advance(outer)
            await self.step(ctx, go, outer)
            self.check(ctx, "an advance" if go else "nothing")

    async def long(self, ctx: Any) -> None:
        """Every dimension alone walks the greatest counts to their end and one further."""
        for d in range(self.dims):
            count = int(self.rng.choice(LONGEST)) if d else 4095
            for other in range(self.dims):
                await self.dimension(ctx, other, count if other == d else other % 2,
                                     [corner(self.rng, bits, True) for bits in STEPS.values()])
            await self.base(ctx, [corner(self.rng, bits) for bits in COORDINATES.values()], False, True)
            dut, model = self.dut, self.model
            ctx.set(dut.outer, 1)
            ctx.set(dut.advance, 1)
            for _ in range(count + 1):
                model.advance(True)
                await ctx.tick()
                if (ctx.get(dut.at_a), ctx.get(dut.at_x)) != model.at():
                    self.bad.append(f"dimension {d} of {count}, at index {model.index[d]}")
                    return
            ctx.set(dut.advance, 0)


def differences(module: ModuleType, shape: tuple[int, int], seed: int) -> OdometerBench:
    bench = OdometerBench(module, shape, seed)
    simulate(bench.dut, bench.random, reset=True)
    return bench


@pytest.mark.parametrize("shape", SHAPES)
def test_odometer(shape: tuple[int, int], seed: int) -> None:
    bench = differences(odometer, shape, seed)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"
    expected = ["below index", "moved", "reset", "outer kept", "add False rewind True", "add False rewind False",
                "add True rewind False"]
    assert not [what for what in expected if bench.seen[what] < 2], bench.seen


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_counts_to_the_greatest(shape: tuple[int, int], seed: int) -> None:
    bench = OdometerBench(odometer, shape, seed)
    simulate(bench.dut, bench.long)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"


@pytest.mark.parametrize("right, wrong", [
    ("index + 1 >= count)", "index + 1 > count)"),
    ("index + 2 >= count)", "index + 1 >= count)"),
    ("stepped.eq(sums[self.inner])", "stepped.eq(sums[self.dims - 1])"),
    ("Mux(self.base_add, given, given - base)", "Mux(self.base_add, given, given + base)"),
    ("Mux(pending, delta, step)", "Mux(pending, delta, step - (step < 0))"),
    ("self._indexes(m, pending & rewind)", "self._indexes(m, rewind)"),
], ids=["last", "off by one", "restart", "base", "sign", "rewind that is not valid"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(odometer, right, wrong), SHAPES[0], 1).bad


def test_planted_short_index_is_noticed() -> None:
    module = planted(odometer, 'index, count = Signal(self.count_bits, name=f"index{d}")',
                     'index, count = Signal(self.count_bits - 1, name=f"index{d}")')
    bench = OdometerBench(module, SHAPES[2], 1)
    simulate(bench.dut, bench.long)
    assert bench.bad
