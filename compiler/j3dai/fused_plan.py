# SPDX-License-Identifier: Apache-2.0
"""Plans of fused groups: a chain of nests on tiles of the last one's output, with everything between them in L1.

For a tile each member computes the rectangle that the next one's windows touch, clipped to the map, so that the next
one's bounds do its padding. Neighbouring tiles compute the rows and columns that both need twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from nncosim.compiler.j3dai.plan import MOST_JOBS, MOST_WIDTH, jobs_of
from nncosim.compiler.tiling.grids import split
from nncosim.compiler.tiling.slots import Slots, opposite_ends
from nncosim.compiler.tiling.tiles import Tile, chain_tiles
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.kernels.j3dai.nest import Nest, pad_to_line
from nncosim.platforms.j3dai import J3dai

__all__ = [
    "External", "FusedGroup", "FusedPlan", "FusedRegion", "Made", "ParameterPart", "flat", "fusable",
    "make_fused_plan", "parts_of", "walked",
]  # fmt: skip

_MOST_STEP = 8191  # of an address generator's dimension, in words


@dataclass(frozen=True)
class External:
    """An operand that comes from L2: source number `source` of member `member`."""

    member: int
    source: int
    tensor: str
    blocks: int


@dataclass(frozen=True, eq=False)
class FusedGroup:
    """Nests of which each reads what the one before wrote.

    Their maps are (rows, columns) as they are in L2, or all of them one row of all pixels.

    chained: per member the number of the source that the member before wrote; None for the first.
    """

    name: str
    members: tuple[Nest, ...]
    chained: tuple[int | None, ...]

    @cached_property
    def externals(self) -> tuple[External, ...]:
        return tuple(
            External(i, j, source.tensor, source.blocks)
            for i, nest in enumerate(self.members)
            for j, source in enumerate(nest.sources)
            if j != self.chained[i]
        )

    @property
    def last(self) -> Nest:
        return self.members[-1]

    @property
    def macs(self) -> int:
        return sum(nest.macs for nest in self.members)

    def tiles(self, ys: tuple[int, int], xs: tuple[int, int]) -> tuple[Tile, ...]:
        """Each member's tile for rows ys and columns xs of the last one's output."""
        return chain_tiles(self.members, ys, xs)


@dataclass(frozen=True)
class FusedRegion:
    """One cluster's share: for each of its steps a tile a member."""

    cluster: int
    steps: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True)
class ParameterPart:
    """Parameters that are loaded together: blocks b0..b1-1 of a member; all their records, then all their weights.

    start: its first word in the group's parameters. words: whole lines.
    """

    member: int
    b0: int
    b1: int
    start: int
    words: int


@dataclass(frozen=True)
class Made:
    """Where and when a cluster writes a tile of a tensor that stays in L1.

    first: number of its first line among those that the cluster's results make in this layer. lines: their number.
    address: word in L1. tile: which rows and columns, packed, of a map that is walked as rows of `width` pixels.
    """

    tensor: str
    cluster: int
    first: int
    lines: int
    address: int
    tile: Tile
    width: int


