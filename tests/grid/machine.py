# SPDX-License-Identifier: Apache-2.0
"""What the machine is: tiles, who reaches which memory, command format, cycle counts."""

import ctypes
from dataclasses import dataclass
from typing import ClassVar

from nncosim.platforms.base import Engine, Limits, Memory, Mover, Platform

MAC, ANALOG, STREAM, PORT = "mac", "analog", "stream", "port"
DENSE, ADD, COPY, ENTER, LEAVE = range(1, 6)
TILE_STRIDE, PROGRAM_BASE, PROGRAM_STRIDE = 1 << 20, 1 << 28, 1 << 16
WAITS, SOURCES = 12, 4


@dataclass(frozen=True)
class Grid(Platform):
    """columns x rows tiles of one memory and one MAC engine each; the one in the middle has an analog engine too.

    lanes: multiplications of a tile in a cycle. clip_bits: an analog sum is clipped to so many bits after every
    `analog_rows` products. hop_cycles: of a stream from a tile to its neighbour.
    """

    name: ClassVar[str] = "grid"
    title: ClassVar[str] = "Grid: tiles that share memories with their neighbours, streams, no host"
    tensor_axes: ClassVar[tuple[tuple[str, ...], ...]] = (("N", "C", "H", "W"),)
    limits: ClassVar[Limits] = Limits(0, 0, 0, 0)
    columns: int = 3
    rows: int = 3
    lanes: int = 16
    data_bytes: int = 8 * 1024
    clip_bits: int = 16
    analog_rows: int = 8
    hop_cycles: int = 3

    @property
    def tiles(self) -> int:
        return self.columns * self.rows

    @property
    def middle(self) -> int:
        return self.rows // 2 * self.columns + self.columns // 2

    def position(self, tile: int) -> tuple[int, int]:
        return tile % self.columns, tile // self.columns

    def distance(self, a: int, b: int) -> int:
        (ax, ay), (bx, by) = self.position(a), self.position(b)
        return abs(ax - bx) + abs(ay - by)

    def neighbours(self, tile: int) -> tuple[int, ...]:
        """The tile itself, and those beside it."""
        return tuple(other for other in range(self.tiles) if self.distance(tile, other) <= 1)

    @property
    def memories(self) -> tuple[Memory, ...]:
        return (Memory("data", self.data_bytes, 32, instances=self.tiles),
                Memory("program", PROGRAM_STRIDE, 64, instances=len(self.sequencers)))

    @property
    def movers(self) -> tuple[Mover, ...]:
        return (Mover(STREAM, ("data",), 32, self.tiles, self.hop_cycles), Mover(PORT, ("data",), 32, 2))

    @property
    def engines(self) -> tuple[Engine, ...]:
        reach = tuple(self.neighbours(tile) for tile in range(self.tiles))
        places = tuple(self.position(tile) for tile in range(self.tiles))
        return (Engine(MAC, self.lanes, self.tiles, {(16, 8): self.lanes, (8, 8): self.lanes}, reaches={"data": reach},
                       positions=places),
                Engine(ANALOG, 8 * self.lanes, 1, {(8, 8): 8 * self.lanes}, reaches={"data": (reach[self.middle],)},
                       positions=(self.position(self.middle),)))

    @property
    def sequencers(self) -> tuple[tuple[str, int], ...]:
        """Everything that runs a program of its own, in the order of the program memories."""
        counts = {MAC: self.tiles, ANALOG: 1, STREAM: self.tiles, PORT: 2}
        return tuple((name, k) for name, count in counts.items() for k in range(count))


GRID = Grid()


class Wait(ctypes.LittleEndianStructure):
    """A task of the inference `distance` before this one must have ended."""

    _fields_ = [("used", ctypes.c_uint16), ("task", ctypes.c_uint16), ("distance", ctypes.c_uint32)]


class Place(ctypes.LittleEndianStructure):
    """Rows of `columns` elements of 1 or 2 bytes. Inference k uses copy k % copies, each `bytes` long."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("address", "bytes", "copies", "columns")]


class Command(ctypes.LittleEndianStructure):
    """One command of any engine. Columns of all sources follow each other (DENSE), or each is an operand (ADD)."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "opcode", "task", "rows", "weights", "constants", "shift", "half_even", "wide_in", "signed_in", "wide_out")] + [
        ("lo", ctypes.c_int32), ("hi", ctypes.c_int32), ("sources", Place * SOURCES), ("out", Place),
        ("waits", Wait * WAITS)]  # fmt: skip


def cycles_of(platform: Grid, engine: str, command: Command, hops: int = 0) -> int:
    """The one cycle model, of compiler and machine alike. `hops`: tiles between the source of a stream and its end."""
    elements = command.rows * sum(source.columns for source in command.sources)
    if command.opcode == DENSE:
        rate = platform.lanes * (8 if engine == ANALOG else 1)
        return 10 + -(-elements * command.out.columns // rate)
    if command.opcode == ADD:
        return 6 + -(-elements // platform.lanes)
    width = 2 if command.wide_out else 1
    return 4 + hops * platform.hop_cycles + -(-command.rows * command.out.columns * width // 4)
