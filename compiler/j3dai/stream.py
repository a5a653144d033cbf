# SPDX-License-Identifier: Apache-2.0
"""Streamed plans: for layers of which not even the windows of one job fit a cluster's L1, or their weights WMEM.

A job (one row of as many results as there are PEs, one output block) is computed in *slices* of its kernel and input
blocks. Input and weights of a slice are loaded for it alone, while the one before computes; sums stay in the PEs until
the last. It is slow, but it needs hardly any memory. All slices look alike to the cluster: their rectangles lie in L1
unclipped, windows are told apart from padding by their coordinates in the whole map, and both move by differences.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from nncosim.compiler.j3dai.plan import MOST_WIDTH, OfOneNest, source_blocks
from nncosim.compiler.j3dai.program import ClusterCode
from nncosim.compiler.j3dai.semaphores import ToCluster, ToDmpa
from nncosim.compiler.j3dai.transfers import Piece, Transfer, input_pieces, output_pieces, stores
from nncosim.compiler.tiling.chunks import Chunk
from nncosim.compiler.tiling.estimates import STEP_TRANSFERS
from nncosim.compiler.tiling.grids import Grid, split
from nncosim.compiler.tiling.slots import Slots
from nncosim.compiler.tiling.tiles import Tile, make_tile
from nncosim.compiler.transfers import urgency
from nncosim.hdl.j3dai.isa import Agu, DmpaOp, Drain, MacOp, Space
from nncosim.kernels.j3dai.common import fetch_cycles
from nncosim.kernels.j3dai.nest import Nest, pad_to_line
from nncosim.platforms.j3dai import J3dai

__all__ = ["StreamPlan", "StreamRegion", "make_stream_plan", "stream_code", "stream_estimate", "stream_queues"]

_MOST_AREA = 2 * MOST_WIDTH
"""Words of a slice's input: as far as the step of a dimension reaches."""
_SLICE_CONTROL = 40  # cycles of a cluster for a slice beside its products, about


@dataclass(frozen=True)
class StreamRegion:
    """One cluster's share: results of output blocks b0..b1-1 for each tile of one row and one group of PEs."""

    cluster: int
    group: int
    channel: int
    b0: int
    b1: int
    tiles: tuple[Tile, ...]

    @property
    def steps(self) -> list[tuple[Tile, int]]:
        """(tile, output block), in order."""
        return [(tile, b) for tile in self.tiles for b in range(self.b0, self.b1)]


@dataclass(frozen=True, eq=False)
class StreamPlan(OfOneNest):
    """A nest in slices. inputs, outputs: buffers in L1. weights: in WMEM, of records, then weights.

    slices: pieces of a job's kernel and input blocks; their `start` is not used.
    """

    nest: Nest
    platform: J3dai
    grid: Grid
    regions: tuple[StreamRegion, ...]
    slices: tuple[Chunk, ...]
    inputs: Slots
    outputs: Slots
    weights: Slots
    wmem_base: int = 0

    @property
    def wmem_words(self) -> int:
        return self.platform.wmem_words

    def loads_weights(self, number: int) -> bool:
        """Whether slice `number` of a job has something for WMEM: the first its records at least."""
        return number == 0 or bool(self.nest.weights)

    @cached_property
    def absolute(self) -> bool:
        """Whether windows reach beyond the map, so that coordinates matter."""
        return self.nest.kernel != (1, 1) or any(self.nest.pads)

    def corner(self, tile: Tile, part: Chunk) -> tuple[int, int]:
        """Row and column of the map where a slice's rectangle begins, before clipping."""
        n = self.nest
        y = tile.y0 * n.stride[0] - n.pads[0] + part.r0 * n.dilation[0]
        return y, tile.x0 * n.stride[1] - n.pads[1] + part.k0 * n.dilation[1]

    @property
    def line(self) -> str:
        """One line for listings."""
        return (
            f"{self.name}: {self.grid.over('clusters')}, "
            f"{max(len(r.steps) for r in self.regions)} steps of 1 block streamed in {len(self.slices)} slices, input "
            f"{self.inputs} words, weights {self.weights}"
        )


def _span(nest: Nest, rows: int, columns: int) -> tuple[int, int]:
    """(rows, columns) of the rectangle that so many kernel rows and columns of a job touch."""
    pes = nest.platform.pes_per_ncb
    return (rows - 1) * nest.dilation[0] + 1, (pes - 1) * nest.stride[1] + (columns - 1) * nest.dilation[1] + 1


