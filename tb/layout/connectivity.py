# SPDX-License-Identifier: Apache-2.0
"""Whether the metal of a layout joins what the netlist joins, and nothing else.

Rectangles only: of wires, vias, pins, ports, the supply's rails and the metal inside of cells. Those of one layer that
touch are one piece, and a cut joins what lies above and below it. Nothing is known of which net a wire was drawn for:
each piece of metal must hold all pins of one net of the netlist, and none of another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from nncosim.tb.errors import BenchError
from nncosim.tb.layout.def_file import RoutedBlock
from nncosim.tb.layout.lef import Lef, Shape, turned
from nncosim.tb.layout.nets import Nets

__all__ = ["check_connectivity", "connectivity_faults"]

_MOST = 5  # faults in a message
_TILE = 4000  # nm: rectangles are looked for by tiles of this size

Owner = tuple[str, str]
"""A pin (instance and pin, or PIN and port), or a rail or piece of metal inside of a cell: "supply" or "cell" and a
name."""


def check_connectivity(block: RoutedBlock, lef: Lef, nets: Nets) -> None:
    """Hold a layout against a netlist.

    Raises:
        BenchError: nets that are open, or joined to something else; names some.
    """
    faults = list(connectivity_faults(block, lef, nets))
    if faults:
        more = f", and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
        raise BenchError(f"the layout of {block.top!r} is not its netlist: {'; '.join(faults[:_MOST])}{more}")


def connectivity_faults(block: RoutedBlock, lef: Lef, nets: Nets) -> Iterator[str]:
    """Nets of a netlist that a layout does not have as they are, a few words each."""
    pieces = _pieces(block, lef)
    of_pin: dict[Owner, set[int]] = defaultdict(set)
    holds: dict[int, set[Owner]] = defaultdict(set)
    for owner, piece in pieces:
        of_pin[owner].add(piece)
        holds[piece].add(owner)
    wires = {pin: net for net, pins in nets.items() for pin in pins}
    for net, pins in nets.items():
        absent = [pin for pin in pins if pin not in of_pin]
        if absent:
            yield f"net {net}: there is no {' '.join(absent[0])}"
            continue
        groups = _groups([of_pin[pin] for pin in pins])
        if groups > 1:
            yield f"net {net} is open: its metal is in {groups} pieces"
    for owners in holds.values():
        named = {wires.get(owner, " ".join(owner)) for owner in owners if owner[0] != "cell"}
        inside = {" ".join(owner) for owner in owners if owner[0] == "cell"}
        if len(named) > 1:
            yield f"{', '.join(sorted(named)[:3])} are shorted"
        elif named and inside:
            yield f"{min(named)} touches metal inside of {min(inside)}"


def _groups(sets: list[set[int]]) -> int:
    """How many there are when those with a member in common are one: the metal of a pin may be in pieces."""
    merged: list[set[int]] = []
    for each in sets:
        apart = [other for other in merged if not other & each]
        joined = set(each).union(*(other for other in merged if other & each))
        merged = [*apart, joined]
    return len(merged)


def _pieces(block: RoutedBlock, lef: Lef) -> list[tuple[Owner, int]]:
    """Each pin's and rail's rectangles with the number of the piece of metal they are part of."""
    shapes: list[Shape] = []
    owners: dict[int, Owner] = {}
    parent: list[int] = []

    def add(shape: Shape, owner: Owner | None = None) -> int:
        shapes.append(shape)
        parent.append(len(parent))
        if owner is not None:
            owners[len(parent) - 1] = owner
        return len(parent) - 1

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for net in block.nets.values():
        for segment in net.segments:
            add(Shape(segment.layer, segment.rect))
        for via in net.vias:
            metals = [add(Shape(layer, rect.moved(via.x, via.y))) for layer, rect in lef.vias[via.name]
                      if layer in lef.layers]  # fmt: skip
            for metal in metals[1:]:
                parent[root(metal)] = root(metals[0])
    for port, shape in block.ports.items():
        add(shape, ("PIN", port))
    for instance, placed in block.cells.items():
        cell = lef.cells[placed.cell]
        for pin in cell.pins.values():
            owner = ("supply", pin.name) if pin.use in ("POWER", "GROUND") else (instance, pin.name)
            for shape in block.metal(lef, instance, pin.name):
                add(shape, owner)
        for number, (layer, rect) in enumerate(cell.obstructions):
            there = turned(rect, cell, placed.orientation).moved(placed.x, placed.y)
            if layer in lef.layers:
                add(Shape(layer, there), ("cell", f"{instance} ({placed.cell}, {number})"))
    for one, other in _touching(shapes):
        if owners.get(one, ("",))[0] == owners.get(other, ("",))[0] == "cell":
            continue  # metal inside of cells is theirs
        parent[root(one)] = root(other)
    return [(owner, root(number)) for number, owner in owners.items()]


def _touching(shapes: list[Shape]) -> Iterator[tuple[int, int]]:
    """Numbers of rectangles of one layer that touch, each pair at least once."""
    tiles: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for number, (layer, rect) in enumerate(shapes):
        for x in range(rect.x0 // _TILE, rect.x1 // _TILE + 1):
            for y in range(rect.y0 // _TILE, rect.y1 // _TILE + 1):
                tiles[layer, x, y].append(number)
    for numbers in tiles.values():
        for k, one in enumerate(numbers):
            mine = shapes[one].rect
            for other in numbers[k + 1:]:
                if mine.touches(shapes[other].rect):
                    yield one, other
