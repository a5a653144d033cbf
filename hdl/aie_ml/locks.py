# SPDX-License-Identifier: Apache-2.0
"""The locks of a tile."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.hdl.logic import pick

__all__ = ["LOCKS", "REQUESTERS", "Locks", "request_of"]

LOCKS, REQUESTERS = 16, 6
"""Of a core tile. The requesters: the core, the east neighbour's core, S2MM 0 and 1, MM2S 0 and 1."""
VALUE_BITS = 6


def request_of(locks: int) -> wiring.Signature:
    """A request, as the requester sees it. It holds it until the cycle in which `grant`, combinational, is high: that
    one.

    Args:
        locks: how many there are, a power of two.
    """
    return wiring.Signature({
        "valid": Out(1), "lock": Out((locks - 1).bit_length()), "op": Out(LockOp), "value": Out(signed(7)),
        "grant": In(1),
    })  # fmt: skip


class Locks(wiring.Component):
    """Serves, of each cycle's requests, the first that can be. What is done holds from the next cycle on.

    Reset makes all of them 0. The fourth `op`, without a name, is never granted.

    Ports:
        request (In, array of `requesters`): `request_of`, the first one first.
        set (In): valid, lock, value: the configuration writes a lock; no request is granted in this cycle.
        values (Out, 6 bits, one a lock): for monitors.
        fault (Out): what is granted in this cycle leaves 0..63; the lock stays at the end that it leaves.

    Args:
        locks: a power of two.
    """

    request: list[wiring.PureInterface]
    set: wiring.PureInterface
    values: list[Signal]

    def __init__(self, locks: int = LOCKS, requesters: int = REQUESTERS):
        self.locks, self.requesters = locks, requesters
        self._bits = (locks - 1).bit_length()
        setting = wiring.Signature({"valid": Out(1), "lock": Out(self._bits), "value": Out(VALUE_BITS)})
        super().__init__({
            "request": In(request_of(locks)).array(requesters), "set": In(setting),
            "values": Out(VALUE_BITS).array(locks), "fault": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sums, can = [], Signal(self.requesters, name="can")
        for number, asked in enumerate(self.request):
            value = Signal(VALUE_BITS, name=f"held{number}")
            m.d.comb += value.eq(pick(self.values, asked.lock))
            allowed = Cat(value >= asked.value, value == asked.value, 1)
            m.d.comb += can[number].eq(asked.valid & allowed.bit_select(asked.op.as_value(), 1))
            sums.append(Mux(asked.op == LockOp.RELEASE, value + asked.value, value - asked.value))
        # Flat, AND and OR: who is granted is known late.
        for number, asked in enumerate(self.request):
            m.d.comb += asked.grant.eq(can[number] & ((can & (1 << number) - 1) == 0) & ~self.set.valid)
        lock, total = Signal(self._bits, name="served"), Signal(signed(9), name="total")
        m.d.comb += [lock.eq(self._granted([asked.lock for asked in self.request])), total.eq(self._granted(sums))]
        low, high = total < 0, total >= 1 << VALUE_BITS
        served = can.any() & ~self.set.valid
        m.d.comb += self.fault.eq(served & (low | high))
        values = Array(self.values)
        with m.If(self.set.valid):
            m.d.sync += values[self.set.lock].eq(self.set.value)
        with m.Elif(served):
            m.d.sync += values[lock].eq(Mux(low, 0, Mux(high, (1 << VALUE_BITS) - 1, total)))
        return m

    def _granted(self, values: list[Value]) -> Value:
        """The value of the requester that is granted; 0 if none is."""
        return reduce(or_, (Mux(asked.grant, value, 0) for asked, value in zip(self.request, values, strict=True)))
