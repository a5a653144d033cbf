# SPDX-License-Identifier: Apache-2.0
"""`FreeClock`s of one simulation, each started and stopped on its own: what counts their cycles, limits, waveforms,
mistakes; and chips with several clocks under both drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cocotb
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.simtime import TimeUnit, get_sim_time
from cocotb.triggers import Event, ReadOnly, Timer
from nncosim.hdl.emit import emit_design
from nncosim.regress.test_clocks import (
    CASES,
    CYCLES,
    DOMAINS,
    PERIOD,
    PORTS,
    Counters,
    start_free,
    start_own,
    under_cocotb,
)  # fmt: skip
from nncosim.tb.cocotb_bench import FreeClock, arguments, reset, start_clock
from nncosim.tb.errors import BenchError, CocotbError
from nncosim.tb.run.drive import Begun, drive
from nncosim.tb.sim.backdoor import Backdoor, attach
from nncosim.tb.sim.cocotb_runner import run_cocotb
from nncosim.tb.sim.model import OtherClock
from nncosim.tb.sim.verilate import BuiltModel, build
from vcdvcd import VCDVCD


@pytest.fixture(scope="module")
def built() -> BuiltModel:
    return build(emit_design(Counters(), "counters"), "counters", trace="vcd")


@cocotb.test()
async def come_and_go(dut) -> None:
    """Each is started and stopped on its own; the cycles are those of the one that was started first."""
    main, fast, odd = FreeClock(dut.clk, 10), FreeClock(dut.fast_clk, 4), FreeClock(dut.odd_clk, 6)

    def counts() -> tuple[int, ...]:
        return (*(int(getattr(dut, name).value) for name in DOMAINS), attach().cycles)

    main.start()
    fast.start()
    await Timer(101, "ns")
    assert counts() == (10, 25, 0, 10)
    odd.start()
    main.stop()
    await Timer(100, "ns")
    assert counts() == (10, 50, 17, 10)
    main.start()
    await Timer(98, "ns")  # high: the last of its cycles has not ended
    assert counts() == (20, 75, 33, 19)
    main.stop()
    main.stop()
    main.start()
    await Timer(1, "ns")
    assert counts()[0::3] == (20, 20)
    await Timer(5, "ns")
    assert counts()[0::3] == (21, 20)


@cocotb.test()
async def none_runs_any_more(dut) -> None:
    """The test before has left clocks running."""
    before = [int(getattr(dut, name).value) for name in DOMAINS]
    await Timer(100, "ns")
    assert [int(getattr(dut, name).value) for name in DOMAINS] == before
    cycles = attach().cycles
    FreeClock(dut.odd_clk, 6).start()
    await Timer(61, "ns")
    assert attach().cycles == cycles + 10


@cocotb.test()
async def rises_at_once(dut) -> None:
    FreeClock(dut.clk, 10, phase=0).start()
    FreeClock(dut.odd_clk, 10, phase=0).start()
    await Timer(29, "ns")
    assert [int(getattr(dut, name).value) for name in (*DOMAINS, "seen")] == [3, 0, 3, 0]


@cocotb.test()
async def mistakes(dut) -> None:
    FreeClock(dut.clk, 10).start()
    with pytest.raises(BenchError, match="'clk' has a FreeClock that runs; stop that one"):
        FreeClock(dut.clk, 4).start()
    for wide in (dut.slow, dut.odd_trail):
        with pytest.raises(BenchError, match=f"'{wide._name}' is no one-bit input of the top"):
            FreeClock(wide, 10).start()
    wrong: list[tuple[float, TimeUnit]] = [(3, "ps"), (0, "ns"), (-2, "ns"), (3.0001, "ns"), (2.5, "step")]
    for period, unit in wrong:
        with pytest.raises(BenchError, match=f"FreeClock of 'fast_clk': a period of {period} {unit}"):
            FreeClock(dut.fast_clk, period, unit)
    for phase in (-1, 0.0001):
        with pytest.raises(BenchError, match=f"FreeClock of 'fast_clk': a phase of {phase} ns"):
            FreeClock(dut.fast_clk, 10, phase=phase)
    with pytest.raises(BenchError, match="has no port 'faster_clk'; ports: clk, fast"):
        start_clock(dut, port="faster_clk")
    with pytest.raises(BenchError, match="has no port 'slow_rst'"):
        await reset(dut, clocks=("clk", "slow_clk"))
    fast = FreeClock(dut.fast_clk, 10)
    await ReadOnly()
    with pytest.raises(BenchError, match="'fast_clk': a clock cannot be started in the ReadOnly phase"):
        fast.start()
    await Timer(96, "ns")
    assert (int(dut.slow.value), int(dut.fast.value)) == (10, 0)
    fast.start()
    await Timer(96, "ns")
    assert int(dut.fast.value) == 10


@cocotb.test()
async def resets(dut) -> None:
    """Of one clock, or of several for cycles of the first; cocotb's own clock on a port that is named."""
    FreeClock(dut.clk, 10).start()
    start_clock(dut, 4, port="fast_clk")
    FreeClock(dut.odd_clk, 6).start()
    await Timer(99, "ns")
    await reset(dut, clocks=("fast_clk",))
    assert int(dut.fast.value) <= 1 and int(dut.slow.value) > 9 and int(dut.odd.value) > 15
    await reset(dut, 4, ("clk", "odd_clk"))
    assert int(dut.slow.value) == int(dut.odd.value) == 0 < int(dut.fast.value)
    await Timer(101, "ns")
    assert int(dut.slow.value) == 10


