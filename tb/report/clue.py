# SPDX-License-Identifier: Apache-2.0
"""After a failure: where what is wrong comes from, and the command that writes a waveform of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nncosim.tb.backend import ElementOrigin, RunResult
from nncosim.tb.reference.compare import Divergence
from nncosim.tb.report.report import LayerReport, Report
from nncosim.tb.report.schema import ClueJson

__all__ = ["WAVEFORM", "Clue", "clue_of"]

WAVEFORM = "failure.fst"
"""Name of the waveform in the command."""
BEFORE_STOP = 1000
"""Cycles before a stop that are worth seeing."""


@dataclass(frozen=True)
class Clue:
    """`layer`: in which something is wrong, "" if none is to blame. `origin`: of the first wrong element. `trace`: the
    command, "" where no backend has waveforms."""

    layer: str = ""
    origin: ElementOrigin | None = None
    trace: str = ""

    def lines(self) -> list[str]:
        found = []
        if self.layer:
            found.append(f"in layer {self.layer}" + (f": {_told(self.origin)}" if self.origin else ""))
        if self.trace:
            found.append(f"trace it with: {self.trace}")
        return found

    def to_json(self) -> ClueJson:
        origin = self.origin
        return {
            "layer": self.layer or None,
            "memory": origin.memory if origin else None,
            "address": origin.address if origin else None,
            "cycle": origin.cycle if origin else None,
            "engine": (origin.engine or None) if origin else None,
            "trace": self.trace or None,
        }


def _told(origin: ElementOrigin) -> str:
    memory = origin.memory.upper() if len(origin.memory) < 4 else origin.memory
    if origin.cycle is None:
        return f"nothing was written to {memory} address {origin.address:#x}"
    by = f" by {origin.engine}" if origin.engine else ""
    return f"written{by} in cycle {origin.cycle:,} to {memory} address {origin.address:#x}"


def clue_of(report: Report, result: RunResult, command: Sequence[str]) -> Clue | None:
    """What there is to say of a run that failed; None of one that passed.

    `command`: up to the waveform's options; empty: no backend has waveforms.
    """
    first = report.comparison.first
    if report.passed:
        return None
    if report.diagnosis is not None:
        return Clue("", None, _join(command, _before_stop(result)))
    if first is not None:
        layer, origin = _layer_of(report, first), _origin_of(result, first)
        return Clue(layer.name if layer else "", origin, _join(command, _window(layer, first, origin)))
    late = next((layer.name for layer in report.layers if not layer.in_time), None)
    return Clue(late, None, _join(command, ("--trace-layer", late))) if late is not None else None


def _join(command: Sequence[str], window: Sequence[str]) -> str:
    return shlex.join([*command, "--trace", WAVEFORM, *window]) if command else ""


def _before_stop(result: RunResult) -> tuple[str, ...]:
    """The last cycles of a run that stopped in its first inference."""
    activity = result.frames[0].activity if len(result.frames) == 1 else ()
    end = max((int(a.end[-1]) for a in activity if len(a.end)), default=0)
    return ("--trace-from", str(end - BEFORE_STOP)) if end > BEFORE_STOP else ()


def _layer_of(report: Report, first: Divergence) -> LayerReport | None:
    op = next((t.op for t in report.comparison.tensors if t.tensor == first.tensor), "")
    return next((layer for layer in report.layers if op and op in (layer.name, *(m.name for m in layer.members))), None)


def _origin_of(result: RunResult, first: Divergence) -> ElementOrigin | None:
    frame = result.frames[first.frame] if first.frame < len(result.frames) else None
    return frame.origin(first.tensor, first.index) if frame and frame.origin else None


def _window(layer: LayerReport | None, first: Divergence, origin: ElementOrigin | None) -> tuple[str, ...]:
    """The layer in the first inference; in a later one, as many cycles as it takes up to the element's writing."""
    if layer is None:
        return ()
    if first.frame == 0:
        return ("--trace-layer", layer.name)
    if origin is None or origin.cycle is None:
        return ()
    begin = max(0, origin.cycle - (layer.cycles or BEFORE_STOP))
    return ("--trace-from", str(begin), "--trace-to", str(origin.cycle + 1))
