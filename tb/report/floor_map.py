# SPDX-License-Identifier: Apache-2.0
"""A floor plan as text: a character a tile, a letter a layer."""

from __future__ import annotations

from nncosim.tb.floor_plan import FloorPlan

__all__ = ["floor_map"]


def floor_map(plan: FloorPlan) -> list[str]:
    """Lines from the highest row down to row 0, then what the characters mean. Rows and columns beyond the last that a
    group or a link needs are left out, and counted.

    A column is a character; its number is read off the tens and ones below the map.
    """
    columns, rows = plan.used
    wide = len(str(rows - 1))
    lines = []
    for row in reversed(range(rows)):
        tiles = (plan.at.get((column, row)) for column in range(columns))
        marks = (" " if t is None else plan.letter(t.group) if t.group else t.mark for t in tiles)
        lines.append(f"{row:{wide}} {''.join(marks)}".rstrip())
    if columns > 10:
        lines.append(" " * (wide + 1) + "".join(str(c // 10) if c % 10 == 0 else " " for c in range(columns)).rstrip())
    lines.append(" " * (wide + 1) + "".join(str(c % 10) for c in range(columns)))
    if (columns, rows) != (plan.columns, plan.rows):
        lines.append(f"{columns} of {plan.columns} columns and {rows} of {plan.rows} rows; the others are not used")
    shown = {tile.group for tile in plan.tiles}
    kinds: dict[str, list[str]] = {}
    for tile in plan.tiles:
        if not tile.group and tile.column < columns and tile.row < rows and tile.mark not in kinds.get(tile.kind, ()):
            kinds.setdefault(tile.kind, []).append(tile.mark)
    said = [f"{plan.letter(group)} {group}" for group in plan.groups if group in shown]
    said += [f"{' '.join(sorted(marks))} {kind}" for kind, marks in kinds.items()]
    return [*lines, *([", ".join(said)] if said else [])]
