# SPDX-License-Identifier: Apache-2.0
"""Waveforms: which format a file has, which part of a run it shows, and files by which viewers open it well.

Beside ``run.fst`` lie ``run.gtkw`` (open that: ``gtkwave run.gtkw``), and ``run.1-op.txt`` and the like, which turn
values into words; and ``run.sucl``, commands for Surfer (``surfer run.fst --command-file run.sucl``).
"""

from __future__ import annotations

import io
import math
import re
import shlex
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from nncosim.tb.errors import BenchError
from nncosim.tb.sim.surfer import Shown, commands
from nncosim.tb.sim.trace_file import TraceFile, Variable
from nncosim.tb.system.files import text_bytes, write_file
from vcd.gtkw import GTKWColor, GTKWSave

__all__ = [
    "Line", "SignalGroup", "Trace", "Waveform", "changes", "command_file", "is_companion", "save_file", "trace_format",
    "variables", "write_save_file",
]  # fmt: skip

FORMATS = {".fst": "fst", ".vcd": "vcd"}

_EVER = (1 << 64) - 1


@dataclass(frozen=True)
class Trace:
    """A waveform to write, and of which part of the run.

    `path`: ends in .fst or .vcd. `start`, `stop`: clock cycles since reset, the last one exclusive; None: no bound.
    `step`: only while this schedule step of the first inference runs, from the completion of the one before it.
    `marks`: cycles that get the markers A, B, ..., in place of those that the machine's save file has. `about`: the
    block that it is made for, in the machine's words; it is shown first.
    """

    path: Path
    start: int | None = None
    stop: int | None = None
    step: int | None = None
    marks: tuple[int, ...] = ()
    about: str = ""

    def __post_init__(self) -> None:
        trace_format(self.path)
        if self.start is not None and self.start < 0:
            raise BenchError(f"a waveform cannot begin at cycle {self.start}; cycles count from 0, the end of reset")
        if self.stop is not None and self.stop <= (self.start or 0):
            raise BenchError(f"a waveform from cycle {self.start or 0} to {self.stop} is empty; the end is exclusive")

    def cycles(self, port: str) -> dict[str, tuple[int, int]]:
        """`start` and `stop` as a condition on a port that counts cycles; {} without them."""
        if self.start is None and self.stop is None:
            return {}
        return {port: (self.start or 0, _EVER if self.stop is None else self.stop)}


class WaveformJson(TypedDict):
    """A `Waveform` in report.json."""

    file: str
    first_cycle: int
    end_cycle: int
    bytes: int
    command: str


@dataclass(frozen=True)
class Waveform:
    """A waveform that was written. `first`, `end`: the clock cycles since reset that it shows, `end` exclusive."""

    path: Path
    first: int
    end: int
    size_bytes: int

    @property
    def command(self) -> str:
        """What shows it."""
        return shlex.join(["gtkwave", str(save_file(self.path))])

    @property
    def surfer(self) -> str:
        """What shows it in Surfer."""
        return shlex.join(["surfer", str(self.path), "--command-file", str(command_file(self.path))])

    def __str__(self) -> str:
        window = f"cycles {self.first:,} to {self.end - 1:,}"
        return f"{self.path}, {window}, {self.size_bytes:,} bytes; open it with: {self.command} (or {self.surfer})"

    def to_json(self) -> WaveformJson:
        return {"file": str(self.path), "first_cycle": self.first, "end_cycle": self.end, "bytes": self.size_bytes,
                "command": self.command}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A signal to show. `name`: its path below the top scope. `format`: hex, dec, signed or bin.

    `words`: value to text; shown instead of the number. `label`: shown instead of the name.
    """

    name: str
    label: str | None = None
    format: str = "hex"
    words: Mapping[int, str] = field(default_factory=dict)
    color: GTKWColor | None = None


@dataclass(frozen=True)
class SignalGroup:
    """Signals under a heading; a closed one shows the heading until it is clicked."""

    title: str
    lines: Sequence[Line]
    closed: bool = False


def trace_format(path: Path | str) -> str:
    """ "fst" or "vcd", by the file's suffix.

    Raises:
        BenchError: Another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise BenchError(f"waveform file {path}: the suffix says the format, .fst (small, for GTKWave and Surfer) or "
                         f".vcd (text, for everything), and {suffix or 'no suffix'!r} is neither")
    return FORMATS[suffix]


def save_file(trace: Path) -> Path:
    """Where the save file of a waveform lies."""
    return trace.with_suffix(".gtkw")


def command_file(trace: Path) -> Path:
    """Where a waveform's commands for Surfer lie."""
    return trace.with_suffix(".sucl")


def is_companion(path: Path, trace: Path) -> bool:
    """Whether `path` has a name that `write_save_file` may write beside a waveform."""
    mine = re.escape(trace.stem) + r"\.(gtkw|sucl|\d+-.*\.txt)"
    return path.parent == trace.parent and re.fullmatch(mine, path.name) is not None


def variables(trace: Path) -> dict[str, int]:
    """Bits of every variable in a waveform, by its full name with dots.

    Raises:
        BenchError: If it cannot be read.
    """
    return {name: var.bits or 0 for name, var in TraceFile(trace).variables.items()}


def _shown_name(trace: Path, var: Variable) -> str:
    """A variable as GTKWave names it: in VCD, what has a dot in a name of its own is escaped, else it is a scope."""
    escape = "\\" if trace_format(trace) == "vcd" and "." in var.own_name else ""
    name, bits = f"{var.scope}.{escape}{var.own_name}".lstrip("."), var.bits or 0
    return f"{name}[{bits - 1}:0]" if bits > 1 else name


