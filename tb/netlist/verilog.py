# SPDX-License-Identifier: Apache-2.0
"""Gates as Verilog for Verilator: a module of the same name and ports, each cell an expression of its function, each
flip-flop a register that has the name of its bit in the RTL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from nncosim.tb.netlist.gates import Child, Gates, Net, Port

__all__ = ["Naming", "body", "declared", "header", "identifier", "module_verilog", "modules_of"]


def identifier(name: str) -> str:
    """A name as Verilog takes it: escaped, for the RTL has names that are words of SystemVerilog."""
    return f"\\{name} "


def modules_of(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of each module of a Verilog file, with what stands before it."""
    at = 0
    for end in re.finditer(r"^endmodule\b.*$", text, re.MULTILINE):
        module = text[at:end.end()]
        name = re.search(r"^\s*module\s+(?:\\(\S+)|(\w+))", module, re.MULTILINE)
        yield (name[1] or name[2]) if name else "", module
        at = end.end()


class Naming:
    """How each net of a module is written: a bit of an input, of a child's output, a register, or a wire."""

    def __init__(self, gates: Gates):
        self._names: dict[Net, str] = {"0": "1'b0", "1": "1'b1"}
        for port in gates.ports:
            if port.direction == "input":
                self.add(port, identifier(port.name))
        for number, child in enumerate(gates.children):
            for port in child.ports:
                if port.direction == "output":
                    self.add(port, f"c{number}_{port.name}")
        taken: set[str] = {port.name for port in gates.ports}
        for register in gates.registers:
            name = register.name if register.name not in taken else f"{register.name}#{register.output}"
            taken.add(name)
            self._names[register.output] = identifier(name)

    def add(self, port: Port, text: str = "") -> None:
        """Nets that are the bits of a vector; `text`: its name, if it is not the port's."""
        text = text or port.name
        for index, net in enumerate(port.nets):
            self._names.setdefault(net, f"{text}[{index}]" if len(port.nets) > 1 else text)

    def __call__(self, net: Net) -> str:
        return self._names.get(net) or f"n{net}"

    def vector(self, port: Port) -> str:
        """The nets of a port as one value; on lines of some bits, for Verilator takes no longer ones."""
        texts = [self(net) for net in reversed(port.nets)]
        lines = [", ".join(texts[at:at + 32]) for at in range(0, len(texts), 32)]
        return "{" + ",\n      ".join(lines) + "}"


def header(gates: Gates) -> Iterator[str]:
    """The module's name and ports."""
    names = ", ".join(identifier(port.name) for port in gates.ports)
    parameters = ", ".join(f"{name} = {value}" for name, value in gates.parameters.items())
    yield f"module {identifier(gates.name)}{f' #(parameter {parameters}) ' if parameters else ''}({names});"
    for port in gates.ports:
        width = f"[{len(port.nets) - 1}:0] " if len(port.nets) > 1 else ""
        yield f"  {port.direction} {width}{identifier(port.name)};"


def declared(child: Child, number: int) -> Iterator[str]:
    """Wires of a child's outputs."""
    for port in child.ports:
        if port.direction == "output":
            yield f"  wire [{len(port.nets) - 1}:0] c{number}_{port.name};"


def children(gates: Gates, naming: Naming) -> Iterator[str]:
    """The instances of other modules."""
    for number, child in enumerate(gates.children):
        parameters = ", ".join(f".{name}({value})" for name, value in child.parameters.items())
        yield f"  {identifier(child.module)} {f'#({parameters}) ' if parameters else ''}{identifier(child.name)} ("
        wires = {port.name: f"c{number}_{port.name}" if port.direction == "output" else naming.vector(port)
                 for port in child.ports}  # fmt: skip
        yield ",\n".join(f"    .{identifier(name)}({wire})" for name, wire in wires.items())
        yield "  );"


def body(gates: Gates, naming: Naming) -> Iterator[str]:
    """Cells, instances of other modules, and what goes out."""
    outputs = dict.fromkeys(
        naming(net) for cell in gates.cells for pin, net in cell.pins.items() if pin in cell.model.outputs)
    yield from (f"  wire {name};" for name in outputs)
    if any(cell.wrong is not None for cell in gates.cells):
        yield "  integer wrong_gate;"
        yield '  initial if (!$value$plusargs("wrong_gate=%d", wrong_gate)) wrong_gate = -1;'
    for cell in gates.cells:
        pins = {pin: naming(net) for pin, net in cell.pins.items()}
        for pin, function in cell.model.outputs.items():
            if pin in pins:
                text = function.format_map(pins)
                if cell.wrong is not None:
                    text = f"(wrong_gate == {cell.wrong[0]} ? {cell.wrong[1][pin].format_map(pins)} : {text})"
                yield f"  assign {pins[pin]} = {text};"
    yield from children(gates, naming)
    for port in gates.ports:
        if port.direction == "output":
            yield f"  assign {identifier(port.name)} = {naming.vector(port)};"


def module_verilog(gates: Gates, more: Callable[[Naming], Iterable[str]] = lambda _: ()) -> Iterator[str]:
    """Lines of the module. more: of it, with its nets as they are named."""
    naming = Naming(gates)
    yield from header(gates)
    for number, child in enumerate(gates.children):
        yield from declared(child, number)
    for register in gates.registers:
        yield f"  reg {naming(register.output)};"
    yield from body(gates, naming)
    if gates.registers:
        yield f"  always @(posedge {identifier(gates.clock)}) begin"
        yield from (f"    {naming(each.output)} <= {naming(each.data)};" for each in gates.registers)
        yield "  end"
    yield from more(naming)
    yield "endmodule"
