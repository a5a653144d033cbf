# SPDX-License-Identifier: Apache-2.0
"""Address generation: the odometer against nested indexes, window fetch against the addresses it stands for."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from nncosim.hdl.j3dai import agu, fetch
from nncosim.hdl.j3dai.isa import Agu, Opcode
from nncosim.hdl.j3dai.timing import FETCH_CYCLES
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_cluster_bench import instruction
from nncosim.regress.j3dai_planted import planted

DIMS, INNER = 4, 2
COORDINATES = {"a": 14, "x": 13}


@dataclass
class Offsets:
    """The manual's AGU: a base and an offset for each dimension, each a pair (a, x)."""

    base: list[int] = field(default_factory=lambda: [0, 0])
    count: list[int] = field(default_factory=lambda: [0] * DIMS)
    step: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(DIMS)])
    index: list[int] = field(default_factory=lambda: [0] * DIMS)
    offset: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(DIMS)])

    def at(self) -> tuple[int, ...]:
        return tuple((self.base[k] + sum(o[k] for o in self.offset)) % (1 << bits)
                     for k, bits in enumerate(COORDINATES.values()))

    def inner_last(self) -> bool:
        return all(self.index[d] + 1 >= self.count[d] for d in range(INNER))

    def advance(self, outer: bool) -> None:
        for d in range(DIMS if outer else INNER):
            if self.index[d] + 1 < self.count[d]:
                self.index[d] += 1
                self.offset[d] = [o + s for o, s in zip(self.offset[d], self.step[d], strict=True)]
                return
            self.index[d], self.offset[d] = 0, [0, 0]

    def inside_job(self) -> bool:
        return any(self.index[:INNER])


def odometer_differences(module: ModuleType, seed: int) -> list[str]:
    """Random commands between jobs, random advances; where the odometer stood elsewhere than it should."""
    rng, model = np.random.default_rng(seed), Offsets()
    dut = module.Odometer(DIMS, INNER, COORDINATES, {"a": 14, "x": 8})
    bad: list[str] = []

    def check(ctx: Any, what: str) -> None:
        got = (ctx.get(dut.at_a), ctx.get(dut.at_x))
        if got != model.at() or bool(ctx.get(dut.inner_last)) != model.inner_last():
            bad.append(f"after {what}: expected {model.at()} {model.inner_last()}, got {got}")

    async def pulse(ctx: Any, port: Any, value: int) -> None:
        ctx.set(port, value)
        await ctx.tick()
        ctx.set(port, 0)
        await ctx.tick().repeat(2)

    async def command(ctx: Any) -> None:
        if rng.random() < 0.6:
            d = int(rng.integers(DIMS))
            model.count[d] = int(rng.choice([0, 1, 2, 3, 4 if d < INNER else 4095]))
            model.step[d] = [int(rng.integers(-8192, 8192)), int(rng.integers(-128, 128))]
            ctx.set(dut.dim_count, model.count[d])
            ctx.set(dut.dim_step_a, model.step[d][0])
            ctx.set(dut.dim_step_x, model.step[d][1])
            await pulse(ctx, dut.dim_we, 1 << d)
            return
        add, rewind = bool(rng.integers(2)), bool(rng.integers(2))
        given = [int(rng.integers(1 << bits)) for bits in COORDINATES.values()]
        model.base = [b + g for b, g in zip(model.base, given, strict=True)] if add else given
        if rewind and not add:
            for d in range(DIMS):
                model.index[d], model.offset[d] = 0, [0, 0]
        for port, value in ((dut.base_a, given[0]), (dut.base_x, given[1]), (dut.base_add, add),
                            (dut.base_rewind, rewind and not add)):
            ctx.set(port, value)
        await pulse(ctx, dut.base_we, 1)

    async def bench(ctx: Any) -> None:
        await ctx.tick().repeat(2)
        for _ in range(400):
            if not model.inside_job() and rng.random() < 0.5:
                await command(ctx)
                check(ctx, "a command")
            outer, go = bool(rng.integers(2)), bool(rng.random() < 0.8)
            ctx.set(dut.outer, outer)
            ctx.set(dut.advance, go)
            if go:
                model.advance(outer)
            await ctx.tick()
            ctx.set(dut.advance, 0)
            check(ctx, "an advance" if go else "nothing")

    _simulate(dut, bench)
    return bad


