# SPDX-License-Identifier: Apache-2.0
"""The floor plan as SVG: which layer is where, how busy each tile was, what runs between tiles.

The page's style sheet colours it (class names below): `--c` is a group's colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import groupby, pairwise

from nncosim.tb.floor_plan import SHARED, FloorLink, FloorPlan, FloorTile, Point
from nncosim.tb.report.pages.colours import GROUP_COLOURS
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.floor_lanes import branches, lanes_of
from nncosim.tb.report.pages.labels import shortened
from nncosim.tb.report.pages.losses import spent

__all__ = ["FloorPicture", "GroupChip", "busy_share", "floor_plot", "group_chips"]

WIDE, HIGH, LEAST, MOST = 1400, 620, 36, 110
"""Pixels of all columns, of all rows, and of one at least and at most."""
SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares that a full tile may stand for, if not for all cycles."""
LOW = 0.6
"""Height of rows without a tile in a group, such as a shim's."""
LEFT, BELOW, EDGE = 92, 22, 2
"""Room for labels, and between a tile and its place's border."""
_CHARACTER = 6.4
_SHOWN = 8
"""Links of a tile that its hover names."""

_Place = Callable[[Point], tuple[float, float]]
"""Of a link's corner in a tile."""


@dataclass(frozen=True)
class GroupChip:
    """Of the legend. busy: mean share of its tiles; None: not known."""

    letter: str
    name: str
    colour: str
    tiles: int
    busy: float | None


def _cycles(run: Run, tile: FloorTile) -> dict[str, int]:
    """Of a tile by cause, "busy" among them; {} where nothing is recorded of it."""
    engine = next((activity for activity in run.activities if tile.engine and activity.engine == tile.engine), None)
    return {} if engine is None else spent(engine, 0, run.end)


def busy_share(run: Run, tile: FloorTile) -> float | None:
    """Of the inference's cycles."""
    cycles = _cycles(run, tile)
    return cycles.get("busy", 0) / run.end if cycles else None


def _colour(plan: FloorPlan, group: str) -> str:
    return GROUP_COLOURS[plan.groups.index(group) % len(GROUP_COLOURS)]


def group_chips(run: Run) -> list[GroupChip]:
    """Groups that have tiles."""
    plan, found = run.floor_plan, []
    if plan is None:
        return []
    for group in plan.groups:
        tiles = [tile for tile in plan.tiles if tile.group == group]
        shares = [share for tile in tiles if (share := busy_share(run, tile)) is not None]
        if tiles:
            found.append(GroupChip(plan.letter(group), group, _colour(plan, group), len(tiles),
                                   sum(shares) / len(shares) if shares else None))  # fmt: skip
    return found


