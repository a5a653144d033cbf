# SPDX-License-Identifier: Apache-2.0
"""Where data of a J3DAI run can be spoilt on its way into a memory (see `nncosim.regress.spoilt`): on the RTL, by both
drivers, and on the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.spoilt import At, Fault, Site, Spoiler, SpoiltModel
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

__all__ = ["WAYS", "planted", "rtl_site"]

WAYS = {
    "load to L1": "l1", "load to WMEM": "wmem", "load to IMEM": "imem", "store to L2": "l2", "last store to L2": "l2",
    "drain to L1": "l1", "host's store": "dmem",
}  # fmt: skip
"""Every way by which a run brings data into a memory, and the memory."""


def _chosen(fault: Fault, drains: Callable[[], set[At]], last: set[At]) -> Callable[[], Callable[[At], bool]]:
    """`Site.chosen`. drains: words that results have just written to L1. last: those of L2 that the last list of an
    inference writes."""
    if fault.way == "last store to L2":
        return lambda: last.__contains__
    if WAYS[fault.way] != "l1":
        return lambda: lambda at: True

    def chosen() -> Callable[[At], bool]:
        drained = drains()
        return lambda at: (at in drained) == (fault.way == "drain to L1")

    return chosen


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
    chosen = _chosen(fault, drains, last)
    return Site(arrays, len(image.notes.steps), lists_done, chosen, fault.way == "last store to L2")


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
    chosen = _chosen(fault, drains, last)
    return Site(arrays, steps, lambda: len(core.lists()), chosen, fault.way == "last store to L2")


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


@contextmanager
def planted(
    patch: pytest.MonkeyPatch, platform: J3dai, image: Image, fault: Fault, backend: str
) -> Iterator[Callable[[], int]]:
    """Within, runs of the image have the fault, on the RTL by the direct driver; gives how many words it spoilt."""
    with patch.context() as patched:
        if backend == "rtl":
            def site(model: Model) -> Site:
                return rtl_site(model, lambda: model["lists_done"], platform, image, fault)

            model = type("Spoilt", (SpoiltModel,), {"fault": fault, "site": staticmethod(site)})
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
