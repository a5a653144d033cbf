# SPDX-License-Identifier: Apache-2.0
"""Data spoilt on its way into a memory, behind everything that observes it: do the checks of a run notice?

After every cycle the words that a memory has just taken are found by what it held before, and changed in its storage,
before anything can read them. No probe, monitor or record of the bench sees a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.tb.sim.model import Model

__all__ = ["At", "Fault", "Site", "Spoiler", "SpoiltModel"]

Words = npt.NDArray[np.uint8]
At = tuple[int, int]
"""A word: index of the array, row."""


@dataclass(frozen=True)
class Fault:
    """`way`: one of the platform's, by which data comes into a memory. `lost`: the memory keeps what it held; else it
    takes the complement. `first`: of the inferences (counted from 0) that are spoilt."""

    way: str
    lost: bool = False
    first: int = 0


@dataclass
class Site:
    """The memories that a fault is in, as arrays (..., word bytes) into their storage, and what tells ways apart.

    lists, lists_done: of an inference; since reset. chosen: called after every cycle, which of the words that were
    written in it went the way. last: only those of an inference's last list.
    """

    memories: Sequence[Words]
    lists: int
    lists_done: Callable[[], int]
    chosen: Callable[[], Callable[[At], bool]]
    last: bool


class Spoiler:
    """Spoils what has been written since the last step. `count`: words so far."""

    def __init__(self, fault: Fault, site: Site):
        self.fault, self.site = fault, site
        self.count = 0
        self.lists_done = site.lists_done()
        self.before = [memory.copy() for memory in site.memories]

    def look(self) -> None:
        """Take what the memories hold as it is: the bench has put something there."""
        for memory, before in zip(self.site.memories, self.before, strict=True):
            before[:] = memory

    def step(self) -> None:
        site, fault = self.site, self.fault
        chosen = site.chosen()
        frame, step = divmod(self.lists_done, site.lists)  # as it was: the cycle may have ended a list
        self.lists_done = site.lists_done()
        wanted = frame >= fault.first and (not site.last or step == site.lists - 1)
        for index, (memory, before) in enumerate(zip(site.memories, self.before, strict=True)):
            if memory.tobytes() == before.tobytes():  # much faster than the comparison below
                continue
            rows = np.flatnonzero((memory != before).any(axis=1))
            rows = np.array([row for row in rows if chosen((index, int(row)))], int)
            if wanted and len(rows):
                memory[rows] = before[rows] if fault.lost else ~memory[rows]
                self.count += len(rows)
            before[:] = memory


class SpoiltModel(Model):
    """The direct driver's model, cycle by cycle. A subclass says what is spoilt: `fault`, and `site` of a model.
    `spoiler` is the latest."""

    fault: Fault
    site: Callable[[Model], Site]
    spoiler: Spoiler | None = None

    def _spoiler(self) -> Spoiler:
        kind: Any = type(self)
        if "_own" not in self.__dict__:
            self.__dict__["_own"] = kind.spoiler = Spoiler(kind.fault, kind.site(self))
        own: Spoiler = self.__dict__["_own"]
        return own

    def tick(self, count: int = 1) -> int:
        spoiler = self._spoiler()
        for _ in range(count):
            spoiler.look()
            super().tick()
            spoiler.step()
        return count

    def run_until(self, port: str, value: int = 1, max_cycles: int = 1_000_000) -> int:
        for cycle in range(max_cycles):
            if self[port] == value:
                return cycle
            self.tick()
        return super().run_until(port, value, 0)
