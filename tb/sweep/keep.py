# SPDX-License-Identifier: Apache-2.0
"""Rows of a sweep that has not ended yet, kept in the cache: the same sweep, started again, goes on from there.

"The same" is told by everything a row depends on: the models' bytes, machine, grid, options, and nncosim's own code.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import nncosim.tb
from nncosim.compiler.image.plain import to_plain
from nncosim.tb.sim.versions import versions
from nncosim.tb.sweep.sweep import DEFECT, Job, Point, Row
from nncosim.tb.system.cache import cache_root, content_key
from nncosim.tb.system.files import text_bytes

__all__ = ["Kept"]


class Kept:
    """The rows of one sweep that are done. Rows of defects are not among them: they are tried again."""

    def __init__(self, points: Sequence[Point], job: Job):
        self._points = points
        self._path = cache_root() / "sweeps" / f"{_key(points, job)}.jsonl"

    def load(self) -> dict[int, Row]:
        """Rows by the number of their point."""
        try:
            lines = self._path.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        rows = {}
        for line in lines:
            try:
                data = json.loads(line)
                point = self._points[data["number"]]
                rows[point.number] = Row(point, **data["row"])
            except (ValueError, LookupError, TypeError):
                continue  # a line that was cut off
        return rows

    def add(self, row: Row) -> None:
        """Keep a row; where the cache cannot be written, the sweep goes on, and starts anew after an interruption."""
        if row.verdict == DEFECT:
            return
        data = {name: value for name, value in asdict(row).items() if name != "point"}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"number": row.point.number, "row": data}) + "\n")

    def drop(self) -> None:
        """Forget them: the sweep has ended."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _key(points: Sequence[Point], job: Job) -> str:
    settings = [(point.subject, to_plain(point.settings)) for point in points]
    parts: list[str | bytes] = [repr(job.platform), repr(job.options), json.dumps(settings), json.dumps(versions()),
                                json.dumps(to_plain(job.compiler_options))]
    parts += [text for subject in job.subjects for text in (text_bytes(subject.name), subject.digest)]
    parts += [text_bytes("\n".join(subject.network.remarks)) for subject in job.subjects]
    for plug in job.plug or ():
        parts += [pickle.dumps(plug), Path(inspect.getfile(type(plug))).read_bytes()]
    return content_key([*parts, _code()])


@functools.cache
def _code() -> str:
    """Digest of the package's own sources."""
    folder = Path(nncosim.tb.__file__).parent.parent
    parts = ("platforms", "hdl", "kernels", "compiler", "tb")
    files = [path for part in parts for path in sorted((folder / part).rglob("*"))]
    suffixes = (".py", ".v", ".sv", ".svh", ".cpp", ".h", ".c", ".j2", ".S")
    return content_key([path.read_bytes() for path in files if path.suffix in suffixes and path.is_file()])
