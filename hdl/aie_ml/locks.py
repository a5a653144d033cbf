# SPDX-License-Identifier: Apache-2.0
"""The 16 locks of a tile."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.hdl.logic import pick

__all__ = ["LOCKS", "REQUEST", "REQUESTERS", "Locks"]

LOCKS, REQUESTERS = 16, 5
"""The requesters: the core, S2MM 0 and 1, MM2S 0 and 1."""
VALUE_BITS = 6

REQUEST = wiring.Signature({
    "valid": Out(1), "lock": Out(4), "op": Out(LockOp), "value": Out(signed(7)), "grant": In(1),
})
"""As the requester sees it. It holds a request until the cycle in which `grant`, combinational, is high: that one."""


class Locks(wiring.Component):
    """Serves, of each cycle's requests, the first that can be. What is done holds from the next cycle on.

    Reset makes all of them 0. The fourth `op`, without a name, is never granted.

    Ports:
        request (In, array of `REQUESTERS`): `REQUEST`, the first one first.
        set (In): valid, lock, value: the configuration writes a lock; no request is granted in this cycle.
        values (Out, 6 bits, one a lock): for monitors.
        fault (Out): what is granted in this cycle leaves 0..63; the lock stays at the end that it leaves.
    """

    request: list[wiring.PureInterface]
    set: wiring.PureInterface
    values: list[Signal]

    def __init__(self) -> None:
        setting = wiring.Signature({"valid": Out(1), "lock": Out(4), "value": Out(VALUE_BITS)})
        super().__init__({
            "request": In(REQUEST).array(REQUESTERS), "set": In(setting),
            "values": Out(VALUE_BITS).array(LOCKS), "fault": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sums = []
        before = Value.cast(self.set.valid)
        for number, asked in enumerate(self.request):
            value = Signal(VALUE_BITS, name=f"held{number}")
            m.d.comb += value.eq(pick(self.values, asked.lock))
            can = Cat(value >= asked.value, value == asked.value, 1)
            m.d.comb += asked.grant.eq(asked.valid & ~before & can.bit_select(asked.op.as_value(), 1))
            before = before | asked.grant
            sums.append(Mux(asked.op == LockOp.RELEASE, value + asked.value, value - asked.value))
        lock, total = Signal(4, name="served"), Signal(signed(9), name="total")
        m.d.comb += [lock.eq(self.request[-1].lock), total.eq(sums[-1])]
        for asked, each in zip(reversed(self.request), reversed(sums), strict=True):
            with m.If(asked.grant):
                m.d.comb += [lock.eq(asked.lock), total.eq(each)]
        low, high = total < 0, total >= 1 << VALUE_BITS
        m.d.comb += self.fault.eq(Cat(asked.grant for asked in self.request).any() & (low | high))
        values = Array(self.values)
        with m.If(self.set.valid):
            m.d.sync += values[self.set.lock].eq(self.set.value)
        with m.Elif(before):
            m.d.sync += values[lock].eq(Mux(low, 0, Mux(high, (1 << VALUE_BITS) - 1, total)))
        return m
