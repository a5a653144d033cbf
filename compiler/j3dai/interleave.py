# SPDX-License-Identifier: Apache-2.0
"""The same tiles in another order: neighbouring rows by neighbouring clusters at about the same time.

Where each cluster has a band of the map to itself, all bands are read and written at once, and a result can lie over
its input at few distances. Handed out in turn, tiles are read and written from the map's one end to the other, and the
result can follow a few tiles behind.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.plan import Plan

__all__ = ["interleaved"]


def _dealt(shares: Sequence[Sequence[Any]], place: Callable[[Any], int]) -> list[tuple[Any, ...]]:
    """Runs of steps at one place (row or column), in the order of places, to the shares in turn."""
    runs = [list(run) for share in shares for _, run in groupby(share, place)]
    runs.sort(key=lambda run: place(run[0]))
    return [tuple(step for run in runs[k :: len(shares)] for step in run) for k in range(len(shares))]


def _deal(
    regions: Iterable[Any], share: Callable[[Any], Hashable], place: Callable[[Any], int]
) -> tuple[Any, ...]:
    """Regions of one `share` have their steps dealt out anew among themselves."""
    groups: dict[Hashable, list[Any]] = {}
    for region in regions:
        groups.setdefault(share(region), []).append(region)
    out = []
    for members in groups.values():
        for region, steps in zip(members, _dealt([r.steps for r in members], place), strict=True):
            out.append(replace(region, steps=steps))
    return tuple(sorted(out, key=lambda r: r.cluster))


def interleaved(plan: Plan | FusedPlan) -> Plan | FusedPlan | None:
    """The plan with its tiles dealt out in turn along rows (along columns if there is one row); None if that is what
    it does already."""
    if isinstance(plan, FusedPlan):
        columns = plan.grid[1]
        regions: tuple[Any, ...] = _deal(plan.regions, lambda r: r.cluster % columns, lambda step: step[-1].y0)
        return replace(plan, regions=regions) if regions != plan.regions else None
    grid = plan.grid
    if plan.nest.out_map[0] == 1:
        regions = _deal(plan.regions, lambda r: (r.group // grid.columns, r.channel), lambda step: step.tile.x0)
    else:
        regions = _deal(plan.regions, lambda r: (r.group % grid.columns, r.channel), lambda step: step.tile.y0)
    return replace(plan, regions=regions) if regions != plan.regions else None
