# SPDX-License-Identifier: Apache-2.0
"""A mapped netlist: read from Yosys' JSON, its storage counted, written as Verilog that any reader takes.

OpenSTA's Verilog reader of 2019 refuses `wire signed` and mis-sizes assignments to concatenations. So
the Verilog is written here instead of by Yosys: one-bit nets ``n<number>``, cells ``u<number>``, and no assignment
but of one port bit to another. Register names are kept aside, by cell, and put back into the reports.
"""

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

from nncosim.tb.errors import BenchError
from nncosim.tb.timing.library import Library

__all__ = ["CUT", "KIBIT", "REGISTER_ATTRIBUTE", "LogicArea", "Macro", "Netlist", "Storage", "array_name", "cut_name",
           "register_names"]

KIBIT = 1024

REGISTER_ATTRIBUTE = "nncosim_register"
"""Set on the wires that flip-flops of a module drive, before the hierarchy is flattened: the driver's own name."""

CUT = "_cut"
"""What the type of an instance that is cut ends with in a mapped netlist."""

_FAN_OUT = 8  # pins on one buffer
_CLOCK = re.compile(r"(\w+_)?clk_0")
_TIES = {"0": "1'b0", "1": "1'b1", "x": "1'b0", "z": "1'b0"}


@dataclass(frozen=True)
class Storage:
    """Flip-flops of one name, or a macro. Numbered registers of one module are one array: ``word0`` is in ``word#``."""

    name: str
    bits: int
    module: str = "flip-flops"

    def __str__(self) -> str:
        return f"{self.name}: {self.bits} bits of {self.module}"


@dataclass(frozen=True)
class LogicArea:
    """Area of library cells in NAND2 equivalents (areas of the smallest NAND of two inputs): gates, and flip-flops and
    latches."""

    gates: float
    flip_flops: float

    @property
    def total(self) -> float:
        return self.gates + self.flip_flops

    def __sub__(self, other: "LogicArea") -> "LogicArea":
        return LogicArea(self.gates - other.gates, self.flip_flops - other.flip_flops)

    def __truediv__(self, parts: int) -> "LogicArea":
        return LogicArea(self.gates / parts, self.flip_flops / parts)


@dataclass(frozen=True)
class Macro:
    """A cell at which the design is cut: its module, and its pins in the flat netlist (name to direction)."""

    module: str
    liberty_cell: str
    pins: tuple[tuple[str, str], ...]

    @property
    def clock(self) -> str:
        """Its clock pin: `clk`, or `D_clk` of a domain D.

        Raises:
            BenchError: If it has none, or more than one: there would be no paths from and to it, or wrong ones.
        """
        found = [pin for pin, direction in self.pins if direction == "input" and _CLOCK.fullmatch(pin)]
        if len(found) != 1:
            raise BenchError(f"module {self.module!r} cannot be cut out of a design that is timed: it has "
                             f"{len(found)} clocks ({', '.join(found) or 'no port clk'}), and must have one")
        return found[0]


class _Cell(TypedDict):
    """A cell in Yosys' write_json. A connection's bits are numbers of nets, or constants as texts."""

    type: str
    connections: Mapping[str, list[int | str]]
    port_directions: NotRequired[Mapping[str, str]]
    parameters: NotRequired[Mapping[str, str | int]]


class _Net(TypedDict):
    """Nets of one name in Yosys' write_json."""

    attributes: Mapping[str, str | int]
    hide_name: int
    bits: list[int | str]


