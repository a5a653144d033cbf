# SPDX-License-Identifier: Apache-2.0
"""Words to banks and back: rotations, rows, LOAD beats, lines of results, the banked memory itself."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai import banks, drain, loads
from nncosim.hdl.j3dai.isa import Space
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_block_bench import MACHINES, corner, garbage, machine, simulate
from nncosim.regress.j3dai_planted import planted


def addresses(rng: np.random.Generator, line: int, words: int = 1 << 14) -> list[int]:
    """The first and the last line, word by word, and some between."""
    edge = list(range(2 * line))
    return [*edge, *(words - 1 - a for a in edge), *(corner(rng, words.bit_length() - 1) for _ in range(20))]


def beat_differences(module: ModuleType, platform: J3dai, seed: int) -> list[str]:
    """Beats at every alignment, with every single word and with any mask, to all spaces."""
    rng, dut, bad = np.random.default_rng(seed), module.LoadWrite(platform), []
    line = platform.banks

    async def bench(ctx: Any) -> None:
        for address in addresses(rng, line):
            for valid, space in ((1, 0), (1, 1), (1, 2), (1, 3), (0, int(rng.integers(4)))):
                mask = int(rng.choice([1 << int(rng.integers(line)), (1 << line) - 1, int(rng.integers(1 << line))]))
                words = [int.from_bytes(rng.bytes(platform.word_bytes), "little") for _ in range(line)]
                for port, value in ((dut.wr_valid, valid), (dut.wr_space, space), (dut.wr_addr, address),
                                    (dut.wr_mask, mask)):
                    ctx.set(port, value)
                ctx.set(dut.wr_data, sum(word << platform.word_bits * i for i, word in enumerate(words)))
                places = {(address + i) % line: word for i, word in enumerate(words) if mask >> i & 1}
                enabled = ctx.get(dut.bank_en)
                got = {b: ctx.get(dut.bank_data[b]) for b in range(line) if enabled >> b & 1}
                selected = [ctx.get(port) for port in (dut.l1_en, dut.wmem_en, dut.imem_en)]
                want = [int(valid and space == which) for which in (Space.L1, Space.WMEM, Space.IMEM)]
                if got != places or selected != want:
                    bad.append(f"address {address}, mask {mask:#x}: banks {sorted(got)}, memories {selected}")

    simulate(dut, bench)
    return bad


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
    """The SRAM macro for Amaranth's simulator: a read gives the word that was there before a write."""

    def __init__(self, depth: int, width: int):
        self.depth, self.width = depth, width
        bits = (depth - 1).bit_length()
        super().__init__({"r_en": In(1), "r_addr": In(bits), "r_data": Out(width), "w_en": In(1), "w_addr": In(bits),
                          "w_data": In(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read = store.write_port(), store.read_port()
        m.d.comb += [
            write.en.eq(self.w_en), write.addr.eq(self.w_addr), write.data.eq(self.w_data),
            read.en.eq(self.r_en), read.addr.eq(self.r_addr), self.r_data.eq(read.data),
        ]
        return m


def memory_differences(module: ModuleType, monkeypatch: pytest.MonkeyPatch, seed: int) -> list[str]:
    """Every bank and row of a small memory, the first and last among them; all banks at once."""
    monkeypatch.setattr(module, "Sram", BehaviouralSram)
    platform, rows = machine(8, 4), 8
    rng, bad = np.random.default_rng(seed), []
    dut = module.BankedMemory(rows * platform.banks, platform)
    content: list[list[int | None]] = [[None] * rows for _ in range(platform.banks)]

    async def bench(ctx: Any) -> None:
        shown: list[int | None] = [None] * platform.banks
        for _ in range(400):
            for b in range(platform.banks):
                garbage(ctx, rng, dut.r_row[b], dut.w_row[b], dut.w_data[b], dut.r_en[b], dut.w_en[b])
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
    """Results collected pixel by pixel, with gaps and noise between; lines at every alignment, plain and wide."""
    rng, dut, bad = np.random.default_rng(seed), module.DrainWrite(platform), []
    line, pixels = platform.banks, {}

    async def collect(ctx: Any) -> None:
        for p in rng.permutation(line):
            while rng.random() < 0.4:
                garbage(ctx, rng, dut.word, dut.collect_pixel)
                ctx.set(dut.collect_en, 0)
                await ctx.tick()
            pixels[int(p)] = int.from_bytes(rng.bytes(platform.word_bytes), "little")
            for port, value in ((dut.word, pixels[int(p)]), (dut.collect_pixel, int(p)), (dut.collect_en, 1)):
                ctx.set(port, value)
            await ctx.tick()
        ctx.set(dut.collect_en, 0)

    async def bench(ctx: Any) -> None:
        for number, address in enumerate(addresses(rng, line)):
            if number % 8 == 0:
                await collect(ctx)
            for wide, upper in ((0, 0), (1, 0), (1, 1)):
                slots = int(rng.choice([1 << int(rng.integers(line)), (1 << line) - 1, int(rng.integers(1 << line))]))
                if wide:
                    slots &= sum(1 << i for i in range(0, line, 2))
                for port, value in ((dut.address, address), (dut.slots, slots), (dut.wide, wide), (dut.upper, upper)):
                    ctx.set(port, value)
                want = {(address + i) % line: pixels[i // 2 + upper * line // 2 if wide else i]
                        for i in range(line) if slots >> i & 1}
                enabled = ctx.get(dut.bank_en)
                got = {b: ctx.get(dut.bank_data[b]) for b in range(line) if enabled >> b & 1}
                if got != want:
                    bad.append(f"address {address}, wide {wide}, upper {upper}: banks {sorted(got)}")

    simulate(dut, bench)
    return bad


@pytest.mark.parametrize("size", MACHINES)
def test_load_beats(size: tuple[int, int], seed: int) -> None:
    assert beat_differences(loads, machine(*size), seed) == []


@pytest.mark.parametrize("line", [4, 8, 16])
def test_rows(line: int, seed: int) -> None:
    assert row_differences(banks, line, seed) == []


def test_memory(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    assert memory_differences(banks, monkeypatch, seed) == []


@pytest.mark.parametrize("size", MACHINES)
def test_lines_of_results(size: tuple[int, int], seed: int) -> None:
    assert line_differences(drain, machine(*size), seed) == []


def test_planted_bugs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    small = machine(8, 4)
    assert beat_differences(planted(loads, "amount.eq(-self.wr_addr", "amount.eq(self.wr_addr"), small, 1)
    assert beat_differences(planted(loads, "self.wr_valid & (self.wr_space", "(self.wr_space"), small, 1)
    assert row_differences(planted(banks, "Mux(b < address", "Mux(b <= address"), 4, 1)
    assert memory_differences(planted(banks, "sram.w_addr.eq(self.w_row[b])", "sram.w_addr.eq(self.r_row[b])"),
                              monkeypatch, 1)
    assert line_differences(planted(drain, "self.collect_en & (self.collect_pixel", "(self.collect_pixel"), small, 1)
    assert line_differences(planted(drain, "pixels[banks // 2 + i // 2]", "pixels[banks // 2 + i // 4]"), small, 1)
