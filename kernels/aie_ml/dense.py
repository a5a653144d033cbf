# SPDX-License-Identifier: Apache-2.0
"""A dense layer (Gemm, MatMul) on a core: blocks of 2 x 2 tiles of results, bias, ReLU and requantization fused.

Or a part of one, where a chain of cores cuts the reduction: the first adds the bias, the last has the results.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.ir.operators import Conv
from nncosim.hdl.aie_ml.isa import Form, Mac
from nncosim.kernels.aie_ml.matrix import room_of, rows_of, stored_bits, too_many_axes
from nncosim.kernels.aie_ml.product import Product, Role, Shape, requantizer_of
from nncosim.kernels.aie_ml.scaling import scaling
from nncosim.kernels.base import Cost, Kernel, KernelError
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["DenseKernel", "bias_of", "clipping", "in_beats", "matrices", "mode_of", "part_of", "relu_of", "shape_of"]


def mode_of(op: Conv, network: Network) -> Mac:
    """By the bits of the activations and of the weights."""
    wide = stored_bits(network.tensors[op.inputs[0]]) == 16
    weights = int(op.weights.min()) < -128 or int(op.weights.max()) > 127
    return Mac.I16X16 if weights else Mac.I16X8 if wide else Mac.I8X8


def shape_of(
    op: Conv, network: Network, generation: Generation, reduction: tuple[int, int], results: tuple[int, int], role: Role
) -> Shape:
    """Of a part of a layer: channels of its input and of its output, each from the first to behind the last."""
    out = network.tensors[op.output]
    inputs, outputs = reduction[1] - reduction[0], results[1] - results[0]
    mac, few = mode_of(op, network), rows_of(out) <= generation.rows
    padded = room_of(outputs)
    tiles = padded // (4 if mac == Mac.I16X16 else 8)
    rows = 1 if few else 2
    columns = 4 if few and tiles % 4 == 0 else min(tiles, 2)
    step = 8 if mac == Mac.I8X8 else 4
    form = Form.ACC64_16 if mac == Mac.I16X16 else Form.ACC32_8 if stored_bits(out) == 8 else Form.ACC32_16
    room = room_of(inputs) // step
    row_blocks = -(-rows_of(out) // (generation.rows * rows))
    return Shape(mac, rows, columns, -(-inputs // step), row_blocks, tiles // columns, room, form,
                 role.ends and relu_of(op, out), role, generation=generation)  # fmt: skip


def relu_of(op: Op, out: Tensor) -> bool:
    """Whether results are compared with 0 as signed numbers: without a sign the saturation does it."""
    lo = op.function.lo if op.function is not None else out.type.lo
    return out.type.signed and lo == 0


def part_of(
    op: Conv, network: Network, generation: Generation, reduction: tuple[int, int], results: tuple[int, int],
    role: Role, *, one_bank: bool = False,
) -> Product:
    """A part of a layer, as of `shape_of`. `one_bank`: as of `Shape`.

    Raises:
        KernelError: it has no shift as its requantization, or its bias does not fit a sum.
    """
    requantizer = requantizer_of(op, network.tensors[op.output])
    shape = replace(shape_of(op, network, generation, reduction, results, role), one_bank=one_bank)
    weights = op.weights[slice(*results), slice(*reduction), 0, 0]
    bias = bias_of(op, results, shape) if role.begins else b""
    return Product(shape, _weights(weights, shape), bias, (network.tensors[op.inputs[0]].type.signed,), *requantizer)


def matrices(*tensors: Tensor) -> list[tuple[str, str]]:
    """What is wrong with tensors as the matrices that the core takes, and what would help."""
    found = [(f"tensor {t} has rows along two axes", "use a batch of 1, or vectors")
             for t in tensors if too_many_axes(t)]  # fmt: skip
    return found + [(f"tensor {t} has {t.type.bits} bits", "quantise it to 16 bits or less")
                    for t in tensors if t.type.bits > 16]  # fmt: skip


def clipping(op: Op, out: Tensor) -> list[tuple[str, str]]:
    """Results are clipped to what their width holds, symmetric or not, or from 0 on."""
    if op.function is None:
        return []
    lo, hi, bits = op.function.lo, op.function.hi, stored_bits(out)
    most = (1 << bits - 1) - 1
    known = ((-most - 1, most), (-most, most), (0, most)) if out.type.signed else ((0, (1 << bits) - 1),)
    if (lo, hi) in known:
        return []
    text = ", ".join(f"{a}..{b}" for a, b in known)
    zero = ", with zero point 0" if out.type.zero_point else ""
    return [(f"results are clipped to {lo}..{hi}; the core clips to {text}",
             f"use {bits} bits{zero}, and no other clip")]  # fmt: skip


class DenseKernel(Kernel[Conv, AieMl, Product]):
    name: ClassVar[str] = "dense"
    engine: ClassVar[str] = "core"
    op_types: ClassVar[tuple[str, ...]] = ("conv",)

    def problems(self, op: Conv, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
        found = matrices(source, out)
        rows, columns = op.weights.shape[2:]
        if op.groups != 1 or (rows, columns) != (1, 1):
            groups = f" in {op.groups} groups" if op.groups != 1 else ""
            found.append((f"has a kernel of {rows} x {columns}{groups}", "use Gemm or MatMul"))
        if op.stride != (1, 1) or any(op.pads):
            found.append(("leaves out rows, or pads them", "use Gemm or MatMul"))
        low, high = int(op.weights.min()), int(op.weights.max())
        if low < -(1 << 15) or high >= 1 << 15:
            found.append((f"weights are {low}..{high}", "quantise them to 16 signed bits or less"))
        if not found and mode_of(op, network) == Mac.I16X16 and stored_bits(out) == 8:
            found.append((f"weights of 16 bits give results of 16 bits, and weights are {low}..{high}",
                          "quantise the output to 9 to 16 bits, or weights to 8 without a zero point"))
        if not found and mode_of(op, network) == Mac.I16X16 and stored_bits(source) == 8:
            found.append((f"weights of 16 bits need activations of 16 bits, and weights are {low}..{high}",
                          "quantise the input to 9 to 16 bits, or weights to 8 without a zero point"))
        found += clipping(op, out) + scaling(op, network)
        return tuple(Problem(op.name, op.title, *each) for each in found)

    def code(self, op: Conv, network: Network, platform: AieMl) -> Product:
        outputs, inputs = op.weights.shape[:2]
        return part_of(op, network, platform.generation, (0, inputs), (0, outputs), Role.SINGLE)

    def cycles(self, op: Conv, network: Network, platform: AieMl) -> Cost:
        """Without what the pipeline takes to fill and to drain."""
        outputs, inputs = op.weights.shape[:2]
        shape = shape_of(op, network, platform.generation, (0, inputs), (0, outputs), Role.SINGLE)
        return Cost.estimated(shape.blocks * shape.steps * shape.least_interval)


def _weights(weights: npt.NDArray[np.int64], shape: Shape) -> bytes:
    """(column block, step, column tile): a tile of `n` columns of `k` weights each; a step is of whole beats."""
    k, n = (8, 8) if shape.mac == Mac.I8X8 else (4, 8) if shape.mac == Mac.I16X8 else (4, 4)
    full = np.zeros((shape.column_blocks * shape.columns * n, shape.steps * k), np.int64)
    full[: weights.shape[0], : weights.shape[1]] = weights
    tiles = full.reshape(shape.column_blocks, shape.columns, n, shape.steps, k).transpose(0, 3, 1, 2, 4)
    data = tiles.astype("<i2" if shape.mac == Mac.I16X16 else "i1").tobytes()
    return in_beats(data, shape.columns * shape.second_bytes, shape.generation)


def in_beats(data: bytes, size: int, generation: Generation) -> bytes:
    """Pieces of so many bytes, each filled up to whole beats."""
    pieces = np.frombuffer(data, np.uint8).reshape(-1, size)
    return bytes(np.pad(pieces, ((0, 0), (0, -size % generation.beat_bytes))).tobytes())


def bias_of(op: Op, results: tuple[int, int], shape: Shape) -> bytes:
    """Of some channels, or zeros: 32 bytes for each column tile, a beat each. The rounding's own half is the core's:
    the bias is added before it.

    Raises:
        KernelError: more than a sum holds.
    """
    wide, c = shape.mac == Mac.I16X16, np.zeros(0, np.int64)
    if isinstance(op.requant, MultiplyShift):
        c = op.requant.c[slice(*results)]
    full = np.zeros(shape.column_blocks * shape.columns * (4 if wide else 8), np.int64)
    full[: len(c)] = c
    if not wide and len(c) and max(abs(int(c.min())), abs(int(c.max()))) >= 1 << 31:
        raise KernelError(f"a bias of {int(np.abs(c).max())} does not fit the 32 bits of a sum")
    return in_beats(full.astype("<i8" if wide else "<i4").tobytes(), 32, shape.generation)
