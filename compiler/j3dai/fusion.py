# SPDX-License-Identifier: Apache-2.0
"""Fusing operators: what stays between them stays in L1. Plans of groups, and what they cost; see `compiler.fusion`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from nncosim.compiler.fusion.chains import chains
from nncosim.compiler.fusion.cut import Fuser
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.j3dai.fused_plan import FusedGroup, FusedPlan, flat, fusable, make_fused_plan, walked
from nncosim.compiler.j3dai.plan import jobs_of
from nncosim.compiler.j3dai.tiling import (
    BLOCK_CYCLES,
    START_CYCLES,
    AnyPlan,
    LayerCode,
    estimate,
    fastest_code,
    realize,
)
from nncosim.compiler.tiling.estimates import STEP_TRANSFERS, slower_side
from nncosim.compiler.tiling.grids import cuts, grids
from nncosim.compiler.tiling.search import Recent, ranking
from nncosim.compiler.tiling.tiles import reads_all
from nncosim.kernels.j3dai.common import job_cycles
from nncosim.kernels.j3dai.nest import Nest
from nncosim.platforms.j3dai import J3dai

__all__ = ["NestFuser", "compile_group", "estimate_of", "group_of", "paths", "ranked_groups"]

_FINALISTS = 3
_HOPELESS = 1.1  # see `tiling`; estimates of groups are too high rather than too low
_MEMBER_CYCLES = 45  # setting up a member for a tile, about
# With one buffer a cluster waits for the transfer, and for semaphores and descriptors there and back, about:
_LOAD_ROUND = 20
_STORE_ROUND = 30
_KNOWN: Recent[object, LayerCode | None] = Recent(512)
_DOUBT = 100
"""Cycles by which the estimate of a group may be too high: 348 for 253 in the trained network's first."""


def paths(
    network: Network, ops: Sequence[Op], nests: Sequence[Nest], kept: Mapping[str, str]
) -> list[tuple[int, ...]]:
    """See `chains`."""

    def joins(first: int, then: int) -> bool:
        return fusable(nests[first]) and fusable(nests[then]) and reads_all(nests[then])

    return chains(network, ops, kept, joins, lambda i: nests[i].macs)


def _unflattened(nest: Nest, network: Network) -> Nest:
    """With its maps as they are in L2, where it walks them as one row."""
    source, out = (network.tensors[name].shape for name in (nest.sources[0].tensor, nest.output))
    if nest.interleave > 1 or nest.upsample != (1, 1):
        return nest
    return replace(nest, in_map=(source[1], source[2]), out_map=(out[1], out[2]))


def group_of(network: Network, nests: Sequence[Nest]) -> FusedGroup:
    """Nests of which each reads what the one before writes; maps stay rows where that is how all of them walk."""
    rows = all(flat(nest) and nest.in_map[0] == nest.out_map[0] == 1 for nest in nests)
    members = tuple(nest if rows else _unflattened(nest, network) for nest in nests)
    chained: list[int | None] = [None]
    for before, nest in pairwise(members):
        chained.append(next(j for j, s in enumerate(nest.sources) if s.tensor == before.output))
    return FusedGroup(f"{members[0].name}..{members[-1].name}", members, tuple(chained))


def _fits(group: FusedGroup, platform: J3dai, rows: int, columns: int) -> bool:
    """Whether a tile of that size may fit L1 at all, as if it lay in the middle of the map."""
    words = rows * columns * group.last.out_blocks * group.last.upsample[1]
    sizes: list[int] = []
    for i, nest in reversed(list(enumerate(group.members))):
        spans = []
        for axis, size in enumerate((rows, columns)):
            need = (size - 1) * nest.stride[axis] + (nest.kernel[axis] - 1) * nest.dilation[axis] + 1
            spans.append(min(need, nest.in_map[axis]))
        rows, columns = spans
        outside = sum(s.blocks for j, s in enumerate(nest.sources) if j != group.chained[i])
        words += rows * columns * outside
        if i:
            sizes.append(rows * columns * group.members[i - 1].out_blocks)
    sizes.append(0)
    return words + max(a + b for a, b in pairwise(sizes)) <= platform.l1_words


