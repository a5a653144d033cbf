# SPDX-License-Identifier: Apache-2.0
"""Whether layers lie in an array as they may, by marking each tile. Shares nothing with the placer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nncosim.compiler.aie_ml.mapping import Box, Split

__all__ = ["problems"]


def problems(
    boxes: Sequence[Box], columns: int, rows: int, *, first_row: int = 0, margin: int = 0,
    splits: Sequence[Split] | None = None, anchors: Mapping[int, tuple[int, int]] | None = None,
) -> list[str]:
    """What is wrong with a placement, one line each; none if nothing is.

    Args:
        columns, rows: of cores; first_row: number of the lowest row.
        margin: columns left of each box, as far as the array has them, that are nobody else's.
        splits: that were to be placed. anchors: columns and rows that some boxes were to have.
    """
    found = []
    if splits is not None and [box.split for box in boxes] != list(splits):
        found.append(f"splits {' '.join(map(str, splits))} were to be placed, and boxes are "
                     f"{' '.join(str(box.split) for box in boxes)}")  # fmt: skip
    array = {(x, y) for x in range(columns) for y in range(first_row, first_row + rows)}
    owner: dict[tuple[int, int], int] = {}
    for number, box in enumerate(boxes):
        tiles = list(box.tiles)
        xs, ys = {x for x, _ in tiles}, {y for _, y in tiles}
        whole = {(x, y) for x in range(min(xs), max(xs) + 1) for y in range(min(ys), max(ys) + 1)}
        if (len(xs), len(ys)) != (box.split.cascade, box.split.rows) or sorted(tiles) != sorted(whole):
            found.append(f"layer {number} is no rectangle of {box.split} tiles")
        if outside := whole - array:
            found.append(f"layer {number} has {len(outside)} tiles outside the array, one at {min(outside)}")
        around = {(x - n, y) for x, y in whole for n in range(margin + 1)}
        shared = {owner[tile] for tile in around & array if tile in owner}
        found += [f"layers {other} and {number} share tiles" for other in sorted(shared)]
        owner |= dict.fromkeys(around & array, number)
        anchor = (anchors or {}).get(number)
        if anchor is not None and anchor != (min(xs), min(ys)):
            found.append(f"layer {number} was to lie at {anchor}, and lies at {(min(xs), min(ys))}")
    return found
