# SPDX-License-Identifier: Apache-2.0
"""The cocotb driver: results, failures, event log, waveforms, arguments."""

import os
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, Timer
from nncosim.tb.backdoor import attach
from nncosim.tb.cocotb_bench import FreeClock, arguments, reset, rng, seed, start_clock
from nncosim.tb.cocotb_runner import run_cocotb
from nncosim.tb.errors import BenchError, CocotbError
from nncosim.tb.model import Model
from nncosim.tb.verilate import build
from vcdvcd import VCDVCD

EVENT = np.dtype([("cycle", "<u8"), ("value", "<u8"), ("a", "<u8"), ("b", "<u8")])
COUNTER = """
module counter(input clk, input rst, input [7:0] add, input fatal, output reg [31:0] count, output done);
    `include "eventlog.svh"
    int limit = 1000;
    reg [63:0] cycle = 0;
    assign done = count >= limit;
    initial void'($value$plusargs("limit=%d", limit));
    always @(posedge clk) begin
        cycle <= cycle + 1;
        count <= rst ? 0 : count + 32'(add);
        if (count[4:0] == 0) nncosim_log4(1, cycle, 64'(count), 0, 0);
        if (fatal) $fatal(1, "counter broke");
    end
endmodule
"""


@pytest.fixture(scope="module")
def built():
    return build({"counter.sv": COUNTER}, "counter")


def clock(dut) -> None:
    if arguments().get("free", True):
        FreeClock(dut.clk, 10).start()
    else:
        start_clock(dut)


@cocotb.test()
async def counts(dut) -> None:
    clock(dut)
    await reset(dut)
    dut.add.value = 8
    await RisingEdge(dut.done)
    await FallingEdge(dut.clk)
    assert dut.count.value == arguments()["expected"]
    events = attach().log(1, EVENT)
    np.save("events.npy", events)


@cocotb.test()
async def fails(dut) -> None:
    assert seed() == -1, f"the seed is {seed()}, a number is {rng('x').randrange(1000)}"


@cocotb.test()
async def breaks(dut) -> None:
    clock(dut)
    dut.fatal.value = 1
    await Timer(1, "us")


@cocotb.test()
async def dies(dut) -> None:
    os._exit(3)


@cocotb.test()
async def free_clock_mistakes(dut) -> None:
    with pytest.raises(BenchError, match="'add' is no one-bit port of the top"):
        FreeClock(dut.add, 10).start()


@cocotb.test()
async def free_clock_stops(dut) -> None:
    free = FreeClock(dut.clk, 10)
    free.start()
    await Timer(102, "ns")
    assert attach().cycles == 10
    free.stop()
    await Timer(102, "ns")
    assert attach().cycles == 10
    free.start()
    await ClockCycles(dut.clk, 5)
    assert attach().cycles == 14  # complete ones


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("limit", [1000, 2000])
def test_same_cycles_and_events_as_the_direct_driver(built, tmp_path, free, limit):
    run_cocotb(built, __name__, tmp_path, tests=["counts"], plusargs=[f"limit={limit}"],
               arguments={"expected": limit, "free": free})
    with Model(built, plusargs=[f"limit={limit}"]) as model:
        model.reset()
        model.add = 8
        model.run_until("done")
        assert model.count == limit
        events = model.log(1, EVENT)
    in_cocotb = np.load(tmp_path / "events.npy")
    assert len(events) > 30 and np.array_equal(in_cocotb["value"][-30:], events["value"][-30:])
    assert np.array_equal(np.diff(in_cocotb["cycle"][-30:].astype(int)), np.diff(events["cycle"][-30:].astype(int)))


def test_failure_names_test_and_seed(built, tmp_path):
    with pytest.raises(CocotbError, match=r"1 of 1 cocotb tests of .*test_cocotb_runner failed \(seed 77\):\n"
                                          r"  fails: the seed is 77, a number is") as caught:
        run_cocotb(built, __name__, tmp_path, tests=["fails"], seed=77)
    assert caught.value.log == tmp_path / "cocotb.log" and caught.value.log.is_file()


def test_unchecked_results(built, tmp_path):
    results = run_cocotb(built, __name__, tmp_path, tests=["fails", "free_clock_mistakes"], check=False)
    assert [(test.name, test.failure is None) for test in results.tests] == [
        ("fails", False), ("free_clock_mistakes", True)]
    assert [test.name for test in results.failures] == ["fails"]


def test_free_clock(built, tmp_path):
    run_cocotb(built, __name__, tmp_path, tests=["free_clock_stops"])


@pytest.mark.parametrize("free", [True, False])
def test_fatal_in_the_design(built, tmp_path, free):
    with pytest.raises(CocotbError, match="counter broke"):
        run_cocotb(built, __name__, tmp_path, tests=["breaks"], arguments={"free": free})


def test_no_results(built, tmp_path):
    with pytest.raises(CocotbError, match=r"simulator of 'counter' ended with status 3 and no results"):
        run_cocotb(built, __name__, tmp_path, tests=["dies"])


def test_no_such_test(built, tmp_path):
    with pytest.raises(CocotbError, match="nothing"):
        run_cocotb(built, __name__, tmp_path, tests=["nothing"])


def test_waveform_window(tmp_path):
    traced = build({"counter.sv": COUNTER}, "counter", trace="vcd")
    run_cocotb(traced, __name__, tmp_path, tests=["counts"], arguments={"expected": 1000},
               trace=tmp_path / "x.vcd", trace_window=(10, 14))
    changes = VCDVCD(str(tmp_path / "x.vcd"))["counter.count[31:0]"].tv
    values = [int(value, 2) for _, value in changes]
    assert len(values) == 4 and set(np.diff(values)) == {8}


def test_waveform_needs_its_build(built, tmp_path: Path):
    with pytest.raises(CocotbError, match="was built without waveforms"):
        run_cocotb(built, __name__, tmp_path, trace=tmp_path / "x.vcd")
