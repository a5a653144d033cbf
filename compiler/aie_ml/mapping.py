# SPDX-License-Identifier: Apache-2.0
"""Which tiles a layer takes: how its reduction is cut over a chain of cores, its results over rows, and where that is.

A layer is a rectangle: `cascade` columns, each with a part of the reduction, times `rows` chains, each with a part of
the results (AIE4ML's cas_length and cas_num). Each axis is padded as a whole: parts are equal, but for the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.ir.operators import Add, Conv, Transpose
from nncosim.kernels.aie_ml.dense import shape_of
from nncosim.kernels.aie_ml.elementwise import sum_shape, transposition_shape
from nncosim.kernels.aie_ml.matrix import rows_of, stored_bits
from nncosim.kernels.aie_ml.product import Role, Shape
from nncosim.platforms.aie_ml import BANK_BYTES, AieMl
from nncosim.platforms.aie_ml_generation import Generation

__all__ = [
    "CHANNELS", "OBJECTIVES", "Box", "Part", "Split", "boxes_of", "check_splits", "parts", "ranked_splits", "savings",
    "taken_parts",
]  # fmt: skip

CHANNELS = 8
"""Parts are whole multiples of so many channels: a tile's columns."""
MOST_PARTNERS = 2
"""Parts of the layer before that one part needs, and the other way round: a tile's DMA has so many channels."""
_LAYER, _STAGE, _ROW = 38, 13, 2
"""Cycles of a layer besides its blocks and words, fitted to what the simulator measures for random splits: fill, drain,
locks; for each further core of a chain, which waits for a block's sums and so much more; for each further row, to which
streams have a longer way."""
_DETOUR = 60
"""An estimate: what a memory tile takes besides its words, which it takes before it gives them."""
_AGAIN, _NEXT = 26, 5
"""From one inference to the next, as the simulator measures: what a kernel takes besides its blocks, a stream besides
its words."""

Part = tuple[int, int]
"""First channel, and the one behind the last."""


@dataclass(frozen=True)
class Split:
    """How a layer is cut: the reduction over `cascade` columns, the results over `rows` chains."""

    cascade: int
    rows: int

    @property
    def tiles(self) -> int:
        return self.cascade * self.rows

    def role(self, column: int) -> Role:
        """Of the cores in a column of the layer."""
        return next(r for r in Role if (r.begins, r.ends) == (column == 0, column == self.cascade - 1))

    def __str__(self) -> str:
        return f"{self.cascade}x{self.rows}"


@dataclass(frozen=True)
class Box:
    """A layer's tiles: its split, and column and row of the tile that is nearest to the array's corner."""

    split: Split
    column: int
    row: int

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """(column, row) of each, chain by chain."""
        return tuple((self.column + c, self.row + r) for r in range(self.split.rows) for c in range(self.split.cascade))


