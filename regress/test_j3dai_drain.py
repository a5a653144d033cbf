# SPDX-License-Identifier: Apache-2.0
"""Drain control, every output in every cycle: which pixel is where, what is written where, which set is in use."""

from collections import Counter, defaultdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import drain
from nncosim.hdl.j3dai.isa import Agu, Drain, Opcode
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES
from nncosim.hdl.j3dai.timing import (
    CONTROLLER_CYCLES,
    DRAIN_AHEAD,
    drain_spacing,
    drain_to_l1_write,
    parameter_cycles,
)
from nncosim.regress.j3dai_block_bench import MACHINES, any_word, corners, machine, simulate, word
from nncosim.regress.j3dai_cluster_model import ClusterModel
from nncosim.regress.j3dai_planted import planted

COPY = 6  # cycles from a drain's issue to the copy into the shadow registers
REGISTERS = (Opcode.SETB, Opcode.ADDB, Opcode.SETD, Opcode.SETD, Opcode.SETO)


class Bench:
    """A drain control beside what the manual says of each drain. `seen`: what happened, and what met in one cycle."""

    def __init__(self, module: ModuleType, size: tuple[int, int], seed: int):
        platform = machine(*size)
        self.pes, self.spacing = platform.pes_per_ncb, drain_spacing(platform.pes_per_ncb)
        self.dut, self.rng = module.DrainControl(platform), np.random.default_rng(seed)
        self.bad: list[str] = []
        self.seen: Counter[str] = Counter()
        self.now = 0
        self.fresh()

    def fresh(self) -> None:
        """As after reset."""
        empty = np.zeros((2, 1), np.uint8)
        self.model = ClusterModel(empty, empty, empty, self.pes)
        self.expected: dict[int, dict[str, int]] = defaultdict(dict)  # by cycle, outputs other than 0
        self.ready = self.now  # the next drain at the earliest
        self.used = [-1000, -1000]  # by set: its latest drain

    def issue(self, mode: Drain, pset: int, odd: int) -> None:
        """What a drain issued in this cycle does in the next ones: sections 2.3 and 4 of the manual."""
        if mode == Drain.PAIR:
            mode, pset = (Drain.ADD, 1) if odd else (Drain.KEEP, 0)
        keep, add, now = mode == Drain.KEEP, mode == Drain.ADD, self.now
        self.used[pset] = now
        self.expected[now + COPY]["copy_s6"] = 1
        for p in range(self.pes):
            at = now + COPY + 1 + p
            for k in range(REQUANT_STAGES):
                self._bit(at + k, "q_en", k, 1)
                self._bit(at + k, "q_pset", k, pset)
            for stage, name in ((0, "q_pixel0"), (3, "q_pixel3"), (5, "q_pixel5")):
                self.expected[at + stage][name] = p
            self.expected[at + 3]["q_add3"] = int(add)
            self.expected[at + 5]["q_keep5"] = int(keep)
            self.expected[at + REQUANT_STAGES] |= {"collect_en": 1, "collect_pixel": p}
        if keep:
            return
        a, x, _ = self.model.o.at()
        inside = [0 <= (x + p + 4096) % 8192 - 4096 < self.model.out["width"] for p in range(self.pes)]
        step, half = self.model.out["ostride"] + 1, self.pes // 2
        for part in range(step):  # one line, or two of every other word
            pixels = range(self.pes) if step == 1 else range(part * half, (part + 1) * half)
            at = now + drain_to_l1_write(self.pes) - 1 + part
            self.expected[at] |= {
                "write": 1, "address": (a + part * self.pes) % (1 << 14), "wide": step - 1, "upper": part,
                "slots": sum(1 << i * step for i, p in enumerate(pixels) if inside[p])}
            self.expected[at + 1 - DRAIN_AHEAD]["drain_ahead"] = 1
            self.seen["upper line" if part else "line"] += 1
        self.seen["partly inside"] += 0 < sum(inside) < self.pes
        self.model.o.advance(self.model.o.dims)

    def _bit(self, now: int, name: str, k: int, value: int) -> None:
        self.expected[now][name] = self.expected[now].get(name, 0) | value << k

    def compare(self, ctx: Any) -> None:
        dut, expected = self.dut, self.expected.pop(self.now, {})
        busy = sum(1 << k for k in range(2) if 0 < self.now - self.used[k] < parameter_cycles(self.pes))
        want = {"q_en": 0, "copy_s6": 0, "collect_en": 0, "drain_ahead": 0, "write": 0, "set_busy": busy} | expected
        got = {name: ctx.get(getattr(dut, name)) for name in want}
        if "q_pset" in want:
            got["q_pset"] &= want["q_en"]  # of stages that hold a pixel
        if not want["write"]:
            self.seen["no write"] += 1
        if got != want:
            wrong = {name: (got[name], want[name]) for name in want if got[name] != want[name]}
            self.bad.append(f"cycle {self.now}: (got, expected) {wrong}")
        self.seen["two in the requantizer"] += "q_pixel0" in want and want.get("collect_pixel", 99) > want["q_pixel0"]
        self.seen["pixels of two sets"] += want.get("q_pset", 0) not in (0, want["q_en"])
        self.seen["both sets busy"] += busy == 3
        self.seen["upper line and copy"] += want.get("upper", 0) and want["copy_s6"]

    async def cycle(self, ctx: Any, ir: int | None = None, wish: bool = False) -> bool:
        """One cycle; `ir` executes; with `wish` a drain is issued if it may be. Gives whether it was."""
        dut, rng = self.dut, self.rng
        ctx.set(dut.ir, any_word(rng) if ir is None else ir)
        others = int(rng.integers(1 << 32)) & ~sum(1 << o for o in set(REGISTERS))
        ctx.set(dut.executes, others if ir is None else 1 << (ir & 63))
        mode, pset, odd = Drain(int(rng.integers(4))), int(rng.integers(2)), int(rng.integers(2))
        for port, value in ((dut.mode, mode), (dut.pset, pset), (dut.odd, odd)):
            ctx.set(port, value)
        issued = wish and self.now >= self.ready
        ctx.set(dut.drain, issued)
        self.compare(ctx)
        if issued:
            self.seen["as close as may be"] += self.now == self.ready
            self.seen[f"mode {mode.name}"] += 1
            self.ready = self.now + self.spacing
            self.issue(mode, pset, odd)
        await ctx.tick()
        self.now += 1
        return issued

    async def register(self, ctx: Any) -> None:
        """A register at its extremes, those of AGU A too. Drains are on their way."""
        rng = self.rng
        opcode = Opcode(int(rng.choice([int(o) for o in REGISTERS])))
        fixed: dict[str, int] = {}
        if opcode == Opcode.SETD and rng.random() < 0.8:
            fixed = {"agu": Agu.O.value, "dim": int(rng.integers(4)), "count": int(rng.choice([0, 1, 2, 3, 4095]))}
        elif opcode == Opcode.SETO:
            fixed = {"ostride": int(rng.integers(2))}
        elif rng.random() < 0.6:  # beside the left edge, and a right one
            width = self.model.out["width"]
            at = {"agu": Agu.O.value, "x": int(rng.choice([0, -1, -self.pes, width - 1, width - self.pes, width - 2]))}
            fixed = at if opcode == Opcode.SETB else {}
        fields = corners(rng, opcode, **fixed)
        await self.cycle(ctx, ir=word(opcode, fields))
        self.model.execute(opcode, fields)
        for _ in range(CONTROLLER_CYCLES - 1):
            await self.cycle(ctx)

    async def run(self, ctx: Any, reset: Any) -> None:
        for number in range(90):
            if number % 45 == 0:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                self.fresh()
                await self.cycle(ctx)
            for _ in range(int(self.rng.integers(4)) if number % 45 else 0):
                await self.register(ctx)
            eager = (1.0, 1.0, 0.3)[number % 3]
            left = int(self.rng.integers(1, 5))
            while left and not self.bad:
                left -= await self.cycle(ctx, wish=bool(self.rng.random() < eager))
            for _ in range(int(self.rng.choice([0, 0, 2, 40]))):
                await self.cycle(ctx)
            if self.bad:
                return


