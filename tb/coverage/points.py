# SPDX-License-Identifier: Apache-2.0
"""Functional coverage: points that are declared before a run, and hit by benches as they see them.

Of an instruction set: each opcode, each class of value of each field, each pair of opcodes that follow each other.
"""

from __future__ import annotations

import enum
import fnmatch
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data
from nncosim.hdl.formats import decode
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.coverage import FOLDER_VARIABLE
from nncosim.tb.system.terminal import plain_table
from rich.table import Table

__all__ = ["POINTS_SUFFIX", "Coverage", "InstructionCoverage", "classes_of", "fields_of", "leave_points",
           "points_table", "value_in"]

POINTS_SUFFIX = ".points.json"


class Coverage:
    """Points by name, and how often each was hit.

    Args:
        points: all of them.
        unreachable: pattern (as in file names) of points that cannot be hit, and why. Where one is hit all the same,
            the reason is wrong: see `surprises`.

    Raises:
        BenchError: a pattern that fits no point.
    """

    def __init__(self, name: str, points: Iterable[str], unreachable: Mapping[str, str] | None = None):
        self.name = name
        self.hits: dict[str, int] = dict.fromkeys(points, 0)
        self._reasons: dict[str, str] = {}
        for pattern, reason in (unreachable or {}).items():
            fits = fnmatch.filter(self.hits, pattern)
            if not fits:
                raise BenchError(f"coverage {name}: no point is named {pattern!r}")
            self._reasons |= dict.fromkeys(fits, reason)

    def hit(self, point: str, times: int = 1) -> None:
        """Count a point.

        Raises:
            BenchError: it was not declared.
        """
        if point not in self.hits:
            raise BenchError(f"coverage {self.name}: there is no point {point!r}")
        self.hits[point] += times

    @property
    def holes(self) -> list[str]:
        """Points that can be hit and were not."""
        return [point for point, count in self.hits.items() if not count and point not in self._reasons]

    @property
    def excluded(self) -> dict[str, str]:
        """Points that cannot be hit, and why."""
        return dict(self._reasons)

    @property
    def surprises(self) -> list[str]:
        """Points that were said to be out of reach, and were hit."""
        return [point for point in self._reasons if self.hits[point]]

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "points": len(self.hits), "hits": self.hits, "holes": self.holes,
                "excluded": self.excluded, "surprises": self.surprises}  # fmt: skip


class InstructionCoverage(Coverage):
    """Coverage of instructions as they are executed. Points: ``OPCODE``, ``OPCODE.field CLASS``, ``OPCODE > OPCODE``.

    Args:
        formats: opcode to its format, a struct with a field ``opcode`` in the lowest bits.
        valued: opcodes whose fields are looked at. others: further points.
    """

    def __init__(
        self, name: str, formats: Mapping[Any, type[data.Struct]], valued: Collection[enum.IntEnum],
        unreachable: Mapping[str, str] | None = None, others: Iterable[str] = (),
    ):  # fmt: skip
        self._formats = {int(opcode): layout for opcode, layout in formats.items()}
        self._names = {int(opcode): opcode.name for opcode in formats}
        self._valued = set(map(int, valued))
        points = list(self._names.values())
        for opcode in sorted(self._valued):
            for field, shape in fields_of(self._formats[opcode]).items():
                points += [f"{self._names[opcode]}.{field} {each}" for each in classes_of(shape)]
        points += [f"{a} > {b}" for a in self._names.values() for b in self._names.values()]
        super().__init__(name, [*points, *others], unreachable)

    def executed(self, words: Iterable[int], opcode_bits: int = 6) -> None:
        """Count what a program executed, instruction by instruction."""
        before, pairs = None, Counter[tuple[int, int]]()
        seen = Counter[int]()
        for word in words:
            opcode = word & ((1 << opcode_bits) - 1)
            pairs[before if before is not None else -1, opcode] += 1
            seen[word] += 1
            before = opcode
        for (first, second), count in pairs.items():
            if first >= 0:
                self.hit(f"{self._name(first)} > {self._name(second)}", count)
        for word, count in seen.items():
            self._instruction(word, word & ((1 << opcode_bits) - 1), count)

    def _name(self, opcode: int) -> str:
        return self._names.get(opcode, f"opcode {opcode}")

    def _instruction(self, word: int, opcode: int, count: int) -> None:
        self.hit(self._name(opcode), count)
        if opcode in self._valued:
            values = decode(self._formats[opcode], word)
            for field, shape in fields_of(self._formats[opcode]).items():
                self.hit(f"{self._names[opcode]}.{field} {_class(shape, int(values[field]))}", count)


def fields_of(layout: type[data.Struct]) -> dict[str, Any]:
    """Fields but the opcode, and their shapes."""
    return {name: field.shape for name, field in layout.as_shape() if name != "opcode"}


def classes_of(shape: Any) -> tuple[str, ...]:
    """The classes of a field's values: the members of an enumeration, both values of a bit; else zero, the extremes,
    and what lies between."""
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return tuple(member.name for member in shape)
    cast = Shape.cast(shape)
    if cast.width == 1:
        return "0", "1"
    return ("min", "zero", "max", "other") if cast.signed else ("zero", "max", "other")


def _class(shape: Any, value: int) -> str:
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return str(shape(value).name)
    low, high = _range(shape)
    if (low, high) == (0, 1):
        return str(value)
    return {0: "zero", low: "min", high: "max"}.get(value, "other") if value else "zero"


def value_in(shape: Any, name: str, choose: Any) -> int:
    """A value of a class; `choose(low, high)`: any of these, both included."""
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return int(shape[name].value)
    low, high = _range(shape)
    if name in ("0", "1"):
        return int(name)
    ends = {"zero": 0, "min": low, "max": high}
    if name in ends:
        return ends[name]
    return int(choose(1, high - 1)) if low == 0 or choose(0, 1) else int(choose(low + 1, -1))


def _range(shape: Any) -> tuple[int, int]:
    cast = Shape.cast(shape)
    low = -(1 << cast.width - 1) if cast.signed else 0
    return low, low + (1 << cast.width) - 1


def leave_points(coverage: Coverage) -> None:
    """Leave it in the folder of ``pytest --coverage``, if there is one."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(coverage.to_json(), indent=1)
        (Path(folder) / f"{coverage.name}{POINTS_SUFFIX}").write_text(text)


def points_table(coverages: Iterable[Mapping[str, Any]]) -> Table:
    """A row a coverage, as `Coverage.to_json` gives it, with its holes."""
    table = plain_table("functional coverage")
    for heading in ("what", "points", "hit", "cannot be", "holes"):
        table.add_column(heading)
    for each in coverages:
        hit = sum(bool(count) for count in each["hits"].values())
        table.add_row(each["name"], str(each["points"]), str(hit), str(len(each["excluded"])),
                      ", ".join(each["holes"]) or "-")
    return table
