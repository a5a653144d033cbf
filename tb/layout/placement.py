# SPDX-License-Identifier: Apache-2.0
"""Where cells and ports lie: graywolf (TimberWolf's annealing) places cells in rows, ports around them.

graywolf reads the cells with their pins (``.cel``) and what the technology's tracks are (``.par``), in 0.01 um, and
writes where each lies (``.pl1``). Its random numbers begin with a seed that the second file gives: the same input is
placed the same way.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.layout.lef import ORIENTATIONS, Layer, Lef, LefCell, Rect
from nncosim.tb.layout.nets import PORT, Nets
from nncosim.tb.system.processes import last_lines, run_retried
from nncosim.tb.timing.netlist import Netlist

__all__ = ["SEED", "Placed", "Placement", "first_layers", "place", "tool"]

SEED = 12345
"""Of graywolf's annealing; the one that qflow gives it."""

_UNIT = 10  # nm
_MARGIN = 5  # tracks between cells and ports
_PAD = "twpin_"  # what graywolf's tools take as the beginning of a port's name


@dataclass(frozen=True)
class Placed:
    """A cell in its place: its kind, the lower left corner in nm, how it is turned."""

    cell: str
    x: int
    y: int
    orientation: str


@dataclass(frozen=True)
class Placement:
    """`cells`: by instance, fillers too. `ports`: layer and point in nm. `core`: around all cells; `die`: all."""

    cells: Mapping[str, Placed]
    ports: Mapping[str, tuple[str, int, int]]
    core: Rect
    die: Rect


def tool(name: str) -> str:
    """Path of one of the two tools.

    Raises:
        ToolError: it is not on the path.
    """
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"{name} is not on PATH; Debian: apt-get install graywolf qrouter")
    return found


def place(folder: Path, netlist: Netlist, nets: Nets, lef: Lef) -> Placement:
    """Place a netlist's cells and ports; everything that graywolf reads and writes stays in `folder`.

    Raises:
        BenchError: a cell of the netlist, or a pin, is not in the LEF file; graywolf fails.
        ToolError: graywolf is missing, or crashes twice.
    """
    _check(netlist, lef)
    (folder / f"{netlist.top}.cel").write_text("\n".join(_cel(netlist, nets, lef)) + "\n")
    (folder / f"{netlist.top}.par").write_text("\n".join(_par(lef)) + "\n")
    done = run_retried([tool("graywolf"), "-n", netlist.top], cwd=folder, name="graywolf", what=f"place {netlist.top}")
    (folder / "graywolf.log").write_text(done.stdout)
    result = folder / f"{netlist.top}.pl1"
    if done.returncode or not result.is_file():
        raise BenchError(f"graywolf could not place {netlist.top!r} (exit status {done.returncode}):\n"
                         f"{last_lines(done.stdout)}")
    return _read(result.read_text(), netlist, nets, lef)


def _check(netlist: Netlist, lef: Lef) -> None:
    for instance, (kind, pins) in netlist.cells.items():
        cell = lef.cells.get(kind)
        if cell is None:
            raise BenchError(f"{netlist.top}: {instance} is a {kind}, which the LEF file does not have")
        for pin in pins:
            if pin not in cell.pins or not cell.pins[pin].shapes:
                raise BenchError(f"{netlist.top}: {instance} is a {kind}, of which the LEF file places no pin {pin}")


def first_layers(lef: Lef) -> tuple[Layer, Layer]:
    """The lowest layer above the first that runs up and down, and the lowest that runs across.

    Raises:
        BenchError: there are fewer than three layers, or all of them run one way.
    """
    upper = list(lef.layers.values())[1:]
    vertical = next((layer for layer in upper if not layer.horizontal), None)
    horizontal = next((layer for layer in upper if layer.horizontal), None)
    if vertical is None or horizontal is None:
        raise BenchError("the LEF file has no routing layers of both directions above the first")
    return vertical, horizontal


