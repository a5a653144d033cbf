# SPDX-License-Identifier: Apache-2.0
"""A LEF file: the routing layers with their parasitics, the vias, and where the pins of each cell are.

Lengths are integers in nm. Only what placing, routing and extraction ask for is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from nncosim.tb.errors import BenchError

__all__ = ["ORIENTATIONS", "Layer", "Lef", "LefCell", "LefPin", "Rect", "Shape", "read_lef", "turned"]

ORIENTATIONS = ("N", "FS", "FN", "S")
"""Of cells in rows: as drawn, mirrored upside down, mirrored left to right, and both."""


class Rect(NamedTuple):
    """A rectangle: left, bottom, right, top."""

    x0: int
    y0: int
    x1: int
    y1: int

    def moved(self, x: int, y: int) -> Rect:
        return Rect(self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y)

    def touches(self, other: Rect) -> bool:
        """Whether the two have a point in common."""
        return self.x0 <= other.x1 and other.x0 <= self.x1 and self.y0 <= other.y1 and other.y0 <= self.y1

    def holds(self, x: int, y: int) -> bool:
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1


class Shape(NamedTuple):
    """Metal of a layer, or a cut."""

    layer: str
    rect: Rect


@dataclass(frozen=True)
class Layer:
    """A routing layer.

    Attributes:
        horizontal: its preferred direction.
        pitch, offset, width, spacing: of its tracks and wires.
        ohm: resistance of a square.
        area: capacitance in fF/um2 (CPERSQDIST).
        edge: capacitance in fF/um of one of a wire's edges (EDGECAPACITANCE).
    """

    name: str
    horizontal: bool
    pitch: int
    offset: int
    width: int
    spacing: int
    ohm: float
    area: float
    edge: float


@dataclass(frozen=True)
class LefPin:
    """A pin of a cell. `use`: "SIGNAL", "CLOCK", "POWER", "GROUND"."""

    name: str
    direction: str
    use: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class LefCell:
    """A cell; its lower left corner is 0, 0. `obstructions`: metal in it that is no pin's."""

    name: str
    width: int
    height: int
    pins: Mapping[str, LefPin] = field(repr=False)
    obstructions: tuple[Shape, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Lef:
    """`layers`: those to route on, from the bottom. `cuts`: layers of vias between them. `vias`: shapes around 0, 0.
    `site`: width of the place that a cell's width is a multiple of. `ohms`: resistance of those vias of which the file
    states it."""

    layers: Mapping[str, Layer]
    cuts: tuple[str, ...]
    vias: Mapping[str, tuple[Shape, ...]]
    cells: Mapping[str, LefCell] = field(repr=False)
    site: int = 0
    ohms: Mapping[str, float] = field(default_factory=dict)

    def cuts_of(self, via: str) -> int:
        """How many a via has, side by side; 1 where none is drawn."""
        return max(1, sum(shape.layer in self.cuts for shape in self.vias[via]))

    def filler(self) -> LefCell | None:
        """The narrowest cell that has no pins but those of the supply."""
        empty = [cell for cell in self.cells.values()
                 if all(pin.use in ("POWER", "GROUND") for pin in cell.pins.values())]  # fmt: skip
        return min(empty, key=lambda cell: (cell.width, cell.name), default=None)


def turned(rect: Rect, cell: LefCell, orientation: str) -> Rect:
    """A rectangle of a cell that lies in an orientation, its lower left corner still at 0, 0."""
    x0, y0, x1, y1 = rect
    if orientation in ("FN", "S"):
        x0, x1 = cell.width - x1, cell.width - x0
    if orientation in ("FS", "S"):
        y0, y1 = cell.height - y1, cell.height - y0
    return Rect(x0, y0, x1, y1)


def read_lef(path: Path) -> Lef:
    """Technology and cells of a LEF file.

    Raises:
        BenchError: it cannot be read, is broken off, has no routing layers, vias or cells, or a routing layer without
            resistance or capacitance: its wires would cost nothing.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise BenchError(f"cannot read the LEF file {path}: {error.strerror}") from None
    try:
        lef = _Reader(re.sub(r"#[^\n]*", "", text).split()).file()
    except (StopIteration, RuntimeError):
        raise BenchError(f"LEF file {path}: it ends within a statement") from None
    except (ValueError, IndexError, KeyError) as error:
        raise BenchError(f"LEF file {path}: it is out of form ({error})") from None
    missing = [what for what, found in (("routing layer with pitch, width and spacing", lef.layers),
                                        ("via", lef.vias), ("cell", lef.cells)) if not found]  # fmt: skip
    if missing:
        raise BenchError(f"LEF file {path}: it has no {missing[0]}")
    return lef


def _nm(text: str) -> int:
    return round(float(text) * 1000)


def _ohm(text: str) -> float:
    if (ohm := float(text)) < 0:
        raise ValueError(f"a resistance of {text} ohms")
    return ohm


def _via_ohms(lef: Lef, stated: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Of vias: their own resistance, or that of one cut of their layer, of which several conduct side by side."""
    for name, shapes in lef.vias.items():
        cuts = [shape.layer for shape in shapes if shape.layer in lef.cuts and shape.layer in stated]
        if name in stated:
            yield name, stated[name]
        elif cuts:
            yield name, stated[cuts[0]] / lef.cuts_of(name)


class _Reader:
    """Statements are words up to a semicolon; blocks end with END and their name."""

    def __init__(self, words: list[str]):
        self._words = iter(words)

    def _statement(self, first: str) -> list[str]:
        words = [first]
        while words[-1] != ";":
            words.append(next(self._words))
        return words[:-1]

    def _block(self, name: str) -> Iterator[str]:
        """First word of each statement up to ``END name``; of a block without a name, up to END."""
        while True:
            word = next(self._words)
            if word == "END":
                if name and (ended := next(self._words)) != name:
                    raise ValueError(f"END {ended} within {name}")
                return
            yield word

    def file(self) -> Lef:
        layers: dict[str, Layer] = {}
        cuts: list[str] = []
        vias: dict[str, tuple[Shape, ...]] = {}
        cells: dict[str, LefCell] = {}
        ohms: dict[str, float] = {}
        site = 0
        for word in self._words:
            if word == "END":  # LIBRARY
                break
            if word in ("UNITS", "PROPERTYDEFINITIONS", "SPACING"):
                for inner in self._block(word):
                    self._statement(inner)
            elif word == "LAYER":
                self._layer(next(self._words), layers, cuts, ohms)
            elif word == "VIA":
                name = next(self._words)
                vias[name] = tuple(self._shapes(name, ohms))
            elif word == "VIARULE":
                self._skip(next(self._words))
            elif word == "SITE":
                size = self._site(next(self._words))
                site = site or size
            elif word == "MACRO":
                cell = self._cell(next(self._words))
                cells[cell.name] = cell
            else:
                self._statement(word)
        lef = Lef(layers, tuple(cuts), vias, cells, site)
        return replace(lef, ohms=dict(_via_ohms(lef, ohms)))

    def _skip(self, name: str) -> None:
        for word in self._words:
            if word == "END" and next(self._words) == name:
                return

    def _site(self, name: str) -> int:
        size = 0
        for word in self._block(name):
            statement = self._statement(word)
            if word == "SIZE":
                size = _nm(statement[1])
        return size

    def _layer(self, name: str, layers: dict[str, Layer], cuts: list[str], ohms: dict[str, float]) -> None:
        said: dict[str, str] = {}
        for word in self._block(name):
            words = self._statement(word)
            said.setdefault(word, words[-1])
            said.setdefault(f"{word} X", words[1] if len(words) > 1 else "")
        if said.get("TYPE") == "CUT":
            cuts.append(name)
            if "RESISTANCE" in said:
                ohms[name] = _ohm(said["RESISTANCE"])
        elif said.get("TYPE") == "ROUTING" and {"PITCH", "WIDTH", "SPACING"} <= said.keys():
            if absent := [word for word in ("RESISTANCE", "CAPACITANCE") if word not in said]:
                raise ValueError(f"layer {name} has no {' and no '.join(absent)}")
            horizontal = said.get("DIRECTION") == "HORIZONTAL"
            axis = "" if horizontal else " X"  # LEF 5.7 may give both pitches and offsets: of standing tracks first
            pitch = _nm(said[f"PITCH{axis}"])
            offset = _nm(said[f"OFFSET{axis}"]) if "OFFSET" in said else pitch // 2
            layers[name] = Layer(
                name, horizontal, pitch, offset, _nm(said["WIDTH"]), _nm(said["SPACING"]),
                float(said["RESISTANCE"]), 1000 * float(said["CAPACITANCE"]),
                1000 * float(said.get("EDGECAPACITANCE", 0)))

    def _shapes(self, name: str, ohms: dict[str, float] | None = None) -> Iterator[Shape]:
        """`ohms`: is told a via's resistance."""
        layer = ""
        for word in self._block(name):
            if word in ("DEFAULT", "GENERATED", "TOPOFSTACKONLY"):  # behind a via's name, without a semicolon
                continue
            statement = self._statement(word)
            if word == "LAYER":
                layer = statement[1]
            elif word == "RECT":
                yield Shape(layer, Rect(*(_nm(number) for number in statement[-4:])))
            elif word == "RESISTANCE" and ohms is not None:
                ohms[name] = _ohm(statement[1])

    def _cell(self, name: str) -> LefCell:
        width = height = x = y = 0
        pins: dict[str, LefPin] = {}
        obstructions: list[Shape] = []
        for word in self._block(name):
            if word == "PIN":
                pin = self._pin(next(self._words))
                pins[pin.name] = pin
            elif word == "OBS":
                obstructions += self._shapes("")
            else:
                statement = self._statement(word)
                if word == "SIZE":
                    width, height = _nm(statement[1]), _nm(statement[3])
                elif word == "ORIGIN":
                    x, y = _nm(statement[1]), _nm(statement[2])
        def placed(shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
            return tuple(Shape(shape.layer, shape.rect.moved(x, y)) for shape in shapes)

        moved = {pin.name: LefPin(pin.name, pin.direction, pin.use, placed(pin.shapes)) for pin in pins.values()}
        return LefCell(name, width, height, moved, placed(tuple(obstructions)))

    def _pin(self, name: str) -> LefPin:
        direction, use = "INPUT", "SIGNAL"
        shapes: list[Shape] = []
        for word in self._block(name):
            if word == "PORT":
                shapes += self._shapes("")
                continue
            statement = self._statement(word)
            if word == "DIRECTION":
                direction = statement[1]
            elif word == "USE":
                use = statement[1]
        return LefPin(name, direction, use, tuple(shapes))
