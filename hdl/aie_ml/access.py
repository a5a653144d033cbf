# SPDX-License-Identifier: Apache-2.0
"""The core's ways to data memory: pipelines of addresses that wait for their grant, and of data that comes back."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.agu import POINTER_BITS
from nncosim.hdl.aie_ml.isa import LATENCY
from nncosim.hdl.logic import delayed, register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["LoadPath", "StorePath"]


class LoadPath(wiring.Component):
    """One load slot. A load issued in cycle t requests in t+4, and its data is written at the end of t+6.

    Ports:
        valid, addr, dest (In): of the load that is issued. advance (In).
        request, request_addr (Out), grant (In): of the memory; data (In): in the cycle after the grant.
        waiting (Out): a request is not granted: the core must not advance.
        write, write_dest, write_data (Out): what the vector register file is to take at the end of an advanced cycle.
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.bits = generation.beat_bits
        super().__init__({
            "valid": In(1), "addr": In(POINTER_BITS), "dest": In(5), "advance": In(1),
            "request": Out(1), "request_addr": Out(POINTER_BITS), "grant": In(1), "data": In(self.bits),
            "waiting": Out(1), "write": Out(1), "write_dest": Out(5), "write_data": Out(self.bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wanted = delayed(m, self.advance, self.valid, LATENCY["load_memory"], "valid_", reset=True)
        done = Signal(name="done")
        m.d.comb += [
            self.request.eq(wanted & ~done), self.waiting.eq(self.request & ~self.grant),
            self.request_addr.eq(delayed(m, self.advance, self.addr, LATENCY["load_memory"], "addr_")),
            self.write.eq(delayed(m, self.advance, wanted, 2, "loaded_", reset=True)),
            self.write_dest.eq(delayed(m, self.advance, self.dest, LATENCY["load_memory"] + 2, "dest_")),
        ]
        # Data may come while the load still stands where it was granted (others wait), or when it has gone on. In the
        # first case the next load's may come, too, before this one has gone on from there: two places.
        fresh, first = Signal(name="fresh"), Signal(name="first")
        early, held = register(self.bits, "early"), register(self.bits, "held")
        arrived, out = Signal(self.bits, name="arrived"), register(self.bits, "out")
        m.d.sync += [fresh.eq(self.request & self.grant), first.eq(self.advance)]
        m.d.comb += arrived.eq(held)
        with m.If(fresh & first):
            m.d.comb += arrived.eq(self.data)
            m.d.sync += held.eq(self.data)
        with m.If(fresh & ~first):
            m.d.sync += early.eq(self.data)
        with m.If(self.advance):
            m.d.sync += [done.eq(0), out.eq(arrived)]
            with m.If(done):
                m.d.sync += held.eq(early)
                with m.If(fresh & ~first):
                    m.d.sync += held.eq(self.data)
        with m.Elif(self.request & self.grant):
            m.d.sync += done.eq(1)
        m.d.comb += self.write_data.eq(out)
        return m


class StorePath(wiring.Component):
    """The store slot. A store issued in cycle t writes memory in t+6.

    Ports:
        valid, addr (In): of the store that is issued. fused (In): it stores `requantized`, else `plain`.
        plain (In): in the cycle of the issue. requantized (In): three advanced cycles later.
        advance, request, request_addr, request_data, grant, waiting: as of `LoadPath`.
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.bits = generation.beat_bits
        super().__init__({
            "valid": In(1), "addr": In(POINTER_BITS), "fused": In(1), "plain": In(self.bits),
            "requantized": In(self.bits), "advance": In(1), "request": Out(1), "request_addr": Out(POINTER_BITS),
            "request_data": Out(self.bits), "grant": In(1), "waiting": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles = LATENCY["store_memory"]
        wanted = delayed(m, self.advance, self.valid, cycles, "valid_", reset=True)
        plain = delayed(m, self.advance, self.plain, 3, "plain_")
        fused = delayed(m, self.advance, self.fused, 3, "fused_")
        chosen, done = Signal(self.bits, name="chosen"), Signal(name="done")
        m.d.comb += chosen.eq(plain)
        with m.If(fused):
            m.d.comb += chosen.eq(self.requantized)
        with m.If(self.advance):
            m.d.sync += done.eq(0)
        with m.Elif(self.request & self.grant):
            m.d.sync += done.eq(1)
        m.d.comb += [
            self.request.eq(wanted & ~done), self.waiting.eq(self.request & ~self.grant),
            self.request_addr.eq(delayed(m, self.advance, self.addr, cycles, "addr_")),
            self.request_data.eq(delayed(m, self.advance, chosen, cycles - 3, "data_")),
        ]
        return m
