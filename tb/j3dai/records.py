# SPDX-License-Identifier: Apache-2.0
"""What the monitors of a J3DAI simulation recorded of an inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.boundaries.layouts import FIRST_STREAM
from nncosim.tb.j3dai.activity import CHANGE
from nncosim.tb.j3dai.build import (
    CHANGE_STREAM,
    COUNTERS_STREAM,
    ENTRY,
    ENTRY_STREAM,
    ENTRY_WRITE,
    ENTRY_WRITE_STREAM,
    FRAME_DONE,
    FRAME_DONE_STREAM,
    L2_READ,
    L2_READ_STREAM,
    L2_WRITE_STREAM,
    LIST_DONE,
    LIST_DONE_STREAM,
    TRANSFERS_STREAM,
    counters_dtype,
    l2_write_dtype,
    read_l2,
    transfers_dtype,
)
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.l1_capture import l1_write_dtype
from nncosim.tb.j3dai.l1_taps import L1_WRITE_STREAM, tapped_words
from nncosim.tb.j3dai.taps import tap_layouts
from nncosim.tb.netlist.twin import DIFFERENCE, DIFFERENCE_STREAM
from nncosim.tb.run.capture import Place, kept_places, read_back
from nncosim.tb.sim.backdoor import Backdoor

__all__ = ["RawFrame", "take_records"]


@dataclass
class RawFrame:
    """What the monitors recorded of one frame, as they recorded it. `start`: cycle of the request since reset.

    `loaded`, `memory`: see `nncosim.tb.backend.Frame`. `differences`: where gates parted from the RTL beside them.
    """

    start: int
    writes: np.ndarray
    lists: np.ndarray
    done: np.ndarray
    counters: np.ndarray
    transfers: np.ndarray
    changes: np.ndarray
    reads: np.ndarray
    l1: np.ndarray
    loaded: dict[str, np.ndarray]
    memory: dict[str, np.ndarray]
    entry: np.ndarray
    entry_writes: np.ndarray
    taps: dict[str, np.ndarray]
    differences: np.ndarray


def _kept(image: Image) -> list[Place]:
    """What still lies in memory at the end of a frame; not inputs whose place the next ones may have taken."""
    gone = image.notes.inputs if image.notes.streams else ()
    return [place for place in kept_places(places(image)) if place.name not in gone]


def take_records(
    model: Backdoor, platform: J3dai, image: Image, start: int, loaded: Mapping[str, np.ndarray], observe: bool = False
) -> RawFrame:
    """The monitors' records since the last call; and, by back door, what L2 holds of the results that are kept.

    observe: with those of the taps between the blocks.
    """
    layouts = tap_layouts(platform) if observe else {}
    return RawFrame(
        start,
        model.log(L2_WRITE_STREAM, l2_write_dtype(platform), clear=True),
        model.log(LIST_DONE_STREAM, LIST_DONE, clear=True),
        model.log(FRAME_DONE_STREAM, FRAME_DONE, clear=True),
        model.log(COUNTERS_STREAM, counters_dtype(platform), clear=True),
        model.log(TRANSFERS_STREAM, transfers_dtype(), clear=True),
        model.log(CHANGE_STREAM, CHANGE, clear=True),
        model.log(L2_READ_STREAM, L2_READ, clear=True),
        model.log(L1_WRITE_STREAM, l1_write_dtype(platform, tapped_words(platform)), clear=True),
        dict(loaded),
        read_back(_kept(image), partial(read_l2, model, platform=platform)),
        model.log(ENTRY_STREAM, ENTRY, clear=True),
        model.log(ENTRY_WRITE_STREAM, ENTRY_WRITE, clear=True),
        {name: model.log(FIRST_STREAM + number, layout, clear=True)
         for number, (name, layout) in enumerate(layouts.items())},
        model.log(DIFFERENCE_STREAM, DIFFERENCE, clear=True),
    )  # fmt: skip
