# SPDX-License-Identifier: Apache-2.0
"""Energy that a change of each net of a mapped module costs, and each clock of a flip-flop.

A change of a net costs: inside the cell that drives it, half of a rise and a fall (each second change is one), by the
edges at the cell's inputs and the load; half of capacitance times voltage squared of the pins on it; and inside the
cells that it goes to, where those spend energy whether or not their output changes. Each module is charged for what is
in it: a net that goes from one to another is counted in both, with the pins that it has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.netlist.gates import Cell, Gates, Net
from nncosim.tb.power.tables import CellEnergy, PowerLibrary

__all__ = ["ModuleEnergy", "NetEnergy", "Wiring", "module_energy"]


@dataclass(frozen=True)
class Wiring:
    """What the netlist does not say.

    Attributes:
        clock_slew: time that an edge of the clock takes at flip-flops, in ns.
        input_slew: of nets that come from outside a module, in ns.
        wire_ff: capacitance of wires, in fF for each pin that a net goes to.
    """

    clock_slew: float = 0.1
    input_slew: float = 0.1
    wire_ff: float = 0.0


@dataclass(frozen=True)
class NetEnergy:
    """Of one change of a net, in pJ: inside the cell that drives it, to charge pins and wires, inside the cells that it
    goes to. `load` in pF."""

    inside: float
    switching: float
    sinks: float
    load: float

    @property
    def total(self) -> float:
        return self.inside + self.switching + self.sinks


@dataclass(frozen=True)
class ModuleEnergy:
    """Of one instance of a module.

    Attributes:
        nets: of a change.
        clock_inside, clock_switching: of all flip-flops, for one cycle of the clock, in pJ: inside them, and to charge
            and discharge their clock pins (and the wires to them).
        leakage: of all cells, in W.
        slews: of nets, rise and fall in ns.
    """

    nets: Mapping[Net, NetEnergy]
    clock_inside: float
    clock_switching: float
    leakage: float
    slews: Mapping[Net, tuple[float, float]] = field(repr=False)

    @property
    def clock(self) -> float:
        return self.clock_inside + self.clock_switching


def module_energy(gates: Gates, models: Mapping[str, CellModel], library: PowerLibrary, wiring: Wiring) -> ModuleEnergy:
    """Of a module; of the modules in it each by itself.

    Raises:
        BenchError: a cell that the library does not have, or gates that form a loop.
    """
    return _Module(gates, models, library, wiring).energy()


class _Module:
    def __init__(self, gates: Gates, models: Mapping[str, CellModel], library: PowerLibrary, wiring: Wiring):
        self._gates, self._models, self._library, self._wiring = gates, models, library, wiring
        self._wire = wiring.wire_ff / 1000
        self._half_square = library.voltage**2 / 2
        self._load: dict[Net, float] = {}
        self._sinks: dict[Net, list[tuple[CellEnergy, str]]] = {}
        for cell in gates.cells:
            energy = self._cell(cell.model.name)
            for pin, net in cell.pins.items():
                if pin not in cell.model.outputs:
                    self._on(net, energy, pin)
        for register in gates.registers:
            flip_flop = models[register.cell].flip_flop
            assert flip_flop is not None  # or it would be no register
            if flip_flop.next:
                self._load.setdefault(register.data, 0.0)  # a net inside it
            else:
                self._on(register.data, self._cell(register.cell), flip_flop.data)
        self._slews: dict[Net, tuple[float, float]] = {}

    def _cell(self, name: str) -> CellEnergy:
        try:
            return self._library.cells[name]
        except KeyError:
            raise BenchError(f"{self._gates.name}: the cell library has no {name}") from None

    def _on(self, net: Net, cell: CellEnergy, pin: str) -> None:
        self._load[net] = self._load.get(net, 0.0) + cell.capacitances.get(pin, 0.0) + self._wire
        if pin in cell.inputs:
            self._sinks.setdefault(net, []).append((cell, pin))

    def energy(self) -> ModuleEnergy:
        inside = self._drivers()
        outside = (self._wiring.input_slew,) * 2
        nets = {}
        for net in {*self._load, *inside}:
            rise, fall = self._slews.get(net, outside)
            load = self._load.get(net, 0.0)
            sinks = sum((edges.rise.at(rise, 0.0) + edges.fall.at(fall, 0.0)) / 2
                        for cell, pin in self._sinks.get(net, ()) for edges in (cell.inputs[pin],))
            nets[net] = NetEnergy(inside.get(net, 0.0), self._half_square * load, sinks, load)
        clock_inside = clock_load = leakage = 0.0
        for register in self._gates.registers:
            cell, flip_flop = self._cell(register.cell), self._models[register.cell].flip_flop
            assert flip_flop is not None
            leakage += cell.leakage
            clock_load += cell.capacitances[flip_flop.clock] + self._wire
            if flip_flop.clock in cell.inputs:
                edges, slew = cell.inputs[flip_flop.clock], self._wiring.clock_slew
                clock_inside += edges.rise.at(slew, 0.0) + edges.fall.at(slew, 0.0)
        leakage += sum(self._cell(each.model.name).leakage for each in self._gates.cells if not each.model.inside)
        return ModuleEnergy(nets, clock_inside, 2 * self._half_square * clock_load, leakage, self._slews)

    def _drivers(self) -> dict[Net, float]:
        """Energy inside the cell that drives a net, for each net that one does; and slews, gate after gate."""
        found: dict[Net, float] = {}
        for register in self._gates.registers:
            flip_flop = self._models[register.cell].flip_flop
            assert flip_flop is not None
            edges = {flip_flop.clock: (self._wiring.clock_slew,) * 2}
            found[register.output] = self._driven(self._cell(register.cell), flip_flop.output, register.output, edges)
        outside = (self._wiring.input_slew,) * 2
        for cell in self._ordered():
            if cell.model.inside:
                continue
            energy = self._cell(cell.model.name)
            edges = {pin: self._slews.get(net, outside) for pin, net in cell.pins.items()
                     if pin not in cell.model.outputs}  # fmt: skip
            for pin in cell.model.outputs:
                if pin in cell.pins:
                    found[cell.pins[pin]] = self._driven(energy, pin, cell.pins[pin], edges)
        return found

    def _ordered(self) -> Iterator[Cell]:
        """The cells, each after those that drive its inputs."""
        cells = {cell.name: cell for cell in self._gates.cells}
        driven = {net for cell in cells.values() for pin, net in cell.pins.items() if pin in cell.model.outputs}
        waiting = dict.fromkeys(cells, 0)
        users: dict[Net, list[str]] = {}
        for name, cell in cells.items():
            for pin, net in cell.pins.items():
                if pin not in cell.model.outputs and net in driven:
                    users.setdefault(net, []).append(name)
                    waiting[name] += 1
        ready = [name for name, count in waiting.items() if not count]
        done = 0
        while ready:
            cell = cells[ready.pop()]
            done += 1
            yield cell
            for pin in cell.model.outputs:
                for name in users.get(cell.pins.get(pin, "0"), ()):
                    waiting[name] -= 1
                    if not waiting[name]:
                        ready.append(name)
        if done != len(cells):
            raise BenchError(f"{self._gates.name}: its gates form a loop")

    def _driven(self, cell: CellEnergy, pin: str, net: Net, edges: Mapping[str, tuple[float, float]]) -> float:
        """Energy inside a cell of a change of its output, by the edges at its inputs; notes the output's own."""
        load = self._load.get(net, 0.0)
        rise = fall = 0.0
        for each in cell.transitions.get(pin, ()):
            up, down = edges.get(each.related, (0.0, 0.0))
            causes = {"positive_unate": ((up,), (down,)), "negative_unate": ((down,), (up,))}.get(
                each.sense, ((up, down), (up, down)) if len(edges) > 1 else ((up,), (up,)))  # fmt: skip
            rise = max(rise, *(each.tables.rise.at(slew, load) for slew in causes[0]))
            fall = max(fall, *(each.tables.fall.at(slew, load) for slew in causes[1]))
        self._slews[net] = rise, fall
        total = 0.0
        for part in cell.outputs.get(pin, ()):
            up, down = edges.get(part.related, (0.0, 0.0))
            if part.inverting:
                up, down = down, up
            total += part.weight * (part.tables.rise.at(up, load) + part.tables.fall.at(down, load)) / 2
        return total
