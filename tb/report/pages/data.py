# SPDX-License-Identifier: Apache-2.0
"""What the pictures are made from: the folder that `nncosim run --out` wrote."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from nncosim.compiler.image.image import Image
from nncosim.compiler.image.notes import BufferNote
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.tb.backend import Activity
from nncosim.tb.floor_plan import FLOOR_PLAN, FloorPlan, read_floor_plan
from nncosim.tb.report.schema import LayerJson, ReportJson
from nncosim.tb.report.timeline import COARSE, TIMELINE, disagreements, read_timeline, span
from nncosim.tb.run.program import MAX_SOURCE_BYTES, load_image
from nncosim.tb.system.files import sha256, unreadable

__all__ = ["ReportError", "Run", "load_run"]


class ReportError(NncosimError):
    """A folder that holds no run, or files of different runs."""


@dataclass(frozen=True)
class Run:
    """A run. `report`: the contents of report.json; `buffers`: those that its image notes; `floor_plan`: where the
    bench knows one."""

    report: ReportJson
    platform: Platform
    activities: Sequence[Activity]
    buffers: Sequence[BufferNote]
    floor_plan: FloorPlan | None = None

    @property
    def layers(self) -> list[LayerJson]:
        return self.report["layers"]

    @cached_property
    def intervals(self) -> list[tuple[int, int]]:
        """Start and end of each layer that ran, in cycles since the frame began."""
        return [ran for ran in itertools.takewhile(bool, map(span, self.layers)) if ran]

    @property
    def cycles(self) -> int:
        """Of the layers that ended."""
        return max((end for _, end in self.intervals), default=0)

    @cached_property
    def end(self) -> int:
        """Where the timeline ends: with the last layer, or where the run stopped in one."""
        return max([self.cycles, *(int(a.end[-1]) for a in self.activities if len(a.end))])

    @property
    def unfinished(self) -> tuple[LayerJson, int, int] | None:
        """The layer in which the run stopped, from the completion of the one before it."""
        number = len(self.intervals)
        if number == len(self.layers) or self.end == self.cycles:
            return None
        return self.layers[number], self.cycles, self.end

    @cached_property
    def rows(self) -> list[Activity]:
        """The engines from top to bottom: the host, what moves data, what computes."""
        def place(name: str) -> int:
            return 0 if name == "host" else 1 if self.platform.mover_of(name) else 2

        return sorted(self.activities, key=lambda activity: place(activity.engine))

    @property
    def is_fine(self) -> bool:
        """Whether the bench recorded more than the steps' counters."""
        return any(kind != COARSE for activity in self.activities for kind in activity.kinds)

    @cached_property
    def moved(self) -> list[int]:
        """Bytes moved for each layer, by whomever."""
        return [sum(int(a.bytes[a.step == step].sum()) for a in self.activities) for step in range(len(self.layers))]

    @cached_property
    def traffic(self) -> dict[str, list[int]]:
        """Mover, all its instances -> bytes that it moved for each layer, whenever that was."""
        out = {mover.name: [0] * len(self.layers) for mover in self.platform.movers}
        for activity in self.activities:
            mover = self.platform.mover_of(activity.engine)
            if mover is not None:
                own = activity.step >= 0
                moved = np.bincount(activity.step[own], activity.bytes[own], len(self.layers))
                out[mover] = [before + int(more) for before, more in zip(out[mover], moved, strict=True)]
        return out

    @cached_property
    def accesses(self) -> dict[str, tuple[int, int]]:
        """Buffer -> (begin of its first access, end of its last) by any engine."""
        out: dict[str, tuple[int, int]] = {}
        for activity in self.activities:
            for index, name in enumerate(activity.buffers):
                mine = activity.buffer == index
                begin, end = int(activity.start[mine].min()), int(activity.end[mine].max())
                known = out.get(name, (begin, end))
                out[name] = (min(known[0], begin), max(known[1], end))
        return out


def _read(directory: Path, name: str) -> bytes:
    if not (directory / name).exists():
        raise ReportError(
            f"{directory} holds no complete run: it has no {name}; make one with "
            f"`nncosim run MODEL.onnx --out {directory}`"
        )
    reason = unreadable(directory / name, MAX_SOURCE_BYTES)
    if reason:
        raise ReportError(reason)
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise ReportError(f"cannot read {directory / name}: {error.strerror or error}") from error


def load_run(directory: Path) -> Run:
    """Read a run, and check that its files belong together.

    Raises:
        ReportError: no folder, no run in it, or files of different runs.
        NncosimError: a damaged file.
    """
    if not directory.is_dir():
        what = "is a file, not a folder" if directory.exists() else "does not exist"
        raise ReportError(f"{directory} {what}; give the folder of `nncosim run MODEL.onnx --out DIR`")
    try:
        report: ReportJson = json.loads(_read(directory, "report.json"))
        image_hash = report["hashes"]["image"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{directory / 'report.json'} is damaged ({error!r}); run the model again") from error
    raw = _read(directory, "image.elf")
    if sha256(raw) != image_hash:
        raise ReportError(f"{directory}: image.elf is not the image of report.json; run the model again")
    _, platform, _ = load_image(directory / "image.elf", raw)
    buffers = Image.from_bytes(raw).notes.buffers
    _read(directory, TIMELINE)
    activities = read_timeline(directory / TIMELINE)
    wrong = disagreements(report, activities)
    if wrong:
        raise ReportError(f"{directory / TIMELINE} is not of the run in report.json: {wrong[0]}")
    return Run(report, platform, activities, buffers, _floor_plan(directory, image_hash))


def _floor_plan(directory: Path, image: str) -> FloorPlan | None:
    if not (directory / FLOOR_PLAN).exists():
        return None
    return read_floor_plan(_read(directory, FLOOR_PLAN), image)