def _plans(group: FusedGroup, platform: J3dai) -> Iterator[FusedPlan]:
    """Plans with the largest tiles that fit, and the next smaller ones."""
    # Parameters stay if all fit; else they come and go part by part, through two buffers or four.
    total = sum(n.out_blocks * (n.record_words + n.weight_words) for n in group.members)
    modes: list[int | None] = [None] if total <= platform.wmem_words else [platform.wmem_words // k for k in (2, 4)]
    pes = platform.pes_per_ncb
    all_rows, all_columns = group.last.out_map[0], -(-group.last.out_map[1] // pes)
    for shared in grids(all_rows, all_columns, 1, platform.clusters):
        grid = shared.rows, shared.columns
        rows, columns = -(-all_rows // grid[0]), -(-all_columns // grid[1])
        # The largest tiles first: what neighbours both need is computed twice, the more often the smaller tiles are.
        for x in cuts(max(1, columns), 64)[:8]:
            fitting = 0
            for y in cuts(rows, 512):
                wide = min(-(-columns // x) * pes, group.last.out_map[1])
                if not _fits(group, platform, -(-rows // y), wide):
                    continue
                for mode in modes:
                    found = _slotted(group, platform, grid, (y, x), mode)
                    fitting += any(p.inputs.count > 1 or max(len(r.steps) for r in p.regions) == 1 for p in found[:1])
                    yield from found
                if fitting >= 2:
                    break


def _slotted(
    group: FusedGroup, platform: J3dai, grid: tuple[int, int], parts: tuple[int, int], mode: int | None
) -> list[FusedPlan]:
    """The plan with as many buffers as fit."""
    for slots in ((2, 2), (2, 1), (1, 1)):
        plan = make_fused_plan(group, platform, grid, parts, slots, mode)
        if plan is not None:
            return [plan]
    return []


def _estimate(plan: FusedPlan) -> float:
    """Cycles of a group: the busiest cluster or the DMPA, and what cannot overlap."""
    beat, group = plan.platform.beat_words, plan.group
    work, traffic, first, last = [], 0.0, 0.0, 0.0
    each = [job_cycles(nest) for nest in plan.nests]
    known: list[dict[tuple[int, ...], int]] = [{} for _ in plan.nests]  # cycles of a member by the tile's shape
    for region in plan.regions:
        cycles = 0.0
        for number, tiles in enumerate(region.steps):
            for i, (nest, tile) in enumerate(zip(plan.nests, tiles, strict=True)):
                shape = tile.shape
                if shape not in known[i]:
                    jobs = jobs_of(nest, walked(nest, tile))
                    known[i][shape] = _MEMBER_CYCLES + nest.out_blocks * (jobs * each[i] + BLOCK_CYCLES)
                cycles += known[i][shape]
            load = sum(tiles[e.member].height * tiles[e.member].width * e.blocks for e in group.externals) / beat
            copies = group.last.upsample[0] * group.last.upsample[1]
            store = tiles[-1].rows * tiles[-1].columns * group.last.out_blocks * copies / beat
            traffic += load + store
            cycles += (load + _LOAD_ROUND if plan.inputs.count == 1 and number else 0)
            cycles += (store + _STORE_ROUND if plan.outputs.count == 1 and number else 0)
            first += load if number == 0 else 0
            last = store
        work.append(cycles)
    passes = 1 if plan.resident else max(len(r.steps) for r in plan.regions)
    weights = passes * sum(part.words for part in plan.parts) / beat
    dmpa = traffic + weights + STEP_TRANSFERS * sum(len(r.steps) for r in plan.regions)
    return START_CYCLES + slower_side(max(work), first / 2, last, dmpa)


def estimate_of(plan: AnyPlan) -> int:
    """Cycles of a layer as its planner reckons them, from tiles and traffic, without programs, simulator or host."""
    return round(_estimate(plan) if isinstance(plan, FusedPlan) else estimate(plan))


def compile_group(group: FusedGroup, platform: J3dai, limit: float | None = None) -> LayerCode | None:
    """The fastest plan that was found; None if none fits. Groups of one shape get one plan.

    Args:
        limit: None too if all take clearly more cycles than that by estimate.
    """
    key = tuple(nest.shape for nest in group.members), group.chained, platform, limit
    if key not in _KNOWN:
        return _KNOWN.keep(key, _choose(group, platform, limit))
    known = _KNOWN[key]
    if known is None:
        return None
    assert isinstance(known.plan, FusedPlan)
    return replace(realize(replace(known.plan, group=group)), cycles=known.cycles, alternatives=known.alternatives)


def ranked_groups(group: FusedGroup, platform: J3dai) -> list[FusedPlan]:
    """All plans of a group, the most promising first."""
    return [plan for _, plan in ranking(_plans(group, platform), _estimate)]


def _choose(group: FusedGroup, platform: J3dai, limit: float | None) -> LayerCode | None:
    if limit is not None and _least(group, platform) > limit:
        return None
    found = ranking(_plans(group, platform), _estimate)
    if limit is not None and found and found[0][0] > limit + _DOUBT:
        return None
    best, others = fastest_code(found, _FINALISTS, _HOPELESS)
    return best and replace(best, alternatives=tuple(others))


def _least(group: FusedGroup, platform: J3dai) -> float:
    """Cycles of a group in which nothing is computed twice and nobody ever waits."""
    work = 0.0
    for nest in group.members:
        groups = nest.out_map[0] * nest.out_map[1] / platform.pes_per_ncb
        if not flat(nest):
            groups = nest.out_map[0] * -(-nest.out_map[1] // platform.pes_per_ncb)
        work += groups * nest.out_blocks * (2 if nest.pair else 1) * job_cycles(nest)
    return START_CYCLES + work / platform.clusters


class NestFuser(Fuser[LayerCode]):
    """See `Fuser`.

    Args:
        nests: of the operators. kept: tensors that lie inside others, with those.
    """

    def __init__(
        self, network: Network, platform: J3dai, ops: Sequence[Op], nests: Sequence[Nest],
        alone: Sequence[LayerCode], kept: Mapping[str, str],
    ):  # fmt: skip
        super().__init__(ops, alone, paths(network, ops, nests, kept))
        self.network, self.platform, self.nests = network, platform, nests

    def fuse(self, members: tuple[int, ...], limit: float | None) -> LayerCode | None:
        group = group_of(self.network, [self.nests[i] for i in members])
        return compile_group(group, self.platform, limit)
