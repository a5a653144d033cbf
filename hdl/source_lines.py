# SPDX-License-Identifier: Apache-2.0
"""Which lines of Python the lines and signals of emitted Verilog come from.

Amaranth's netlist knows it of every statement and every condition, but its RTLIL has no room for it: a statement is
neither wire nor cell. Here each ``switch`` of a process gets an attribute with the lines of each of its cases, and each
multiplexer one with its own, which Yosys carries along; they are taken out of the Verilog again, and leave the text as
it was.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amaranth
from amaranth.back import rtlil
from amaranth.hdl import _ast, _ir, _nir

__all__ = ["Recorded", "SourceLines", "Verilog", "convert", "current_digest", "taken_out"]

_ATTRIBUTE = "nncosim_lines"
_MARK = re.compile(rf'\s*\(\* {_ATTRIBUTE} = "([\d :|]*)" \*\)')
_CHOICE = re.compile(rf'\(\* {_ATTRIBUTE} = "(\d+)" \*\) ')
_IF, _CASE, _ITEM = re.compile(r"if \("), re.compile(r"casez? \("), re.compile(r"[^;]*:(?: begin)?$")
_EMIT = str(Path(__file__).with_name("emit.py"))
"""Where clocks and resets are declared: what they are in is of no line that anybody wrote."""
_LIBRARIES = (str(Path(amaranth.__file__).parent) + os.sep, sysconfig.get_path("stdlib") + os.sep)
"""Where Amaranth's location may lie by mistake: that of a member of an interface, or of an FSM's state."""
_PROJECT, _AMARANTH = Path(__file__).parents[1], Path(amaranth.__file__).parents[1]

Location = tuple[str, int]
"""A file and a line of it."""


@dataclass(frozen=True)
class SourceLines:
    """Of one Verilog file.

    Attributes:
        files: Python file to the SHA-256 of its content: ``hdl/NAME.py`` of this project, ``amaranth/lib/NAME.py``, or
            a path.
        places: ``FILE:LINE``, which the others point into.
        branches: line on which a branch begins (its ``if``, ``else`` or case item) to the conditions and statements
            that are passed when it is taken, not those of branches inside.
        choices: line with an ``if`` or a ``?:`` to its condition.
        signals: module to signal to where it is declared.
    """

    files: Mapping[str, str]
    places: Sequence[str]
    branches: Mapping[int, Sequence[int]]
    choices: Mapping[int, int]
    signals: Mapping[str, Mapping[str, int]]

    def to_json(self) -> dict[str, Any]:
        return {"files": self.files, "places": self.places, "branches": self.branches, "choices": self.choices,
                "signals": self.signals}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceLines:
        branches = {int(line): places for line, places in data["branches"].items()}
        choices = {int(line): place for line, place in data["choices"].items()}
        return cls(data["files"], data["places"], branches, choices, data["signals"])


class Verilog(str):
    """Verilog as it was emitted, with where it comes from. What is derived from it is a plain string."""

    lines: SourceLines

    def __new__(cls, text: str, lines: SourceLines) -> Verilog:
        out = super().__new__(cls, text)
        out.lines = lines
        return out

    def __getnewargs__(self) -> tuple[str, SourceLines]:  # type: ignore[override]
        return str(self), self.lines


class Recorded:
    """Places as they are met, and signals."""

    def __init__(self) -> None:
        self.signals: dict[str, dict[str, int]] = {}
        self._places: dict[Location, int] = {}

    def place(self, location: Location) -> int:
        return self._places.setdefault(location, len(self._places))

    def source_lines(self, branches: Mapping[int, Sequence[int]], choices: Mapping[int, int]) -> SourceLines:
        names = {path: _named(path) for path, _ in self._places}
        files = {name: digest for name, digest in names.values() if digest}
        return SourceLines(files, [f"{names[path][0]}:{line}" for path, line in self._places], branches, choices,
                           self.signals)  # fmt: skip


@functools.cache
def _named(path: str) -> tuple[str, str]:
    """A file's name for the reader, and the digest of its content; none of what is no file."""
    file, name = Path(path), path
    for root in (_PROJECT, _AMARANTH):
        if file.is_relative_to(root):
            name = file.relative_to(root).as_posix()
    return name, _digest(file)


