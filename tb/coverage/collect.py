# SPDX-License-Identifier: Apache-2.0
"""A folder that coverage is added up in: simulations leave their counts there, and a report is made of all of them."""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path

from nncosim.platforms.base import Platform
from nncosim.tb.coverage.code import coverage_files, coverage_table, read_coverage
from nncosim.tb.coverage.points import POINTS_SUFFIX, points_table
from nncosim.tb.coverage.sources import PythonCoverage, check_sources, read_source_lines, source_table
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.coverage import FOLDER_VARIABLE
from nncosim.tb.system.files import write_file
from rich.console import Console

__all__ = ["REPORT", "check_counted", "collecting", "report", "start", "stop"]

REPORT = "coverage.json"
"""Of all that is in the folder."""


def check_counted(bench: object, platform: Platform, backend: str) -> None:
    """Refuse to count on a backend that simulates no Verilog.

    Raises:
        BenchError: it does not; names those that do.
    """
    able: tuple[str, ...] = tuple(getattr(bench, "waveforms", ()))
    if backend not in able:
        help_ = f"use --backend {' or '.join(able)}" if able else "no backend of this platform has; leave it out"
        raise BenchError(f"backend {backend!r} of platform {platform.name!r} has no RTL to count (--coverage); {help_}")


def start(folder: Path) -> None:
    """Simulations of this process, and of those that it starts, are built for coverage and leave it in a folder.

    Raises:
        BenchError: the folder has coverage of other sources, see `check_sources`.
    """
    check_sources(folder)
    os.environ[FOLDER_VARIABLE] = str(folder.resolve())


def stop() -> None:
    """What is built from now on is built as usual. Simulations that nobody holds leave what they have counted."""
    gc.collect()
    os.environ.pop(FOLDER_VARIABLE, None)


@contextlib.contextmanager
def collecting(folder: Path | None) -> Iterator[None]:
    """From `start` to `stop`; without a folder nothing.

    Raises: as `start`.
    """
    if folder is None:
        yield
        return
    start(folder)
    try:
        yield
    finally:
        stop()


def report(folder: Path, console: Console) -> None:
    """Print what a folder has, and write it there, as `REPORT`.

    Raises:
        BenchError: a file of it is damaged.
        OutputError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    coverage = read_coverage(coverage_files(folder))
    python = PythonCoverage(coverage, read_source_lines(folder))
    data = {**coverage.to_json(), **python.to_json()}
    write_file(folder / REPORT, json.dumps(data, indent=1).encode())
    console.print(coverage_table(coverage))
    if python.files:
        console.print(source_table(python.files))
    points = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*{POINTS_SUFFIX}"))]
    if points:
        console.print(points_table(points))
