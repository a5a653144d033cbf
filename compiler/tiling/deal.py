# SPDX-License-Identifier: Apache-2.0
"""Tiles in another order: neighbouring rows by neighbouring engines at about the same time.

Where each engine has a band of the map to itself, all bands are read and written at once, and a result can lie over
its input at few distances. Handed out in turn, tiles are read and written from the map's one end to the other, and the
result can follow a few tiles behind.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from typing import TypeVar

__all__ = ["dealt"]

S = TypeVar("S")


def _turns(shares: Sequence[Sequence[S]], place: Callable[[S], int]) -> list[tuple[S, ...]]:
    """Runs of steps at one place (row or column), in the order of places, to the shares in turn."""
    runs = [list(run) for share in shares for _, run in groupby(share, place)]
    runs.sort(key=lambda run: place(run[0]))
    return [tuple(step for run in runs[k :: len(shares)] for step in run) for k in range(len(shares))]


def dealt(shares: Sequence[tuple[Hashable, Sequence[S]]], place: Callable[[S], int]) -> list[tuple[S, ...]]:
    """Each engine's steps anew, dealt out in turn among the engines of one group.

    Args:
        shares: of each engine (its group, its steps in order). place: the row or column that a step begins at.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, (group, _) in enumerate(shares):
        groups.setdefault(group, []).append(number)
    out: dict[int, tuple[S, ...]] = {}
    for members in groups.values():
        out.update(zip(members, _turns([shares[k][1] for k in members], place), strict=True))
    return [out[k] for k in range(len(shares))]
