# SPDX-License-Identifier: Apache-2.0
"""Wires between placed cells: qrouter, a maze router over the cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.layout.lef import Lef, Rect
from nncosim.tb.layout.nets import PORT, Nets
from nncosim.tb.layout.placement import Placement, tool
from nncosim.tb.system.processes import last_lines, run_retried

__all__ = ["placed_def", "route"]

def route(folder: Path, top: str, placement: Placement, nets: Nets, lef: Lef, lef_file: Path) -> Path:
    """Route all nets; returns the DEF file with their wires. What qrouter reads and writes stays in `folder`.

    Raises:
        BenchError: it fails, or leaves nets without wires; names some.
        ToolError: qrouter is missing, or crashes twice.
    """
    (folder / "placed.def").write_text("\n".join(placed_def(top, placement, nets, lef)) + "\n")
    (folder / "route.tcl").write_text("\n".join(_script(placement, lef, lef_file)) + "\n")
    for left in ("routed.def", "failed.out"):
        (folder / left).unlink(missing_ok=True)
    done = run_retried([tool("qrouter"), "-nog", "-s", "route.tcl"], cwd=folder, name="qrouter", what=f"route {top}")
    (folder / "qrouter.log").write_text(done.stdout)
    result = folder / "routed.def"
    unrouted = re.search(r"^unrouted (\d+)", done.stdout, re.MULTILINE)
    if unrouted is None or not result.is_file():
        raise BenchError(f"qrouter could not route {top!r} (exit status {done.returncode}):\n"
                         f"{last_lines(done.stdout)}")
    if int(unrouted[1]):
        raise BenchError(f"qrouter left {unrouted[1]} of {len(nets)} nets of {top!r} without wires")
    return result


def _script(placement: Placement, lef: Lef, lef_file: Path) -> Iterator[str]:
    yield from ("verbose 1", f"read_lef {lef_file}", f"catch {{layers {len(lef.layers)}}}", "via stack 1")
    supply = {use: pin.name for cell in lef.cells.values() for pin in cell.pins.values()
              for use in ("POWER", "GROUND") if pin.use == use}
    if "POWER" in supply:
        yield f"vdd {supply['POWER']}"
    if "GROUND" in supply:
        yield f"gnd {supply['GROUND']}"
    core, die = placement.core, placement.die
    first = next(iter(lef.layers))
    # The first layer is the cells': around them it would only be in the way of ports.
    for rect in (Rect(die.x0, core.y1, die.x1, die.y1), Rect(die.x0, die.y0, die.x1, core.y0),
                 Rect(die.x0, die.y0, core.x0, die.y1), Rect(core.x1, die.y0, die.x1, die.y1)):  # fmt: skip
        yield f"obstruction {' '.join(f'{number / 1000:g}' for number in rect)} {first}"
    yield from ("read_def placed.def", "qrouter::standard_route routed.def false",
                'puts "unrouted [lindex [failing summary] 0]"', "quit")


def placed_def(top: str, placement: Placement, nets: Nets, lef: Lef) -> Iterator[str]:
    """Lines of a DEF file with cells and ports in their places and nets without wires."""
    die = placement.die
    yield from ("VERSION 5.6 ;", "NAMESCASESENSITIVE ON ;", 'DIVIDERCHAR "/" ;', 'BUSBITCHARS "[]" ;',
                f"DESIGN {top} ;", "UNITS DISTANCE MICRONS 1000 ;",
                f"DIEAREA ( {die.x0} {die.y0} ) ( {die.x1} {die.y1} ) ;")
    for layer in lef.layers.values():
        axis, begin, end = ("Y", die.y0, die.y1) if layer.horizontal else ("X", die.x0, die.x1)
        begin = -(-begin // layer.pitch) * layer.pitch
        yield f"TRACKS {axis} {begin} DO {(end - begin) // layer.pitch + 1} STEP {layer.pitch} LAYER {layer.name} ;"
    yield f"COMPONENTS {len(placement.cells)} ;"
    for name, cell in placement.cells.items():
        yield f"- {name} {cell.cell} + PLACED ( {cell.x} {cell.y} ) {cell.orientation} ;"
    yield from ("END COMPONENTS", f"PINS {len(placement.ports)} ;")
    ports = {pin: net for net, pins in nets.items() for instance, pin in pins if instance == PORT}
    for port, (metal, x, y) in placement.ports.items():
        half = lef.layers[metal].width // 2
        yield f"- {port} + NET {ports[port]}"
        yield f"  + LAYER {metal} ( {-half} {-half} ) ( {half} {half} )"
        yield f"  + PLACED ( {x} {y} ) N ;"
    yield from ("END PINS", f"NETS {len(nets)} ;")
    for net, pins in nets.items():
        yield f"- {net}"
        yield from (f"  ( {instance} {pin} )" for instance, pin in pins)
        yield "  ;"
    yield from ("END NETS", "END DESIGN")
