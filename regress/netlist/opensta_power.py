# SPDX-License-Identifier: Apache-2.0
"""Power of a unit as OpenSTA tells it, with the same activity on all nets.

OpenSTA 2.0.17 has conventions of its own, which are undone here from what it prints for each arc (`sta::set_debug
power 3`). It takes a rise and a fall for each change of an output, where liberty's tables are of one of the two; of
clock pins it takes two of each a cycle. Later versions take the mean (``energy /= tr_count; // average non-inf
energies`` in its Power.cc). And shares of a cell's arcs do not add up to one there: those of a NAND of three inputs are
1/2, 1/2 and 1/4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.j3dai.units import unit_part
from nncosim.tb.netlist.mapping import mapped_file
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.opensta import UNITS, run_opensta
from nncosim.tb.timing.sta import OSU018

__all__ = ["UnitPower", "opensta_power"]

PERIOD_NS = 10.0


@dataclass(frozen=True)
class UnitPower:
    """In pJ: of one change of each net that a cell drives, within cells that drive and to charge pins; of one change of
    each flip-flop's data, within it; of a cycle of the clock, within flip-flops. `leakage` in W."""

    inside: float
    switching: float
    data: float
    clock: float
    leakage: float


def opensta_power(name: str, folder: Path) -> UnitPower:
    """Of a unit of `nncosim.tb.j3dai.units`."""
    netlist = Netlist.read(mapped_file(unit_part(PLATFORM, name), OSU018), name, read_library(OSU018))
    (folder / "unit.v").write_text("\n".join(netlist.verilog()) + "\n")
    inputs = [port for port, (direction, _) in netlist.ports.items() if direction == "input" and port != "clk_0"]
    parts = [f"[get_ports {{{' '.join(inputs[at:at + 100])}}}]" for at in range(0, len(inputs), 100)]
    lines = [f"read_liberty {OSU018}", UNITS, "read_verilog unit.v", f"link_design {name}",
             f"create_clock -name clk -period {PERIOD_NS:g} [get_ports clk_0]",
             *(f"set_input_delay 0 -clock clk {each}" for each in parts),
             *(f"set_input_transition 0.1 {each}" for each in parts),
             "set_power_activity -global -activity 1 -duty 0.5", "sta::set_debug power 3", "report_power -digits 6"]
    (folder / "unit.tcl").write_text("\n".join([*lines, ""]))
    return _read(run_opensta(folder / "unit.tcl"))


_PIN = re.compile(r"power: internal \S+/(\S+) \((\S+)\)$")
_EDGE = re.compile(r"power:  [v^] energy = +(\S+) \* (\S+) =")
_TOTAL = re.compile(r"^Total +(\S+) +(\S+) +(\S+) +(\S+) ")


def _read(text: str) -> UnitPower:
    sums = {"inside": 0.0, "D": 0.0, "CLK": 0.0}
    arcs: list[tuple[float, float]] = []
    pin = ""
    edges: list[float] = []

    def close() -> None:
        if not arcs:
            return
        kind = pin if pin in ("D", "CLK") else "inside"
        if kind == "CLK":
            sums[kind] += sum(energy for energy, _ in arcs)
        else:
            sums[kind] += sum(energy * share for energy, share in arcs) / sum(share for _, share in arcs) / 2
        arcs.clear()

    total = None
    for line in text.splitlines():
        if found := _PIN.match(line):
            close()
            pin = found[1]
        elif found := _EDGE.match(line):
            edges.append(float(found[1]))
            if len(edges) == 2:
                arcs.append((sum(edges) * 1e12, float(found[2])))
                edges.clear()
        elif found := _TOTAL.match(line):
            close()
            total = [float(value) for value in found.groups()]
    assert total is not None, text[-2000:]
    switching = total[1] * PERIOD_NS * 1e-9 * 1e12
    return UnitPower(sums["inside"], switching, sums["D"], sums["CLK"], total[2])
