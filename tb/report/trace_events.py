# SPDX-License-Identifier: Apache-2.0
"""The timeline in the Chrome trace event format, for Perfetto (ui.perfetto.dev) and chrome://tracing.

Facts of the format ("Trace Event Format", catapult project): the JSON object form with `traceEvents`; a complete event
("X") has `name`, `cat`, `ts`, `dur` (microseconds), `pid`, `tid`, `args`; metadata events ("M") are `process_name`,
`thread_name` and `thread_sort_index`; a counter event ("C") carries its series in `args`. Complete events of a thread
must nest. The format counts microseconds: one cycle is written as one, so that viewers show whole cycles. The object
has no `displayTimeUnit`: older Perfetto takes "ns" or "ms" there for the unit of `ts`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from nncosim.platforms.plain import Json
from nncosim.tb.backend import Activity
from nncosim.tb.report.schema import LayerJson, ReportJson
from nncosim.tb.report.timeline import members_text, overlap, span

__all__ = ["TRACE", "trace_events", "trace_json"]

TRACE = "timeline.trace.json"

Event: TypeAlias = dict[str, Json]
"""One of the format's events."""

_PROCESS = 1
_LAYERS = 1  # thread of the layers; the engines follow
_QUIET = ("idle", "control", "sleep")
"""Kinds that are not written: nothing happened, or the few cycles between two spans."""
_FIRST_RATE = 0.001
"""When the first value of a counter stands, instead of at 0: older Perfetto loses a value at 0, and fails over it."""


def _metadata(kind: str, thread: int, **args: Json) -> Event:
    return {"name": kind, "ph": "M", "pid": _PROCESS, "tid": thread, "args": args}


def _threads(title: str, engines: Sequence[str]) -> Iterator[Event]:
    yield _metadata("process_name", 0, name=f"{title} (1 us = 1 cycle)")
    for thread, name in enumerate(("layers", *engines), _LAYERS):
        yield _metadata("thread_name", thread, name=name)
        yield _metadata("thread_sort_index", thread, sort_index=thread)


def _members(layer: LayerJson) -> Event:
    text = members_text(layer)
    return {"fused": text} if text else {}


def _facts(layer: LayerJson) -> Event:
    known: Event = {
        "op": layer["op"], "engine": layer["engine"], "macs": layer["macs"], "mac_per_cycle": layer["mac_per_cycle"],
        "iss_cycles": layer["iss_cycles"], "bit_exact": layer["bit_exact"],
    }  # fmt: skip
    return {key: value for key, value in known.items() if value is not None}


def _layers(report: ReportJson) -> Iterator[Event]:
    ran = [(layer, *when) for layer in report["layers"] if (when := span(layer)) is not None]
    one_by_one = not overlap(report["layers"])
    for number, (layer, begin, end) in enumerate(ran):
        args = _members(layer) | _facts(layer)
        event: Event = {"name": layer["name"], "cat": "layer", "ts": begin, "pid": _PROCESS, "tid": _LAYERS}
        if one_by_one:
            yield event | {"ph": "X", "dur": end - begin, "args": args}
            yield _rate(begin, layer["mac_per_cycle"] or 0)
        else:  # as events of one thread they would have to be nested
            yield event | {"ph": "b", "id": number, "args": args}
            yield event | {"ph": "e", "id": number, "ts": end}
    if one_by_one:
        yield _rate(max((end for _, _, end in ran), default=0), 0)


def _rate(cycle: int, value: float) -> Event:
    return {
        "name": "throughput", "ph": "C", "ts": cycle or _FIRST_RATE, "pid": _PROCESS, "tid": 0,
        "args": {"MAC/cycle": value},
    }  # fmt: skip


def _spans(report: ReportJson, activity: Activity, thread: int) -> Iterator[Event]:
    layers = [{"layer": layer["name"], **_members(layer)} for layer in report["layers"]]
    quiet = [number for number, kind in enumerate(activity.kinds) if kind in _QUIET]
    for i in np.nonzero(~np.isin(activity.kind, quiet))[0]:
        step, kind = int(activity.step[i]), activity.kinds[activity.kind[i]]
        args: dict[str, Json] = {"what": activity.texts[activity.text[i]]} if activity.texts[activity.text[i]] else {}
        args |= layers[step] if 0 <= step < len(layers) else {}
        args |= {"bytes": int(activity.bytes[i])} if activity.bytes[i] else {}
        args |= {name: int(values[i]) for name, values in activity.cycles.items() if values[i]}
        yield {
            "name": kind, "cat": kind.partition(":")[0].partition(" ")[0], "ph": "X", "ts": int(activity.start[i]),
            "dur": int(activity.end[i] - activity.start[i]), "pid": _PROCESS, "tid": thread, "args": args,
        }  # fmt: skip


def trace_events(report: ReportJson, activities: Sequence[Activity]) -> Iterator[Event]:
    """All events of a run. `report`: the contents of `report.json`; `activities`: from top to bottom."""
    first = f", first of {len(report['frames'])} inferences" if len(report["frames"]) > 1 else ""
    title = f"{report['model']} on {report['platform']}{first}"
    yield from _threads(title, [activity.engine for activity in activities])
    yield from _layers(report)
    for thread, activity in enumerate(activities, _LAYERS + 1):
        yield from _spans(report, activity, thread)


def trace_json(report: ReportJson, activities: Sequence[Activity]) -> bytes:
    """The file: a JSON object, an event a line."""
    facts = {"model": report["model"], "platform": report["platform"], "backend": report["backend"],
             "driver": report["driver"], "cycles": report["cycles"], "command": report["command"]}  # fmt: skip
    head = json.dumps({"otherData": {k: str(v) for k, v in facts.items() if v is not None}})
    events = ",\n".join(json.dumps(event, separators=(",", ":")) for event in trace_events(report, activities))
    return f'{head[:-1]}, "traceEvents": [\n{events}\n]}}\n'.encode()
