# SPDX-License-Identifier: Apache-2.0
"""Area of a machine: its logic by block, its memories by ports, in NAND2 equivalents.

A NAND2 equivalent is the area of a two-input NAND gate: it carries over between processes better than square
micrometres do. Logic is cells only, without wires between them or empty space.

An SRAM's bits are counted as follows. In TSMC's 28 nm low-power process (Symposium on VLSI Technology 2009) a
six-transistor cell has 0.127 um2, and logic 3.9 million raw gates a mm2: `BIT_NAND2` is their product. Two things are
assumptions: a cell with a read and a write port (eight transistors) takes `TWO_PORT` times that, where published ones
take between 1.5 times and, drawn for low voltage in 28 nm FD-SOI, 3.3 times (0.291 x 1.457 um, Mori et al. 2019);
and cells fill `CELL_SHARE` of a macro, the rest being decoders, sense amplifiers and drivers.
"""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.platforms.base import Memory

__all__ = ["BIT_NAND2", "CELL_SHARE", "TWO_PORT", "Area", "LogicBlock", "sram_nand2"]

BIT_NAND2 = 0.127 * 3.9
TWO_PORT = 2.0
CELL_SHARE = 0.7


def sram_nand2(bits: int, ports: int) -> float:
    """Area of `bits` of SRAM in NAND2 equivalents; `ports`: see `Memory`."""
    return bits * BIT_NAND2 * (TWO_PORT if ports > 1 else 1.0) / CELL_SHARE


@dataclass(frozen=True)
class LogicBlock:
    """Logic of a block that a machine has `instances` times: NAND2 equivalents of one."""

    name: str
    instances: int
    gates: float
    flip_flops: float

    @property
    def one(self) -> float:
        return self.gates + self.flip_flops

    @property
    def total(self) -> float:
        return self.instances * self.one


@dataclass(frozen=True)
class Area:
    """What a machine takes. All figures in NAND2 equivalents, but `bits`."""

    logic: tuple[LogicBlock, ...]
    memories: tuple[Memory, ...]

    @property
    def logic_nand2(self) -> float:
        return sum(block.total for block in self.logic)

    @property
    def sram_nand2(self) -> float:
        return sum(sram_nand2(memory.bits, memory.ports) for memory in self.memories)

    @property
    def total(self) -> float:
        return self.logic_nand2 + self.sram_nand2

    def bits(self, ports: int) -> int:
        """Bits of all memories with so many ports, every instance."""
        return sum(memory.bits for memory in self.memories if memory.ports == ports)
