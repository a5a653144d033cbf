"""Fusing operators: which chains could be one group, what each would cost, and the cheapest way to cut the network.

A tensor between two operators can stay in L1 if it has one reader and nobody outside needs it. Such links make paths
through the network; a path is cut into groups by dynamic programming over measured costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from nncosim.compiler.ir import Network, Op
from nncosim.compiler.j3dai.fold import ProgramTooLong
from nncosim.compiler.j3dai.fused_plan import FusedPlan, Group, fusable, make_fused_plan, walked
from nncosim.compiler.j3dai.plan import jobs_of
from nncosim.compiler.j3dai.tiling import LayerCode, cuts, measure, realize
from nncosim.kernels.j3dai.common import job_cycles
from nncosim.kernels.j3dai.nest import Nest
from nncosim.platforms.j3dai import J3dai

__all__ = ["Choice", "compile_group", "fuse", "group_of", "paths"]

_MOST_MEMBERS = 5
_FINALISTS = 3
_START = 150  # cycles from the list's start to a cluster's first job
_MEMBER_CYCLES = 45  # setting up a member for a tile, about
_BLOCK_CYCLES = 12
_WORTH_TRYING = 1.1  # estimate of a group as a share of what its members take alone


@dataclass(frozen=True, eq=False)
class Choice:
    """Operators that are run as one layer. `ops`: indices, in order; `lost`: what else was considered, in words."""

    ops: tuple[int, ...]
    code: LayerCode
    lost: tuple[str, ...] = ()


def _links(network: Network, ops: Sequence[Op], nests: Sequence[Nest], kept: Mapping[str, str]) -> dict[int, int]:
    """Operator -> the only reader of its output, where the two can be fused. No operator has two such before it."""
    bound = {*kept, *kept.values(), *network.outputs}
    reader: dict[int, int] = {}
    for i, op in enumerate(ops):
        users = [j for j, other in enumerate(ops) for name in other.inputs if name == op.output]
        everyone = sum(name == op.output for other in network.ops for name in other.inputs)
        if len(users) == everyone == 1 and op.output not in bound and fusable(nests[i]) and fusable(nests[users[0]]):
            if nests[i].upsample == (1, 1):
                reader[i] = users[0]
    chosen: dict[int, int] = {}
    for i, j in reader.items():  # of two producers, the one with more to compute
        if j not in chosen or nests[i].macs > nests[chosen[j]].macs:
            chosen[j] = i
    return {i: j for j, i in chosen.items()}


def paths(
    network: Network, ops: Sequence[Op], nests: Sequence[Nest], kept: Mapping[str, str]
) -> list[tuple[int, ...]]:
    """Every operator once, in chains of which each link can be fused. `kept`: tensors that lie inside others."""
    links = _links(network, ops, nests, kept)
    out = []
    for start in sorted(set(range(len(ops))) - set(links.values())):
        path = [start]
        while path[-1] in links:
            path.append(links[path[-1]])
        out.append(tuple(path))
    return out


def _unflattened(nest: Nest, network: Network) -> Nest:
    """With its maps as they are in L2, where it walks them as one row."""
    source, out = (network.tensors[name].shape for name in (nest.sources[0].tensor, nest.output))
    if nest.interleave > 1 or nest.upsample != (1, 1):
        return nest
    return replace(nest, in_map=(source[1], source[2]), out_map=(out[1], out[2]))


def group_of(network: Network, nests: Sequence[Nest]) -> Group:
    """Nests of which each reads what the one before writes."""
    members = tuple(_unflattened(nest, network) for nest in nests)
    chained: list[int | None] = [None]
    for before, nest in pairwise(members):
        chained.append(next(j for j, s in enumerate(nest.sources) if s.tensor == before.output))
    return Group(f"{members[0].name}..{members[-1].name}", members, tuple(chained))


def _grids(group: Group, platform: J3dai) -> Iterator[tuple[int, int]]:
    rows, columns = group.last.out_map[0], -(-group.last.out_map[1] // platform.pes_per_ncb)
    n = platform.clusters
    for py in range(1, min(n, rows) + 1):
        for px in range(1, min(n // py, columns) + 1):
            if ((py + 1) * px > n or py == rows) and (py * (px + 1) > n or px == columns):
                yield py, px


def _plans(group: Group, platform: J3dai) -> Iterator[FusedPlan]:
    """Plans with the largest tiles that fit, and the next smaller ones."""
    total = sum(n.out_blocks * (n.record_words + n.weight_words) for n in group.members)
    modes: list[int | None] = [None] if total <= platform.wmem_words else []
    modes += [platform.wmem_words // k for k in (2, 4)] if not modes else []
    for grid in _grids(group, platform):
        rows = -(-group.last.out_map[0] // grid[0])
        columns = -(-group.last.out_map[1] // platform.pes_per_ncb // grid[1])
        for mode in modes:
            for slots in ((2, 2), (2, 1), (1, 1)):
                for x in cuts(max(1, columns), 64)[:8]:
                    fitting = 0
                    for y in cuts(rows, 512):
                        plan = make_fused_plan(group, platform, grid, (y, x), slots, mode)
                        if plan is not None:
                            fitting += 1
                            yield plan
                        if fitting >= 2:
                            break


def _estimate(plan: FusedPlan) -> float:
    """Cycles of a group: the busiest cluster or the DMPA, and what cannot overlap."""
    beat, group = plan.platform.beat_words, plan.group
    work, traffic, first, last = [], 0.0, 0.0, 0.0
    for region in plan.regions:
        cycles = 0.0
        for number, tiles in enumerate(region.steps):
            for nest, tile in zip(plan.nests, tiles, strict=True):
                jobs = jobs_of(nest, walked(nest, tile))
                cycles += _MEMBER_CYCLES + nest.out_blocks * (jobs * job_cycles(nest) + _BLOCK_CYCLES)
            load = sum(tiles[e.member].height * tiles[e.member].width * e.blocks for e in group.externals) / beat
            copies = group.last.upsample[0] * group.last.upsample[1]
            store = tiles[-1].rows * tiles[-1].columns * group.last.out_blocks * copies / beat
            traffic += load + store
            cycles += (load + 20 if plan.input_slots == 1 and number else 0)
            cycles += (store + 30 if plan.output_slots == 1 and number else 0)
            first += load if number == 0 else 0
            last = store
        work.append(cycles)
    passes = 1 if plan.resident else max(len(r.steps) for r in plan.regions)
    weights = passes * sum(part.words for part in plan.parts) / beat
    dmpa = traffic + weights + 8 * sum(len(r.steps) for r in plan.regions)
    return _START + max(max(work) + first / 2 + last, dmpa + min(max(work) / 8, 500))


def compile_group(group: Group, platform: J3dai, limit: float | None = None) -> LayerCode | None:
    """The fastest plan that was found; None if none fits. `limit`: estimates beyond are not looked at."""
    ranked = sorted(((_estimate(p), i, p) for i, p in enumerate(_plans(group, platform))), key=lambda t: t[:2])
    best: LayerCode | None = None
    tried = 0
    for estimate, _, plan in ranked:
        if tried >= _FINALISTS or (limit is not None and estimate > limit):
            break
        if best is not None and estimate > 1.3 * best.cycles:
            break
        try:
            code = realize(plan)
            code = replace(code, cycles=measure(code))
        except ProgramTooLong:
            continue
        tried += 1
        if best is None or code.cycles < best.cycles:
            best = code
    return best


def fuse(
    network: Network, platform: J3dai, ops: Sequence[Op], nests: Sequence[Nest], alone: Sequence[LayerCode],
    kept: Mapping[str, str], prefer: bool = False,
) -> list[Choice]:
    """The network as layers, each an operator or a group, in an order in which each reads what is there.

    Args:
        ops, nests, alone: the operators that do something, their nests, and the code of each on its own.
        kept: tensors that lie inside others, with those.
        prefer: keep as many bytes as possible out of L2, and only then look at cycles.
    """
    out: list[Choice] = []
    for path in paths(network, ops, nests, kept):
        out += _cut(network, platform, path, ops, nests, alone, prefer)
    return sorted(out, key=lambda choice: choice.ops[-1])


def _cut(
    network: Network, platform: J3dai, path: tuple[int, ...], ops: Sequence[Op], nests: Sequence[Nest],
    alone: Sequence[LayerCode], prefer: bool,
) -> list[Choice]:
    """The cheapest way to cut a path into groups: best[k] is for its first k operators."""
    best: list[tuple[tuple[float, float], list[Choice]]] = [((0.0, 0.0), [])]
    for end in range(1, len(path) + 1):
        found: list[tuple[tuple[float, float], list[Choice]]] = []
        for start in range(max(0, end - _MOST_MEMBERS), end):
            members = path[start:end]
            separate = sum(alone[i].cycles for i in members)
            if len(members) == 1:
                code: LayerCode | None = alone[members[0]]
            else:
                limit = None if prefer else _WORTH_TRYING * separate
                code = compile_group(group_of(network, [nests[i] for i in members]), platform, limit)
            if code is None:
                continue
            (stored, cycles), before = best[start]
            stored += network.tensors[ops[members[-1]].output].elements if prefer else 0
            found.append(((stored, cycles + code.cycles), [*before, Choice(members, code)]))
        best.append(min(found, key=lambda item: item[0]))
    return best[-1][1]
