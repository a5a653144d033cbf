# SPDX-License-Identifier: Apache-2.0
"""How a job is drained: every value of a MAC's fields."""

import itertools
from types import ModuleType
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai import operands
from nncosim.hdl.j3dai.isa import Drain, Mac
from nncosim.regress.block_bench import simulate
from nncosim.regress.planted import planted


class Mode(wiring.Component):
    """`drain_mode` as a block."""

    def __init__(self, module: ModuleType):
        self.module = module
        super().__init__({"mac": In(Mac), "odd": In(1), "keeps": Out(1), "adds": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        keeps, adds = self.module.drain_mode(self.mac, self.odd)
        m.d.comb += [self.keeps.eq(keeps), self.adds.eq(adds)]
        return m


EXPECTED = {
    (Drain.WRITE, 0): (0, 0), (Drain.WRITE, 1): (0, 0), (Drain.KEEP, 0): (1, 0), (Drain.KEEP, 1): (1, 0),
    (Drain.ADD, 0): (0, 1), (Drain.ADD, 1): (0, 1), (Drain.PAIR, 0): (1, 0), (Drain.PAIR, 1): (0, 1),
}  # fmt: skip
"""(only kept, added to a kept one). Manual, section 2.3: a pair keeps its first job and adds its second one."""


def differences(module: ModuleType) -> list[str]:
    dut, bad = Mode(module), []

    async def bench(ctx: Any) -> None:
        for (drain, odd), others in itertools.product(EXPECTED, (0, 1)):
            ctx.set(dut.mac, {"drain": drain, "pset": others, "wide_x": others, "wide_m": others})
            ctx.set(dut.odd, odd)
            got = (ctx.get(dut.keeps), ctx.get(dut.adds))
            if got != EXPECTED[drain, odd]:
                bad.append(f"{drain.name}, job {odd}: keeps and adds {got}, expected {EXPECTED[drain, odd]}")

    simulate(dut, bench)
    return bad


def test_every_mode_of_a_drain() -> None:
    assert not differences(operands)


@pytest.mark.parametrize("right, wrong", [
    ("(pair & ~odd)", "(pair & odd)"), ("(mac.drain == Drain.ADD) |", "(mac.drain == Drain.KEEP) |"),
    ("mac.drain == Drain.PAIR", "mac.drain != Drain.WRITE"),
])  # fmt: skip
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(operands, right, wrong))
