# SPDX-License-Identifier: Apache-2.0
"""Static timing of a netlist, and the delays that it is of, by OpenSTA: with its wires if it is routed."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.delays import both_ways
from nncosim.tb.netlist.replay import PortTimes
from nncosim.tb.netlist.sdf import Sdf, read_sdf
from nncosim.tb.timing.library import read_library, without_wires
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.opensta import PORTS_FOLLOW, Budget, RawPath, commands, parse_paths, run_opensta
from nncosim.tb.timing.sta import fo4_delay

__all__ = ["PORT", "TimedNetlist", "with_delays"]

PORT = Budget(clock_to_output=4, setup=4)
"""In FO4: a flip-flop's own delay and set-up beyond each port, so that paths inside are the long ones."""

_EDGES_FOLLOW = "=== delays of each edge"
_EDGE = re.compile(r"^\s*([v^]) -> ([v^]) [\d.]+:([\d.]+)\s*$", re.MULTILINE)

_PERIOD = 100.0  # of the analysis: paths are asked for however much slack they have


@dataclass(frozen=True)
class TimedNetlist:
    """Attributes:
        netlist, verilog: what was timed, and as what.
        period: in ns, the shortest at which no path is too long, the clock ideal.
        worst: the path that is as long.
        sdf: the delays. times: the budgets of ports in ns.
    """

    netlist: Netlist
    verilog: str
    period: float
    worst: RawPath
    sdf: Sdf
    times: PortTimes

    def place(self, point: str) -> str:
        """The name of an end of a path: a register's bit or a port's."""
        return self.netlist.registers.get(point, f"port {point}")


def with_delays(folder: Path, netlist: Netlist, liberty: Path, *, port: Budget = PORT, spef: Path | None = None
                ) -> TimedNetlist:
    """Time a flat netlist all of whose cells are of the library.

    Args:
        folder: where everything is written.
        spef: the file of its wires' parasitics; without one they have neither resistance nor capacitance.

    Raises:
        BenchError: OpenSTA refuses something, there is no path, or the SDF file is not understood. ToolError: it is
            missing.
    """
    library, fo4 = read_library(liberty), fo4_delay(liberty)
    text = "\n".join(netlist.verilog()) + "\n"
    (folder / "timed.v").write_text(text)
    (folder / "cells.lib").write_text(without_wires(liberty.read_text(errors="replace")))
    if spef is not None:
        shutil.copyfile(spef, folder / "wires.spef")
    script = commands(netlist, ["cells.lib"], "timed.v", _PERIOD, port, fo4, library,
                      "" if spef is None else "wires.spef")
    models = cell_models(liberty)
    asked = [(instance, pin, output) for instance, (kind, pins) in netlist.cells.items()
             for pin, output in both_ways(models[kind]) if pin in pins and output in pins]  # fmt: skip
    script += "\n".join(["write_sdf -divider . -digits 6 -no_timestamp timed.sdf", "set sta_report_default_digits 6",
                         *map(_edges_asked, asked), ""])
    (folder / "timed.tcl").write_text(script)
    report, *edges = run_opensta(folder / "timed.tcl").split(_EDGES_FOLLOW)
    worst = max(parse_paths(report.partition(PORTS_FOLLOW)[0], _PERIOD), key=lambda path: path.length, default=None)
    if worst is None:
        raise BenchError(f"OpenSTA finds no path in {netlist.top}")
    sdf = read_sdf(folder / "timed.sdf")
    for place, told in zip(asked, edges, strict=True):
        _add_edges(sdf, place, told)
    times = PortTimes(port.clock_to_output * fo4, port.setup * fo4)
    return TimedNetlist(netlist, text, worst.length, worst, sdf, times)


def _edges_asked(place: tuple[str, str, str]) -> str:
    instance, pin, output = place
    return f'puts "{_EDGES_FOLLOW}"\nreport_edges -from {instance}/{pin} -to {instance}/{output}'


def _add_edges(sdf: Sdf, place: tuple[str, str, str], told: str) -> None:
    """What `report_edges` says: OpenSTA writes one of two delays to an edge of the output, not the longer one."""
    instance, pin, output = place
    found = {(edge_in, edge_out): float(slow) for edge_in, edge_out, slow in _EDGE.findall(told)}
    if len(found) != 4:
        raise BenchError(f"OpenSTA does not tell the four delays from {pin} to {output} of {instance}: {told.strip()}")
    sdf.cells[instance].edges |= {(pin, output, number): (found[edge, "^"], found[edge, "v"])
                                  for number, edge in enumerate("^v")}  # fmt: skip