@dataclass
class Netlist:
    """One flat module.

    Attributes:
        top: Its name.
        ports: Port bit (``name_index``) to (direction, net).
        cells: Instance to (library cell, pin to net).
        registers: Instance of a flip-flop to the name of its bit, ``path.register[index]``.
        macros: Instance of a cut cell to what it is; its own name is in `registers`.
        declared: Instance of a flip-flop, or port bit, to where the Verilog declares it: ``file.v:line...``, as Yosys
            has it; without those of which it says nothing.
        memories: Storage in macros (those with parameters DEPTH and WIDTH).
    """

    top: str
    ports: dict[str, tuple[str, str]] = field(default_factory=dict)
    cells: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    macros: dict[str, Macro] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    memories: list[Storage] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, top: str, library: Library) -> "Netlist":
        """The module `top` of a file of Yosys' write_json, compressed, all of whose cells are of the library or cut.

        Raises:
            BenchError: If a cell is of neither kind.
        """
        with gzip.open(path) as file:
            module = json.load(file)["modules"][top]
        netlist = cls(top)
        names, declared = register_names(module["netnames"]), _declarations(module["netnames"])
        for name, port in module["ports"].items():
            source = module["netnames"].get(name, {}).get("attributes", {}).get("src")
            for index, bit in enumerate(port["bits"]):
                netlist.ports[f"{name}_{index}"] = (port["direction"], _net(bit))
                if source:
                    netlist.declared[f"{name}_{index}"] = source
        for number, (name, cell) in enumerate(module["cells"].items()):
            netlist._add(f"u{number}", name, cell, names, declared, library)
        netlist._buffer_hidden(library)
        return netlist

    def _add(self, instance: str, name: str, cell: _Cell, names: Mapping[int, str], declared: Mapping[int, str],
             library: Library) -> None:
        kind, pins = cell["type"].removesuffix(CUT), cell["connections"]
        directions = cell.get("port_directions", {})
        if kind.startswith("$"):
            raise BenchError(f"{self.top}: cell {name!r} of type {kind} was not mapped to the library")
        if kind == cell["type"]:
            self.cells[instance] = (kind, {pin: _net(bits[0]) for pin, bits in pins.items()})
            if kind in library.storage:
                bit = next((pins[pin][0] for pin in library.storage[kind].outputs if pins.get(pin)), "x")
                self.registers[instance] = names.get(bit, name) if isinstance(bit, int) else name
                if isinstance(bit, int) and bit in declared:
                    self.declared[instance] = declared[bit]
            return
        flat = {f"{pin}_{i}": (directions[pin], bit) for pin, bits in pins.items() for i, bit in enumerate(bits)}
        shape = ",".join(f"{pin}:{len(bits)}" for pin, bits in sorted(pins.items()))
        liberty_cell = re.sub(r"\W", "_", f"cut_{kind}_{shape}")
        self.macros[instance] = Macro(kind, liberty_cell, tuple((pin, flat[pin][0]) for pin in flat))
        self.cells[instance] = (liberty_cell, {pin: _net(bit) for pin, (_, bit) in flat.items()})
        self.registers[instance] = name
        parameters = {key: int(str(value), 2) for key, value in cell.get("parameters", {}).items()
                      if set(str(value)) <= {"0", "1"}}
        if {"DEPTH", "WIDTH"} <= parameters.keys():
            self.memories.append(Storage(name, parameters["DEPTH"] * parameters["WIDTH"], kind))

    def _buffer_hidden(self, library: Library) -> None:
        """Buffers before nets with many pins of macros, or asynchronous resets: abc sees one output there, however many
        pins hang on it."""
        sinks: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for instance, (kind, pins) in self.cells.items():
            if macro := self.macros.get(instance):
                hidden = [pin for pin, direction in macro.pins if direction == "input" and pin != macro.clock]
            else:
                hidden = [pin for pin in library.storage[kind].asynchronous if pin in pins] \
                    if kind in library.storage else []
            for pin in hidden:
                if pins[pin].startswith("n"):
                    sinks[pins[pin]].append((instance, pin))
        number, (data,) = 0, library.buffer.inputs
        for net, todo in sinks.items():
            while len(todo) > _FAN_OUT:
                buffers = []
                for first in range(0, len(todo), _FAN_OUT):
                    buffer, number = f"b{number}", number + 1
                    self.cells[buffer] = (library.buffer.name, {data: net, library.buffer.output: f"n{buffer}"})
                    for instance, pin in todo[first:first + _FAN_OUT]:
                        self.cells[instance][1][pin] = f"n{buffer}"
                    buffers.append((buffer, data))
                todo = buffers

    def flip_flops(self) -> dict[str, int]:
        """Array or register (see `Storage`) to its bits, the largest first."""
        counts: Counter[str] = Counter(array_name(name) for instance, name in self.registers.items()
                         if instance not in self.macros)
        return dict(counts.most_common())

    def area(self, library: Library) -> LogicArea:
        """Area of all library cells; macros have none.

        Raises:
            BenchError: If the library states no area of a cell.
        """
        areas, unit = library.areas, library.areas[library.nand2.name]
        kinds: Counter[str] = Counter(kind for instance, (kind, _) in self.cells.items() if instance not in self.macros)
        unknown = [kind for kind in kinds if areas.get(kind, 0) <= 0]
        if unknown:
            raise BenchError(f"{self.top}: the cell library states no area of {', '.join(sorted(set(unknown)))}")
        sums = {holds: sum(areas[kind] * count for kind, count in kinds.items() if (kind in library.storage) == holds)
                for holds in (False, True)}
        return LogicArea(sums[False] / unit, sums[True] / unit)

    def storage(self, least_bits: int = KIBIT) -> list[Storage]:
        """Everything of more than `least_bits` bits, the largest first."""
        found = [Storage(name, bits) for name, bits in self.flip_flops().items()] + self.memories
        return sorted((entry for entry in found if entry.bits > least_bits), key=lambda entry: -entry.bits)

    def verilog(self) -> Iterator[str]:
        """Lines of the netlist."""
        yield f"module {self.top} ({', '.join(self.ports)});"
        # A port's name is that of its net. Only a port that shares a net with another one needs an assignment.
        driver: dict[str, str] = {}
        aliases = []
        for port, (direction, net) in self.ports.items():
            yield f"  {direction} {port};"
            if direction == "input":
                driver[net] = port
        for port, (direction, net) in self.ports.items():
            if direction == "output" and (net in driver or not net.startswith("n")):
                aliases.append(f"  assign {port} = {driver.get(net, net)};")
            elif direction == "output":
                driver[net] = port
        nets = {net for _, pins in self.cells.values() for net in pins.values() if net.startswith("n")}
        yield from (f"  wire {net};" for net in sorted(nets) if net not in driver)
        for instance, (kind, pins) in self.cells.items():
            wired = ", ".join(f".{pin}({driver.get(net, net)})" for pin, net in pins.items())
            yield f"  {kind} {instance} ({wired});"
        yield from aliases
        yield "endmodule"


