# SPDX-License-Identifier: Apache-2.0
"""OpenSTA: the liberty of cut cells, the fan-out-of-4 delay, the commands of an analysis, and its report read back."""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.system.processes import run_retried
from nncosim.tb.timing.library import Library
from nncosim.tb.timing.netlist import Macro, Netlist

__all__ = ["CLOCK", "HOLD_FOLLOWS", "PORTS_FOLLOW", "UNITS", "Budget", "RawPath", "commands", "macro_liberty",
           "measure_fo4", "parse_paths", "run_opensta", "sta_command"]

CLOCK = "clk"
"""Clock port of every design."""

PORTS_FOLLOW = "=== worst path from each input port"
"""Line between the first two parts of the output of `commands`."""

HOLD_FOLLOWS = "=== least slack of hold"
"""Line before the third part."""

UNITS = "set_cmd_units -time ns -capacitance pF"
"""Whatever a library's own are; given behind it, for the first library that is read brings its own."""

_CHAIN = 24  # inverters of the chain that the delay is measured on
_EDGE = 8  # of them at either end do not count: the edge given at the input is not the chain's own


@dataclass(frozen=True)
class Budget:
    """Timing of a cell that is cut out of the design, or of what lies beyond its ports; in FO4.

    Attributes:
        clock_to_output: From the clock edge to its outputs.
        setup: From its inputs to the clock edge.
        pins: Set-up of single inputs, by port name, instead of `setup`.
    """

    clock_to_output: float
    setup: float
    pins: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RawPath:
    """One path as OpenSTA reports it.

    `length` in ns: from clock edge to clock edge, all budgets and the set-up included.
    `steps`: (delay in ns, pin as ``instance/PIN``, cell).
    """

    start: str
    end: str
    length: float
    steps: tuple[tuple[float, str, str], ...]


def sta_command() -> str:
    """OpenSTA's executable.

    Raises:
        ToolError: If it is not on the path.
    """
    for name in ("sta", "opensta"):
        found = shutil.which(name)
        if found:
            return found
    raise ToolError("OpenSTA is not on PATH (looked for `sta` and `opensta`); Debian: apt-get install opensta")


# What a SPEF file names and the netlist does not have is only warned of.
_ERROR = re.compile(r"^Error\b|\bline \d+\W.*\berror\b|\bline \d+ (?:net|pin|instance|cell) \S+ not found",
                    re.IGNORECASE)


def run_opensta(script: Path) -> str:
    """Run a command file in its folder; returns what OpenSTA printed.

    Raises:
        ToolError: If OpenSTA is missing, or crashes, and once more when it is tried again.
        BenchError: If it reports an error: it goes on after one, so that the result would be of something else.
    """
    done = run_retried([sta_command(), "-no_init", "-no_splash", "-exit", script.name], cwd=script.parent,
                       name="OpenSTA", what=f"time {script}")
    wrong = [line for line in done.stdout.splitlines() if _ERROR.search(line)]
    if done.returncode or wrong:
        shown = "\n".join(f"    {line}" for line in (wrong or done.stdout.splitlines())[:10])
        raise BenchError(f"OpenSTA failed on {script} with exit status {done.returncode}:\n{shown}")
    return done.stdout


def measure_fo4(folder: Path, liberty: Path, library: Library) -> float:
    """Mean delay in ns of the library's inverter that drives four of its kind, rising and falling, in the middle of a
    chain of them. `liberty`: its file, in `folder`.

    Raises:
        BenchError: If its delay is not positive.
    """
    inverter = library.inverter
    cells: dict[str, tuple[str, dict[str, str]]] = {}
    for k in range(_CHAIN):
        for copy in range(4):
            output = f"n{k + 1}" if copy == 0 else f"n{k + 1}_{copy}"
            cells[f"u{k}_{copy}"] = (inverter.name, {inverter.inputs[0]: f"n{k}", inverter.output: output})
    chain = Netlist("chain", {"i": ("input", "n0"), "o": ("output", f"n{_CHAIN}")}, cells)
    (folder / "fo4.v").write_text("\n".join(chain.verilog()) + "\n")
    (folder / "fo4.tcl").write_text("\n".join([
        f"read_liberty {liberty.name}", UNITS, "read_verilog fo4.v", "link_design chain",
        f"create_clock -name {CLOCK} -period 100", f"set_input_delay 0 -clock {CLOCK} i",
        f"set_output_delay 0 -clock {CLOCK} o", "report_checks -path_delay max -format full -digits 6", ""]))
    paths = list(parse_paths(run_opensta(folder / "fo4.tcl"), 100.0))
    delays = [delay for path in paths[:1] for delay, _, _ in path.steps][_EDGE:-_EDGE]
    if len(delays) < 4 or len(delays) % 2 or min(delays) <= 0:
        raise BenchError(f"no fan-out-of-4 delay could be measured with {inverter.name} of {library.name}: "
                         f"{len(delays)} stages seen")
    return sum(delays) / len(delays)


def macro_liberty(macros: Iterable[Macro], budgets: Mapping[str, Budget], fo4: float, load: float = 0.02) -> str:
    """A liberty library with one cell of one-bit pins for each distinct cut cell.

    Args:
        fo4: in ns; about so long, to one digit, an edge takes at its outputs.
        load: capacitance of its inputs, in pF.
    """
    cells = {macro.liberty_cell: macro for macro in macros}
    text = [_LIBRARY_HEADER]
    for name, macro in sorted(cells.items()):
        budget = budgets[macro.module]
        text.append(f"  cell ({name}) {{ area : 1; is_macro_cell : true;")
        for pin, direction in macro.pins:
            timing = _pin(pin, direction, macro.clock, budget, fo4, load)
            text.append(f"    pin ({pin}) {{ direction : {direction}; {timing} }}")
        text.append("  }")
    return "\n".join([*text, "}", ""])


