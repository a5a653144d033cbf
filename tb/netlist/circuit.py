# SPDX-License-Identifier: Apache-2.0
"""A module as functions between its inputs, registers and outputs: the RTL as Yosys reads it, and the netlist.

What is cut out of a module (memories, instances of other modules) is at its border: pins that such an instance drives
are inputs, ``instance.pin[bit]``, those that it takes are outputs.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.aig import FALSE, TRUE, Aig
from nncosim.tb.netlist.gates import Gates, Net, numbers
from nncosim.tb.timing.netlist import REGISTER_ATTRIBUTE

__all__ = ["Circuit", "Flop", "Logic", "netlist_circuit", "rtl_circuit", "wires_of"]

Function = Callable[..., int]
"""Of an `Aig` and the literals of its operands: a literal."""

_CELLS: dict[str, tuple[tuple[str, ...], Function]] = {
    "$_BUF_": (("A",), lambda g, a: a),
    "$_NOT_": (("A",), lambda g, a: a ^ 1),
    "$_AND_": (("A", "B"), lambda g, a, b: g.land(a, b)),
    "$_NAND_": (("A", "B"), lambda g, a, b: g.land(a, b) ^ 1),
    "$_OR_": (("A", "B"), lambda g, a, b: g.lor(a, b)),
    "$_NOR_": (("A", "B"), lambda g, a, b: g.lor(a, b) ^ 1),
    "$_XOR_": (("A", "B"), lambda g, a, b: g.lxor(a, b)),
    "$_XNOR_": (("A", "B"), lambda g, a, b: g.lxor(a, b) ^ 1),
    "$_ANDNOT_": (("A", "B"), lambda g, a, b: g.land(a, b ^ 1)),
    "$_ORNOT_": (("A", "B"), lambda g, a, b: g.lor(a, b ^ 1)),
    "$_MUX_": (("A", "B", "S"), lambda g, a, b, s: g.mux(s, b, a)),
}
"""Yosys' simple cells: their inputs, and what they compute; the output is Y."""
_FLIP_FLOP = "$_DFF_P_"


@dataclass(frozen=True)
class Flop:
    """A flip-flop. names: of its bit, the one that its driver has first."""

    names: tuple[str, ...]
    data: Net


@dataclass
class Circuit:
    """Attributes:
        inputs, outputs: label to net. clock: the input that all flip-flops are on, "" without any.
        flops: by the net that each drives.
        wires: public name to net, ``path.wire[bit]``.
        gates: by the net that each drives: function, and the nets of its operands.
        instances: of other modules, by name: the module and its parameters.
    """

    name: str
    clock: str = ""
    inputs: dict[str, Net] = field(default_factory=dict)
    outputs: dict[str, Net] = field(default_factory=dict)
    flops: dict[Net, Flop] = field(default_factory=dict)
    wires: dict[str, Net] = field(default_factory=dict)
    gates: dict[Net, tuple[Function, tuple[Net, ...]]] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)

    def add_instance(self, name: str, module: str, parameters: Mapping[str, int]) -> str:
        """Returns its name without the number by which Amaranth tells an instance from a signal.

        Raises:
            BenchError: there is one of that name.
        """
        plain = re.sub(r"\$\d+$", "", name)
        if plain in self.instances:
            raise BenchError(f"{self.name}: two instances are called {plain!r}")
        self.instances[plain] = " ".join([module, *(f"{key}={value}" for key, value in sorted(parameters.items()))])
        return plain

    def border(self, owner: str, pin: str, driven: bool, nets: tuple[Net, ...]) -> None:
        """Pins of a port (`owner` is ""), or of an instance. driven: whether they come from there."""
        side = self.inputs if driven else self.outputs
        for index, net in enumerate(nets):
            side[f"{owner}.{pin}[{index}]" if owner else f"{pin}[{index}]"] = net


class Logic:
    """The functions of a circuit in a graph, for given literals of the nets that no gate drives."""

    def __init__(self, graph: Aig, circuit: Circuit, given: Mapping[Net, int]):
        self._graph, self._circuit = graph, circuit
        self._literals: dict[Net, int] = {"0": FALSE, "1": TRUE, **given}

    def __call__(self, net: Net) -> int:
        """The net's literal.

        Raises:
            BenchError: nothing drives it, or what it depends on, or gates form a loop.
        """
        found, gates = self._literals, self._circuit.gates
        pending = [net]
        while pending:
            at = pending[-1]
            if at in found:
                pending.pop()
                continue
            if at not in gates:
                raise BenchError(f"{self._circuit.name}: nothing drives net {at}")
            function, operands = gates[at]
            missing = [each for each in operands if each not in found]
            if not missing:
                found[at] = function(self._graph, *(found[each] for each in operands))
                pending.pop()
                continue
            pending += missing
            if len(pending) > 64 * len(gates) + 64:
                raise BenchError(f"{self._circuit.name}: its gates form a loop through net {at}")
        return found[net]


