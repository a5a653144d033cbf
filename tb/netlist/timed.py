# SPDX-License-Identifier: Apache-2.0
"""Static timing of a netlist, and the delays that it is of, by OpenSTA: with its wires if it is routed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.replay import PortTimes
from nncosim.tb.netlist.sdf import Sdf, read_sdf
from nncosim.tb.timing.library import read_library, without_wires
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.opensta import PORTS_FOLLOW, Budget, RawPath, commands, parse_paths, run_opensta
from nncosim.tb.timing.sta import fo4_delay

__all__ = ["PORT", "TimedNetlist", "with_delays"]

PORT = Budget(clock_to_output=4, setup=4)
"""In FO4: a flip-flop's own delay and set-up beyond each port, so that paths inside are the long ones."""

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
    script += "write_sdf -divider . -digits 6 -no_timestamp timed.sdf\n"
    (folder / "timed.tcl").write_text(script)
    report = run_opensta(folder / "timed.tcl").partition(PORTS_FOLLOW)[0]
    worst = max(parse_paths(report, _PERIOD), key=lambda path: path.length, default=None)
    if worst is None:
        raise BenchError(f"OpenSTA finds no path in {netlist.top}")
    times = PortTimes(port.clock_to_output * fo4, port.setup * fo4)
    return TimedNetlist(netlist, text, worst.length, worst, read_sdf(folder / "timed.sdf"), times)
