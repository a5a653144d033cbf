# SPDX-License-Identifier: Apache-2.0
"""Which tiles a layer takes: how its reduction is cut over a chain of cores, its results over rows, and where that is.

A layer is a rectangle: `cascade` columns, each with a part of the reduction, times `rows` chains, each with a part of
the results (AIE4ML's cas_length and cas_num). Each axis is padded as a whole: parts are equal, but for the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Conv
from nncosim.kernels.aie_ml.dense import Role, Shape, rows_of, shape_of, stored_bits
from nncosim.platforms.aie_ml import BANK_BYTES, AieMl

__all__ = ["CHANNELS", "Box", "Part", "Split", "boxes_of", "parts", "splits_of"]

CHANNELS = 8
"""Parts are whole multiples of so many channels: a tile's columns."""
MOST_PARTNERS = 2
"""Parts of the layer before that one part needs, and the other way round: a tile's DMA has so many channels."""
_FILL, _HOP, _STREAM = 45, 20, 30
"""Estimates of cycles: a kernel's fill and drain; what each core of a chain adds; a stream's descriptors and way."""

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


def _agree(before: Sequence[Part], after: Sequence[Part]) -> bool:
    """Whether streams between two layers need no more channels than a tile has."""
    return all(len(each) <= MOST_PARTNERS for pair in ((before, after), (after, before)) for each in overlaps(*pair))


def _fits(shape: Shape) -> bool:
    """A part's buffers fit their banks: weights; bias; a copy of the input with one of the results."""
    weights = shape.column_blocks * shape.steps * shape.columns * shape.weight_beats
    bias = shape.column_blocks * shape.columns
    inputs = shape.row_blocks * shape.rows * shape.input_beats
    return max(weights, bias, inputs + shape.output_bytes // 32) * 32 <= BANK_BYTES


def _cycles(shape: Shape, split: Split, words: int) -> int:
    """An estimate of a layer's latency, from when its input leaves the layer before. words: of a part of the input."""
    moves = len(shape.words) * (1 if split.cascade == 1 else 2)
    kernel = shape.blocks * max(shape.steps * shape.least_interval, moves)
    return kernel + _FILL + _HOP * (split.cascade - 1) + words + _STREAM


def _options(op: Conv, network: Network, platform: AieMl) -> Iterator[tuple[Split, int]]:
    """Splits that the array and the memories have room for, with their cycles."""
    outputs, inputs = op.weights.shape[:2]
    source = network.tensors[op.inputs[0]]
    for cascade, rows in product(range(1, platform.columns + 1), range(1, platform.rows + 1)):
        reduction, results = parts(inputs, cascade), parts(outputs, rows)
        if not reduction or not results:
            continue
        shape, split = shape_of(op, network, reduction[0], results[0], Role.SINGLE), Split(cascade, rows)
        if _fits(shape):
            words = rows_of(source) * (reduction[0][1] - reduction[0][0]) * stored_bits(source) // 32
            yield split, _cycles(shape, split, words)


def splits_of(network: Network, platform: AieMl, most_tiles: int | None = None) -> tuple[Split, ...]:
    """Of each layer, so that the estimated latency is least; of equals, those with the fewest tiles.

    Raises:
        CompileError: there are none; names the layer that has none.
    """
    room = min(most_tiles or platform.tiles, platform.tiles)
    # By (tiles so far, columns so far, results' rows): the best cycles and how.
    best: dict[tuple[int, int, int], tuple[int, tuple[Split, ...]]] = {(0, 0, 0): (0, ())}
    before: Conv | None = None
    for op in network.ops:
        if not isinstance(op, Conv):
            raise CompileError(f"operator {op.name!r} is not dense")
        options = list(_options(op, network, platform))
        if not options:
            raise CompileError(
                f"{op.title} {op.name!r}, {op.weights.shape[1]} to {op.weights.shape[0]} in a batch of "
                f"{rows_of(network.tensors[op.output])}, does not fit {platform.columns} x {platform.rows} tiles with "
                f"{BANK_BYTES} bytes each for weights and for input with results; use a smaller batch or "
                "layer, or more columns and rows")  # fmt: skip
        best = _extended(best, before, op, options, room, platform)
        if not best:
            raise CompileError(f"up to {op.title} {op.name!r} the network does not fit {room} tiles in "
                               f"{platform.columns} columns; use more of them, or smaller layers")
        before = op
    return min(best.items(), key=lambda item: (item[1][0], item[0]))[1][1]


def _extended(
    best: dict[tuple[int, int, int], tuple[int, tuple[Split, ...]]], before: Conv | None, op: Conv,
    options: Sequence[tuple[Split, int]], room: int, platform: AieMl,
) -> dict[tuple[int, int, int], tuple[int, tuple[Split, ...]]]:
    """All ways so far with one more layer; of those that take the same room and end alike, the fastest."""
    out: dict[tuple[int, int, int], tuple[int, tuple[Split, ...]]] = {}
    agree: dict[tuple[int, int], bool] = {}
    for (tiles, columns, rows), (cycles, splits) in best.items():
        for split, own in options:
            key = (tiles + split.tiles, columns + split.cascade, split.rows)
            if key[0] > room or key[1] > platform.columns:
                continue
            pair = (rows, split.cascade)
            if before is not None and pair not in agree:
                outputs, inputs = before.weights.shape[0], op.weights.shape[1]
                agree[pair] = _agree(parts(outputs, rows), parts(inputs, split.cascade))
            if (before is None or agree[pair]) and (key not in out or cycles + own < out[key][0]):
                out[key] = (cycles + own, (*splits, split))
    return out


def boxes_of(splits: Sequence[Split], row: int) -> tuple[Box, ...]:
    """The layers side by side, each from this row of the array up."""
    columns = [sum(split.cascade for split in splits[:k]) for k in range(len(splits))]
    return tuple(Box(split, column, row) for split, column in zip(splits, columns, strict=True))
