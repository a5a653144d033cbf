# SPDX-License-Identifier: Apache-2.0
"""A routed DEF file: cells and ports in their places, and the wires of each net. Lengths in nm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.layout.lef import ORIENTATIONS, Lef, Rect, Shape, turned
from nncosim.tb.layout.nets import PORT
from nncosim.tb.layout.placement import Placed

__all__ = ["RoutedBlock", "RoutedNet", "Segment", "Via", "read_def"]


@dataclass(frozen=True)
class Segment:
    """A wire from one point to another along its middle. `extended`: its metal goes half its width beyond both ends."""

    layer: str
    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    extended: bool = True

    @property
    def length(self) -> int:
        return abs(self.x1 - self.x0) + abs(self.y1 - self.y0)

    @property
    def rect(self) -> Rect:
        """Its metal."""
        half = self.width // 2
        along = half if self.extended else 0
        dx, dy = (along, half) if self.y0 == self.y1 else (half, along)
        return Rect(min(self.x0, self.x1) - dx, min(self.y0, self.y1) - dy,
                    max(self.x0, self.x1) + dx, max(self.y0, self.y1) + dy)


@dataclass(frozen=True)
class Via:
    """A via of the LEF file, at a point."""

    name: str
    x: int
    y: int


@dataclass
class RoutedNet:
    """`pins`: instance and pin, or `nncosim.tb.layout.nets.PORT` and port."""

    pins: tuple[tuple[str, str], ...] = ()
    segments: list[Segment] = field(default_factory=list)
    vias: list[Via] = field(default_factory=list)


@dataclass
class RoutedBlock:
    """A block as it is laid out. `ports`: metal of each."""

    top: str = ""
    die: Rect = field(default_factory=lambda: Rect(0, 0, 0, 0))
    cells: dict[str, Placed] = field(default_factory=dict)
    ports: dict[str, Shape] = field(default_factory=dict)
    nets: dict[str, RoutedNet] = field(default_factory=dict)

    def metal(self, lef: Lef, instance: str, pin: str) -> tuple[Shape, ...]:
        """Of a pin, where it lies.

        Raises:
            KeyError: there is no such pin.
        """
        if instance == PORT:
            return (self.ports[pin],)
        placed = self.cells[instance]
        cell = lef.cells[placed.cell]
        return tuple(Shape(shape.layer, turned(shape.rect, cell, placed.orientation).moved(placed.x, placed.y))
                     for shape in cell.pins[pin].shapes)


def read_def(path: Path, lef: Lef) -> RoutedBlock:
    """The block of a DEF file.

    Raises:
        BenchError: it cannot be read, is broken off or out of form, or has a layer, via or cell that the LEF file does
            not have.
    """
    try:
        words = path.read_text(errors="replace").split()
    except OSError as error:
        raise BenchError(f"cannot read the DEF file {path}: {error.strerror}") from None
    try:
        return _Reader(words, lef).block
    except IndexError:
        raise BenchError(f"DEF file {path}: it ends within a statement") from None
    except (ValueError, KeyError) as error:
        raise BenchError(f"DEF file {path}: it is out of form ({error})") from None


class _Reader:
    def __init__(self, words: list[str], lef: Lef):
        self._words, self._at, self._lef = words, 0, lef
        self._scale = 1.0
        self.block = RoutedBlock()
        sections: Mapping[str, Callable[[list[str]], None]] = {
            "COMPONENTS": self._component, "PINS": self._pin, "NETS": self._net,
            "SPECIALNETS": lambda words: self._net(words, special=True)}
        ended = False
        while not ended:
            statement = self._statement()
            match statement:
                case ["END", "DESIGN", *_]:
                    ended = True
                case ["DESIGN", name]:
                    self.block.top = name
                case ["UNITS", "DISTANCE", "MICRONS", units]:
                    self._scale = 1000 / float(units)
                case ["DIEAREA", *_]:
                    corners = [self._nm(word) for word in statement[1:] if word not in "()"]
                    self.block.die = Rect(*corners)
                case [section, _] if section in sections:
                    self._section(section, sections[section])

    def _statement(self) -> list[str]:
        begin = self._at
        if self._words[begin:begin + 2] == ["END", "DESIGN"]:
            return ["END", "DESIGN"]
        if self._words[begin] == "END":  # of a section: without a semicolon
            self._at += 2
            return self._words[begin:self._at]
        while self._words[self._at] != ";":
            self._at += 1
        self._at += 1
        return self._words[begin:self._at - 1]

    def _section(self, name: str, take: Callable[[list[str]], None]) -> None:
        while (words := self._statement())[0] == "-":
            take(words[1:])
        if words != ["END", name]:
            raise ValueError(f"{' '.join(words[:4])} within {name}")

    def _nm(self, word: str) -> int:
        return round(float(word) * self._scale)

    def _component(self, words: list[str]) -> None:
        name, cell, *rest = words
        if cell not in self._lef.cells:
            raise ValueError(f"cell {cell} of {name} is not in the LEF file")
        at = next(k for k, word in enumerate(rest) if word in ("PLACED", "FIXED"))
        orientation = rest[at + 5]
        if orientation not in ORIENTATIONS:
            raise ValueError(f"{name} lies {orientation}; cells in rows lie {', '.join(ORIENTATIONS)}")
        self.block.cells[name] = Placed(cell, self._nm(rest[at + 2]), self._nm(rest[at + 3]), orientation)

    def _pin(self, words: list[str]) -> None:
        layer, placed = words.index("LAYER"), next(k for k, word in enumerate(words) if word in ("PLACED", "FIXED"))
        rect = Rect(*(self._nm(words[layer + k]) for k in (3, 4, 7, 8)))
        self.block.ports[words[0]] = Shape(
            self._known(words[layer + 1]), rect.moved(self._nm(words[placed + 2]), self._nm(words[placed + 3])))

    def _known(self, layer: str) -> str:
        if layer not in self._lef.layers:
            raise ValueError(f"layer {layer} is not in the LEF file")
        return layer

    def _net(self, words: list[str], special: bool = False) -> None:
        net = self.block.nets.setdefault(words[0], RoutedNet())
        end = next((k for k, word in enumerate(words) if word == "+"), len(words))
        pins = [word for word in words[1:end] if word not in "()"]
        if not special:
            net.pins = tuple(zip(pins[::2], pins[1::2], strict=True))
        routed = next((k + 2 for k in range(end, len(words) - 1) if words[k + 1] in ("ROUTED", "FIXED")), None)
        if routed is not None:
            self._wires(net, words[routed:], special)

    def _wires(self, net: RoutedNet, words: list[str], special: bool) -> None:
        """``LAYER [WIDTH] ( x y ) ( x * ) VIA NEW LAYER ...``: a star is the value before."""
        at, layer, width, last = 0, "", 0, None
        while at < len(words):
            word = words[at]
            if word == "+":
                return
            if word == "(":
                close = words.index(")", at)
                x, y = ((last[axis] if word == "*" and last else self._nm(word))
                        for axis, word in enumerate(words[at + 1:at + 3]))
                if last is not None and (x, y) != last:
                    net.segments.append(Segment(layer, *last, x, y, width, not special))
                last, at = (x, y), close + 1
            elif word in self._lef.vias and last is not None:
                net.vias.append(Via(word, *last))
                at += 1
            elif not layer or word == "NEW":
                at += word == "NEW"
                layer, last = self._known(words[at]), None
                width = self._nm(words[at + 1]) if special else self._lef.layers[layer].width
                at += 2 if special else 1
            else:
                raise ValueError(f"{word} within a wire")
