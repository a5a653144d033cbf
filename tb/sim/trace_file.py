# SPDX-License-Identifier: Apache-2.0
"""Reading a waveform file: its variables, and when each changed to what; from any tool, VCD or FST.

VCD is read by vcdvcd, everything else by wellen (pywellen); a VCD of more than `VCD_LIMIT` bytes too, for wellen needs
a second where vcdvcd needs a minute.
"""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import pywellen
from nncosim.tb.errors import BenchError

__all__ = ["Change", "TraceFile", "Variable"]

VCD_LIMIT = 8 << 20

Change: TypeAlias = "tuple[int, int | float | str]"
"""A time, in the file's unit, and a value: an integer; a string of `Variable.bits` characters of 0, 1, x and z, or of
VHDL's other ones, if a bit is neither 0 nor 1; for a variable without bits a real number or a text."""


@dataclass(frozen=True)
class Variable:
    """`name`: in full, with dots, without a range. `scope`: the part of it before its own name, which may have dots.

    `bits`: None for a real number or a text.
    """

    name: str
    scope: str
    bits: int | None

    @property
    def own_name(self) -> str:
        return self.name[len(self.scope) + 1:] if self.scope else self.name


class TraceFile:
    """A waveform file.

    Attributes:
        path: Where it lies.
        variables: All of them, by their full names; of several with one name, the first.
        at_once: Whether reading one variable's changes takes as long as reading all.
        unit: What its times count, such as "1ps" or "10ns"; "" if it does not say.

    Raises:
        BenchError: If it cannot be read.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise BenchError(f"waveform {self.path} cannot be read: there is no such file")
        self.at_once = self.path.suffix.lower() == ".vcd" and self.path.stat().st_size <= VCD_LIMIT
        with _readable(self.path):
            self._reader: _Vcd | _Wellen = _Vcd(self.path) if self.at_once else _Wellen(self.path)
        self.variables, self.unit = self._reader.variables, self._reader.unit

    def changes(self, names: Iterable[str]) -> dict[str, list[Change]]:
        """When variables changed and to what, in order, by their names; the value at the beginning is the first.

        A variable has one value at a time: of several changes at one time only the last counts.

        Raises:
            BenchError: If there is no such variable, or the file cannot be read.
        """
        wanted = list(names)
        for name in wanted:
            if name not in self.variables:
                raise BenchError(f"waveform {self.path} has no variable {name!r}")
        with _readable(self.path):
            return {name: list(_settled(found)) for name, found in self._reader.changes(wanted)}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What the readers raise, as an error of the bench."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as problem:
        raise BenchError(f"waveform {path} cannot be read: {problem}") from problem
    except BaseException as problem:
        # wellen, in Rust, panics on some damaged files: an exception of no module that could be imported
        if type(problem).__name__ != "PanicException":
            raise
        raise BenchError(f"waveform {path} cannot be read: it is damaged ({problem})") from problem


def _settled(changes: Sequence[Change]) -> Iterator[Change]:
    """Without changes that another at the same time undoes, and without changes to the same value."""
    last: Change | None = None
    for index, change in enumerate(changes):
        if index + 1 < len(changes) and changes[index + 1][0] == change[0]:
            continue
        if last is None or last[1] != change[1]:
            last = change
            yield change


def _value(text: str, bits: int) -> int | str:
    """A vector as it is written; leading bits that are left out are those of x or z before them, else 0."""
    text = text.lower()
    text = text.rjust(bits, text[0] if text[0] in "xz" else "0")
    return int(text, 2) if set(text) <= {"0", "1"} else text


class _Wellen:
    def __init__(self, path: Path):
        opened = pywellen.Waveform(str(path))
        self.unit = str(opened.timescale or "")
        self._variables: dict[str, pywellen.Var] = {}
        self.variables: dict[str, Variable] = {}
        for var in opened.all_vars():
            name = str(var.full_name)
            if name not in self.variables:
                self._variables[name] = var
                self.variables[name] = Variable(name, name[:-len(var.name)].removesuffix("."), var.bitwidth)

    def changes(self, names: Sequence[str]) -> Iterator[tuple[str, list[Change]]]:
        for name in names:
            bits = self.variables[name].bits
            yield name, [(int(time), _value(value, bits) if isinstance(value, str) and bits else value)
                         for time, value in self._variables[name].tv]  # fmt: skip


class _Vcd:
    """A VCD file by vcdvcd, which reads it line by line: see `_by_lines`."""

    def __init__(self, path: Path):
        self._text = _by_lines(path.read_text("utf-8", errors="replace"))
        head = _vcdvcd().VCDVCD(vcd_string=self._text, only_sigs=True, store_scopes=True)
        scale = head.timescale
        self.unit = f"{scale['magnitude']}{scale['unit']}" if scale else ""
        self.variables: dict[str, Variable] = {}
        for name in head.signals:
            found = head.data[head.references_to_ids[name]]
            scope = name.rpartition(".")[0]
            while scope and scope not in head.scopes:
                scope = scope.rpartition(".")[0]
            numeric = found.var_type not in ("real", "realtime", "string")
            self.variables.setdefault(name, Variable(name, scope, int(found.size) if numeric else None))

    def changes(self, names: Sequence[str]) -> Iterator[tuple[str, list[Change]]]:
        if not names:
            return
        read = _vcdvcd().VCDVCD(vcd_string=self._text, signals=list(names))
        for name in names:
            bits = self.variables[name].bits
            yield name, [(time, _value(value, bits) if bits else float(value)) for time, value in read[name].tv]


@functools.cache
def _vcdvcd() -> ModuleType:
    """The module; importing it sets what a broken pipe does to the process, which is put back."""
    try:
        before = signal.getsignal(signal.SIGPIPE)
        import vcdvcd
        if before is not None:
            signal.signal(signal.SIGPIPE, before)
    except ValueError:  # not in the main thread, where it sets nothing
        pass
    return vcdvcd


_RANGE = re.compile(r"\[-?\d+(:-?\d+)?\]")
_TIME_AND_MORE = re.compile(r"^(#\d+)[ \t]+(\S.*)$", re.M)
_TEXT_VALUE = re.compile(r"^[sS].*\n", re.M)


def _by_lines(text: str) -> str:
    """A VCD file (IEEE 1800-2023, 21.7) as vcdvcd takes it: a line for each declaration, and for each change.

    A range apart from a name is left out (vcdvcd would join them); so are comments, changes of texts, and a last line
    without an end, which a simulator leaves that was stopped while it wrote.

    Raises:
        ValueError: It is no VCD file, or ends within its declarations.
    """
    head, found, body = text.partition("$enddefinitions")
    if not found or "$var" not in head:
        raise ValueError("it is no VCD file with variables" if not found else "it declares no variable")
    lines = []
    for declaration in re.split(r"\$end(?=\s|$)", head)[:-1]:
        words = declaration.split()
        if words[0] == "$var":
            if len(words) < 5:
                raise ValueError(f"its declaration {' '.join(words)!r} names no variable")
            if len(words) > 5 and _RANGE.fullmatch(words[-1]):
                words.pop()
            elif (found_range := re.fullmatch(r"(.+)\[(\d+):(\d+)\]", words[4])) and words[2] != "1":
                words[4] = found_range[1]
        if words[0] in ("$var", "$scope", "$upscope", "$timescale"):
            lines.append(" ".join([*words, "$end"]))
    body = body.partition("$end")[2]
    body = _TEXT_VALUE.sub("", body[:body.rfind("\n") + 1])
    body = _TIME_AND_MORE.sub(lambda match: "\n".join([match[1], *_changes(match[2])]), body)
    return "\n".join([*lines, "$enddefinitions $end", body])


def _changes(text: str) -> Iterator[str]:
    """Changes on one line, each by itself."""
    words = iter(text.split())
    for word in words:
        yield f"{word} {next(words, '')}" if word[0] in "bBrR" else word
