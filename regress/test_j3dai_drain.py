# SPDX-License-Identifier: Apache-2.0
"""Drain control, every output in every cycle: which pixel is where, what is written where, which set is in use."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import drain
from nncosim.hdl.j3dai.isa import Agu, Drain, Opcode
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES, MSlice, XSlice
from nncosim.hdl.j3dai.timing import CONTROLLER_CYCLES, DRAIN_AHEAD, DRAIN_TO_L1_WRITE, DRAIN_TO_PARAMETERS
from nncosim.regress.block_bench import simulate
from nncosim.regress.j3dai_block_bench import MACHINES, any_word, corners, machine, word
from nncosim.regress.j3dai_cluster_model import ClusterModel
from nncosim.regress.planted import planted

COPY = 6  # cycles from a drain's issue to the copy into the shadow registers
REGISTERS = (Opcode.SETB, Opcode.SETB, Opcode.SETB, Opcode.ADDB, Opcode.SETD, Opcode.SETD, Opcode.SETO)


class DrainBench:
    """A drain control beside what the manual says of each drain. `seen`: what happened, and what met in one cycle."""

    def __init__(self, module: ModuleType, size: tuple[int, int, int], seed: int):
        platform = machine(*size[:2]).with_parameters(ncbs_per_requantizer=size[2])
        self.pes, self.ncbs = platform.pes_per_ncb, size[2]
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
        self.free = [0, 0]  # by set: from when on no drain needs it

    def issue(self, mode: Drain, pset: int, odd: int, wide_x: int, wide_m: int) -> int:
        """What a drain issued in this cycle does in the next ones: sections 2.3 and 4 of the manual. Gives the cycles
        until the next may be issued."""
        if mode == Drain.PAIR:
            mode = Drain.ADD if odd else Drain.KEEP
        if mode == Drain.KEEP:
            self.expected[self.now + COPY]["copy_high_s6"] = 1
            return 1
        self.expected[self.now + COPY]["copy_low_s6" if mode == Drain.ADD else "copy_s6"] = 1
        products = list(self._products(mode == Drain.ADD, pset, wide_x, wide_m))
        begins, cycles = self.now + COPY + 1, self.pes * self.ncbs * len(products)
        results = [(n, p) for n in range(self.ncbs) for p in range(self.pes)]
        for k, (ncb, pixel) in enumerate(results):
            for i, (x0, m0, used, shift) in enumerate(products):
                at = begins + k * len(products) + i
                self.expected[at] |= {"pixel0": pixel, "x0": x0, "m0": m0}
                self.expected[at + 2] |= {"first2": int(i == 0), "shift2": shift}
                for stage in (0, 2, 4, 5):
                    self.expected[at + stage] |= {f"owner{stage}": ncb, f"pset{stage}": used}
            self.expected[at + REQUANT_STAGES] |= {"collect_en": 1, "collect_pixel": pixel, "collect_ncb": ncb}
        for used in (0, 1) if mode == Drain.ADD else (pset,):
            self.free[used] = self.now + cycles + DRAIN_TO_PARAMETERS
        self._write(cycles)
        self.seen[f"{len(products)} products"] += 1
        return cycles

    def _products(self, add: bool, pset: int, wide_x: int, wide_m: int) -> Iterator[tuple[int, int, int, int]]:
        """Of each result: parts of accumulator and m, parameter set, and which shift (0, 16, 24, 40 bits)."""
        if add:
            xs = [(XSlice.HIGH, 0, 0), (XSlice.PAIR, 1, 0)]
        else:
            xs = [(XSlice.LOW, pset, 0), (XSlice.HIGH, pset, 1)] if wide_x else [(XSlice.NARROW, pset, 0)]
        for x, used, shift in xs:
            for m, further in [(MSlice.LOW, 0), (MSlice.HIGH, 2)] if wide_m else [(MSlice.NARROW, 0)]:
                yield int(x), int(m), used, shift + further

    def _write(self, cycles: int) -> None:
        """The lines of a drain that takes so many cycles in the requantizers."""
        a, x, _ = self.model.o.at()
        inside = [0 <= (x + p + 4096) % 8192 - 4096 < self.model.out["width"] for p in range(self.pes)]
        step, half = self.model.out["ostride"] + 1, self.pes // 2
        for part in range(step):  # one line, or two of every other word
            pixels = range(self.pes) if step == 1 else range(part * half, (part + 1) * half)
            at = self.now + cycles + DRAIN_TO_L1_WRITE - 1 + part
            self.expected[at] |= {
                "write": 1, "address": (a + part * self.pes) % (1 << 14), "wide": step - 1, "upper": part,
                "slots": sum(1 << i * step for i, p in enumerate(pixels) if inside[p])}
            self.expected[at + 1 - DRAIN_AHEAD]["drain_ahead"] = 1
            self.seen["upper line" if part else "line"] += 1
        self.seen["partly inside"] += 0 < sum(inside) < self.pes
        self.model.o.advance(self.model.o.dims)

    def compare(self, ctx: Any) -> None:
        dut, expected = self.dut, self.expected.pop(self.now, {})
        busy = sum(1 << k for k in range(2) if self.now < self.free[k])
        nothing = dict.fromkeys(("copy_s6", "copy_low_s6", "copy_high_s6", "collect_en", "drain_ahead", "write"), 0)
        want = nothing | {"set_busy": busy} | expected
        got = {name: ctx.get(getattr(dut, name)) for name in want}
        self.seen["no write"] += not want["write"]
        if got != want:
            wrong = {name: (got[name], want[name]) for name in want if got[name] != want[name]}
            self.bad.append(f"cycle {self.now}: (got, expected) {wrong}")
        self.seen["two in the requantizer"] += "pixel0" in want and want.get("collect_pixel", 99) > want["pixel0"]
        self.seen["products of two sets"] += want.get("pset0", 0) != want.get("pset5", want.get("pset0", 0))
        self.seen["both sets busy"] += busy == 3
        self.seen["upper line and copy"] += want.get("upper", 0) and want["copy_s6"]
        self.seen["kept while another is multiplied"] += want["copy_high_s6"] and "pixel0" in want

    async def cycle(self, ctx: Any, ir: int | None = None, wish: bool = False) -> bool:
        """One cycle; `ir` executes; with `wish` a drain is issued if it may be. Gives whether it was."""
        dut, rng = self.dut, self.rng
        ctx.set(dut.ir, any_word(rng) if ir is None else ir)
        others = int(rng.integers(1 << 32)) & ~sum(1 << o for o in set(REGISTERS))
        ctx.set(dut.executes, others if ir is None else 1 << (ir & 63))
        mode, how = Drain(int(rng.integers(4))), {
            name: int(rng.random() < often)
            for name, often in {"pset": 0.5, "odd": 0.5, "wide_x": 0.35, "wide_m": 0.35}.items()}  # wide ones take long
        ctx.set(dut.mac, {"drain": mode, **{name: how[name] for name in ("pset", "wide_x", "wide_m")}})
        ctx.set(dut.odd, how["odd"])
        issued = wish and self.now >= self.ready
        ctx.set(dut.drain, issued)
        self.compare(ctx)
        if issued:
            self.seen["as close as may be"] += self.now == self.ready
            self.seen[f"mode {mode.name}"] += 1
            self.ready = self.now + self.issue(mode, **how)
        await ctx.tick()
        self.now += 1
        return issued

    async def register(self, ctx: Any) -> None:
        """A register at its extremes, those of AGU A too. Drains are on their way."""
        rng = self.rng
        opcode = Opcode(int(rng.choice([int(o) for o in REGISTERS])))  # SETB most often, for lines at an edge
        fixed: dict[str, int] = {}
        if opcode == Opcode.SETD and rng.random() < 0.8:
            fixed = {"agu": Agu.O.value, "dim": int(rng.integers(4)), "count": int(rng.choice([0, 1, 2, 3, 4095]))}
        elif opcode == Opcode.SETO:
            fixed = {"ostride": int(rng.integers(2))}
        elif rng.random() < 0.85:  # beside the left edge, and a right one
            width = self.model.out["width"]
            at = {"agu": Agu.O.value, "x": int(rng.choice([0, -1, -self.pes, width - 1, width - self.pes, width - 2]))}
            fixed = at if opcode == Opcode.SETB else {}
        fields = corners(rng, opcode, **fixed)
        await self.cycle(ctx, ir=word(opcode, fields))
        self.model.execute(opcode, fields)
        for _ in range(CONTROLLER_CYCLES - 1):
            await self.cycle(ctx)

    async def run(self, ctx: Any, reset: Any) -> None:
        for number in range(80):
            if number % 40 == 0:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                self.fresh()
                await self.cycle(ctx)
            for _ in range(int(self.rng.integers(1, 4)) if number % 40 else 0):
                await self.register(ctx)
            eager = (1.0, 1.0, 0.3)[number % 3]
            left = int(self.rng.integers(1, 5))
            while left and not self.bad:
                left -= await self.cycle(ctx, wish=bool(self.rng.random() < eager))
            for _ in range(int(self.rng.choice([0, 0, 0, 2, 40]))):
                await self.cycle(ctx)
            if self.bad:
                return


def differences(module: ModuleType, size: tuple[int, int, int], seed: int) -> DrainBench:
    bench = DrainBench(module, size, seed)
    simulate(bench.dut, bench.run, reset=True)
    return bench


# The longest first: of two processes neither ends long after the other.
@pytest.mark.parametrize("size", [(8, 4, 8), (16, 8, 2), *((*size, 1) for size in MACHINES)])
def test_every_output_in_every_cycle(size: tuple[int, int, int], seed: int) -> None:
    bench = differences(drain, size, seed)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"
    expected = ("upper line", "line", "partly inside", "no write", "both sets busy", "products of two sets",
                "as close as may be", *(f"{count} products" for count in (1, 2, 4)),
                *(f"mode {mode.name}" for mode in Drain))
    assert not [what for what in expected if bench.seen[what] < 5], bench.seen
    assert bench.seen["two in the requantizer"]


@pytest.mark.parametrize("right, wrong", [
    ("x.eq(jobs[-1].x + p)", "x.eq(jobs[-1].x + p + 1)"),
    ("left.eq(cycles + (DRAIN_TO_PARAMETERS - 1))", "left.eq(cycles + (DRAIN_TO_PARAMETERS - 2))"),
    ("upper_address.eq(job.a + pes)", "upper_address.eq(job.a + pes - 1)"),
    ("(pixel == pixels - 1)", "(pixel == pixels - 2)"),
    ("(ncb == shared - 1)", "(ncb == 0)"),
    ("agu.advance.eq(self.drain & ~keeps)", "agu.advance.eq(self.drain)"),
    ("(done[early] & ahead_upper", "(done[early + 1] & ahead_upper"),
    ('"a": 14, "x": 13, "width": 12', '"a": 14, "x": 13, "width": 11'),
    ("with m.If(token[k * self._pes - 1]):", "with m.If(1):"),
    ("Mux(job.add, high_x, job.pset)", "job.pset"),
    ("begins & before[-1].add", "begins"),
    ("self.drain & ~keeps & (job.add | (job.pset == k))", "self.drain & ~keeps & (job.pset == k)"),
    ("Cat(high_x & ~job.add, Const(0, 1))", "Cat(high_x, Const(0, 1))"),
], ids=["edge", "set released early", "upper address", "a pixel less", "an NCB less", "advance after KEEP",
        "announced early", "short width", "job held", "sets of a pair", "kept half destroyed", "set 0 of a pair",
        "shift of a pair"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    faulty = planted(drain, right, wrong)
    assert any(differences(faulty, (8, 4, shared), 1).bad for shared in (2, 1))