def parts(channels: int, count: int) -> tuple[Part, ...]:
    """An axis in so many equal parts; () where one would lie behind its end."""
    size = -(-channels // (count * CHANNELS)) * CHANNELS
    if (count - 1) * size >= channels:
        return ()
    return tuple((k * size, min((k + 1) * size, channels)) for k in range(count))


def overlaps(first: Sequence[Part], second: Sequence[Part]) -> list[list[int]]:
    """For each part of the second cut, which of the first have channels of it."""
    return [[k for k, (a, b) in enumerate(first) if a < end and begin < b] for begin, end in second]


def _agree(before: Sequence[Part], after: Sequence[Part], operands: int = 1, shared: int = 0) -> bool:
    """Whether streams between two layers need no more channels than a tile has. operands: of the second one. shared: of
    its parts, the first ones, that need none."""
    into, out = overlaps(before, after[shared:]), overlaps(after[shared:], before)
    return max(map(len, into)) <= MOST_PARTNERS // operands and max(map(len, out)) <= MOST_PARTNERS


def _fits(shape: Shape) -> bool:
    """A part's buffers fit their banks: the constant; bias; a copy of the activations with one of the results."""
    bias, size = shape.column_blocks * shape.columns, shape.generation.beat_bytes
    return max(shape.constant_beats, bias, shape.activation_beats + shape.output_bytes // size) * size <= BANK_BYTES


def taken_parts(op: Op, network: Network, split: Split) -> tuple[Part, ...]:
    """How a layer cuts what it takes; () where one would lie behind the end."""
    channels = network.tensors[op.inputs[0]].channels
    return parts(channels, split.cascade if isinstance(op, Conv) else split.rows if isinstance(op, Add) else 1)


def _shape(op: Op, network: Network, generation: Generation, taken: Part, results: Part) -> Shape:
    """Of a tile's part of a layer."""
    if isinstance(op, Conv):
        return shape_of(op, network, generation, taken, results, Role.SINGLE)
    if isinstance(op, Add):
        return sum_shape(op, network, generation, results)
    assert isinstance(op, Transpose)
    return transposition_shape(op, network, generation)


def _block(shape: Shape, split: Split) -> int:
    """Cycles of a block: those that multiply, or else move sums in and out of accumulators."""
    tiles = shape.rows * shape.columns
    moves = (tiles, tiles + len(shape.words), 2 * len(shape.words))[min(split.cascade, 3) - 1]
    return shape.steps * max(shape.least_interval, -(-moves // shape.steps))


def _stage(shape: Shape) -> int:
    """Cycles that a core of a chain waits for the one before it."""
    return _STAGE + shape.steps * shape.least_interval


@dataclass(frozen=True)
class _Option:
    """A split that the array and the memories have room for. cycles: of latency, without those of streams. stage: as of
    `_stage`. again: from one inference's start to the next one's. enters, leaves: words, of a part of the input and of
    the results."""

    split: Split
    cycles: int
    stage: int
    again: int
    enters: int
    leaves: int


@dataclass(frozen=True)
class _Way:
    """Splits of the layers so far. interval: the longest that something takes from an inference to the next one."""

    splits: tuple[Split, ...] = ()
    tiles: int = 0
    cycles: int = 0
    interval: int = 0


_Pair = tuple[int, Split]
_Rank = tuple[int, int, int]
_Key = tuple[int, int, int]
"""Tiles so far; columns that they have for themselves; rows of the last layer."""
_RANKS: Mapping[str, Callable[[_Way], _Rank]] = {
    "latency": lambda way: (way.cycles, way.tiles, way.interval),
    "throughput": lambda way: (way.interval, way.tiles, way.cycles),
    "fewest": lambda way: (way.tiles, way.cycles, way.interval),
}
OBJECTIVES = tuple(_RANKS)
"""Least cycles from an inference's first word to its last; least cycles between inferences; fewest tiles. Of equals the
first two take the fewest tiles, and the last one the least latency."""


def _words(tensor: Tensor, channels: int, generation: Generation) -> int:
    return rows_of(tensor) * -(-channels * stored_bits(tensor) // generation.word_bits)


def _cuts(op: Op, platform: AieMl) -> Iterator[Split]:
    """A sum has no reduction; a transposition would have to cut rows, and is not cut."""
    columns = platform.columns if isinstance(op, Conv) else 1
    rows = 1 if isinstance(op, Transpose) else platform.rows
    yield from (Split(*each) for each in product(range(1, columns + 1), range(1, rows + 1)))


def _options(op: Op, network: Network, platform: AieMl) -> Iterator[_Option]:
    source, out, generation = network.tensors[op.inputs[0]], network.tensors[op.output], platform.generation
    for split in _cuts(op, platform):
        taken, results = taken_parts(op, network, split), parts(out.channels, split.rows)
        if not taken or not results:
            continue
        shape = _shape(op, network, generation, taken[0], results[0])
        if _fits(shape):
            enters, leaves = (_words(tensor, channels, generation)
                              for tensor, channels in ((source, taken[0][1]), (out, results[0][1])))
            kernel = shape.blocks * _block(shape, split)
            stage = _stage(shape)
            waits = (split.cascade - 1) * stage + _ROW * (split.rows - 1)
            yield _Option(split, kernel + _LAYER + waits, stage, kernel + _AGAIN, enters, leaves)


def check_splits(network: Network, platform: AieMl, splits: Sequence[Split]) -> None:
    """Splits that a user gives.

    Raises:
        CompileError: not one for each layer, or layers that cannot be cut so; names all of these.
    """
    if len(splits) != len(network.ops):
        raise CompileError(f"{len(splits)} splits are given, and the network has {len(network.ops)} layers: "
                           f"{', '.join(op.name for op in network.ops)}; give one for each")
    found = []
    for op, split in zip(network.ops, splits, strict=True):
        known = [option.split for option in _options(op, network, platform)]
        if split not in known:
            near = sorted(known, key=lambda each: (abs(each.tiles - split.tiles), each.cascade))[:4]
            verb, more = "are" if len(known) > 1 else "is only", " and others" if len(known) > len(near) else ""
            possible = f"possible {verb} {', '.join(map(str, near))}{more}" if near else "no other can either"
            found.append(f"{op.title} {op.name!r} cannot be cut {split} in {platform.columns} x {platform.rows} tiles "
                         f"({possible})")  # fmt: skip
    if found:
        raise CompileError("; ".join(found))


def ranked_splits(
    network: Network, platform: AieMl, most_tiles: int | None = None, *, objective: str = "latency",
    packed: bool = False, share: bool = False,
) -> tuple[tuple[Split, ...], ...]:
    """Of each layer: the best by the estimate of the objective (one of `OBJECTIVES`), then others; each takes less room
    than those before it, in tiles or in columns.

    packed: layers may lie above each other, so that it is not certain that there is a place for them; else there is one
    side by side. share: each lies right of the one before it, and takes what it can from there without a stream.

    Raises:
        CompileError: there are none; names the layer that has none.
        ValueError: an objective that there is not.
    """
    if objective not in _RANKS:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
    room = min(most_tiles or platform.tiles, platform.tiles)
    best: dict[_Key, _Way] = {(0, 0, 0): _Way()}
    before: Op | None = None
    for op in network.ops:
        options = list(_options(op, network, platform))
        if not options:
            raise CompileError(
                f"{op.title} {op.name!r}, {network.tensors[op.inputs[0]].channels} to "
                f"{network.tensors[op.output].channels} in a batch of {rows_of(network.tensors[op.inputs[0]])}, does "
                f"not fit {platform.columns} x {platform.rows} tiles with "
                f"{BANK_BYTES} bytes each for weights and for input with results; use a smaller batch or "
                "layer, or more columns and rows")  # fmt: skip
        step = _Step(network, platform, before, op, room, packed, share, _RANKS[objective])
        best = _useful(step.extended(best, options), _RANKS[objective])
        if not best:
            raise CompileError(f"up to {op.title} {op.name!r} the network does not fit {room} tiles in "
                               f"{platform.columns} columns; use more of them, or smaller layers")
        before = op
    # The last layer's rows make no difference any more.
    ends = {(tiles, columns, 0): way for (tiles, columns, _), way in sorted(
        best.items(), key=lambda item: (_RANKS[objective](item[1]), item[0]), reverse=True)}
    ways = _useful(ends, _RANKS[objective]).items()
    return tuple(way.splits for _, way in sorted(ways, key=lambda item: (_RANKS[objective](item[1]), item[0])))


def _useful(ways: Mapping[_Key, _Way], rank: Callable[[_Way], _Rank]) -> dict[_Key, _Way]:
    """Without those to which there is another that ends alike, takes no more room and is no worse."""
    best: dict[tuple[int, int], _Rank] = {}  # by rows and columns, of those with no more tiles
    out = {}
    for key, way in sorted(ways.items(), key=lambda item: item[0]):
        _, columns, rows = key
        own = rank(way)
        if all((rows, n) not in best or best[rows, n] > own for n in range(columns + 1)):
            out[key] = way
            best[rows, columns] = own
    return out


@dataclass(frozen=True, eq=False)
class _Step:
    """One layer more. before: the layer that it takes from."""

    network: Network
    platform: AieMl
    before: Op | None
    op: Op
    room: int
    packed: bool
    share: bool
    rank: Callable[[_Way], _Rank]

    def extended(self, best: Mapping[_Key, _Way], options: Sequence[_Option]) -> dict[_Key, _Way]:
        """All ways so far with the layer; of those that take the same room and end alike, the best."""
        out: dict[_Key, _Way] = {}
        streams: dict[_Pair, int | None] = {}
        last = self.op.output in self.network.outputs
        for (tiles, columns, rows), way in best.items():
            for option in options:
                split = option.split
                # Two layers can share a column only if one of them takes no more than half of its rows.
                own = split.cascade if not self.packed or 2 * split.rows > self.platform.rows else 0
                key = (tiles + split.tiles, columns + own, split.rows)
                if key[0] > self.room or key[1] > self.platform.columns:
                    continue
                pair = rows, split
                if pair not in streams:
                    streams[pair] = self._stream(rows, option) if self._follows else option.enters
                words = streams[pair]
                if words is None:
                    continue
                out_words = option.leaves if last else 0
                interval = max(way.interval, option.again, words + _NEXT, out_words + _NEXT)
                new = _Way((*way.splits, split), key[0], way.cycles + words + option.cycles + out_words, interval)
                if key not in out or self.rank(new) < self.rank(out[key]):
                    out[key] = new
        return out

    @property
    def _follows(self) -> bool:
        """Whether the layer takes from the one before it; else all it takes is there already."""
        return self.before is not None and self.before.output in self.op.inputs

    def _stream(self, rows: int, option: _Option) -> int | None:
        assert self.before is not None
        return _stream_words(self.network, self.platform, (self.before, self.op), (rows, option.split),
                             option.stage if self.share else 0)  # fmt: skip


def _stream_words(
    network: Network, platform: AieMl, ops: tuple[Op, Op], cut: tuple[int, Split], stage: int
) -> int | None:
    """Words of the longest stream from a layer to the next; None if a tile has too few channels for its streams, and
    there are no memory tiles.

    Args:
        cut: rows of the first layer, split of the second. stage: cycles that a core of its chain waits for the one
            before; 0: it shares no buffers.
    """
    (before, op), (rows, split) = ops, cut
    tensor = network.tensors[before.output]
    given, taken = parts(tensor.channels, rows), taken_parts(op, network, split)
    shared = _shared(op, given, taken, split) if stage else 0
    if shared == len(taken):
        return 0
    if not _agree(given, taken, len(op.inputs), shared):
        whole = max(end - begin for begin, end in (*given, *taken))
        return 2 * _words(tensor, whole, platform.generation) + _DETOUR if platform.memory_rows else None
    most = max(min(taken[c][1], given[r][1]) - max(taken[c][0], given[r][0])
               for c, producers in enumerate(overlaps(given, taken)) for r in producers if c >= shared)  # fmt: skip
    # Others of a chain need theirs later than its first core.
    return max(0, _words(tensor, most, platform.generation) - shared * stage)


def _shared(op: Op, given: Sequence[Part], taken: Sequence[Part], split: Split) -> int:
    """How many of the parts that are taken, the first ones, lie in west neighbours, if the layer is right of the one
    before it."""
    inside = [begin <= first and end <= last for (first, end), (begin, last) in zip(taken, given, strict=False)]
    if isinstance(op, Add):
        return len(taken) if len(inside) == len(taken) and all(inside) else 0
    return int(isinstance(op, Conv) and split.rows == 1 and inside[0])


def savings(network: Network, platform: AieMl, splits: Sequence[Split]) -> dict[tuple[int, int], int]:
    """By an estimate: cycles that a layer needs less if it lies right of the one before it, from the same row on, and
    takes what it can from there without a stream; by their numbers, of those that can."""
    out = {}
    for k, (before, op) in enumerate(pairwise(network.ops)):
        if before.output not in op.inputs:
            continue
        cut, channels = (splits[k].rows, splits[k + 1]), network.tensors[op.output].channels
        taken = taken_parts(op, network, splits[k + 1])
        shape = _shape(op, network, platform.generation, taken[0], parts(channels, splits[k + 1].rows)[0])
        apart, beside = (_stream_words(network, platform, (before, op), cut, stage) for stage in (0, _stage(shape)))
        if apart is None or (beside is not None and beside < apart):
            out[k, k + 1] = (apart or 0) - (beside or 0)
    return out


def boxes_of(splits: Sequence[Split], row: int) -> tuple[Box, ...]:
    """The layers side by side, each from this row of the array up."""
    columns = [sum(split.cascade for split in splits[:k]) for k in range(len(splits))]
    return tuple(Box(split, column, row) for split, column in zip(splits, columns, strict=True))