def test_clocks_of_one_simulation(built: BuiltModel, tmp_path) -> None:
    tests = ("come_and_go", "none_runs_any_more", "rises_at_once", "mistakes", "resets")
    for order in (tests[:2], tests[2:3], tests[3:4], tests[4:]):
        run_cocotb(built, __name__, tmp_path, tests=order)


@cocotb.test()
async def waits(dut) -> None:
    kinds = {"free": start_free, "own": start_own}
    for name, kind, period in arguments()["clocks"]:
        kinds[kind](dut, PORTS[name], period, period // 2)
        await Timer(1, "ns")
    try:
        await Event().wait()
    finally:
        Path("ended").write_text(str(get_sim_time("step")))


@pytest.mark.parametrize("clocks", [
    [("fast", "free", 4_000), ("slow", "free", PERIOD)], [("slow", "free", PERIOD), ("fast", "free", 4_000)],
    [("slow", "free", PERIOD), ("fast", "own", 4_000)],
])  # fmt: skip
def test_the_limit_is_of_the_clock_that_is_started_first(built: BuiltModel, tmp_path, clocks) -> None:
    with pytest.raises(CocotbError, match="has not ended within 100 clock cycles"):
        run_cocotb(built, __name__, tmp_path, tests=["waits"], arguments={"clocks": clocks}, limit_cycles=100)
    assert int((tmp_path / "ended").read_text()) == 100 * clocks[0][2]


@pytest.mark.parametrize("window", [None, (4, 9)])
def test_the_waveform_of_a_cocotb_run_shows_each_edge(built: BuiltModel, tmp_path, window) -> None:
    path, clocks = tmp_path / "w.vcd", CASES["2:3:5"]
    under_cocotb(built, tmp_path, clocks, trace=path, trace_window=window)
    wave = VCDVCD(str(path))
    # A cycle of the main clock ends with its falling edge, half a period after the direct driver's would begin.
    first, last = (number * PERIOD for number in window) if window else (-1, CYCLES * PERIOD + PERIOD // 2 - 1)
    for name, (period, _) in clocks.items():
        signal = next(signal for signal in wave.signals if signal.endswith(f".{PORTS[name]}"))
        edges = [PERIOD // 2 + number * period // 2 for number in range(2 * (CYCLES + 1) * PERIOD // period)]
        want = [(time, str(1 - number % 2)) for number, time in enumerate(edges) if first < time <= last]
        found = wave[signal].tv
        assert found[-len(want):] == want and len(found) <= len(want) + 1  # and how it is at first


# A chip whose engine has a clock of its own.


class Worker(wiring.Component):
    """Counts `work` in 37 edges of the fast clock, once for each `go`; `sum` adds up what the main clock counted."""

    clocks = ("fast",)

    def __init__(self) -> None:
        super().__init__({"go": In(1), "stopped": Out(1), "failed": Out(1), "work": Out(16), "sum": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles, left = Signal(16), Signal(6)
        m.d.sync += cycles.eq(cycles + 1)
        with m.If(left != 0):
            m.d.fast += [left.eq(left - 1), self.work.eq(self.work + 1), self.sum.eq(self.sum.rotate_left(3) ^ cycles)]
            m.d.fast += self.stopped.eq(left == 1)
        with m.Elif(self.go):
            m.d.fast += [left.eq(37), self.stopped.eq(0)]
        return m


@dataclass(frozen=True)
class Work:
    """A `nncosim.tb.run.drive.Chip`."""

    failed: ClassVar[Sequence[str]] = ("failed",)
    probes: ClassVar[Sequence[str]] = ("work", "sum")

    other_clocks: Mapping[str, OtherClock]
    period_ps: int = PERIOD
    inferences: int = 5

    def attach(self, memories: Backdoor, seed: int) -> _Session:
        return _Session(memories)


class _Session:
    held: Mapping[str, int] = {}

    def __init__(self, memories: Backdoor):
        self._memories = memories

    def begin(self, number: int, read: Callable[[str], int]) -> Begun[list[int]]:
        return Begun({}, ("go",), [read("work"), read("sum")])

    def take(self, begun: Begun[list[int]]) -> list[int]:
        return [*begun.known, self._memories.cycles]


@pytest.mark.parametrize("clock", [PERIOD, 4_000, (7_000, 0), (7_000, 3_500), (6_000, 9_999)])
def test_both_drivers_run_a_chip_whose_engine_has_its_own_clock(clock) -> None:
    worker = build(emit_design(Worker(), "worker"), "worker")
    direct, cocotbs = (drive(worker, Work({"fast_clk": clock}), driver, 1000, 1) for driver in ("direct", "cocotb"))
    assert direct == cocotbs and direct.probes["work"] == 5 * 37 and len(direct.raw) == 5
