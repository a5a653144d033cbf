# SPDX-License-Identifier: Apache-2.0
"""Images by hand for memory tiles of the AIE-ML array: descriptors, locks and circuits by the manual's tables, and
where each word of a buffer lies by its formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes, tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes

__all__ = ["WORDS", "Bd", "MemoryTile", "image_of", "random_bd"]

WORDS = 1 << 17
"""Of 32 bits, in a memory tile."""
_BDS_AT, _STARTS_AT, _SWITCH_AT, _LOCKS_AT = 0xA0000, 0xA0600, 0xB0000, 0xC0000


def _signed(value: int) -> int:
    return value & 0x3FFFF


@dataclass(frozen=True)
class Bd:
    """steps: of dimensions 0 to 3. counts, pads (before, after): of 0 to 2. iteration: step, count.
    acquire: lock, value, at least. release: lock, delta."""

    base: int
    length: int
    steps: tuple[int, int, int, int] = (0, 0, 0, 1)
    counts: tuple[int, int, int] = (0, 0, 0)
    pads: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0), (0, 0))
    iteration: tuple[int, int] = (0, 0)
    next: int | None = None
    acquire: tuple[int, int, bool] | None = None
    release: tuple[int, int] | None = None

    def words(self) -> list[int]:
        """As they lie in the descriptors' memory."""
        (before0, after0), (before1, after1), (before2, after2) = self.pads
        lock, value, at_least = self.acquire or (0, 0, False)
        release_lock, delta = self.release or (0, 0)
        last = (0 if self.next is None else self.next | 1 << 6) | (self.acquire is not None) << 7 | lock << 8
        last |= (self.release is not None) << 14 | release_lock << 15 | (delta & 127) << 21
        return [
            self.base | before0 << 17 | after0 << 23, self.length | before1 << 18 | after1 << 23 | before2 << 28,
            *(_signed(step) | count << 18 for step, count in zip(self.steps, self.counts, strict=False)),
            _signed(self.steps[3]) | value << 18 | at_least << 24 | after2 << 25,
            _signed(self.iteration[0]) | self.iteration[1] << 18, last,
        ]  # fmt: skip

    def places(self, turn: int = 0, pads: bool = True) -> list[int | None]:
        """Of each word, when the descriptor is begun for the turn-th time; None: a zero.

        Args:
            pads: as MM2S does it; S2MM ignores them.
        """
        out: list[int | None] = []
        for n in range(self.length):
            rest, at, inside = n, self.base + turn % max(self.iteration[1], 1) * self.iteration[0], True
            for step, count, (before, after) in zip(self.steps, self.counts, self.pads, strict=False):
                before, after = (before, after) if pads else (0, 0)
                rest, index = divmod(rest, before + max(count, 1) + after)
                inside = inside and before <= index < before + max(count, 1)
                at += (index - before) * step
            out.append((at + rest * self.steps[3]) % WORDS if inside else None)
        return out

    def read(self, memory: np.ndarray, turn: int = 0) -> list[int]:
        """The words that MM2S sends."""
        return [0 if at is None else int(memory[at]) for at in self.places(turn)]


@dataclass
class MemoryTile:
    """bds: by number. starts: descriptor by channel, 0 to 5 S2MM, 6 to 11 MM2S. listens: slave by master."""

    bds: dict[int, Bd] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    listens: dict[int, int] = field(default_factory=dict)
    locks: dict[int, int] = field(default_factory=dict)


def _segment(base: int, at: int, words: Sequence[int]) -> Segment:
    return Segment("config", base + at, np.array(words, "<u4").tobytes())


def image_of(
    tiles: Mapping[tuple[int, int], MemoryTile], columns: int = 1, memory_rows: int = 1, rows: int = 1
) -> Image:
    """Of memory tiles, by (column, row). All start when all are configured."""
    segments, starts = [], []
    for (column, row), tile in tiles.items():
        base = tile_address(column, row)
        segments += [_segment(base, _LOCKS_AT + 4 * lock, [value]) for lock, value in tile.locks.items()]
        segments += [_segment(base, _BDS_AT + 32 * number, bd.words()) for number, bd in tile.bds.items()]
        segments += [_segment(base, _SWITCH_AT + 4 * master, [slave | 32]) for master, slave in tile.listens.items()]
        starts += [_segment(base, _STARTS_AT + 4 * channel, [number]) for channel, number in tile.starts.items()]
    return Image((*segments, *starts), notes=Notes(own=AieMlNotes(columns, rows, memory_rows)))


def random_bd(rng: np.random.Generator, most: int = 200, pads: bool = True) -> Bd:
    """A walk, without locks."""

    def step() -> int:
        return int(rng.choice([1, -1, 0, 2, 4, 5, -8, 64, int(rng.integers(-WORDS, WORDS))]))

    def pad(most: int) -> tuple[int, int]:
        sizes = [0, 0, 0, 0, 1, 2, int(rng.integers(most + 1))]
        return int(rng.choice(sizes)), int(rng.choice(sizes))

    none = ((0, 0), (0, 0), (0, 0))
    return Bd(
        int(rng.integers(WORDS)), int(rng.integers(1, most)), (1 if rng.random() < 0.5 else step(), step(), step(),
                                                               step()),
        (int(rng.integers(0, 12)), int(rng.integers(0, 5)), int(rng.integers(0, 4))),
        (pad(63), pad(31), pad(15)) if pads and rng.random() < 0.7 else none, (step(), int(rng.integers(0, 5))),
    )  # fmt: skip