@dataclass(frozen=True, eq=False)
class FusedPlan:
    """A group cut up for a platform.

    grid: rows x columns of clusters. inputs, outputs: buffers in L1.
    external_at: word of each external operand in an input slot. middle_at: word in L1 of each intermediate.
    weights: buffers in WMEM, each of a part; None if all parameters stay.
    wmem_base: first word of WMEM that the group uses, if they stay.
    """

    group: FusedGroup
    platform: J3dai
    grid: tuple[int, int]
    regions: tuple[FusedRegion, ...]
    inputs: Slots
    external_at: tuple[int, ...]
    middle_at: tuple[int, ...]
    outputs: Slots
    parts: tuple[ParameterPart, ...]
    weights: Slots | None = None
    wmem_base: int = 0

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def nests(self) -> tuple[Nest, ...]:
        return self.group.members

    @property
    def resident(self) -> bool:
        return self.weights is None

    def source_at(self, member: int, source: int, step: int) -> int:
        """Word address in L1 of an operand's tile."""
        if self.group.chained[member] == source:
            return self.middle_at[member - 1]
        number = next(i for i, e in enumerate(self.group.externals) if (e.member, e.source) == (member, source))
        return self.inputs.at(step) + self.external_at[number]

    def part_at(self, step: int, part: int) -> int:
        """Word address in WMEM of a part of the parameters in a step."""
        if self.weights is None:
            return self.wmem_base + self.parts[part].start
        return self.weights.at(self.load(step, part))

    def load(self, step: int, part: int) -> int:
        """The number of a part's load in a step, where parts come and go."""
        return step * len(self.parts) + part

    @property
    def wmem_words(self) -> int:
        """Words of WMEM that the group uses, from `wmem_base`."""
        return self.parts[-1].start + self.parts[-1].words if self.resident else self.platform.wmem_words

    def parameter_bytes(self) -> bytes:
        out = []
        for part in self.parts:
            nest = self.nests[part.member]
            data = b"".join(nest.records[part.b0 : part.b1]) + b"".join(nest.weights[part.b0 : part.b1])
            out.append(data.ljust(part.words * self.platform.word_bytes, b"\0"))
        return b"".join(out)

    def made(self) -> Iterator[Made]:
        """All tiles of tensors that stay in L1, cluster by cluster, in the order in which they are written."""
        for region in self.regions:
            line = 0
            for tiles in region.steps:
                for i, (nest, tile) in enumerate(zip(self.nests, tiles, strict=True)):
                    lines = _lines(nest, tile)
                    if i + 1 < len(self.nests):
                        yield Made(
                            nest.output, region.cluster, line, lines, self.middle_at[i], tile, nest.out_map[1]
                        )
                    line += lines

    @property
    def line(self) -> str:
        """One line for listings."""
        weights = "resident"
        if self.weights is not None:
            weights = f"in {len(self.parts)} parts through {self.weights.count} slots"
        steps = max(len(r.steps) for r in self.regions)
        return (
            f"{self.name}: {' + '.join(n.name for n in self.nests)} fused, {self.grid[0]} x {self.grid[1]} clusters "
            f"(rows x columns), {steps} step{'s' * (steps > 1)}, input {self.inputs} words, "
            f"output {self.outputs}, between them {self.outputs.base - self.inputs.end}, weights {weights}"
        )


def flat(nest: Nest) -> bool:
    """Whether each result depends on the pixel at its own place only, so that a packed tile is as good as a row."""
    plain = nest.kernel == (1, 1) and nest.stride == (1, 1) and nest.pads == (0, 0)
    return plain and nest.upsample == (1, 1) and nest.interleave == 1


def walked(nest: Nest, tile: Tile) -> Tile:
    """The tile as the address generators walk it: in one row where that makes no difference."""
    if not flat(nest):
        return tile
    pixels = tile.rows * tile.columns
    return Tile(0, 1, 0, pixels, 0, 1, 0, pixels)


def _lines(nest: Nest, tile: Tile) -> int:
    """Lines of L1 that the results of a tile make: one a job, two if they are two words apart."""
    jobs = jobs_of(nest, walked(nest, tile)) // (2 if nest.pair else 1)
    return nest.out_blocks * jobs * (2 if nest.upsample[1] == 2 else 1)


