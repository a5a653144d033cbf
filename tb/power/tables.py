# SPDX-License-Identifier: Apache-2.0
"""What a cell library says of energy: tables by the time an edge takes and the load, and capacitances of pins.

Liberty's convention: the energy of a table of ``rise_power`` is that of one rise of the pin it stands at (or is
related to), without what charges the load; its unit is that of capacitance times that of voltage squared. Tables are
interpolated linearly between their points, and go on beyond their edges with the slope they have there (Liberty User
Guide, volume 1, "Modeling Power and Electromigration", and OpenSTA's table models).
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.timing.liberty import Group, of_liberty, read_groups, truth_table

__all__ = ["CellEnergy", "Edges", "InternalEnergy", "PowerLibrary", "Table", "TransitionTimes", "power_library"]

_VARIABLES = {
    "total_output_net_capacitance": "load", "input_net_transition": "slew", "input_transition_time": "slew",
}  # fmt: skip
_UNITS = {"ff": 1e-3, "pf": 1.0, "nf": 1e3}
_TIMES = {"1ns": 1.0, "100ps": 0.1, "10ps": 0.01, "1ps": 1e-3}
_WATTS = {"1mw": 1e-3, "100uw": 1e-4, "10uw": 1e-5, "1uw": 1e-6, "100nw": 1e-7, "10nw": 1e-8, "1nw": 1e-9,
          "100pw": 1e-10, "10pw": 1e-11, "1pw": 1e-12}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Values by slew in ns (rows) and load in pF (columns); one row or column where they do not depend on it."""

    slews: tuple[float, ...]
    loads: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, slew: float, load: float) -> float:
        """Bilinear."""
        row, across = _place(self.slews, slew)
        column, along = _place(self.loads, load)
        total = 0.0
        for number, share in ((row, 1 - across), (row + 1, across)):
            if share:
                line = self.values[number]
                total += share * (line[column] * (1 - along) + (line[column + 1] * along if along else 0.0))
        return total


def _place(points: Sequence[float], value: float) -> tuple[int, float]:
    """Which two points a value is between (or beyond), and how far from the first to the second."""
    if len(points) == 1:
        return 0, 0.0
    at = min(max(bisect.bisect_right(points, value) - 1, 0), len(points) - 2)
    return at, (value - points[at]) / (points[at + 1] - points[at])


@dataclass(frozen=True)
class Edges:
    """Energy of a rise and of a fall, in pJ."""

    rise: Table
    fall: Table


@dataclass(frozen=True)
class InternalEnergy:
    """Of an output that changes because of the input `related`. `decides`: of all values of the other inputs, the share
    with which this one decides; `weight`: of all changes of the output, the share that comes from this input if all
    inputs change equally often, are independent, and half of the time 1."""

    related: str
    decides: float
    weight: float
    inverting: bool
    tables: Edges


@dataclass(frozen=True)
class TransitionTimes:
    """How long an edge of an output takes, in ns, because of an edge of `related`. sense: of liberty's timing."""

    related: str
    sense: str
    tables: Edges


@dataclass(frozen=True)
class CellEnergy:
    """Attributes:
        capacitances: of inputs, in pF.
        inputs: energy of an edge of an input, whether or not an output changes; of those that have one.
        outputs: energy inside of a change of an output.
        transitions: of outputs.
        leakage: in W.
    """

    capacitances: Mapping[str, float]
    inputs: Mapping[str, Edges]
    outputs: Mapping[str, tuple[InternalEnergy, ...]]
    transitions: Mapping[str, tuple[TransitionTimes, ...]]
    leakage: float


@dataclass(frozen=True)
class PowerLibrary:
    """`voltage` in V; cells by name."""

    name: str
    voltage: float
    cells: Mapping[str, CellEnergy]


def power_library(liberty: Path) -> PowerLibrary:
    """What a liberty file says.

    Raises:
        BenchError: it cannot be read, or has units, tables or no voltage such that energies cannot be told.
    """
    return of_liberty(liberty, _library)


@functools.lru_cache(maxsize=2)
def _library(text: str) -> PowerLibrary:
    library = read_groups(text)
    conditions = library.attributes.get("default_operating_conditions", "")
    group = next((each for each in library.of("operating_conditions") if each.name == conditions), library)
    voltage = group.number("voltage") or library.number("nom_voltage")
    if not voltage:
        raise BenchError("it states no voltage, without which there are no energies")
    reader = _Reader(library)
    cells = {cell.name: reader.cell(cell) for cell in library.of("cell")}
    if not any(cell.inputs or any(cell.outputs.values()) for cell in cells.values()):
        raise BenchError("it has no internal_power: only what charges pins would take energy")
    if not any(load for cell in cells.values() for load in cell.capacitances.values()):
        raise BenchError("its pins state no capacitance")
    return PowerLibrary(library.name, voltage, cells)


