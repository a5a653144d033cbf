# SPDX-License-Identifier: Apache-2.0
"""Designs with several clocks under the direct driver: edges at their times, in waveforms and in saved states too."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from nncosim.hdl.emit import emit_design
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build
from vcdvcd import VCDVCD

PERIOD = 10_000


class Counters(wiring.Component):
    """A counter for each clock; `seen`: the fast one as the main clock samples it."""

    clocks = ("fast", "odd")

    def __init__(self) -> None:
        super().__init__({"slow": Out(16), "fast": Out(16), "odd": Out(16), "seen": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += [self.slow.eq(self.slow + 1), self.seen.eq(self.fast)]
        m.d.fast += self.fast.eq(self.fast + 1)
        m.d.odd += self.odd.eq(self.odd + 1)
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
    for clocks in ({"fast_clk": 3}, {"fast_clk": 0}, {"slow": 4}, {"nothing": 4}):
        with pytest.raises(BenchError, match=r"expected a one-bit port of .*fast_clk.* an even number of picoseconds"):
            Model(built, other_clocks=clocks)
