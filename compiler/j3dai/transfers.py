# SPDX-License-Identifier: Apache-2.0
"""Transfers of a layer: which there are, in the terms of J3DAI's DMPA, its spaces and semaphores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nncosim.compiler.j3dai.plan import Plan, Region, TileStep, WeightMode
from nncosim.compiler.j3dai.program import ClusterCode, weight_loads
from nncosim.compiler.j3dai.semaphores import ToCluster, ToDmpa
from nncosim.compiler.tiling.slots import Slots
from nncosim.compiler.tiling.tiles import Tile
from nncosim.compiler.transfers import urgency
from nncosim.compiler.transfers.ahead import Range
from nncosim.compiler.transfers.order import Names, Timing, in_order
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.kernels.j3dai.nest import Gather, Nest, Source
from nncosim.platforms.j3dai import J3dai

__all__ = [
    "GatherRun", "Piece", "Transfer", "input_pieces", "order_transfers", "output_pieces",
    "program_transfers", "queues", "rectangle", "stores", "table_transfers",
]  # fmt: skip

_DESCRIPTOR_CYCLES = 2  # between two descriptors
_TURN_CYCLES = 6  # between a LOAD and a STORE
_LATENCY = 8  # from the last beat to the semaphore
_SIGNAL_LATENCY = 16  # from SIGNAL until the results are in L1 and the DMPA sees it


@dataclass(frozen=True)
class GatherRun:
    """A GATHER's fields of the same names: how the words of a run are made from its bytes."""

    step: int
    used: int
    left: int
    length: int
    fill: int


