# SPDX-License-Identifier: Apache-2.0
"""A dense layer (Gemm, MatMul) on a core: blocks of 2 x 2 tiles of results, bias, ReLU and requantization fused.

Or a part of one, where a chain of cores cuts the reduction: the first adds the bias, the last has the results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network, Tensor
from nncosim.compiler.ir.operators import Conv
from nncosim.hdl.aie_ml.isa import BEAT_BYTES, LATENCY, Form, Mac
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.aie_ml.scaling import scaling
from nncosim.kernels.base import Cost, Kernel, KernelError
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.rounding import Rounding

__all__ = [
    "Dense", "DenseKernel", "Role", "Shape", "layout_of", "mode_of", "part_of", "row_tiles", "rows_of", "shape_of",
    "stored_bits",
]  # fmt: skip

ROWS = 4
"""Of a tile."""
COLUMNS = 16
"""Tensors have room for whole multiples of so many channels."""
ROUNDINGS = {
    Rounding.FLOOR: RoundingCode.FLOOR, Rounding.CEIL: RoundingCode.CEIL,
    Rounding.TOWARD_ZERO: RoundingCode.TOWARD_ZERO, Rounding.AWAY: RoundingCode.AWAY,
    Rounding.HALF_UP: RoundingCode.HALF_UP, Rounding.HALF_EVEN: RoundingCode.HALF_EVEN,
    Rounding.HALF_AWAY: RoundingCode.HALF_AWAY, Rounding.HALF_TOWARD_ZERO: RoundingCode.HALF_TOWARD_ZERO,
}  # fmt: skip


def stored_bits(tensor: Tensor) -> int:
    return 8 if tensor.type.bits <= 8 else 16


def rows_of(tensor: Tensor) -> int:
    """Of the matrix that a tensor (N, C, 1, 1) is."""
    return tensor.shape[0]


def room_of(channels: int) -> int:
    """Channels that there is room for."""
    return -(-channels // COLUMNS) * COLUMNS if channels > COLUMNS // 2 else COLUMNS // 2


def row_tiles(rows: int) -> int:
    """Of a matrix: blocks have two above each other where there are more than 4 rows."""
    return -(-rows // (2 * ROWS)) * 2 if rows > ROWS else 1


def layout_of(tensor: Tensor, channels: int = 0) -> Layout:
    """Tiles of 4 rows x 8 bytes or x 4 halfwords, those of the same rows one after the other.

    Args:
        channels: of the part that lies there; 0: all.
    """
    room, above = room_of(channels or tensor.channels), row_tiles(rows_of(tensor))
    if stored_bits(tensor) == 8:
        return Layout(f"N/4:{above} C/8:{room // 8} C/4%2 N%4 C%4", 8)
    return Layout(f"N/4:{above} C/4:{room // 4} N%4 C%4", 16)


class Role(Enum):
    """Of a core in a chain: `begins`: with the bias, else with the cascade. `ends`: stores, else gives it on."""

    SINGLE = (True, True)
    FIRST = (True, False)
    MIDDLE = (False, False)
    LAST = (False, True)

    def __init__(self, begins: bool, ends: bool):
        self.begins, self.ends = begins, ends


@dataclass(frozen=True)
class Shape:
    """What the scheduler has to know of a layer.

    mac: how tiles multiply. rows, columns: of a block of results, in tiles. steps: tiles along the reduction.
    row_blocks, column_blocks: how many blocks. input_beats: a row of tiles of the input takes, filling included.
    form: of the results. relu: they are compared with 0 as well, signed. one_bank: results lie in the logical bank that
    the input is loaded from.
    """

    mac: Mac
    rows: int
    columns: int
    steps: int
    row_blocks: int
    column_blocks: int
    input_beats: int
    form: Form
    relu: bool
    role: Role = Role.SINGLE
    one_bank: bool = False

    @property
    def words(self) -> tuple[tuple[int, int], ...]:
        """(tile of the block, half) of a block's sums, in the order in which a cascade has them."""
        return tuple((tile, half) for tile in range(self.rows * self.columns) for half in range(2))

    @property
    def weight_beats(self) -> int:
        """Of one tile of weights."""
        return 2 if self.mac == Mac.I8X8 else 1

    @property
    def halves(self) -> int:
        """Beats of results of one tile of sums."""
        return 2 if self.form in (Form.ACC32_16, Form.ACC64_32) else 1

    @property
    def stores(self) -> tuple[tuple[int, int, int], ...]:
        """(row, column, half) of a block's results, as they are stored."""
        if not self.role.ends:
            return ()
        return tuple((r, c, half) for c in range(self.columns) for half in range(self.halves) for r in range(self.rows))

    @property
    def output_beats(self) -> int:
        """Of a row of tiles of results."""
        return self.column_blocks * self.columns * self.halves

    @property
    def least_interval(self) -> int:
        """Cycles of a step, by its MACs, its loads of weights, and that an accumulator is added to again."""
        return max(self.rows * self.columns, self.columns * self.weight_beats, LATENCY["mac_chain"])

    @property
    def wide_results(self) -> bool:
        return self.form != Form.ACC32_8

    @property
    def blocks(self) -> int:
        return self.row_blocks * self.column_blocks

    @property
    def output_bytes(self) -> int:
        return BEAT_BYTES * self.row_blocks * self.rows * self.output_beats if self.role.ends else 0


