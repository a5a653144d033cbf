# SPDX-License-Identifier: Apache-2.0
"""The core's ways to data memory: pipelines of addresses that wait for their grant, and of data that comes back."""

from amaranth.hdl import Module, Mux, Signal, Value
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
        goes_west (Out): the west neighbour's memory is to be asked for `west_addr` (Out) now, if the core advances.
            came (In), came_data (In): from there, of the oldest load that has nothing yet; three cycles later at the
            earliest.
        waiting (Out): a request is not granted, or what is to be written has not come: the core must not advance.
        write, write_dest, write_data (Out): what the vector register file is to take at the end of an advanced cycle.
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.bits, self.west_bit = generation.beat_bits, generation.west_bit
        super().__init__({
            "valid": In(1), "addr": In(POINTER_BITS), "dest": In(5), "advance": In(1),
            "request": Out(1), "request_addr": Out(POINTER_BITS), "grant": In(1), "data": In(self.bits),
            "goes_west": Out(1), "west_addr": Out(self.west_bit), "came": In(1), "came_data": In(self.bits),
            "waiting": Out(1), "write": Out(1), "write_dest": Out(5), "write_data": Out(self.bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles = LATENCY["load_memory"]
        valid = delayed(m, self.advance, self.valid, cycles - 1, "valid_", reset=True)
        addr = delayed(m, self.advance, self.addr, cycles - 1, "addr_")
        wanted = delayed(m, self.advance, valid, 1, "wanted_", reset=True)
        request_addr = delayed(m, self.advance, addr, 1, "request_addr_")
        done, west = Signal(name="done"), Signal(name="west")
        m.d.comb += [
            self.goes_west.eq(valid & addr[self.west_bit]), self.west_addr.eq(addr),
            west.eq(wanted & request_addr[self.west_bit]),
            self.request.eq(wanted & ~request_addr[self.west_bit] & ~done), self.request_addr.eq(request_addr),
            self.write.eq(delayed(m, self.advance, wanted, 2, "loaded_", reset=True)),
            self.write_dest.eq(delayed(m, self.advance, self.dest, cycles + 2, "dest_")),
        ]
        with m.If(self.advance):
            m.d.sync += done.eq(0)
        with m.Elif(self.request & self.grant):
            m.d.sync += done.eq(1)
        has, comes, late = self._from_west(m, west)
        m.d.comb += self.waiting.eq((self.request & ~self.grant) | late)
        self._data(m, done | has, comes)
        return m

    def _from_west(self, m: Module, west: Value) -> tuple[Value, list[Signal], Value]:
        """Whether the load in t+4 had its data from the west before; for which of those in t+4, t+5, t+6 it comes now;
        whether that of t+6 has none."""
        waits = [west, *(delayed(m, self.advance, west, k, f"west{k}_", reset=True) for k in (1, 2))]
        has = [Signal(name=f"has{stage}") for stage in range(3)]
        comes = [Signal(name=f"comes{stage}") for stage in range(3)]
        older: Value = Value.cast(0)
        for stage in (2, 1, 0):
            missing = waits[stage] & ~has[stage]
            m.d.comb += comes[stage].eq(self.came & missing & ~older)
            older = older | missing
        now = [each | new for each, new in zip(has, comes, strict=True)]
        with m.If(self.advance):
            m.d.sync += [has[0].eq(0), has[1].eq(now[0]), has[2].eq(now[1])]
        with m.Else():
            m.d.sync += [each.eq(new) for each, new in zip(has, now, strict=True)]
        return has[0], comes, waits[2] & ~now[2]

    def _data(self, m: Module, early_there: Value, comes: list[Signal]) -> None:
        """Data may come while the load still stands where it was granted (others wait), or when it has gone on; from
        the west as late as it is written. In the first case the next load's may come, too, before this one has gone on
        from there: so each stage has a place."""
        fresh, first = Signal(name="fresh"), Signal(name="first")
        early, held, out = (register(self.bits, name) for name in ("early", "held", "out"))
        m.d.sync += [fresh.eq(self.request & self.grant), first.eq(self.advance)]
        to_early, to_held = Signal(name="to_early"), Signal(name="to_held")
        arrived, now = Signal(self.bits, name="arrived"), Signal(self.bits, name="now")
        m.d.comb += [
            to_early.eq(comes[0] | (fresh & ~first)), to_held.eq(comes[1] | (fresh & first)),
            arrived.eq(Mux(to_held, Mux(comes[1], self.came_data, self.data), held)),
            now.eq(Mux(comes[0], self.came_data, self.data)),
            self.write_data.eq(Mux(comes[2], self.came_data, out)),
        ]
        with m.If(to_held):
            m.d.sync += held.eq(arrived)
        with m.If(to_early):
            m.d.sync += early.eq(now)
        with m.If(self.advance):
            m.d.sync += out.eq(arrived)
            with m.If(early_there):
                m.d.sync += held.eq(early)
            with m.If(to_early):
                m.d.sync += held.eq(now)
        with m.Elif(comes[2]):
            m.d.sync += out.eq(self.came_data)


class StorePath(wiring.Component):
    """The store slot. A store issued in cycle t writes memory in t+6.

    Ports:
        valid, addr (In): of the store that is issued. fused (In): it stores `requantized`, else `plain`.
        plain (In): in the cycle of the issue. requantized (In): three advanced cycles later.
        advance, request, request_addr, request_data, grant, goes_west, west_addr, west_data, waiting: as of `LoadPath`;
            nothing comes back.
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.bits, self.west_bit = generation.beat_bits, generation.west_bit
        super().__init__({
            "valid": In(1), "addr": In(POINTER_BITS), "fused": In(1), "plain": In(self.bits),
            "requantized": In(self.bits), "advance": In(1), "request": Out(1), "request_addr": Out(POINTER_BITS),
            "request_data": Out(self.bits), "grant": In(1), "goes_west": Out(1),
            "west_addr": Out(self.west_bit), "west_data": Out(self.bits), "waiting": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles = LATENCY["store_memory"]
        valid = delayed(m, self.advance, self.valid, cycles - 1, "valid_", reset=True)
        addr = delayed(m, self.advance, self.addr, cycles - 1, "addr_")
        wanted = delayed(m, self.advance, valid, 1, "wanted_", reset=True)
        request_addr = delayed(m, self.advance, addr, 1, "request_addr_")
        plain = delayed(m, self.advance, self.plain, 3, "plain_")
        fused = delayed(m, self.advance, self.fused, 3, "fused_")
        chosen, done = Signal(self.bits, name="chosen"), Signal(name="done")
        m.d.comb += chosen.eq(plain)
        with m.If(fused):
            m.d.comb += chosen.eq(self.requantized)
        data = delayed(m, self.advance, chosen, cycles - 4, "data_")
        with m.If(self.advance):
            m.d.sync += done.eq(0)
        with m.Elif(self.request & self.grant):
            m.d.sync += done.eq(1)
        m.d.comb += [
            self.goes_west.eq(valid & addr[self.west_bit]), self.west_addr.eq(addr), self.west_data.eq(data),
            self.request.eq(wanted & ~request_addr[self.west_bit] & ~done),
            self.waiting.eq(self.request & ~self.grant), self.request_addr.eq(request_addr),
            self.request_data.eq(delayed(m, self.advance, data, 1, "request_data_")),
        ]
        return m
