# SPDX-License-Identifier: Apache-2.0
"""When everything issued is settled, and when SIGNALs are told: both outputs in every cycle, to the cycle."""

from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import settle
from nncosim.hdl.j3dai.timing import DRAIN_TO_SETTLED, ISSUE_TO_SETTLED, SIGNAL_CYCLES, drain_cycles, passes
from nncosim.regress.block_bench import garbage, simulate
from nncosim.regress.j3dai_block_bench import MACHINES, machine
from nncosim.regress.planted import planted

FEW, MANY = SIGNAL_CYCLES // 2, 3 * SIGNAL_CYCLES


class SettleBench:
    """The block beside two numbers: the cycle from which all is settled, and those in which SIGNALs are told."""

    def __init__(self, module: ModuleType, size: tuple[int, int, int], seed: int):
        platform = machine(*size[:2]).with_parameters(ncbs_per_requantizer=size[2])
        self.dut, self.rng = module.Settle(platform), np.random.default_rng(seed)
        self.lasts = [drain_cycles(platform.pes_per_ncb, size[2], passes(*kind)) for kind in ((0, 0, 0), (1, 0, 0),
                                                                                             (1, 1, 0))]  # fmt: skip
        self.bad: list[str] = []
        self.seen: Counter[str] = Counter()
        self.now = 0
        self.fresh()

    def fresh(self) -> None:
        """As after reset."""
        self.settled = self.ready = self.now  # `ready`: the next drain at the earliest
        self.told: dict[int, int] = {}

    async def cycle(self, ctx: Any, what: str = "") -> None:
        """One in which `what` happens: "issue", "drain" (of which the block is told of the issue too), "signal"."""
        dut, now = self.dut, self.now
        number, last = int(self.rng.integers(8)), int(self.rng.choice(self.lasts))
        garbage(ctx, self.rng, dut.drain_cycles)  # counts only with `drain`
        if what == "drain":
            ctx.set(dut.drain_cycles, last)
        for port, value in ((dut.issue, what in ("issue", "drain")), (dut.drain, what == "drain"),
                            (dut.signal, 1 << number if what == "signal" else 0)):
            ctx.set(port, value)
        got = (ctx.get(dut.settled), ctx.get(dut.signal_out))
        want = (int(now >= self.settled), self.told.pop(now, 0))
        if got != want:
            self.bad.append(f"cycle {now}: settled and signal_out are {got}, expected {want}")
        self.seen["told"] += want[1] != 0
        self._happens(what, number, last)
        await ctx.tick()
        self.now += 1

    def _happens(self, what: str, number: int, last: int) -> None:
        now = self.now
        if what == "issue":
            self.seen["issue while more is under way"] += self.settled > now + ISSUE_TO_SETTLED
            self.settled = max(self.settled, now + ISSUE_TO_SETTLED)
        elif what == "drain":
            self.seen["drain as close as may be"] += now == self.ready
            self.ready = now + last
            self.settled = now + last + DRAIN_TO_SETTLED
        elif what == "signal":
            self.seen["signal waits"] += self.settled > now + SIGNAL_CYCLES
            self.seen["signal while settled"] += self.settled <= now
            at = max(self.settled, now + SIGNAL_CYCLES)
            self.seen["signals one after the other"] += at - 1 in self.told
            self.told[at] = 1 << number
            self.settled = at + 1

    async def run(self, ctx: Any, reset: Any) -> None:
        for number in range(60):
            if number % 15 == 0:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                self.fresh()
            shares = self.rng.dirichlet((1, 1, 1, 1))
            for _ in range(int(self.rng.integers(1, 30))):
                what = ("", "issue", "drain", "signal")[int(self.rng.choice(4, p=shares))]
                await self.cycle(ctx, "issue" if what == "drain" and self.now < self.ready else what)
            for _ in range(int(self.rng.choice([0, FEW, MANY + max(self.lasts)]))):
                await self.cycle(ctx)
            if self.bad:
                return


def differences(module: ModuleType, size: tuple[int, int, int], seed: int) -> SettleBench:
    bench = SettleBench(module, size, seed)
    simulate(bench.dut, bench.run, reset=True)
    return bench


@pytest.mark.parametrize("size", [*((*size, 1) for size in MACHINES), (16, 8, 2)])
def test_every_output_in_every_cycle(size: tuple[int, int, int], seed: int) -> None:
    bench = differences(settle, size, seed)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"
    expected = ("told", "issue while more is under way", "drain as close as may be", "signal waits",
                "signal while settled", "signals one after the other")  # fmt: skip
    assert not [what for what in expected if bench.seen[what] < 2], bench.seen


@pytest.mark.parametrize("right, wrong", [
    ("(DRAIN_TO_SETTLED - 1)", "(DRAIN_TO_SETTLED - 2)"),
    ("left.eq(ISSUE_TO_SETTLED - 1)", "left.eq(ISSUE_TO_SETTLED)"),
    ("self.issue & (left < ISSUE_TO_SETTLED)", "self.issue"),
    ("Mux(left > SIGNAL_CYCLES, left, SIGNAL_CYCLES)", "left"),
    ("left.eq(due)", "left.eq(due - 1)"),
    ("due == k + 1", "due == k"),
    ("if k >> bit & 1", "if k >> bit & 3"),
    ("self._most = most + DRAIN_TO_SETTLED", "self._most = most"),
], ids=["drain", "issue", "issue shortens", "signal at once", "signals meet", "signal early", "number", "short"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(settle, right, wrong), (8, 4, 1), 1).bad
