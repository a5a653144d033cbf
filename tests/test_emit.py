# SPDX-License-Identifier: Apache-2.0
"""Emission of Verilog: one module per distinct block, the same text for the same design."""

import re

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from nncosim.hdl.emit import Block, emit, emit_design
from nncosim.hdl.errors import HdlError
from nncosim.hdl.sram import Sram


class Delay(wiring.Component):
    """`width` bits, `cycles` later; with a memory if `memory`."""

    def __init__(self, width: int, cycles: int = 1, memory: bool = False):
        self.width, self.cycles, self.memory = width, cycles, memory
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        if self.memory:
            m.submodules.ram = ram = Sram(4, self.width)
            m.d.comb += [ram.r_en.eq(1), ram.w_en.eq(1), ram.w_data.eq(self.i), self.o.eq(ram.r_data)]
            return m
        value = self.i
        for index in range(self.cycles):
            m.submodules[f"stage_{index}"] = stage = _Stage(self.width)
            m.d.comb += stage.i.eq(value)
            value = stage.o
        m.d.comb += self.o.eq(value)
        return m


class _Stage(wiring.Component):
    def __init__(self, width: int):
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m


class Chain(wiring.Component):
    """Blocks one after the other."""

    def __init__(self, blocks):
        self.blocks = blocks
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        value = self.i
        for index, block in enumerate(self.blocks):
            m.submodules[f"block_{index}"] = block
            m.d.comb += block.i.eq(value)
            value = block.o
        m.d.comb += self.o.eq(value)
        return m


def modules(text: str) -> list[str]:
    return re.findall(r"^module \\?([\w.]+)", text, re.MULTILINE)


def test_each_distinct_block_once():
    blocks = [*(Block(Delay(8), "delay_8") for _ in range(5)), Block(Delay(8, 2), "delay_8_2")]
    design = emit_design(Chain(blocks), "chain")
    assert list(design) == ["chain.v", "delay_8.v", "delay_8_2.v"]
    assert modules(design["chain.v"]) == ["chain"]
    assert design["chain.v"].count("  delay_8 block_") == 5 and design["chain.v"].count("  delay_8_2 block_") == 1
    everything = [name for text in design.values() for name in modules(text)]
    assert len(set(everything)) == len(everything)  # submodules of different blocks do not clash
    assert "delay_8.stage_0" in everything and "delay_8_2.stage_1" in everything


def test_blocks_in_blocks_and_the_macro_model():
    inner = Chain([Block(Delay(8, memory=True), "with_memory") for _ in range(2)])
    design = emit_design(Chain([Block(inner, "inner")]), "outer")
    assert list(design) == ["outer.v", "inner.v", "with_memory.v", "nncosim_sram.v"]
    assert "module nncosim_sram" in design["nncosim_sram.v"]


def test_same_design_same_text():
    def once():
        return emit_design(Chain([Block(Delay(8, n), f"delay_{n}") for n in (3, 1, 2)]), "chain")
    first = once()
    assert first == once()
    assert not any("/" in line and ".py" in line for text in first.values() for line in text.splitlines())


def test_port_names():
    component = wiring.Component({"a": In(stream.Signature(4)).array(2), "b": Out(stream.Signature(4))})
    component.elaborate = lambda platform: Module()
    header = emit(component, "x").partition(";")[0]
    assert set(re.findall(r"\w+", header.partition("(")[2])) == {
        "clk", "rst", "a__0__payload", "a__0__valid", "a__0__ready", "a__1__payload", "a__1__valid", "a__1__ready",
        "b__payload", "b__valid", "b__ready"}


def test_one_name_for_two_designs_is_refused():
    with pytest.raises(HdlError, match=r"block 'd' stands for two different components: .*cycles.*own module name"):
        emit_design(Chain([Block(Delay(8), "d"), Block(Delay(8, 2), "d")]), "chain")
    with pytest.raises(HdlError, match="block 'chain' stands for two different components"):
        emit_design(Chain([Block(Delay(8), "chain")]), "chain")


def test_other_clock_domains_are_refused():
    class Fast(wiring.Component):
        o: Out(1)

        def elaborate(self, platform):
            m = Module()
            m.d.fast += self.o.eq(~self.o)
            return m
    with pytest.raises(HdlError, match="block: clock domain 'fast' is used; Fast has 'sync', and further"):
        emit(Fast(), "block")


class TwoClocks(wiring.Component):
    """Counts the cycles of both clocks; the fast one in a block."""

    clocks = ("fast",)

    def __init__(self):
        super().__init__({"slow_count": Out(16), "fast_count": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Block(_FastCounter(), "fast_counter")
        m.d.sync += self.slow_count.eq(self.slow_count + 1)
        m.d.comb += self.fast_count.eq(inner.count)
        return m


class _FastCounter(wiring.Component):
    clocks = ("fast",)

    def __init__(self):
        super().__init__({"count": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.d.fast += self.count.eq(self.count + 1)
        return m


def test_a_block_with_two_clocks():
    files = emit_design(TwoClocks(), "two_clocks")
    assert list(files) == ["two_clocks.v", "fast_counter.v"]
    for text in files.values():
        assert all(re.search(rf"input {port};", text) for port in ("clk", "rst", "fast_clk", "fast_rst"))
    with pytest.raises(HdlError, match="clock domain 'fast' is used; _SlowParent has 'sync', and further ones only"):
        emit_design(_SlowParent(), "parent")


class _SlowParent(wiring.Component):
    def __init__(self):
        super().__init__({"count": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Block(_FastCounter(), "fast_counter")
        m.d.comb += self.count.eq(inner.count)
        return m


def test_port_called_clk_is_refused():
    component = wiring.Component({"clk": In(1)})
    component.elaborate = lambda platform: Module()
    with pytest.raises(HdlError, match="x: port 'clk' clashes with a clock or reset port"):
        emit(component, "x")


def test_a_block_simulates_as_what_it_holds():
    chain = Chain([Block(Delay(8, 2), "d") for _ in range(2)])
    top = Module()
    top.submodules.chain = chain
    top.domains.sync = ClockDomain()
    seen = []

    async def bench(ctx):
        for value in range(10):
            ctx.set(chain.i, value)
            await ctx.tick()
            seen.append(ctx.get(chain.o))

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]


def test_blocks_that_come_from_elsewhere_are_left_out():
    inner = Chain([Block(Delay(8, memory=True), "with_memory") for _ in range(2)])
    whole = emit_design(Chain([Block(inner, "inner")]), "outer")
    assert emit_design(Chain([Block(inner, "inner")]), "outer", without=("inner",)) == {"outer.v": whole["outer.v"]}
