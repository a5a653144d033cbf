# SPDX-License-Identifier: Apache-2.0
"""A picture of a layout, as SVG: cells, wires by layer, ports; a legend, the size and a scale bar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from html import escape

from nncosim.tb.layout.def_file import RoutedBlock
from nncosim.tb.layout.lef import Lef, Rect

__all__ = ["svg"]

_WIRES = ("#4c72b0", "#c44e52", "#2f9e5b", "#8a5fb4", "#d98324", "#7a7a7a")
"""Of layers from the bottom."""
_LOGIC, _STORAGE, _FILL, _EDGE, _TEXT = "#e8ecf4", "#fbe3b4", "#f7f7f7", "#b9c0cc", "#222222"
_WIDTH = 900  # of the drawing in pixels; the legend is beside it
_LEGEND = 190
_MARGIN = 28


def svg(block: RoutedBlock, lef: Lef, storage: Collection[str], title: str) -> Iterator[str]:
    """Lines of an SVG file.

    Args:
        storage: kinds of cells that hold a bit: they have a colour of their own.
        title: a line above the picture.
    """
    die = block.die
    wide, high = (die.x1 - die.x0) / 1000, (die.y1 - die.y0) / 1000
    scale = _WIDTH / wide
    height = high * scale
    total = _WIDTH + _LEGEND + 3 * _MARGIN, max(height, 330) + 3 * _MARGIN
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{total[0]:.0f}" height="{total[1]:.0f}" '
           f'viewBox="0 0 {total[0]:.0f} {total[1]:.0f}" font-family="sans-serif" font-size="13" fill="{_TEXT}">')
    yield f'<rect width="100%" height="100%" fill="#ffffff"/><text x="{_MARGIN}" y="{_MARGIN}">{escape(title)}</text>'
    # Inside, lengths are um from the lower left corner, upwards.
    yield (f'<g transform="translate({_MARGIN} {1.6 * _MARGIN + height:.2f}) scale({scale:.5f} {-scale:.5f}) '
           f'translate({-die.x0 / 1000:g} {-die.y0 / 1000:g})">')
    yield (f'<rect x="{die.x0 / 1000:g}" y="{die.y0 / 1000:g}" width="{wide:g}" height="{high:g}" fill="#ffffff" '
           f'stroke="{_EDGE}" stroke-width="{1 / scale:.3f}"/>')
    yield from _cells(block, lef, storage, 0.5 / scale)
    drawn = {}
    for layer, colour, path in _wires(block, lef):
        drawn[layer] = colour
        yield path
    yield from _ports(block, 3 / scale)
    yield "</g>"
    yield from _legend(drawn, storage, _WIDTH + 2 * _MARGIN, 2 * _MARGIN, wide, high, scale)
    yield "</svg>"


def _box(rect: Rect) -> str:
    x, y = rect.x0 / 1000, rect.y0 / 1000
    return f"M{x:g} {y:g}h{(rect.x1 - rect.x0) / 1000:g}v{(rect.y1 - rect.y0) / 1000:g}h{(rect.x0 - rect.x1) / 1000:g}z"


def _cells(block: RoutedBlock, lef: Lef, storage: Collection[str], line: float) -> Iterator[str]:
    filler = lef.filler()
    boxes: dict[str, list[str]] = {_FILL: [], _LOGIC: [], _STORAGE: []}
    for placed in block.cells.values():
        cell = lef.cells[placed.cell]
        colour = _STORAGE if cell.name in storage else _FILL if cell == filler else _LOGIC
        boxes[colour].append(_box(Rect(placed.x, placed.y, placed.x + cell.width, placed.y + cell.height)))
    for colour, paths in boxes.items():
        yield f'<path d="{"".join(paths)}" fill="{colour}" stroke="{_EDGE}" stroke-width="{line:.3f}"/>'


def _wires(block: RoutedBlock, lef: Lef) -> Iterator[tuple[str, str, str]]:
    """Layer, its colour, and a path of its wires of one width, from the bottom up."""
    lines: dict[tuple[str, int, bool], list[str]] = defaultdict(list)
    for net in block.nets.values():
        for wire in net.segments:
            lines[wire.layer, wire.width, wire.extended].append(
                f"M{wire.x0 / 1000:g} {wire.y0 / 1000:g}L{wire.x1 / 1000:g} {wire.y1 / 1000:g}")
    for number, layer in enumerate(lef.layers):
        colour = _WIRES[number % len(_WIRES)]
        for (name, width, extended), paths in sorted(lines.items()):
            if name == layer:
                yield name, colour, (
                    f'<path d="{"".join(paths)}" fill="none" stroke="{colour}" stroke-opacity="0.8" '
                    f'stroke-width="{width / 1000:g}" stroke-linecap="{"square" if extended else "butt"}"/>')


def _ports(block: RoutedBlock, least: float) -> Iterator[str]:
    for name, (_, rect) in block.ports.items():
        x, y = (rect.x0 + rect.x1) / 2000, (rect.y0 + rect.y1) / 2000
        half = max(least, (rect.x1 - rect.x0) / 1000) / 2
        yield (f'<rect x="{x - half:.3f}" y="{y - half:.3f}" width="{2 * half:.3f}" height="{2 * half:.3f}" '
               f'fill="{_TEXT}"><title>{escape(name)}</title></rect>')


def _legend(drawn: dict[str, str], storage: Collection[str], x: float, y: float, wide: float, high: float,
            scale: float) -> Iterator[str]:
    entries = [("logic cell", _LOGIC), ("flip-flop or latch", _STORAGE), ("filler", _FILL), *drawn.items(),
               ("port", _TEXT)]
    for number, (text, colour) in enumerate(entries):
        top = y + 22 * number
        yield (f'<rect x="{x}" y="{top}" width="16" height="12" fill="{colour}" stroke="{_EDGE}"/>'
               f'<text x="{x + 24}" y="{top + 11}">{escape(text)}</text>')
    top = y + 22 * len(entries) + 24
    yield f'<text x="{x}" y="{top}">{wide:.1f} x {high:.1f} um</text>'
    bar = max(length for length in (1, 2, 5, 10, 20, 50, 100, 200, 500) if length <= wide / 5 or length == 1)
    yield (f'<path d="M{x} {top + 18}v6h{bar * scale:.2f}v-6" fill="none" stroke="{_TEXT}"/>'
           f'<text x="{x}" y="{top + 42}">{bar} um</text>')
