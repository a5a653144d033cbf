# SPDX-License-Identifier: Apache-2.0
"""AIE-ML: a tile of AMD's array (AM020, AIE-ML Architecture Manual), reconstructed from what is published.

Published: a VLIW core with two loads and one store of 256 bits, 256 int8 multiply-accumulates a cycle, 16 KB of program
memory, 64 KB of data memory in 8 banks of 128 bits; 38 x 8 tiles and 1.25 GHz on VE2802. The choices that are ours are
marked in `nncosim/hdl/aie_ml/MANUAL.md`. Inputs and results go over 32-bit streams at the array's lower edge, through
two rows of memory tiles of 512 KB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nncosim.platforms.aie_ml_generation import AIE_ML, Generation
from nncosim.platforms.base import Engine, Limits, Memory, Platform, Published, is_power_of_two
from nncosim.platforms.errors import PlatformError

__all__ = ["BANKS", "BANK_BYTES", "MEMORY_TILE_BYTES", "PLATFORM", "AieMl"]

BANKS = 4
"""Logical banks of data memory, each two physical ones side by side: an access of 256 bits takes one."""
BANK_BYTES = 16 * 1024
MEMORY_TILE_BYTES = 512 * 1024
MOST_HZ = 2_000_000_000


@dataclass(frozen=True)
class AieMl(Platform):
    """Parameters of the array.

    columns, rows: of core tiles. memory_rows: of memory tiles below them. program_bytes: 16 bytes an instruction;
    published 16 KB, at most what LOOP's fields reach.
    """

    name: ClassVar[str] = "aie_ml"
    title: ClassVar[str] = "AIE-ML (AMD): an array of tiles, each a 256 MAC/cycle VLIW core with exposed pipeline"
    tensor_axes: ClassVar[tuple[tuple[str, ...], ...]] = (("N", "C", "H", "W"),)
    published_for: ClassVar[str] = "AIE4ML's kernel in AMD's simulator"
    reconstruction: ClassVar[str] = "this is a reconstruction whose encoding and memory arbitration are ours"
    cycle_model: ClassVar[str] = "ISS"
    limits: ClassVar[Limits] = Limits(0, 0, 0, 0)
    generation: ClassVar[Generation] = AIE_ML
    most: ClassVar[tuple[int, int]] = (38, 8)
    """Columns and rows of the largest part."""
    published: ClassVar[tuple[Published, ...]] = (
        Published("dense 64x64x64, int8", "kernel", 1050, "cycles", "aie4ml 0.2.1, comments in its kernel catalogue"),
    )

    clock_hz: int = 1_250_000_000
    columns: int = 38
    rows: int = 8
    memory_rows: int = 2
    program_bytes: int = 16 * 1024

    def __post_init__(self) -> None:
        if not 1 <= self.clock_hz <= MOST_HZ:
            raise PlatformError(f"clock_hz must be 1 to {MOST_HZ} (2 GHz), not {self.clock_hz}")
        columns, rows = self.most
        if not 1 <= self.columns <= columns or not 1 <= self.rows <= rows:
            raise PlatformError(
                f"columns and rows must be 1 to {columns} and 1 to {rows}, not {self.columns} and {self.rows}")
        if not 0 <= self.memory_rows <= 2:
            raise PlatformError(f"memory_rows must be 0 to 2, not {self.memory_rows}")
        if not is_power_of_two(self.program_bytes) or not 1024 <= self.program_bytes <= 16 * 1024:
            raise PlatformError(f"program_bytes must be a power of two from 1024 to 16384, not {self.program_bytes}")

    @property
    def instructions(self) -> int:
        return self.program_bytes // 16

    @property
    def memories(self) -> tuple[Memory, ...]:
        memory_tiles, line = self.columns * self.memory_rows, self.generation.line_bits
        shared = Memory("memory_tile", MEMORY_TILE_BYTES, line, self.generation.memory_banks, memory_tiles, ports=1)
        return (Memory("data", BANK_BYTES, line, 2, BANKS * self.tiles, ports=1),
                Memory("program", self.program_bytes, 128, 1, self.tiles, ports=1), *[shared] * (memory_tiles > 0))

    @property
    def movers(self) -> tuple[()]:
        return ()

    @property
    def engines(self) -> tuple[Engine, ...]:
        positions = tuple((n // self.rows, self.first_row + n % self.rows) for n in range(self.tiles))
        rates = self.generation.macs
        return (Engine("core", rates[8, 8], self.tiles, rates, positions=positions),)

    @property
    def tiles(self) -> int:
        return self.columns * self.rows

    @property
    def first_row(self) -> int:
        """Of core tiles. Row 0 is the shim, as everywhere in the field."""
        return 1 + self.memory_rows

    @property
    def height(self) -> int:
        """Rows of all kinds, the shim's too."""
        return self.first_row + self.rows

    def number(self, column: int, row: int) -> int:
        """Of a core tile, as an instance: those of a column behind each other."""
        return column * self.rows + row - self.first_row


PLATFORM = AieMl()
