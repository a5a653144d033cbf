# SPDX-License-Identifier: Apache-2.0
"""The configuration bus: words of 32 bits on their way through the array, and what a tile takes from it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.logic import register

__all__ = [
    "BDS_AT", "BUS", "CORE_AT", "LISTENS", "LOCKS_AT", "PROGRAM_AT", "STARTS_AT", "SWITCH_AT", "TILE_BYTES",
    "ConfigPort", "Write",
]  # fmt: skip

TILE_BYTES = 1 << 18
"""Of a tile's own addresses."""
PROGRAM_AT, LOCKS_AT, BDS_AT, STARTS_AT, SWITCH_AT, CORE_AT = 0x20000, 0x30000, 0x30400, 0x30800, 0x30C00, 0x31000
"""In a tile: the program (AM020's address; the others are ours); a word for each lock; 8 for each buffer descriptor;
for each channel, to be started with the descriptor that is written; for each master of the switch (bit `LISTENS`, and
4-0: to which slave); bit 0: start the core. Data memory is at 0."""
LISTENS = 5
_COLUMN_BITS, _ROW_BITS = 6, 4


class Write(data.Struct):
    """`word`: the address in the tile, without its two low bits."""

    column: _COLUMN_BITS  # type: ignore[valid-type]
    row: _ROW_BITS  # type: ignore[valid-type]
    word: 16  # type: ignore[valid-type]
    data: 32  # type: ignore[valid-type]


BUS = wiring.Signature({"valid": Out(1), "write": Out(Write)})


class ConfigPort(wiring.Component):
    """A tile's place on the bus. What comes in goes on to the next tile a cycle later, whosever it is.

    Ports:
        bus (In), onward (Out): `BUS`. column, row (In): where the tile is.
        In the cycle after a write to this tile: word_data (Out, 32) of it, and
        data (Out), data_addr (12: of 128 bits), data_mask (4); program (4: a mask), program_addr (10);
        lock, bd, start, master, core (Out, 1 each); number (Out, 8): word address there.
    """

    def __init__(self) -> None:
        super().__init__({
            "bus": In(BUS), "onward": Out(BUS), "column": In(_COLUMN_BITS), "row": In(_ROW_BITS),
            "word_data": Out(32), "data": Out(1), "data_addr": Out(12), "data_mask": Out(4), "program": Out(4),
            "program_addr": Out(10), "lock": Out(1), "bd": Out(1), "start": Out(1), "master": Out(1), "core": Out(1),
            "number": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        write, valid = register(Write, "write_q"), Signal(name="valid_q")
        mine, lane = Signal(name="mine"), Signal(4, name="lane")
        coming = self.bus.write
        m.d.sync += [
            valid.eq(self.bus.valid), write.eq(coming),
            mine.eq(self.bus.valid & (coming.column == self.column) & (coming.row == self.row)),
        ]
        word = write.word
        m.d.comb += [
            self.onward.valid.eq(valid), self.onward.write.eq(write), lane.eq(1 << word[:2]),
            self.word_data.eq(write.data), self.data.eq(mine & (word[14:] == 0)), self.data_mask.eq(lane),
            # Beat and half: the bus has them in the order of addresses, as word ports do.
            self.data_addr.eq(word[2:14]), self.program_addr.eq(word[2:12]), self.number.eq(word[:8]),
            self.program.eq(Mux(mine & (word[12:] == PROGRAM_AT >> 14), lane, 0)),
        ]
        for port, at in ((self.lock, LOCKS_AT), (self.bd, BDS_AT), (self.start, STARTS_AT), (self.master, SWITCH_AT),
                         (self.core, CORE_AT)):
            m.d.comb += port.eq(mine & (word[8:] == at >> 10))
        return m
