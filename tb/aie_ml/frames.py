# SPDX-License-Identifier: Apache-2.0
"""From what a run recorded, on RTL or on the simulator, to its inferences."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.isa import BEAT_BYTES
from nncosim.tb.backend import Frame
from nncosim.tb.run.capture import Completion, Place, capture, intervals
from nncosim.tb.run.capture import places as places_in

__all__ = ["DEFAULT_LIMIT", "DONE", "LEAD_CYCLES", "STORE", "frame_of", "layer_cycles", "places"]

STORE = np.dtype([("cycle", "<u8"), ("beat", "<u4"), ("issued", "<u4"), ("stalls", "<u4"), ("data", "u1", (32,))])
"""A store: its cycle since the core was told to start; of the cycles before, those that issued and that stalled."""
DONE = np.dtype([("cycles", "<u8"), ("issued", "<u8"), ("stalls", "<u8"), ("at", "<u8")])
"""The end of an inference, in the same terms; `at`: since reset."""
DEFAULT_LIMIT = 10_000_000
"""Cycles of a frame where the caller sets no limit."""
LEAD_CYCLES = 2
"""From the first busy cycle to the first issue."""
_WRITE = np.dtype([("list", "<u4"), ("address", "<u4"), ("mask", "<u4"), ("data", "u1", (1, BEAT_BYTES))])


def places(image: Image) -> dict[str, Place]:
    """Tensors by beats of data memory."""
    return places_in(image, "data", 0, BEAT_BYTES)


def _completion(cycle: int, issued: int, stalls: int) -> Completion:
    counts = {"busy": issued, "wait_port": stalls, "control": cycle - issued - stalls}
    return Completion(cycle, {"core": counts})


def _ends(image: Image, stores: npt.NDArray[np.void], done: np.void | None) -> list[Completion]:
    """When each step was complete: its last store; the last step when the core is idle."""
    out = []
    ends = image.notes.own_as(AieMlNotes).ends
    for end in ends[:-1] if done is not None else ends:
        if end <= len(stores):
            last = stores[end - 1]
            # Its own cycle is a busy one, too: the core has not stalled in the cycle of a store that was granted last.
            out.append(_completion(int(last["cycle"]) + 1, int(last["issued"]) + 1, int(last["stalls"])))
    if done is not None:
        out.append(_completion(int(done["cycles"]), int(done["issued"]), int(done["stalls"])))
    return out


def layer_cycles(image: Image, stores: npt.NDArray[np.void], done: np.void) -> tuple[int, ...]:
    """Cycles of each layer, from the completion of the one before."""
    ends = [0, *(each.cycle for each in _ends(image, stores, done))]
    return tuple(after - before for before, after in pairwise(ends))


def frame_of(
    image: Image, stores: npt.NDArray[np.void], done: np.void | None, memory: Mapping[str, np.ndarray],
    loaded: Mapping[str, np.ndarray], poison: int,
) -> Frame:
    """An inference. `done`: None if it did not end."""
    ends = image.notes.own_as(AieMlNotes).ends
    writes = np.zeros(len(stores), _WRITE)
    writes["list"] = np.searchsorted(ends, np.arange(len(stores)), side="right")
    writes["address"], writes["mask"], writes["data"][:, 0] = stores["beat"], 1, stores["data"]
    tensors = capture(places(image), writes, 0, poison)
    completions = _ends(image, stores, done)
    start = _completion(0, 0, 0)
    steps = intervals(start, completions, completions[-1]) if completions else ()
    cycles = int(done["cycles"]) if done is not None else 0
    return Frame(cycles, tensors, steps, memory=memory if cycles else {}, loaded=loaded)