def _slices(nest: Nest, input_words: int, weight_words: int) -> tuple[Chunk, ...]:
    """As few slices as keep within so many words of input and of weights; none if a single window does not."""
    (kh, kw), blocks = nest.kernel, 1 if nest.depthwise else nest.reads[0][1]
    lanes = 0 if not nest.weights else 1 if nest.depthwise else nest.lanes
    best: tuple[int, int, int, int] | None = None  # slices; rows, columns of a kernel's part; parts of the blocks
    for rows, columns in itertools.product(sorted({-(-kh // n) for n in range(1, kh + 1)}, reverse=True),
                                           sorted({-(-kw // n) for n in range(1, kw + 1)}, reverse=True)):
        height, width = _span(nest, rows, columns)
        each = min(input_words // (height * width), blocks, weight_words // max(1, rows * columns * lanes))
        if each:
            parts = _even(blocks, -(-blocks // each))
            number = -(-kh // rows) * -(-kw // columns) * parts
            if best is None or number < best[0]:
                best = number, rows, columns, parts
    if best is None:
        return ()
    _, rows, columns, parts = best
    ranges = itertools.product(split(kh, -(-kh // rows)), split(kw, -(-kw // columns)), split(blocks, parts))
    return tuple(
        Chunk(c0, c1 - c0, r0, r1 - r0, k0, k1 - k0, 0, (c1 - c0) * (r1 - r0) * (k1 - k0) * lanes)
        for (r0, r1), (k0, k1), (c0, c1) in ranges
    )


def _even(blocks: int, least: int) -> int:
    """Parts to cut blocks into: an even number of equal ones if that is not many more, which makes short programs."""
    found = (n for n in range(least, min(blocks, least + 1 + least // 3) + 1) if n % 2 == 0 and blocks % n == 0)
    return least if least == 1 else next(found, least)


def make_stream_plan(nest: Nest, platform: J3dai, grid: Grid, slots: int = 2) -> StreamPlan | None:
    """The streamed plan for a grid; None for a nest that is not made of windows, or if a single one does not fit.

    slots: 2 load ahead; 1 does not, but has twice the room and, as all jobs look alike, a short program.
    """
    if nest.pair or nest.upsample != (1, 1) or nest.op is MacOp.TABLE:
        return None
    pes = platform.pes_per_ncb
    rows, columns = split(nest.out_map[0], grid.rows), split(nest.out_map[1], grid.columns, pes)
    channels = split(nest.out_blocks, grid.channels)
    if len(rows) * len(columns) * len(channels) != grid.engines:
        return None
    output_words = pad_to_line(pes * nest.interleave, platform)
    room = (platform.l1_words - slots * output_words) // slots // platform.banks * platform.banks
    weight_words = platform.wmem_words // slots // platform.banks * platform.banks
    slices = _slices(nest, min(room, _MOST_AREA), weight_words - nest.record_words)
    if not slices:
        return None
    regions: list[StreamRegion] = []
    for group, ((y0, y1), (x0, x1)) in enumerate(itertools.product(rows, columns)):
        tiles = tuple(
            make_tile(nest, (y, y + 1), (x, min(x + pes, x1))) for y in range(y0, y1) for x in range(x0, x1, pes)
        )
        for channel, (b0, b1) in enumerate(channels):
            regions.append(StreamRegion(len(regions), group, channel, b0, b1, tiles))
    inputs, weights = Slots(0, slots, room), Slots(0, slots, weight_words)
    outputs = Slots(inputs.end, slots, output_words)
    return StreamPlan(nest, platform, grid, tuple(regions), slices, inputs, outputs, weights)


def stream_estimate(plan: StreamPlan) -> float:
    """Cycles: the busiest cluster or the DMPA."""
    nest, words = plan.nest, plan.platform.beat_words
    jobs = max(len(r.steps) for r in plan.regions) * nest.interleave
    control = _SLICE_CONTROL * len(plan.slices)
    work = jobs * (control + sum(_cycles(nest, part) for part in plan.slices))
    traffic = sum(part.blocks * _area(nest, part) for part in plan.slices) / words + STEP_TRANSFERS * len(plan.slices)
    weights = nest.block_words / words + STEP_TRANSFERS * len(plan.slices)
    groups = {(r.group, r.b1 - r.b0): len(r.steps) for r in plan.regions}
    channels = {r.channel: len(r.steps) for r in plan.regions}
    dmpa = nest.interleave * (sum(groups.values()) * traffic + sum(channels.values()) * weights)
    return max(work, dmpa)


def _area(nest: Nest, part: Chunk) -> int:
    height, width = _span(nest, part.rows, part.columns)
    return height * width


def _cycles(nest: Nest, part: Chunk) -> int:
    lanes = 1 if nest.depthwise else nest.lanes
    return part.blocks * part.rows * part.columns * max(lanes, fetch_cycles(nest))


def stream_code(plan: StreamPlan, region: StreamRegion) -> ClusterCode:
    """Instructions and events of one cluster."""
    return _StreamEmitter(plan, region).emit()


class _StreamEmitter:
    def __init__(self, plan: StreamPlan, region: StreamRegion):
        self.plan, self.region, self.nest = plan, region, plan.nest
        self.code = ClusterCode()
        self.inputs = self.weights = 0
        self.at: tuple[int, int, int] | None = None

    def emit(self) -> ClusterCode:
        plan, nest, code = self.plan, self.nest, self.code
        height, width = nest.in_map if plan.absolute else (1, MOST_WIDTH)
        spread = nest.stride[1]
        code.add("seti", width=width, height=height, pstride=spread, xpstep=spread, pad=nest.pad_value)
        for dim in range(3):
            code.add("setd", agu=Agu.O, dim=dim, count=1, step=0, xstep=0, ystep=0)
        for number, (tile, _) in enumerate(self.region.steps):
            if plan.outputs.used_before(number):
                code.close()
                code.wait(ToCluster.OUTPUT_FREE)
            code.close()
            for part in range(nest.interleave):
                self._job(tile, part, plan.outputs.at(number))
            code.signal(ToDmpa.OUTPUT_READY)
            code.close()
        code.add("halt")
        code.close()
        return code

    def _job(self, tile: Tile, part: int, slot: int) -> None:
        nest, code = self.nest, self.code
        low, high = nest.results(tile.x0, tile.x1)
        each = nest.interleave
        code.set("o", "seto", width=-(-(high - low - part) // each), ostride=each - 1)
        code.add("setb", agu=Agu.O, base=slot + part, x=0, y=0, rewind=1)
        for number in range(len(self.plan.slices)):
            self._slice(tile, number, part * nest.lane_step)
            code.close()

    def _slice(self, tile: Tile, number: int, lane: int) -> None:
        plan, nest, code = self.plan, self.nest, self.code
        part = plan.slices[number]
        self._window(tile, part)
        code.wait(ToCluster.INPUT_READY)
        if plan.loads_weights(number):
            code.wait(ToCluster.WEIGHTS_READY)
            base = plan.weights.at(self.weights)
            if number == 0:
                code.add("ldp", pset=0, base=base)
            if nest.weights:
                code.add("setw", base=base + nest.record_words)
        code.add(
            "mac", op=nest.op, depthwise=int(nest.depthwise), first=int(number == 0),
            last=int(number + 1 == len(plan.slices)), advance=0, lanes=0 if nest.depthwise else nest.lanes - 1,
            lane=lane, rewind_w=1, signed_a=int(nest.signed[0]), pset=0, drain=Drain.WRITE,
            **nest.products.fields,
        )  # fmt: skip
        code.run(_cycles(nest, part))
        code.signal(ToDmpa.INPUT_FREE)
        self.inputs += 1
        if plan.loads_weights(number):
            code.signal(ToDmpa.WEIGHTS_FREE)
            self.weights += 1

    def _window(self, tile: Tile, part: Chunk) -> None:
        """AGU A for a slice: its dimensions, and where it begins, as a difference to the slice before."""
        plan, nest, code = self.plan, self.nest, self.code
        dy, dx = nest.dilation
        height, width = _span(nest, part.rows, part.columns)
        dims = ((part.columns, dx, dx, 0), (part.rows, dy * width, 0, dy), (part.blocks, height * width, 0, 0))
        for dim, (count, step, xstep, ystep) in enumerate(dims):
            if count == 1:
                step, xstep, ystep = 0, 0, 0
            code.set(dim, "setd", agu=Agu.A, dim=dim, count=count, step=step, xstep=xstep, ystep=ystep)
        base = plan.inputs.at(self.inputs)
        y, x = plan.corner(tile, part) if plan.absolute else (0, 0)
        if self.at is None:
            code.add("setb", agu=Agu.A, base=base, x=x, y=y, rewind=1)
        else:
            before, by, bx = self.at
            code.add("addb", agu=Agu.A, step=base - before, xstep=x - bx, ystep=y - by)
        self.at = base, y, x


def stream_queues(plan: StreamPlan, buffer: str) -> list[deque[Transfer]]:
    """Independent queues of transfers, each in its own order; what the clusters freed at the end is taken back."""
    by_channel: dict[int, list[StreamRegion]] = {}
    by_input: dict[tuple[int, ...], list[StreamRegion]] = {}
    for region in plan.regions:
        by_channel.setdefault(region.channel, []).append(region)
        firsts = (_first(plan.nest, b) for b in range(region.b0, region.b1))
        by_input.setdefault((region.group, *firsts), []).append(region)
    out = [deque(_weights(plan, regions, buffer)) for regions in by_channel.values()]
    out += [deque(_inputs(plan, regions)) for regions in by_input.values()]
    return [*out, *(deque(_outputs(plan, region)) for region in plan.regions)]


def _first(nest: Nest, block: int) -> int:
    """The first input block that an output block reads."""
    return block if nest.depthwise else nest.reads[block][0]


def _mask(regions: list[StreamRegion]) -> int:
    return sum(1 << r.cluster for r in regions)


def _taken_back(mask: int, semaphore: ToDmpa, count: int, urgency: float, buffer: str) -> Iterator[Transfer]:
    """Waits for the last signals of buffers that are free again, so that none is left over."""
    nothing = Piece(buffer, 0, Space.L1, 0, 0)
    for _ in range(count):
        yield Transfer(DmpaOp.SYNC, mask, (nothing,), semaphore, None, urgency)


def _inputs(plan: StreamPlan, regions: list[StreamRegion]) -> Iterator[Transfer]:
    nest, mask, index = plan.nest, _mask(regions), 0
    steps = regions[0].steps
    for number, (tile, block) in enumerate(steps):
        for _, part in itertools.product(range(nest.interleave), plan.slices):
            wait = ToDmpa.INPUT_FREE if plan.inputs.used_before(index) else None
            pieces = tuple(_input_pieces(plan, tile, block, part, plan.inputs.at(index)))
            yield Transfer(DmpaOp.LOAD, mask, pieces, wait, ToCluster.INPUT_READY, number + urgency.INPUT)
            index += 1
    last = min(index, plan.inputs.count)
    yield from _taken_back(mask, ToDmpa.INPUT_FREE, last, len(steps), nest.sources[0].tensor)


def _input_pieces(plan: StreamPlan, tile: Tile, block: int, part: Chunk, slot: int) -> Iterator[Piece]:
    """The part of a slice's rectangle that lies within the map, each source's blocks behind each other."""
    nest = plan.nest
    (map_height, map_width), (height, width) = nest.in_map, _span(nest, part.rows, part.columns)
    y, x = plan.corner(tile, part)
    y0, x0 = min(max(y, 0), map_height - 1), min(max(x, 0), map_width - 1)
    rows, columns = max(min(y + height, map_height) - y0, 1), max(min(x + width, map_width) - x0, 1)
    at = slot + (y0 - y) * width + (x0 - x) if 0 <= y0 - y < height and 0 <= x0 - x < width else slot
    for source, low, count in source_blocks(nest, _first(nest, block) + part.c0, part.blocks):
        yield from input_pieces(
            nest.sources[source], nest.in_map, low, count, (y0, y0 + rows), (x0, x0 + columns), at, width,
            height * width,
        )
        at += count * height * width


def _weights(plan: StreamPlan, regions: list[StreamRegion], buffer: str) -> Iterator[Transfer]:
    nest, index = plan.nest, 0
    longest = max(regions, key=lambda r: len(r.steps))
    for number, (_, block) in enumerate(longest.steps):
        mask = _mask([r for r in regions if number < len(r.steps)])
        for _, (position, part) in itertools.product(range(nest.interleave), enumerate(plan.slices)):
            if plan.loads_weights(position):
                wait = ToDmpa.WEIGHTS_FREE if plan.weights.used_before(index) else None
                pieces = tuple(_weight_pieces(plan, block, position, part, plan.weights.at(index), buffer))
                when = number + urgency.WEIGHTS
                yield Transfer(DmpaOp.LOAD, mask, pieces, wait, ToCluster.WEIGHTS_READY, when)
                index += 1
    for region in regions:
        each = len(plan.slices) if nest.weights else 1
        count = min(len(region.steps) * nest.interleave * each, plan.weights.count)
        yield from _taken_back(1 << region.cluster, ToDmpa.WEIGHTS_FREE, count, len(longest.steps), buffer)


def _weight_pieces(plan: StreamPlan, block: int, number: int, part: Chunk, slot: int, buffer: str) -> Iterator[Piece]:
    nest, records = plan.nest, plan.nest.record_words
    start = block * nest.stored_step
    if number == 0:
        yield Piece(buffer, start, Space.WMEM, slot, records)
    if nest.weights:
        (kh, kw), lanes = nest.kernel, 1 if nest.depthwise else nest.lanes
        offset = start + records + ((part.c0 * kh + part.r0) * kw + part.k0) * lanes
        words = part.columns * lanes
        yield Piece(
            buffer, offset, Space.WMEM, slot + records, words, part.rows, kw * lanes, words, part.blocks,
            kh * kw * lanes, part.rows * words,
        )  # fmt: skip


def _outputs(plan: StreamPlan, region: StreamRegion) -> Iterator[Transfer]:
    nest, slots = plan.nest, plan.outputs
    return stores(region.cluster, slots, [
        output_pieces(nest, tile, block, 1, slots.at(i)) for i, (tile, block) in enumerate(region.steps)
    ])  # fmt: skip
