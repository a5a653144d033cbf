# SPDX-License-Identifier: Apache-2.0
"""Designs with several clocks, under the direct driver and under cocotb with either kind of clock.

Edges are at their times, in waveforms and in saved states too, and every register samples what was before all edges of
its time.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from cocotb.clock import Clock
from cocotb.triggers import ReadWrite, RisingEdge, Timer
from nncosim.hdl.emit import emit_design
from nncosim.tb.cocotb_bench import FreeClock, arguments
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.cocotb_runner import run_cocotb
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build
from vcdvcd import VCDVCD

PERIOD = 10_000
DOMAINS = ("slow", "fast", "odd")
PORTS = {"slow": "clk", "fast": "fast_clk", "odd": "odd_clk"}
SHOWN = (*DOMAINS, *(f"{name}_trail" for name in DOMAINS))


class Counters(wiring.Component):
    """A counter for each clock; `seen`: the fast one as the main clock samples it; `_trail`: a checksum of all that a
    clock has sampled of the other two."""

    clocks = ("fast", "odd")

    def __init__(self) -> None:
        trails = {f"{name}_trail": Out(32) for name in DOMAINS}
        super().__init__({"slow": Out(16), "fast": Out(16), "odd": Out(16), "seen": Out(16), **trails})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.seen.eq(self.fast)
        for name in DOMAINS:
            count, trail = getattr(self, name), getattr(self, f"{name}_trail")
            others = Cat(getattr(self, other) for other in DOMAINS if other != name)
            m.d["sync" if name == "slow" else name] += [count.eq(count + 1), trail.eq(trail.rotate_left(7) ^ others)]
        return m


@pytest.fixture(scope="module")
def built() -> BuiltModel:
    return build(emit_design(Counters(), "counters"), "counters", trace="vcd")


def edges(period: int, cycles: int) -> int:
    """Rising edges at 0, period, 2 * period, ... before the end of so many main cycles."""
    return -(-cycles * PERIOD // period)


@pytest.mark.parametrize(("fast", "odd"), [(5_000, 14_000), (2_500, 10_000), (3_334, 25_002), (20_000, 2)])
def test_every_clock_has_its_own_period(built: BuiltModel, fast: int, odd: int) -> None:
    with Model(built, period_ps=PERIOD, other_clocks={"fast_clk": fast, "odd_clk": odd}) as model:
        for cycles in range(1, 12):
            model.tick()
            found = model.slow, model.fast, model.odd
            assert found == (cycles, edges(fast, cycles) & 0xFFFF, edges(odd, cycles) & 0xFFFF)
            # Sampled at the main clock's edge, which an edge of the fast one at the same time does not change yet.
            assert model.seen == edges(fast, cycles - 1)


def test_a_reset_holds_all_of_them(built: BuiltModel) -> None:
    with Model(built, period_ps=PERIOD, other_clocks={"fast_clk": 5_000, "odd_clk": 40_000}) as model:
        model.tick(9)
        model.reset(cycles=4)
        assert (model.slow, model.fast, model.odd) == (0, 0, 0)


def test_a_saved_state_goes_on_at_the_same_edges(built: BuiltModel) -> None:
    clocks = {"fast_clk": 7_000, "odd_clk": 26_000}
    with Model(built, period_ps=PERIOD, other_clocks=clocks) as model:
        model.tick(7)
        state = model.save()
        model.tick(20)
        want = model.slow, model.fast, model.odd, model.seen
        model.restore(state)
        model.tick(20)
        assert (model.slow, model.fast, model.odd, model.seen) == want
    with Model(built) as model, pytest.raises(BenchError, match="or to a model with other clocks"):
        model.restore(state)


def test_the_waveform_shows_each_edge(built: BuiltModel, tmp_path) -> None:
    with Model(built, period_ps=PERIOD, other_clocks={"fast_clk": 4_000, "odd_clk": 14_000}) as model:
        model.trace(tmp_path / "w.vcd")
        model.tick(7)
        model.trace_off()
    wave = VCDVCD(str(tmp_path / "w.vcd"))
    name = next(signal for signal in wave.signals if signal.endswith("odd_clk"))
    rises = [time for time, value in wave[name].tv if value == "1"]
    assert [time - rises[0] for time in rises] == [14_000 * k for k in range(5)]


def test_clocks_that_cannot_be(built: BuiltModel) -> None:
    wrong = ({"fast_clk": 3}, {"fast_clk": 0}, {"slow": 4}, {"nothing": 4}, {"fast_clk": (4, -2)}, {"clk": 4})
    for clocks in wrong:
        with pytest.raises(BenchError, match=r"expected a one-bit port of .*fast_clk.* an even number of picoseconds"):
            Model(built, other_clocks=clocks)


# The same design under every driver, held against the times of the edges.

CASES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "2:3:5": {"slow": (PERIOD, 0), "fast": (15_000, 0), "odd": (6_000, 0)},
    "phases": {"slow": (PERIOD, 0), "fast": (5_000, 2_500), "odd": (15_000, 5_000)},
    "all alike": {"slow": (PERIOD, 0), "fast": (PERIOD, 0), "odd": (PERIOD, 0)},
    "steps apart": {"slow": (PERIOD, 0), "fast": (PERIOD, 1), "odd": (26, 3)},
}
"""Domain to period and phase: from the first rising edge of the main clock to that of this one."""
CYCLES = 24


def rows(clocks: Mapping[str, tuple[int, int]], late: Sequence[str] = ()) -> list[list[int]]:
    """What `Counters` shows at the end of each main cycle. `late`: domains whose edges come after others of a time."""
    state = dict.fromkeys(SHOWN, 0)
    rises = sorted((time, name in late, name) for name, (period, phase) in clocks.items()
                   for time in range(phase, CYCLES * PERIOD, period))  # fmt: skip
    found: list[list[int]] = []
    while rises:
        time, after, _ = rises[0]
        found += [list(state.values())] * (time // PERIOD - len(found))
        before = dict(state)
        while rises and rises[0][:2] == (time, after):
            name = rises.pop(0)[2]
            low, high = (before[other] for other in DOMAINS if other != name)
            trail = before[f"{name}_trail"]
            state[name] = (before[name] + 1) & 0xFFFF
            state[f"{name}_trail"] = ((trail << 7 | trail >> 25) & 0xFFFFFFFF) ^ (low | high << 16)
    return [*found, *[list(state.values())] * (CYCLES - len(found))]


def start_free(dut, port: str, period: int, first: int) -> None:
    FreeClock(getattr(dut, port), period, "ps", phase=first).start()


def start_own(dut, port: str, period: int, first: int) -> None:
    async def later() -> None:
        await Timer(first, "ps")
        Clock(getattr(dut, port), period, "ps").start()
    cocotb.start_soon(later())


@cocotb.test()
async def shows(dut) -> None:
    """Leaves what the design shows at the end of each cycle, and the edges that tasks have seen."""
    given, edges = arguments(), dict.fromkeys(DOMAINS, 0)

    async def count(name: str) -> None:
        while True:
            await RisingEdge(getattr(dut, PORTS[name]))
            assert int(getattr(dut, name).value) == edges[name], "a rising edge shows what was before it"
            edges[name] += 1

    for name, (period, phase) in given["clocks"].items():
        (start_own if name in given["own"] else start_free)(dut, PORTS[name], period, PERIOD // 2 + phase)
        if given["watched"]:
            cocotb.start_soon(count(name))
    await Timer(PERIOD // 2 - 1, "ps")
    found = []
    for _ in range(CYCLES):
        await Timer(PERIOD, "ps")
        await ReadWrite()  # an edge in this last step of the cycle is part of it
        found.append([int(getattr(dut, name).value) for name in SHOWN])
    Path("found.json").write_text(json.dumps([found, list(edges.values())]))


def under_cocotb(built: BuiltModel, folder: Path, clocks: Mapping[str, tuple[int, int]], own: Sequence[str] = (),
                 watched: bool = False, **options: Any) -> list[list[int]]:
    run_cocotb(built, __name__, folder, tests=["shows"], **options,
               arguments={"clocks": clocks, "own": own, "watched": watched})
    found, edges = json.loads((folder / "found.json").read_text())
    assert edges == (found[-1][:3] if watched else [0, 0, 0])
    return list(found)


@pytest.mark.parametrize("case", CASES)
def test_the_direct_driver_shows_what_the_edges_say(built: BuiltModel, case: str) -> None:
    others = {PORTS[name]: clock for name, clock in CASES[case].items() if name != "slow"}
    found = []
    with Model(built, period_ps=PERIOD, other_clocks=others) as model:
        for _ in range(CYCLES):
            model.tick()
            found.append([model[name] for name in SHOWN])
    assert found == rows(CASES[case])


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("own", [(), DOMAINS], ids=["free", "own"])
@pytest.mark.parametrize("case", CASES)
def test_so_does_cocotb_with_either_kind_of_clock(built: BuiltModel, tmp_path, case, own, watched) -> None:
    assert under_cocotb(built, tmp_path, CASES[case], own, watched) == rows(CASES[case])


def test_the_order_in_which_clocks_start_makes_no_difference(built: BuiltModel, tmp_path) -> None:
    clocks = dict(reversed(list(CASES["2:3:5"].items())))
    assert under_cocotb(built, tmp_path, clocks) == rows(clocks)


@pytest.mark.parametrize("own", [("slow",), ("fast", "odd")])
def test_of_both_kinds_cocotbs_own_come_after(built: BuiltModel, tmp_path, own) -> None:
    clocks = CASES["2:3:5"]
    assert under_cocotb(built, tmp_path, clocks, own) == rows(clocks, late=own) != rows(clocks)


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize(("period", "phase"), [(2, 0), (-2, 0), (0, 1)])
def test_a_half_period_or_a_phase_that_is_a_step_wrong_shows(built: BuiltModel, tmp_path, name, period, phase) -> None:
    right = CASES["2:3:5"]
    wrong = {**right, name: (right[name][0] + period, right[name][1] + phase)}
    assert under_cocotb(built, tmp_path, wrong) != rows(right)
