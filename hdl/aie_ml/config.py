# SPDX-License-Identifier: Apache-2.0
"""The configuration bus: words of 32 bits on their way through the array, and what a tile takes from it."""

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = [
    "BDS_AT", "BUS", "CORE_AT", "LISTENS", "LOCKS_AT", "MEMORY_BDS_AT", "MEMORY_LOCKS_AT", "MEMORY_STARTS_AT",
    "MEMORY_SWITCH_AT", "PROGRAM_AT", "STARTS_AT", "SWITCH_AT", "TILE_BYTES", "ConfigPort", "Places", "Write",
    "tile_places",
]  # fmt: skip

TILE_BYTES = 1 << 20
"""Of a tile's own addresses."""
PROGRAM_AT, LOCKS_AT, BDS_AT, STARTS_AT, SWITCH_AT, CORE_AT = 0x20000, 0x30000, 0x30400, 0x30800, 0x30C00, 0x31000
"""In a core tile: the program (AM020's address; the others are ours); a word for each lock; 8 for each buffer
descriptor; for each channel, to be started with the descriptor that is written; for each master of the switch (bit
`LISTENS`, and 4-0: to which slave); bit 0: start the core. Data memory is at 0."""
MEMORY_BDS_AT, MEMORY_STARTS_AT, MEMORY_SWITCH_AT, MEMORY_LOCKS_AT = 0xA0000, 0xA0600, 0xB0000, 0xC0000
"""In a memory tile (AM020's addresses; the forms are ours, those of core tiles). Data memory is at 0."""
LISTENS = 5
_COLUMN_BITS, _ROW_BITS, _WORD_BITS = 6, 4, 18


class Write(data.Struct):
    """`word`: the address in the tile, without its two low bits."""

    column: _COLUMN_BITS  # type: ignore[valid-type]
    row: _ROW_BITS  # type: ignore[valid-type]
    word: _WORD_BITS  # type: ignore[valid-type]
    data: 32  # type: ignore[valid-type]


BUS = wiring.Signature({"valid": Out(1), "write": Out(Write)})


@dataclass(frozen=True)
class Places:
    """What a kind of tile takes from the bus.

    data: bits of the address of lines in its data memory. program: of instructions, 0 without a core.
    registers: name, address, how many words. number: bits of a word's address that tell the words of each apart. lanes:
    words of 32 bits of a line.
    """

    data: int
    program: int
    registers: tuple[tuple[str, int, int], ...]
    number: int
    lanes: int


def tile_places(generation: Generation) -> Places:
    """Of a core tile."""
    return Places(
        generation.beats.bit_length(), 10,
        (("lock", LOCKS_AT, 16), ("bd", BDS_AT, 128), ("start", STARTS_AT, 4), ("master", SWITCH_AT, 20),
         ("core", CORE_AT, 1)), 8, generation.line_bytes // 4,
    )  # fmt: skip


class ConfigPort(wiring.Component):
    """A tile's place on the bus. What comes in goes on to the next tile a cycle later, whosever it is.

    Ports:
        bus (In), onward (Out): `BUS`. column, row (In): where the tile is.
        In the cycle after a write to this tile: word_data (Out, 32) of it, and
        data (Out), data_addr (of a line), data_mask (a bit for each 32); with a core, program (4: a mask),
        program_addr; one (Out, 1) of the name of each of the registers of `Places`; number (Out): which word of them.
    """

    def __init__(self, places: Places | None = None):
        self.places = places = places or tile_places(AIE_ML)
        program = {"program": Out(4), "program_addr": Out(places.program)} if places.program else {}
        super().__init__({
            "bus": In(BUS), "onward": Out(BUS), "column": In(_COLUMN_BITS), "row": In(_ROW_BITS),
            "word_data": Out(32), "data": Out(1), "data_addr": Out(places.data),
            "data_mask": Out(places.lanes), **program,
            **{name: Out(1) for name, *_ in places.registers}, "number": Out(places.number),
        })

    def elaborate(self, platform: object) -> Module:
        m, places = Module(), self.places
        write, valid = register(Write, "write_q"), Signal(name="valid_q")
        mine, lane = Signal(name="mine"), Signal(places.lanes, name="lane")
        within = (places.lanes - 1).bit_length()
        coming = self.bus.write
        m.d.sync += [
            valid.eq(self.bus.valid), write.eq(coming),
            mine.eq(self.bus.valid & (coming.column == self.column) & (coming.row == self.row)),
        ]
        word = write.word
        m.d.comb += [
            self.onward.valid.eq(valid), self.onward.write.eq(write), lane.eq(1 << word[:within]),
            self.word_data.eq(write.data), self.data.eq(mine & (word[within + places.data :] == 0)),
            # The bus has words in the order of addresses, as memories do.
            self.data_mask.eq(lane), self.data_addr.eq(word[within:]), self.number.eq(word),
        ]
        if places.program:
            here = word[2 + places.program :] == PROGRAM_AT >> 4 + places.program
            quarter = lane if places.lanes == 4 else 1 << word[:2]
            m.d.comb += [self.program.eq(Mux(mine & here, quarter, 0)), self.program_addr.eq(word[2:])]
        for name, at, words in places.registers:
            m.d.comb += getattr(self, name).eq(mine & (word >= at >> 2) & (word < (at >> 2) + words))
        return m
