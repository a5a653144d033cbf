# SPDX-License-Identifier: Apache-2.0
"""How often nets of a unit change, counted twice: by its gates as C++ (`nncosim.tb.netlist.counting`), and from a
waveform of Icarus Verilog, which runs the vendor's models of the cells on a netlist that OpenSTA's writer wrote.

The two share the mapped netlist, and nothing else.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.j3dai.units import unit_part
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.counting import counted_slice
from nncosim.tb.netlist.gates import Gates, Port
from nncosim.tb.netlist.mapping import mapped, mapped_file
from nncosim.tb.netlist.sliced import Slice
from nncosim.tb.sim.building import UNOPTIMIZED
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.sta import OSU018
from vcdvcd import VCDVCD

__all__ = ["Stimuli", "counted", "seen", "stimuli", "unit_gates"]

MODELS = OSU018.with_suffix(".v")
CLOCK, RESET = "clk", "rst"
MARKS = 2  # a stream that nothing is logged to

Stimuli = Sequence[Mapping[str, int]]
"""Of each cycle, input port to value."""


def unit_gates(name: str) -> Gates:
    """A unit of `nncosim.tb.j3dai.units` alone."""
    return mapped(unit_part(PLATFORM, name), OSU018, cell_models(OSU018))[name]


def inputs_of(gates: Gates) -> list[Port]:
    return [port for port in gates.ports if port.direction == "input" and port.name not in (CLOCK, RESET)]


def stimuli(gates: Gates, cycles: int, reset: int, seed: int) -> Stimuli:
    """Random; under reset first."""
    rng = np.random.default_rng(seed)
    return [{RESET: int(cycle < reset), **{port.name: int.from_bytes(rng.bytes(-(-len(port.nets) // 8)), "little")
                                           % (1 << len(port.nets)) for port in inputs_of(gates)}}
            for cycle in range(cycles)]  # fmt: skip


def counted(gates: Gates, given: Stimuli, first: int, folder: Path, change: tuple[str, str] = ("", "")
            ) -> dict[int, int]:
    """Net to changes, from one cycle to the next, of cycles from `first`. change: of the C++, a text that must occur
    exactly once, and another."""
    # A unit may have ports of its own name, or of names that a shell has.
    ports = [replace(port, name=f"unit_{port.name}") for port in gates.ports]
    gates = replace(gates, name="counted_unit", ports=ports, clock=f"unit_{gates.clock}")
    verilog, cpp, counters = counted_slice(Slice(gates), 1, 1000, MARKS)
    if change[0]:
        assert cpp.count(change[0]) == 1, change
        cpp = cpp.replace(*change)
    (folder / "unit.cpp").write_text(cpp)
    built = build({"unit.sv": "\n".join(verilog) + "\n"}, gates.name, cpp_sources=[folder / "unit.cpp"],
                  options=UNOPTIMIZED)  # fmt: skip
    plusargs = (f"count_from={first}", f"count_every={len(given) - first}")
    with Model(built, seed=1, clock=gates.clock, plusargs=plusargs) as model:
        for values in given:
            for port, value in values.items():
                model[f"unit_{port}"] = value
            model.eval()
            model.tick()
        found: dict[int, int] = {}
        for counter in counters:
            (record,) = model.log(counter.stream)
            assert record[0] == len(given) - first
            found |= dict(zip(counter.nets, map(int, record[1:]), strict=False))
    return found


def seen(name: str, gates: Gates, given: Stimuli, first: int, folder: Path) -> dict[int, int]:
    """As `counted`, from a waveform: a net's value is that before the rising edge of the clock."""
    netlist = Netlist.read(mapped_file(unit_part(PLATFORM, name), OSU018), name, read_library(OSU018))
    (folder / "unit.v").write_text("\n".join(netlist.verilog()) + "\n")
    ports = [port for port in gates.ports if port.direction == "input" and port.name != CLOCK]
    words = [[values[port.name] >> bit & 1 for port in ports for bit in range(len(port.nets))] for values in given]
    (folder / "stimuli.bin").write_text("\n".join("".join(map(str, bits)) for bits in words) + "\n")
    (folder / "bench.v").write_text("\n".join(_bench(gates, ports, len(given))) + "\n")
    subprocess.run(["iverilog", "-g2012", "-o", "bench.vvp", "-s", "bench", "bench.v", "unit.v", str(MODELS)],
                   cwd=folder, check=True, capture_output=True)  # fmt: skip
    subprocess.run(["vvp", "-n", "bench.vvp"], cwd=folder, check=True, capture_output=True)
    wave = VCDVCD(str(folder / "seen.vcd"))
    scale = round(float(wave.timescale["timescale"]) / 1e-12)
    values = {}
    for reference in wave.references_to_ids:
        path, _, leaf = reference.rpartition(".")
        if path == "bench.dut":
            values[leaf] = wave[reference]
    return {net: _changes(values[wire].tv, [1000 * (10 * cycle + 4) // scale for cycle in range(len(given))], first)
            for net, wire in _wires(gates).items() if wire in values}  # fmt: skip


def _wires(gates: Gates) -> dict[int, str]:
    """Net to its name in the netlist that OpenSTA reads: that of a port, if it is one's."""
    named: dict[int, str] = {}
    for direction in ("input", "output"):
        for port in gates.ports:
            if port.direction == direction:
                for bit, net in enumerate(port.nets):
                    if isinstance(net, int):
                        named.setdefault(net, f"{port.name}_{bit}")
    cells = [net for cell in gates.cells for net in cell.pins.values()]
    nets = [*cells, *(net for each in gates.registers for net in (each.output, each.data))]
    return {net: f"n{net}" for net in nets if isinstance(net, int)} | named


def _changes(changes: Sequence[tuple[int, str]], times: Sequence[int], first: int) -> int:
    at, value, values = 0, "x", []
    for time in times:
        while at < len(changes) and changes[at][0] <= time:
            value, at = changes[at][1], at + 1
        values.append(value)
    assert all(each in "01" for each in values[first - 1:]), "a net is unknown"
    return sum(a != b for a, b in zip(values[first - 1:], values[first:], strict=False))


def _bench(gates: Gates, ports: Sequence[Port], cycles: int) -> Iterator[str]:
    """Cycle k begins at 10 k ns with its inputs, and the clock rises 5 ns later."""
    bits = [f"{port.name}_{bit}" for port in ports for bit in range(len(port.nets))]
    outputs = [f"{port.name}_{bit}" for port in gates.ports if port.direction == "output"
               for bit in range(len(port.nets))]  # fmt: skip
    yield "`timescale 1ns/1ps"
    yield "module bench;"
    yield f"  reg [{len(bits) - 1}:0] stimuli [0:{cycles - 1}];"
    yield f"  reg [{len(bits) - 1}:0] given;"
    yield f"  reg {CLOCK} = 0;"
    yield "  integer cycle;"
    wired = [f".{CLOCK}_0({CLOCK})", *(f".{bit}(given[{len(bits) - 1 - at}])" for at, bit in enumerate(bits)),
             *(f".{bit}()" for bit in outputs)]  # fmt: skip
    yield f"  {gates.name} dut (" + ",\n    ".join(wired) + ");"
    yield "  initial begin"
    yield '    $dumpfile("seen.vcd"); $dumpvars(0, dut);'
    yield '    $readmemb("stimuli.bin", stimuli);'
    yield f"    for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin"
    yield f"      given = stimuli[cycle]; #5 {CLOCK} = 1; #5 {CLOCK} = 0;"
    yield "    end"
    yield "    $finish;"
    yield "  end"
    yield "endmodule"
