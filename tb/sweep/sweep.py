# SPDX-License-Identifier: Apache-2.0
"""What-if: a grid of machine parameters, models compiled and run on every point of it, and the Pareto front.

    axes = parse_grid(platform, ("clusters=2,4,6", "dmpa_bits=512,1024"))
    points = grid_points(1, platform, {}, axes)
    job = make_job(platform, [load_subject(path, platform)], options)
    rows = [run_point(point, job) for point in points]      # or in parallel: `nncosim.tb.sweep.cluster`
    front = pareto_front(rows, front_metrics(platform))     # numbers of rows

A point that cannot be (parameters that contradict each other, a network that does not fit) is a row with the reason.
"""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from nncosim.compiler.backends import AnyBackend, backend_for, register_backend
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.ir.network import Network
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.metrics import Figures, Metric
from nncosim.platforms.parameters import Value, check_names, parameter
from nncosim.platforms.registry import register
from nncosim.tb.backend import AnyBench, get_bench, register_bench
from nncosim.tb.errors import BenchError
from nncosim.tb.report.report import Report
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.program import Program, compile_model, prove_model, read_source
from nncosim.tb.system.files import sha256

__all__ = [
    "DEFECT",
    "MOST_POINTS",
    "REFUSED",
    "Confirmation",
    "Job",
    "Point",
    "Row",
    "Subject",
    "SweepError",
    "front_metrics",
    "grid_points",
    "load_subject",
    "make_job",
    "pareto_front",
    "parse_grid",
    "program_of",
    "reason_of",
    "run_point",
    "top_points",
]

REFUSED, DEFECT = "refused", "defect"
"""Verdicts of a row beside those of a run: it cannot be compiled or run; nncosim itself failed."""

MOST_POINTS = 10_000
"""Of a sweep: compiled and run at some a second, that is an hour."""

Grid = Mapping[str, tuple[Value, ...]]


class SweepError(BenchError):
    """A grid that makes no sense, or a scheduler that cannot be used."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, imported and proved once for all points. `digest`: SHA-256 of its file."""

    name: str
    path: Path
    data: bytes
    network: Network

    @property
    def digest(self) -> str:
        return sha256(self.data)


@dataclass(frozen=True)
class Point:
    """One point of the grid. `subject`: number of the model. `settings`: all that is changed of the machine."""

    number: int
    subject: int
    settings: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class Job:
    """What all points have in common, in a form that another process can use.

    `platform`: without the points' settings. `compiler_options`: by name. `plug`: compiler back end and bench of a
    platform that lies outside the package, None for one inside.
    """

    platform: Platform
    subjects: tuple[Subject, ...]
    options: RunOptions
    compiler_options: Mapping[str, str] = field(default_factory=dict)
    plug: tuple[AnyBackend, AnyBench] | None = None


class Confirmation(TypedDict, total=False):
    """What the other backend of --confirm made of a point; empty where it was not asked."""

    backend: str
    cycles: int | None
    verdict: str
    reason: str


@dataclass(frozen=True)
class Row:
    """What a point gave. All figures are None where it was refused.

    verdict: that of the run, `REFUSED` or `DEFECT`; reason: why, if it is not "pass".
    metrics: the platform's, by name; empty where nothing ended. iss_cycles: as predicted of the first inference.
    """

    point: Point
    model: str
    verdict: str
    reason: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    iss_cycles: int | None = None
    macs: int | None = None
    exact_layers: int | None = None
    layers: int | None = None
    image_sha256: str | None = None
    confirmed: Confirmation = field(default_factory=Confirmation)

    @property
    def ran(self) -> bool:
        return bool(self.metrics)

    @property
    def passed(self) -> bool:
        return self.verdict == "pass" and self.confirmed.get("verdict", "pass") == "pass"