def _pin(pin: str, direction: str, clock: str, budget: Budget, fo4: float, load: float) -> str:
    if pin == clock:
        return "clock : true; capacitance : 0.01;"
    if direction == "output":
        value, edge_time = budget.clock_to_output * fo4, float(f"{fo4:.1g}")
        tables = " ".join(f"{table} (scalar) {{ values (\"{number:.6f}\"); }}" for table, number in (
            ("cell_rise", value), ("cell_fall", value), ("rise_transition", edge_time),
            ("fall_transition", edge_time)))
        return f"timing () {{ related_pin : \"{clock}\"; timing_type : rising_edge; {tables} }}"
    value = budget.pins.get(pin.rpartition("_")[0], budget.setup) * fo4
    tables = " ".join(f"{edge}_constraint (scalar) {{ values (\"{value:.6f}\"); }}" for edge in ("rise", "fall"))
    held = " ".join(f"{edge}_constraint (scalar) {{ values (\"0.0\"); }}" for edge in ("rise", "fall"))
    return (f"capacitance : {load:g}; timing () {{ related_pin : \"{clock}\"; timing_type : setup_rising; "
            f"{tables} }} timing () {{ related_pin : \"{clock}\"; timing_type : hold_rising; {held} }}")


_LIBRARY_HEADER = """library (cut_cells) {
  delay_model : table_lookup;
  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1uA"; pulling_resistance_unit : "1kohm";
  leakage_power_unit : "1nW"; capacitive_load_unit (1,pf);
  nom_process : 1; nom_voltage : 1.8; nom_temperature : 25;
  slew_lower_threshold_pct_rise : 20; slew_upper_threshold_pct_rise : 80;
  slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_fall : 80;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;"""


def commands(netlist: Netlist, liberties: Iterable[str], verilog: str, period: float, port: Budget, fo4: float,
             library: Library, spef: str = "") -> str:
    """The command file of an analysis: an ideal clock, budgeted ports, many paths; with the wires of `spef`, a file.

    Reported are the worst path to each end; to each end from registers and macros only, so that a port that arrives
    late hides none of them; from macros only; after `PORTS_FOLLOW`, the worst path from each input port; and after
    `HOLD_FOLLOWS` the one from a register or macro to another that comes first after the edge.
    """
    lines = [*(f"read_liberty {name}" for name in liberties), UNITS]
    lines += [f"read_verilog {verilog}", f"link_design {netlist.top}",
              *([f"read_spef {spef}"] if spef else []),
              f"create_clock -name {CLOCK} -period {period:.6f} [get_ports {CLOCK}_0]"]
    inputs = [name for name, (direction, _) in netlist.ports.items() if direction == "input" and name != f"{CLOCK}_0"]
    outputs = [name for name, (direction, _) in netlist.ports.items() if direction == "output"]
    for names, command in ((inputs, f"set_input_delay {port.clock_to_output * fo4:.6f} -clock {CLOCK}"),
                           (inputs, f"set_driving_cell -lib_cell {library.buffer.name}"),
                           (outputs, f"set_output_delay {port.setup * fo4:.6f} -clock {CLOCK}"),
                           (outputs, f"set_load {library.load:g}")):
        lines += [f"{command} [get_ports {{{' '.join(names[k:k + 100])}}}]" for k in range(0, len(names), 100)]
    report = "report_checks -path_delay max -format full -digits 6"
    lines.append(f"{report} -group_count 1000000")
    if netlist.registers:
        lines.append(f"{report} -group_count 1000000 -from [all_registers -clock_pins]")
    if netlist.macros:
        lines.append(f"{report} -group_count 1000000 -from [get_cells {{{' '.join(netlist.macros)}}}]")
    lines.append(f'puts "{PORTS_FOLLOW}"')
    buses: dict[str, list[str]] = {}
    for name in inputs:
        buses.setdefault(name.rpartition("_")[0], []).append(name)
    lines += [f"{report} -group_count 1 -from [get_ports {{{' '.join(names)}}}]" for names in buses.values()]
    lines.append(f'puts "{HOLD_FOLLOWS}"')
    if netlist.registers:
        ends = "-from [all_registers -clock_pins] -to [all_registers -data_pins]"
        lines.append(f"{report.replace('-path_delay max', '-path_delay min')} -group_count 1 {ends}")
    return "\n".join([*lines, ""])


_STEP = re.compile(r"^\s*(-?[\d.]+)\s+-?[\d.]+ [\^v] (\S+) \((\w+)\)\s*$")
_POINT = re.compile(r"^(Startpoint|Endpoint): (\S+)")
_SLACK = re.compile(r"^\s*(-?[\d.]+)\s+slack")


def parse_paths(report: str, period: float) -> Iterable[RawPath]:
    """The paths in the output of report_checks (full format), as they come."""
    points: dict[str, str] = {}
    steps: list[tuple[float, str, str]] = []
    arriving = True
    for line in report.splitlines():
        if point := _POINT.match(line):
            if point[1] == "Startpoint":
                steps, arriving = [], True
            points[point[1]] = point[2]
        elif "data arrival time" in line:
            arriving = False
        elif arriving and (step := _STEP.match(line)):
            if float(step[1]) or not steps or not step[2].startswith(points["Endpoint"] + "/"):
                steps.append((float(step[1]), step[2], step[3]))
        elif slack := _SLACK.match(line):
            # The first step is the clock pin of the start, the last one the pin of the end.
            yield RawPath(points["Startpoint"], points["Endpoint"], period - float(slack[1]), tuple(steps))
