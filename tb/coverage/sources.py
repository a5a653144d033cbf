# SPDX-License-Identifier: Apache-2.0
"""Coverage by the lines of Python that RTL was written in: Verilator's points taken back to where they come from.

A point of a line is a branch of a process (with the lines of Verilog that it runs through, ``S``); it is taken back to
the condition it stands under and the assignments in it. One without such lines is the other side of a condition, or a
side of a `Mux`. One of a toggle is a bit of a signal, which has the line of its declaration. Several copies of a
statement (in a loop, in instances, in an emission with other parameters) are one line: it was seen if any of them was.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nncosim.hdl.source_lines import SourceLines, current_digest
from nncosim.tb.coverage.code import BENCH_MODULES, TOGGLE, CodeCoverage, coverage_files, decoded, module_of, share
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.coverage import LINES_SUFFIX
from nncosim.tb.system.terminal import plain_table
from rich.table import Table

__all__ = ["PythonCoverage", "SourceCoverage", "check_sources", "read_source_lines", "source_table"]

_TOGGLED = re.compile(r"(?P<signal>.*?)(?P<bit>(?:\[\d+\])*):(?P<edge>0->1|1->0)")


_SIDES = {"cond_then": "true", "cond_else": "false", "else": "false"}
"""What Verilator calls the sides of a condition. An ``else`` with lines of its own is a branch like any other."""


@dataclass
class SourceCoverage:
    """Of one Python file.

    Attributes:
        lines: of conditions, and of assignments under one: how often each was passed.
        copies: of each line, how many there are, and how many were passed.
        sides: (line, "true" or "false") of a condition to how often it was so. That the condition of an `If` or `Elif`
            was true is among the lines.
        toggles: (line, signal, ``[BIT]:EDGE``) to how often it was seen.
    """

    file: str
    lines: Counter[int] = field(default_factory=Counter)
    copies: dict[int, tuple[int, int]] = field(default_factory=dict)
    sides: Counter[tuple[int, str]] = field(default_factory=Counter)
    toggles: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    @property
    def missed(self) -> list[int]:
        """Lines that were never passed."""
        return sorted(line for line, count in self.lines.items() if not count)

    @property
    def partly(self) -> dict[int, tuple[int, int]]:
        """Lines that were passed in some of their copies only: how many there are, and how many were passed."""
        return {line: each for line, each in sorted(self.copies.items()) if 0 < each[1] < each[0]}

    @property
    def missed_sides(self) -> list[tuple[int, str]]:
        return sorted(side for side, count in self.sides.items() if not count)

    @property
    def missed_toggles(self) -> list[tuple[int, str, str]]:
        return sorted(toggle for toggle, count in self.toggles.items() if not count)

    def missed_signals(self) -> dict[tuple[int, str], list[str]]:
        """Line and signal to the edges of its bits that were never seen."""
        out: dict[tuple[int, str], list[str]] = {}
        for line, signal, edge in self.missed_toggles:
            out.setdefault((line, signal), []).append(edge)
        return out

    def to_json(self) -> dict[str, object]:
        return {
            "file": self.file, "lines": len(self.lines), "lines_missed": self.missed,
            "lines_partly": [{"line": line, "copies": copies, "seen": seen}
                             for line, (copies, seen) in self.partly.items()],
            "conditions": len(self.sides),
            "conditions_missed": [{"line": line, "never": side} for line, side in self.missed_sides],
            "toggles": len(self.toggles),
            "signals_missed": [{"line": line, "signal": signal, "edges": edges}
                               for (line, signal), edges in self.missed_signals().items()],
        }  # fmt: skip


class PythonCoverage:
    """Coverage by Python file.

    Args:
        lines: file of Verilog, as it is named in `coverage`, to where it comes from.

    Attributes:
        unmapped: kind of point ("line", "toggle") to how many points of emitted Verilog have no line of Python. Lines:
            what no condition guards, what brings a register to its value at reset, choices in what Amaranth makes of
            an index, a shift or a division. Toggles: signals of Verilog that are not in the Python by a name.
    """

    def __init__(self, coverage: CodeCoverage, lines: dict[str, SourceLines]):
        self._lines, self._files = lines, dict[str, SourceCoverage]()
        self.unmapped: Counter[str] = Counter()
        for parts, count in coverage.points():
            source = lines.get(PurePosixPath(parts["f"]).name)
            if source is None or BENCH_MODULES.fullmatch(module_of(parts)):
                continue
            kind = TOGGLE if parts["t"] == TOGGLE else "line"
            add = self._add_toggle if kind == TOGGLE else self._add_line
            if not add(parts, count, source):
                self.unmapped[kind] += 1

    @property
    def files(self) -> list[SourceCoverage]:
        """By name."""
        return [self._files[name] for name in sorted(self._files)]

    def _at(self, source: SourceLines, place: int) -> tuple[SourceCoverage, int]:
        file, _, line = source.places[place].rpartition(":")
        return self._files.setdefault(file, SourceCoverage(file)), int(line)

    def _add_line(self, parts: dict[str, str], count: int, source: SourceLines) -> bool:
        side = _SIDES.get(parts.get("o", "")) if not parts.get("S") or parts["o"] != "else" else None
        if side is not None:
            place = source.choices.get(int(parts["l"]))
            if place is not None:
                file, line = self._at(source, place)
                file.sides[line, side] += count
            return place is not None
        places = {place for line in _covered(parts.get("S", "")) for place in source.branches.get(line, ())}
        for place in places:
            file, line = self._at(source, place)
            file.lines[line] += count
            copies, seen = file.copies.get(line, (0, 0))
            file.copies[line] = copies + 1, seen + bool(count)
        return bool(places)

    def _add_toggle(self, parts: dict[str, str], count: int, source: SourceLines) -> bool:
        found = _TOGGLED.fullmatch(parts["o"])
        if found is None:
            return False
        signal = decoded(found["signal"])
        place = source.signals.get(module_of(parts), {}).get(signal)
        if place is None:
            return False
        file, line = self._at(source, place)
        file.toggles[line, signal, f"{found['bit']}:{found['edge']}"] += count
        return True

    def to_json(self) -> dict[str, object]:
        return {"sources": [file.to_json() for file in self.files],
                "unmapped": {"lines": self.unmapped["line"], "toggles": self.unmapped[TOGGLE]}}  # fmt: skip


def _covered(text: str) -> Iterator[int]:
    """Line numbers of such as ``4-6,11``."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def read_source_lines(folder: Path) -> dict[str, SourceLines]:
    """What simulations that count coverage have left of their sources.

    Raises:
        BenchError: a file of it is damaged.
    """
    out = {}
    for path in sorted(folder.glob(f"*{LINES_SUFFIX}")):
        try:
            out[path.name.removesuffix(LINES_SUFFIX)] = SourceLines.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{path} is no file of coverage, or damaged; empty {folder}, or give another") from error
    return out


