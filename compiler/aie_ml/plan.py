# SPDX-License-Identifier: Apache-2.0
"""From boxes of tiles to what each tile does: its part of a layer, what it takes of which tensors, its buffers.

Copies of buffers alternate: one is filled while the other is used. Activations and results lie in banks 0 and 3 in
turn, the constant operand in 2, bias in 1: so the core has its activations, its results, constants and bias to itself,
while the DMA fills and empties the other bank. The east neighbour, where it takes results here, takes them from that
other one, too, and has no copies of its own. (AIE4ML's order; there all inputs lie in the neighbour's banks. That the
core's own loads and stores of one bank do not meet is the scheduler's work.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nncosim.compiler.aie_ml.mapping import Box, Part, parts, taken_parts
from nncosim.compiler.aie_ml.memory_tiles import MemoryBuffer
from nncosim.compiler.aie_ml.notes import SharedBuffer, Stream
from nncosim.compiler.aie_ml.routes import Net
from nncosim.compiler.aie_ml.walks import Matrix, Order, Storage
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.ir.operators import Add, Conv, Transpose
from nncosim.kernels.aie_ml.dense import part_of
from nncosim.kernels.aie_ml.elementwise import sum_of, transposed
from nncosim.kernels.aie_ml.matrix import room_of, rows_of, stored_bits
from nncosim.kernels.aie_ml.product import Job, Product
from nncosim.platforms.aie_ml_generation import BEAT_WORDS, Generation

__all__ = [
    "BIAS_BANK", "CONSTANT_BANK", "COPIES", "COPY_BANKS", "MM2S", "S2MM", "Layer", "Operand", "Plan", "TilePlan",
    "Transfer", "West", "layers_of",
]  # fmt: skip

COPY_BANKS, BIAS_BANK, CONSTANT_BANK = (0, 3), 1, 2
COPIES = len(COPY_BANKS)
S2MM, MM2S = 0, 2
"""Numbers of the first channels of each kind; of MM2S as channels, their slaves of the switch are 0 and 1."""


@dataclass(frozen=True)
class Operand:
    """What a tile takes of a tensor: some of its channels. `at`: the column of the tile's activations where they
    begin."""

    tensor: str
    part: Part
    at: int = 0


@dataclass(frozen=True)
class Transfer:
    """What a channel of a tile's DMA moves for ever: some columns of its activations, or of its results.

    channel: 0, 1 into memory; 2, 3 out of it. columns: the first, and the one behind the last. order: on the stream.
    """

    channel: int
    columns: Part
    order: Order


@dataclass(frozen=True)
class West:
    """An operand that lies where the west neighbour made it. maker: that tile's name. operand: its number. offset: in
    beats, from the begin of that tile's results."""

    maker: str
    operand: int
    offset: int


