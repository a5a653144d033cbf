# SPDX-License-Identifier: Apache-2.0
"""When everything that a cluster has issued has been read and written; and SIGNALs, which wait for that."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.timing import DRAIN_TO_SETTLED, ISSUE_TO_SETTLED, SIGNAL_CYCLES, drain_cycles, passes
from nncosim.platforms.j3dai import J3dai

__all__ = ["Settle"]

_SEMAPHORES = 8


class Settle(wiring.Component):
    """Counts down to the cycle in which the results of what was issued are in L1; SIGNALs are told no sooner.

    Ports:
        issue (In): a micro-operation is issued. drain (In): its job's results will be written, after `drain_cycles`
            (In), see `timing.drain_cycles`.
        settled (Out): all that was issued before has been read and written.
        signal (In, 8): SIGNAL of a semaphore executes, of one at most. signal_out (Out, 8): it is told.
    """

    def __init__(self, platform: J3dai):
        most = drain_cycles(platform.pes_per_ncb, platform.ncbs_per_requantizer, passes(1, 1, 0))
        self._most = most + DRAIN_TO_SETTLED
        super().__init__({
            "issue": In(1), "drain": In(1), "drain_cycles": In(range(most + 1)), "settled": Out(1),
            "signal": In(_SEMAPHORES), "signal_out": Out(_SEMAPHORES),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(range(self._most + 1))  # cycles until everything is settled
        due, told = Signal.like(left, name="due"), self.signal.any()
        m.d.comb += [self.settled.eq(left == 0), due.eq(Mux(left > SIGNAL_CYCLES, left, SIGNAL_CYCLES))]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(self.issue & (left < ISSUE_TO_SETTLED)):
            m.d.sync += left.eq(ISSUE_TO_SETTLED - 1)
        with m.If(self.drain):
            m.d.sync += left.eq(self.drain_cycles + (DRAIN_TO_SETTLED - 1))
        with m.If(told):  # the next SIGNAL is told a cycle later
            m.d.sync += left.eq(due)

        # Number k is told in k cycles.
        tokens = [Signal(1 + 3, name=f"token{k}") for k in range(self._most + 1)]
        number = Signal(range(_SEMAPHORES))
        m.d.comb += number.eq(Cat(
            Cat(self.signal[k] for k in range(_SEMAPHORES) if k >> bit & 1).any() for bit in range(3)))
        for k, token in enumerate(tokens):
            later = tokens[k + 1] if k < self._most else 0
            m.d.sync += token.eq(Mux(told & (due == k + 1), Cat(1, number), later))
        semaphores = Array([self.signal_out[k] for k in range(_SEMAPHORES)])
        with m.If(tokens[0][0]):
            m.d.comb += semaphores[tokens[0][1:]].eq(1)
        return m
