# SPDX-License-Identifier: Apache-2.0
"""Resistance and capacitance of routed wires, from their geometry, and the SPEF file that says them.

Of a wire of width W and length L on a layer, from the layer's values in the LEF file:

    R = RPERSQ L / W        C = CPERSQDIST W L + 2 EDGECAPACITANCE L

A wire has two edges; that the LEF value is of one says the LEF/DEF language reference (segment capacitance = C per
square x W x L + peripheral C x 2 (W + L); the ends' share is left out). OSU's values are of the kind that MOSIS
measured in TSMC's 0.18 um, of one wire over substrate: run T3AZ has the same areas, 38, 19, 13, 8, 8 and 3 aF/um2 for
metal 1 to 6, and edges of 59, 53, 42 and 24 aF/um for metal 2 to 5, where the file has 60, 54, 41 and 24; metal 1's
edge, 80 aF/um, is the file's alone. So there is no coupling: what lies beside, above or below a wire counts as if it
were substrate. The resistance of a via is the file's, of the via or of a cut of its layer. OSU's has none: that run's
contacts to metal 2 to 6 add up to 4.96, 9.57, 14.31, 18.87 and 21.40 ohms, by differences 4.96, 4.61, 4.74, 4.56 and
2.53 a cut, and `VIA_OHM`, which is taken where a file has none, is about that of the lowest four. A via's metal counts
where no wire and no pin is; a pin's own metal is in the cell.

Each net is written as a tree from its driver, of the least resistances: half of a wire's capacitance lies at either
end. Where wires close a loop, the branch that does it carries its capacitance only.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nncosim.tb.errors import BenchError
from nncosim.tb.layout.def_file import RoutedBlock, RoutedNet, Segment
from nncosim.tb.layout.lef import Lef, Rect, Shape
from nncosim.tb.layout.nets import PORT

__all__ = ["VIA_OHM", "NetParasitics", "Resistor", "extract", "extract_net", "spef", "via_ohm"]

VIA_OHM = 4.8
"""Of one cut between two metals, where the LEF file states nothing."""

_JOINED = 0.01  # ohms between two pins whose metal touches

_NEAR = 1000  # nm: farther apart, the metal of two points does not touch
_TILE = 20000  # nm

Point = tuple[str, int, int]
"""Layer, x, y."""


@dataclass(frozen=True)
class Resistor:
    """Between two nodes of a net, in ohms."""

    one: str
    other: str
    ohm: float


@dataclass
class NetParasitics:
    """A net as SPEF has it. Nodes are ``net:1`` and the like, ``instance:PIN``, or a port's name.

    Attributes:
        driver: its node.
        pins: node of each pin to (instance, pin).
        capacitances: in fF by node.
        resistors: a tree.
        lengths: layer to um of wire.
        vias: how many.
        loops: branches that closed one.
    """

    driver: str
    pins: dict[str, tuple[str, str]]
    capacitances: dict[str, float] = field(default_factory=dict)
    resistors: list[Resistor] = field(default_factory=list)
    lengths: dict[str, float] = field(default_factory=dict)
    vias: int = 0
    loops: int = 0

    @property
    def capacitance(self) -> float:
        """Of its wires, in fF."""
        return sum(self.capacitances.values())


def extract(block: RoutedBlock, lef: Lef, drivers: Mapping[str, tuple[str, str]]) -> dict[str, NetParasitics]:
    """All nets of a block. `drivers`: net to the pin that drives it.

    Raises:
        BenchError: a net's wires do not join all of its pins; names some.
    """
    found = {}
    for name, net in block.nets.items():
        metal = {pin: block.metal(lef, *pin) for pin in net.pins}
        found[name] = extract_net(name, net, metal, lef, drivers[name])
    return found


def extract_net(name: str, net: RoutedNet, metal: Mapping[tuple[str, str], tuple[Shape, ...]], lef: Lef,
                driver: tuple[str, str]) -> NetParasitics:
    """One net. `metal`: of each of its pins.

    Raises:
        BenchError: as `extract`.
    """
    graph = _Graph(net, lef)
    for pin, shapes in metal.items():
        graph.attach(pin, shapes)
    return graph.tree(name, driver)


def via_ohm(lef: Lef, via: str) -> float:
    """Of a via, in ohms: what the LEF file states, or `VIA_OHM` for each of its cuts, side by side."""
    return lef.ohms[via] if via in lef.ohms else VIA_OHM / lef.cuts_of(via)


def _node(pin: tuple[str, str]) -> str:
    return pin[1] if pin[0] == PORT else f"{pin[0]}:{pin[1]}"


class _Graph:
    """Points of a net's wires, and what lies between them: resistance, capacitance."""

    def __init__(self, net: RoutedNet, lef: Lef):
        self._net, self._lef = net, lef
        self._pads: dict[Point, list[Rect]] = defaultdict(list)  # metal of vias
        self._points: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self._cuts: list[tuple[Point, Point, float]] = []
        self._pins: dict[tuple[str, str], set[Point]] = {}
        for via in net.vias:
            shapes = [shape for shape in lef.vias[via.name] if shape.layer in lef.layers]
            for shape in shapes:
                self._pads[shape.layer, via.x, via.y].append(shape.rect.moved(via.x, via.y))
                self._points[shape.layer].add((via.x, via.y))
            lower, upper = (shape.layer for shape in shapes)
            self._cuts.append(((lower, via.x, via.y), (upper, via.x, via.y), via_ohm(lef, via.name)))
        for segment in net.segments:
            self._points[segment.layer] |= {(segment.x0, segment.y0), (segment.x1, segment.y1)}
        for layer, points in self._points.items():
            points |= self._meetings(layer)

    def _metal(self, layer: str, x: int, y: int) -> list[Rect]:
        """That of a wire that ends at a point, and of vias there."""
        half = self._lef.layers[layer].width // 2
        return [Rect(x - half, y - half, x + half, y + half), *self._pads.get((layer, x, y), ())]

    def _meetings(self, layer: str) -> set[tuple[int, int]]:
        """Where the middles of a layer's wires pass the ends of others and vias that they touch. These need not lie on
        them: qrouter moves vias off the tracks where a pin asks for it."""
        found = set()
        tiles: dict[tuple[int, int], list[tuple[Segment, Rect]]] = defaultdict(list)
        for wire in self._net.segments:
            if wire.layer == layer:
                for tile in _tiles(wire.rect):
                    tiles[tile].append((wire, wire.rect))
        for x, y in self._points[layer]:
            for metal in self._metal(layer, x, y):
                near = {id(each): each for tile in _tiles(metal) for each in tiles.get(tile, ())}
                found |= {_nearest(wire, x, y) for wire, rect in near.values() if metal.touches(rect)}
        for wires in tiles.values():
            flat = [(wire, rect) for wire, rect in wires if wire.y0 == wire.y1]
            for upright, there in wires:
                if upright.x0 == upright.x1:
                    for across, rect in flat:
                        if there.touches(rect):
                            found |= {_nearest(upright, across.x0, across.y0), _nearest(across, upright.x0, upright.y0)}
        return found

    def _joined(self) -> dict[Point, Point]:
        """Each point to the first of those that it is one with: on a layer, and so near that their metal touches."""
        first: dict[Point, Point] = {}

        def root(point: Point) -> Point:
            while first[point] != point:
                point = first[point]
            return point

        for layer, points in self._points.items():
            earlier: list[tuple[int, int]] = []
            for x, y in sorted(points):
                first[layer, x, y] = (layer, x, y)
                while earlier and x - earlier[0][0] > _NEAR:
                    earlier.pop(0)
                for other in earlier:
                    if abs(other[1] - y) <= _NEAR and any(
                            one.touches(two) for one in self._metal(layer, x, y) for two in self._metal(layer, *other)):
                        first[root((layer, x, y))] = root((layer, *other))
                earlier.append((x, y))
        return {point: root(point) for point in first}

    def attach(self, pin: tuple[str, str], shapes: tuple[Shape, ...]) -> None:
        """A pin is one node with all points whose metal touches its own; with none, the nearest of a wire that does."""
        touched: set[Point] = set()
        for layer, rect in shapes:
            for x, y in self._points.get(layer, ()):
                if any(each.touches(rect) for each in self._metal(layer, x, y)):
                    touched.add((layer, x, y))
        if not touched:
            for layer, rect in shapes:
                for wire in self._net.segments:
                    if wire.layer == layer and wire.rect.touches(rect):
                        x, y = _nearest(wire, (rect.x0 + rect.x1) // 2, (rect.y0 + rect.y1) // 2)
                        self._points[layer].add((x, y))
                        touched.add((layer, x, y))
        self._pins[pin] = touched

    def _pieces(self) -> dict[tuple[Point, Point], int]:
        """The wires between neighbouring points, each once, with its width."""
        pieces: dict[tuple[Point, Point], int] = {}
        for wire in self._net.segments:
            box = Rect(min(wire.x0, wire.x1), min(wire.y0, wire.y1), max(wire.x0, wire.x1), max(wire.y0, wire.y1))
            on_it = sorted(point for point in self._points[wire.layer] if box.holds(*point))
            for one, other in itertools.pairwise(on_it):
                key = (wire.layer, *one), (wire.layer, *other)
                pieces[key] = max(pieces.get(key, 0), wire.width)
        return pieces

    def tree(self, name: str, driver: tuple[str, str]) -> NetParasitics:
        result = NetParasitics(_node(driver), {_node(pin): pin for pin in self._pins}, vias=len(self._net.vias))
        node_of = self._names(name)
        branches: dict[str, list[tuple[float, str]]] = defaultdict(list)
        loads: dict[str, float] = defaultdict(float)
        lengths: dict[str, float] = defaultdict(float)
        count = 0

        def join(one: str, other: str, ohm: float) -> None:
            branches[one].append((ohm, other))
            branches[other].append((ohm, one))

        wired: set[Point] = set()
        for (one, other), width in self._pieces().items():
            layer = self._lef.layers[one[0]]
            length, wide = (abs(one[1] - other[1]) + abs(one[2] - other[2])) / 1000, width / 1000
            lengths[layer.name] += length
            wired |= {one, other}
            for point in (one, other):
                loads[node_of[point]] += (layer.area * wide + 2 * layer.edge) * length / 2
            if node_of[one] != node_of[other]:
                count += 1
                join(node_of[one], node_of[other], layer.ohm * length / wide)
        for one, other, ohm in self._cuts:
            if node_of[one] != node_of[other]:
                count += 1
                join(node_of[one], node_of[other], ohm)
        on_pins = set().union(*self._pins.values())
        for point, pads in self._pads.items():
            if point not in wired and point not in on_pins:
                loads[node_of[point]] += _pad(pads[0], self._lef.layers[point[0]].area, self._lef.layers[point[0]].edge)
        for pin, points in self._pins.items():
            for other_node in {node_of[point] for point in points} - {_node(pin)}:
                count += 1
                join(_node(pin), other_node, _JOINED)
        result.lengths = dict(lengths)
        self._grow(name, result, branches, loads)
        result.loops = count - len(result.resistors)
        return result

    def _names(self, name: str) -> dict[Point, str]:
        """Points to nodes: those that are joined, and those of a pin, are one."""
        first = self._joined()
        names: dict[Point, str] = {}
        for pin, points in self._pins.items():
            for point in sorted(points):
                names.setdefault(first[point], _node(pin))
        for point in sorted(first.values()):
            names.setdefault(point, f"{name}:{len(names) + 1}")
        return {point: names[joined] for point, joined in first.items()}

    def _grow(self, name: str, result: NetParasitics, branches: Mapping[str, list[tuple[float, str]]],
              loads: Mapping[str, float]) -> None:
        """The tree of least resistances from the driver."""
        reached: set[str] = set()
        todo: list[tuple[float, str, str, float]] = [(0.0, result.driver, "", 0.0)]
        while todo:
            far, node, before, ohm = heapq.heappop(todo)
            if node in reached:
                continue
            reached.add(node)
            if before:
                result.resistors.append(Resistor(before, node, ohm))
            for step, following in branches.get(node, ()):
                if following not in reached:
                    heapq.heappush(todo, (far + step, following, node, step))
        lost = [node for node in result.pins if node not in reached]
        if lost:
            raise BenchError(f"net {name} is open: its wires do not join {', '.join(lost[:5])} to {result.driver}")
        result.capacitances = {node: load for node, load in loads.items() if node in reached}
        adrift = [node for node in loads if node not in reached]
        if adrift:
            raise BenchError(f"net {name} has wires that are not joined to its pins, at {len(adrift)} points")


def _pad(rect: Rect, area: float, edge: float) -> float:
    wide, high = (rect.x1 - rect.x0) / 1000, (rect.y1 - rect.y0) / 1000
    return area * wide * high + edge * 2 * (wide + high)


def _tiles(rect: Rect) -> Iterator[tuple[int, int]]:
    """Squares that a rectangle lies in: what touches it lies in one of them too."""
    for x in range(rect.x0 // _TILE, rect.x1 // _TILE + 1):
        for y in range(rect.y0 // _TILE, rect.y1 // _TILE + 1):
            yield x, y


def _nearest(wire: Segment, x: int, y: int) -> tuple[int, int]:
    """The point of a wire's middle that is nearest to a point."""
    left, right = sorted((wire.x0, wire.x1))
    low, high = sorted((wire.y0, wire.y1))
    return min(max(x, left), right), min(max(y, low), high)


def spef(top: str, nets: Mapping[str, NetParasitics], directions: Mapping[tuple[str, str], str],
         ports: Mapping[str, str]) -> Iterator[str]:
    """Lines of a SPEF file (IEEE 1481-1999).

    Args:
        directions: of each pin, (instance, pin), "I" or "O" as its cell sees it; of a port as the block does.
        ports: port to "I" or "O", in order.
    """
    yield from ('*SPEF "IEEE 1481-1998"', f'*DESIGN "{top}"', '*DATE ""', '*VENDOR ""', '*PROGRAM "nncosim"',
                '*VERSION "1"', '*DESIGN_FLOW "NETLIST_TYPE_VERILOG"', "*DIVIDER /", "*DELIMITER :",
                "*BUS_DELIMITER [ ]", "*T_UNIT 1 NS", "*C_UNIT 1 FF", "*R_UNIT 1 OHM", "*L_UNIT 1 HENRY", "", "*PORTS")
    yield from (f"{port} {direction}" for port, direction in ports.items())
    for name, net in nets.items():
        yield ""
        yield f"*D_NET {name} {net.capacitance:.6f}"
        yield "*CONN"
        for node, pin in net.pins.items():
            yield f"{'*P' if pin[0] == PORT else '*I'} {node} {directions[pin]}"
        yield "*CAP"
        for number, (node, load) in enumerate(net.capacitances.items()):
            yield f"{number + 1} {node} {load:.6f}"
        yield "*RES"
        for number, each in enumerate(net.resistors):
            yield f"{number + 1} {each.one} {each.other} {each.ohm:.4f}"
        yield "*END"