def wires_of(module: Mapping[str, Any]) -> dict[str, Net]:
    """The public wires of a module of Yosys' write_json; a constant bit is "0" or "1", one left open is missing."""
    found: dict[str, Net] = {}
    for wire, entry in module["netnames"].items():
        if not entry["hide_name"]:
            found |= {f"{wire}[{index}]": bit for index, bit in enumerate(entry["bits"]) if bit not in ("x", "z")}
    return found


def _names(module: Mapping[str, Any]) -> dict[Net, tuple[str, ...]]:
    """Net to the labels of its wires: those that drivers gave first."""
    ranked: dict[Net, list[tuple[bool, str]]] = {}
    for wire, entry in module["netnames"].items():
        if not entry["hide_name"]:
            for index, bit in enumerate(entry["bits"]):
                if isinstance(bit, int):
                    ranked.setdefault(bit, []).append((REGISTER_ATTRIBUTE not in entry["attributes"],
                                                       f"{wire}[{index}]"))
    return {bit: tuple(label for _, label in sorted(labels)) for bit, labels in ranked.items()}


def rtl_circuit(name: str, module: Mapping[str, Any], clock: str = "clk") -> Circuit:
    """The RTL, of simple cells, flip-flops on a rising edge, and instances of other modules.

    Raises:
        BenchError: a cell is of another kind, or a flip-flop on another clock.
    """
    circuit = Circuit(name, clock, wires=wires_of(module))
    for port, entry in module["ports"].items():
        circuit.border("", port, entry["direction"] == "input", _known(entry["bits"]))
    names = _names(module)
    at = circuit.inputs.get(f"{clock}[0]")
    for instance, cell in module["cells"].items():
        pins = {pin: _known(bits) for pin, bits in cell["connections"].items()}
        kind = cell["type"]
        if kind in _CELLS:
            operands, function = _CELLS[kind]
            circuit.gates[pins["Y"][0]] = function, tuple(pins[pin][0] for pin in operands)
        elif kind == _FLIP_FLOP:
            output = pins["Q"][0]
            if pins["C"][0] != at:
                raise BenchError(f"{name}: register {names.get(output, (instance,))[0]} is not on the clock {clock!r}")
            circuit.flops[output] = Flop(names.get(output, (instance,)), pins["D"][0])
        elif kind.startswith("$"):
            raise BenchError(f"{name}: cell {instance!r} is a {kind}, which cannot be compared with a netlist")
        else:
            owner = circuit.add_instance(instance, kind, numbers(cell.get("parameters", {})))
            for pin, nets in pins.items():
                circuit.border(owner, pin, cell["port_directions"][pin] == "output", nets)
    return circuit


def netlist_circuit(gates: Gates, wires: Mapping[str, Net]) -> Circuit:
    """The netlist. wires: see `wires_of`."""
    circuit = Circuit(gates.name, gates.clock, wires=dict(wires))
    for port in gates.ports:
        circuit.border("", port.name, port.direction == "input", port.nets)
    for child in gates.children:
        owner = circuit.add_instance(child.name, child.module, child.parameters)
        for port in child.ports:
            circuit.border(owner, port.name, port.direction == "output", port.nets)
    for register in gates.registers:
        circuit.flops[register.output] = Flop((register.name,), register.data)
    for cell in gates.cells:
        for pin, text in cell.model.outputs.items():
            if pin in cell.pins:
                operands, function = _compiled(text)
                circuit.gates[cell.pins[pin]] = function, tuple(cell.pins[each] for each in operands)
    return circuit


def _known(bits: list[int | str]) -> tuple[Net, ...]:
    return tuple(bit if isinstance(bit, int) else "1" if bit == "1" else "0" for bit in bits)


@functools.cache
def _compiled(text: str) -> tuple[tuple[str, ...], Function]:
    """A cell's function: its operands, and how a graph builds it."""
    operands = tuple(dict.fromkeys(re.findall(r"\{(\w+)\}", text)))
    tree = ast.parse(text.format_map({pin: pin for pin in operands}), mode="eval").body

    def build(graph: Aig, *literals: int) -> int:
        return _built(graph, tree, dict(zip(operands, literals, strict=True)))

    return operands, build


def _built(graph: Aig, tree: ast.expr, pins: Mapping[str, int]) -> int:
    match tree:
        case ast.Name(id=pin):
            return pins[pin]
        case ast.UnaryOp(op=ast.Invert(), operand=inner):
            return _built(graph, inner, pins) ^ 1
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() | ast.BitXor() as operator, right=right):
            one, two = _built(graph, left, pins), _built(graph, right, pins)
            build = {ast.BitAnd: graph.land, ast.BitOr: graph.lor, ast.BitXor: graph.lxor}[type(operator)]
            return build(one, two)
    raise BenchError(f"a cell's function has {ast.unparse(tree)!r}, which cannot be evaluated")