def current_digest(name: str) -> str:
    """SHA-256 of a file by its name in `SourceLines.files`, as it is now; "" where there is none."""
    found = next((root / name for root in (_PROJECT, _AMARANTH) if (root / name).is_file()), Path(name))
    return _digest(found)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def convert(design: _ir.Design, ports: Mapping[str, Any], name: str) -> tuple[str, Recorded]:
    """RTLIL, as `amaranth.back.rtlil.convert_fragment` gives it, with lines in attributes of switches."""
    recorded = Recorded()
    netlist = _ir.build_netlist(design, ports=ports, name=name)
    empty, builder, names = rtlil.EmptyModuleChecker(netlist), _Design(netlist, recorded), _ast.SignalDict()
    for index, module in enumerate(netlist.modules):
        if not empty.is_empty(index):
            own = builder.module(".".join(module.name))
            own.source = module.src_loc
            if index == 0:
                own.attribute("top", 1)
            _Emitter(own, netlist, module, names, empty_checker=empty).emit()
    return str(builder), recorded


class _Design(rtlil.Design):
    def __init__(self, netlist: _nir.Netlist, recorded: Recorded):
        super().__init__(emit_src=False)
        self.netlist, self.recorded = netlist, recorded

    def module(self, name: str, **kwargs: Any) -> _Module:
        self.modules[name] = module = _Module(name, self)
        return module


class _Module(rtlil.Module):
    def __init__(self, name: str, design: _Design):
        super().__init__(name, emit_src=False)
        self.design = design
        self.source: Location | None = None
        self.assignments: Iterator[_nir.Assignment] = iter(())

    def wire(
        self, width: int, *, name: str | None = None, src_loc: Location | None = None, **kwargs: Any
    ) -> rtlil.Wire:
        if name is not None and src_loc is not None and src_loc[0] != _EMIT:
            self.design.recorded.signals.setdefault(self.name, {})[name] = self.place(src_loc)
        return super().wire(width, name=name, **kwargs)

    def cell(
        self, kind: str, name: str | None = None, *, src_loc: Location | None = None, **kwargs: Any
    ) -> rtlil.Cell:
        if kind == "$mux" and src_loc is not None:
            kwargs["attrs"] = {**(kwargs.get("attrs") or {}), _ATTRIBUTE: str(self.place(src_loc))}
        return super().cell(kind, name, **kwargs)

    def place(self, location: Location) -> int:
        """Number of a location; of one in a library that of this module, if it has a better one."""
        if location[0].startswith(_LIBRARIES) and self.source is not None:
            location = self.source
        file, line = location
        return self.design.recorded.place((file, line))

    def process(self, **kwargs: Any) -> _Process:
        process = _Process(self._name(None), self)
        self.contents[process.name] = process
        return process

    def passed(self, body: _Body) -> None:
        """The next assignment stands in `body`: note its line, and those of the conditions around it."""
        cells, assignment = self.design.netlist.cells, next(self.assignments)
        tests: list[tuple[_Body, Location]] = []
        condition, inside = assignment.cond, body
        while condition != _nir.Net.from_const(1):
            choice = cells[condition.cell]
            tested = choice.inputs[condition.bit]
            if tested != _nir.Net.from_const(1) and cells[tested.cell].src_loc is not None:
                tests.append((inside, cells[tested.cell].src_loc))
            condition, inside = choice.en, inside.parent
        if any(location[0] == _EMIT for _, location in tests):
            return  # the value at reset
        if assignment.src_loc is not None:
            body.lines[self.place(assignment.src_loc)] = None
        for within, location in tests:
            within.condition = self.place(location)


class _Emitter(rtlil.ModuleEmitter):
    def emit_assignment_list(self, cell_idx: int, cell: _nir.AssignmentList) -> None:
        self.builder.assignments = iter(cell.assignments)
        super().emit_assignment_list(cell_idx, cell)


class _Body:
    """What processes and cases have in common. `condition`: a case's. `lines`: of assignments, each once."""

    module: _Module
    parent: Any
    contents: list[Any]
    condition: int | None = None
    lines: dict[int, None]

    def switch(self, sel: str) -> _Switch:
        switch = _Switch(sel, self)
        self.contents.append(switch)
        return switch


