# SPDX-License-Identifier: Apache-2.0
"""Core tiles beside each other with programs of their own: their image, and what it does on RTL and on the simulator.

Each core acquires BEGIN first, which a word from the shim releases: so both count cycles from the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.descriptors import Descriptor
from nncosim.compiler.aie_ml.loops import Line
from nncosim.compiler.aie_ml.notes import AieMlNotes, EarlyReads, tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes
from nncosim.hdl.aie_ml.array import SHIM_IN
from nncosim.hdl.aie_ml.config import BDS_AT, CORE_AT, LISTENS, LOCKS_AT, PROGRAM_AT, STARTS_AT, SWITCH_AT
from nncosim.hdl.aie_ml.isa import Control, ControlOp, LockUse
from nncosim.hdl.aie_ml.memory import PAIRS
from nncosim.hdl.aie_ml.ports import TILE_PORTS
from nncosim.hdl.aie_ml.tile import TILE
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_hazards import early_reads_of
from nncosim.tb.aie_ml.build import feed, load_image, poison_memories, run_once
from nncosim.tb.aie_ml.frames import RESULT, STATE, store_of
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.observe import channels_of
from nncosim.tb.aie_ml.rtl import RESULTS, SETTLE_CYCLES, STATES, STORES
from nncosim.tb.aie_ml.taps import seen_layouts
from nncosim.tb.boundaries.layouts import FIRST_STREAM
from nncosim.tb.lockstep import Channel
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel

__all__ = [
    "BEGIN", "FROM_SHIM", "TO_SHIM", "Column", "Found", "boundaries", "columns_image", "differs", "lock", "on_iss",
    "on_rtl",
]  # fmt: skip

BEGIN = 0
FROM_SHIM, TO_SHIM = TILE_PORTS.slave_at["south"], TILE_PORTS.master_at["south"]
LIMIT = 100_000
MEMORY_BYTES = PLATFORM.generation.beat_bytes * PLATFORM.generation.beats


@dataclass(frozen=True)
class Column:
    """What a tile does.

    descriptors, by number; starts: descriptor by channel (S2MM 0, 1, MM2S 0, 1); ways: slave by master of its switch;
    locks: their values. One of the channels that the shim's words come to is to release BEGIN.
    """

    program: bytes
    descriptors: Sequence[Descriptor]
    starts: Mapping[int, int]
    ways: Mapping[int, int]
    locks: Mapping[int, int] = field(default_factory=dict)

    def config(self) -> Iterator[tuple[int, Sequence[int]]]:
        """Addresses in the tile, and words."""
        for number, descriptor in enumerate(self.descriptors):
            yield BDS_AT + 32 * number, descriptor.words
        for number, value in self.locks.items():
            yield LOCKS_AT + 4 * number, (value,)
        for channel, number in self.starts.items():
            yield STARTS_AT + 4 * channel, (number,)
        for master, slave in self.ways.items():
            yield SWITCH_AT + 4 * master, (1 << LISTENS | slave,)
        yield CORE_AT, (1,)


@dataclass(frozen=True, eq=False)
class Found:
    """stores, states, results: as of `nncosim.tb.aie_ml.frames`, without states of tiles that do nothing. memory: of
    all columns at the end, bytes."""

    stores: npt.NDArray[np.void]
    states: npt.NDArray[np.void]
    results: npt.NDArray[np.void]
    memory: npt.NDArray[np.uint8]


def lock(op: ControlOp, number: int, value: int = 1, beside: Line | None = None, west: bool = False) -> Line:
    """ACQUIRE or RELEASE, in the control slot of a line."""
    word = encode(Control, op=op.value, payload=encode(LockUse, lock=number, value=value, west=int(west)))
    return Line(tuple(sorted((*(beside.slots if beside else ()), ("control", word)))))


def columns_image(tiles: Mapping[int, Column], memory: Sequence[bytes]) -> Image:
    """Tiles by column, in an array of one row. All that their programs read early is meant.

    Args:
        memory: of all columns, whole.
    """
    segments = [Segment("data", tile_address(column, 1), content) for column, content in enumerate(memory)]
    for column, tile in tiles.items():
        at = tile_address(column, 1)
        segments.append(Segment("program", at + PROGRAM_AT, tile.program, 5))
        segments += [Segment("config", at + to, np.array(words, "<u4").tobytes()) for to, words in tile.config()]
    early = tuple(EarlyReads(((column, 1),), early_reads_of(tile.program)) for column, tile in tiles.items())
    return Image(tuple(segments), 0, notes=Notes(own=AieMlNotes(columns=len(memory), early_reads=early)))


def _columns(image: Image) -> int:
    return image.notes.own_as(AieMlNotes).columns


def _given(image: Image) -> dict[int, npt.NDArray[np.uint32]]:
    return {SHIM_IN * column: np.array([12345], np.uint32) for column in range(_columns(image))}


def on_iss(image: Image, results: int = 0, poison: int = 1) -> Found | None:
    """Until so many words came out, or nothing goes on any more. None: a rule was broken, or it has no end.

    Args:
        results: 0: until all is done. poison: seed of what registers hold at first.
    """
    array = Array(image, PLATFORM, seed=poison)
    found = array.stream(_given(image), results or 1, LIMIT)
    if array.problems or (found.done is None if results else not array.quiet):
        return None
    memory = np.stack([array.memory((column, 1)) for column in range(_columns(image))])
    return Found(found.stores, found.states, found.results, memory)


def on_rtl(built: BuiltModel, image: Image, results: int = 0) -> Found:
    """The same. `built`: an array of one row, without memory tiles.

    Raises:
        SimulationTimeout: it has no end.
    """
    with _done_on_rtl(built, image, results) as model:
        kinds = (STORES, store_of(PLATFORM.generation)), (STATES, STATE), (RESULTS, RESULT)
        stores, states, came = (model.log(stream, fmt, clear=True) for stream, fmt in kinds)
        memory = np.stack([_memory(model, column) for column in range(_columns(image))])
    busy = np.unique(states["tile"][states["state"] != 0])
    return Found(stores, states[np.isin(states["tile"], busy)], came, memory)


@contextmanager
def _done_on_rtl(built: BuiltModel, image: Image, results: int = 0) -> Iterator[Model]:
    with Model(built, seed=1) as model:
        model.poison(1)
        poison_memories(model, PLATFORM, image, 1)
        writes = load_image(model, PLATFORM, image)
        feed(model, _columns(image), _given(image))
        held = {"config_writes": writes, "settle": SETTLE_CYCLES, "result_words": results, "gap_seed": 0}
        run_once(model, held, LIMIT)
        yield model


def boundaries(built: BuiltModel, image: Image) -> tuple[tuple[Channel, ...], tuple[Channel, ...]]:
    """What passes the boundaries of tiles, on RTL and on the simulator. `built`: with records of it."""
    layouts = seen_layouts(PLATFORM.generation)
    with _done_on_rtl(built, image) as model:
        found = {name: model.log(FIRST_STREAM + k, layout) for k, (name, layout) in enumerate(layouts.items())}
    array = Array(image, PLATFORM, seed=1, observe=True)
    array.stream(_given(image), 1, LIMIT)
    return channels_of(PLATFORM, image, found), channels_of(PLATFORM, image, array.seen())


def _memory(model: Model, column: int) -> npt.NDArray[np.uint8]:
    banks = [model.stack(f"array.tile_{column}_1.{TILE}.tile.data.bank{k}", np.uint8) for k in range(2 * PAIRS)]
    pairs = [np.concatenate([banks[2 * pair], banks[2 * pair + 1]], axis=1) for pair in range(PAIRS)]
    return np.concatenate(pairs).reshape(-1)


def differs(found: Found, expected: Found) -> str:
    """The first list that does."""
    for name in ("stores", "states", "results"):
        one, other = getattr(found, name), getattr(expected, name)
        columns = [each for each in one.dtype.names if each != "pc"]
        if len(one) != len(other) or any((one[each] != other[each]).any() for each in columns):
            return name
    return "memory" if (found.memory != expected.memory).any() else ""
