# SPDX-License-Identifier: Apache-2.0
"""Tiling plans: who computes which part of a layer, in which steps, and what lies where in L1 and WMEM.

A cluster's work is a sequence of *steps*: a tile of the map (all rows and columns it needs are in L1) times a range of
output blocks. Input tiles and results are double-buffered in L1 where they fit; weights stay in WMEM if the
cluster's all fit, else one step's are loaded at a time, or pieces of one block's ("chunks") for every job.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from nncosim.compiler.tiling.chunks import Chunk, chunks_of
from nncosim.compiler.tiling.grids import Grid, split
from nncosim.compiler.tiling.slots import Slots, two_of_each
from nncosim.compiler.tiling.tiles import Tile, make_tile
from nncosim.kernels.j3dai.nest import Nest, pad_to_line
from nncosim.platforms.j3dai import J3dai

__all__ = [
    "MOST_JOBS", "MOST_WIDTH", "OfOneNest", "Plan", "Region", "TileStep", "WeightMode", "jobs_of", "make_plan",
    "source_blocks", "try_plan",
]  # fmt: skip

MOST_WIDTH = 4095
"""What a cluster's registers of widths and the counts of dimensions hold."""
MOST_JOBS = 65536
"""Jobs of one MAC."""
_CHUNK_SLOTS = 2  # buffers of pieces of weights


class WeightMode(enum.Enum):
    RESIDENT = "resident"  # loaded once
    STEP = "step"  # one slot a step
    CHUNK = "chunk"  # pieces of a block, for every job again


@dataclass(frozen=True)
class TileStep:
    """Output blocks b0..b1-1 of a tile. `loads`: (source, first block, number) that must be in L1, in this order."""

    tile: Tile
    b0: int
    b1: int
    loads: tuple[tuple[int, int, int], ...]

    @property
    def key(self) -> tuple[Tile, tuple[tuple[int, int, int], ...]]:
        """Equal keys: the same input data."""
        return self.tile, self.loads

    @property
    def input_words(self) -> int:
        return sum(n for _, _, n in self.loads) * self.tile.height * self.tile.width


@dataclass(frozen=True)
class Region:
    """One cluster's share: its place in the grid, its steps. `group`, `channel`: index on the map and channel axes."""

    cluster: int
    group: int
    channel: int
    b0: int
    b1: int
    steps: tuple[TileStep, ...]


def loads_of(nest: Nest, b0: int, b1: int) -> tuple[tuple[int, int, int], ...]:
    """What output blocks b0..b1-1 read: (source, first block, number)."""
    return source_blocks(nest, b0, b1 - b0) if nest.depthwise else source_blocks(nest, *nest.reads[b0])


def source_blocks(nest: Nest, first: int, count: int) -> tuple[tuple[int, int, int], ...]:
    """Where input blocks first.. of all sources one after the other lie: (source, first block, number)."""
    if nest.depthwise:
        return tuple((i, first, count) for i in range(len(nest.sources)))
    out, base = [], 0
    for i, source in enumerate(nest.sources):
        low, high = max(first, base), min(first + count, base + source.blocks)
        if low < high:
            out.append((i, low - base, high - low))
        base += source.blocks
    return tuple(out)


