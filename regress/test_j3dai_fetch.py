# SPDX-License-Identifier: Apache-2.0
"""Window fetch, every output in every cycle: addresses, padding and ends against an interpreter of the manual."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import fetch
from nncosim.hdl.j3dai.isa import Agu, Opcode
from nncosim.hdl.j3dai.timing import CONTROLLER_CYCLES, FETCH_CYCLES, FETCH_TO_L1_READ, MAC_TO_FETCH
from nncosim.regress.block_bench import corner, garbage, simulate
from nncosim.regress.j3dai_block_bench import MACHINES, any_word, corners, machine, word
from nncosim.regress.j3dai_cluster_model import ClusterModel
from nncosim.regress.planted import planted

_ADDRESSES = 1 << 14
_DATA = FETCH_TO_L1_READ + 1  # a read's words are at L1's outputs so many cycles after its issue
A, O = Agu.A.value, Agu.O.value  # noqa: E741


@dataclass
class FetchedWindow:
    """Addresses of its words, which of them are padding, whether it is its job's last."""

    words: list[int]
    padded: list[bool]
    last: bool


def windows(model: ClusterModel, repeat: int, advance: bool) -> Iterator[FetchedWindow]:
    """Of a MAC, in order. `model`: the registers, as an interpreter of the manual keeps them."""
    settings = model.window
    for _ in range(repeat + 1):
        count = int(np.prod([max(1, d.count) for d in model.a.dims[:3]]))
        for number in range(count):
            a, x, y = model.a.at()
            xs = [(x + p * settings["xpstep"] + 4096) % 8192 - 4096 for p in range(model.pes)]
            padded = [not (0 <= at < settings["width"] and 0 <= y < settings["height"]) for at in xs]
            words = [(a + p * settings["pstride"]) % _ADDRESSES for p in range(model.pes)]
            model.a.advance(model.a.dims[:3])
            if advance and number == count - 1:
                model.a.advance(model.a.dims[3:])
            yield FetchedWindow(words, padded, number == count - 1)


