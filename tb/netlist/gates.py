# SPDX-License-Identifier: Apache-2.0
"""Mapped modules: what Yosys wrote, as cells, flip-flops and instances of other modules on numbered nets."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.timing.netlist import CUT, register_names

__all__ = ["Cell", "Child", "Gates", "Net", "Port", "Register", "numbers", "read_gates"]

Net = int | str
"""A number, or "0" or "1". What Yosys leaves open ("x") is 0."""


@dataclass(frozen=True)
class Port:
    """`nets`: the lowest bit first."""

    name: str
    direction: str
    nets: tuple[Net, ...]


@dataclass(frozen=True)
class Cell:
    """A combinational cell of the library. `wrong`: number and functions of a gate that can be wrong; see `wrong`."""

    name: str
    model: CellModel
    pins: Mapping[str, Net]
    wrong: tuple[int, Mapping[str, str]] | None = None


@dataclass(frozen=True)
class Register:
    """A flip-flop. `name`: of its bit in the RTL, ``path.register[index]``."""

    name: str
    cell: str
    data: Net
    output: int


@dataclass(frozen=True)
class Child:
    """An instance of a module that is not flattened."""

    name: str
    module: str
    parameters: Mapping[str, int]
    ports: tuple[Port, ...]


@dataclass
class Gates:
    """A module with one clock, the port `clock`; "" if it has none. parameters: that an instance may give; they are
    mapped in, and change nothing."""

    name: str
    ports: list[Port]
    clock: str
    cells: list[Cell] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def clock_net(self) -> Net | None:
        return next((port.nets[0] for port in self.ports if port.name == self.clock), None)

    def count(self) -> int:
        """Library cells of this module itself."""
        return sum(not cell.model.inside for cell in self.cells) + len(self.registers)


def read_gates(path: Path, models: Mapping[str, CellModel], clock: str = "clk") -> dict[str, Gates]:
    """The modules of a compressed file of Yosys' write_json, all of whose cells are of the library or of modules.

    Raises:
        BenchError: a cell is of neither kind, cannot be simulated, or is on another clock.
    """
    with gzip.open(path) as file:
        modules = json.load(file)["modules"]
    known = {name for name, module in modules.items() if "cells" in module}
    return {name: _read(name, module, models, known, clock) for name, module in modules.items()
            if not module["attributes"].get("blackbox")}


def _read(name: str, module: Mapping[str, Any], models: Mapping[str, CellModel], known: set[str], clock: str) -> Gates:
    ports = [Port(each, port["direction"], _nets(port["bits"])) for each, port in module["ports"].items()]
    gates = Gates(name, ports, clock if any(port.name == clock for port in ports) else "")
    names = register_names(module["netnames"])
    fresh = itertools.count(1 + max([0, *(bit for net in module["netnames"].values() for bit in net["bits"]
                                          if isinstance(bit, int))]))  # fmt: skip
    for instance, cell in module["cells"].items():
        kind = cell["type"]
        if kind in models:
            pins = {pin: _nets(bits)[0] for pin, bits in cell["connections"].items()}
            _add(gates, instance, models[kind], pins, names, fresh)
        elif kind in known or kind.endswith(CUT):
            directions = cell["port_directions"]
            gates.children.append(Child(
                re.sub(r"\$\d+$", "", instance), kind.removesuffix(CUT), numbers(cell.get("parameters", {})),
                tuple(Port(port, directions[port], _nets(bits)) for port, bits in cell["connections"].items())))
        else:
            raise BenchError(f"{name}: cell {instance!r} of type {kind} is not of the library")
    return gates


def _add(gates: Gates, instance: str, model: CellModel, pins: Mapping[str, Net], names: Mapping[int, str],
         fresh: Iterator[int]) -> None:
    """fresh: numbers of nets that the module does not have."""
    if model.refused:
        raise BenchError(f"{gates.name}: cell {instance!r} is a {model.name}, which cannot be simulated: "
                         f"{model.refused}")
    if model.flip_flop is None:
        gates.cells.append(Cell(instance, model, pins))
        return
    flip_flop = model.flip_flop
    output = pins[flip_flop.output]
    assert isinstance(output, int)  # a cell drives a net
    register = names.get(output, instance)
    if pins[flip_flop.clock] != gates.clock_net:
        raise BenchError(f"{gates.name}: flip-flop {register} is not on the clock {gates.clock!r}")
    data = pins[flip_flop.data]
    if flip_flop.next:
        before = {pin: net for pin, net in pins.items() if pin not in (flip_flop.clock, flip_flop.output)}
        data = next(fresh)
        inside = CellModel(model.name, tuple(before), {flip_flop.output: flip_flop.next}, inside=True)
        gates.cells.append(Cell(f"{instance}~next", inside, {**before, flip_flop.output: data}))
    gates.registers.append(Register(register, model.name, data, output))


def _nets(bits: list[int | str]) -> tuple[Net, ...]:
    return tuple(bit if isinstance(bit, int) else "1" if bit == "1" else "0" for bit in bits)


def numbers(parameters: Mapping[str, Any]) -> dict[str, int]:
    """The parameters of an instance that are numbers, in binary in Yosys' write_json."""
    return {name: int(str(value), 2) for name, value in parameters.items() if re.fullmatch("[01]+", str(value))}