def _simulate(dut: Any, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@dataclass
class Case:
    """One MAC's windows: registers as the instructions hold them."""

    pstride: int
    xpstep: int
    width: int
    height: int
    base: int
    x: int
    y: int
    dims: list[tuple[int, int, int, int]]
    repeat: int
    advance: bool
    pes: int = 8

    @classmethod
    def random(cls, rng: np.random.Generator, pstride: int, pes: int = 8) -> "Case":
        def between(low: int, high: int) -> int:
            return int(rng.integers(low, high))
        dims = [(between(0, 4), between(-40, 40), between(-3, 4), between(-2, 3)) for _ in range(6)]
        return cls(pstride, int(rng.choice([1, 2, -1, 0, 31])), int(rng.choice([1, 5, 13, 64, 4095])),
                   int(rng.choice([1, 3, 9])), between(0, 1 << 14), between(-6, 12), between(-3, 6), dims,
                   between(0, 5), bool(rng.integers(2)), pes)

    def windows(self) -> list[tuple[bool, list[tuple[int, bool]]]]:
        """Per window: whether it is its job's last, and (address, padded) of its words."""
        out = []
        counts = [max(1, d[0]) for d in self.dims]
        outer = [0, 0, 0]
        for _ in range(self.repeat + 1):
            inner = [(i, j, k) for k in range(counts[2]) for j in range(counts[1]) for i in range(counts[0])]
            for position in inner:
                a, x, y = (base + sum(n * d[1 + c] for n, d in zip((*position, *outer), self.dims, strict=True))
                           for c, base in enumerate((self.base, self.x, self.y)))
                words = []
                for p in range(self.pes):
                    xp = (x + p * self.xpstep + 4096) % 8192 - 4096
                    inside = 0 <= xp < self.width and 0 <= y < self.height
                    words.append(((a + p * self.pstride) % (1 << 14), not inside))
                out.append((position == inner[-1], words))
            for d in range(3 if self.advance else 0):
                outer[d] = (outer[d] + 1) % counts[3 + d]
                if outer[d]:
                    break
        return out

    def program(self) -> list[int]:
        words = [instruction(Opcode.SETB, agu=Agu.A, rewind=1, base=self.base, x=self.x, y=self.y),
                 instruction(Opcode.SETI, width=self.width, height=self.height, pstride=self.pstride,
                             xpstep=self.xpstep, pad=3)]
        for d, (count, step, xstep, ystep) in enumerate(self.dims):
            words.append(instruction(Opcode.SETD, agu=Agu.A, dim=d, count=count, step=step, xstep=xstep, ystep=ystep))
        return words


async def _started(ctx: Any, dut: Any, case: Case) -> None:
    """Execute the case's instructions as the controller does, then start a MAC."""
    for word in case.program():
        ctx.set(dut.ir, word)
        ctx.set(dut.executes, 1 << (word & 63))
        await ctx.tick()
        ctx.set(dut.executes, 0)
        await ctx.tick().repeat(2)
    ctx.set(dut.outer, case.advance)
    ctx.set(dut.repeat, case.repeat)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)


def fetch_differences(module: ModuleType, case: Case, seed: int, blocked: float = 0.3, takes: float = 0.5) -> list[str]:
    """Fetch the case's windows with the port blocked and windows taken at random."""
    rng, dut = np.random.default_rng(seed), module.WindowFetch(J3dai(pes_per_ncb=case.pes))
    want, got, bad = case.windows(), [], []
    words: list[tuple[int, bool] | None] = [None] * case.pes
    reads: dict[int, int] = {}

    async def bench(ctx: Any) -> None:
        await _started(ctx, dut, case)
        for now in range(8 * case.pes * len(want) + 40):
            ctx.set(dut.blocked, bool(rng.random() < blocked))
            take = bool(ctx.get(dut.staged)) and bool(rng.random() < takes)
            ctx.set(dut.take, take)
            if ctx.get(dut.go):
                reads[now] = ctx.get(dut.address)
            brings = ctx.get(dut.words2)
            if brings:
                flags = (ctx.get(dut.spread2), ctx.get(dut.single2), ctx.get(dut.padded2))
                _collect(words, brings, reads[now - 2], *flags)
            if take:
                got.append(bool(ctx.get(dut.staged_last)))
            if brings and all(words):
                number = len(got_words)
                got_words.append(list(words))
                words[:] = [None] * case.pes
                if number >= len(want) or got_words[number] != want[number][1]:
                    bad.append(f"window {number}: got {got_words[number]}")
            await ctx.tick()
        if got != [last for last, _ in want] or len(got_words) != len(want):
            bad.append(f"{len(got_words)} windows fetched, {len(got)} taken, {len(want)} expected, or wrong ends")

    got_words: list[list[tuple[int, bool] | None]] = []
    _simulate(dut, bench)
    return bad


