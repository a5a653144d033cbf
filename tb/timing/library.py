# SPDX-License-Identifier: Apache-2.0
"""A cell library as mapping and timing need it: its cells by what they do, whatever they are called, and its corner."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.timing.liberty import Group, of_liberty, read_groups, truth_table

__all__ = ["Corner", "Gate", "Library", "StorageCell", "read_library", "without_wires"]

_BUFFER, _INVERTER, _NAND2 = (0, 1), (1, 0), (1, 1, 1, 0)
_WIRE_LOADS = ("default_wire_load", "default_wire_load_selection")
_FARADS = {"ff": 1e-15, "pf": 1e-12, "nf": 1e-9}


@dataclass(frozen=True)
class Gate:
    """A combinational cell with one output."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class StorageCell:
    """A flip-flop or latch. `outputs`: its pins that give the bit, or its inverse, the bit first. `asynchronous`: pins
    that set or clear it without a clock. `plain`: whether it is a flip-flop on a rising edge with neither."""

    name: str
    outputs: tuple[str, ...]
    asynchronous: tuple[str, ...]
    plain: bool


@dataclass(frozen=True)
class Corner:
    """What the library's delays hold for. `conditions`: name of its default operating conditions, "" without; numbers
    are theirs, or the nominal ones; None where it says nothing. `process` is a factor, `temperature` in degrees
    Celsius, `voltage` in volts. `wire_load`: name of the wire load model, or of the choice among some, that it sets by
    default, and OpenSTA takes; "" without."""

    conditions: str
    process: float | None
    temperature: float | None
    voltage: float | None
    wire_load: str


@dataclass(frozen=True)
class Library:
    """Cells by what they do.

    Attributes:
        name: the library's own.
        areas: cell to area, in the library's unit, by convention um2; only of cells that state one.
        inverter: the smallest one: of FO4.
        nand2: the smallest with two inputs: the unit of area.
        driver: the smallest buffer: what abc takes to drive inputs.
        buffer: the next larger one, or the same: drives what abc does not see, and a design's inputs.
        storage: cell to what holds a bit in it.
        load: in pF, of an input of something else: about two of the smallest inverter's, to one digit.
    """

    name: str
    areas: Mapping[str, float] = field(repr=False)
    inverter: Gate
    nand2: Gate
    driver: Gate
    buffer: Gate
    storage: Mapping[str, StorageCell] = field(repr=False)
    load: float
    corner: Corner

    @property
    def constraints(self) -> str:
        """For abc; the load in fF."""
        return f"set_driving_cell {self.driver.name}\nset_load {self.load * 1000:g}\n"


def read_library(liberty: Path) -> Library:
    """The library of a liberty file.

    Of cells that do the same the smallest is meant; of equal ones that with the least input capacitance, then the first
    by name. Cells marked `dont_use`, and those that can let their output go, are left out.

    Raises:
        BenchError: the file cannot be read or is no liberty file, or the library lacks an inverter, a buffer, a NAND of
            two inputs, or a flip-flop on a rising edge without set and reset.
    """
    return of_liberty(liberty, _library)


def without_wires(text: str) -> str:
    """A liberty file that sets no wire load by default."""
    return re.sub(rf"\b({'|'.join(_WIRE_LOADS)})\s*:[^;\n]*;?", "", text)


