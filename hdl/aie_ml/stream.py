# SPDX-License-Identifier: Apache-2.0
"""Streams, and the buffer that all of them, and cascades, are made of."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import register

__all__ = ["Elastic"]


class Elastic(wiring.Component):
    """Two words. `i.ready` and `o.valid` come from registers; a word that is put in in cycle t can be taken out in t+1.

    Ports: i (In), o (Out): streams of `bits` bits.
    """

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__({"i": In(stream.Signature(bits)), "o": Out(stream.Signature(bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The word that goes out, and one behind it while that one waits.
        first, second = register(self.bits, "first"), register(self.bits, "second")
        some, both = Signal(name="some"), Signal(name="both")
        m.d.comb += [self.o.valid.eq(some), self.o.payload.eq(first), self.i.ready.eq(~both)]
        with m.If(~some | self.o.ready):
            m.d.sync += [some.eq(both | self.i.valid), both.eq(0)]
            with m.If(both):
                m.d.sync += first.eq(second)
            with m.Elif(self.i.valid):
                m.d.sync += first.eq(self.i.payload)
        with m.Elif(self.i.valid & ~both):
            m.d.sync += [both.eq(1), second.eq(self.i.payload)]
        return m