@dataclass(frozen=True)
class Piece:
    """One descriptor without its L2 address: `offset` words into buffer `buffer`; local word address and space.

    gather: of a GATHER; `offset`, `l2_step1` and `l2_step2` are in bytes then.
    """

    buffer: str
    offset: int
    space: Space
    local: int
    n0: int
    n1: int = 1
    l2_step1: int = 0
    local_step1: int = 0
    n2: int = 1
    l2_step2: int = 0
    local_step2: int = 0
    gather: GatherRun | None = None

    @property
    def touched(self) -> Range:
        """The words from the first to the last one that it writes in a cluster's memory."""
        reach = (max(self.n1, 1) - 1) * self.local_step1 + (max(self.n2, 1) - 1) * self.local_step2
        return Range(self.local, reach + self.n0)

    def beats(self, platform: J3dai) -> int:
        words = platform.beat_words if self.gather is None else platform.gather_words(self.gather.step)
        return self.n2 * self.n1 * -(-self.n0 // words)


@dataclass(frozen=True)
class Transfer:
    """Descriptors that belong together: the first waits, the last signals. Semaphore None: neither.

    urgency: the lower, the sooner it is needed (about: steps from the start).
    """

    op: DmpaOp
    clusters: int
    pieces: tuple[Piece, ...]
    wait: ToDmpa | None
    signal: ToCluster | None
    urgency: float

    def beats(self, platform: J3dai) -> int:
        return sum(p.beats(platform) for p in self.pieces)

    def cycles(self, platform: J3dai) -> int:
        return self.beats(platform) + _DESCRIPTOR_CYCLES * len(self.pieces)

    @property
    def early(self) -> bool:
        """Whether it needs nothing of its layer to have begun: programs, and weights that have room."""
        return self.wait is None and all(p.space in (Space.IMEM, Space.WMEM) for p in self.pieces)

    @property
    def loads(self) -> bool:
        return self.op is DmpaOp.LOAD

    @property
    def touched(self) -> list[tuple[str, Range]]:
        return [(piece.space.name, piece.touched) for piece in self.pieces]

    @property
    def members(self) -> tuple[int, ...]:
        return tuple(c for c in range(8) if self.clusters >> c & 1)


def rectangle(
    buffer: str, map_size: tuple[int, int], block: int, count: int, y: tuple[int, int], x: tuple[int, int], local: int
) -> Piece:
    """Rows y and columns x of `count` blocks of a block-planar tensor, packed at `local`."""
    height, width = map_size
    rows, columns = y[1] - y[0], x[1] - x[0]
    offset = (block * height + y[0]) * width + x[0]
    if columns == width or rows == 1:
        return Piece(buffer, offset, Space.L1, local, rows * columns, count, height * width, rows * columns)
    return Piece(buffer, offset, Space.L1, local, columns, rows, width, columns, count, height * width, rows * columns)


def input_pieces(
    source: Source, map_size: tuple[int, int], block: int, count: int, y: tuple[int, int], x: tuple[int, int],
    local: int, row_words: int | None = None, block_words: int = 0,
) -> tuple[Piece, ...]:
    """Rows y and columns x of `count` blocks of what a nest reads, at `local` in L1: packed, or a row every `row_words`
    and a block every `block_words` words."""
    if source.gather is not None:
        return (_gathered(source.tensor, source.gather, map_size, y, x, local, row_words or x[1] - x[0]),)
    if row_words is None:
        return (rectangle(source.tensor, map_size, block, count, y, x, local),)
    height, width = map_size
    return (
        Piece(
            source.tensor, (block * height + y[0]) * width + x[0], Space.L1, local, x[1] - x[0], y[1] - y[0], width,
            row_words, count, height * width, block_words,
        ),
    )  # fmt: skip


def _gathered(
    tensor: str, gather: Gather, map_size: tuple[int, int], y: tuple[int, int], x: tuple[int, int], local: int,
    row_words: int,
) -> Piece:
    """Rows y and columns x of a map whose words are gathered from rows of bytes."""
    row, columns, rows = gather.row or map_size[1] * gather.step, x[1] - x[0], y[1] - y[0]
    start = gather.first + x[0] * gather.step
    first = max(start, 0)
    length = min(start + (columns - 1) * gather.step + gather.used, row) - first
    if start == 0 and gather.used == gather.step and columns == row_words and length == row:
        columns, rows, length = rows * columns, 1, rows * row  # whole rows of whole pixels are one run
    run = GatherRun(gather.step, gather.used, first - start, length, gather.fill)
    return Piece(
        tensor, y[0] * row + first, Space.L1, local, columns, rows, row if rows > 1 else 0,
        row_words if rows > 1 else 0, gather=run,
    )  # fmt: skip


def _input_pieces(plan: Plan, step: TileStep, slot: int) -> tuple[Piece, ...]:
    tile, nest = step.tile, plan.nest
    out: list[Piece] = []
    at = slot
    for source, block, count in step.loads:
        y, x = (tile.iy0, tile.iy1), (tile.ix0, tile.ix1)
        out += input_pieces(nest.sources[source], nest.in_map, block, count, y, x, at)
        at += count * tile.height * tile.width
    return tuple(out)


def output_pieces(nest: Nest, tile: Tile, b0: int, count: int, slot: int) -> tuple[Piece, ...]:
    """The results of a tile's `count` blocks from b0 on, packed at `slot`; rows that are repeated are stored again."""
    fy, fx = nest.upsample
    if fy == 1:
        low, high = nest.results(tile.x0, tile.x1)
        size, x = (nest.out_map[0], nest.result_columns * fx), (low * fx, high * fx)
        return (rectangle(nest.output, size, b0, count, (tile.y0, tile.y1), x, slot),)
    height, width = nest.out_map[0] * fy, nest.out_map[1] * fx
    columns = tile.columns * fx
    return tuple(
        Piece(
            nest.output, (b0 * height + tile.y0 * fy + copy) * width + tile.x0 * fx, Space.L1, slot, columns,
            tile.rows, fy * width, columns, count, height * width, tile.rows * columns,
        )
        for copy in range(fy)
    )  # fmt: skip


def _inputs(plan: Plan, regions: list[Region]) -> Iterator[Transfer]:
    """Loads of input tiles for clusters that use the same ones."""
    mask = sum(1 << r.cluster for r in regions)
    index, before = 0, None
    for number, step in enumerate(regions[0].steps):
        if step.key == before:
            continue
        before = step.key
        wait = ToDmpa.INPUT_FREE if plan.inputs.used_before(index) else None
        pieces = _input_pieces(plan, step, plan.inputs.at(index))
        yield Transfer(DmpaOp.LOAD, mask, pieces, wait, ToCluster.INPUT_READY, number + urgency.INPUT)
        index += 1


def _outputs(plan: Plan, region: Region) -> Iterator[Transfer]:
    nest, slots = plan.nest, plan.outputs
    return stores(region.cluster, slots, [
        output_pieces(nest, step.tile, step.b0, step.b1 - step.b0, slots.at(i)) for i, step in enumerate(region.steps)
    ])  # fmt: skip


def stores(cluster: int, slots: Slots, pieces: Sequence[tuple[Piece, ...]]) -> Iterator[Transfer]:
    """Stores of a cluster's results, which come through slots of L1 in turn. pieces: of each result."""
    for number, each in enumerate(pieces):
        signal = ToCluster.OUTPUT_FREE if slots.used_again(number, len(pieces)) else None
        yield Transfer(DmpaOp.STORE, 1 << cluster, each, ToDmpa.OUTPUT_READY, signal, number + urgency.RESULT)


def _weights(plan: Plan, regions: list[Region], buffer: str) -> Iterator[Transfer]:
    """Loads of records and weights, broadcast to all clusters of the same output blocks."""
    nest = plan.nest
    size, stored, step_words = nest.block_words, nest.record_words + nest.weight_words, nest.stored_step
    longest = max(regions, key=lambda r: len(weight_loads(plan, r)))
    everyone = sum(1 << r.cluster for r in regions)
    if plan.mode is WeightMode.CHUNK:
        yield from _chunk_weights(plan, regions, buffer, everyone)
        return
    for index, (number, _, _) in enumerate(weight_loads(plan, longest)):
        step = longest.steps[number]
        mask = sum(1 << r.cluster for r in regions if number < len(r.steps))
        stepwise = plan.mode is WeightMode.STEP
        local = plan.weight_slot(index) if stepwise else plan.resident_block(longest, step.b0)
        words = (step.b1 - step.b0) * size
        if step_words != size:
            wait = ToDmpa.WEIGHTS_FREE if stepwise and index >= plan.ring_parts else None
            piece = Piece(
                buffer, step.b0 * step_words, Space.WMEM, local, stored, step.b1 - step.b0, step_words, size
            )
            yield Transfer(DmpaOp.LOAD, mask, (piece,), wait, ToCluster.WEIGHTS_READY, number + urgency.WEIGHTS)
            continue
        for part in range(plan.weight_parts):
            start = min(part * plan.part_words, words)
            length = min(plan.part_words, words - start) if plan.weight_parts > 1 else words
            late = stepwise and index * plan.weight_parts + part >= plan.ring_parts
            wait = ToDmpa.WEIGHTS_FREE if late else None
            piece = Piece(buffer, step.b0 * size + start, Space.WMEM, local + start, length)
            yield Transfer(DmpaOp.LOAD, mask, (piece,), wait, ToCluster.WEIGHTS_READY, number + urgency.WEIGHTS)


def _chunk_weights(plan: Plan, regions: list[Region], buffer: str, everyone: int) -> Iterator[Transfer]:
    nest, first = plan.nest, regions[0]
    size, words = nest.stored_step, nest.record_words
    piece = Piece(buffer, first.b0 * size, Space.WMEM, 0, words, first.b1 - first.b0, size, words)
    yield Transfer(DmpaOp.LOAD, everyone, (piece,), None, ToCluster.WEIGHTS_READY, urgency.RECORDS)
    loads = {r.cluster: weight_loads(plan, r) for r in regions}
    done = dict.fromkeys(loads, 0)
    every = sorted({load for each in loads.values() for load in each})
    has = {c: set(each) for c, each in loads.items()}
    blocks = {number: step.b0 for r in regions for number, step in enumerate(r.steps)}
    per_step = max(1, len(every) // max(len(r.steps) for r in regions))
    for at, (number, job, chunk) in enumerate(every):
        members = [c for c in loads if (number, job, chunk) in has[c]]
        # A cluster's slot is a matter of its own count, so clusters that have fallen out of step are served apart.
        for index in sorted({done[c] for c in members}, reverse=True):
            group = [c for c in members if done[c] == index]
            part = plan.chunks[chunk]
            local = plan.weights.at(index)
            piece = Piece(buffer, blocks[number] * size + words + part.start, Space.WMEM, local, part.words)
            wait = ToDmpa.WEIGHTS_FREE if plan.weights.used_before(index) else None
            mask, when = sum(1 << c for c in group), at / per_step + urgency.WEIGHTS
            yield Transfer(DmpaOp.LOAD, mask, (piece,), wait, ToCluster.WEIGHTS_READY, when)
        for c in members:
            done[c] += 1


def queues(plan: Plan, buffer: str) -> list[deque[Transfer]]:
    """Independent queues of transfers, each in its own order. `buffer`: where the parameters lie in L2."""
    by_channel: dict[int, list[Region]] = {}
    by_input: dict[object, list[Region]] = {}
    for region in plan.regions:
        by_channel.setdefault(region.channel, []).append(region)
        keys = tuple(dict.fromkeys(step.key for step in region.steps))
        by_input.setdefault((region.group, keys), []).append(region)
    out = [deque(_weights(plan, regions, buffer)) for regions in by_channel.values()]
    out += [deque(_inputs(plan, regions)) for regions in by_input.values()]
    out += [deque(_outputs(plan, region)) for region in plan.regions]
    return out


def program_transfers(programs: list[tuple[str, int, int, int]]) -> list[Transfer]:
    """Loads of programs that start their clusters. Each: (buffer, words, word in IMEM, clusters)."""
    return [
        Transfer(DmpaOp.LOAD, mask, (Piece(buffer, 0, Space.IMEM, at, words),), None, ToCluster.START, urgency.PROGRAM)
        for buffer, words, at, mask in programs
    ]


def table_transfers(plan: Plan, buffer: str) -> list[Transfer]:
    """The load of a nest's table to all clusters, ahead of all inputs: their semaphore says that it is there too."""
    nest = plan.nest
    if not nest.table:
        return []
    piece = Piece(buffer, nest.stored_words, Space.L1, plan.table_slot, nest.table_words)
    return [Transfer(DmpaOp.LOAD, sum(1 << r.cluster for r in plan.regions), (piece,), None, None, urgency.TABLE)]


def order_transfers(
    first: list[Transfer], waiting: list[deque[Transfer]], codes: dict[int, ClusterCode], platform: J3dai
) -> tuple[list[Transfer], int]:
    """All transfers in the order of execution, and the estimated cycles of the layer, see `order.in_order`.

    Raises:
        TransferError: it would hang, or leave a semaphore above 0.
    """
    timing: Timing[Transfer] = Timing(lambda t: t.cycles(platform), _TURN_CYCLES, _LATENCY, _SIGNAL_LATENCY)
    programs = {cluster: [("wait", ToCluster.START), *code.events] for cluster, code in codes.items()}
    names = Names("cluster", "semaphores", lambda s: ToCluster(s).name, lambda s: ToDmpa(s).name)
    return in_order(first, waiting, programs, timing, names)
