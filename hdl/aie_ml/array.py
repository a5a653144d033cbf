# SPDX-License-Identifier: Apache-2.0
"""The array: core tiles side by side, memory tiles below them, and the shim."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.agu import POINTER_BITS
from nncosim.hdl.aie_ml.config import BUS
from nncosim.hdl.aie_ml.memory_tile import MEMORY_TILE, MemoryTile
from nncosim.hdl.aie_ml.ports import OPPOSITE, TILE_PORTS
from nncosim.hdl.aie_ml.stream import Elastic
from nncosim.hdl.aie_ml.tile import TILE, Tile
from nncosim.hdl.emit import Block, emit_design, ports_of
from nncosim.hdl.logic import register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["INSIDE_TILES", "SHIM_IN", "SHIM_OUT", "Array", "emit_array", "tile_ports"]

SHIM_IN, SHIM_OUT = TILE_PORTS.come["south"], TILE_PORTS.go["south"]
"""Streams of a column into the array, and out of it."""
_BEATS, _PC = POINTER_BITS, 10


class Array(wiring.Component):
    """Tiles (column, row); row 0 is the shim, then come so many rows of memory tiles, then those of core tiles. The
    configuration bus runs along the shim and up every column.

    Ports: vectors over all core tiles or streams: of the tiles, those of the first column first, the lowest first.
        bus (In). in_valid, in_payload (a word each) (In), in_ready (Out): `SHIM_IN` streams a column, column by column;
        out_valid, out_payload (Out), out_ready (In): `SHIM_OUT` a column.
        For monitors, a cycle later (Out): store (1 each), store_beat (12), busy, issue (1), waits (3), pc (10), fault
        (1; behind core tiles, memory tiles); store_data (a beat), an array of the columns.
    """

    def __init__(
        self, columns: int, rows: int, memory_rows: int, instructions: int, generation: Generation = AIE_ML
    ):
        self.columns, self.rows, self.memory_rows, self.instructions = columns, rows, memory_rows, instructions
        self.generation, word = generation, generation.word_bits
        tiles, come, go = columns * rows, columns * SHIM_IN, columns * SHIM_OUT
        faults = tiles + columns * memory_rows
        super().__init__({
            "bus": In(BUS), "in_valid": In(come), "in_payload": In(word * come), "in_ready": Out(come),
            "out_valid": Out(go), "out_payload": Out(word * go), "out_ready": In(go), "store": Out(tiles),
            "store_beat": Out(_BEATS * tiles), "store_data": Out(generation.beat_bits * rows).array(columns),
            "busy": Out(tiles), "issue": Out(tiles), "waits": Out(3 * tiles), "pc": Out(_PC * tiles),
            "fault": Out(faults),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tiles: dict[tuple[int, int], Block] = {}
        first_row = 1 + self.memory_rows
        for column in range(self.columns):
            for row in range(1, first_row + self.rows):
                core = row >= first_row
                tile = (Block(Tile(self.instructions, self.generation), TILE) if core
                        else Block(MemoryTile(self.generation), MEMORY_TILE))  # fmt: skip
                m.submodules[f"{'tile' if core else 'memory'}_{column}_{row}"] = tiles[column, row] = tile
                m.d.comb += [tile.column.eq(column), tile.row.eq(row)]
        for (column, row), tile in tiles.items():
            self._streams(m, tile, "north", tiles.get((column, row + 1)))
            if row >= first_row and (column + 1, row) in tiles:
                self._streams(m, tile, "east", tiles[column + 1, row])
                wiring.connect(m, tile.east, tiles[column + 1, row].west)
                wiring.connect(m, tiles[column + 1, row].west_memory, tile.east_memory)
            if row > 1:
                wiring.connect(m, tiles[column, row - 1].onward, tile.bus)
        self._bus(m, tiles)
        for column in range(self.columns):
            self._shim(m, tiles[column, 1], column)
        cores, memories = ([tile for (_, row), tile in tiles.items() if (row >= first_row) == core]
                           for core in (True, False))  # fmt: skip
        self._monitors(m, cores, memories)
        return m

    def _streams(self, m: Module, tile: Block, side: str, other: Block | None) -> None:
        """Between a tile and its neighbour on that side, if there is one."""
        if other is None:
            return
        back = OPPOSITE[side]
        for number, stream in enumerate(getattr(tile, f"{side}_out")):
            wiring.connect(m, stream, getattr(other, f"{back}_in")[number])
        for number, stream in enumerate(getattr(other, f"{back}_out")):
            wiring.connect(m, stream, getattr(tile, f"{side}_in")[number])

    def _bus(self, m: Module, tiles: dict[tuple[int, int], Block]) -> None:
        """A register for each column of the shim."""
        valid, write = self.bus.valid, self.bus.write
        for column in range(self.columns):
            held, there = register(write.shape(), f"bus{column}"), register(1, f"bus_valid{column}")
            m.d.sync += [there.eq(valid), held.eq(write)]
            valid, write = there, held
            m.d.comb += [tiles[column, 1].bus.valid.eq(valid), tiles[column, 1].bus.write.eq(write)]

    def _shim(self, m: Module, tile: Block, column: int) -> None:
        bits = self.generation.word_bits
        for number in range(SHIM_IN):
            at, buffer = column * SHIM_IN + number, Elastic(bits)
            m.submodules[f"in_{column}_{number}"] = buffer
            m.d.comb += [
                buffer.i.valid.eq(self.in_valid[at]), buffer.i.payload.eq(self.in_payload.word_select(at, bits)),
                self.in_ready[at].eq(buffer.i.ready),
            ]
            wiring.connect(m, buffer.o, tile.south_in[number])
        for number in range(SHIM_OUT):
            at, stream = column * SHIM_OUT + number, tile.south_out[number]
            m.d.comb += [
                self.out_valid[at].eq(stream.valid), self.out_payload.word_select(at, bits).eq(stream.payload),
                stream.ready.eq(self.out_ready[at]),
            ]

    def _monitors(self, m: Module, tiles: list[Block], memories: list[Block]) -> None:
        for column, data in enumerate(self.store_data):
            m.d.comb += data.eq(Cat(tile.store_data for tile in tiles[column * self.rows : (column + 1) * self.rows]))
        for name in ("store", "store_beat", "busy", "issue", "waits"):
            m.d.comb += getattr(self, name).eq(Cat(getattr(tile, name) for tile in tiles))
        m.d.comb += [
            self.pc.eq(Cat(tile.issued_pc for tile in tiles)),
            self.fault.eq(Cat(tile.fault for tile in (*tiles, *memories))),
        ]


INSIDE_TILES = tuple(f"aie_ml/{name}.py" for name in (
    "access", "assembly", "core", "dma", "dma_channel", "fetch", "locks", "memory", "memory_banks", "memory_tile",
    "neighbour", "srs", "switch", "tile", "vmac"))  # fmt: skip
"""Files of `nncosim.hdl` of which the array has no more than the tiles' ports (`tile_ports`)."""


def tile_ports(instructions: int, generation: Generation = AIE_ML) -> object:
    """The ports of a core tile and of a memory tile; see `nncosim.hdl.emit.ports_of`."""
    return ports_of(Tile(instructions, generation)), ports_of(MemoryTile(generation))


def emit_array(
    columns: int, rows: int, memory_rows: int, instructions: int, generation: Generation = AIE_ML
) -> dict[str, str]:
    """Verilog of the array, module `aie_ml_array`, without its tiles (`nncosim.hdl.aie_ml.tile.emit_tile`,
    `nncosim.hdl.aie_ml.memory_tile.emit_memory_tile`)."""
    array = Array(columns, rows, memory_rows, instructions, generation)
    return emit_design(array, "aie_ml_array", without=(TILE, MEMORY_TILE))