def parse_grid(platform: Platform, texts: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """("clusters=2,4", "l2_bytes=0x280000") as axes: name to values, in the order given.

    Raises:
        SweepError: not of that form, a value twice, or an axis twice.
        PlatformError: the platform has no such parameter, or it takes no such value.
    """
    axes: dict[str, tuple[Value, ...]] = {}
    for text in texts:
        name, _, given = (part.strip() for part in text.partition("="))
        values = [value.strip() for value in given.split(",")]
        if not name or not all(values):
            raise SweepError(f"--grid must look like PARAMETER=A,B,C, not {text!r}")
        if name in axes:
            raise SweepError(f"--grid {name} is given twice; put all its values into one: {name}=A,B,C")
        axes[name] = tuple(parameter(platform, name, value) for value in values)
        if len(set(axes[name])) < len(values):
            raise SweepError(f"--grid {text!r} has a value twice")
    if not axes:
        raise SweepError("a sweep needs at least one --grid, such as --grid clusters=2,4,6")
    return axes


def load_subject(
    path: Path, platform: Platform, forms: Mapping[str, InputForm] | None = None, nearest: bool = False
) -> Subject:
    """Import and prove a model. `forms`, `nearest`: see `compiler.frontend.import_model`.

    Raises:
        NncosimError: no such file, not a model, or one that is not supported on any machine.
    """
    data = read_source(path)
    return Subject(path.name, path, data, prove_model(path, data, platform, forms, nearest))


def grid_points(subjects: int, platform: Platform, fixed: Mapping[str, Value], grid: Grid) -> tuple[Point, ...]:
    """All points: model by model, the first axis slowest.

    Args:
        fixed: settings that all points share.

    Raises:
        SweepError: an axis that is also fixed, or more than `MOST_POINTS`.
        PlatformError: the platform has no such parameter.
    """
    for name in grid:
        if name in fixed:
            raise SweepError(f"{name} is given by --set and by --grid; leave one out")
    check_names(platform, grid)
    count = subjects * math.prod(len(values) for values in grid.values())
    if count > MOST_POINTS:
        sizes = " x ".join(f"{name} ({len(values)})" for name, values in grid.items())
        raise SweepError(f"this grid has {count:,} points ({subjects} models, {sizes}), and a sweep takes "
                         f"{MOST_POINTS:,}; give fewer values, or fix some with --set and sweep the rest")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    wanted = itertools.product(range(subjects), combinations)
    return tuple(Point(number, subject, {**fixed, **own}) for number, (subject, own) in enumerate(wanted))


def make_job(
    platform: Platform, subjects: Sequence[Subject], options: RunOptions,
    compiler_options: Mapping[str, str] | None = None,
) -> Job:
    inside = importlib.util.find_spec(f"nncosim.platforms.{platform.name}") is not None
    plug = None if inside else (backend_for(platform), get_bench(platform))
    return Job(platform, tuple(subjects), options, compiler_options or {}, plug)


def _plug_in(job: Job) -> None:
    """Make a platform from outside the package known in this process."""
    if job.plug is not None:
        register(job.platform)
        register_backend(job.platform.name, job.plug[0])
        register_bench(job.platform.name, job.plug[1])


def program_of(point: Point, job: Job) -> tuple[Program, Platform]:
    """Compile a point.

    Raises:
        NncosimError: no such machine, or the network does not fit it.
    """
    subject = job.subjects[point.subject]
    platform = job.platform.with_parameters(**point.settings)
    program = compile_model(subject.path, subject.data, platform, point.settings, network=subject.network,
                            options=job.compiler_options)
    return program, platform


def run_point(point: Point, job: Job) -> Row:
    """Compile and run one point; never raises for what is wrong with the point."""
    _plug_in(job)
    blank = Row(point, job.subjects[point.subject].name, REFUSED)
    try:
        program, platform = program_of(point, job)
        report = run_program(program, platform, point.settings, job.options).report
        return _row(blank, program, platform, report)
    except NncosimError as error:
        return replace(blank, reason=str(error))
    except Exception:
        return replace(blank, verdict=DEFECT, reason=traceback.format_exc().strip())


def _row(blank: Row, program: Program, platform: Platform, report: Report) -> Row:
    proof = report.requantization
    return replace(
        blank,
        verdict=report.verdict,
        reason=reason_of(report),
        metrics=_metrics(program, platform, report),
        iss_cycles=report.iss_cycles,
        macs=report.macs,
        exact_layers=proof.exact_layers,
        layers=proof.layers,
        image_sha256=sha256(program.image),
    )


def _metrics(program: Program, platform: Platform, report: Report) -> dict[str, float | None]:
    if report.cycles is None:
        return {}
    counters: dict[str, dict[str, int]] = {}
    transfers: dict[str, dict[str, int]] = {}
    for layer in report.layers:
        for total, counted in ((counters, layer.counters), (transfers, layer.transfers)):
            for name, found in counted.items():
                own = total.setdefault(name, {})
                own |= {kind: own.get(kind, 0) + value for kind, value in found.items()}
    in_use = sum(use.peak for use in program.memory)
    figures = Figures(report.cycles, report.macs, in_use, counters, transfers)
    return {metric.name: metric.value(platform, figures) for metric in platform.metrics}


def reason_of(report: Report) -> str:
    """Why a run did not pass, in a line."""
    if report.diagnosis is not None:
        return f"{report.diagnosis.kind}: {' '.join(report.diagnosis.text.split())}"
    if report.comparison.first is not None:
        return f"first wrong element: {report.comparison.first}"
    if report.verdict == "cycles":
        return "; ".join(map(str, report.late))
    return ""


def front_metrics(platform: Platform, names: Sequence[str] = ()) -> tuple[Metric, ...]:
    """The platform's metrics of these names; without any, those of its own front.

    Raises:
        SweepError: no such metric, or one twice.
    """
    known = {metric.name: metric for metric in platform.metrics}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SweepError(f"platform {platform.name!r} has no metric {name!r}; it has {', '.join(known)}{hint}")
    if len(set(names)) < len(names):
        raise SweepError(f"--front names a metric twice: {','.join(names)}")
    return tuple(known[name] for name in names or platform.front)


def pareto_front(rows: Sequence[Row], front: Sequence[Metric]) -> frozenset[int]:
    """Numbers of the points that no other point of the same model beats. A point of which one of the metrics is not
    known is none of them.

    A beats B if it is no worse in all metrics and better in one, or equal in all with fewer bytes in use.
    """
    ranks = {row.point.number: rank for row in rows if (rank := _rank(row, front)) is not None}
    subjects = {row.point.number: row.point.subject for row in rows}
    return frozenset(
        number for number, rank in ranks.items()
        if not any(subjects[other] == subjects[number] and _beats(ranks[other], rank) for other in ranks)
    )  # fmt: skip


Rank = tuple[tuple[float, ...], float]


def _rank(row: Row, front: Sequence[Metric]) -> Rank | None:
    """The metrics of a point, less being better, and what decides between equals; None if it is not weighed."""
    values = [row.metrics.get(metric.name) for metric in front]
    if not row.passed or None in values:
        return None
    ranks = tuple(metric.rank(value) for metric, value in zip(front, values, strict=True) if value is not None)
    return ranks, row.metrics.get("in_use_bytes") or 0


def _beats(one: Rank, other: Rank) -> bool:
    if one[0] == other[0]:
        return one[1] < other[1]
    return all(a <= b for a, b in zip(one[0], other[0], strict=True))


def top_points(rows: Sequence[Row], count: int, front: Sequence[Metric]) -> list[Row]:
    """The first `count` of each model: points of the front first, then the others, each by the metrics in turn."""
    best = pareto_front(rows, front)
    ranked = [(row.point.number not in best, rank[0], row.point.number, row)
              for row in rows if (rank := _rank(row, front)) is not None]  # fmt: skip
    ordered = [row for *_, row in sorted(ranked, key=lambda entry: entry[:3])]
    subjects = sorted({row.point.subject for row in ordered})
    chosen = [row for subject in subjects for row in [r for r in ordered if r.point.subject == subject][:count]]
    return sorted(chosen, key=lambda row: row.point.number)
