# SPDX-License-Identifier: Apache-2.0
"""The shared parts of RTL at sizes that are not J3DAI's."""

import enum

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.banks import rotate
from nncosim.hdl.counters import EngineCounters, no_state, state_bits
from nncosim.hdl.cv32e40p import HostMap
from nncosim.hdl.errors import HdlError
from nncosim.hdl.logic import pick
from nncosim.hdl.odometer import Odometer
from nncosim.hdl.registers import Register, c_header, connect_reads, connect_writes, packed, stored_registers
from nncosim.regress.block_bench import simulate


class Kind(enum.IntEnum):
    BUSY = 0
    WAIT_DATA = 1
    IDLE = 2


class Reg(enum.IntEnum):
    COUNT = 0
    LIMIT = 4
    STATUS = 8
    MORE = 12


REGISTERS = (Register(Reg.COUNT, "rw", "What was counted."), Register(Reg.LIMIT, "wo", "Starts."),
             Register(Reg.STATUS, "ro", "Bit 4: on."), Register(Reg.MORE, "rw", "And more."))  # fmt: skip


class Port(wiring.Component):
    """Two kinds of registers and one that is read only."""

    addr: In(8)
    r_en: In(1)
    r_data: Out(32)
    w_en: In(1)
    w_data: In(32)
    started: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stored = stored_registers(REGISTERS)
        on = Signal(init=1)
        connect_reads(m, self.addr, self.r_en, self.r_data, {**stored, Reg.STATUS: packed({4: on})})
        connect_writes(m, self.addr, self.w_en, self.w_data, stored, {Reg.LIMIT: self.started.eq(1)})
        return m


def test_registers_keep_what_is_written_and_start_what_is_told() -> None:
    port, seen = Port(), []
    top = 1 << 31

    async def bench(ctx):
        for reg in Reg:
            ctx.set(port.addr, reg)
            ctx.set(port.w_data, top | 7 + reg)
            ctx.set(port.w_en, 1)
            seen.append(ctx.get(port.started))
            await ctx.tick()
        ctx.set(port.w_en, 0)
        for at in (*Reg, 16):
            ctx.set(port.addr, at)
            ctx.set(port.r_en, 1)
            await ctx.tick()
            seen.append(ctx.get(port.r_data))

    simulate(port, bench)
    assert seen == [0, 1, 0, 0, top | 7, 0, 16, top | 19, 0]


def test_the_header_names_another_machine() -> None:
    text = c_header("MINI", "registers of a machine", {"CORES": 8}, REGISTERS, 0x1A10_0000)
    assert "#define MINI_CORES 0x8u" in text and "#ifndef MINI_H" in text
    assert "#define MINI_LIMIT (*(volatile uint32_t *)0x1a100004u)" in text
    assert "#define MINI_STATUS (*(volatile const uint32_t *)0x1a100008u)" in text


def test_three_counters_take_two_bits() -> None:
    dut, states = EngineCounters(Kind), [0, 2, 2, 3, 1, 0, 0]
    assert (state_bits(Kind), no_state(Kind), len(dut.counters)) == (2, 3, 96)
    found = []

    async def bench(ctx):
        for state in states:
            ctx.set(dut.state, state)
            await ctx.tick()
        found.append(ctx.get(dut.counters))

    simulate(dut, bench)
    assert found == [3 | 1 << 32 | 2 << 64]


@pytest.mark.parametrize("count", [15, 63])
def test_an_odometer_of_short_counts(count: int) -> None:
    """One dimension, as far as its count can say; then it begins again."""
    dut = Odometer(1, 1, {"a": 16}, {"a": 8}, count_bits=count.bit_length())
    at = []

    async def bench(ctx):
        ctx.set(dut.dim_we, 1)
        ctx.set(dut.dim_count, count)
        ctx.set(dut.dim_step_a, -3)
        await ctx.tick()
        ctx.set(dut.dim_we, 0)
        ctx.set(dut.base_a, 1000)
        ctx.set(dut.base_we, 1)
        ctx.set(dut.base_rewind, 1)
        await ctx.tick()
        ctx.set(dut.base_we, 0)
        await ctx.tick()
        ctx.set(dut.advance, 1)
        for _ in range(count + 1):
            at.append(ctx.get(dut.at_a))
            await ctx.tick()

    simulate(dut, bench)
    assert at == [*(1000 - 3 * k for k in range(count)), 1000]


class Turned(wiring.Component):
    """Four words of six bits; `o`: all of them turned, `one`: the one at the amount."""

    i: In(24)
    amount: In(2)
    o: Out(24)
    one: Out(6)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = [self.i.word_select(k, 6) for k in range(4)]
        for k, word in enumerate(rotate(m, words, self.amount, "turned")):
            m.d.comb += self.o.word_select(k, 6).eq(word)
        m.d.comb += self.one.eq(pick(words, self.amount))
        return m


def test_words_turn_by_any_amount() -> None:
    dut, rng = Turned(), np.random.default_rng(1)

    async def bench(ctx):
        for amount in range(4):
            words = [int(word) for word in rng.integers(0, 64, 4)]
            ctx.set(dut.i, sum(word << 6 * k for k, word in enumerate(words)))
            ctx.set(dut.amount, amount)
            turned = [words[(k + amount) % 4] for k in range(4)]
            assert ctx.get(dut.o) == sum(word << 6 * k for k, word in enumerate(turned))
            assert ctx.get(dut.one) == words[amount]

    simulate(dut, bench)


@pytest.mark.parametrize(("dmem", "mmio"), [(0x3000, 0x10000), (0x1000, 0x11000), (0x1000, 0x1000)])
def test_a_map_that_no_bit_decodes(dmem: int, mmio: int) -> None:
    with pytest.raises(HdlError, match="powers of two"):
        HostMap(0, dmem, mmio)
