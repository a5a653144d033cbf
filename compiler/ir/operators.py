# SPDX-License-Identifier: Apache-2.0
"""The operators of the integer network."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from nncosim.compiler.ir.network import Op

__all__ = ["Add", "Concat", "Conv", "Pool", "Requantize", "Resize", "Table"]


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Convolution, and Gemm/MatMul as a convolution whose kernel is the whole map.

    `weights`: int64 (OC, IC // groups, KH, KW). `pads`: (top, left, bottom, right) filled with
    `pad_value` (the input's zero point, so that padding is a real zero).
    The accumulator is sum(w * q) over raw input integers; zero points are in `function.offset`.
    `onnx_op`: "Conv", "Gemm" or "MatMul", for reports.
    """

    weights: np.ndarray = field(kw_only=True)
    stride: tuple[int, int] = field(default=(1, 1), kw_only=True)
    pads: tuple[int, int, int, int] = field(default=(0, 0, 0, 0), kw_only=True)
    dilation: tuple[int, int] = field(default=(1, 1), kw_only=True)
    groups: int = field(default=1, kw_only=True)
    pad_value: int = field(default=0, kw_only=True)
    onnx_op: str = field(default="Conv", kw_only=True)


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """`mode` "max" (accumulator = maximum) or "sum" (accumulator = sum; the average is in the ratio).

    `pad_value` is neutral for max, the zero point for sum.
    """

    mode: str = field(kw_only=True)
    kernel: tuple[int, int] = field(kw_only=True)
    stride: tuple[int, int] = field(default=(1, 1), kw_only=True)
    pads: tuple[int, int, int, int] = field(default=(0, 0, 0, 0), kw_only=True)
    pad_value: int = field(default=0, kw_only=True)


@dataclass(frozen=True, eq=False)
class Add(Op):
    """Element-wise sum of two tensors of one shape; the two operands have a ratio each."""


@dataclass(frozen=True, eq=False)
class Requantize(Op):
    """Element-wise change of scale, type or clip (a Quant on quantised data, a stand-alone Relu)."""


@dataclass(frozen=True, eq=False)
class Table(Op):
    """Element-wise function of one tensor of at most 8 bits: the output is `values[q & 255]`, and `requant` is None.

    `values`: 256 integers, for signed inputs q = -1 is the last. `nearby`: empty, or for each of them (lowest, highest)
    result that float32 arithmetic may give instead, for comparisons with a float executor. `function` is there where
    the table stands for a Requantize.
    """

    values: tuple[int, ...] = field(kw_only=True)
    nearby: tuple[tuple[int, int], ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Concatenation on channels; values are copied, `function` is None."""


@dataclass(frozen=True, eq=False)
class Resize(Op):
    """Nearest-neighbour enlargement by whole factors (rows, columns); values are copied."""

    factors: tuple[int, int] = field(kw_only=True)
