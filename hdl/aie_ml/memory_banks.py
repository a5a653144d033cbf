# SPDX-License-Identifier: Apache-2.0
"""Data memory of a memory tile: 16 single-port banks, and who gets them."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import pick, register
from nncosim.hdl.sram import Sram

__all__ = ["BANKS", "BANK_WORDS", "MemoryBanks"]

BANKS, BANK_WORDS = 16, 2048
"""Of 128 bits."""
_BITS, _LANES = 128, 4
_BANK_BITS = (BANKS - 1).bit_length()


class MemoryBanks(wiring.Component):
    """Word a of 128 bits lies in bank a % 16, row a // 16; submodules bank0..bank15.

    A bank has one access a cycle: that of the first port that asks for it, writing ports before reading ones.

    Ports:
        write (array): valid, addr, w_data (128 bits), w_mask (4: which 32 bits are written) (In); grant (Out): valid
            and done in this cycle, combinational from valid and addr of the ports before.
        read (array): valid, addr (In), grant (Out), r_data (Out, 128 bits): what was read, in the cycle after the
            grant only.

    Args:
        writers, readers: how many ports. words: of 128 bits in each bank, a power of two.
    """

    write: list[wiring.PureInterface]
    read: list[wiring.PureInterface]

    def __init__(self, writers: int, readers: int, words: int = BANK_WORDS):
        self.writers, self.readers, self.words = writers, readers, words
        addr = In(_BANK_BITS + (words - 1).bit_length())
        write = wiring.Signature({
            "valid": In(1), "addr": addr, "w_data": In(_BITS), "w_mask": In(_LANES), "grant": Out(1),
        })  # fmt: skip
        read = wiring.Signature({"valid": In(1), "addr": addr, "grant": Out(1), "r_data": Out(_BITS)})
        super().__init__({"write": Out(write).array(writers), "read": Out(read).array(readers)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports = [*self.write, *self.read]
        # Addresses are there early, what is valid late: flat, AND and OR, from one to the other.
        for number, port in enumerate(ports):
            before = [other.valid & (other.addr[:_BANK_BITS] == port.addr[:_BANK_BITS]) for other in ports[:number]]
            m.d.comb += port.grant.eq(port.valid & ~Cat(0, *before).any())
        banks = [self._bank(m, number, ports) for number in range(BANKS)]
        for number, port in enumerate(self.read):
            taken = register(_BANK_BITS, f"bank_of_{number}")
            m.d.sync += taken.eq(port.addr)
            m.d.comb += port.r_data.eq(pick(banks, taken))
        return m

    def _bank(self, m: Module, number: int, ports: Sequence[wiring.PureInterface]) -> Value:
        """The macro, with the access that is granted. What it gives."""
        m.submodules[f"bank{number}"] = bank = Sram(self.words, _BITS, _BITS // _LANES, ports=1)
        goes = Signal(len(ports), name=f"goes{number}")
        m.d.comb += goes.eq(Cat(port.grant & (port.addr[:_BANK_BITS] == number) for port in ports))
        rows = [Mux(go, port.addr[_BANK_BITS:], 0) for go, port in zip(goes, ports, strict=True)]
        masks, words = ([Mux(go, getattr(port, name), 0) for go, port in zip(goes, self.write, strict=False)]
                        for name in ("w_mask", "w_data"))  # fmt: skip
        m.d.comb += [
            bank.addr.eq(reduce(or_, rows)), bank.r_en.eq(goes[self.writers :].any()), bank.w_en.eq(reduce(or_, masks)),
            bank.w_data.eq(reduce(or_, words)),
        ]
        return bank.r_data
