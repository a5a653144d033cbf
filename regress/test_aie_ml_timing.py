# SPDX-License-Identifier: Apache-2.0
"""AIE-ML can clock: no path over 100 FO4, with SRAM access, wires and skew, from block to block of a tile.

What is mapped: see `nncosim.tb.aie_ml.timing`. The first run takes a minute, with `slow` ones several; results are
cached by content.
"""

from __future__ import annotations

import pytest
from nncosim.hdl.aie_ml import vmac
from nncosim.hdl.emit import emit_design
from nncosim.regress.planted import planted
from nncosim.tb.aie_ml import timing
from nncosim.tb.aie_ml.timing import BLOCKS, BUDGETS, LARGE, LIMIT, longest, paths_of
from nncosim.tb.timing.sta import Budget, TimingReport, time_design

SLOW = ("vectors", "accumulators", "stream switch", "memory tile")
"""Blocks that take a minute each to map."""


def _slow(names, slow):
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.mark.parametrize("block", _slow(BLOCKS, SLOW))
def test_paths(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No path of the block is longer than the limit; the three worst are printed."""
    paths = longest(block)
    assert paths, f"{block}: no path was found"
    with capsys.disabled():
        print("\n" + "\n".join(map(str, paths[:3])))
    assert [str(path) for path in paths if path.total > LIMIT] == []


def beyond(report: TimingReport, budget: Budget) -> dict[str, float]:
    """What of a block is later, or needs more, than its budget says."""
    found = {port: need for port, need in report.inputs.items() if need > budget.pins.get(port, budget.setup)}
    return found | {port: at for port, at in report.outputs.items() if at > budget.clock_to_output}


@pytest.mark.parametrize("name", _slow(LARGE, SLOW))
def test_what_is_cut_out_keeps_its_budget(name: str) -> None:
    """So the tile's netlist is timed as if it were inside; and a budget a little smaller would be told."""
    report, budget = LARGE[name](), BUDGETS[name]
    assert beyond(report, budget) == {}
    assert beyond(report, Budget(max(report.outputs.values()) - 0.1, budget.setup, budget.pins))
    assert beyond(report, Budget(budget.clock_to_output, max(report.inputs.values()) - 0.1))


def test_what_arrives_from_a_neighbour_goes_into_registers() -> None:
    """It leaves the other tile late: of what is allowed beyond a tile's ports most is for the wires."""
    needs = {port: need for port, need in timing.tile().inputs.items() if "_memory__" in port}
    assert {port.partition("__")[0] for port in needs} == {"west_memory", "east_memory"}
    assert max(needs.values()) <= timing.TO_REGISTERS


CORE, UNITS = "tile.core.", timing.BLOCKS["vector units, in"][2]
CROSSINGS = {
    "whether the core goes on": ("tile.core.fetch.", CORE), "a pointer": ("tile.core.agus.", CORE),
    "vector units": (UNITS, CORE), "a lock": ("tile.locks.", "tile.locks."), "a channel": ("tile.dma.", "tile.dma."),
    "an SRAM of data memory": ("tile.data.bank", "tile.data."),
}
"""What is decided at the end of a cycle: where, and in which block."""


@pytest.mark.parametrize("name", CROSSINGS)
def test_paths_come_from_other_blocks(name: str) -> None:
    """The tile's netlist has the chains through several blocks: the limit holds for them, not for parts of them."""
    ends, own = CROSSINGS[name]
    starts = {path.start for path in timing.tile().between(ends=ends)}
    assert any(start.startswith("tile.") and not start.startswith(own) for start in starts)


def test_a_missing_register_is_noticed() -> None:
    """A lane that multiplies operands in the cycle in which they come."""
    right, wrong = "m.d.sync += held.eq(Cat(value", "m.d.comb += held.eq(Cat(value"
    module = planted(vmac, right, wrong)
    source = emit_design(module.DotLane(1), "aie_ml_lane_spoilt")
    paths = paths_of("spoilt", time_design(source, "aie_ml_lane_spoilt"))
    assert paths[0].total > LIMIT
