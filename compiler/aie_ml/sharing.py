# SPDX-License-Identifier: Apache-2.0
"""What a tile takes from the memory of its west neighbour, where that one's results lie: without a stream.

It can be so where one tile makes all that one other takes of a tensor, and that other lies east of it. Both copies are
the maker's; the two exchange them by locks of the maker's tile. What lies there is what a stream would have brought:
tiles of the core's own format, only further apart where the maker's rows have more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nncosim.compiler.aie_ml.notes import SharedBuffer
from nncosim.compiler.aie_ml.plan import Layer, Operand, TilePlan, West
from nncosim.kernels.aie_ml.product import Job, Shape

__all__ = ["shared_buffers"]

_TILE_BYTES = 8
"""Of a row of a tile."""


def shared_buffers(layers: Sequence[Layer], *, older_waits: bool) -> list[SharedBuffer]:
    """Let tiles take operands from their west neighbours wherever they can, and tell which buffers that makes common.

    older_waits: in memory tiles, what is not made by the layer right before.
    """
    makers = {layer.op.output: layer for layer in layers}
    found = []
    for layer in layers:
        for operand, takers in list(layer.takers()):
            maker, taker = makers.get(operand.tensor), takers[0]
            if maker is None or len(takers) > 1 or taker.west or len(set(layer.op.inputs)) < len(layer.op.inputs):
                continue
            if older_waits and taker.step - maker.last[0].step > 1:
                continue
            first, end = operand.part
            giving = [tile for tile in maker.last if tile.results[0] < end and first < tile.results[1]]
            if len(giving) == 1 and _fits(giving[0], taker):
                _share(giving[0], taker, taker.operands.index(operand))
                found.append(_shared(giving[0], operand))
    return found


def _shared(maker: TilePlan, operand: Operand) -> SharedBuffer:
    first, end = operand.part
    name = f"{operand.tensor} {first}..{end - 1}"
    return SharedBuffer(name, maker.column, maker.row, maker.product.shape.output_bytes)


def _row_tiles(shape: Shape) -> int:
    return shape.row_blocks * shape.rows


def _fits(maker: TilePlan, taker: TilePlan) -> bool:
    """Whether it lies east of the maker, and takes tiles as that one stores them; a second summand's buffer, with rows
    as far apart, takes no more room than before."""
    if len(taker.operands) > 1 and maker.product.shape.output_beats > taker.product.shape.input_beats:
        return False
    beside = (maker.column + 1, maker.row) == (taker.column, taker.row)
    same = maker.bits[1] == taker.bits[0] and _row_tiles(maker.product.shape) == _row_tiles(taker.product.shape)
    return beside and same and taker.product.shape.job != Job.TRANSPOSE


def _share(maker: TilePlan, taker: TilePlan, number: int) -> None:
    shape, operand = taker.product.shape, taker.operands[number]
    offset = (operand.part[0] - maker.results[0]) * taker.bits[0] // 8 // _TILE_BYTES
    taker.west, maker.lends = West(maker.name, number, offset), True
    # A summand that comes over a stream has its buffer to itself, in rows that are as far apart.
    taker.operands = tuple(replace(each, at=0) for each in taker.operands)
    alone = len(taker.operands) == 1
    shape = replace(shape, input_beats=maker.product.shape.output_beats, one_bank=shape.one_bank and not alone)
    taker.product = replace(taker.product, shape=shape)
