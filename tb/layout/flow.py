# SPDX-License-Identifier: Apache-2.0
"""From a mapped block to its layout: placed, routed, its wires checked and extracted.

    Part -> mapped netlist -> graywolf (placement) -> qrouter (wires, DEF) -> SPEF

The netlist is the mapped one, with a buffer before each output port that shares its net with another port. Power is
rails that neighbouring cells share, without a grid; the clock is one net like any other, without a tree. Everything is
cached by content: what the same two programs make of the same netlist is the same to the last bit.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.tb.errors import ToolError
from nncosim.tb.layout import annotation, connectivity, def_file, lef, nets, parasitics, placement, routing
from nncosim.tb.layout.annotation import check_annotation
from nncosim.tb.layout.connectivity import check_connectivity
from nncosim.tb.layout.def_file import read_def
from nncosim.tb.layout.lef import Lef, Rect, read_lef
from nncosim.tb.layout.nets import PORT, Nets, nets_of, with_buffered_ports
from nncosim.tb.layout.parasitics import NetParasitics, extract, spef
from nncosim.tb.layout.placement import place, tool
from nncosim.tb.layout.routing import route
from nncosim.tb.netlist.mapping import Part, mapped_file
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.system.processes import run
from nncosim.tb.timing.liberty import require_liberty
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.sta import OSU018, StaOptions, TimingReport, time_netlist

__all__ = ["OSU018_LEF", "Routed", "RoutedTiming", "place_and_route", "time_routed"]

OSU018_LEF = OSU018.with_suffix(".lef")
"""LEF file of Debian's qflow-tech-osu018: technology and cells."""

_DEF, _VERILOG, _SPEF, _FIGURES = "routed.def", "routed.v", "routed.spef", "figures.json"
_DOUBLED = "doubled.spef"
_LOGS = ("graywolf.log", "qrouter.log", "placed.def", "route.tcl")


@dataclass(frozen=True)
class Routed:
    """A block with its wires.

    Attributes:
        top: its module.
        netlist: as it is laid out; instances, nets and ports have the names of `verilog`.
        verilog, spef, def_file: the netlist, the parasitics of its wires, and the layout, as files.
        lef: technology and cells that it was laid out with. liberty: the cells' timing.
        die: in nm. cells: without fillers. nets: with wires. pins: on them.
        lengths: layer to um of wire. vias: cuts. capacitance: of all wires, in fF. loops: of wires.
        seconds: of placement and of routing, when they were done.
        sources: the Verilog that it was mapped from.
    """

    top: str
    netlist: Netlist = field(repr=False)
    verilog: Path
    spef: Path
    def_file: Path
    lef: Path
    liberty: Path
    die: Rect
    cells: int
    nets: int
    pins: int
    lengths: Mapping[str, float]
    vias: int
    capacitance: float
    loops: int
    seconds: tuple[float, float]
    sources: Mapping[str, str] = field(repr=False, compare=False, default_factory=dict)

    @property
    def length(self) -> float:
        """Of all wires, in um."""
        return sum(self.lengths.values())

    @property
    def per_um(self) -> float:
        """Capacitance of a um of wire in fF, vias included; 0 without wires."""
        return self.capacitance / self.length if self.length else 0.0


@dataclass(frozen=True)
class RoutedTiming:
    """The same netlist timed without its wires, with them, and with twice their capacitance: a rule of thumb for
    neighbours, which the parasitics leave out. `name`: what the block was asked for by."""

    routed: Routed
    without: TimingReport
    wired: TimingReport
    doubled: TimingReport
    name: str


def place_and_route(part: Part, liberty: Path = OSU018, lef_file: Path = OSU018_LEF,
                    say: Callable[[str], None] = lambda text: None) -> Routed:
    """Lay out a part, or find that done before.

    What comes back has passed two checks: the metal of each net joins all of its pins and no other net's, and
    OpenSTA finds the parasitics of every pin.

    Args:
        lef_file: technology and cells; the cells are those of `liberty`.
        say: is told of each step.

    Raises:
        ToolError: graywolf, qrouter, OpenSTA, Yosys or the library is missing.
        BenchError: the part cannot be mapped, placed or routed, or what was made fails a check.
    """
    for name in ("graywolf", "qrouter"):
        tool(name)
    if not lef_file.is_file() and lef_file == OSU018_LEF:
        raise ToolError(f"LEF file {lef_file} does not exist; Debian: apt-get install qflow-tech-osu018")
    if liberty == OSU018:
        require_liberty(liberty)
    library, technology = read_library(liberty), read_lef(lef_file)
    say("mapping")
    netlist = with_buffered_ports(Netlist.read(mapped_file(part, liberty), part.top, library), library)
    wanted = nets_of(netlist)
    laid_out = _laid_out(netlist, wanted, technology, lef_file, say)
    say("extraction and checks")
    entry = _extracted(laid_out, netlist, wanted, technology, lef_file, liberty)
    figures = json.loads((entry / _FIGURES).read_text())
    return Routed(part.top, netlist, entry / _VERILOG, entry / _SPEF, entry / _DEF, lef_file, liberty,
                  Rect(*figures.pop("die")), cells=len(netlist.cells), nets=len(wanted),
                  pins=sum(map(len, wanted.values())),
                  seconds=tuple(json.loads((laid_out / _FIGURES).read_text())), sources=part.sources, **figures)