def check_sources(folder: Path) -> None:
    """Refuse to add to coverage of sources that have been edited since: their lines are others now.

    Raises:
        BenchError: they were; names the first. Or what is there is no coverage that can be read.
    """
    for lines in read_source_lines(folder).values():
        for file, digest in lines.files.items():
            if current_digest(file) != digest:
                raise BenchError(f"{folder} has coverage of {file} as it was before an edit, and its lines are not "
                                 "those of now: give another folder, or empty this one")  # fmt: skip
    if coverage_files(folder) and not any(folder.glob(f"*{LINES_SUFFIX}")):
        raise BenchError(f"{folder} has coverage of sources that it does not tell; give another folder, or empty this "
                         "one")  # fmt: skip


def source_table(files: Iterable[SourceCoverage]) -> Table:
    """A row a Python file, with the first lines and signals that were never seen."""
    table = plain_table("coverage of Amaranth sources")
    table.add_column("source")
    for name in ("lines", "seen", "conditions", "seen", "toggles", "seen"):
        table.add_column(name, justify="right")
    table.add_column("never seen: lines, conditions, signals")
    for each in files:
        signals = [f"{line} {signal}" for line, signal in each.missed_signals()]
        sides = [f"{line} never {side}" for line, side in each.missed_sides]
        holes = [*map(str, each.missed), *sides, *signals]
        more = f" and {len(holes) - 6:,} more" if len(holes) > 6 else ""
        table.add_row(each.file, f"{len(each.lines):,}", share(len(each.lines), len(each.missed)),
                      f"{len(each.sides):,}", share(len(each.sides), len(each.missed_sides)),
                      f"{len(each.toggles):,}", share(len(each.toggles), len(each.missed_toggles)),
                      ", ".join(holes[:6]) + more)
    return table
