# SPDX-License-Identifier: Apache-2.0
"""Data memory of a memory tile: 16 (AIE-MLv2: 8) single-port banks, and who gets them."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import pick, register
from nncosim.hdl.sram import Sram
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["BANK_WORDS", "MemoryBanks"]

BANK_WORDS = 2048
_LANE_BITS = 32


class MemoryBanks(wiring.Component):
    """Word a, of 128 bits (AIE-MLv2: 256), lies in bank a % 16 (8), row a // 16 (8); submodules bank0..

    A bank has one access a cycle: that of the first port that asks for it, writing ports before reading ones.

    Ports:
        write (array): valid, addr, w_data, w_mask (which 32 bits are written) (In); grant (Out): valid
            and done in this cycle, combinational from valid and addr of the ports before.
        read (array): valid, addr (In), grant (Out), r_data (Out): what was read, in the cycle after the
            grant only.

    Args:
        writers, readers: how many ports. words: in each bank, a power of two.
    """

    write: list[wiring.PureInterface]
    read: list[wiring.PureInterface]

    def __init__(self, writers: int, readers: int, words: int = BANK_WORDS, generation: Generation = AIE_ML):
        self.writers, self.readers, self.words = writers, readers, words
        self.banks, self.bits = generation.memory_banks, generation.line_bits
        self.bank_bits = (self.banks - 1).bit_length()
        addr = In(self.bank_bits + (words - 1).bit_length())
        write = wiring.Signature({
            "valid": In(1), "addr": addr, "w_data": In(self.bits), "w_mask": In(self.bits // _LANE_BITS),
            "grant": Out(1),
        })  # fmt: skip
        read = wiring.Signature({"valid": In(1), "addr": addr, "grant": Out(1), "r_data": Out(self.bits)})
        super().__init__({"write": Out(write).array(writers), "read": Out(read).array(readers)})

    def elaborate(self, platform: object) -> Module:
        m, bits = Module(), self.bank_bits
        ports = [*self.write, *self.read]
        # Addresses are there early, what is valid late: flat, AND and OR, from one to the other.
        for number, port in enumerate(ports):
            before = [other.valid & (other.addr[:bits] == port.addr[:bits]) for other in ports[:number]]
            m.d.comb += port.grant.eq(port.valid & ~Cat(0, *before).any())
        banks = [self._bank(m, number, ports) for number in range(self.banks)]
        for number, port in enumerate(self.read):
            taken = register(bits, f"bank_of_{number}")
            m.d.sync += taken.eq(port.addr)
            m.d.comb += port.r_data.eq(pick(banks, taken))
        return m

    def _bank(self, m: Module, number: int, ports: Sequence[wiring.PureInterface]) -> Value:
        """The macro, with the access that is granted. What it gives."""
        m.submodules[f"bank{number}"] = bank = Sram(self.words, self.bits, _LANE_BITS, ports=1)
        bits = self.bank_bits
        goes = Signal(len(ports), name=f"goes{number}")
        m.d.comb += goes.eq(Cat(port.grant & (port.addr[:bits] == number) for port in ports))
        rows = [Mux(go, port.addr[bits:], 0) for go, port in zip(goes, ports, strict=True)]
        masks, words = ([Mux(go, getattr(port, name), 0) for go, port in zip(goes, self.write, strict=False)]
                        for name in ("w_mask", "w_data"))  # fmt: skip
        m.d.comb += [
            bank.addr.eq(reduce(or_, rows)), bank.r_en.eq(goes[self.writers :].any()), bank.w_en.eq(reduce(or_, masks)),
            bank.w_data.eq(reduce(or_, words)),
        ]
        return bank.r_data