@functools.lru_cache(maxsize=4)
def _library(text: str) -> Library:
    library = read_groups(text)
    cells = [cell for cell in library.of("cell") if cell.attributes.get("dont_use") != "true"]
    areas = {cell.name: area for cell in library.of("cell") if (area := cell.number("area")) is not None}
    sized = [cell for cell in cells if areas.get(cell.name, 0) > 0]
    storage = {found.name: found for cell in library.of("cell") if (found := _storage(cell)) is not None}
    inverters, buffers, nands = (_that_compute(table, sized) for table in (_INVERTER, _BUFFER, _NAND2))
    flip_flops = [cell for cell in sized if cell.name in storage and storage[cell.name].plain]
    missing = [what for what, found in (
        ("an inverter", inverters), ("a buffer", buffers), ("a NAND of two inputs", nands),
        ("a flip-flop on a rising edge without set and reset", flip_flops)) if not found]  # fmt: skip
    if missing:
        raise BenchError(f"it has no cell with an area that is {', and none that is '.join(missing)}")
    larger = [cell for cell in buffers if areas[cell.name] > areas[buffers[0].name]]
    capacitance = _capacitance(inverters[0]) * _pf(library)
    load = float(f"{2 * capacitance:.1g}")
    return Library(library.name, areas, _gate(inverters[0]), _gate(nands[0]), _gate(buffers[0]),
                   _gate((larger or buffers)[0]), storage, load, _corner(library))


def _that_compute(table: tuple[int, ...], cells: Iterable[Group]) -> list[Group]:
    """The cells with one output that have this function of all their inputs, the smallest first."""
    found = []
    for cell in cells:
        inputs, outputs = _pins(cell, "input"), _pins(cell, "output")
        if len(outputs) != 1 or 1 << len(inputs) != len(table) or "three_state" in outputs[0].attributes:
            continue
        names = tuple(pin.name for pin in inputs)
        if truth_table(outputs[0].attributes.get("function", ""), names) == table:
            found.append(cell)
    return sorted(found, key=lambda cell: (cell.number("area"), _capacitance(cell), cell.name))


def _pins(cell: Group, direction: str) -> list[Group]:
    return [pin for pin in cell.of("pin") if pin.attributes.get("direction") == direction]


def _gate(cell: Group) -> Gate:
    return Gate(cell.name, tuple(pin.name for pin in _pins(cell, "input")), _pins(cell, "output")[0].name)


def _capacitance(cell: Group) -> float:
    """Of its inputs together, in the library's unit."""
    return sum(pin.number("capacitance") or 0.0 for pin in _pins(cell, "input"))


def _pf(library: Group) -> float:
    """The library's unit of capacitance, in pF."""
    number, _, unit = library.attributes.get("capacitive_load_unit", "1,pf").partition(",")
    try:
        return float(number) * _FARADS[unit.strip().lower()] / 1e-12
    except (KeyError, ValueError):
        raise BenchError(f"its capacitive_load_unit ({number},{unit}) is none that is known") from None


def _storage(cell: Group) -> StorageCell | None:
    state = next((group for group in cell.groups if group.kind in ("ff", "latch")), None)
    if state is None:
        return None
    by_function = {pin.attributes.get("function", "").strip("() "): pin.name for pin in _pins(cell, "output")}
    outputs = tuple(by_function[name] for name in state.names if name in by_function)
    named = " ".join(state.attributes.get(each, "") for each in ("clear", "preset"))
    words = set("".join(c if c.isalnum() or c == "_" else " " for c in named).split())
    asynchronous = tuple(pin.name for pin in _pins(cell, "input") if pin.name in words)
    edge = state.attributes.get("clocked_on", "").strip("() ")
    plain = state.kind == "ff" and not named.strip() and edge in [pin.name for pin in _pins(cell, "input")]
    scanned = any(pin.attributes.get("nextstate_type", "").startswith("scan") for pin in cell.of("pin"))
    return StorageCell(cell.name, outputs, asynchronous, plain and not scanned)


def _corner(library: Group) -> Corner:
    conditions = library.attributes.get("default_operating_conditions", "")
    group = next((each for each in library.of("operating_conditions") if each.name == conditions), None)
    values = {name: group.number(name) if group is not None and group.number(name) is not None
              else library.number(f"nom_{name}") for name in ("process", "temperature", "voltage")}  # fmt: skip
    return Corner(conditions if group is not None else "", **values,
                  wire_load=next(filter(None, map(library.attributes.get, _WIRE_LOADS)), ""))
