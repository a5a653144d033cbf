# SPDX-License-Identifier: Apache-2.0
"""What-if: a grid of machine parameters, models compiled and run on every point of it, and the Pareto front.

    axes = parse_grid(("clusters=2,4,6", "dmpa_bits=512,1024"))
    points = grid_points([load_subject(path, platform)], platform, {}, axes)
    rows = [run_point(point, job) for point in points]      # or in parallel: `nncosim.tb.sweep.cluster`
    front = pareto_front(rows)                              # numbers of rows

A point that cannot be (parameters that contradict each other, a network that does not fit) is a row with the reason.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nncosim.compiler.backends import Backend, backend_for, register_backend
from nncosim.compiler.ir.network import Network
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError, PlatformError
from nncosim.platforms.registry import register
from nncosim.tb.backend import Bench, get_bench, register_bench
from nncosim.tb.errors import BenchError
from nncosim.tb.report.report import Report
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.program import Program, compile_model, prove_model, read_source
from nncosim.tb.system.files import sha256

__all__ = [
    "DEFECT",
    "MOST_POINTS",
    "REFUSED",
    "Job",
    "Point",
    "Row",
    "Subject",
    "SweepError",
    "grid_points",
    "load_subject",
    "make_job",
    "pareto_front",
    "parse_grid",
    "program_of",
    "reason_of",
    "run_point",
    "sram_bytes",
    "top_points",
]

REFUSED, DEFECT = "refused", "defect"
"""Verdicts of a row beside those of a run: it cannot be compiled or run; nncosim itself failed."""

MOST_POINTS = 10_000
"""Of a sweep: compiled and run at some a second, that is an hour."""

Grid = Mapping[str, tuple[int, ...]]


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
    settings: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Job:
    """What all points have in common, in a form that another process can use.

    `platform`: without the points' settings. `plug`: compiler back end and bench of a platform that lies outside the
    package, None for one inside.
    """

    platform: Platform
    subjects: tuple[Subject, ...]
    options: RunOptions
    plug: tuple[Backend, Bench] | None = None


@dataclass(frozen=True)
class Row:
    """What a point gave. All figures are None where it was refused.

    verdict: that of the run, `REFUSED` or `DEFECT`; reason: why, if it is not "pass".
    cycles, iss_cycles: of the first inference. in_use_bytes: the most that ever lies in the memories that the
    compiler places things in (J3DAI: L2). sram_bytes: all memories of the machine, every instance. area_nand2: logic
    and memories in NAND2 equivalents, None where the platform has no such figure.
    """

    point: Point
    model: str
    verdict: str
    reason: str = ""
    cycles: int | None = None
    iss_cycles: int | None = None
    macs: int | None = None
    mac_per_cycle: float | None = None
    utilization: float | None = None
    in_use_bytes: int | None = None
    sram_bytes: int | None = None
    area_nand2: int | None = None
    exact_layers: int | None = None
    layers: int | None = None
    image_sha256: str | None = None
    confirmed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ran(self) -> bool:
        return self.cycles is not None

    @property
    def passed(self) -> bool:
        return self.verdict == "pass" and self.confirmed.get("verdict", "pass") == "pass"


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """("clusters=2,4", "l2_bytes=0x280000") as axes: name to values, in the order given.

    Raises:
        SweepError: not of that form, a value twice, or an axis twice.
    """
    axes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        try:
            numbers = tuple(int(value, 0) for value in values.split(","))
        except ValueError:
            equals = ""
        if not equals or not name:
            raise SweepError(f"--grid must look like clusters=2,4,6 (whole numbers), not {text!r}")
        if name in axes:
            raise SweepError(f"--grid {name} is given twice; put all its values into one: {name}=2,4,6")
        if len(set(numbers)) < len(numbers):
            raise SweepError(f"--grid {text!r} has a value twice")
        axes[name] = numbers
    if not axes:
        raise SweepError("a sweep needs at least one --grid, such as --grid clusters=2,4,6")
    return axes


def load_subject(path: Path, platform: Platform) -> Subject:
    """Import and prove a model.

    Raises:
        NncosimError: no such file, not a model, or one that is not supported on any machine.
    """
    data = read_source(path)
    return Subject(path.name, path, data, prove_model(path, data, platform))


def grid_points(subjects: int, platform: Platform, fixed: Mapping[str, int], grid: Grid) -> tuple[Point, ...]:
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
    _check_names(platform, grid)
    count = subjects * math.prod(len(values) for values in grid.values())
    if count > MOST_POINTS:
        sizes = " x ".join(f"{name} ({len(values)})" for name, values in grid.items())
        raise SweepError(f"this grid has {count:,} points ({subjects} models, {sizes}), and a sweep takes "
                         f"{MOST_POINTS:,}; give fewer values, or fix some with --set and sweep the rest")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    wanted = itertools.product(range(subjects), combinations)
    return tuple(Point(number, subject, {**fixed, **own}) for number, (subject, own) in enumerate(wanted))


def _check_names(platform: Platform, grid: Grid) -> None:
    for name in grid:
        current = getattr(platform, name, None)
        # An unknown name is refused by the platform, with the names it has; a known one is set to what it is.
        platform.with_parameters(**{name: current})
        if not isinstance(current, int):
            raise PlatformError(f"parameter {name!r} of platform {platform.name!r} is no number: {current!r}")


def make_job(platform: Platform, subjects: Sequence[Subject], options: RunOptions) -> Job:
    inside = importlib.util.find_spec(f"nncosim.platforms.{platform.name}") is not None
    return Job(platform, tuple(subjects), options, None if inside else (backend_for(platform), get_bench(platform)))


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
    return compile_model(subject.path, subject.data, platform, point.settings, network=subject.network), platform


def sram_bytes(platform: Platform) -> int:
    """All memories of a machine, every instance of each."""
    return sum(memory.size_bytes * memory.instances for memory in platform.memories)


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
        cycles=report.cycles,
        iss_cycles=report.iss_cycles,
        macs=report.macs,
        mac_per_cycle=report.mac_per_cycle,
        utilization=report.utilization,
        in_use_bytes=sum(use.peak for use in program.memory),
        sram_bytes=sram_bytes(platform),
        area_nand2=None if platform.area is None else round(platform.area.total),
        exact_layers=proof.exact_layers,
        layers=proof.layers,
        image_sha256=sha256(program.image),
    )


def reason_of(report: Report) -> str:
    """Why a run did not pass, in a line."""
    if report.diagnosis is not None:
        return f"{report.diagnosis.kind}: {' '.join(report.diagnosis.text.split())}"
    if report.comparison.first is not None:
        return f"first wrong element: {report.comparison.first}"
    if report.verdict == "cycles":
        return "; ".join(map(str, report.late))
    return ""


def pareto_front(rows: Sequence[Row]) -> frozenset[int]:
    """Numbers of the points that no other point of the same model beats: fewer cycles against less area (or, on a
    platform without that figure, less SRAM).

    A beats B if it has no more of both and less of one, or as much of both and fewer bytes in use.
    """
    passed = [row for row in rows if row.passed and row.ran]
    return frozenset(
        row.point.number
        for row in passed
        if not any(_beats(other, row) for other in passed if other.point.subject == row.point.subject)
    )


def _beats(one: Row, other: Row) -> bool:
    assert one.cycles is not None and other.cycles is not None
    if (one.cycles, size_of(one)) == (other.cycles, size_of(other)):
        return (one.in_use_bytes or 0) < (other.in_use_bytes or 0)
    return one.cycles <= other.cycles and size_of(one) <= size_of(other)


def size_of(row: Row) -> int:
    """What a machine is weighed by: its area, or else its SRAM."""
    size = row.sram_bytes if row.area_nand2 is None else row.area_nand2
    assert size is not None
    return size


def top_points(rows: Sequence[Row], count: int) -> list[Row]:
    """The first `count` of each model: points of the front first, then the others, each by cycles and size."""
    front = pareto_front(rows)
    ran = [row for row in rows if row.passed and row.ran]
    best = sorted(ran, key=lambda r: (r.point.number not in front, r.cycles, size_of(r), r.point.number))
    subjects = sorted({row.point.subject for row in ran})
    chosen = [row for subject in subjects for row in [r for r in best if r.point.subject == subject][:count]]
    return sorted(chosen, key=lambda row: row.point.number)
