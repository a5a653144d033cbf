# SPDX-License-Identifier: Apache-2.0
"""Parts of the AIE-ML core, each against a model of its own, under random stimulus and stalls; and planted bugs."""

from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from nncosim.compiler.aie_ml.loops import Line
from nncosim.hdl.aie_ml import access, agu, fetch
from nncosim.hdl.aie_ml.access import LoadPath, StorePath
from nncosim.hdl.aie_ml.agu import AddressGenerators
from nncosim.hdl.aie_ml.fetch import Fetch
from nncosim.hdl.aie_ml.isa import Control, ControlOp, Loop, Post
from nncosim.hdl.formats import encode
from nncosim.regress.aie_ml_programs import issue_order
from nncosim.regress.block_bench import simulate

MASK = (1 << agu.POINTER_BITS) - 1


class Macro(wiring.Component):
    """Stands for the SRAM macro in Amaranth's simulator: one port, a registered read that holds."""

    def __init__(self, depth: int, width: int, content: list[int] | None = None, ports: int = 1):
        self.depth, self.width, self.content = depth, width, content or []
        bits = max(1, (depth - 1).bit_length())
        super().__init__({"r_en": wiring.In(1), "r_data": wiring.Out(width), "w_en": wiring.In(4),
                          "w_data": wiring.In(width), "addr": wiring.In(bits)})  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = [Signal(self.width, init=value) for value in [*self.content, *[0] * (self.depth - len(self.content))]]
        for number, word in enumerate(words):
            with m.If(self.addr == number):
                with m.If(self.r_en):
                    m.d.sync += self.r_data.eq(word)
                with m.If(self.w_en):
                    m.d.sync += word.eq(self.w_data)
        return m


# Address generators


class Generator:
    """One pointer, by the manual."""

    def __init__(self):
        self.at = self.inc = self.n1 = self.s1 = self.n2 = self.s2 = self.c1 = self.c2 = 0

    def step(self, post: int, step: int) -> None:
        if post == Post.ADD.value:
            self.at += step
        elif post == Post.WALK.value:
            if self.c1 + 1 < self.n1:
                self.c1, self.at = self.c1 + 1, self.at + self.inc
            elif self.c2 + 1 < self.n2:
                self.c1, self.c2, self.at = 0, self.c2 + 1, self.at + self.s1
            else:
                self.c1, self.c2, self.at = 0, 0, self.at + self.s2
        self.at &= MASK

    def set(self, which: int, value: int) -> None:
        if which == 0:
            self.at, self.c1, self.c2 = value & MASK, 0, 0
        else:
            name = ("inc", "n1", "s1", "n2", "s2")[which - 1]
            setattr(self, name, value & 2047 if name in ("n1", "n2") else value)


def agu_mismatches(seed: int, cycles: int) -> int:
    dut, model, wrong = AddressGenerators(), [Generator() for _ in range(8)], 0
    rng = np.random.default_rng(seed)

    async def bench(ctx):
        nonlocal wrong
        registers = [(which, pointer) for pointer in range(8) for which in range(6)]
        for cycle in range(cycles):
            pointers = [int(p) for p in rng.permutation(8)]
            first = cycle < len(registers)  # all are set once
            for slot in range(agu.USES):
                post, step = int(rng.integers(3)), int(rng.integers(-64, 64))
                valid = int(not first and rng.random() < 0.8)
                use = dut.use[slot]
                for name, value in (("valid", valid), ("pointer", pointers[slot]), ("post", post), ("step", step)):
                    ctx.set(getattr(use, name), value)
                if not first:
                    wrong += ctx.get(dut.at[slot]) != model[pointers[slot]].at
                if valid:
                    model[pointers[slot]].step(post, step)
            for slot in range(agu.SETS):
                which, pointer = registers[cycle] if first else (int(rng.integers(6)), pointers[agu.USES + slot])
                valid = int((first and slot == 0) or (not first and rng.random() < 0.15))
                value = int(rng.integers(0, 5)) if which in (2, 4) else int(rng.integers(-3000, 3000))
                for name, given in (("valid", valid), ("register", which << 3 | pointer), ("value", value)):
                    ctx.set(getattr(dut.set[slot], name), given)
                if valid:
                    model[pointer].set(which, value)
            await ctx.tick()

    simulate(dut, bench)
    return wrong


