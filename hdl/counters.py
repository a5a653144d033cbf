# SPDX-License-Identifier: Apache-2.0
"""Performance counters of an engine: what it did in each cycle.

An engine registers its state before it is counted, with `no_state` at reset: its counters are one cycle late, and add
up to the cycles since reset less one.
"""

import enum

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["COUNTER_BITS", "EngineCounters", "no_state", "state_bits"]

COUNTER_BITS = 32


def state_bits(counters: type[enum.IntEnum]) -> int:
    """Bits of a state: one more value than there are counters."""
    return len(counters).bit_length()


def no_state(counters: type[enum.IntEnum]) -> int:
    """The state in which nothing is counted."""
    return (1 << state_bits(counters)) - 1


class EngineCounters(wiring.Component):
    """Counts, for each of `counters` (numbered from 0), the cycles since reset in which ``state`` had its value.

    Ports:
        state: The counter of this cycle; any other value counts nowhere.
        counters: 32 bits each, counter k at bits 32 k; wraps.
    """

    def __init__(self, counters: type[enum.IntEnum]) -> None:
        self._names = counters
        super().__init__({"state": In(state_bits(counters)), "counters": Out(COUNTER_BITS * len(counters))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for counter in self._names:
            value = Signal(COUNTER_BITS, name=counter.name.lower())
            with m.If(self.state == counter.value):
                m.d.sync += value.eq(value + 1)
            m.d.comb += self.counters.word_select(counter.value, COUNTER_BITS).eq(value)
        return m
