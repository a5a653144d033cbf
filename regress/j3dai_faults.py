# SPDX-License-Identifier: Apache-2.0
"""Data spoilt on its way into a memory, behind everything that observes it: do the checks of a run notice?

After every cycle the words that a memory has just taken are found by what it held before, and changed in its storage,
before anything can read them. No probe, monitor or record of the bench sees a difference. The same for the RTL (both
drivers) and for the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.iss.hart import Reason
from nncosim.tb.j3dai import iss_backend
from nncosim.tb.j3dai.build import SOC, host_memory, l2_rows
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.iss import FrameResult, Machine
from nncosim.tb.j3dai.iss_core import Core
from nncosim.tb.j3dai.l1_capture import l1_write_dtype
from nncosim.tb.j3dai.l1_taps import L1_WRITE_STREAM, tapped_words
from nncosim.tb.run import drive
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.model import Model

__all__ = ["WAYS", "Fault", "Site", "Spoiler", "planted", "rtl_site"]

WAYS = {
    "load to L1": "l1", "load to WMEM": "wmem", "load to IMEM": "imem", "store to L2": "l2", "last store to L2": "l2",
    "drain to L1": "l1", "host's store": "dmem",
}  # fmt: skip
"""Every way by which a run brings data into a memory, and the memory."""

Words = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fault:
    """`way`: of `WAYS`. `lost`: the memory keeps what it held; else it takes the complement. `first`: of the inferences
    (counted from 0) that are spoilt."""

    way: str
    lost: bool = False
    first: int = 0


@dataclass
class Site:
    """The memories that a fault is in, as arrays (..., word bytes) into their storage, and what tells ways apart.

    lists, lists_done: of an inference; since reset. drains: words that results have just written to L1: (index of the
    array, row) pairs. last: such pairs of the words of L2 that the last list of an inference writes.
    """

    memories: Sequence[Words]
    lists: int
    lists_done: Callable[[], int]
    drains: Callable[[], set[tuple[int, int]]]
    last: set[tuple[int, int]]


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
        drained = site.drains() if WAYS[fault.way] == "l1" else set()
        frame, step = divmod(self.lists_done, site.lists)  # as it was: the cycle may have ended a list
        self.lists_done = site.lists_done()
        wanted = frame >= fault.first and (fault.way != "last store to L2" or step == site.lists - 1)
        for index, (memory, before) in enumerate(zip(site.memories, self.before, strict=True)):
            if memory.tobytes() == before.tobytes():  # much faster than the comparison below
                continue
            rows = np.flatnonzero((memory != before).any(axis=1))
            chosen = {"load to L1": lambda at: at not in drained, "drain to L1": lambda at: at in drained,
                      "last store to L2": lambda at: at in site.last}.get(fault.way, lambda at: True)  # fmt: skip
            rows = np.array([row for row in rows if chosen((index, int(row)))], int)
            if wanted and len(rows):
                memory[rows] = before[rows] if fault.lost else ~memory[rows]
                self.count += len(rows)
            before[:] = memory


def rtl_site(model: Backdoor, lists_done: Callable[[], int], platform: J3dai, image: Image, fault: Fault) -> Site:
    """Of the SoC in a simulation."""
    memory, banks = WAYS[fault.way], platform.banks
    if memory == "l2":
        arrays = [bank[: _tensor_rows(platform, image)] for bank in l2_rows(model, platform)]
    elif memory == "dmem":
        arrays = [host_memory(model, "dmem")]
    else:
        paths = [f"{SOC}.cluster{c}.{memory}.bank{b}" for c in range(platform.clusters) for b in range(banks)]
        arrays = [model.memory(path, np.uint8) for path in paths]
    seen = [0]

    def drains() -> set[tuple[int, int]]:
        records = model.log(L1_WRITE_STREAM, l1_write_dtype(platform, tapped_words(platform)))
        new, seen[0] = records[seen[0] if len(records) >= seen[0] else 0 :], len(records)
        return {(cluster * banks + word % banks, word // banks) for cluster, word in _written(new)}

    last = {(word % banks, word // banks) for word in _last_words(image)}
    return Site(arrays, len(image.notes.steps), lists_done, drains, last)


def _iss_site(machine: Machine, image: Image, fault: Fault) -> Site:
    platform, core, memory = machine.platform, machine.core, WAYS[fault.way]
    if memory == "l2":
        rows = _tensor_rows(platform, image) * platform.banks
        arrays = [machine.l2.reshape(-1, platform.word_bytes)[:rows]]
    elif memory == "dmem":
        arrays = [machine.host_dmem.reshape(-1, 4)]
    else:
        arrays = [each.reshape(-1, platform.word_bytes) for each in getattr(core, memory)]
    kept: list[npt.NDArray[np.void]] = []
    take = core.l1_writes

    def drains() -> set[tuple[int, int]]:
        kept.append(take())
        return _written(kept[-1])

    def l1_writes() -> npt.NDArray[np.void]:
        out = np.concatenate([*kept, take()])
        kept.clear()
        return out

    if memory == "l1":
        core.l1_writes = l1_writes  # type: ignore[method-assign]
    steps, last = len(image.notes.steps), {(0, word) for word in _last_words(image)}
    return Site(arrays, steps, lambda: len(core.lists()), drains, last)


def _last_words(image: Image) -> list[int]:
    """Words of L2 that the last list of an inference writes."""
    last = len(image.notes.steps) - 1
    return [p.word + k for p in places(image).values() if p.lists == (last,) for k in range(p.words)]


def _tensor_rows(platform: J3dai, image: Image) -> int:
    """Rows of a bank of L2 in which all tensors lie."""
    end = max(place.word + place.words for place in places(image).values())
    return -(-end // platform.banks)


def _written(records: npt.NDArray[np.void]) -> set[tuple[int, int]]:
    """(cluster, word) of records of writes to L1."""
    out = set()
    for record in records:
        for lane, address in enumerate(record["address"]):
            if int(record["mask"]) >> lane & 1:
                out.add((int(record["cluster"]), int(address)))
    return out


class _SpoiltModel(Model):
    """The direct driver's model, cycle by cycle. The class's `job` says what is spoilt; `spoiler` is the latest."""

    job: Any = None
    spoiler: Spoiler | None = None

    def _spoiler(self) -> Spoiler:
        kind = type(self)
        if "_own" not in self.__dict__:
            platform, image, fault = kind.job
            site = rtl_site(self, lambda: self["lists_done"], platform, image, fault)
            self.__dict__["_own"] = kind.spoiler = Spoiler(fault, site)
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


@contextmanager
def planted(
    patch: pytest.MonkeyPatch, platform: J3dai, image: Image, fault: Fault, backend: str
) -> Iterator[Callable[[], int]]:
    """Within, runs of the image have the fault, on the RTL by the direct driver; gives how many words it spoilt."""
    with patch.context() as patched:
        if backend == "rtl":
            model = type("SpoiltModel", (_SpoiltModel,), {"job": (platform, image, fault)})
            patched.setattr(drive, "Model", model)
            yield lambda: model.spoiler.count if model.spoiler else 0  # type: ignore[attr-defined]
            return
        made: list[Spoiler] = []
        whole = Core.run

        def run(core: Core, until: int, asleep: bool = False) -> int:
            reason: int = Reason.REACHED
            while core.cycle < until and reason == Reason.REACHED:
                reason = whole(core, core.cycle + 1, asleep)
                made[-1].step()
            return reason

        class Spoilt(Machine):
            def load_elf(self, image_: Any) -> None:
                super().load_elf(image_)
                made.append(Spoiler(fault, _iss_site(self, image, fault)))

            def run_frame(self, max_cycles: int) -> FrameResult:
                made[-1].look()
                return super().run_frame(max_cycles)

        patched.setattr(Core, "run", run)
        patched.setattr(iss_backend, "Machine", Spoilt)
        yield lambda: made[-1].count
