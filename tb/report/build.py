# SPDX-License-Identifier: Apache-2.0
"""From what compiler, bench and comparison found to the report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Required, TypedDict, Unpack

from nncosim.compiler.image.expected import Expected
from nncosim.compiler.image.notes import Step
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.topology import topology
from nncosim.kernels.base import Cost
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value
from nncosim.tb.backend import EntryFacts, Frame, Interval, RunResult
from nncosim.tb.reference.compare import Comparison
from nncosim.tb.report.pace import Pace
from nncosim.tb.report.report import LayerReport, Member, Report
from nncosim.tb.report.requantization import requantization_of
from nncosim.tb.sim.waves import Waveform

__all__ = ["RunFacts", "build_report", "layers_of"]


def _interval(frame: Frame, index: int) -> Interval | None:
    return next((i for i in frame.intervals if i.step == index), None)


def _member(network: Network, op: Op, comparison: Comparison) -> Member:
    tensors = comparison.of_op(op.name)
    first = next((t.first for t in tensors if not t.exact), None)
    return Member(op.name, op.title, network.macs(op), all(t.exact for t in tensors), first)


def _layer(
    network: Network, platform: Platform, index: int, step: Step, expected: Sequence[Cost], frames: Sequence[Frame],
    comparison: Comparison,
) -> LayerReport:
    by_name = {op.name: op for op in network.ops}
    ops = [by_name[name] for name in step.ops if name in by_name]
    found = [_interval(frame, index) for frame in frames]
    interval = found[0] if found else None
    counters = interval.counters if interval else {}
    later = (Pace(i.end - i.start if i else None, cost) for i, cost in zip(found[1:], expected[1:], strict=False))
    tensors = [t for op in ops for t in comparison.of_op(op.name)]
    proofs = [op.proof for op in ops if op.proof is not None]
    differing = sum(p.differing_values for p in proofs)
    deviations = [p.deviation for p in proofs if p.deviation]
    text = "" if not proofs else "exact" if all(p.exact for p in proofs) else f"{differing} values differ"
    undecided = sum(p.undecided_values for p in proofs)
    text += f", {undecided} undecided" if undecided else ""
    text = "; ".join(dict.fromkeys([*deviations, *([text] if text != "exact" else [])])) if deviations else text
    return LayerReport(
        name=step.name,
        op=" + ".join(op.title for op in ops) or "-",
        engine=step.engine,
        macs=sum(network.macs(op) for op in ops),
        expected=expected[0],
        limits=platform.limits,
        cycles=interval.end - interval.start if interval else None,
        start=interval.start if interval else None,
        counters=counters,
        instances=tuple(name for name in counters if name in step.engines or platform.engine_of(name) in step.engines),
        transfers=interval.transfers if interval else {},
        exact=all(t.exact for t in tensors),
        first=next((t.first for t in tensors if not t.exact), None),
        requantization=text,
        later=tuple(later),
        estimated_cycles=step.estimated_cycles,
        members=tuple(_member(network, op, comparison) for op in ops) if len(ops) > 1 else (),
    )


def layers_of(
    network: Network, platform: Platform, schedule: Sequence[Step], expected: Sequence[Expected], result: RunResult,
    comparison: Comparison,
) -> tuple[LayerReport, ...]:
    """A row a step of the schedule, with its cycles in every inference."""
    return tuple(
        _layer(network, platform, i, step, [each.steps[i] for each in expected], result.frames, comparison)
        for i, step in enumerate(schedule)
    )


class RunFacts(TypedDict, total=False):
    """Fields of a `Report` that compiler, bench and comparison do not know."""

    model: Required[str]
    settings: Required[Mapping[str, Value]]
    compiler_options: Mapping[str, str]
    seed: Required[int]
    input: Required[str]
    wall_seconds: Required[Mapping[str, float]]
    versions: Required[Mapping[str, str]]
    hashes: Required[Mapping[str, str | None]]
    command: str
    date: str
    waveform: Waveform | None
    entry: EntryFacts
    interval_cycles: float | None


def build_report(
    network: Network,
    platform: Platform,
    schedule: Sequence[Step],
    expected: Sequence[Expected],
    result: RunResult,
    comparison: Comparison,
    **facts: Unpack[RunFacts],
) -> Report:
    """Put together what compiler, bench and comparison found.

    Args:
        expected: predicted of each inference, and of the first also where none came to its end.
        facts: what the report says of the run besides.
    """
    # An inference that did not end has tensors to look at, but 0 cycles.
    complete = [frame for frame in result.frames if frame.cycles]
    return Report(
        platform=platform,
        backend=result.backend,
        driver=result.driver,
        macs=sum(network.macs(op) for op in network.ops),
        topology=topology(network),
        layers=layers_of(network, platform, schedule, expected, result, comparison),
        frame_cycles=tuple(frame.cycles for frame in complete),
        intervals=_intervals_of(complete),
        passages=tuple(frame.passages for frame in complete),
        inferences=tuple(expected),
        comparison=comparison,
        requantization=requantization_of(network),
        remarks=network.remarks,
        floor_plan=result.floor_plan,
        diagnosis=result.diagnosis,
        **facts,
    )


def _intervals_of(frames: Sequence[Frame]) -> tuple[int, ...]:
    """From the end of each inference to the end of the next, where they overlap; () where they do not."""
    ends: list[int] = []
    overlapping = False
    for frame in frames:
        start = frame.start if frame.start is not None else ends[-1] if ends else 0
        overlapping |= bool(ends) and start < ends[-1]
        ends.append(start + frame.cycles)
    return tuple(b - a for a, b in pairwise(ends)) if overlapping else ()