@dataclass
class TilePlan:
    """A tile's share of a layer.

    step: of the layer. results: channels of the layer's output. bits: that its activations are stored with, and its
    results. rows: of the matrix that it takes, and of the one that it gives. west: an operand that no stream brings.
    lends: the east neighbour takes its results where they lie.
    """

    column: int
    row: int
    op: Op
    step: int
    product: Product
    operands: tuple[Operand, ...]
    results: Part
    bits: tuple[int, int]
    rows: tuple[int, int]
    transfers: list[Transfer] = field(default_factory=list)
    west: West | None = None
    lends: bool = False

    @property
    def streamed(self) -> tuple[Operand, ...]:
        """Operands that come over streams, into its own memory."""
        return tuple(each for k, each in enumerate(self.operands) if self.west is None or k != self.west.operand)

    @property
    def name(self) -> str:
        return f"{self.op.name} ({self.column},{self.row})"

    def channels(self, first: int) -> list[Transfer]:
        """Into memory (`S2MM`), or out of it (`MM2S`)."""
        return [each for each in self.transfers if first <= each.channel < first + 2]

    def matrix(self, transfer: Transfer) -> Matrix:
        """What a transfer moves, in words from the begin of the buffer."""
        shape, takes = self.product.shape, transfer.channel < MM2S
        begin, end = transfer.columns
        bits, rows, generation = self.bits[0 if takes else 1], self.rows[0 if takes else 1], shape.generation
        if takes and shape.job == Job.TRANSPOSE:  # a column of blocks holds all rows of a column of tiles
            stride = shape.column_blocks * shape.step_beats * BEAT_WORDS
            return Matrix(Storage.BLOCKS, begin * bits // 64 * stride, stride, bits, rows, end - begin, generation)
        stride = (shape.input_beats if takes else shape.output_beats) * BEAT_WORDS
        return Matrix(Storage.TILES, begin * bits // 64 * BEAT_WORDS, stride, bits, rows, end - begin, generation)


@dataclass
class Layer:
    """The tiles of a layer, by column and row in its box."""

    op: Op
    box: Box
    tiles: dict[tuple[int, int], TilePlan]

    @property
    def last(self) -> list[TilePlan]:
        """Those with results, in the order of their parts."""
        column = self.box.split.cascade - 1
        return [self.tiles[column, row] for row in range(self.box.split.rows)]

    def takers(self) -> Iterator[tuple[Operand, list[TilePlan]]]:
        """Each part of a tensor that comes over streams, with those that take it, all in the same way."""
        seen: dict[Operand, list[TilePlan]] = {}
        for tile in self.tiles.values():
            for operand in tile.streamed:
                seen.setdefault(operand, []).append(tile)
        yield from seen.items()


@dataclass
class Plan:
    """All tiles, the buffers in memory tiles, the streams between them, and what neighbours share.

    outputs: (net, tensor, part) of the streams that leave; which stream of the shim it is the router knows.
    """

    layers: list[Layer]
    nets: list[Net] = field(default_factory=list)
    inputs: list[Stream] = field(default_factory=list)
    outputs: list[tuple[int, str, Part]] = field(default_factory=list)
    memory: list[MemoryBuffer] = field(default_factory=list)
    shared: list[SharedBuffer] = field(default_factory=list)

    @property
    def tiles(self) -> list[TilePlan]:
        return [tile for layer in self.layers for tile in layer.tiles.values()]


def layers_of(network: Network, boxes: Sequence[Box], generation: Generation) -> list[Layer]:
    """What each tile computes.

    Raises:
        KernelError: as `nncosim.kernels.aie_ml.dense.part_of` and `nncosim.kernels.aie_ml.elementwise.sum_of`.
    """
    return [Layer(op, box, {(c, r): _tile(network, generation, op, step, box, c, r)
                            for r in range(box.split.rows) for c in range(box.split.cascade)})
            for step, (op, box) in enumerate(zip(network.ops, boxes, strict=True))]  # fmt: skip


def _tile(
    network: Network, generation: Generation, op: Op, step: int, box: Box, column: int, row: int
) -> TilePlan:
    source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
    product, operands, results = _share(network, generation, op, box, column, row)
    return TilePlan(box.column + column, box.row + row, op, step, product, operands, results,
                    (stored_bits(source), stored_bits(out)), (rows_of(source), rows_of(out)))  # fmt: skip


def _share(
    network: Network, generation: Generation, op: Op, box: Box, column: int, row: int
) -> tuple[Product, tuple[Operand, ...], Part]:
    out: Tensor = network.tensors[op.output]
    results, taken = parts(out.channels, box.split.rows)[row], taken_parts(op, network, box.split)
    if isinstance(op, Conv):
        product = part_of(op, network, generation, taken[column], results, box.split.role(column), one_bank=True)
        return product, (Operand(op.inputs[0], taken[column]),), results
    if isinstance(op, Add):
        room = room_of(results[1] - results[0])
        first, second = op.inputs
        operands = Operand(first, taken[row]), Operand(second, taken[row], room)
        return sum_of(op, network, generation, results), operands, results
    assert isinstance(op, Transpose)
    return transposed(op, network, generation), (Operand(op.inputs[0], taken[0]),), results