def differences(module: ModuleType, size: tuple[int, int], seed: int) -> Bench:
    bench = Bench(module, size, seed)
    simulate(bench.dut, bench.run, reset=True)
    return bench


@pytest.mark.parametrize("size", MACHINES)
def test_every_output_in_every_cycle(size: tuple[int, int], seed: int) -> None:
    bench = differences(drain, size, seed)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"
    expected = ("upper line", "line", "partly inside", "no write", "both sets busy", "pixels of two sets",
                "as close as may be", "two in the requantizer", *(f"mode {mode.name}" for mode in Drain))
    assert not [what for what in expected if bench.seen[what] < 5], bench.seen


@pytest.mark.parametrize("right, wrong", [
    ("x.eq(self._jobs[-2].x + p)", "x.eq(self._jobs[-2].x + p + 1)"),
    ("left.eq(cycles - 1)", "left.eq(cycles - 2)"),
    ("upper_address.eq(job.a + self._pes)", "upper_address.eq(job.a + self._pes - 1)"),
    ("pixel[0] != self._pes - 1", "pixel[0] != self._pes - 2"),
    ("agu.advance.eq(self.drain & ~job.keep)", "agu.advance.eq(self.drain)"),
    ("(token[rotates - DRAIN_AHEAD] & ~ahead_upper", "(token[rotates - DRAIN_AHEAD - 1] & ~ahead_upper"),
    ('"a": 14, "x": 13, "width": 12', '"a": 14, "x": 13, "width": 11'),
    ("with m.If(token[k * self._pes - 1]):", "with m.If(1):"),
], ids=["edge", "set released early", "upper address", "a pixel less", "advance after KEEP", "announced early",
        "short width", "job held"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(drain, right, wrong), (8, 4), 1).bad