def phases(pstride: int, pes: int) -> list[list[int]]:
    """The words that each read of a window brings."""
    cycles = FETCH_CYCLES.get(pstride, pes)
    return [list(range(k * pes // cycles, (k + 1) * pes // cycles)) for k in range(cycles)]


@dataclass
class FetchReference:
    """What is fetched when: sections 2.2 and 4 of the manual."""

    model: ClusterModel
    coming: Iterator[FetchedWindow] = field(default_factory=lambda: iter(()))
    current: FetchedWindow | None = None
    read: int = 0  # reads of the current window that were issued
    staged: FetchedWindow | None = None
    begins: int = -1
    brought: dict[int, tuple[FetchedWindow, int, list[int]]] = field(default_factory=dict)

    def start(self, now: int, repeat: int, advance: bool) -> None:
        self.coming, self.begins = windows(self.model, repeat, advance), now + MAC_TO_FETCH
        self.current = next(self.coming)

    def wants(self, now: int, take: bool, hold: bool) -> bool:
        return self.current is not None and now >= self.begins and not hold and (self.staged is None or take)

    def cycle(self, now: int, take: bool, go: bool) -> None:
        if take:
            self.staged = None
        if go and self.current is not None:
            parts = phases(self.model.window["pstride"], self.model.pes)
            self.brought[now + _DATA] = (self.current, self.read, parts[self.read])
            self.read += 1
            if self.read == len(parts):
                self.staged, self.read = self.current, 0
                self.current = next(self.coming, None)


class FetchBench:
    """A window fetch beside its reference. `seen`: what met in one cycle."""

    def __init__(self, module: ModuleType, size: tuple[int, int], seed: int):
        platform = machine(*size)
        self.pes = platform.pes_per_ncb
        self.dut, self.rng = module.WindowFetch(platform), np.random.default_rng(seed)
        self.bad: list[str] = []
        self.seen: Counter[str] = Counter()
        self.now = 0
        self.busy = [0.3, 0.1, 0.5]  # how often the port is blocked, fetching on hold, a staged window not taken
        self.fresh()

    def fresh(self) -> None:
        empty = np.zeros((2, 1), np.uint8)
        self.reference = FetchReference(ClusterModel(empty, empty, empty, self.pes))

    async def cycle(self, ctx: Any, ir: int | None = None, start: tuple[int, bool] | None = None) -> None:
        """One cycle; `ir` executes, `start` (repeat, advance) begins a MAC. What does not count has any value."""
        dut, rng, reference = self.dut, self.rng, self.reference
        ctx.set(dut.ir, any_word(rng) if ir is None else ir)
        others = int(rng.integers(1 << 32)) & ~sum(1 << o for o in (
            Opcode.SETB, Opcode.SETD, Opcode.SETI, Opcode.ADDB))
        ctx.set(dut.executes, others if ir is None else 1 << (ir & 63))
        if start is None:
            garbage(ctx, rng, dut.repeat)
        else:
            ctx.set(dut.repeat, start[0])
            reference.start(self.now, *start)
        ctx.set(dut.start, start is not None)
        blocked, hold = bool(rng.random() < self.busy[0]), bool(rng.random() < self.busy[1])
        take = reference.staged is not None and bool(rng.random() >= self.busy[2])
        for port, value in ((dut.blocked, blocked), (dut.hold, hold), (dut.take, take)):
            ctx.set(port, value)
        wants = reference.wants(self.now, take, hold)
        go = wants and not blocked
        self.compare(ctx, take, wants, go)
        self.seen["taken while the next is read"] += take and go
        self.seen["taken while blocked"] += take and wants and blocked
        self.seen["blocked in a window"] += wants and blocked and reference.read > 0
        reference.cycle(self.now, take, go)
        await ctx.tick()
        if start is not None:
            ctx.set(dut.outer, start[1])
        self.now += 1

    def compare(self, ctx: Any, take: bool, wants: bool, go: bool) -> None:
        dut, reference = self.dut, self.reference
        got: dict[str, int] = {name: ctx.get(getattr(dut, name)) for name in ("staged", "wants", "go", "words2")}
        want = {"staged": int(reference.staged is not None), "wants": int(wants), "go": int(go), "words2": 0}
        if reference.staged is not None:
            got["last"], want["last"] = ctx.get(dut.staged_last), int(reference.staged.last)
        if go:
            part = phases(reference.model.window["pstride"], self.pes)[reference.read]
            want["address"] = reference.current.words[part[0]]  # type: ignore[union-attr]
            got["address"] = ctx.get(dut.address)
        brought = reference.brought.pop(self.now, None)
        if brought:
            window, _, part = brought
            want |= {"words2": sum(1 << p for p in part), "pad": reference.model.window["pad"] & 511}
            got["pad"] = ctx.get(dut.pad)
            spread, single, padded = ctx.get(dut.spread2), ctx.get(dut.single2), ctx.get(dut.padded2)
            for p in part:
                slot = 0 if single else 2 * (p % (self.pes // 2)) if spread else p
                want[f"word {p}"], got[f"word {p}"] = window.words[p], (window.words[part[0]] + slot) % _ADDRESSES
                want[f"padded {p}"], got[f"padded {p}"] = int(window.padded[p]), padded >> p & 1
                self.seen["padding"] += window.padded[p]
                self.seen["inside"] += not window.padded[p]
        if got != want:
            wrong = {name: (got[name], want[name]) for name in want if got[name] != want[name]}
            self.bad.append(f"cycle {self.now}: (got, expected) {wrong}")

    async def execute(self, ctx: Any, opcode: Opcode, **fields: int) -> None:
        await self.cycle(ctx, ir=word(opcode, fields))
        self.reference.model.execute(opcode, fields)
        for _ in range(CONTROLLER_CYCLES - 1):
            await self.cycle(ctx)

    async def mac(self, ctx: Any, repeat: int, advance: bool, most: int = 2000) -> None:
        """A MAC, until its last window has been taken or for `most` cycles."""
        await self.cycle(ctx, start=(repeat, advance))
        reference, end = self.reference, self.now + most
        while (reference.current or reference.staged or reference.brought) and self.now < end and not self.bad:
            await self.cycle(ctx)
        await self.cycle(ctx)

    async def random(self, ctx: Any, resets: Any) -> None:
        """MACs with registers changed at random in between; sometimes a reset, after which nothing need be set."""
        for number in range(26):
            if number in (0, 13):
                ctx.set(resets, 1)
                await ctx.tick()
                ctx.set(resets, 0)
                self.fresh()
                for _ in range(2):
                    await self.cycle(ctx)
            self.busy = [[0.3, 0.1, 0.5], [0.0, 0.0, 0.0], [0.6, 0.3, 0.1]][number % 3]
            for _ in range(int(self.rng.integers(0, 8)) if number else 0):
                await self._register(ctx)
            if number:
                await self._few_windows(ctx)
            if number % 4 == 3:
                await self._edges(ctx)
            await self.mac(ctx, int(self.rng.integers(4)), bool(self.rng.integers(2)))
            if self.bad:
                return

    async def _register(self, ctx: Any) -> None:
        """Any of the registers, each field at its extremes; those of AGU O, and dimensions that do not exist."""
        rng = self.rng
        opcode = Opcode(int(rng.choice([Opcode.SETB, Opcode.SETD, Opcode.SETD, Opcode.SETI, Opcode.ADDB])))
        fixed = {}
        if opcode == Opcode.SETD:
            fixed = {"count": int(rng.choice([0, 1, 2, 3, 4095])) if rng.random() < 0.5 else 2}
        if opcode == Opcode.SETI:
            fixed = {"pstride": int(rng.choice([1, 2, 0, 3, -1, -2, -8192, 8191, 5, 1, 2])),
                     "xpstep": int(rng.choice([1, 0, -1, -32, 31, 2]))}
        await self.execute(ctx, opcode, **corners(rng, opcode, **fixed))

    async def _few_windows(self, ctx: Any) -> None:
        for d in range(3):
            await self.execute(ctx, Opcode.SETD, **corners(self.rng, Opcode.SETD, agu=A, dim=d,
                                                           count=int(self.rng.choice([0, 1, 2, 3 - d]))))

    async def _edges(self, ctx: Any) -> None:
        """Both sides of all four edges of a map, which may be as wide and high as its fields allow."""
        rng = self.rng
        width, height = (int(rng.choice([1, 5, self.pes, 2047, 2048, 4094, 4095])) for _ in range(2))
        xs, ys = (0, -1, width - 1, width, width - 2, 4095, -4096), (0, -1, height - 1, height, 4095, -4096)
        await self.execute(ctx, Opcode.SETI, width=width, height=height, pstride=int(rng.choice([1, 2, 3])),
                           xpstep=int(rng.choice([0, 1, 1, -1])), pad=corner(rng, 9, True))
        for d, step in enumerate(((0, 1), (1, 0), (-1, -1))):
            await self.execute(ctx, Opcode.SETD, agu=A, dim=d, count=(2, 2, 1)[d], step=corner(rng, 14, True),
                               xstep=step[0], ystep=step[1])
        await self.execute(ctx, Opcode.SETB, agu=A, rewind=1, base=corner(rng, 14), x=int(rng.choice(xs)),
                           y=int(rng.choice(ys)))

    async def long(self, ctx: Any, resets: Any) -> None:
        """4,095 windows a job, 4,096 jobs that step an outer dimension; then numbers of jobs with one bit set."""
        self.busy = [0.0, 0.0, 0.0]
        await self.execute(ctx, Opcode.SETI, width=4095, height=1, pstride=1, xpstep=1, pad=0)
        for d, repeat in ((1, 0), (3, 4095)):
            for k in range(6):
                await self.execute(ctx, Opcode.SETD, agu=A, dim=k, count=4095 if k == d else 1, step=4095 + k,
                                   xstep=k - 1, ystep=0)
            await self.execute(ctx, Opcode.SETB, agu=A, rewind=1, base=1, x=-1, y=0)
            await self.mac(ctx, repeat, True, 5000)
        for bit in range(16):
            ctx.set(resets, 1)
            await ctx.tick()
            ctx.set(resets, 0)
            self.fresh()
            await self.execute(ctx, Opcode.SETI, width=4095, height=1, pstride=1, xpstep=1, pad=0)
            await self.mac(ctx, 1 << bit, False, 8)


def differences(module: ModuleType, size: tuple[int, int], seed: int) -> FetchBench:
    bench = FetchBench(module, size, seed)
    simulate(bench.dut, bench.random, reset=True)
    return bench


@pytest.mark.parametrize("size", MACHINES)
def test_every_window_in_its_cycle(size: tuple[int, int], seed: int) -> None:
    bench = differences(fetch, size, seed)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"
    assert len(bench.seen) == 5 and min(bench.seen.values()) > 10, bench.seen


def test_counts_to_the_greatest(seed: int) -> None:
    bench = FetchBench(fetch, (8, 4), seed)
    simulate(bench.dut, bench.long, reset=True)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"


@pytest.mark.parametrize("right, wrong", [
    ("Mux(self._spread, pes, settings.pstride)", "Mux(self._spread, pes - 1, settings.pstride)"),
    ("with m.If(self.go):", "with m.If(self.wants):"),
    ("(x_1 >= settings.width)", "(x_1 > settings.width)"),
    ("self._agu.at_y >= settings.height", "self._agu.at_y > settings.height"),
    ("running.eq(jobs != 0)", "running.eq(jobs > 1)"),
    ("half[p // (pes // 2)]", "half[p % 2]"),
    ("(~self.staged | self.take)", "1"),
    ('Signal(init=1, name="single")', 'Signal(name="single")'),
    ("(fields.dim == d)", "(fields.dim[:2] == d)"),
    ("& (fields.agu == agu) & (fields.dim", "& (fields.dim"),
], ids=["address", "skip", "width", "height", "jobs", "halves", "dropped ready", "reset", "dimension", "AGU"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(fetch, right, wrong), (8, 4), 1).bad
