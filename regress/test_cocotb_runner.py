# SPDX-License-Identifier: Apache-2.0
"""The cocotb driver: results, failures, event log, waveforms, arguments."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cocotb
import cocotb_tools.config
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, Timer
from nncosim.tb.cocotb_bench import FreeClock, arguments, reset, rng, seed, start_clock
from nncosim.tb.errors import BenchError, CocotbError
from nncosim.tb.sim.backdoor import attach
from nncosim.tb.sim.cocotb_runner import run_cocotb
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build
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
async def sees_libraries(dut) -> None:
    first, *others = os.environ["LD_LIBRARY_PATH"].split(os.pathsep)
    assert Path(first) == cocotb_tools.config.libs_dir
    assert others == [arguments()["mine"]]


@cocotb.test()
async def waits_for_ever(dut) -> None:
    Clock(dut.clk, 10, unit="ns").start() if arguments()["own"] else clock(dut)
    cocotb.start_soon(also_waits(dut))
    await RisingEdge(dut.done)


async def also_waits(dut) -> None:
    await FallingEdge(dut.fatal)


@cocotb.test()
async def free_clock_mistakes(dut) -> None:
    with pytest.raises(BenchError, match="'add' is no one-bit input of the top"):
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


@pytest.mark.parametrize("own", [False, True])
def test_a_bench_that_waits_for_ever_is_stopped(built, tmp_path, own):
    with pytest.raises(CocotbError) as caught:
        run_cocotb(built, __name__, tmp_path, tests=["waits_for_ever"], arguments={"own": own}, limit_cycles=3000)
    text = str(caught.value)
    assert "has not ended within 3000 clock cycles" in text
    assert re.search(r"waits_for_ever waits for RisingEdge\(.*done.*runner.py:\d+: await Rising", text), text
    assert re.search(r"also_waits waits for FallingEdge\(.*fatal.*: await FallingEdge\(dut.fatal\)", text), text
    run_cocotb(built, __name__, tmp_path, tests=["counts"], arguments={"expected": 1000, "free": not own},
               limit_cycles=140)  # fmt: skip
    with pytest.raises(CocotbError, match="within 100 clock cycles"):
        run_cocotb(built, __name__, tmp_path, tests=["counts"], arguments={"expected": 1000}, limit_cycles=100)


def test_a_log_that_is_named_stays(built, tmp_path):
    kept = tmp_path / "kept" / "x.log"
    with tempfile.TemporaryDirectory() as folder, pytest.raises(CocotbError) as caught:
        run_cocotb(built, __name__, Path(folder), tests=["dies"], keep_log=kept)
    assert str(caught.value).endswith(f"full log: {kept}") and caught.value.log == kept and "cocotb" in kept.read_text()


SIMULATOR = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from nncosim.regress.test_cocotb_runner import COUNTER, build, run_cocotb
run_cocotb(build({"counter.sv": COUNTER}, "counter"), "nncosim.regress.test_cocotb_runner", Path(sys.argv[1]),
           tests=["waits_for_ever"], arguments={"own": False}, limit_cycles=None)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_simulator_ends_with_what_started_it(built, tmp_path, number):
    process = subprocess.Popen([sys.executable, "-c", SIMULATOR, str(tmp_path), str(Path(__file__).parent)])
    log = tmp_path / "cocotb.log"
    while not (log.is_file() and "running" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    simulators = children(process.pid)
    assert simulators
    process.send_signal(number)
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in simulators):
        time.sleep(0.05)


def children(parent: int) -> list[str]:
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


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


def test_the_users_libraries_stand_behind_cocotbs(built, tmp_path):
    """A simulation names no folder of cocotb's, so a caller's search path is added to, not put in its place."""
    run_cocotb(built, __name__, tmp_path, tests=["sees_libraries"], environment={"LD_LIBRARY_PATH": str(tmp_path)},
               arguments={"mine": str(tmp_path)})


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
