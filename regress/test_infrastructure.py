# SPDX-License-Identifier: Apache-2.0
# Ports declared by annotations that are shapes: mypy does not know them.
# mypy: disable-error-code="valid-type"
"""The test bench's own bench: a small block with SRAM and streams, through both drivers."""

import random

import cocotb
import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import ClockCycles, RisingEdge
from nncosim.hdl.emit import Block
from nncosim.hdl.sram import Sram
from nncosim.tb.cocotb_bench import FreeClock, arguments, reset, rng, seed, start_clock
from nncosim.tb.errors import CocotbError
from nncosim.tb.sim.backdoor import attach
from nncosim.tb.streams import Streams, random_pauses

DEPTH = 24


class Request(data.Struct):
    """One access of the table: adds `value` to word `address`."""

    address: 5
    value: 12


class Accumulate(wiring.Component):
    """Per request: sum = table[address] + value is written back and sent out. One request in three cycles.

    `bug` plants an error: "drop_ready" takes a request while one is in work, "unstable" changes a waiting sum.
    """

    i: In(stream.Signature(Request))
    o: Out(stream.Signature(32))

    def __init__(self, bug: str = ""):
        self.bug = bug
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = Sram(DEPTH, 32, 8)
        request, read, full = Signal(Request), Signal(), Signal()
        total = Signal(32)
        m.d.comb += [
            self.i.ready.eq(~read & ~full if self.bug != "drop_ready" else ~full),
            self.o.valid.eq(full), self.o.payload.eq(total),
            table.r_en.eq(self.i.valid & self.i.ready), table.r_addr.eq(self.i.payload.address),
            table.w_addr.eq(request.address), table.w_data.eq(table.r_data + request.value),
        ]
        m.d.sync += read.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [request.eq(self.i.payload), read.eq(1)]
        with m.If(read):
            m.d.comb += table.w_en.eq(-1)
            m.d.sync += [total.eq(table.w_data), full.eq(1)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += full.eq(0)
        if self.bug == "unstable":
            with m.If(self.o.valid & ~self.o.ready):
                m.d.sync += total.eq(total + 1)
        return m


class Pair(wiring.Component):
    """Two accumulators, emitted as one Verilog module."""

    a: In(stream.Signature(Request))
    b: In(stream.Signature(Request))
    x: Out(stream.Signature(32))
    y: Out(stream.Signature(32))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, source, sink in (("left", self.a, self.x), ("right", self.b, self.y)):
            m.submodules[name] = block = Block(Accumulate(), "accumulate_block")
            wiring.connect(m, wiring.flipped(source), block.i)
            wiring.connect(m, block.o, wiring.flipped(sink))
        return m


def stimuli(generator: random.Random, count: int) -> list[dict[str, int]]:
    return [{"address": generator.randrange(DEPTH), "value": generator.randrange(1 << 12)} for _ in range(count)]


def reference(requests: list[dict[str, int]], table: np.ndarray) -> list[int]:
    """What the sums must be; changes `table` as the block does."""
    sums = []
    for request in requests:
        table[request["address"]] += request["value"]
        sums.append(int(table[request["address"]]))
    return sums


@cocotb.test()
async def accumulates(dut) -> None:
    """Random requests under random pauses on both sides; the table is set and read through the back door."""
    (FreeClock(dut.clk, 10).start if arguments()["free_clock"] else lambda: start_clock(dut))()
    streams = Streams(dut, Accumulate())
    await reset(dut)
    table = attach().memory("table")
    expected = np.random.default_rng(seed()).integers(0, 1 << 24, DEPTH, dtype=np.uint32)
    table[:] = expected
    requests = stimuli(rng("requests"), 200)
    streams["i"].pause = random_pauses(rng("source"), arguments()["pause"])
    streams["o"].pause = random_pauses(rng("sink"), arguments()["pause"])
    streams["i"].put(requests)
    received = await streams["o"].receive(len(requests))
    assert received == reference(requests, expected)
    assert np.array_equal(table, expected)
    assert streams.monitors["o"].transfers == received
    assert streams.monitors["i"].transfers == requests


@cocotb.test()
async def edges_are_alike(dut) -> None:
    """A rising edge shows values from before it, whichever clock makes it."""
    (FreeClock(dut.clk, 10).start if arguments()["free_clock"] else lambda: start_clock(dut))()
    dut.i__valid.value = 0
    dut.o__ready.value = 0
    await reset(dut)
    dut.i__payload.value = 0
    dut.i__valid.value = 1
    await RisingEdge(dut.clk)
    assert dut.i__ready.value == 1
    dut.i__valid.value = 0
    await RisingEdge(dut.clk)
    assert (dut.i__ready.value, dut.o__valid.value) == (0, 0)
    await RisingEdge(dut.clk)
    assert dut.o__valid.value == 1
    await ClockCycles(dut.clk, 3)
    assert dut.o__valid.value == 1


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize("free_clock", [False, True])
def test_cocotb(rtl_bench, free_clock, pause):
    results = rtl_bench(Accumulate()).run(__name__, arguments={"free_clock": free_clock, "pause": pause})
    assert [test.name for test in results.tests] == ["accumulates", "edges_are_alike"]


@pytest.mark.parametrize("bug, message", [("drop_ready", "assert"), ("unstable", "payload changed")])
def test_cocotb_catches_a_planted_bug(rtl_bench, bug, message):
    with pytest.raises(CocotbError, match=message):
        rtl_bench(Accumulate(bug), name=f"bug_{bug}").run(
            __name__, tests=["accumulates"], arguments={"free_clock": True, "pause": 0.5})


def test_direct_driver(rtl_bench, rng):
    with rtl_bench(Accumulate()).model() as model:
        table = model.memory("table")
        assert table.shape == (DEPTH,) and table.dtype == np.uint32
        table[:] = expected = rng.integers(0, 1 << 24, DEPTH, dtype=np.uint32)
        model.o__ready = 1
        model.reset()
        requests = stimuli(random.Random(int(rng.integers(1 << 30))), 50)
        sums = []
        for request in requests:
            model["i__payload"] = request["address"] | request["value"] << 5
            model.i__valid = 1
            model.tick()
            model.i__valid = 0
            assert model.run_until("o__valid", max_cycles=10) == 1
            sums.append(model.o__payload)
            model.tick()
        assert sums == reference(requests, expected)
        assert np.array_equal(table, expected)


def test_blocks_are_emitted_once(rtl_bench):
    bench = rtl_bench(Pair())
    with bench.model() as model:
        assert sorted(model.memories) == ["pair.left.table", "pair.right.table"]
        model.memory("left.table")[:] = 10
        model.memory("right.table")[:] = 20
        model.x__ready = model.y__ready = 1
        model.reset()
        model.a__payload = model.b__payload = 3 << 5
        model.a__valid = model.b__valid = 1
        model.run_until("x__valid")
        assert (model.x__payload, model.y__payload) == (13, 23)
