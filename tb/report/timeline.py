# SPDX-License-Identifier: Apache-2.0
"""The timeline of a run as a file: what each engine did when, in the first inference.

`timeline.npz` holds, for engine number k, arrays `k.start` (n + 1 cycles: the n starts and the last end), `k.kind`,
`k.text`, `k.buffer`, `k.step`, `k.bytes` (n each) and `k.cycles` (n, categories), and one array `names` (JSON as bytes)
with the tables that they index. See `nncosim.tb.backend.Activity`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from nncosim.platforms.errors import NncosimError
from nncosim.tb.backend import Activity, Frame, Interval
from nncosim.tb.report.schema import LayerJson, ReportJson
from nncosim.tb.system.npz import NpzError, npz_bytes, read_arrays

__all__ = [
    "COARSE",
    "TIMELINE",
    "TimelineError",
    "activity_of_intervals",
    "disagreements",
    "members_text",
    "overlap",
    "read_timeline",
    "span",
    "timeline_npz",
]

TIMELINE = "timeline.npz"
COARSE = "step"
"""Kind of a span that says no more than that a step ran: of benches that record nothing finer."""

_REMEDY = "run the model again with --out"
_ARRAYS = ("kind", "text", "buffer", "step", "bytes")


class _Names(TypedDict):
    """Of one engine, what its arrays index."""

    engine: str
    kinds: Sequence[str]
    texts: Sequence[str]
    buffers: Sequence[str]
    categories: Sequence[str]


class TimelineError(NncosimError):
    """A timeline that is damaged, or belongs to another run."""


def activity_of_intervals(intervals: Sequence[Interval]) -> tuple[Activity, ...]:
    """The coarse timeline of a bench without a record: a span an engine and step, with the step's counters.

    None at all where steps overlap: nobody knows then when in a step an engine was busy.
    """
    if any(b.start < a.end for a, b in pairwise(intervals)):
        return ()
    out = []
    engines = dict.fromkeys(engine for interval in intervals for engine in interval.counters)
    for engine in engines:
        count = len(intervals)
        zero = np.zeros(count, np.int64)
        categories = dict.fromkeys(name for i in intervals for name in i.counters.get(engine, ()))
        cycles = {
            name: np.array([i.counters.get(engine, {}).get(name, 0) for i in intervals], np.int64)
            for name in categories
        }
        start, end = (np.array([getattr(i, side) for i in intervals], np.int64) for side in ("start", "end"))
        steps = np.array([i.step for i in intervals], np.int64)
        out.append(Activity(engine, start, end, (COARSE,), zero, ("",), zero, (), zero - 1, steps, zero, cycles))
    return tuple(out)


def timeline_npz(frame: Frame) -> bytes:
    """The file of an inference; the same for the same run."""
    arrays: dict[str, np.ndarray] = {}
    names: list[_Names] = []
    for number, activity in enumerate(frame.activity or activity_of_intervals(frame.intervals)):
        categories = list(activity.cycles)
        names.append({
            "engine": activity.engine, "kinds": activity.kinds, "texts": activity.texts, "buffers": activity.buffers,
            "categories": categories,
        })  # fmt: skip
        arrays[f"{number}.start"] = np.append(activity.start, activity.end[-1:]).astype(np.int64)
        for name in _ARRAYS:
            arrays[f"{number}.{name}"] = getattr(activity, name).astype(np.int32)
        table = [activity.cycles[category] for category in categories]
        arrays[f"{number}.cycles"] = np.array(table, np.int32).reshape(len(categories), -1).T
    arrays["names"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    return npz_bytes(arrays, compress=True)


def read_timeline(path: Path) -> tuple[Activity, ...]:
    """What `timeline_npz` wrote.

    Raises:
        TimelineError: the file is damaged.
    """
    try:
        file = read_arrays(path)
        names = json.loads(file["names"].tobytes())
        return tuple(_activity(file, number, entry) for number, entry in enumerate(names))
    except (NpzError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise TimelineError(f"{path} is damaged ({error or type(error).__name__}); {_REMEDY}") from error


def _activity(file: Mapping[str, np.ndarray], number: int, entry: _Names) -> Activity:
    start = file[f"{number}.start"].astype(np.int64)
    kind, text, buffer, step, moved = (file[f"{number}.{name}"].astype(np.int64) for name in _ARRAYS)
    table = file[f"{number}.cycles"].astype(np.int64)
    cycles = {category: table[:, column] for column, category in enumerate(entry["categories"])}
    if len({len(start) - 1, len(kind), len(text), len(buffer), len(step), len(moved), len(table)}) != 1:
        raise ValueError(f"arrays of engine {entry['engine']!r} differ in length")
    return Activity(
        entry["engine"], start[:-1], start[1:], tuple(entry["kinds"]), kind, tuple(entry["texts"]), text,
        tuple(entry["buffers"]), buffer, step, moved, cycles,
    )  # fmt: skip


def members_text(layer: LayerJson) -> str:
    """The operators of a fused group, "dw1 (Conv 3x3 dw), project1 (Conv 1x1)"; empty where a layer is one operator.

    `layer`: an entry of `layers` in report.json. Which of them an engine works on is not in the record.
    """
    return ", ".join(f"{member['name']} ({member['op']})" for member in layer["members"])


def disagreements(report: ReportJson, activities: Sequence[Activity]) -> list[str]:
    """What of a timeline contradicts the report of its run: cycles of a span, sums by layer, engine and category."""
    wrong = []
    for activity in activities:
        total = sum(activity.cycles.values(), np.zeros(len(activity.start), np.int64))
        for index in np.nonzero(total != activity.end - activity.start)[0][:1]:
            wrong.append(f"{activity.engine}: the span from cycle {activity.start[index]} to {activity.end[index]} "
                         f"accounts for {total[index]} cycles")  # fmt: skip
    by_name = {activity.engine: activity for activity in activities}
    together = overlap(report["layers"])
    if together and not activities:  # the bench recorded none
        return []
    for step, layer in enumerate(report["layers"]):
        ran = span(layer)
        if ran is None:
            continue
        begin, end = ran
        for engine, counters in layer["counters"].items():
            mine = by_name.get(engine)
            if mine is None:
                wrong.append(f"layer {layer['name']}: engine {engine} is not in the timeline")
            elif together:  # an engine's waiting is nobody's
                busy = {category: cycles for category, cycles in counters.items() if category == "busy"}
                wrong += _differences(layer["name"], busy, mine, mine.step == step)
            else:
                wrong += _differences(layer["name"], counters, mine, (mine.start >= begin) & (mine.end <= end))
    return wrong


def span(layer: LayerJson) -> tuple[int, int] | None:
    """From when to when a layer of report.json ran, in cycles since the inference began; None: it did not end."""
    start, cycles = layer["start"], layer["cycles"]
    return None if start is None or cycles is None else (start, start + cycles)


def overlap(layers: Sequence[LayerJson]) -> bool:
    """Whether one of the layers that ended began before the one before it had."""
    return any(begin < end for (_, end), (begin, _) in pairwise(filter(None, map(span, layers))))


def _differences(
    layer: str, counters: Mapping[str, int], activity: Activity, inside: npt.NDArray[np.bool_]
) -> list[str]:
    """inside: the spans that make up the counters."""
    engine = activity.engine
    empty = np.zeros(len(inside), np.int64)
    sums = {category: int(activity.cycles.get(category, empty)[inside].sum()) for category in counters}
    return [
        f"layer {layer}, {engine}: {category} is {counters[category]} cycles in the report, "
        f"{sums[category]} in the timeline"
        for category in counters
        if sums[category] != counters[category]
    ]
