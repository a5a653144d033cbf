# SPDX-License-Identifier: Apache-2.0
"""Cells with delays, as Verilog for Icarus Verilog, and the delays of an SDF file put into a netlist.

A cell's output is the sum of all its prime implicants, of delayed copies of its inputs. An input has one copy where it
stands as it is and one where it stands inverted, so that each of the four pairs of edges (in, out) has its own delay,
as in the file; a copy takes a new value only if it lasts (a continuous assignment with two delays, which Icarus does
right). Module paths (``specify`` and ``$sdf_annotate``) are not used: an output of Icarus 11 that is to change twice
within its delay changes at the first time to the last value, too early by up to the delay.

A wire's delay is part of the copy's. Wires of the clock have none: the clock is ideal.

Icarus reads timing checks and leaves them out. A flip-flop here becomes x if its data change within the set-up time
before the edge, or within the hold time after it.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.netlist.sdf import CellDelays, Edges, Sdf
from nncosim.tb.timing.liberty import truth_table
from nncosim.tb.timing.netlist import Netlist

__all__ = ["STATE", "Annotated", "annotated", "both_ways", "delay_models", "primes"]

STATE = "state"
"""What a flip-flop holds, a name in its module."""

_NONE = (0.0, 0.0)
_CHECKS = ("setup_r", "setup_f", "hold_r", "hold_f")  # of a flip-flop's parameters

Cube = Mapping[str, bool]
"""A product of inputs: pin to whether it stands as it is, and not inverted."""


@functools.cache
def primes(function: str, inputs: tuple[str, ...]) -> tuple[Cube, ...]:
    """All prime implicants of a function of `CellModel.outputs`.

    Raises:
        BenchError: it is constant, or cannot be evaluated.
    """
    values = truth_table(function.format_map({pin: pin for pin in inputs}).replace("~", "!"), inputs)
    if values is None or len(set(values)) < 2:
        raise BenchError(f"the function {function!r} cannot be given delays")
    true = {bits for bits, value in zip(itertools.product((0, 1), repeat=len(inputs)), values, strict=True) if value}
    cubes = [cube for cube in itertools.product((0, 1, None), repeat=len(inputs)) if true.issuperset(
             itertools.product(*((0, 1) if each is None else (each,) for each in cube)))]  # fmt: skip
    found = [cube for cube in cubes if not any(other != cube and all(b is None or a == b for a, b in zip(
             cube, other, strict=True)) for other in cubes)]  # fmt: skip
    return tuple({pin: bool(bit) for pin, bit in zip(inputs, cube, strict=True) if bit is not None} for cube in found)


def delay_models(models: Iterable[CellModel]) -> Iterator[str]:
    """Modules of the cells, all delays 0.

    Raises:
        BenchError: a cell cannot be simulated.
    """
    for model in models:
        if model.refused:
            raise BenchError(f"{model.name} cannot be simulated: {model.refused}")
        if model.flip_flop and model.flip_flop.next:
            raise BenchError(f"{model.name} cannot be simulated with delays: it has clear and preset")
        yield from _flip_flop(model) if model.flip_flop else _gate(model)


def _copies(model: CellModel) -> dict[tuple[str, str, bool], str]:
    """(input, output, whether it stands as it is) to the name of the copy."""
    return {(pin, output, plain): f"{pin}_{output}_{'p' if plain else 'n'}"
            for output, function in model.outputs.items() for cube in primes(function, model.inputs)
            for pin, plain in cube.items()}  # fmt: skip


def both_ways(model: CellModel) -> list[tuple[str, str]]:
    """(input, output) of those where either edge of the input can give either edge of the output."""
    if model.flip_flop:
        return []
    copies = _copies(model)
    return [(pin, output) for pin, output, plain in copies if plain and (pin, output, False) in copies]


def _gate(model: CellModel) -> Iterator[str]:
    copies = _copies(model)
    yield f"module {model.name} ({', '.join((*model.inputs, *model.outputs))});"
    yield f"  input {', '.join(model.inputs)};"
    yield f"  output {', '.join(model.outputs)};"
    for (pin, _, _), name in copies.items():
        yield f"  parameter {name}_r = 0.0, {name}_f = 0.0;"
        yield f"  wire {name};"
        yield f"  assign #({name}_r, {name}_f) {name} = {pin};"
    for output, function in model.outputs.items():
        terms = [" & ".join(f"{'' if plain else '~'}{copies[pin, output, plain]}" for pin, plain in cube.items())
                 for cube in primes(function, model.inputs)]  # fmt: skip
        yield f"  assign {output} = {' | '.join(terms)};"
    yield "endmodule"


def _flip_flop(model: CellModel) -> Iterator[str]:
    assert model.flip_flop is not None
    clock, data, output = model.flip_flop.clock, model.flip_flop.data, model.flip_flop.output
    yield f"module {model.name} ({', '.join((*model.inputs, output))});"
    yield f"  input {', '.join(model.inputs)};"
    yield f"  output {output};"
    yield "  parameter wire_r = 0.0, wire_f = 0.0, out_r = 0.0, out_f = 0.0;"
    yield "  parameter setup_r = 0.0, setup_f = 0.0, hold_r = 0.0, hold_f = 0.0;"
    yield f"  reg {STATE};"
    yield "  wire data;"
    yield "  real changed, taken;"
    yield f"  initial begin {STATE} = 0; changed = -1.0e6; taken = -1.0e6; end"
    yield f"  assign #(wire_r, wire_f) data = {data};"
    yield f"  assign #(out_r, out_f) {output} = {STATE};"
    yield f"  always @(posedge {clock}) begin"
    yield "    taken = $realtime;"
    yield f"    {STATE} <= $realtime - changed < (data ? setup_r : setup_f) ? 1'bx : data;"
    yield "  end"
    yield "  always @(data) begin"
    yield "    changed = $realtime;"
    yield f"    if ($realtime - taken < (data ? hold_r : hold_f)) {STATE} <= 1'bx;"
    yield "  end"
    yield "endmodule"


@dataclass(frozen=True)
class Annotated:
    """A netlist with delays.

    Attributes:
        verilog: as it was, with parameters.
        arcs: from an input to an output of a cell, each with a delay of the file. checks: data pins of flip-flops, each
            with a set-up time. wires: pins and output ports whose wire has a delay that is not 0; those to output
            ports are not in the netlist, but the bench's (`nncosim.tb.netlist.replay.Replay`).
    """

    verilog: str
    arcs: int
    checks: int
    wires: int


def annotated(verilog: str, netlist: Netlist, models: Mapping[str, CellModel], sdf: Sdf, *, checked: bool = True
              ) -> Annotated:
    """Put delays into a netlist, one instance a line as `Netlist.verilog` writes it.

    Args:
        checked: whether flip-flops have set-up and hold times; without, they take what is there at the edge.

    Raises:
        BenchError: a cell or an arc of it is not in the file, or something in the file is in no cell; with the first
            ones.
    """
    told, arcs, checks = {}, 0, 0
    wrong: list[str] = []
    for instance, (kind, pins) in netlist.cells.items():
        model = models[kind]
        delays = sdf.cells.get(instance, CellDelays(kind))
        want = _arcs(model, pins)
        if delays.kind != kind:
            wrong.append(f"{instance} is a {delays.kind} there and a {kind} here")
        wrong += [f"{kind} {instance} has no delay from {pin} to {out}" for pin, out in want - delays.paths.keys()]
        wrong += [f"{kind} {instance} has no arc from {pin} to {out}" for pin, out in delays.paths.keys() - want
                  if out in pins]
        if model.flip_flop and not delays.setup.get(model.flip_flop.data):
            wrong.append(f"{kind} {instance} has no set-up time")
        if not wrong:
            values = _parameters(model, delays, instance, pins, sdf.wires)
            told[instance] = {name: value for name, value in values.items() if checked or name not in _CHECKS}
        arcs, checks = arcs + len(want), checks + (model.flip_flop is not None)
    wrong += [f"{instance} ({each.kind}) is not in the netlist" for instance, each in sdf.cells.items()
              if instance not in netlist.cells]
    if wrong:
        raise BenchError(f"the SDF file does not fit {netlist.top}: {'; '.join(wrong[:5])}"
                         + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""))
    clocks = {(instance, model.flip_flop.clock) for instance, (kind, _) in netlist.cells.items()
              if (model := models[kind]).flip_flop}  # fmt: skip
    wires = sum(any(edges) and place not in clocks for place, edges in sdf.wires.items())
    return Annotated(_with_parameters(verilog, told), arcs, checks, wires)


def _arcs(model: CellModel, pins: Collection[str]) -> set[tuple[str, str]]:
    if model.flip_flop:
        return {(model.flip_flop.clock, model.flip_flop.output)}
    return {(pin, output) for pin, output, _ in _copies(model) if output in pins}


def _parameters(model: CellModel, delays: CellDelays, instance: str, pins: Collection[str],
                wires: Mapping[tuple[str, str], Edges]) -> dict[str, float]:
    if model.flip_flop:
        data, path = model.flip_flop.data, (model.flip_flop.clock, model.flip_flop.output)
        edges = {"wire": wires.get((instance, data), _NONE), "out": delays.paths[path],
                 "setup": delays.setup[data], "hold": delays.hold.get(data, _NONE)}  # fmt: skip
        return {f"{name}_{edge}": value for name, both in edges.items() for edge, value in zip("rf", both, strict=True)}
    found: dict[str, float] = {}
    for (pin, output, plain), name in _copies(model).items():
        if output in pins:
            wire = wires.get((instance, pin), _NONE)
            found |= {f"{name}_{letter}": wire[edge] + delays.delay(pin, output, edge, edge if plain else 1 - edge)
                      for edge, letter in enumerate("rf")}  # fmt: skip
    return found


def _with_parameters(verilog: str, told: Mapping[str, Mapping[str, float]]) -> str:
    lines = []
    for line in verilog.splitlines():
        found = re.match(r"\s*(\w+) (\S+) \(\.", line)
        if found and found[2] in told:
            values = ", ".join(f".{name}({value:.6f})" for name, value in told[found[2]].items())
            line = f"  {found[1]} #({values}) {found[2]} {line[line.index('('):]}"
        lines.append(line)
    return "\n".join(lines) + "\n"