class _Reader:
    def __init__(self, library: Group):
        self._templates = {each.name: each for kind in ("lu_table_template", "power_lut_template")
                           for each in library.of(kind)}  # fmt: skip
        number, _, unit = library.attributes.get("capacitive_load_unit", "1,pf").partition(",")
        self._pf = self._unit("capacitive_load_unit", unit.strip(), _UNITS) * float(number)
        self._ns = self._unit("time_unit", library.attributes.get("time_unit", "1ns"), _TIMES)
        if library.attributes.get("voltage_unit", "1V").lower() != "1v":
            raise BenchError("its voltage_unit is not 1V")
        self._watt = self._unit("leakage_power_unit", library.attributes.get("leakage_power_unit", "1nW"), _WATTS)
        self._leakage = library.number("default_cell_leakage_power") or 0.0
        self._load = library.number("default_input_pin_cap") or 0.0

    @staticmethod
    def _unit(name: str, text: str, known: Mapping[str, float]) -> float:
        try:
            return known[text.lower()]
        except KeyError:
            raise BenchError(f"its {name} ({text}) is none that is known") from None

    def cell(self, cell: Group) -> CellEnergy:
        pins = list(cell.of("pin"))
        inputs = [pin for pin in pins if pin.attributes.get("direction") == "input"]
        outputs = [pin for pin in pins if pin.attributes.get("direction") == "output"]
        names = tuple(pin.name for pin in inputs)
        own = {pin.name: edges for pin in inputs if (edges := self._mean(pin.of("internal_power"))) is not None}
        leakage = cell.number("cell_leakage_power")
        return CellEnergy(
            {pin.name: (self._load if load is None else load) * self._pf
             for pin, load in ((pin, pin.number("capacitance")) for pin in inputs)}, own,
            {pin.name: self._internal(pin, names) for pin in outputs},
            {pin.name: self._transitions(pin) for pin in outputs},
            (self._leakage if leakage is None else leakage) * self._watt)  # fmt: skip

    def _internal(self, pin: Group, inputs: tuple[str, ...]) -> tuple[InternalEnergy, ...]:
        by_input: dict[str, list[Group]] = {}
        for group in pin.of("internal_power"):
            for related in group.attributes.get("related_pin", "").split():
                by_input.setdefault(related, []).append(group)
        table = truth_table(pin.attributes.get("function", ""), inputs)
        shares = {name: _difference(table, inputs.index(name), len(inputs)) if table and name in inputs else 1.0
                  for name in by_input}  # fmt: skip
        total = sum(shares.values()) or 1.0
        senses = {each.related: each.sense for each in self._transitions(pin)}
        return tuple(
            InternalEnergy(name, shares[name], shares[name] / total, senses.get(name) == "negative_unate", edges)
            for name, groups in by_input.items() if (edges := self._mean(groups)) is not None)  # fmt: skip

    def _transitions(self, pin: Group) -> tuple[TransitionTimes, ...]:
        found = []
        for group in pin.of("timing"):
            tables = {each.kind: each for each in group.groups}
            if {"rise_transition", "fall_transition"} <= tables.keys():
                edges = Edges(*(self._table(tables[name], self._ns) for name in ("rise_transition", "fall_transition")))
                found += [TransitionTimes(name, group.attributes.get("timing_sense", "non_unate"), edges)
                          for name in group.attributes.get("related_pin", "").split()]  # fmt: skip
        return tuple(found)

    def _mean(self, groups: object) -> Edges | None:
        """Of groups for different conditions (``when``): the mean, for how often each holds is not known."""
        found = []
        for group in groups:  # type: ignore[attr-defined]
            tables = {each.kind: each for each in group.groups}
            both = tables.get("power")
            rise, fall = tables.get("rise_power", both), tables.get("fall_power", both)
            if rise is not None or fall is not None:  # what has no table costs nothing
                found.append(Edges(*(_NOTHING if each is None else self._table(each, self._pf)
                                     for each in (rise, fall))))
        if len(found) < 2:
            return found[0] if found else None
        return Edges(_mean([each.rise for each in found]), _mean([each.fall for each in found]))

    def _table(self, group: Group, unit: float) -> Table:
        template = self._templates.get(group.name)
        values = [unit * value for value in _numbers(group.attributes.get("values", ""))]
        if len(values) == 1:
            return Table((0.0,), (0.0,), ((values[0],),))
        axes: dict[str, tuple[float, ...]] = {"slew": (0.0,), "load": (0.0,)}
        order = []
        for number in (1, 2):
            variable = template.attributes.get(f"variable_{number}") if template else None
            if variable is None:
                continue
            if variable not in _VARIABLES:
                raise BenchError(f"a table depends on {variable}, which is not known here")
            index = f"index_{number}"
            points = group.attributes.get(index) or (template.attributes.get(index, "") if template else "")
            name = _VARIABLES[variable]
            scale = self._ns if name == "slew" else self._pf
            axes[name] = tuple(scale * point for point in _numbers(points))
            order.append(name)
        rows, columns = len(axes["slew"]), len(axes["load"])
        if rows * columns != len(values):
            raise BenchError(f"a table has {len(values)} values for {rows} x {columns} points")
        if order[:1] == ["load"]:
            lines = tuple(tuple(values[column * rows + row] for column in range(columns)) for row in range(rows))
        else:
            lines = tuple(tuple(values[row * columns:(row + 1) * columns]) for row in range(rows))
        return Table(axes["slew"], axes["load"], lines)


_NOTHING = Table((0.0,), (0.0,), ((0.0,),))


def _numbers(text: str) -> list[float]:
    return [float(each) for each in re.split(r"[,\s\\]+", text) if each]


def _mean(tables: Sequence[Table]) -> Table:
    """On the points of the first."""
    first = tables[0]
    return Table(first.slews, first.loads, tuple(
        tuple(sum(each.at(slew, load) for each in tables) / len(tables) for load in first.loads)
        for slew in first.slews))  # fmt: skip


def _difference(table: tuple[int, ...], at: int, inputs: int) -> float:
    """Of all values of the other inputs, the share for which an input decides."""
    bit = 1 << (inputs - 1 - at)
    return sum(table[k] != table[k | bit] for k in range(len(table)) if not k & bit) / (len(table) / 2)
