# SPDX-License-Identifier: Apache-2.0
"""The array as a floor plan: cores with their layers, memory tiles, the shim; cascades, buffers that two cores share,
and the streams' circuits."""

from __future__ import annotations

from nncosim.compiler.aie_ml.notes import AieMlNotes, Site
from nncosim.compiler.image.image import Image
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.floor_plan import SHARED, FloorLink, FloorPlan, FloorTile

__all__ = ["floor_plan_of"]

_SHIM = {(False, False): "_", (True, False): "^", (False, True): "v", (True, True): "x"}
"""Marks of the shim's tiles, by whether words come in there, and go out."""


def floor_plan_of(image: Image, platform: AieMl) -> FloorPlan:
    """All tiles of the array, used or not."""
    notes = image.notes.own_as(AieMlNotes)
    sites = {(site.column, site.row): site for site in notes.sites}
    (cores,) = platform.engines
    steps = [step.name for step in image.notes.steps]
    tiles = []
    for number, place in enumerate(cores.positions):
        site = sites.get(place)
        group, engine = (steps[site.step], f"core{number}") if site else ("", "")
        tiles.append(FloorTile(f"core{number}", *place, "core", ".", group, engine))
    into, out = {stream.column for stream in notes.inputs}, {stream.column for stream in notes.outputs}
    for column in range(platform.columns):
        tiles += [FloorTile(f"memory tile ({column},{row})", column, row, "memory", "=")
                  for row in range(1, platform.first_row)]  # fmt: skip
        tiles.append(FloorTile(f"shim {column}", column, 0, "shim", _SHIM[column in into, column in out]))
    streams = [FloorLink(each.name, "stream", each.ways, f"{each.words:,} words an inference" if each.words else "")
               for each in notes.circuits]  # fmt: skip
    shared = [FloorLink(each.name, SHARED, (((each.column, each.row), (each.column + 1, each.row)),),
                        f"{each.size:,} bytes, twice", direct=True) for each in notes.shared]  # fmt: skip
    return FloorPlan(tuple(dict.fromkeys(steps)), tuple(tiles), (*_cascades(sites, steps), *shared, *streams))


def _cascades(sites: dict[tuple[int, int], Site], steps: list[str]) -> list[FloorLink]:
    """Of each chain of cores: one without stores gives its sums to the core east of it."""
    found = []
    for (column, row), site in sites.items():
        before = sites.get((column - 1, row))
        if site.stores or (before is not None and before.step == site.step and not before.stores):
            continue
        chain = [(column, row)]
        while not sites[chain[-1]].stores:
            chain.append((chain[-1][0] + 1, row))
        found.append(FloorLink(f"of {steps[site.step]}, row {row}", "cascade", (tuple(chain),), direct=True))
    return found
