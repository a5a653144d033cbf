# SPDX-License-Identifier: Apache-2.0
"""J3DAI's plans with their tiles in another order, see `tiling.deal`."""

from __future__ import annotations

from dataclasses import replace

from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.plan import Plan
from nncosim.compiler.tiling.deal import dealt

__all__ = ["interleaved"]


def interleaved(plan: Plan | FusedPlan) -> Plan | FusedPlan | None:
    """The plan with its tiles dealt out in turn along rows (along columns if there is one row); None if that is what
    it does already."""
    if isinstance(plan, FusedPlan):
        groups = [(r.cluster % plan.grid[1], r.steps) for r in plan.regions]
        fused = zip(plan.regions, dealt(groups, lambda tiles: tiles[-1].y0), strict=True)
        again = replace(plan, regions=tuple(replace(region, steps=steps) for region, steps in fused))
        return again if again.regions != plan.regions else None
    columns = plan.grid.columns
    if plan.nest.out_map[0] == 1:
        shares = [((r.group // columns, r.channel), r.steps) for r in plan.regions]
        found = dealt(shares, lambda step: step.tile.x0)
    else:
        shares = [((r.group % columns, r.channel), r.steps) for r in plan.regions]
        found = dealt(shares, lambda step: step.tile.y0)
    regions = tuple(replace(region, steps=steps) for region, steps in zip(plan.regions, found, strict=True))
    return replace(plan, regions=regions) if regions != plan.regions else None