def time_routed(routed: Routed, options: StaOptions | None = None, name: str = "") -> RoutedTiming:
    """Best period and hold with wires, and of the same netlist without. `name`: of the block, if not its module's.

    Raises:
        ToolError, BenchError: as `nncosim.tb.timing.sta.time_netlist`.
    """
    chosen = options or StaOptions(liberty=routed.liberty)
    without, wired, doubled = (time_netlist(routed.netlist, chosen, wires, routed.sources)
                               for wires in (None, routed.spef, routed.spef.with_name(_DOUBLED)))  # fmt: skip
    return RoutedTiming(routed, without, wired, doubled, name or routed.top)


def _laid_out(netlist: Netlist, wanted: Nets, technology: Lef, lef_file: Path, say: Callable[[str], None]) -> Path:
    def fill(folder: Path) -> None:
        begin = time.monotonic()
        say("placement")
        placed = place(folder, netlist, wanted, technology)
        placing = time.monotonic() - begin
        shutil.copyfile(lef_file, folder / "cells.lef")
        say("routing")
        route(folder, netlist.top, placed, wanted, technology, Path("cells.lef"))
        for path in folder.iterdir():
            if path.name not in (_DEF, *_LOGS):
                path.unlink()
        (folder / _FIGURES).write_text(json.dumps([placing, time.monotonic() - begin - placing]))

    version = run([tool("qrouter"), "-v", "0", "-h"], cwd=Path.cwd()).stdout.split("version")[-1].split()[:1]
    key = content_key(["layout", *netlist.verilog(), lef_file.read_bytes(), *version,
                       Path(tool("graywolf")).read_bytes(), *_sources(lef, nets, placement, routing)])
    return obtain(key, fill, "layouts")


def _extracted(laid_out: Path, netlist: Netlist, wanted: Nets, technology: Lef, lef_file: Path, liberty: Path) -> Path:
    def fill(folder: Path) -> None:
        shutil.copyfile(laid_out / _DEF, folder / _DEF)
        (folder / _VERILOG).write_text("\n".join(netlist.verilog()) + "\n")
        block = read_def(folder / _DEF, technology)
        check_connectivity(block, technology, wanted)
        directions = {pin: _direction(pin, netlist, technology) for pins in wanted.values() for pin in pins}
        drivers = {net: next(pin for pin in pins if (directions[pin] == "I") == (pin[0] == PORT))
                   for net, pins in wanted.items()}  # fmt: skip
        found = extract(block, technology, drivers)
        ports = {port: "I" if direction == "input" else "O" for port, (direction, _) in netlist.ports.items()}
        text = "\n".join(spef(netlist.top, found, directions, ports)) + "\n"
        (folder / _SPEF).write_text(text)
        (folder / _DOUBLED).write_text(text.replace("*C_UNIT 1 FF", "*C_UNIT 2 FF"))
        check_annotation(folder, folder / _SPEF, netlist, wanted, liberty)
        (folder / _FIGURES).write_text(json.dumps(_figures(found) | {"die": block.die}))

    key = content_key(["parasitics", *netlist.verilog(), (laid_out / _DEF).read_bytes(), lef_file.read_bytes(),
                       liberty.read_bytes(), Path(__file__).read_bytes(),
                       *_sources(annotation, connectivity, def_file, lef, nets, parasitics)])
    return obtain(key, fill, "layouts")


def _figures(found: Mapping[str, NetParasitics]) -> dict[str, object]:
    lengths: dict[str, float] = {}
    for net in found.values():
        for layer, length in net.lengths.items():
            lengths[layer] = lengths.get(layer, 0.0) + length
    return {"lengths": {layer: round(lengths[layer], 3) for layer in sorted(lengths)},
            "vias": sum(net.vias for net in found.values()), "loops": sum(net.loops for net in found.values()),
            "capacitance": sum(net.capacitance for net in found.values())}


def _direction(pin: tuple[str, str], netlist: Netlist, technology: Lef) -> str:
    instance, name = pin
    if instance == PORT:
        return "I" if netlist.ports[name][0] == "input" else "O"
    return "O" if technology.cells[netlist.cells[instance][0]].pins[name].direction == "OUTPUT" else "I"


def _sources(*modules: object) -> list[bytes]:
    return [Path(str(getattr(module, "__file__", ""))).read_bytes() for module in modules]
