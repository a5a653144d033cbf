# SPDX-License-Identifier: Apache-2.0
"""A liberty file's groups and attributes, and the functions of its pins as truth tables.

Only what its own kind asks for is read: which cell is an inverter, what an area is, what the corner. Delays are
OpenSTA's and Yosys' business.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nncosim.tb.errors import BenchError, ToolError

__all__ = ["Group", "of_liberty", "read_groups", "require_liberty", "truth_table"]

_T = TypeVar("_T")

_TOKEN = re.compile(r'\s+|/\*.*?\*/|//[^\n]*|\\\r?\n|"(?P<text>[^"]*)"|(?P<mark>[(){};:,])|(?P<word>[^\s(){};:,"]+)',
                    re.DOTALL)  # fmt: skip


def require_liberty(liberty: Path) -> None:
    """Raises:
        ToolError: there is no such file; with the package that has the default one.
    """
    if not liberty.is_file():
        raise ToolError(f"cell library {liberty} does not exist; Debian: apt-get install qflow-tech-osu018")


def of_liberty(liberty: Path, read: Callable[[str], _T]) -> _T:
    """What `read` takes from a liberty file's text.

    Raises:
        BenchError: the file cannot be read; or of `read`, with the file's name before it.
    """
    try:
        text = liberty.read_text(errors="replace")
    except OSError as error:
        raise BenchError(f"cannot read the cell library {liberty}: {error.strerror}") from None
    try:
        return read(text)
    except BenchError as error:
        raise BenchError(f"cell library {liberty}: {error}") from None


@dataclass
class Group:
    """``kind (names) { attributes; groups }``. Of a complex attribute, ``name (a, b);``, the values are joined by a
    comma. Of attributes given twice the last one counts."""

    kind: str
    names: tuple[str, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The first of its names; "" without."""
        return self.names[0] if self.names else ""

    def of(self, kind: str) -> Iterator[Group]:
        """The groups of a kind in it."""
        return (group for group in self.groups if group.kind == kind)

    def number(self, attribute: str) -> float | None:
        """An attribute that is a number; None if it is not there, or is none."""
        try:
            return float(self.attributes[attribute])
        except (KeyError, ValueError):
            return None


def read_groups(text: str) -> Group:
    """The group `library` of a liberty file.

    Raises:
        BenchError: it has none, or is broken off or out of form; says in which line.
    """
    reader = _Reader(text)
    library = next((group for group in reader.body("").groups if group.kind == "library"), None)
    if library is None:
        raise BenchError("there is no group `library` in it")
    return library


class _Reader:
    def __init__(self, text: str):
        self._text = text
        self._tokens = self._tokenize()
        self._next = next(self._tokens, None)
        self._at = 0

    def _tokenize(self) -> Iterator[tuple[str, str, int]]:
        """Kind ("text", "mark", "word"), value, place."""
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._error(at, f"unexpected {self._text[at]!r}")
            if found.lastgroup is not None:
                yield found.lastgroup, found[found.lastgroup], at
            at = found.end()

    def _error(self, at: int, what: str) -> BenchError:
        return BenchError(f"line {self._text.count(chr(10), 0, at) + 1}: {what}")

    def _take(self) -> tuple[str, str]:
        if self._next is None:
            raise self._error(len(self._text), "the file ends within a group")
        kind, value, self._at = self._next
        self._next = next(self._tokens, None)
        return kind, value

    def _is(self, mark: str) -> bool:
        return self._next is not None and self._next[:2] == ("mark", mark)

    def body(self, end: str) -> Group:
        """Statements up to `end`; "": of the whole file."""
        group = Group("", ())
        while not (self._is(end) if end else self._next is None):
            kind, name = self._take()
            if (kind, name) == ("mark", ";"):
                continue
            if kind == "mark":
                raise self._error(self._at, f"unexpected {name!r}")
            self._statement(name, group)
        if end:
            self._take()
        return group

    def _statement(self, name: str, group: Group) -> None:
        _, mark = self._take()
        if mark == ":":
            values: list[str] = []
            at = self._at
            while not (self._is(";") or self._is("}")) and (not values or self._same_line(at)):
                values.append(self._take()[1])
            group.attributes[name] = " ".join(values)
            return
        if mark != "(":
            raise self._error(self._at, f"after {name!r} there is {mark!r} instead of ':' or '('")
        words: list[str] = []
        while not self._is(")"):
            kind, word = self._take()
            if kind != "mark":
                words.append(word)
        self._take()
        if not self._is("{"):
            group.attributes[name] = ",".join(words)
            return
        self._take()
        inner = self.body("}")
        group.groups.append(Group(name, tuple(words), inner.attributes, inner.groups))

    def _same_line(self, at: int) -> bool:
        """Whether the next token stands in the line of `at`: some files leave the semicolon out."""
        return self._next is not None and "\n" not in self._text[at:self._next[2]]


_OPERATOR = re.compile(r"\s*([!'^&*+|()]|\w+)")


def truth_table(function: str, inputs: tuple[str, ...]) -> tuple[int, ...] | None:
    """The values of a liberty function for all values of its inputs, the last input changing fastest; None if it names
    something else, or is out of form.

    From the tightest: ``!a`` and ``a'``; ``a ^ b``; ``a b``, ``a & b``, ``a * b``; ``a + b``, ``a | b``.
    """
    tokens = _OPERATOR.findall(function)
    if "".join(tokens) != re.sub(r"\s", "", function):
        return None
    values = []
    for bits in itertools.product((0, 1), repeat=len(inputs)):
        reader = _Function(tokens, {"0": 0, "1": 1, **dict(zip(inputs, bits, strict=True))})
        try:
            values.append(reader.either())
        except (KeyError, IndexError):
            return None
        if reader.at != len(tokens):
            return None
    return tuple(values)


class _Function:
    """One evaluation of a function. Raises KeyError or IndexError if it is out of form."""

    def __init__(self, tokens: list[str], values: dict[str, int]):
        self.tokens, self.values, self.at = tokens, values, 0

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def either(self) -> int:
        value = self._both()
        while self._next() in ("+", "|"):
            self.at += 1
            value |= self._both()
        return value

    def _both(self) -> int:
        value = self._differ()
        while (token := self._next()) and token not in ("+", "|", ")", "'", "^"):
            self.at += token in ("&", "*")
            value &= self._differ()
        return value

    def _differ(self) -> int:
        value = self._one()
        while self._next() == "^":
            self.at += 1
            value ^= self._one()
        return value

    def _one(self) -> int:
        token = self.tokens[self.at]
        self.at += 1
        if token == "!":
            return 1 - self._one()
        if token == "(":
            value = self.either()
            if self.tokens[self.at] != ")":
                raise KeyError(self.tokens[self.at])
            self.at += 1
        else:
            value = self.values[token]
        while self._next() == "'":
            self.at += 1
            value = 1 - value
        return value
