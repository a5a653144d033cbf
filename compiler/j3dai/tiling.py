# SPDX-License-Identifier: Apache-2.0
"""Choosing a plan: candidates by a quick estimate, the best few through the cycle model, the fastest taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from nncosim.compiler.errors import CompileError
from nncosim.compiler.j3dai.cycle_model import LayerRun, cycle_model
from nncosim.compiler.j3dai.fold import ProgramTooLong, Unit, assemble
from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.fused_program import fused_codes, fused_queues
from nncosim.compiler.j3dai.lists import descriptor_list
from nncosim.compiler.j3dai.plan import Plan, WeightMode, jobs_of, try_plan
from nncosim.compiler.j3dai.program import ClusterCode, cluster_code
from nncosim.compiler.j3dai.stream import StreamPlan, make_stream_plan, stream_code, stream_estimate, stream_queues
from nncosim.compiler.j3dai.transfers import Transfer, order_transfers, program_transfers, queues, table_transfers
from nncosim.compiler.tiling.estimates import STEP_TRANSFERS, slower_side
from nncosim.compiler.tiling.grids import Grid, cuts, doublings, grids
from nncosim.compiler.tiling.search import Alternative, Recent, fastest, ranking
from nncosim.hdl.j3dai.asm import ClusterProgram
from nncosim.kernels.base import KernelError
from nncosim.kernels.j3dai.common import job_cycles
from nncosim.kernels.j3dai.nest import Nest
from nncosim.platforms.j3dai import J3dai

__all__ = [
    "BLOCK_CYCLES", "START_CYCLES", "AnyPlan", "LayerCode", "compile_nest", "estimate", "fastest_code", "measure",
    "parameter_buffer", "program_buffer", "program_words", "ranked", "realize", "relocate",
]  # fmt: skip

_FINALISTS = 4
_ENOUGH = 4  # plans of a grid and a number of blocks a step that overlap
_HOPELESS = 1.5  # an estimate of so many times the best measured one is not believed to be wrong by that much
_PARTS = 4  # of a step's weights that come through a ring
_STEP_OVERHEAD = 40  # cycles of control a step and cluster, about
START_CYCLES = 150
"""From the list's start to a cluster's first job, about."""
BLOCK_CYCLES = 12
"""Setting up a cluster for an output block, about."""

AnyPlan = Plan | FusedPlan | StreamPlan


@dataclass(frozen=True)
class LayerCode:
    """A layer ready but for addresses.

    programs: (program, mask of the clusters that run it). cycles: by the cycle model, the layer on its own.
    alternatives: the plan itself, and those that lost against it.
    """

    plan: AnyPlan
    programs: tuple[tuple[ClusterProgram, int], ...]
    transfers: tuple[Transfer, ...]
    cycles: int
    alternatives: tuple[Alternative, ...] = ()

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def line(self) -> str:
        """The plan, for people."""
        return self.plan.line


_KNOWN: Recent[tuple[object, J3dai], LayerCode] = Recent(128)
"""Layers by shape and platform."""


def parameter_buffer(plan: AnyPlan) -> str:
    return f"{plan.name}.parameters"


def program_buffer(plan: AnyPlan, index: int) -> str:
    return f"{plan.name}.program{index}"


def program_words(program: ClusterProgram) -> int:
    """Words of IMEM."""
    return -(-len(program) // program.platform.word_instructions)


def _grids(nest: Nest, platform: J3dai) -> Iterator[Grid]:
    return grids(nest.out_map[0], -(-nest.out_map[1] // nest.unit), nest.out_blocks, platform.clusters)


def _plans(nest: Nest, platform: J3dai, refused: dict[Grid, Alternative]) -> Iterator[Plan]:
    """Plans worth an estimate. refused: gets for each grid what nearly fitted."""
    for grid in _grids(nest, platform):
        rows = -(-nest.out_map[0] // grid.rows)
        groups = -(-nest.out_map[1] // nest.unit)
        columns = -(-groups // grid.columns)
        for size in doublings(-(-nest.out_blocks // grid.channels)):
            # The largest tiles first, cut along rows before columns: whole rows are long runs in L2. Once a few plans
            # fit in which transfers and jobs overlap, smaller tiles only add steps, and rows that are loaded twice.
            fitting = 0
            for x in cuts(columns, 512):
                for y in cuts(rows, 4096):
                    plan = try_plan(nest, platform, grid, (y, x), size)
                    if isinstance(plan, str):
                        what = f"{grid.over('clusters')}, {y} x {x} tiles a cluster, steps of {size} blocks"
                        refused[grid] = Alternative(what, None, None, plan)
                    else:
                        fitting += plan.buffered
                        yield plan
                        if _ringed(plan):
                            yield replace(plan, weight_parts=_PARTS)
                        if _single(plan):
                            yield replace(plan, mode=WeightMode.CHUNK)
                    if fitting >= _ENOUGH:
                        break
                if fitting >= _ENOUGH or (fitting and rows > 1):
                    break


def _ringed(plan: Plan) -> bool:
    """Whether the plan's weights do not fit twice, but could come in parts through a ring."""
    alone = plan.mode is WeightMode.STEP and plan.weight_slots == 1 and plan.nest.stored_step == plan.nest.block_words
    return alone and plan.step_words % 16 == 0 and len({s.b1 - s.b0 for r in plan.regions for s in r.steps}) == 1


