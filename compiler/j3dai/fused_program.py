# SPDX-License-Identifier: Apache-2.0
"""Code and transfers of a fused group: all members of a tile one after the other, each behind a FENCE."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from nncosim.compiler.j3dai.fused_plan import FusedPlan, FusedRegion, walked
from nncosim.compiler.j3dai.program import ClusterCode, TileEmitter
from nncosim.compiler.j3dai.semaphores import ToCluster, ToDmpa
from nncosim.compiler.j3dai.transfers import Piece, Transfer, input_pieces, output_pieces, stores
from nncosim.compiler.tiling.tiles import Tile
from nncosim.compiler.transfers import urgency
from nncosim.hdl.j3dai.isa import DmpaOp, Space

__all__ = ["fused_codes", "fused_queues"]


class _GroupEmitter:
    """Emits one cluster's steps of a fused plan."""

    def __init__(self, plan: FusedPlan, region: FusedRegion):
        self.plan, self.region = plan, region
        self.code = ClusterCode()
        self.members = [TileEmitter(self.code, nest, plan.platform) for nest in plan.nests]
        self.reads_last = max(e.member for e in plan.group.externals)
        self.turn = 0

    def emit(self) -> ClusterCode:
        code, steps = self.code, self.region.steps
        if self.plan.resident:
            code.wait(ToCluster.WEIGHTS_READY)
            code.close()
        for step, tiles in enumerate(steps):
            self.turn = 0  # so that steps look alike
            for index, tile in enumerate(tiles):
                self._member(step, index, tile)
            code.signal(ToDmpa.OUTPUT_READY)
            code.close()
        code.add("halt")
        code.close()
        return code

    def _member(self, step: int, index: int, tile: Tile) -> None:
        plan, code, emitter = self.plan, self.code, self.members[index]
        nest, last = plan.nests[index], index + 1 == len(plan.nests)
        at = walked(nest, tile)
        sources = [plan.source_at(index, j, step) for j in range(len(nest.sources))]
        emitter.maps(at, 0, nest.out_blocks, sources[0], apart=sources[1] - sources[0] if nest.pair else None)
        slot = plan.outputs.at(step) if last else plan.middle_at[index]
        emitter.outputs(at, nest.out_blocks, slot)
        emitter.gates = [None if index else ToCluster.INPUT_READY]
        if last and plan.outputs.used_before(step):
            emitter.gates.append(ToCluster.OUTPUT_FREE)
        for number, part in enumerate(plan.parts):
            if part.member == index:
                self._part(step, number, at, slot)
        if index == self.reads_last and plan.inputs.used_again(step, len(self.region.steps)):
            code.signal(ToDmpa.INPUT_FREE)

    def _part(self, step: int, number: int, tile: Tile, slot: int) -> None:
        """The jobs of the blocks whose parameters are one part: the weights' pointer runs on from block to block."""
        plan, code = self.plan, self.code
        part = plan.parts[number]
        nest, emitter = plan.nests[part.member], self.members[part.member]
        if not plan.resident:
            code.wait(ToCluster.WEIGHTS_READY)
        base = plan.part_at(step, number)
        weights = base + (part.b1 - part.b0) * nest.record_words
        for block in range(part.b0, part.b1):
            records = base + (block - part.b0) * nest.record_words
            more = block + 1 < part.b1
            emitter.block(
                tile, block, slot, records, weights if block == part.b0 else None, 0, turn=self.turn, next_w=more
            )
            self.turn += 1
        loads = plan.load(len(self.region.steps), 0)
        if plan.weights is not None and plan.weights.used_again(plan.load(step, number), loads):
            code.signal(ToDmpa.WEIGHTS_FREE)


def _shape(plan: FusedPlan, region: FusedRegion) -> tuple[tuple[int, ...], ...]:
    """What a region's code depends on: the sizes of its tiles, and where their first windows lie in them."""
    out = []
    for tiles in region.steps:
        for nest, t in zip(plan.nests, tiles, strict=True):
            at = (t.y0 * nest.stride[0] - t.iy0, t.x0 * nest.stride[1] - t.ix0)
            out.append((t.rows, t.columns, t.height, t.width, *at))
    return tuple(out)


def fused_codes(plan: FusedPlan) -> dict[int, ClusterCode]:
    """Instructions and events of each cluster's part of a fused plan; those of like regions are one object."""
    known: dict[tuple[tuple[int, ...], ...], ClusterCode] = {}
    out: dict[int, ClusterCode] = {}
    for region in plan.regions:
        shape = _shape(plan, region)
        if shape not in known:
            known[shape] = _GroupEmitter(plan, region).emit()
        out[region.cluster] = known[shape]
    return out


def _inputs(plan: FusedPlan, region: FusedRegion) -> Iterator[Transfer]:
    group = plan.group
    for step, tiles in enumerate(region.steps):
        pieces: list[Piece] = []
        for e in group.externals:
            tile, at = tiles[e.member], plan.source_at(e.member, e.source, step)
            nest, y, x = group.members[e.member], (tile.iy0, tile.iy1), (tile.ix0, tile.ix1)
            pieces += input_pieces(nest.sources[e.source], nest.in_map, 0, e.blocks, y, x, at)
        wait = ToDmpa.INPUT_FREE if plan.inputs.used_before(step) else None
        when = step + urgency.INPUT
        yield Transfer(DmpaOp.LOAD, 1 << region.cluster, tuple(pieces), wait, ToCluster.INPUT_READY, when)


def _outputs(plan: FusedPlan, region: FusedRegion) -> Iterator[Transfer]:
    nest, slots = plan.group.last, plan.outputs
    return stores(region.cluster, slots, [
        output_pieces(nest, tiles[-1], 0, nest.out_blocks, slots.at(i)) for i, tiles in enumerate(region.steps)
    ])  # fmt: skip


def _weights(plan: FusedPlan, buffer: str) -> Iterator[Transfer]:
    """Parameters, broadcast: once, or part by part for every step."""
    if plan.weights is None:
        mask = sum(1 << r.cluster for r in plan.regions)
        piece = Piece(buffer, 0, Space.WMEM, plan.wmem_base, plan.wmem_words)
        yield Transfer(DmpaOp.LOAD, mask, (piece,), None, ToCluster.WEIGHTS_READY, urgency.WEIGHTS)
        return
    count = len(plan.parts)
    for step in range(max(len(r.steps) for r in plan.regions)):
        mask = sum(1 << r.cluster for r in plan.regions if step < len(r.steps))
        for number, part in enumerate(plan.parts):
            wait = ToDmpa.WEIGHTS_FREE if plan.weights.used_before(plan.load(step, number)) else None
            piece = Piece(buffer, part.start, Space.WMEM, plan.part_at(step, number), part.words)
            when = step + number / count + urgency.WEIGHTS
            yield Transfer(DmpaOp.LOAD, mask, (piece,), wait, ToCluster.WEIGHTS_READY, when)


def fused_queues(plan: FusedPlan, buffer: str) -> list[deque[Transfer]]:
    """Independent queues of transfers, each in its own order. `buffer`: where the parameters lie in L2."""
    out = [deque(_weights(plan, buffer))]
    out += [deque(_inputs(plan, region)) for region in plan.regions]
    out += [deque(_outputs(plan, region)) for region in plan.regions]
    return out