class _Process(_Body, rtlil.Process):
    def __init__(self, name: str, module: _Module):
        super().__init__(name=name)
        self.module, self.parent, self.lines = module, None, {}
        self._begun = False

    def assign(self, lhs: str, rhs: str) -> None:
        super().assign(lhs, rhs)
        if self._begun:
            self.module.passed(self)
        self._begun = True  # the first is the value without any assignment


class _Case(_Body, rtlil.Case):
    def __init__(self, patterns: Sequence[str], parent: _Body):
        super().__init__(patterns)
        self.module, self.parent, self.lines = parent.module, parent, {}

    def assign(self, lhs: str, rhs: str) -> None:
        super().assign(lhs, rhs)
        self.module.passed(self)

    def marked(self) -> str:
        condition = "" if self.condition is None else str(self.condition)
        return f"{condition}:{' '.join(map(str, self.lines))}"


class _Switch(rtlil.Switch):
    def __init__(self, sel: str, parent: _Body):
        super().__init__(sel)
        self.parent = parent

    def case(self, patterns: Sequence[str]) -> _Case:
        case = _Case(patterns, self.parent)
        if patterns:  # as Amaranth: RTLIL takes a case without for the default
            self.cases.append(case)
        return case

    def default(self) -> _Case:
        case = _Case((), self.parent)
        self.cases.append(case)
        return case

    def emit(self, line: Any) -> None:
        text = "|".join(case.marked() for case in self.cases)
        if any(case.lines or case.condition is not None for case in self.cases):
            line(f'attribute \\{_ATTRIBUTE} "{text}"')
        super().emit(line)


@dataclass
class _Open:
    """A switch whose text is being read: the condition and the lines of each case; on which lines they begin."""

    indent: int
    cases: list[tuple[int | None, list[int]]]
    is_case: bool
    begins: list[int]


def taken_out(verilog: str) -> tuple[str, dict[int, list[int]], dict[int, int]]:
    """The text without the attributes of `convert`, and what they say: `branches` and `choices` of `SourceLines`.

    Yosys leaves out cases at the end of a switch that do nothing. Where it has left out others (that cannot be
    reached), the switch tells nothing: which they were cannot be seen.
    """
    out: list[str] = []
    branches: dict[int, list[int]] = {}
    choices: dict[int, int] = {}
    marked: list[tuple[int | None, list[int]]] | None = None
    switches: list[_Open] = []
    for line in verilog.split("\n"):
        mark = _MARK.fullmatch(line)
        if mark is not None:
            marked = [_case(text) for text in mark[1].split("|")]
            continue
        chosen = _CHOICE.search(line)
        out.append(line if chosen is None else _CHOICE.sub("", line))
        if chosen is not None:
            choices[len(out)] = int(chosen[1])
        text = line.lstrip()
        indent = len(line) - len(text)
        if marked is not None and (_IF.match(text) or _CASE.match(text)):
            switches.append(_Open(indent, marked, not _IF.match(text), [] if _CASE.match(text) else [len(out)]))
            marked = None
        elif switches and _ends(switches[-1], indent, text):
            _tell(switches.pop(), branches, choices)
        elif switches and _begins_branch(switches[-1], indent, text):
            switches[-1].begins.append(len(out))
    return "\n".join(out), branches, choices


def _case(text: str) -> tuple[int | None, list[int]]:
    condition, _, lines = text.partition(":")
    return int(condition) if condition else None, [int(line) for line in lines.split()]


def _tell(switch: _Open, branches: dict[int, list[int]], choices: dict[int, int]) -> None:
    """Add what a switch says whose text has been read."""
    if any(condition is not None or lines for condition, lines in switch.cases[len(switch.begins) :]):
        return
    for at, (condition, lines) in zip(switch.begins, switch.cases, strict=False):
        passed = lines if condition is None else [condition, *lines]
        if passed:
            branches[at] = passed
        if condition is not None and not switch.is_case:
            choices[at] = condition


def _ends(switch: _Open, indent: int, text: str) -> bool:
    return indent == switch.indent and text == ("endcase" if switch.is_case else "end")


def _begins_branch(switch: _Open, indent: int, text: str) -> bool:
    if switch.is_case:
        return indent == switch.indent + 2 and _ITEM.match(text) is not None
    return indent == switch.indent and text.startswith("end else")