def _cel(netlist: Netlist, nets: Nets, lef: Lef) -> Iterator[str]:
    wired = {pin: net for net, pins in nets.items() for pin in pins}
    vertical, horizontal = first_layers(lef)
    for number, (instance, (kind, pins)) in enumerate(netlist.cells.items()):
        cell = lef.cells[kind]
        width, height = cell.width // _UNIT, cell.height // _UNIT
        left, bottom = -(width // 2), -(height // 2)
        yield f"cell {number} {instance}"
        yield f"left {left} right {left + width} bottom {bottom} top {bottom + height}"
        for feed, x in enumerate(range(left + vertical.pitch // _UNIT // 2, left + width, vertical.pitch // _UNIT)):
            yield f"pin name twfeed{feed + 1} signal TW_PASS_THRU layer 1 {x} {bottom}"
            yield f"   equiv name twfeed{feed + 1} layer 1 {x} {bottom + height}"
        for pin in pins:
            x, y = _middle(cell, pin)
            net = wired.get((instance, pin), f"open_{instance}_{pin}")
            yield f"pin name {pin} signal {net} layer 1 {x // _UNIT + left} {y // _UNIT + bottom}"
    px, py = vertical.pitch // _UNIT // 2, horizontal.pitch // _UNIT // 2
    for number, port in enumerate(netlist.ports):
        yield f"pad {number + 1} name {_PAD}{port}"
        yield f"corners 4 -{px} -{py} -{px} {py} {px} {py} {px} -{py}"
        yield f"pin name {port} signal {wired.get((PORT, port), port)} layer 1 0 0"


def _middle(cell: LefCell, pin: str) -> tuple[int, int]:
    """Of the pin's last rectangle."""
    rect = cell.pins[pin].shapes[-1].rect
    return (rect.x0 + rect.x1) // 2, (rect.y0 + rect.y1) // 2


def _par(lef: Lef) -> Iterator[str]:
    """Layers and tracks from the LEF file; the choices behind them are qflow's for this kind of library."""
    layers = list(lef.layers.values())[:4]  # graywolf knows no more
    vertical, horizontal = first_layers(lef)
    yield "RULES"
    for layer in layers:
        yield f"layer {layer.name} {layer.ohm:g} {layer.area:g} {'horizontal' if layer.horizontal else 'vertical'}"
    pairs = list(itertools.pairwise(layers))
    for lower, upper in pairs:
        yield f"via via_{lower.name}_{upper.name} {lower.name} {upper.name}"
    for layer in layers:
        yield f"width {layer.name} {layer.width // _UNIT}"
        # With the width this adds up to the pitch, so that ports come to lie on tracks.
        yield f"spacing {layer.name} {layer.name} {(layer.pitch - layer.width) // _UNIT}"
    for lower, upper in pairs:
        yield f"width via_{lower.name}_{upper.name} {upper.width // _UNIT}"
    yield "ENDRULES"
    tracks = vertical.pitch // _UNIT, horizontal.pitch // _UNIT
    yield from (
        "*vertical_wire_weight : 1.0", "*vertical_path_weight : 1.0", "*padspacing : variable", "*rowSep : 0.0 0",
        f"*track.pitch : {tracks[0]}", f"*minimum_pad_space : {2 * tracks[0]}",
        f"*gridX : {tracks[0]}", f"*gridY : {tracks[1]}", "*gridOffsetX : 0", "*gridOffsetY : 0",
        "*graphics.wait : off", "*last_chance.wait : off", f"*random.seed : {SEED}", "TWMC*chip.aspect.ratio : 1.0",
        f"TWSC*feedThruWidth : {tracks[0]} layer 1", "TWSC*do.global.route : on", "TWSC*ignore_feeds : true",
        "TWSC*call_row_evener : true", "TWSC*even_rows_maximally : true", "GENR*row_to_tile_spacing: 1",
        "GENR*flip_alternate_rows : 1")


def _read(text: str, netlist: Netlist, nets: Nets, lef: Lef) -> Placement:
    """Each line of a ``.pl1`` file: name, left, bottom, right, top, orientation, row."""
    rows: dict[int, list[tuple[int, str, str]]] = {}
    ends: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        name, *numbers = line.split()
        left, bottom, right, top, orientation = (int(number) for number in numbers[:5])
        if name.startswith(_PAD):
            ends[name.removeprefix(_PAD)] = ((left + right) // 2 * _UNIT, (bottom + top) // 2 * _UNIT)
        elif name in netlist.cells:
            rows.setdefault(bottom * _UNIT, []).append((left * _UNIT, name, ORIENTATIONS[orientation]))
    found = sum(map(len, rows.values()))
    if found != len(netlist.cells) or not rows:
        raise BenchError(f"graywolf placed {found} of {len(netlist.cells)} cells of {netlist.top!r}")
    left, bottom = min(row[0][0] for row in map(sorted, rows.values())), min(rows)
    cells, core = _packed(rows, netlist, lef)
    moved = {port: (x - left + core.x0, y - bottom + core.y0) for port, (x, y) in ends.items()}
    wanted = {pin for pins in nets.values() for instance, pin in pins if instance == PORT}
    ports, die = _ports({port: moved[port] for port in netlist.ports if port in wanted}, core, lef)
    return Placement(cells, ports, core, die)


def _packed(rows: Mapping[int, list[tuple[int, str, str]]], netlist: Netlist,
            lef: Lef) -> tuple[dict[str, Placed], Rect]:
    """The cells of each row side by side, in graywolf's order, and fillers up to the end of the longest row: rails of
    the supply go through. Rows are mirrored in turn, so that neighbours share a rail."""
    vertical, horizontal = first_layers(lef)
    filler = lef.filler()
    kinds = {instance: lef.cells[kind] for instance, (kind, _) in netlist.cells.items()}
    # Tracks go through 0, 0, and with these offsets through the pins of cells.
    x0 = (_MARGIN + 1) * vertical.pitch + vertical.offset
    y0 = (_MARGIN + 1) * horizontal.pitch + horizontal.offset
    height = max(cell.height for cell in kinds.values())
    width = max(sum(kinds[name].width for _, name, _ in row) for row in rows.values())
    if filler is not None:
        width = -(-width // filler.width) * filler.width
    placed: dict[str, Placed] = {}
    for number, bottom in enumerate(sorted(rows)):
        x, y = x0, y0 + number * height
        flipped = number % 2 == 0
        for _, name, orientation in sorted(rows[bottom]):
            mirrored = orientation in ("FN", "S")
            turn = ("S" if mirrored else "FS") if flipped else ("FN" if mirrored else "N")
            placed[name] = Placed(kinds[name].name, x, y, turn)
            x += kinds[name].width
        while filler is not None and x < x0 + width:
            placed[f"fill{len(placed)}"] = Placed(filler.name, x, y, "FS" if flipped else "N")
            x += filler.width
    return placed, Rect(x0, y0, x0 + width, y0 + len(rows) * height)


def _ports(wanted: Mapping[str, tuple[int, int]], core: Rect,
           lef: Lef) -> tuple[dict[str, tuple[str, int, int]], Rect]:
    """Ports on the side where graywolf has them and in its order, on tracks, every second one if there is room."""
    vertical, horizontal = first_layers(lef)
    px, py = vertical.pitch, horizontal.pitch
    left, right = _down(core.x0, px) - _MARGIN * px, _down(core.x1, px) + _MARGIN * px
    bottom, top = _down(core.y0, py) - _MARGIN * py, _down(core.y1, py) + _MARGIN * py
    sides: dict[str, list[tuple[int, str]]] = {"left": [], "right": [], "bottom": [], "top": []}
    for port, (x, y) in wanted.items():
        away = {"left": core.x0 - x, "right": x - core.x1, "bottom": core.y0 - y, "top": y - core.y1}
        side = max(away, key=lambda each: away[each])
        sides[side].append((y if side in ("left", "right") else x, port))
    ports: dict[str, tuple[str, int, int]] = {}
    for side, on_it in sides.items():
        across = side in ("left", "right")
        tracks = range(_down(core.y0, py) + py, core.y1, py) if across else range(_down(core.x0, px) + px, core.x1, px)
        for port, at in _spread(sorted(on_it), tracks).items():
            place = (left if side == "left" else right, at) if across else (at, bottom if side == "bottom" else top)
            ports[port] = ((horizontal if across else vertical).name, *place)
    return ports, Rect(left - px, bottom - py, right + px, top + py)


def _down(value: int, step: int) -> int:
    return value // step * step


def _spread(wanted: list[tuple[int, str]], tracks: range) -> dict[str, int]:
    """A track for each, in order, near where it is wanted."""
    step = 2 if 2 * len(wanted) <= len(tracks) else 1
    slots = tracks[::step]
    if len(wanted) > len(slots):
        raise BenchError(f"{len(wanted)} ports want to lie on a side of the block that has {len(slots)} tracks")
    chosen: list[int] = []
    for at, _ in wanted:
        near = round((at - slots[0]) / slots.step)
        chosen.append(max(near, chosen[-1] + 1 if chosen else 0))
    last = len(slots)
    for k in reversed(range(len(chosen))):
        chosen[k] = last = min(chosen[k], last - 1)
    return {port: slots[slot] for (_, port), slot in zip(wanted, chosen, strict=True)}