def _single(plan: Plan) -> bool:
    """Whether a plan whose weights do not fit twice has one job a step: pieces of its weights are as few loads then."""
    nest, steps = plan.nest, [s for r in plan.regions for s in r.steps]
    records = max(r.b1 - r.b0 for r in plan.regions) * nest.record_words
    return (
        plan.mode is WeightMode.STEP and plan.weight_slots == 1 and not nest.depthwise and nest.interleave == 1
        and all(s.b1 - s.b0 == 1 and jobs_of(nest, s.tile) == 1 for s in steps)
        and records <= plan.platform.wmem_words // 2
    )  # fmt: skip


def _estimate(plan: Plan) -> float:
    """Cycles of a layer: the busiest cluster or the DMPA, and what cannot overlap."""
    nest, words = plan.nest, plan.platform.beat_words
    each = job_cycles(nest)
    work: list[float] = [
        sum((s.b1 - s.b0) * (jobs_of(nest, s.tile) * each + BLOCK_CYCLES) + _STEP_OVERHEAD for s in r.steps)
        for r in plan.regions
    ]
    loads = {(r.group, s.key): s.input_words for r in plan.regions for s in r.steps}
    traffic = sum(loads.values()) / words
    outputs = nest.out_map[0] * nest.result_columns * nest.out_blocks * nest.upsample[0] * nest.upsample[1] / words
    passes = 1
    longest = max(plan.regions, key=lambda r: len(r.steps))
    if plan.mode is WeightMode.STEP:
        passes = len({s.tile for s in longest.steps})
    elif plan.mode is WeightMode.CHUNK:
        passes = sum(jobs_of(nest, s.tile) for s in longest.steps) // (longest.b1 - longest.b0)
    weights = passes * nest.out_blocks * nest.block_words / words
    if plan.mode is WeightMode.STEP and plan.weight_slots == 1:
        share = 1 if plan.weight_parts == 1 else 1 / plan.weight_parts
        work = [w + share * len(longest.steps) * plan.step_words / words for w in work]
    if plan.inputs.count == 1 and len(loads) > 1:
        work = [w + traffic for w in work]
    if plan.outputs.count == 1 and len(longest.steps) > 1:
        work = [w + outputs for w in work]
    first = sum({(r.group, r.steps[0].key): r.steps[0].input_words for r in plan.regions}.values()) / words
    ends = [r.steps[-1].tile for r in plan.regions]
    last = sum(t.rows * t.columns for t in ends) * nest.interleave * plan.step_blocks / words
    dmpa = traffic + outputs + weights + STEP_TRANSFERS * sum(len(r.steps) for r in plan.regions)
    # Clusters begin one after the other as their inputs land, and end likewise: half of it on average.
    return START_CYCLES + slower_side(max(work), first / 2, last / 2, dmpa)


def estimate(plan: Plan | StreamPlan) -> float:
    """Cycles of a layer as the planner reckons them."""
    return stream_estimate(plan) if isinstance(plan, StreamPlan) else _estimate(plan)


def _pieces(plan: AnyPlan) -> tuple[dict[int, ClusterCode], list[Transfer], list[deque[Transfer]]]:
    """Code by cluster, the transfers that come first, and the queues of the others."""
    buffer = parameter_buffer(plan)
    if isinstance(plan, FusedPlan):
        return fused_codes(plan), [], fused_queues(plan, buffer)
    if isinstance(plan, StreamPlan):
        return {r.cluster: stream_code(plan, r) for r in plan.regions}, [], stream_queues(plan, buffer)
    codes = {r.cluster: cluster_code(plan, r) for r in plan.regions}
    return codes, table_transfers(plan, buffer), queues(plan, buffer)


def realize(plan: AnyPlan) -> LayerCode:
    """Programs and transfers of a plan; `cycles` is the estimate of who ordered the transfers.

    Raises:
        ProgramTooLong: a program does not fit the instruction memory.
    """
    codes, tables, waiting = _pieces(plan)
    limit = plan.platform.imem_bytes // 8
    by_text: dict[tuple[Unit, ...], int] = {}
    programs: dict[tuple[Unit, ...], ClusterProgram] = {}
    for cluster, code in codes.items():
        text = tuple(code.units)
        by_text[text] = by_text.get(text, 0) | 1 << cluster
        if text not in programs:
            programs[text] = assemble(text, limit, plan.platform)
    listed = tuple((programs[text], mask) for text, mask in by_text.items())
    first = program_transfers(
        [(program_buffer(plan, i), program_words(p), 0, mask) for i, (p, mask) in enumerate(listed)]
    )
    first += tables
    order, cycles = order_transfers(first, waiting, codes, plan.platform)
    return LayerCode(plan, listed, tuple(order), cycles)