def cut_name(module: str) -> str:
    """Type of the instances of `module` that are cut, in a mapped netlist."""
    return module + CUT


def array_name(register: str) -> str:
    """Name of a register bit without its index, numbers in its last part replaced: ``a.word3[7]`` is ``a.word#``."""
    path, _, leaf = re.sub(r"(\[\d+\])+$", "", register).rpartition(".")
    leaf = re.sub(r"\d+", "#", leaf)
    return f"{path}.{leaf}" if path else leaf


def _net(bit: int | str) -> str:
    return f"n{bit}" if isinstance(bit, int) else _TIES[bit]


def register_names(netnames: Mapping[str, _Net]) -> dict[int, str]:
    """Net to the best name it has: of the register that drives it, public, short."""
    # Amaranth tells an instance from a signal of the same name by a number: it says nothing to a reader.
    return {bit: re.sub(r"\$\d+(?=\.)", "", name).removeprefix("\\") + (f"[{index}]" if index >= 0 else "")
            for bit, (name, index) in _best_names(netnames).items()}


def _declarations(netnames: Mapping[str, _Net]) -> dict[int, str]:
    """Net to where the wire is declared that gives it its name, where that is said."""
    found = {bit: str(netnames[name]["attributes"].get("src", "")) for bit, (name, _) in _best_names(netnames).items()}
    return {bit: source for bit, source in found.items() if source}


def _best_names(netnames: Mapping[str, _Net]) -> dict[int, tuple[str, int]]:
    """Net to a wire's name, and the bit of it; -1 if it has no others."""
    best: dict[int, tuple[tuple[bool, bool, int, str], int]] = {}
    for name, entry in netnames.items():
        rank = (REGISTER_ATTRIBUTE not in entry["attributes"], bool(entry["hide_name"]), len(name), name)
        for index, bit in enumerate(entry["bits"]):
            if isinstance(bit, int) and (bit not in best or rank < best[bit][0]):
                best[bit] = (rank, index if len(entry["bits"]) > 1 else -1)
    return {bit: (rank[3], index) for bit, (rank, index) in best.items()}
