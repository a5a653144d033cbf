# SPDX-License-Identifier: Apache-2.0
"""Sums of two tensors, and transpositions, on a core: as products with unit matrices, which are exact.

The core has no instruction that adds or moves single elements; two multiplications of a tile cost a sum what its two
loads do. A DMA, which moves words of four bytes, cannot transpose bytes; it lays rows of 8 x 8 values so that the core
reads them as columns.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Add, Transpose
from nncosim.hdl.aie_ml.isa import Form, Mac
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.aie_ml.dense import bias_of, clipping, in_beats, matrices, relu_of
from nncosim.kernels.aie_ml.matrix import room_of, row_axis, row_tiles, rows_of, stored_bits
from nncosim.kernels.aie_ml.product import Job, Product, Shape, requantizer_of
from nncosim.kernels.aie_ml.scaling import sum_scaling
from nncosim.kernels.base import Cost, Kernel
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import Generation

__all__ = [
    "AddKernel", "TransposeKernel", "sum_of", "sum_shape", "transposed", "transposition_shape",
]  # fmt: skip


def sum_shape(op: Add, network: Network, generation: Generation, results: tuple[int, int]) -> Shape:
    """Of the sum of some channels: those of the first operand lie beside those of the second."""
    out = network.tensors[op.output]
    bits, tiles = stored_bits(network.tensors[op.inputs[0]]), room_of(results[1] - results[0]) // 8
    rows = 1 if rows_of(out) <= generation.rows else 2
    form = Form.ACC32_8 if stored_bits(out) == 8 else Form.ACC32_16
    return Shape(
        Mac.I8X8 if bits == 8 else Mac.I16X8, rows, 1, 2 * bits // 8, row_tiles(rows_of(out), generation) // rows,
        tiles, 2 * tiles * bits // 8, form, relu_of(op, out), one_bank=True, job=Job.ADD, generation=generation,
    )  # fmt: skip


def sum_of(op: Add, network: Network, generation: Generation, results: tuple[int, int]) -> Product:
    """The sum of some channels.

    Raises:
        KernelError: its requantization is no pair of multipliers with a shift.
    """
    requantizer = requantizer_of(op, network.tensors[op.output])
    assert isinstance(op.requant, MultiplyShift)
    shape, factors = sum_shape(op, network, generation, results), [int(m[0]) for m in op.requant.m]
    signs = tuple(network.tensors[name].type.signed for name in op.inputs)
    return Product(shape, _units(shape, factors), bias_of(op, results, shape), signs, *requantizer)


def _units(shape: Shape, factors: list[int]) -> bytes:
    """Weights of each step: a multiple of the unit matrix, or, where tiles have 4 columns, of its halves."""
    depth = 8 if shape.mac == Mac.I8X8 else 4
    tiles = []
    for step in range(shape.steps):
        tile, part = np.zeros((8, depth), np.int64), step // 2  # (n, k)
        tile[np.arange(depth) + depth * part, np.arange(depth)] = factors[step % 2]
        tiles.append(tile)
    return in_beats(np.stack(tiles).astype("i1").tobytes(), shape.second_bytes, shape.generation)


def transposition_shape(op: Transpose, network: Network, generation: Generation) -> Shape:
    """Blocks of 8 x 8 bytes, or 4 x 4 halfwords, in the order of the result. Where a tile of results has 8 rows, it is
    one block of bytes, or the sum of two products with blocks of halfwords."""
    source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
    wide = stored_bits(source) == 16
    rows = 1 if wide or rows_of(out) <= generation.rows else 8 // generation.rows
    tiles = room_of(out.channels) // (4 if wide else 8)
    steps = generation.rows // 4 if wide else 1
    columns = 4 if wide and steps == 1 and tiles % 4 == 0 else min(tiles, 2)
    return Shape(
        Mac.I16X16 if wide else Mac.I8X8, rows, columns, steps, row_tiles(rows_of(out), generation) // rows,
        tiles // columns, 1, Form.ACC64_16 if wide else Form.ACC32_8, False, one_bank=True, job=Job.TRANSPOSE,
        generation=generation,
    )  # fmt: skip


def transposed(op: Transpose, network: Network, generation: Generation) -> Product:
    """The whole of a matrix, transposed."""
    shape, source = transposition_shape(op, network, generation), network.tensors[op.inputs[0]]
    if shape.mac == Mac.I16X16:  # a step's rows of 4 x 4 are those of one block
        unit = np.eye(4 * shape.steps).reshape(-1, shape.steps, 4).transpose(1, 0, 2).astype("<i2").tobytes()
    else:
        unit = _unit_tiles(shape)
    signed, results = source.type.signed, (0, network.tensors[op.output].channels)
    return Product(shape, unit, bias_of(op, results, shape), (signed,), 0, RoundingCode.FLOOR, Saturation.SATURATE,
                   signed)  # fmt: skip


def _unit_tiles(shape: Shape) -> bytes:
    """Rows of the unit matrix of 8 x 8 bytes, as tiles of the first operand."""
    generation = shape.generation
    tiles = np.zeros((shape.rows, generation.beat_bytes), np.int8)
    for k in range(min(8, shape.rows * generation.rows)):
        tile, row = divmod(k, generation.rows)
        tiles[tile, generation.byte_at(row, k)] = 1
    return tiles.tobytes()


class AddKernel(Kernel[Add, AieMl, Product]):
    name: ClassVar[str] = "add"
    engine: ClassVar[str] = "core"
    op_types: ClassVar[tuple[str, ...]] = ("add",)

    def problems(self, op: Add, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        if len(op.inputs) != 2:
            return (Problem(op.name, op.title, f"has {len(op.inputs)} operands, not 2", "add two tensors at a time"),)
        (a, b), out = network.op_inputs(op), network.tensors[op.output]
        found = matrices(a, b, out)
        if a.shape != b.shape:
            found.append((f"operands have shapes {a.shape} and {b.shape}", "add tensors of one shape"))
        if stored_bits(a) != stored_bits(b):
            found.append((f"operands have {a.type.bits} and {b.type.bits} bits", "quantise both to 8, or both to 16"))
        found += clipping(op, out) + sum_scaling(op, network)
        return tuple(Problem(op.name, op.title, *each) for each in found)

    def code(self, op: Add, network: Network, platform: AieMl) -> Product:
        return sum_of(op, network, platform.generation, (0, network.tensors[op.output].channels))

    def cycles(self, op: Add, network: Network, platform: AieMl) -> Cost:
        shape = sum_shape(op, network, platform.generation, (0, network.tensors[op.output].channels))
        return Cost.estimated(shape.blocks * shape.steps * shape.least_interval)


class TransposeKernel(Kernel[Transpose, AieMl, Product]):
    name: ClassVar[str] = "transpose"
    engine: ClassVar[str] = "core"
    op_types: ClassVar[tuple[str, ...]] = ("transpose",)

    def problems(self, op: Transpose, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
        found = matrices(source, out)
        if not found and "N" in {row_axis(source), row_axis(out)} and max(rows_of(source), rows_of(out)) > 1:
            found.append((f"would exchange {source} with the batch", "transpose tokens and channels of a sample"))
        return tuple(Problem(op.name, op.title, *each) for each in found)

    def code(self, op: Transpose, network: Network, platform: AieMl) -> Product:
        return transposed(op, network, platform.generation)

    def cycles(self, op: Transpose, network: Network, platform: AieMl) -> Cost:
        shape = transposition_shape(op, network, platform.generation)
        return Cost.estimated(shape.blocks * max(shape.steps * shape.least_interval, shape.loads + len(shape.stores)))
