# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a machine are, what each works for, and what runs between them: for a picture, and a map in text.

A bench gives it with a run where places mean something: an array of tiles, clusters, several accelerators. What each
tile did is not in it, but in the `Activity` of its engine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from string import ascii_letters

from nncosim.compiler.image.plain import PlainError, from_plain, to_plain
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.plain import Json

__all__ = [
    "FLOOR_PLAN", "SHARED", "FloorLink", "FloorPlan", "FloorPlanError", "FloorTile", "floor_plan_json",
    "read_floor_plan",
]  # fmt: skip

FLOOR_PLAN = "floor_plan.json"
"""Name of its file beside report.json."""
SHARED = "shared buffer"
"""Kind of a link that is memory of its source, which its target reads there."""
_MORE_GROUPS = "*"

Point = tuple[int, int]
"""Column and row."""


class FloorPlanError(NncosimError):
    """A floor plan that contradicts itself, is damaged, or belongs to another run."""


@dataclass(frozen=True)
class FloorTile:
    """A part of a machine that has a place.

    column, row: from the left and from below, from 0. kind: "core", "memory". mark: its character in a map in
    text, while it is in no group. group: what it works for, a layer or a share of the machine; "": nothing. engine:
    whose `nncosim.tb.backend.Activity` says what it did; "": none does.
    """

    name: str
    column: int
    row: int
    kind: str
    mark: str = "."
    group: str = ""
    engine: str = ""

    @property
    def place(self) -> Point:
        return self.column, self.row


@dataclass(frozen=True)
class FloorLink:
    """What tiles are connected by: one source and its targets.

    name: what it carries; text: more of that. kind: "stream", "bus", `SHARED`. ways: to each target, the tiles from the
    source on, with both, each in one row or column with the one before it. direct: it needs no way, as its tiles are
    side by side: an arrow over each border.
    """

    name: str
    kind: str
    ways: tuple[tuple[tuple[int, int], ...], ...]
    text: str = ""
    direct: bool = False

    @property
    def source(self) -> Point:
        return self.ways[0][0]

    @property
    def targets(self) -> tuple[Point, ...]:
        return tuple(way[-1] for way in self.ways)


@dataclass(frozen=True)
class FloorPlan:
    """A machine. groups: of tiles, in the order that they are named in.

    Raises:
        FloorPlanError: two tiles of one name or in one place, a group that is not among `groups`, a link over what is
            no tile or not straight, or with several sources.
    """

    groups: tuple[str, ...]
    tiles: tuple[FloorTile, ...]
    links: tuple[FloorLink, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str | Point] = set()
        for tile in self.tiles:
            if tile.name in seen or tile.place in seen:
                raise FloorPlanError(f"floor plan: tile {tile.name} has the name or the place {tile.place} of another")
            seen |= {tile.name, tile.place}
        if not self.tiles or min(min(tile.place) for tile in self.tiles) < 0:
            raise FloorPlanError("floor plan: there is no tile, or one left of column 0 or below row 0")
        for tile in self.tiles:
            if tile.group and tile.group not in self.groups:
                raise FloorPlanError(f"floor plan: tile {tile.name} is in group {tile.group!r}, which is not listed")
        for link in self.links:
            self._check(link)

    def _check(self, link: FloorLink) -> None:
        if not link.ways or any(not way or way[0] != link.source for way in link.ways):
            raise FloorPlanError(f"floor plan: {link.kind} {link.name} has not one source")
        for way in link.ways:
            wrong = next((point for point in way if point not in self.at), None)
            if wrong is not None:
                raise FloorPlanError(f"floor plan: {link.kind} {link.name} is led over {wrong}, where no tile is")
            for a, b in pairwise(way):
                if (a[0] == b[0]) == (a[1] == b[1]):
                    raise FloorPlanError(f"floor plan: {link.kind} {link.name} goes from {a} to {b}, which is not in "
                                         "one row or column")

    @cached_property
    def at(self) -> dict[Point, FloorTile]:
        """By place."""
        return {tile.place: tile for tile in self.tiles}

    @property
    def columns(self) -> int:
        return max(tile.column for tile in self.tiles) + 1

    @property
    def rows(self) -> int:
        return max(tile.row for tile in self.tiles) + 1

    @cached_property
    def used(self) -> Point:
        """Columns and rows up to the last that a group or a link needs."""
        places = {tile.place for tile in self.tiles if tile.group}
        places |= {point for link in self.links for way in link.ways for point in way}
        columns, rows = (max((place[axis] for place in places), default=0) + 1 for axis in (0, 1))
        return columns, rows

    def letter(self, group: str) -> str:
        """That stands for a group, in picture and text; the same one for all behind the 52nd."""
        number = self.groups.index(group)
        return ascii_letters[26:][number] if number < 26 else (ascii_letters[:26] + _MORE_GROUPS)[min(number - 26, 26)]


def floor_plan_json(plan: FloorPlan, image: str) -> bytes:
    """The file. image: hash of the image that ran."""
    return json.dumps({"image": image, "plan": to_plain(plan)}, separators=(",", ":")).encode() + b"\n"


def read_floor_plan(data: bytes, image: str) -> FloorPlan:
    """What `floor_plan_json` wrote for this image.

    Raises:
        FloorPlanError: it is damaged, or of another image.
    """
    try:
        found: Json = json.loads(data)
        if not isinstance(found, dict) or set(found) != {"image", "plan"}:
            raise PlainError("it has not the two keys image and plan")
        plan = from_plain(FloorPlan, found["plan"], "plan")
    except ValueError as error:
        raise FloorPlanError(f"{FLOOR_PLAN} is damaged ({error}); run the model again with --out") from error
    if found["image"] != image:
        raise FloorPlanError(f"{FLOOR_PLAN} is of another image than report.json; run the model again with --out")
    return plan