@dataclass(frozen=True)
class _Drawing:
    """Of a plan, in pixels; y grows downward, rows upward."""

    run: Run
    plan: FloorPlan

    @cached_property
    def columns(self) -> int:
        """That are shown: those in use and one more, and so many that the picture is no tower."""
        return min(self.plan.columns, max(self.plan.used[0] + 1, 2 * self.plan.rows))

    @cached_property
    def tiles(self) -> list[FloorTile]:
        return [tile for tile in self.plan.tiles if tile.column < self.columns]

    @cached_property
    def cell(self) -> float:
        return max(LEAST, min(MOST, WIDE // self.columns, HIGH // self.plan.rows))

    @cached_property
    def scale(self) -> float:
        """Share of the cycles that a full tile stands for; 0 where none was busy, or none is known to be."""
        most = max((busy_share(self.run, tile) or 0.0 for tile in self.plan.tiles), default=0.0)
        return next((scale for scale in SCALES if most <= scale), 1.0) if most else 0.0

    @cached_property
    def heights(self) -> list[float]:
        """Of each row."""
        full = {tile.row for tile in self.plan.tiles if tile.group}
        kinds = {tile.kind for tile in self.plan.tiles if tile.row in full}
        full |= {tile.row for tile in self.plan.tiles if not kinds or tile.kind in kinds}
        return [self.cell if row in full else self.cell * LOW for row in range(self.plan.rows)]

    @property
    def size(self) -> tuple[float, float]:
        return LEFT + self.columns * self.cell + EDGE, sum(self.heights) + BELOW

    def corner(self, at: Point) -> tuple[float, float]:
        """Left and top of a place."""
        return LEFT + at[0] * self.cell, sum(self.heights[at[1] + 1:])

    def middle(self, at: Point) -> tuple[float, float]:
        left, top = self.corner(at)
        return left + self.cell / 2, top + self.heights[at[1]] / 2

    # ---- tiles

    def tile(self, tile: FloorTile) -> str:
        left, top = self.corner(tile.place)
        side, height = self.cell - 2 * EDGE, self.heights[tile.row] - 2 * EDGE
        share = busy_share(self.run, tile)
        style = f' style="--c: {_colour(self.plan, tile.group)}"' if tile.group else ""

        def box(name: str, part: float) -> str:
            return (f'<rect class="{name}" x="{left + EDGE:g}" y="{top + EDGE + height * (1 - part):.2f}" '
                    f'width="{side:g}" height="{height * part:.2f}"/>')  # fmt: skip

        level = box("level", share / self.scale) if share else ""
        kind = "tile" if tile.group else "tile free"
        name = escape(tile.name)
        return (f'<g class="{kind}" data-tile="{name}"{style}><title>{escape(self.tile_text(tile))}</title>'
                f"{box('box', 1)}{level}</g>")  # fmt: skip

    def tile_text(self, tile: FloorTile) -> str:
        lines = [f"{tile.name}: {tile.kind}, column {tile.column}, row {tile.row}"]
        lines += [f"{self.plan.letter(tile.group)} {tile.group}"] if tile.group else []
        cycles = dict(sorted(_cycles(self.run, tile).items(), key=lambda item: (item[0] != "busy", -item[1])))
        lines += [f"{cause}: {count:,} cycles ({count / self.run.end:.1%})" for cause, count in cycles.items()]
        for word, mine in (("takes", self.taken), ("gives", self.given)):
            names = mine.get(tile.place, [])
            more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
            lines += [f"{word} {name}" for name in names[:_SHOWN]] + more
        return "\n".join(lines)

    @cached_property
    def carriers(self) -> list[FloorLink]:
        """Links by which a tile's results go on."""
        return [link for link in self.plan.links if not link.direct or link.kind == SHARED]

    @cached_property
    def given(self) -> dict[Point, list[str]]:
        found: dict[Point, list[str]] = {}
        for link in self.carriers:
            found.setdefault(link.source, []).append(link.name)
        return found

    @cached_property
    def taken(self) -> dict[Point, list[str]]:
        found: dict[Point, list[str]] = {}
        for link in self.carriers:
            for target in link.targets:
                found.setdefault(target, []).append(link.name)
        return found

    @cached_property
    def streams(self) -> list[FloorLink]:
        return [link for link in self.plan.links if not link.direct]

    # ---- links

    def link_text(self, link: FloorLink) -> str:
        def named(at: Point) -> str:
            return f"{self.plan.at[at].name} ({at[0]},{at[1]})"

        lines = [f"{link.kind} {link.name}", link.text, f"from {named(link.source)}", "to " + ", ".join(
            map(named, link.targets))]  # fmt: skip
        return "\n".join(filter(None, lines))

    def arrows(self, link: FloorLink) -> str:
        """A direct link: over each border that it crosses, a triangle; behind that of a shared buffer, a box."""
        size = min(7.0, self.cell / 7)
        heads, boxes = [], []
        for a, b in (pair for way in link.ways for pair in pairwise(way)):
            x, y = ((p + q) / 2 for p, q in zip(self.middle(a), self.middle(b), strict=True))
            aside = self.cell * 0.3  # streams are in the middle
            x, y = (x, y + aside) if a[1] == b[1] else (x - aside, y)
            heads.append(self.head(x, y, (b[0] - a[0], a[1] - b[1]), size, ahead=size / 2))
            if link.kind == SHARED:
                x, y = x - (b[0] - a[0]) * 1.9 * size, y - (a[1] - b[1]) * 1.9 * size
                boxes.append(f'<rect class="buffer" x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}" '
                             f'height="{2 * size:.1f}"/>')  # fmt: skip
        return (f'<g class="link direct" data-link="{escape(link.name)}"><title>{escape(self.link_text(link))}</title>'
                f'{"".join(boxes)}<path class="head" d="{"".join(heads)}"/></g>')  # fmt: skip

    @staticmethod
    def head(x: float, y: float, towards: tuple[int, int], size: float, ahead: float = 0.0) -> str:
        """A triangle whose point lies `ahead` of a place."""
        dx, dy = ((v > 0) - (v < 0) for v in towards)
        x, y = x + dx * ahead, y + dy * ahead
        back, side = (x - dx * size * 1.4, y - dy * size * 1.4), size * 0.8
        return (f"M{x:.1f} {y:.1f}L{back[0] + dy * side:.1f} {back[1] + dx * side:.1f}"
                f"L{back[0] - dy * side:.1f} {back[1] - dx * side:.1f}Z")  # fmt: skip

    def wires(self) -> Iterable[str]:
        lanes = lanes_of(self.streams)
        for number, link in enumerate(self.streams):
            def place(at: Point, number: int = number) -> tuple[float, float]:
                x, y = self.middle(at)
                for axis, room in ((1, self.cell), (0, self.heights[at[1]])):
                    count = lanes.counts.get((axis, at[1 - axis]), 1)
                    shift = lanes.offset(number, axis, at) * min(max(5.0, 0.1 * room), 0.76 * room / max(count - 1, 1))
                    x, y = (x + shift, y) if axis else (x, y + shift)
                return x, y

            yield self.wire(link, place)

    def wire(self, link: FloorLink, place: _Place) -> str:
        lines = ["M" + "L".join("{:.1f} {:.1f}".format(*place(at)) for at in branch) for branch in branches(link)]
        heads = [self.head(*place(way[-1]), (way[-1][0] - way[-2][0], way[-2][1] - way[-1][1]), 4.2, ahead=3)
                 for way in link.ways if len(way) > 1]  # fmt: skip
        x, y = place(link.source)
        group, line = self.plan.at[link.source].group, "".join(lines)
        style = f' style="--c: {_colour(self.plan, group)}"' if group else ""
        paths = "".join(f'<path class="{name}" d="{line}"/>' for name in ("reach", "edge", "wire"))
        return (f'<g class="link" data-link="{escape(link.name)}"{style}><title>{escape(self.link_text(link))}</title>'
                f'{paths}<circle class="head" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
                f'<path class="head" d="{"".join(heads)}"/></g>')  # fmt: skip

    # ---- labels

    def labels(self) -> Iterable[str]:
        for row, height in enumerate(self.heights):
            y = self.corner((0, row))[1] + height / 2
            kinds = {tile.kind for tile in self.tiles if tile.row == row}
            name = shortened(f"{kinds.pop()} {row}" if len(kinds) == 1 else str(row), 13)
            yield f'<text class="axis" x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{escape(name)}</text>'
        for column in range(self.columns):
            x, _ = self.middle((column, 0))
            yield f'<text class="axis" x="{x:g}" y="{self.size[1] - 6:g}" text-anchor="middle">{column}</text>'
        for group in self.plan.groups:
            yield from self.group_label(group)

    def group_label(self, group: str) -> Iterable[str]:
        """At the top of the highest tiles that are side by side."""
        places = [tile.place for tile in self.plan.tiles if tile.group == group]
        if not places:
            return
        top = max(row for _, row in places)
        columns = sorted(column for column, row in places if row == top)
        beside = [[c for _, c in each] for _, each in groupby(enumerate(columns), lambda pair: pair[1] - pair[0])]
        widest = max(beside, key=len)
        room = int((len(widest) * self.cell - 8) / _CHARACTER) - 2
        name = f" {shortened(group, room)}" if room >= min(4, len(group)) else ""
        x, y = self.corner((widest[0], top))
        yield f'<text class="name" x="{x + 5:g}" y="{y + 14:g}">{escape(self.plan.letter(group) + name)}</text>'

    def svg(self) -> str:
        width, height = self.size
        parts: Sequence[str] = [
            *(self.tile(tile) for tile in self.tiles),
            *(self.arrows(link) for link in self.plan.links if link.direct), *self.wires(), *self.labels(),
        ]  # fmt: skip
        return (f'<svg id="floor-plan" viewBox="0 0 {width:g} {height:g}" style="width: 100%; max-width: {width:g}px; '
                f'min-width: {min(width, 900):g}px" role="img" aria-label="floor plan">' + "\n".join(parts) + "</svg>")


@dataclass(frozen=True)
class FloorPicture:
    """svg: the picture. scale: share of the cycles that a full tile stands for, 0 where none is filled. hidden: columns
    at the right that are left out, unused."""

    svg: str
    scale: float
    hidden: int


def floor_plot(run: Run) -> FloorPicture | None:
    """None where the bench knows no floor plan."""
    if run.floor_plan is None:
        return None
    drawing = _Drawing(run, run.floor_plan)
    return FloorPicture(drawing.svg(), drawing.scale, run.floor_plan.columns - drawing.columns)
