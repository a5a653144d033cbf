# SPDX-License-Identifier: Apache-2.0
"""Register files of the core, in flip-flops: vectors and accumulators."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import ACCUMULATORS, BEAT_BYTES, VECTORS
from nncosim.hdl.logic import pick, register

__all__ = ["ACC_BITS", "ACC_READS", "ACC_WRITES", "VECTOR_READS", "VECTOR_WRITES", "Accumulators", "RegisterFile"]

ACC_BITS = 1024
VECTOR_WRITES, VECTOR_READS = 4, 5
"""Written by two loads, SRS and MAX; read as MAC's a, both halves of its b, by the move and the store slot."""
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
    def vectors(cls) -> "RegisterFile":
        return cls(VECTORS, 8 * BEAT_BYTES, VECTOR_WRITES, VECTOR_READS)

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
    """The accumulators: a `RegisterFile` for each half, as a cascade's word is one.

    Ports: as of `RegisterFile`; halves (In, 2 bits, one a write port): which halves are written.
    """

    write: list[Signal]
    halves: list[Signal]
    write_to: list[Signal]
    write_data: list[Signal]
    read: list[Signal]
    read_data: list[Signal]

    def __init__(self) -> None:
        self._halves = [RegisterFile(ACCUMULATORS, ACC_BITS // 2, ACC_WRITES, ACC_READS) for _ in range(2)]
        number = (ACCUMULATORS - 1).bit_length()
        super().__init__({
            "write": In(1).array(ACC_WRITES), "halves": In(2).array(ACC_WRITES),
            "write_to": In(number).array(ACC_WRITES), "write_data": In(ACC_BITS).array(ACC_WRITES),
            "read": In(number).array(ACC_READS), "read_data": Out(ACC_BITS).array(ACC_READS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for half, each in enumerate(self._halves):
            m.submodules[("low", "high")[half]] = each
            for port in range(ACC_WRITES):
                m.d.comb += [
                    each.write[port].eq(self.write[port] & self.halves[port][half]),
                    each.write_to[port].eq(self.write_to[port]),
                    each.write_data[port].eq(self.write_data[port].word_select(half, ACC_BITS // 2)),
                ]
            m.d.comb += [each.read[port].eq(self.read[port]) for port in range(ACC_READS)]
        for port in range(ACC_READS):
            m.d.comb += self.read_data[port].eq(Cat(each.read_data[port] for each in self._halves))
        return m
