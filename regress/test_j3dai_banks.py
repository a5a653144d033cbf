# SPDX-License-Identifier: Apache-2.0
"""Words to banks and back: rows, lines of results, the banked memory itself."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl import banks
from nncosim.hdl.j3dai import drain
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.block_bench import garbage, simulate
from nncosim.regress.j3dai_block_bench import MACHINES, addresses, machine
from nncosim.regress.planted import planted


class Rows(wiring.Component):
    """`bank_rows` as a block."""

    def __init__(self, module: ModuleType, row_bits: int, line: int):
        self.module, self.row_bits, self.line = module, row_bits, line
        super().__init__({"address": In(14), "rows": Out(row_bits).array(line)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for port, row in zip(self.rows, self.module.bank_rows(m, self.address, self.row_bits, self.line, "some"),
                             strict=True):
            m.d.comb += port.eq(row)
        return m


def row_differences(module: ModuleType, line: int, seed: int) -> list[str]:
    rng, bad, bits = np.random.default_rng(seed), [], 6
    dut, words = Rows(module, bits, line), line << bits

    async def bench(ctx: Any) -> None:
        for address in [*addresses(rng, line, words), *addresses(rng, line)]:
            ctx.set(dut.address, address)
            want = [0] * line
            for i in range(line):
                want[(address + i) % line] = (address + i) % words // line
            if (got := [ctx.get(row) for row in dut.rows]) != want:
                bad.append(f"address {address}: {got}, expected {want}")

    simulate(dut, bench)
    return bad


class BehaviouralSram(wiring.Component):
    """The SRAM macro for Amaranth's simulator: a read gives the word that was there before a write. With one port a
    write in the cycle of a read moves to the read's address: two cannot be at the pins."""

    def __init__(self, depth: int, width: int, ports: int):
        self.depth, self.width, self.ports = depth, width, ports
        bits = (depth - 1).bit_length()
        super().__init__({"r_en": In(1), "r_data": Out(width), "w_en": In(1), "w_data": In(width), **{
            name: In(bits) for name in (("addr",) if ports == 1 else ("r_addr", "w_addr"))}})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read = store.write_port(), store.read_port()
        m.d.comb += [
            write.en.eq(self.w_en), write.addr.eq(self.addr if self.ports == 1 else self.w_addr),
            write.data.eq(self.w_data), read.en.eq(self.r_en),
            read.addr.eq(self.addr if self.ports == 1 else self.r_addr), self.r_data.eq(read.data),
        ]
        return m


def memory_differences(module: ModuleType, monkeypatch: pytest.MonkeyPatch, seed: int, ports: int = 2) -> list[str]:
    """Every bank and row of a small memory, the first and last among them; all banks at once. With one port a bank is
    read or written."""
    monkeypatch.setattr(module, "Sram", BehaviouralSram)
    platform, rows = machine(8, 4), 8
    rng, bad = np.random.default_rng(seed), []
    dut = module.BankedMemory(rows * platform.banks, platform.banks, platform.word_bits, ports)
    content: list[list[int | None]] = [[None] * rows for _ in range(platform.banks)]

    async def bench(ctx: Any) -> None:
        shown: list[int | None] = [None] * platform.banks
        for _ in range(400):
            for b in range(platform.banks):
                garbage(ctx, rng, dut.r_row[b], dut.w_row[b], dut.w_data[b], dut.r_en[b], dut.w_en[b])
                if ports == 1 and ctx.get(dut.r_en[b]):
                    ctx.set(dut.w_en[b], 0)
            for b in range(platform.banks):
                if shown[b] is not None and ctx.get(dut.r_data[b]) != shown[b]:
                    bad.append(f"bank {b}")
                if ctx.get(dut.r_en[b]):
                    shown[b] = content[b][ctx.get(dut.r_row[b])]
                if ctx.get(dut.w_en[b]):
                    content[b][ctx.get(dut.w_row[b])] = ctx.get(dut.w_data[b])
            await ctx.tick()

    simulate(dut, bench)
    return bad


def line_differences(module: ModuleType, platform: J3dai, seed: int) -> list[str]:
    """Results collected pixel by pixel, with gaps and noise between; lines plain and wide."""
    rng, dut, bad = np.random.default_rng(seed), module.DrainLine(platform), []
    line, pixels = platform.banks, {}

    async def collect(ctx: Any) -> None:
        for p in rng.permutation(line):
            while rng.random() < 0.4:
                garbage(ctx, rng, dut.results, dut.collect_pixel)
                ctx.set(dut.collect_en, 0)
                await ctx.tick()
            pixels[int(p)] = int.from_bytes(rng.bytes(platform.word_bytes), "little")
            for port, value in ((dut.results, pixels[int(p)]), (dut.collect_pixel, int(p)), (dut.collect_en, 1)):
                ctx.set(port, value)
            await ctx.tick()
        ctx.set(dut.collect_en, 0)

    async def bench(ctx: Any) -> None:
        for _ in range(12):
            await collect(ctx)
            for wide, upper in ((0, 0), (1, 0), (1, 1)):
                ctx.set(dut.wide, wide)
                ctx.set(dut.upper, upper)
                # Of a wide line every other slot is written.
                want = {i: pixels[i // 2 + upper * line // 2 if wide else i] for i in range(0, line, wide + 1)}
                if {i: ctx.get(dut.words[i]) for i in want} != want:
                    bad.append(f"wide {wide}, upper {upper}")

    simulate(dut, bench)
    return bad


@pytest.mark.parametrize("line", [4, 8, 16])
def test_rows(line: int, seed: int) -> None:
    assert row_differences(banks, line, seed) == []


@pytest.mark.parametrize("ports", [1, 2])
def test_memory(monkeypatch: pytest.MonkeyPatch, ports: int, seed: int) -> None:
    assert memory_differences(banks, monkeypatch, seed, ports) == []


@pytest.mark.parametrize("size", MACHINES)
def test_lines_of_results(size: tuple[int, int], seed: int) -> None:
    assert line_differences(drain, machine(*size), seed) == []


def test_planted_bugs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    small = machine(8, 4)
    assert row_differences(planted(banks, "Mux(b < address", "Mux(b <= address"), 4, 1)
    assert memory_differences(planted(banks, "sram.w_addr.eq(self.w_row[b])", "sram.w_addr.eq(self.r_row[b])"),
                              monkeypatch, 1)
    assert memory_differences(planted(banks, "Mux(self.w_en[b], self.w_row[b]", "Mux(self.w_en[b], self.r_row[b]"),
                              monkeypatch, 1, ports=1)
    assert line_differences(planted(drain, "self.collect_en & (self.collect_pixel", "(self.collect_pixel"), small, 1)
    assert line_differences(planted(drain, "pixels[banks // 2 + i // 2]", "pixels[banks // 2 + i // 4]"), small, 1)
