# SPDX-License-Identifier: Apache-2.0
"""Delays of a netlist from an SDF file (IEEE 1497), as OpenSTA writes it: of each triple the third number, that of slow
paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from nncosim.tb.errors import BenchError

__all__ = ["CellDelays", "Edges", "Sdf", "read_sdf"]

Edges: TypeAlias = tuple[float, float]
"""In ns: of a rising edge, of a falling one. Of a delay it is the edge that comes out, of a check that of the data."""

_Tree: TypeAlias = "list[str | _Tree]"
_TOKEN = re.compile(r'"[^"]*"|[()]|[^\s()"]+')
_EDGES = {"posedge": 0, "negedge": 1}
_UNITS = {"ns": 1.0, "ps": 1e-3, "us": 1e3}


@dataclass
class CellDelays:
    """Of an instance.

    Attributes:
        kind: its cell, as the file has it.
        paths: (input, output) to delays.
        edges: (input, output, 0 if the input rises or 1) to delays, where they are known for each of its edges.
        setup, hold: data pin to checks against the clock.
    """

    kind: str
    paths: dict[tuple[str, str], Edges] = field(default_factory=dict)
    edges: dict[tuple[str, str, int], Edges] = field(default_factory=dict)
    setup: dict[str, Edges] = field(default_factory=dict)
    hold: dict[str, Edges] = field(default_factory=dict)

    def delay(self, pin: str, output: str, edge_in: int, edge_out: int) -> float:
        """From an edge of an input to one of an output, 0 a rising one and 1 a falling one."""
        return self.edges.get((pin, output, edge_in), self.paths[pin, output])[edge_out]


@dataclass
class Sdf:
    """A file.

    Attributes:
        cells: instance to delays.
        wires: (instance, pin) to the delay of the wire to it, of that pin's edges; "" is the instance of a port of the
            design.
    """

    cells: dict[str, CellDelays] = field(default_factory=dict)
    wires: dict[tuple[str, str], Edges] = field(default_factory=dict)


def read_sdf(path: Path) -> Sdf:
    """Read a file of a flat netlist.

    Raises:
        BenchError: it is out of form, or has what is not understood: conditions, increments, delays of more than two
            values.
    """
    tree = _parsed(path)
    found, divider, unit = Sdf(), "/", 1.0
    for entry in tree[1:]:
        match entry:
            case ["DIVIDER", str(divider)]:
                pass
            case ["TIMESCALE", *words]:
                scale = re.fullmatch(r"([\d.]+)\s*([a-z]+)", "".join(map(str, words)))
                if scale is None or scale[2] not in _UNITS:
                    raise BenchError(f"{path}: its time scale {words} is none that is known")
                unit = float(scale[1]) * _UNITS[scale[2]]
            case ["CELL", ["CELLTYPE", str(kind)], ["INSTANCE", *names], *entries]:
                _cell(found, str(names[0]) if names else "", kind.strip('"'), entries, divider, unit, path)
    return found


def _parsed(path: Path) -> _Tree:
    stack: list[_Tree] = [[]]
    for token in _TOKEN.findall(path.read_text()):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) < 2:
                raise BenchError(f"{path} is no SDF file: it closes more than it opens")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    match stack:
        case [[["DELAYFILE", *_] as tree]]:
            return tree
    raise BenchError(f"{path} is no SDF file")


def _cell(found: Sdf, instance: str, kind: str, entries: _Tree, divider: str, unit: float, path: Path) -> None:
    cell = found.cells.setdefault(instance, CellDelays(kind)) if instance else CellDelays(kind)
    for entry in _statements(entries):
        match entry:
            case ["INTERCONNECT", str(_), str(load), *values]:
                owner, _, pin = load.rpartition(divider)
                _slower(found.wires, (owner, pin), _edges(values, unit, path))
            case ["IOPATH", str(pin), str(output), *values]:
                _slower(cell.paths, (pin, output), _edges(values, unit, path))
            case [("SETUP" | "HOLD") as check, [str(edge), str(pin)], [str(_), str(_)], value] if edge in _EDGES:
                checks = cell.setup if check == "SETUP" else cell.hold
                before = list(checks.get(pin, (0.0, 0.0)))
                before[_EDGES[edge]] = _edges([value], unit, path)[0]
                checks[pin] = before[0], before[1]
            case ["WIDTH", *_]:
                pass  # of the clock, which is ideal
            case _:
                raise BenchError(f"{path}: {kind} {instance} has {entry}, which is not understood")


def _statements(entries: _Tree) -> Iterator[_Tree]:
    for entry in entries:
        match entry:
            case ["DELAY", ["ABSOLUTE", *statements]] | ["TIMINGCHECK", *statements]:
                yield from (each for each in statements if isinstance(each, list))
            case list():
                yield entry


def _slower(known: dict[tuple[str, str], Edges], key: tuple[str, str], edges: Edges) -> None:
    """The slower of two delays of the same."""
    known[key] = max(known.get(key, edges)[0], edges[0]), max(known.get(key, edges)[1], edges[1])


def _edges(values: _Tree, unit: float, path: Path) -> Edges:
    """Each the last number of a triple, that of slow paths; one value is that of both edges."""
    numbers = []
    for value in values:
        words = [each for word in value for each in str(word).split(":") if each] if isinstance(value, list) else []
        try:
            numbers.append(float(words[-1]) * unit)
        except (IndexError, ValueError):
            raise BenchError(f"{path}: {value} is no delay") from None
    if len(numbers) not in (1, 2):
        raise BenchError(f"{path}: {values} are not the delays of two edges")
    return numbers[0], numbers[-1]