def relocate(code: LayerCode, wmem_base: int) -> LayerCode:
    """The same layer with its weights at another place in WMEM."""
    if wmem_base == code.plan.wmem_base:
        return code
    moved = realize(replace(code.plan, wmem_base=wmem_base))
    return replace(moved, cycles=code.cycles, alternatives=code.alternatives)


def measure(code: LayerCode) -> int:
    """Cycles of the layer on its own by the cycle model, to which L2 addresses and contents make no difference."""
    at: dict[str, int] = dict.fromkeys((p.buffer for t in code.transfers for p in t.pieces), 0)
    contents: dict[int, bytes] = {}
    platform, end = code.plan.platform, 0
    word, line = platform.word_bytes, platform.line_bytes
    for i, (program, _) in enumerate(code.programs):
        at[program_buffer(code.plan, i)] = end
        contents[end // word] = program.to_bytes()
        end += -(-len(program) * 8 // line) * line
    roomy = platform.with_parameters(l2_bytes=platform.most_l2_bytes)  # whether it fits is placement's matter
    contents[end // word] = descriptor_list(code.transfers, at, roomy).to_bytes()
    run = LayerRun(end // word, sum(mask for _, mask in code.programs))
    return cycle_model().layers(contents, [run], roomy).cycles


def _streamed(nest: Nest, platform: J3dai, slots: int) -> list[tuple[float, StreamPlan]]:
    """Plans that need hardly any memory."""
    plans = (make_stream_plan(nest, platform, grid, slots) for grid in _grids(nest, platform))
    return ranking((plan for plan in plans if plan is not None), stream_estimate)


def compile_nest(nest: Nest, platform: J3dai) -> LayerCode:
    """The fastest plan that was found, with its programs and transfers. Nests of one shape get one plan.

    Raises:
        CompileError: no tile fits the clusters' memories; says what the smallest would need.
    """
    cut, machine = ((p.word_bytes, p.banks) for p in (nest.platform, platform))
    if cut != machine:
        raise KernelError(f"{nest.name}: cut for words of {cut[0]} bytes and lines of {cut[1]} words, not {machine[0]} "
                          f"and {machine[1]}: give the kernel's code() the platform that it is compiled for")
    key = nest.shape, platform
    if key not in _KNOWN:
        return _KNOWN.keep(key, _choose(nest, platform))
    known = _KNOWN[key]
    assert not isinstance(known.plan, FusedPlan)
    return replace(realize(replace(known.plan, nest=nest)), cycles=known.cycles, alternatives=known.alternatives)


def _choose(nest: Nest, platform: J3dai) -> LayerCode:
    refused: dict[Grid, Alternative] = {}
    plans = ranking(_plans(nest, platform, refused), _estimate)
    best, others = fastest_code(plans, _FINALISTS, _HOPELESS)
    for slots in (2, 1):
        if best is None:
            best, more = fastest_code(_streamed(nest, platform, slots), _FINALISTS, _HOPELESS)
            others += more
    if best is None:
        raise CompileError(_why(nest, platform, others[-1].verdict if others else ""))
    others += [alternative for grid, alternative in refused.items() if grid == getattr(best.plan, "grid", None)]
    return replace(best, alternatives=tuple(others))


def ranked(nest: Nest, platform: J3dai) -> list[Plan]:
    """All plans of a nest, the most promising first."""
    return [plan for _, plan in ranking(_plans(nest, platform, {}), _estimate)]


def fastest_code(
    plans: Iterable[tuple[float, AnyPlan]], finalists: int, share: float
) -> tuple[LayerCode | None, list[Alternative]]:
    """See `search.fastest`; measured by the cycle model."""
    return fastest(plans, finalists, share, _measured, _described)


def _measured(plan: AnyPlan) -> LayerCode | str:
    try:
        code = realize(plan)
    except ProgramTooLong as error:
        return str(error)
    return replace(code, cycles=measure(code))


def _described(plan: AnyPlan) -> str:
    text = plan.line[len(plan.name) + 2 :]
    # a group without its members' names
    return "fused, " + text.split(" fused, ", 1)[1] if isinstance(plan, FusedPlan) else text


def _why(nest: Nest, platform: J3dai, refused: str) -> str:
    if refused:
        return f"{nest.name}: {refused}; a smaller layer or a larger imem_bytes would help"
    span = [min((k - 1) * d + 1, size) for k, d, size in zip(nest.kernel, nest.dilation, nest.in_map, strict=True)]
    blocks = 1 if nest.depthwise else nest.reads[0][1]
    pes, word = platform.pes_per_ncb, platform.word_bytes
    need = (span[0] * min(nest.in_map[1], span[1] + (pes - 1) * nest.stride[1]) * blocks + nest.table_words) * word
    table = " and their look-up table" if nest.table else ""
    return (
        f"{nest.name}: no tile fits a cluster: the window of {pes} results{table} alone takes {need} bytes of L1 "
        f"(of {platform.l1_bytes}); a smaller kernel, fewer input channels or a larger l1_bytes would help"
    )