def _collect(words: list[Any], brings: int, address: int, spread: int, single: int, padded: int) -> None:
    """The words that a phase brings: where each was read, and whether it is padding."""
    pes = len(words)
    for p in range(pes):
        if brings >> p & 1:
            slot = 0 if single else 2 * (p % (pes // 2)) if spread else p
            words[p] = ((address + slot) % (1 << 14), bool(padded >> p & 1))


@pytest.mark.parametrize("seed", [1, 2])
def test_odometer(seed: int) -> None:
    bad = odometer_differences(agu, seed)
    assert not bad, f"seed {seed}: {bad[0]}"


@pytest.mark.parametrize("right, wrong", [
    ("index + 1 >= count)", "index + 1 > count)"),
    ("index + 2 >= count)", "index + 1 >= count)"),
    ("stepped.eq(sums[self.inner])", "stepped.eq(sums[self.dims - 1])"),
    ("Mux(self.base_add, given, given - base)", "Mux(self.base_add, given, given + base)"),
    ("Mux(pending, delta, step)", "Mux(pending, delta, step - (step < 0))"),
], ids=["last", "off by one", "restart", "base", "sign"])
def test_planted_bug_in_odometer_is_noticed(right: str, wrong: str) -> None:
    assert odometer_differences(planted(agu, right, wrong), 1)


@pytest.mark.parametrize("pstride", [1, 2, 3, 0, -1, 8, -8192])
def test_fetch(pstride: int) -> None:
    for seed in range(4):
        case = Case.random(np.random.default_rng(100 * seed + pstride % 89), pstride)
        bad = fetch_differences(fetch, case, seed)
        assert not bad, f"seed {seed}: {case}: {bad[0]}"


@pytest.mark.parametrize("pes", [4, 16])
def test_fetch_for_other_numbers_of_pes(pes: int) -> None:
    for pstride in (1, 2, 3, -1):
        case = Case.random(np.random.default_rng(pstride % 89), pstride, pes)
        bad = fetch_differences(fetch, case, pes)
        assert not bad, f"{case}: {bad[0]}"


@pytest.mark.parametrize("pstride, pes", [(1, 8), (2, 8), (5, 8), (1, 16), (2, 4), (5, 4), (5, 16)])
def test_fetch_keeps_up(pstride: int, pes: int) -> None:
    """Without anything in the way a window takes as many cycles as the timing rules say."""
    case = Case.random(np.random.default_rng(7), pstride, pes)
    cycles = _fetch_cycles(case)
    assert cycles == len(case.windows()) * FETCH_CYCLES.get(pstride, case.pes)


def _fetch_cycles(case: Case) -> int:
    """Cycles from the first to the last phase when each window is taken at once."""
    dut, phases = fetch.WindowFetch(J3dai(pes_per_ncb=case.pes)), []

    async def bench(ctx: Any) -> None:
        await _started(ctx, dut, case)
        for now in range((case.pes + 2) * len(case.windows()) + 20):
            ctx.set(dut.take, ctx.get(dut.staged))
            if ctx.get(dut.go):
                phases.append(now)
            await ctx.tick()

    _simulate(dut, bench)
    return phases[-1] - phases[0] + 1


@pytest.mark.parametrize("right, wrong", [
    ("Mux(self._spread, pes, settings.pstride)", "Mux(self._spread, pes - 1, settings.pstride)"),
    ("with m.If(self.go):", "with m.If(self.wants):"),
    ("(x_1 >= settings.width)", "(x_1 > settings.width)"),
    ("self._agu.at_y >= settings.height", "self._agu.at_y > settings.height"),
    ("running.eq(jobs != 0)", "running.eq(jobs > 1)"),
    ("half[p // (pes // 2)]", "half[p % 2]"),
    ("(~self.staged | self.take)", "1"),
], ids=["address", "skip", "width", "height", "jobs", "halves", "dropped ready"])
def test_planted_bug_in_fetch_is_noticed(right: str, wrong: str) -> None:
    module = planted(fetch, right, wrong)
    bad = []
    for pstride in (1, 2, 3):
        case = Case.random(np.random.default_rng(pstride), pstride)
        # Every column and row of a small map, and of what lies beside it.
        case.repeat, case.xpstep, case.width, case.height, case.x, case.y = 2, 1, 5, 3, -2, -1
        case.dims[0], case.dims[1] = (3, 1, 3, 0), (6, 9, 0, 1)
        bad += fetch_differences(module, case, pstride)
    assert bad