def test_pointers():
    assert agu_mismatches(1, 600) == 0


AGU_BUGS = {
    "a walk is a step": ("Post", SimpleNamespace(ADD=Post.ADD, WALK=Post.ADD)),
    "counts have two bits": ("COUNT_BITS", 2),
    "pointers have eleven bits": ("POINTER_BITS", 11),
}


@pytest.mark.parametrize("name", AGU_BUGS)
def test_a_bug_of_the_pointers_is_seen(monkeypatch, name):
    attribute, value = AGU_BUGS[name]
    monkeypatch.setattr(agu, attribute, value)
    assert agu_mismatches(2, 400) > 0


# Fetch


def loops_program(rng: np.random.Generator) -> list[Line]:
    """Lines that are told apart by their store slot, with nested loops."""
    count = 0

    def block(level: int) -> list[Line]:
        nonlocal count
        lines = []
        for _ in range(int(rng.integers(1, 4))):
            count += 1
            lines.append(Line((("store", count),)))
        if level:
            body = block(level - 1)
            lines = [*lines[:-1], lines[-1].with_loop(int(rng.integers(1, 4)), len(body)), *body]
        for _ in range(int(rng.integers(2, 4))):
            count += 1
            lines.append(Line((("store", count),)))
        return lines

    return [*block(3), *block(2), Line((("control", encode(Control, op=ControlOp.HALT.value)),))]


def fetch_mismatches(monkeypatch, seed: int) -> int:
    rng = np.random.default_rng(seed)
    lines = loops_program(rng)
    words, wrong = [line.word for line in lines], 0
    monkeypatch.setattr(fetch, "Sram", lambda depth, width, lane, ports: Macro(depth, width, words, ports))
    dut = Fetch(64)

    async def bench(ctx):
        nonlocal wrong
        ctx.set(dut.advance, 1)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for number in issue_order(lines):
            for _ in range(20):
                advance = int(rng.random() < 0.7)
                ctx.set(dut.advance, advance)
                if ctx.get(dut.valid) and advance:
                    break
                await ctx.tick()
            issued = ctx.get(dut.valid), ctx.get(dut.issued_pc), ctx.get(dut.instruction)
            wrong += issued != (1, number, words[number])
            ctx.set(dut.stop, int(number == len(lines) - 1))
            await ctx.tick()
            ctx.set(dut.stop, 0)
        ctx.set(dut.advance, 1)
        for _ in range(6):
            wrong += ctx.get(dut.valid)
            await ctx.tick()

    assert len(lines) <= 64
    simulate(dut, bench)
    return wrong


@pytest.mark.parametrize("seed", range(4))
def test_fetch(monkeypatch, seed):
    assert fetch_mismatches(monkeypatch, seed) == 0


ORIGINAL_VIEW = fetch.view


@pytest.mark.parametrize("bug", ["two levels", "one turn more", "the body is one longer"])
def test_a_bug_of_fetch_is_seen(monkeypatch, bug):
    if bug == "two levels":
        monkeypatch.setattr(fetch, "LOOP_LEVELS", 2)
    else:
        class Wrong:
            def __init__(self, inner):
                self.count = inner.count + (bug == "one turn more")
                self.body = inner.body + (bug != "one turn more")

        monkeypatch.setattr(fetch, "view", lambda fmt, value: (
            Wrong(ORIGINAL_VIEW(fmt, value)) if fmt is Loop else ORIGINAL_VIEW(fmt, value)))  # fmt: skip
    assert sum(fetch_mismatches(monkeypatch, seed) for seed in range(2)) > 0


# Ways to memory


