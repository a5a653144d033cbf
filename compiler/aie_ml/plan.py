# SPDX-License-Identifier: Apache-2.0
"""From boxes of tiles to what each tile needs: its part of a layer, its buffers, the streams between them.

Copies of buffers alternate: one is filled while the other is used. Inputs and results lie in banks 0 and 3 in turn,
weights in 2, bias in 1: so the core has its input, its results, weights and bias to itself, while the DMA fills and
empties the other bank. (AIE4ML's order, but there inputs lie in the neighbour's banks. That the core's own loads and
stores of one bank do not meet is the scheduler's work.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nncosim.compiler.aie_ml.descriptors import words_of_row
from nncosim.compiler.aie_ml.mapping import Box, Part, overlaps, parts
from nncosim.compiler.aie_ml.notes import Stream
from nncosim.compiler.aie_ml.routes import EDGE, Net, Port
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network, Tensor
from nncosim.compiler.ir.operators import Conv
from nncosim.kernels.aie_ml.dense import Dense, part_of, rows_of, stored_bits

__all__ = [
    "BIAS_BANK", "COPIES", "COPY_BANKS", "MM2S", "S2MM", "WEIGHT_BANK", "Plan", "TilePlan", "Transfer", "plan_of",
    "stream_of",
]  # fmt: skip

COPY_BANKS, BIAS_BANK, WEIGHT_BANK = (0, 3), 1, 2
COPIES = len(COPY_BANKS)
S2MM, MM2S = 0, 2
"""Numbers of the first channels of each kind; of MM2S as channels, their slaves of the switch are 0 and 1."""


@dataclass(frozen=True)
class Transfer:
    """What a channel of a tile's DMA moves for ever: some columns of its input or of its results.

    channel: 0, 1 into memory; 2, 3 out of it. part: columns, within the tile's own part. edge: row after row, to or
    from the shim.
    """

    channel: int
    part: Part
    edge: bool


@dataclass
class TilePlan:
    """A tile's share. reduction, results: parts of the layer's input and output; bits: that these are stored with;
    rows: of the batch."""

    column: int
    row: int
    op: Conv
    step: int
    dense: Dense
    reduction: Part
    results: Part
    bits: tuple[int, int]
    rows: int
    transfers: list[Transfer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.op.name} ({self.column},{self.row})"

    def channels(self, first: int) -> list[Transfer]:
        """Into memory (`S2MM`), or out of it (`MM2S`)."""
        return [each for each in self.transfers if first <= each.channel < first + 2]


@dataclass
class Plan:
    """All tiles, and the streams between them. `outputs` have no stream of the shim before they are routed."""

    tiles: list[TilePlan]
    nets: list[Net]
    inputs: list[Stream]
    outputs: list[tuple[int, str, Part]]


def stream_of(tensor: Tensor, part: Part, column: int, number: int) -> Stream:
    """A part of a tensor, row after row, as it passes the shim."""
    columns, bits = part[1] - part[0], stored_bits(tensor)
    words = words_of_row(columns, bits)
    box = ((0, tensor.shape[0]), part, *((0, size) for size in tensor.shape[2:]))
    return Stream(column, number, tensor.name, box, Layout(f"N C:{words * 32 // bits}", bits), words * rows_of(tensor))


def plan_of(network: Network, boxes: Sequence[Box]) -> Plan:
    """What each tile does.

    Raises:
        KernelError: as `nncosim.kernels.aie_ml.dense.part_of`.
    """
    plan = Plan([], [], [], [])
    layers: list[dict[tuple[int, int], TilePlan]] = []
    for step, (op, box) in enumerate(zip(network.ops, boxes, strict=True)):
        assert isinstance(op, Conv)
        outputs, inputs = op.weights.shape[:2]
        reduction, results = parts(inputs, box.split.cascade), parts(outputs, box.split.rows)
        source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
        bits = stored_bits(source), stored_bits(out)
        tiles = {}
        for column, row in box.tiles:
            k, n = reduction[column - box.column], results[row - box.row]
            dense = part_of(op, network, k, n, box.split.role(column - box.column), one_bank=True)
            tiles[column - box.column, row - box.row] = TilePlan(
                column, row, op, step, dense, k, n, bits, rows_of(out))
        layers.append(tiles)
        plan.tiles += tiles.values()
    _enter(plan, network, layers[0], boxes[0])
    for first, second in pairwise(range(len(boxes))):
        _connect(plan, layers[first], boxes[first], layers[second], boxes[second])
    _leave(plan, network, layers[-1], boxes[-1])
    return plan


def _enter(plan: Plan, network: Network, tiles: dict[tuple[int, int], TilePlan], box: Box) -> None:
    """Each column of the first layer has a stream of its own from the shim below it."""
    (name,) = network.ops[0].inputs
    for c in range(box.split.cascade):
        part, column = tiles[c, 0].reduction, box.column + c
        plan.inputs.append(stream_of(network.tensors[name], part, column, 0))
        targets = []
        for r in range(box.split.rows):
            tiles[c, r].transfers.append(Transfer(S2MM, (0, part[1] - part[0]), True))
            targets.append(Port(column, box.row + r, 0))
        title = f"input {name} {part[0]}..{part[1] - 1}"
        plan.nets.append(Net(Port(column, EDGE), tuple(targets), title, plan.inputs[-1].words))


def _connect(
    plan: Plan, before: dict[tuple[int, int], TilePlan], source: Box, after: dict[tuple[int, int], TilePlan], box: Box
) -> None:
    """From the last core of each chain to all tiles of each column that need it."""
    last = source.split.cascade - 1
    results = [before[last, r].results for r in range(source.split.rows)]
    reduction = [after[c, 0].reduction for c in range(box.split.cascade)]
    for c, producers in enumerate(overlaps(results, reduction)):
        for channel, r in enumerate(producers):
            giver = before[last, r]
            begin, end = max(giver.results[0], reduction[c][0]), min(giver.results[1], reduction[c][1])
            out = len(giver.channels(MM2S))
            giver.transfers.append(Transfer(MM2S + out, (begin - giver.results[0], end - giver.results[0]), False))
            targets = []
            for row in range(box.split.rows):
                taker = after[c, row]
                part = begin - taker.reduction[0], end - taker.reduction[0]
                taker.transfers.append(Transfer(S2MM + channel, part, False))
                targets.append(Port(taker.column, taker.row, channel))
            name, words = f"{giver.op.output} {begin}..{end - 1}", words_of_row(end - begin, giver.bits[1]) * giver.rows
            plan.nets.append(Net(Port(giver.column, giver.row, out), tuple(targets), name, words))


def _leave(plan: Plan, network: Network, tiles: dict[tuple[int, int], TilePlan], box: Box) -> None:
    (name,) = network.outputs
    for r in range(box.split.rows):
        tile = tiles[box.split.cascade - 1, r]
        tile.transfers.append(Transfer(MM2S, (0, tile.results[1] - tile.results[0]), True))
        plan.outputs.append((len(plan.nets), name, tile.results))
        title = f"output {name} {tile.results[0]}..{tile.results[1] - 1}"
        words = stream_of(network.tensors[name], tile.results, 0, 0).words
        plan.nets.append(Net(Port(tile.column, tile.row, 0), (Port(tile.column, EDGE),), title, words))