@dataclass(frozen=True)
class Dense:
    """A layer as the code generator takes it.

    weights, bias: the bytes as they lie in memory. shift: rounding and saturation as the core codes them.
    """

    shape: Shape
    weights: bytes
    bias: bytes
    a_signed: bool
    shift: int
    rounding: RoundingCode
    saturation: Saturation
    signed: bool


def mode_of(op: Conv, network: Network) -> Mac:
    """By the bits of the activations and of the weights."""
    wide = stored_bits(network.tensors[op.inputs[0]]) == 16
    weights = int(op.weights.min()) < -128 or int(op.weights.max()) > 127
    return Mac.I16X16 if weights else Mac.I16X8 if wide else Mac.I8X8


def shape_of(
    op: Conv, network: Network, reduction: tuple[int, int], results: tuple[int, int], role: Role
) -> Shape:
    """Of a part of a layer: channels of its input and of its output, each from the first to behind the last."""
    out = network.tensors[op.output]
    inputs, outputs = reduction[1] - reduction[0], results[1] - results[0]
    mac, few = mode_of(op, network), rows_of(out) <= ROWS
    padded = room_of(outputs)
    tiles = padded // (4 if mac == Mac.I16X16 else 8)
    rows = 1 if few else 2
    columns = 4 if few and tiles % 4 == 0 else min(tiles, 2)
    step = 8 if mac == Mac.I8X8 else 4
    form = Form.ACC64_16 if mac == Mac.I16X16 else Form.ACC32_8 if stored_bits(out) == 8 else Form.ACC32_16
    room = room_of(inputs) // step
    lo = op.function.lo if op.function is not None else out.type.lo
    relu = bool(role.ends and out.type.signed and lo == 0)
    return Shape(mac, rows, columns, -(-inputs // step), -(-rows_of(out) // (ROWS * rows)), tiles // columns, room,
                 form, relu, role)  # fmt: skip


def part_of(
    op: Conv, network: Network, reduction: tuple[int, int], results: tuple[int, int], role: Role, *,
    one_bank: bool = False,
) -> Dense:
    """A part of a layer, as of `shape_of`. `one_bank`: as of `Shape`.

    Raises:
        KernelError: it has no shift as its requantization, or its bias does not fit a sum.
    """
    out, requant = network.tensors[op.output], op.requant
    if not isinstance(requant, MultiplyShift):
        raise KernelError(f"operator {op.name!r} has no shift as its requantization")
    shape = replace(shape_of(op, network, reduction, results, role), one_bank=one_bank)
    lo, hi = int(requant.lo[0]), int(requant.hi[0])
    symmetric = out.type.signed and lo == -hi
    weights = op.weights[slice(*results), slice(*reduction), 0, 0]
    return Dense(
        shape, _weights(weights, shape), _bias(requant.c[slice(*results)], shape) if role.begins else b"",
        network.tensors[op.inputs[0]].type.signed, int(requant.s[0]), ROUNDINGS[Rounding(int(requant.rounding[0]))],
        Saturation.SYMMETRIC if symmetric else Saturation.SATURATE, out.type.signed,
    )


class DenseKernel(Kernel[Conv, AieMl, Dense]):
    name: ClassVar[str] = "dense"
    engine: ClassVar[str] = "core"
    op_types: ClassVar[tuple[str, ...]] = ("conv",)

    def problems(self, op: Conv, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
        found = [
            (f"tensor {t} is a map", "use fully connected layers: one vector for each of the batch")
            for t in (source, out) if t.shape[2:] != (1, 1)
        ]
        rows, columns = op.weights.shape[2:]
        if op.groups != 1 or (rows, columns) != (1, 1):
            groups = f" in {op.groups} groups" if op.groups != 1 else ""
            found.append((f"has a kernel of {rows} x {columns}{groups}", "use Gemm or MatMul on vectors"))
        for t in (source, out):
            if t.type.bits > 16:
                found.append((f"tensor {t} has {t.type.bits} bits", "quantise it to 16 bits or less"))
        low, high = int(op.weights.min()), int(op.weights.max())
        if low < -(1 << 15) or high >= 1 << 15:
            found.append((f"weights are {low}..{high}", "quantise them to 16 signed bits or less"))
        if not found and mode_of(op, network) == Mac.I16X16 and stored_bits(out) == 8:
            found.append((f"weights of 16 bits give results of 16 bits, and weights are {low}..{high}",
                          "quantise the output to 9 to 16 bits, or weights to 8 without a zero point"))
        if not found and mode_of(op, network) == Mac.I16X16 and stored_bits(source) == 8:
            found.append((f"weights of 16 bits need activations of 16 bits, and weights are {low}..{high}",
                          "quantise the input to 9 to 16 bits, or weights to 8 without a zero point"))
        found += self._range(op, out) + scaling(op, network)
        return tuple(Problem(op.name, op.title, *each) for each in found)

    def _range(self, op: Conv, out: Tensor) -> list[tuple[str, str]]:
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

    def code(self, op: Conv, network: Network, platform: AieMl) -> Dense:
        outputs, inputs = op.weights.shape[:2]
        return part_of(op, network, (0, inputs), (0, outputs), Role.SINGLE)

    def cycles(self, op: Conv, network: Network, platform: AieMl) -> Cost:
        """Without what the pipeline takes to fill and to drain."""
        outputs, inputs = op.weights.shape[:2]
        shape = shape_of(op, network, (0, inputs), (0, outputs), Role.SINGLE)
        return Cost.estimated(shape.blocks * shape.steps * shape.least_interval)


def _weights(weights: npt.NDArray[np.int64], shape: Shape) -> bytes:
    """(column block, step, column tile): a tile of `n` columns of `k` weights each."""
    k, n = (8, 8) if shape.mac == Mac.I8X8 else (4, 8) if shape.mac == Mac.I16X8 else (4, 4)
    full = np.zeros((shape.column_blocks * shape.columns * n, shape.steps * k), np.int64)
    full[: weights.shape[0], : weights.shape[1]] = weights
    tiles = full.reshape(shape.column_blocks, shape.columns, n, shape.steps, k).transpose(0, 3, 1, 2, 4)
    return bytes(tiles.astype("<i2" if shape.mac == Mac.I16X16 else "i1").tobytes())


def _bias(c: npt.NDArray[np.int64], shape: Shape) -> bytes:
    """A beat for each column tile. The rounding's own half is the core's: c is added before it.

    Raises:
        KernelError: more than a sum holds.
    """
    wide = shape.mac == Mac.I16X16
    full = np.zeros(shape.column_blocks * shape.columns * (4 if wide else 8), np.int64)
    full[: len(c)] = c
    if not wide and len(c) and max(abs(int(c.min())), abs(int(c.max()))) >= 1 << 31:
        raise KernelError(f"a bias of {int(np.abs(c).max())} does not fit the 32 bits of a sum")
    return bytes(full.astype("<i8" if wide else "<i4").tobytes())
