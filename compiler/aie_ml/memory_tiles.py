# SPDX-License-Identifier: Apache-2.0
"""Buffers in memory tiles: for parts of a tensor that are cut in another way than they are made, or wait for long.

A buffer has copies, some writers (S2MM channels) and some readers (MM2S channels). Each copy is written by all writers,
then read by all readers. A lock has one that releases it and one that acquires it, so that its count says which copy is
meant; tokens therefore go from channel to channel: `free` through the writers before they write, `done` through them
behind, so the last one knows that all have; `full` through the readers before they read, `read` behind. What a channel
only passes on is a descriptor of no words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from nncosim.compiler.aie_ml.descriptors import Descriptor
from nncosim.compiler.aie_ml.mapping import Part
from nncosim.compiler.aie_ml.notes import config_segment, tile_address
from nncosim.compiler.aie_ml.walks import Matrix, Order, Storage, Walk, tiles_across
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Segment
from nncosim.hdl.aie_ml.config import MEMORY_BDS_AT, MEMORY_LOCKS_AT, MEMORY_STARTS_AT
from nncosim.hdl.aie_ml.memory_tile import MEMORY_CHANNELS, MEMORY_DESCRIPTORS, MEMORY_LOCKS, MemoryDescriptor
from nncosim.hdl.aie_ml.ports import TILE_PORTS
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["CHANNELS", "WRITERS", "Access", "MemoryBuffer", "MemoryTiles", "descriptors_of", "segments_of_buffers"]

CHANNELS = MEMORY_CHANNELS // 2
"""Of each kind."""
WRITERS = TILE_PORTS.go["south"]
"""Streams from cores: so many come down a column, and none from beside."""
_READERS = TILE_PORTS.come["south"]
"""Streams up a column."""
# A channel takes two locks and three descriptors at most: there are enough of both.


class _Descriptor(Descriptor):
    fields = MemoryDescriptor
    dimensions = 4


@dataclass(frozen=True)
class Access:
    """What a channel moves. channel: of its kind. part: channels of the tensor. order: on the stream."""

    channel: int
    part: Part
    order: Order


@dataclass
class MemoryBuffer:
    """Part of a tensor in a memory tile.

    storage: TILES, or ROWS where it comes from the shim. bits: of an element. rows: of the tensor's matrix.
    """

    column: int
    row: int
    tensor: str
    part: Part
    storage: Storage
    bits: int
    rows: int
    copies: int
    generation: Generation
    writers: list[Access] = field(default_factory=list)
    readers: list[Access] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.tensor} {self.part[0]}..{self.part[1] - 1} ({self.column},{self.row})"

    @property
    def _across(self) -> int:
        """Words of a row of tiles, or of a row."""
        return self.storage.across(tiles_across(self.part[1] - self.part[0], self.bits), self.generation)

    @property
    def words(self) -> int:
        """Of one copy."""
        up = -(-self.rows // self.generation.rows)
        return self._across * up * (1 if self.storage == Storage.TILES else self.generation.rows)

    @property
    def bytes(self) -> int:
        """Of all copies."""
        return self.generation.word_bytes * self.words * self.copies

    def matrix(self, part: Part) -> Matrix:
        """Some of the tensor's channels in the first copy, in words from the begin of the buffer."""
        at = self.storage.across(tiles_across(part[0] - self.part[0], self.bits), self.generation)
        return Matrix(self.storage, at, self._across, self.bits, self.rows, part[1] - part[0], self.generation)


@dataclass
class _Room:
    writers: int = 0
    readers: int = 0
    bytes: int = 0


class MemoryTiles:
    """Which channels and how many bytes of the memory tiles are taken, and how many streams of their columns.

    Args:
        columns, rows: of memory tiles. size: of one, in bytes.

    Attributes:
        columns. any: whether there are some.
    """

    def __init__(self, columns: int, rows: int, size: int):
        self._size, self.columns, self.any = size, columns, rows > 0
        self._rooms = {(column, 1 + row): _Room() for column in range(columns) for row in range(rows)}
        self._up, self._down = Counter[int](), Counter[int]()

    def entry(self, near: int) -> int | None:
        """The column nearest to one with a stream up that is free, which is taken; None: there is none."""
        free = [c for c in range(self.columns) if self._up[c] < _READERS]
        if not free:
            return None
        found = min(free, key=lambda c: (abs(c - near), c))
        self._up[found] += 1
        return found

    def place(self, made: MemoryBuffer, near: float, writers: int, readers: int) -> None:
        """Give the buffer a memory tile near a column, with channels for so many. What comes from the shim has its
        stream already.

        Raises:
            CompileError: there is none with room.
        """
        size, down = made.bytes, writers if made.storage == Storage.TILES else 0
        free = [
            (abs(column - near), row, column) for (column, row), room in self._rooms.items()
            if room.writers + writers <= CHANNELS and room.readers + readers <= CHANNELS
            and room.bytes + size <= self._size and self._up[column] + readers <= _READERS
            and self._down[column] + down <= WRITERS
        ]  # fmt: skip
        if not free:
            raise CompileError(
                f"{size} bytes of tensor {made.tensor!r}, from {writers} streams to {readers}, find no memory tile "
                "with as many channels and as much memory free; use other splits, or a platform with more memory tiles")
        _, made.row, made.column = min(free)
        room = self._rooms[made.column, made.row]
        made.writers = [Access(room.writers + k, made.part, Order.TILES) for k in range(writers)]
        made.readers = [Access(room.readers + k, made.part, Order.TILES) for k in range(readers)]
        room.writers += writers
        room.readers += readers
        room.bytes += size
        self._up[made.column] += readers
        self._down[made.column] += down


