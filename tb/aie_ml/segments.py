# SPDX-License-Identifier: Apache-2.0
"""What an image puts into the array, tile by tile: the same for the RTL and for the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes, tile_of
from nncosim.compiler.image.image import Image, ImageError, Segment
from nncosim.hdl.aie_ml.config import PROGRAM_AT, Places, Write, tile_places
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES
from nncosim.hdl.aie_ml.memory_tile import memory_places
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["TileLoad", "bus_writes", "loads_of", "poisoned"]

_AT = {name: field.offset for name, field in Write.as_shape()}
"""First bit of each field of a write."""


@dataclass
class TileLoad:
    """data: (first beat, whole beats); in a memory tile lines for beats. registers: (address in the
    tile, word), in the image's order."""

    data: list[tuple[int, bytes]] = field(default_factory=list)
    program: bytes = b""
    registers: list[tuple[int, int]] = field(default_factory=list)


def poisoned(image: Image, platform: AieMl, seed: int) -> Iterator[tuple[tuple[int, int], bytes]]:
    """What lies in the data memories of the tiles that an image uses, and of the west neighbours of its core tiles,
    where it puts nothing: what is read of it and left out of all results is the same in two runs."""
    notes = image.notes.own_as(AieMlNotes)
    used = {*loads_of(image, platform)}
    used |= {(column - 1, row) for column, row in used if column and row >= notes.first_row}
    for column, row in sorted(used):
        places, _ = _places(notes, platform.generation, row)
        rng = np.random.default_rng([seed, column, row])
        yield (column, row), rng.bytes(platform.generation.line_bytes << places.data)


def loads_of(image: Image, platform: AieMl) -> dict[tuple[int, int], TileLoad]:
    """By (column, row).

    Raises:
        ImageError: a segment lies outside a tile's memories and registers, or is not whole beats, instructions, words.
    """
    notes = image.notes.own_as(AieMlNotes)
    loads: dict[tuple[int, int], TileLoad] = {}
    for segment in image.segments:
        column, row, at = tile_of(segment.address)
        if column >= notes.columns or not 0 < row < notes.first_row + notes.rows:
            raise ImageError(
                f"segment {segment.memory} at {segment.address:#x} is for tile ({column}, {row}), outside the "
                f"{notes.columns} x {notes.rows} tiles, and {notes.memory_rows} rows of memory tiles, that the image "
                "uses; compile it again")  # fmt: skip
        load, size = loads.setdefault((column, row), TileLoad()), len(segment.data)
        places, unit = _places(notes, platform.generation, row)
        data = platform.generation.line_bytes << places.data
        if at + size <= data and at % unit == size % unit == 0:
            load.data.append((at // unit, segment.data))
        elif places.program and at == PROGRAM_AT and size <= platform.program_bytes and size % INSTRUCTION_BYTES == 0:
            load.program = segment.data
        elif any(base <= at and at + size <= base + 4 * words for _, base, words in places.registers) and (
                at % 4 == size % 4 == 0):  # fmt: skip
            load.registers += [(at + 4 * k, int(w)) for k, w in enumerate(np.frombuffer(segment.data, "<u4"))]
        else:
            program = f"at the begin of program memory ({PROGRAM_AT:#x}, {platform.program_bytes} bytes) "
            raise ImageError(f"segment {segment.memory} of {size} bytes at {segment.address:#x} does not lie in data "
                             f"memory (0 to {data:#x} of tile ({column}, {row}), words of {unit} bytes), "
                             f"{program if places.program else ''}or in the registers; compile it again")
    return loads


def _places(notes: AieMlNotes, generation: Generation, row: int) -> tuple[Places, int]:
    """Of a tile; and the bytes of what its data is loaded by."""
    if row < notes.first_row:
        return memory_places(generation), generation.line_bytes
    return tile_places(generation), generation.beat_bytes


def bus_writes(image: Image, platform: AieMl, *, memories: bool = False) -> npt.NDArray[np.uint64]:
    """The words of the configuration bus, in the image's order, as `nncosim.hdl.aie_ml.config.Write`.

    Args:
        memories: also what lies in data and program memory; else by a back door.
    """
    out, notes = [], image.notes.own_as(AieMlNotes)
    for segment in image.segments:
        column, row, at = tile_of(segment.address)
        first = min(base for _, base, _ in _places(notes, platform.generation, row)[0].registers)
        if memories or at >= first:
            place = column << _AT["column"] | row << _AT["row"]
            out += [place | at_ >> 2 << _AT["word"] | word << _AT["data"] for at_, word in _words(segment, at)]
    return np.array(out, np.uint64)


def _words(segment: Segment, at: int) -> Iterator[tuple[int, int]]:
    words: Sequence[int] = np.frombuffer(segment.data, "<u4").tolist()
    yield from ((at + 4 * k, word) for k, word in enumerate(words))