def changes(trace: Path, name: str) -> list[tuple[int, int]]:
    """When a variable changed, in units of the file's time, and to what; its value at the beginning is the first.

    Raises:
        BenchError: If the waveform cannot be read, or has no such variable.
    """
    return _numbers(TraceFile(trace), name)


def _numbers(trace: TraceFile, name: str) -> list[tuple[int, int]]:
    """The changes of a variable to numbers; those to anything else are left out."""
    return [(time, value) for time, value in trace.changes([name])[name] if isinstance(value, int)]


def write_save_file(trace: Path, groups: Sequence[SignalGroup], *, clock: str, marks: str | None = None,
                    cycle: str | None = None, open_scopes: Sequence[str] = (), at: Sequence[int] = ()) -> Waveform:
    """Write save file and commands of a finished waveform; signals that it does not have are left out.

    Args:
        trace: The waveform.
        groups: What to show, from top to bottom.
        clock: The clock's full name: `_CYCLES` of its cycles are seen at first, from the waveform's beginning.
        marks: A variable whose changes get the markers A to Z. at: Cycles that get them instead; then the view begins
            shortly before the first.
        cycle: The variable that counts clock cycles since reset; without one, they count from the waveform's begin.
        open_scopes: Scopes that are unfolded in the tree of the design.

    Raises:
        BenchError: If the waveform cannot be read.
        OutputError: If one of the files cannot be written.
    """
    opened = TraceFile(trace)
    known = opened.variables
    ticks = _numbers(opened, clock)
    edges = [time for time, _ in ticks] or [0]
    marked = [time for time, _ in _numbers(opened, marks)[1:]] if marks in known else []
    if at and cycle in known:
        times = {value: time for time, value in _numbers(opened, cycle)}
        marked = [times[each] for each in at if each in times]
    there = [(group, [line for line in group.lines if line.name in known]) for group in groups]
    there = [(group, lines) for group, lines in there if lines]
    path, text = save_file(trace), io.StringIO()
    save = GTKWSave(text)
    save.dumpfile(str(trace.resolve()), abspath=True)
    save.dumpfile_size(trace.stat().st_size)
    save.savefile(str(path.resolve()), abspath=True)
    save.timestart(max(edges[0], marked[0] - _BEFORE * _period(edges)) if at and marked else edges[0])
    # Any: pyvcd's own type of these is wrong.
    markers: dict[str, Any] = dict(zip(string.ascii_lowercase, marked, strict=False))
    save.zoom_markers(_zoom(edges), **markers)
    save.size(_WINDOW, 950)
    save.sst_expanded(True)
    save.signals_width(_NAMES)
    for scope in open_scopes:
        save.treeopen(f"{scope}.")
    _show(save, trace, there, known)
    write_file(path, text_bytes(text.getvalue()))
    shown = [(group.title, [_shown(line, known[line.name]) for line in lines]) for group, lines in there]
    write_file(command_file(trace), text_bytes(commands(shown, marked)))
    counted = [value for _, value in _numbers(opened, cycle)] if cycle in known else []
    cycles = counted or range(sum(value for _, value in ticks))
    return Waveform(trace, min(cycles, default=0), max(cycles, default=-1) + 1, trace.stat().st_size)


def _shown(line: Line, var: Variable) -> Shown:
    return Shown(line.name, var.own_name, var.bits or 0, line.label or "", line.format,
                 line.color.name if line.color is not None else "")  # fmt: skip


def _show(save: GTKWSave, trace: Path, groups: Sequence[tuple[SignalGroup, Sequence[Line]]],
          known: Mapping[str, Variable]) -> None:
    """The signals, and the files that turn values into words."""
    filters: dict[tuple[tuple[tuple[int, str], ...], str, int], Path] = {}
    for group, lines in groups:
        with save.group(group.title, closed=group.closed):
            for line in lines:
                bits = known[line.name].bits or 0
                table = _filter(trace, line, bits, filters) if line.words else None
                name = _shown_name(trace, known[line.name])
                save.trace(name, alias=line.label or line.name.rpartition(".")[2], datafmt=line.format,
                           color=line.color, translate_filter_file=str(table) if table else None)


_WINDOW, _NAMES, _TREE = 1600, 260, 230  # pixels: the window, of which the names and the tree of the design have a part
_CYCLES = 40  # seen at first
_BEFORE = 10  # of these before the first marker, where there are markers to look at


def _zoom(edges: Sequence[int]) -> float:
    """GTKWave's zoom factor: a pixel stands for 2 ** -zoom / 200 units of time."""
    return -math.log2(max(1, 200 * _CYCLES * _period(edges) / (_WINDOW - _NAMES - _TREE)))


def _period(edges: Sequence[int]) -> int:
    return edges[2] - edges[0] if len(edges) > 2 else 1


def _filter(trace: Path, line: Line, bits: int,
            made: dict[tuple[tuple[tuple[int, str], ...], str, int], Path]) -> Path:
    """The file that turns the values of a line into words; one for all lines with the same words."""
    key = (tuple(line.words.items()), line.format, bits)
    if key not in made:
        path = trace.with_suffix(f".{len(made) + 1}-{(line.label or line.name.rpartition('.')[2])}.txt")
        digits = -(-bits // 4)
        shown = (f"{value:0{digits}X}" if line.format == "hex" else str(value) for value in line.words)
        text = "".join(f"{value} {word}\n" for value, word in zip(shown, line.words.values(), strict=True))
        write_file(path, text_bytes(text))
        made[key] = path.resolve()
    return made[key]
