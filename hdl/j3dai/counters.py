# SPDX-License-Identifier: Apache-2.0
"""Performance counters of one engine.

Every engine registers its state before it counts, with `NO_STATE` at reset: all counters of the SoC are one cycle late,
and an engine's counters add up to the cycles since reset less one.
"""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.regs import Counter

__all__ = ["COUNTER_BITS", "NO_STATE", "EngineCounters"]

COUNTER_BITS = 32
NO_STATE = 7
"""State in which nothing is counted."""


class EngineCounters(wiring.Component):
    """Counts, for each `Counter`, the cycles since reset in which ``state`` had its value.

    Ports:
        state: The `Counter` of this cycle; any other value counts nowhere.
        counters: 6 x 32 bits, counter k at bits 32 k; wraps.
    """

    def __init__(self) -> None:
        super().__init__({"state": In(3), "counters": Out(COUNTER_BITS * len(Counter))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for counter in Counter:
            value = Signal(COUNTER_BITS, name=counter.name.lower())
            with m.If(self.state == counter.value):
                m.d.sync += value.eq(value + 1)
            m.d.comb += self.counters.word_select(counter.value, COUNTER_BITS).eq(value)
        return m