def _tokens(buffer: MemoryBuffer, locks: Iterator[int]) -> tuple[list[list[int]], list[list[int]], dict[int, int]]:
    """Locks of all writers and all readers: what each acquires before and behind, in turn with what it releases; and
    with which values locks begin."""
    writers, readers = len(buffer.writers), len(buffer.readers)
    free, full = ([next(locks) for _ in range(n)] for n in (writers, readers))
    done, read = ([next(locks) for _ in range(n - 1)] for n in (writers, readers))
    ends = ([*done, full[0]], [*read, free[0]])
    both = []
    for before, behind, end in ((free, done, ends[0]), (full, read, ends[1])):
        both.append([[before[k], before[k + 1] if k + 1 < len(before) else -1, behind[k - 1] if k else -1, end[k]]
                     for k in range(len(before))])  # fmt: skip
    return both[0], both[1], {free[0]: buffer.copies}


def _channel(walk: Walk, iteration: tuple[int, int], tokens: Sequence[int], first: int) -> list[Descriptor]:
    """A channel's descriptors, for ever."""
    taken, passed, waited, given = tokens
    idle = Walk(0, ((1, 1),), 0)
    out: list[Descriptor] = []
    if passed >= 0:
        out.append(_Descriptor.of(idle, acquire=(taken, 1), release=(passed, 1)))
    out.append(_Descriptor.of(walk, iteration, acquire=(taken, 1) if passed < 0 else None,
                              release=(given, 1) if waited < 0 else None))  # fmt: skip
    if waited >= 0:
        out.append(_Descriptor.of(idle, acquire=(waited, 1), release=(given, 1)))
    return [replace(each, next=first + (k + 1) % len(out)) for k, each in enumerate(out)]


Chain = list[tuple[int, Descriptor]]


def descriptors_of(
    buffer: MemoryBuffer, address: int, locks: Iterator[int] | None = None, pools: list[int] | None = None
) -> tuple[dict[tuple[str, int], Chain], dict[int, int]]:
    """The descriptors of each channel ("s2mm" or "mm2s", number), with their numbers; and the locks that do not begin
    with 0.

    Args:
        address: of the buffer's first byte. locks: numbers that are free. pools: the first free descriptor of even and
            of odd channels, which are changed.
    """
    locks, pools = locks or count(), pools if pools is not None else [0, MEMORY_DESCRIPTORS // 2]
    writers, readers, values = _tokens(buffer, locks)
    iteration = (buffer.words, buffer.copies) if buffer.copies > 1 else (0, 0)
    out: dict[tuple[str, int], Chain] = {}
    for kind, accesses, tokens in (("s2mm", buffer.writers, writers), ("mm2s", buffer.readers, readers)):
        for access, own in zip(accesses, tokens, strict=True):
            at, pool = address // buffer.generation.word_bytes, access.channel % 2
            walk = buffer.matrix(access.part).moved(at).walk(access.order)
            made = _channel(walk, iteration, own, pools[pool])
            out[kind, access.channel] = list(enumerate(made, pools[pool]))
            pools[pool] += len(made)
    return out, values


def segments_of_buffers(buffers: Sequence[MemoryBuffer], at: Sequence[int]) -> tuple[list[Segment], list[Segment]]:
    """What is loaded into one memory tile, and what starts it.

    Args:
        buffers: all of that tile. at: their first bytes.

    Raises:
        CompileError: a field of a descriptor does not hold its value.
    """
    base = tile_address(buffers[0].column, buffers[0].row)
    values, loaded, starts = [0] * MEMORY_LOCKS, [], []
    locks, pools = count(), [0, MEMORY_DESCRIPTORS // 2]
    for buffer, address in zip(buffers, at, strict=True):
        channels, begin = descriptors_of(buffer, address, locks, pools)
        for lock, value in begin.items():
            values[lock] = value
        for (kind, channel), chain_ in channels.items():
            loaded += [config_segment(base + MEMORY_BDS_AT + 32 * number, each.words) for number, each in chain_]
            number = channel if kind == "s2mm" else CHANNELS + channel
            starts.append(config_segment(base + MEMORY_STARTS_AT + 4 * number, [chain_[0][0]]))
    return [config_segment(base + MEMORY_LOCKS_AT, values), *loaded], starts
