# SPDX-License-Identifier: Apache-2.0
"""What a module of a netlist is under reset in four-state simulation (Icarus Verilog): all flip-flops unknown when the
power comes on, memories and modules inside that are not of the module unknown for ever."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.netlist.icarus import icarus_command
from nncosim.tb.netlist.verilog import Naming, identifier, module_verilog

__all__ = ["UnderReset", "under_reset"]

RESETS = {"rst": "1", "rst_ni": "0"}
"""Ports that are resets, and what they are under reset."""


@dataclass(frozen=True)
class UnderReset:
    """Values as texts of 0, 1 and x.

    Attributes:
        registers: name of a register's bit to its value after some cycles of reset.
        outputs: of the module, bits from the highest, then.
        inside: ``instance.port`` of inputs of modules inside to their bits before the first edge of the clock, and at
            the end.
    """

    registers: dict[str, str]
    outputs: dict[str, str]
    inside: dict[str, tuple[str, str]]


def under_reset(gates: Gates, inputs: str = "x", cycles: int = 4) -> UnderReset:
    """Simulate a module under reset. inputs: each bit of those but clock and reset, all the time: "x" or "0".

    Raises:
        ToolError: there is no Icarus Verilog. BenchError: it refuses the module.
    """
    command = icarus_command()
    with tempfile.TemporaryDirectory(prefix="nncosim-") as name:
        folder = Path(name)
        lines = [*module_verilog(gates), *_boxes(gates), *_top(gates, inputs, cycles)]
        (folder / "top.v").write_text("\n".join(lines) + "\n")
        made = subprocess.run([command, "-g2012", "-o", "top.vvp", "-s", "four_state_top", "top.v"], cwd=folder,
                              capture_output=True, text=True)  # fmt: skip
        if made.returncode:
            raise BenchError(f"Icarus Verilog refuses the gates of {gates.name!r}:\n{made.stderr[-2000:]}")
        done = subprocess.run(["vvp", "-n", "top.vvp"], cwd=folder, capture_output=True, text=True, check=True)
    return _read(gates, done.stdout)


def _boxes(gates: Gates) -> Iterator[str]:
    """Modules inside, whose outputs nothing drives."""
    for child in {each.module: each for each in gates.children}.values():
        parameters = ", ".join(f"parameter {name} = 0" for name in child.parameters)
        ports = ", ".join(f"{port.direction} [{len(port.nets) - 1}:0] {identifier(port.name)}" for port in child.ports)
        yield f"module {identifier(child.module)} {f'#({parameters}) ' if parameters else ''}({ports}); endmodule"


def _top(gates: Gates, inputs: str, cycles: int) -> Iterator[str]:
    naming = Naming(gates)
    names = {port.name: identifier(port.name) for port in gates.ports}
    yield "module four_state_top;"
    for port in gates.ports:
        kind = "wire" if port.direction == "output" else "reg"
        yield f"  {kind} [{len(port.nets) - 1}:0] {identifier(port.name)};"
    yield f"  {identifier(gates.name)} dut ({', '.join(f'.{name}({name})' for name in names.values())});"
    yield "  integer cycle;"
    yield "  initial begin"
    for port in gates.ports:
        if port.direction == "input":
            value = {gates.clock: "0", **RESETS}.get(port.name, inputs)
            yield f"    {names[port.name]} = {{{len(port.nets)}{{1'b{value}}}}};"
    yield "    #5;"
    yield from (f"    {line}" for line in _shown("before", gates))
    if gates.clock:
        yield f"    for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin"
        yield f"      {identifier(gates.clock)} = 1; #5; {identifier(gates.clock)} = 0; #5;"
        yield "    end"
    yield from (f"    {line}" for line in _shown("after", gates))
    for number, register in enumerate(gates.registers):
        yield f'    $display("register {number} %b", dut.{naming(register.output)});'
    for port in gates.ports:
        if port.direction == "output":
            yield f'    $display("output {port.name} %b", {identifier(port.name)});'
    yield "    $finish;"
    yield "  end"
    yield "endmodule"


def _shown(when: str, gates: Gates) -> Iterator[str]:
    for child in gates.children:
        for port in child.ports:
            if port.direction == "input":
                path = f"dut.{identifier(child.name)}.{identifier(port.name)}"
                yield f'$display("{when} {child.name}.{port.name} %b", {path});'


def _read(gates: Gates, text: str) -> UnderReset:
    lines = [line.split() for line in text.splitlines()]
    rows = {kind: {words[1]: words[2] for words in lines if words[:1] == [kind] and len(words) == 3}
            for kind in ("register", "output", "before", "after")}  # fmt: skip
    registers = {each.name: rows["register"][str(number)] for number, each in enumerate(gates.registers)}
    inside = {name: (value, rows["after"][name]) for name, value in rows["before"].items()}
    return UnderReset(registers, rows["output"], inside)


