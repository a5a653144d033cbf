# SPDX-License-Identifier: Apache-2.0
"""When each unit of each buffer is in use, from the order of all accesses to a memory.

Where all traffic of a memory is in one order, one access after the other, and a read behind a write sees what that has
written, the order alone says when a unit is written first and read last; waits and predicted times do not matter. An
inference's inputs are put in place before its first list and its outputs are read after its last, so inferences
that follow each other need nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from nncosim.compiler.placement.lives import BEFORE, BEHIND, Life, Lives
from nncosim.compiler.placement.placement import Buffer, outermost

__all__ = ["Access", "Ints", "lists_that_read", "lives_in_order"]

Ints = npt.NDArray[np.int64]


class Access(Protocol):
    """One read or write of units of a buffer."""

    @property
    def buffer(self) -> str: ...

    @property
    def write(self) -> bool: ...

    def units(self) -> Ints:
        """Which, counted from the buffer's start. Called for buffers that come and go only."""


class _Units:
    """First write and last use of each unit of a buffer."""

    def __init__(self, units: int):
        self.born = np.full(units, BEHIND, np.int64)
        self.dies = np.full(units, BEFORE - 1, np.int64)

    def use(self, at: Ints | slice, position: int, write: bool) -> None:
        """Positions come in ascending order."""
        if write:
            self.born[at] = np.minimum(self.born[at], position)
        self.dies[at] = np.maximum(self.dies[at], position)


def lives_in_order(
    lists: Sequence[tuple[str, Iterable[Access]]], buffers: Iterable[Buffer], where: tuple[str, int], unit: int
) -> Lives:
    """Lives of all buffers of one instance of a memory, over the lists of an inference.

    A unit counts as in use until the end of the list that writes it, so that a list leaves its tensor complete.

    Args:
        lists: (layer, accesses in order of execution), one after the other. Those of other memories are passed over.
        buffers: whatever the accesses name; only what is not there for the whole run gets a life.
        where: memory and instance. unit: bytes.
    """
    known = {b.name: b for b in buffers if b.where == where}
    place = {b.name: outermost(b, known) for b in known.values()}
    units = {root.name: _Units(-(-root.size // unit)) for root, _ in place.values() if not root.always}
    for buffer in known.values():
        root, offset = place[buffer.name]
        if root.always:
            continue
        at = slice(offset // unit, -(-(offset + buffer.size) // unit))
        if buffer.from_start:
            units[root.name].use(at, BEFORE, True)
        if buffer.to_end:
            units[root.name].use(at, BEHIND, False)
    starts = {name: (root.name, offset // unit) for name, (root, offset) in place.items()}
    steps, position = [], 0
    for name, accesses in lists:
        steps.append((position, name))
        position = _use(accesses, position, starts, units)
    of = {name: Life.of_units(each.born, each.dies) for name, each in units.items()}
    return Lives(where[0], unit, of, tuple(steps), where[1])


def _use(
    accesses: Iterable[Access], position: int, starts: Mapping[str, tuple[str, int]], units: Mapping[str, _Units]
) -> int:
    """Plays a list from a position on, and returns the one behind it. starts: where each buffer lies in which of
    `units`, and of others."""
    written: list[tuple[str, Ints]] = []
    for access in accesses:
        root, start = starts.get(access.buffer, ("", 0))
        if root not in units:
            continue
        at = access.units() + start
        units[root].use(at, position, access.write)
        if access.write:
            written.append((root, at))
        position += 1
    for root, at in written:
        units[root].use(at, position, False)
    return position + 1


def lists_that_read(names: Iterable[str], lists: Iterable[Iterable[Access]], buffers: Iterable[Buffer]) -> int:
    """So many lists, the first ones, hold all reads of what those buffers lie in; 1 if nothing reads them."""
    known = {b.name: b for b in buffers}
    roots = {outermost(known[name], known)[0].name for name in names}
    reads = [any(not a.write and a.buffer in known and outermost(known[a.buffer], known)[0].name in roots for a in each)
             for each in lists]  # fmt: skip
    return max((i + 1 for i, found in enumerate(reads) if found), default=1)