def parts_of(group: FusedGroup, most: int) -> tuple[ParameterPart, ...] | None:
    """The parameters in parts of at most `most` words; None if a single block has more."""
    out: list[ParameterPart] = []
    for i, nest in enumerate(group.members):
        each = nest.record_words + nest.weight_words
        if pad_to_line(each, nest.platform) > most:
            return None
        for b0, b1 in split(nest.out_blocks, -(-nest.out_blocks // (most // each))):
            start = out[-1].start + out[-1].words if out else 0
            out.append(ParameterPart(i, b0, b1, start, pad_to_line((b1 - b0) * each, nest.platform)))
    return tuple(out)


def _middles(group: FusedGroup, steps: Sequence[tuple[Tile, ...]]) -> tuple[tuple[int, ...], int]:
    """Where the intermediates lie, and how many words they take."""
    sizes = []
    for i, nest in enumerate(group.members[:-1]):
        area = max(tiles[i].rows * tiles[i].columns for tiles in steps)
        sizes.append(pad_to_line(area * nest.out_blocks, nest.platform))
    return opposite_ends(sizes)


def _walkable(group: FusedGroup, steps: Sequence[tuple[Tile, ...]]) -> bool:
    for i, nest in enumerate(group.members):
        for tile in {tiles[i].shape: tiles[i] for tiles in steps}.values():
            at = walked(nest, tile)
            if max(at.width, at.height, at.columns, at.rows) > MOST_WIDTH or jobs_of(nest, at) > MOST_JOBS:
                return False
            planes = max(at.width * at.height, at.rows * at.columns * nest.upsample[1])
            if planes > (_MOST_STEP if nest.upsample == (1, 1) else MOST_WIDTH):
                return False
    return True


def make_fused_plan(
    group: FusedGroup, platform: J3dai, grid: tuple[int, int], cuts: tuple[int, int], slots: tuple[int, int],
    most_part: int | None,
) -> FusedPlan | None:
    """The plan for a grid of clusters, (row, column) cuts of each one's share, (input, output) slots.

    Args:
        most_part: words of a part of parameters that come and go; None: all stay.

    Returns:
        None if it does not fit.
    """
    regions = _regions(group, grid, cuts, platform.pes_per_ncb)
    parts = parts_of(group, most_part or 1 << 30)
    if parts is None or not regions:
        return None
    return _fit(group, platform, grid, regions, slots, parts, most_part is None)


@lru_cache(maxsize=16)
def _regions(group: FusedGroup, grid: tuple[int, int], cuts: tuple[int, int], unit: int) -> tuple[FusedRegion, ...]:
    """Each cluster's share; none if some would have no work, or a tile is too long for the clusters' registers."""
    rows, columns = group.last.out_map
    ys, xs = split(rows, grid[0]), split(columns, grid[1], unit)
    if len(ys) * len(xs) != grid[0] * grid[1]:
        return ()
    regions = []
    for cluster, (y, x) in enumerate((y, x) for y in ys for x in xs):
        own_ys = [(y[0] + a, y[0] + b) for a, b in split(y[1] - y[0], cuts[0])]
        own_xs = [(x[0] + a, x[0] + b) for a, b in split(x[1] - x[0], cuts[1], unit)]
        regions.append(FusedRegion(cluster, tuple(group.tiles(i, j) for i in own_ys for j in own_xs)))
    return tuple(regions) if _walkable(group, [tiles for r in regions for tiles in r.steps]) else ()


def _fit(
    group: FusedGroup, platform: J3dai, grid: tuple[int, int], regions: tuple[FusedRegion, ...], slots: tuple[int, int],
    parts: tuple[ParameterPart, ...], resident: bool,
) -> FusedPlan | None:
    steps = [tiles for region in regions for tiles in region.steps]
    most = max(len(region.steps) for region in regions)
    external_at, words = [], 0
    for e in group.externals:
        external_at.append(words)
        words += pad_to_line(max(t[e.member].height * t[e.member].width for t in steps) * e.blocks, platform)
    middle_at, middle = _middles(group, steps)
    last, copies = group.last, group.last.upsample[1]
    output = pad_to_line(max(t[-1].rows * t[-1].columns for t in steps) * copies * last.out_blocks, platform)
    inputs = Slots(0, min(slots[0], most), words)
    outputs = Slots(inputs.end + middle, min(slots[1], most), output)
    if outputs.end > platform.l1_words:
        return None
    plan = FusedPlan(
        group, platform, grid, regions, inputs, tuple(external_at), tuple(inputs.end + m for m in middle_at), outputs,
        parts,
    )  # fmt: skip
    for member, nest in enumerate(group.members):
        if nest.pair and abs(plan.source_at(member, 1, 0) - plan.source_at(member, 0, 0)) + inputs.end > _MOST_STEP:
            return None
    if resident:
        return plan if plan.wmem_words <= platform.wmem_words else None
    widest = max(part.words for part in parts)
    fitting = platform.wmem_words // widest
    return replace(plan, weights=Slots(0, min(fitting, most * len(parts)), widest)) if fitting >= 2 else None


def fusable(nest: Nest) -> bool:
    """Whether a nest can be a member: no tables in L1, no packed input."""
    return nest.op is not MacOp.TABLE and not nest.columns and (nest.pair or len(nest.sources) == 1)