def load_mismatches(seed: int, cycles: int) -> int:
    """Loads with random grants and stalls from elsewhere; what is written when, by advanced cycles. Of the own memory:
    for the west's, see test_aie_ml_neighbour.py."""
    dut, rng = LoadPath(), np.random.default_rng(seed)
    wrong = 0
    issued: dict[int, tuple[int, int]] = {}

    async def bench(ctx):
        nonlocal wrong
        now, fresh = 0, 0
        for _ in range(cycles):
            valid, addr, dest = int(rng.random() < 0.6), int(rng.integers(1 << 11)), int(rng.integers(24))
            for port, value in ((dut.valid, valid), (dut.addr, addr), (dut.dest, dest)):
                ctx.set(port, value)
            ctx.set(dut.data, fresh)  # only in the cycle after the grant; else something else
            grant = int(rng.random() < 0.7)
            ctx.set(dut.grant, grant)
            waits = ctx.get(dut.waiting)
            advance = int(not waits and rng.random() < 0.8)
            ctx.set(dut.advance, advance)
            asked = ctx.get(dut.request) and grant
            fresh = 7 * ctx.get(dut.request_addr) + 1 if asked else int(rng.integers(1 << 30))
            if advance:
                expected = issued.get(now - 6)
                wrong += ctx.get(dut.write) != (expected is not None)
                if expected:
                    wrong += (ctx.get(dut.write_dest), ctx.get(dut.write_data)) != (expected[1], 7 * expected[0] + 1)
                if valid:
                    issued[now] = addr, dest
                now += 1
            await ctx.tick()

    simulate(dut, bench)
    assert len(issued) > cycles // 5
    return wrong


def test_loads():
    assert load_mismatches(1, 1500) == 0


@pytest.mark.parametrize("wrong", [3, 5])
def test_a_load_that_asks_a_cycle_off_is_seen(monkeypatch, wrong):
    monkeypatch.setitem(access.LATENCY, "load_memory", wrong)
    assert load_mismatches(2, 300) > 0


def store_mismatches(seed: int, cycles: int) -> int:
    dut, rng = StorePath(), np.random.default_rng(seed)
    wrong = 0
    issued: dict[int, tuple[int, int, int]] = {}
    results: dict[int, int] = {}

    async def bench(ctx):
        nonlocal wrong
        now, written = 0, set()
        for _ in range(cycles):
            valid, fused = int(rng.random() < 0.6), int(rng.random() < 0.5)
            addr, plain = int(rng.integers(1 << 11)), int(rng.integers(1 << 40))
            results.setdefault(now, int(rng.integers(1 << 40)))
            for port, value in ((dut.valid, valid), (dut.addr, addr), (dut.fused, fused), (dut.plain, plain),
                                (dut.requantized, results[now])):  # fmt: skip
                ctx.set(port, value)
            grant = int(rng.random() < 0.6)
            ctx.set(dut.grant, grant)
            if ctx.get(dut.request) and grant:
                place, is_fused, value = issued.get(now - 6, (-1, 0, -1))
                value = results[now - 3] if is_fused else value
                wrong += (ctx.get(dut.request_addr), ctx.get(dut.request_data)) != (place, value) or now in written
                written.add(now)
            advance = int(not ctx.get(dut.waiting) and rng.random() < 0.8)
            ctx.set(dut.advance, advance)
            if advance:
                wrong += (now - 6 in issued) != (now in written)
                if valid:
                    issued[now] = addr, fused, plain
                now += 1
            await ctx.tick()

    simulate(dut, bench)
    assert len(issued) > cycles // 5
    return wrong


def test_stores():
    assert store_mismatches(1, 1500) == 0


@pytest.mark.parametrize("wrong", [5, 7])
def test_a_store_that_is_a_cycle_off_is_seen(monkeypatch, wrong):
    monkeypatch.setitem(access.LATENCY, "store_memory", wrong)
    assert store_mismatches(2, 300) > 0
