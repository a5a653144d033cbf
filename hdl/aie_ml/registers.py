# SPDX-License-Identifier: Apache-2.0
"""Register files of the core, in flip-flops: vectors and accumulators."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import pick, register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["ACC_READS", "ACC_WRITES", "PART_BITS", "VECTOR_READS", "VECTOR_WRITES", "Accumulators", "RegisterFile"]

PART_BITS = 512
"""Of an accumulator: a word of a cascade."""
VECTOR_WRITES, VECTOR_READS = 4, 5
"""Written by two loads, SRS and MAX; read as MAC's a, both vectors of its b (AIE-MLv2 has it in one, and a read less),
by the move and the store slot."""
ACC_WRITES, ACC_READS = 3, 2
"""Written by MAC, BIAS and GET; read by MAC, and by the shift-round-saturate unit or PUT."""


class RegisterFile(wiring.Component):
    """`count` registers of `bits` bits. Two writes of one in a cycle: undefined.

    Ports:
        write, write_to, write_data (In, one a write port): at the end of the cycle.
        read (In), read_data (Out) (one a read port): in the same cycle.
    """

    write: list[Signal]
    write_to: list[Signal]
    write_data: list[Signal]
    read: list[Signal]
    read_data: list[Signal]

    def __init__(self, count: int, bits: int, writes: int, reads: int):
        self.count, self.bits, self.writes, self.reads = count, bits, writes, reads
        number = (count - 1).bit_length()
        super().__init__({
            "write": In(1).array(writes), "write_to": In(number).array(writes), "write_data": In(bits).array(writes),
            "read": In(number).array(reads), "read_data": Out(bits).array(reads),
        })

    @classmethod
    def vectors(cls, generation: Generation = AIE_ML) -> "RegisterFile":
        return cls(generation.vectors, generation.beat_bits, VECTOR_WRITES, VECTOR_READS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = [register(self.bits, f"r{k}") for k in range(self.count)]
        for number, each in enumerate(held):
            for port in range(self.writes):
                with m.If(self.write[port] & (self.write_to[port] == number)):
                    m.d.sync += each.eq(self.write_data[port])
        for port in range(self.reads):
            index = self.read[port]
            padded: list[Value] = [*held, *held[: (1 << len(index)) - self.count]]
            m.d.comb += self.read_data[port].eq(pick(padded, index))
        return m


class Accumulators(wiring.Component):
    """The accumulators: a `RegisterFile` for each part, as a cascade's word is one.

    Ports: as of `RegisterFile`; halves (In, a bit for each part, one a write port): which parts are written.
    """

    write: list[Signal]
    halves: list[Signal]
    write_to: list[Signal]
    write_data: list[Signal]
    read: list[Signal]
    read_data: list[Signal]

    def __init__(self, generation: Generation = AIE_ML) -> None:
        count, bits = generation.accumulators, generation.acc_bits
        self._parts = [RegisterFile(count, PART_BITS, ACC_WRITES, ACC_READS) for _ in range(generation.acc_parts)]
        number = (count - 1).bit_length()
        super().__init__({
            "write": In(1).array(ACC_WRITES), "halves": In(generation.acc_parts).array(ACC_WRITES),
            "write_to": In(number).array(ACC_WRITES), "write_data": In(bits).array(ACC_WRITES),
            "read": In(number).array(ACC_READS), "read_data": Out(bits).array(ACC_READS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = ("low", "high") if len(self._parts) == 2 else [f"part{k}" for k in range(len(self._parts))]
        for part, (name, each) in enumerate(zip(names, self._parts, strict=True)):
            m.submodules[name] = each
            for port in range(ACC_WRITES):
                m.d.comb += [
                    each.write[port].eq(self.write[port] & self.halves[port][part]),
                    each.write_to[port].eq(self.write_to[port]),
                    each.write_data[port].eq(self.write_data[port].word_select(part, PART_BITS)),
                ]
            m.d.comb += [each.read[port].eq(self.read[port]) for port in range(ACC_READS)]
        for port in range(ACC_READS):
            m.d.comb += self.read_data[port].eq(Cat(each.read_data[port] for each in self._parts))
        return m