def block_ranges(nest: Nest, b0: int, b1: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `size` blocks that read the same input."""
    at = b0
    while at < b1:
        end = at + 1
        while end < min(at + size, b1) and (nest.depthwise or nest.reads[end] == nest.reads[at]):
            end += 1
        yield at, end
        at = end


def jobs_of(nest: Nest, tile: Tile) -> int:
    """Jobs of one output block of a tile (an operand of a pair is a job of its own)."""
    pes = nest.platform.pes_per_ncb
    if nest.upsample[1] > 2:
        return tile.rows * tile.columns * -(-nest.upsample[1] // pes)
    if nest.upsample != (1, 1):
        return -(-tile.rows * tile.columns // pes) * nest.upsample[1]
    return tile.rows * -(-tile.columns // pes) * (2 if nest.pair else nest.interleave)


class OfOneNest:
    """What a plan of a single nest says about it; a fused group's plan has several."""

    nest: Nest

    @property
    def name(self) -> str:
        return self.nest.name

    @property
    def nests(self) -> tuple[Nest, ...]:
        return (self.nest,)

    def parameter_bytes(self) -> bytes:
        return self.nest.parameter_bytes()


@dataclass(frozen=True)
class Plan(OfOneNest):
    """A nest cut up for a platform.

    inputs, outputs: buffers in L1. weight_slots: of one step's blocks (STEP).
    weight_parts: 1, or (STEP) all of WMEM is one ring, and a step's weights come in so many parts, as many of them
        ahead of the step as there is room for.
    wmem_base: first word of WMEM that the layer uses (RESIDENT, and STEP without parts).
    """

    nest: Nest
    platform: J3dai
    grid: Grid
    regions: tuple[Region, ...]
    inputs: Slots
    outputs: Slots
    mode: WeightMode
    weight_slots: int = 1
    step_blocks: int = 1
    weight_parts: int = 1
    wmem_base: int = 0

    @cached_property
    def record_area(self) -> int:
        """Words of WMEM that CHUNK mode keeps for the records of all blocks of a cluster."""
        return max(r.b1 - r.b0 for r in self.regions) * self.nest.record_words

    @cached_property
    def chunk_words(self) -> int:
        room = (self.platform.wmem_words - self.record_area) // _CHUNK_SLOTS
        return room // self.platform.banks * self.platform.banks

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        return chunks_of(self.nest.kernel, self.nest.reads[0][1], self.nest.lanes, self.chunk_words)

    @property
    def step_words(self) -> int:
        """Words of a step's records and weights."""
        return self.step_blocks * self.nest.block_words

    @property
    def part_words(self) -> int:
        return pad_to_line(-(-self.step_words // self.weight_parts), self.platform)

    @property
    def ring_parts(self) -> int:
        """Parts of weights that WMEM holds at a time (STEP mode)."""
        return self.platform.wmem_words // self.part_words if self.weight_parts > 1 else self.weight_slots

    @cached_property
    def weights(self) -> Slots:
        """Buffers in WMEM: of chunks (CHUNK), or of steps' records and weights (STEP without parts)."""
        if self.mode is WeightMode.CHUNK:
            return Slots(self.record_area, _CHUNK_SLOTS, self.chunk_words)
        return Slots(self.wmem_base, self.weight_slots, self.step_words)

    def weight_slot(self, index: int) -> int:
        """Word address in WMEM of the weights loaded as number `index` (STEP and CHUNK mode)."""
        if self.weight_parts > 1:
            return index * self.step_words % self.platform.wmem_words
        return self.weights.at(index)

    @property
    def table_slot(self) -> int:
        """Word address in L1 of the nest's table: behind all buffers, at L1's end."""
        return self.platform.l1_words - self.nest.table_words

    def resident_block(self, region: Region, block: int) -> int:
        """Word address in WMEM of a block's records and weights (RESIDENT mode)."""
        return self.wmem_base + (block - region.b0) * self.nest.block_words

    @cached_property
    def wmem_words(self) -> int:
        """Words of WMEM that the layer uses, from `wmem_base`."""
        if self.mode is WeightMode.RESIDENT:
            return max(r.b1 - r.b0 for r in self.regions) * self.nest.block_words
        if self.mode is WeightMode.STEP and self.weight_parts == 1:
            return self.weights.end - self.weights.base
        return self.platform.wmem_words

    @property
    def buffered(self) -> bool:
        """Whether transfers and jobs can overlap."""
        steps = max((r.steps for r in self.regions), key=len)
        loads = len({s.key for s in steps})
        return (self.inputs.count > 1 or loads == 1) and (self.outputs.count > 1 or len(steps) == 1)

    @property
    def line(self) -> str:
        """One line for listings."""
        g, n, blocks = self.grid, self.nest, self.step_blocks
        steps = max(len(r.steps) for r in self.regions)
        return (
            f"{n.name}: {g.over('clusters')}, "
            f"{steps} step{'s' * (steps > 1)} of {blocks} block{'s' * (blocks > 1)}, input {self.inputs} words, "
            f"output {self.outputs}, weights {self.mode.value}"
            + (f" in {self.weight_parts} parts" if self.weight_parts > 1 else "")
        )


def make_plan(
    nest: Nest, platform: J3dai, grid: Grid, tiles: tuple[int, int], step_blocks: int
) -> Plan | None:
    """The plan for a grid, (row, column) cuts of each cluster's part, and blocks a step; None if it does not fit."""
    found = try_plan(nest, platform, grid, tiles, step_blocks)
    return found if isinstance(found, Plan) else None


def try_plan(
    nest: Nest, platform: J3dai, grid: Grid, tiles: tuple[int, int], step_blocks: int
) -> Plan | str:
    """Like `make_plan`; if the plan does not fit, why."""
    rows, columns = split(nest.out_map[0], grid.rows), split(nest.out_map[1], grid.columns, nest.unit)
    channels = split(nest.out_blocks, grid.channels)
    if len(rows) * len(columns) * len(channels) != grid.engines:
        return "leaves clusters without work"
    regions: list[Region] = []
    parts = [(y, x) for y in rows for x in columns]
    for group, (y, x) in enumerate(parts):
        cut = _cut(nest, y, x, tiles)
        for channel, (b0, b1) in enumerate(channels):
            steps = tuple(
                TileStep(tile, low, high, loads_of(nest, low, high))
                for tile in cut for low, high in block_ranges(nest, b0, b1, step_blocks)
            )
            regions.append(Region(len(regions), group, channel, b0, b1, steps))
    return _fit(nest, platform, grid, tuple(regions), step_blocks)


def _cut(nest: Nest, y: tuple[int, int], x: tuple[int, int], tiles: tuple[int, int]) -> list[Tile]:
    ys = [(y[0] + a, y[0] + b) for a, b in split(y[1] - y[0], tiles[0])]
    xs = [(x[0] + a, x[0] + b) for a, b in split(x[1] - x[0], tiles[1], nest.unit)]
    return [make_tile(nest, i, j) for i in ys for j in xs]


def _output_words(nest: Nest, step: TileStep) -> int:
    low, high = nest.results(step.tile.x0, step.tile.x1)
    return step.tile.rows * (high - low) * nest.upsample[1] * (step.b1 - step.b0)


def _walked(nest: Nest, tile: Tile) -> int:
    """Greatest width that a register of the cluster has to hold."""
    if nest.upsample != (1, 1):
        return tile.width * tile.height
    return max(tile.width, tile.height, tile.columns * nest.interleave, tile.rows)


def _fit(nest: Nest, platform: J3dai, grid: Grid, regions: tuple[Region, ...], step_blocks: int) -> Plan | str:
    steps = [s for r in regions for s in r.steps]
    if max(_walked(nest, s.tile) for s in steps) > MOST_WIDTH or max(jobs_of(nest, s.tile) for s in steps) > MOST_JOBS:
        return "a tile is longer than the registers hold"
    buffers = _buffers(nest, platform, regions)
    if isinstance(buffers, str):
        return buffers
    widest = max(s.b1 - s.b0 for s in steps)
    weights = _weights(nest, platform, max(r.b1 - r.b0 for r in regions), widest)
    if isinstance(weights, str):
        return weights
    mode, slots = weights
    each = step_blocks if mode is WeightMode.RESIDENT else widest
    return Plan(nest, platform, grid, regions, *buffers, mode, min(slots, 4), each)


def _buffers(nest: Nest, platform: J3dai, regions: tuple[Region, ...]) -> tuple[Slots, Slots] | str:
    """Of inputs and of results, two of each where they fit; if not even one does, why."""
    input_words = pad_to_line(max(s.input_words for r in regions for s in r.steps), platform)
    output_words = pad_to_line(max(_output_words(nest, s) for r in regions for s in r.steps), platform)
    loads = max(len({s.key for s in r.steps}) for r in regions)
    results = max(len(r.steps) for r in regions)
    room = platform.l1_words - nest.table_words
    found = two_of_each((input_words, output_words), (loads, results), room)
    return found or f"needs {input_words} + {output_words} words of L1 for input and output, of {room}"


def _weights(nest: Nest, platform: J3dai, blocks: int, step_blocks: int) -> tuple[WeightMode, int] | str:
    """How a cluster's weights are held, and for how many steps at a time; if they cannot be, why.

    Args:
        blocks, step_blocks: output blocks of a cluster and of a step, at most.
    """
    room = platform.wmem_words
    if blocks * nest.block_words <= room:
        return WeightMode.RESIDENT, 1
    need = step_blocks * nest.block_words
    if need <= room:
        return WeightMode.STEP, room // need
    if nest.depthwise or step_blocks > 1 or nest.interleave > 1:
        return f"needs {need} words of WMEM for a step's parameters, of {room}"
    if blocks * nest.record_words > room // 2:
        return f"needs {blocks * nest.record_words} words of WMEM for records, of {room // 2}"
    return WeightMode.CHUNK, 0
