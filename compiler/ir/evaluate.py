# SPDX-License-Identifier: Apache-2.0
"""The reference: an exact integer executor of a network, independent of any accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.network import Network, Op, QuantFunction
from nncosim.compiler.ir.operators import Concat, Conv, Pool, Resize, Table
from nncosim.compiler.ir.thresholds import evaluate_exact, exact_pairs
from nncosim.platforms.rounding import Rounding

__all__ = ["accumulate", "apply_exact", "evaluate", "execute"]


def _padded(op: Conv | Pool, x: np.ndarray) -> np.ndarray:
    top, left, bottom, right = op.pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=op.pad_value)


def _taps(
    x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """View of shape (C, KH, KW, OH, OW) on a padded map (C, H, W)."""
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))  # type: ignore[call-overload]
    windows = windows[:, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
    return windows.transpose(0, 3, 4, 1, 2)


def _convolve(op: Conv, x: np.ndarray) -> np.ndarray:
    """sum(w * q), exactly: in float64 (BLAS) where no sum can reach 2**53, else in int64."""
    outputs, depth, kh, kw = op.weights.shape
    taps = _taps(_padded(op, x), (kh, kw), op.stride, op.dilation)
    out_map = taps.shape[3:]
    if depth == 1:
        repeat = outputs // x.shape[0]
        total = np.zeros((outputs, *out_map), dtype=np.int64)
        for i in range(kh):
            for j in range(kw):
                plane = np.repeat(taps[:, i, j], repeat, axis=0) if repeat > 1 else taps[:, i, j]
                total += plane * op.weights[:, 0, i, j, None, None]
        return total
    reach = int(np.abs(op.weights).reshape(outputs, -1).sum(axis=1).max()) * int(np.abs(taps).max(initial=0))
    kind = np.float64 if reach < 1 << 53 else np.int64
    columns = taps.reshape(op.groups, depth * kh * kw, -1).astype(kind)
    weights = op.weights.reshape(op.groups, outputs // op.groups, -1).astype(kind)
    return (weights @ columns).astype(np.int64).reshape(outputs, *out_map)


def accumulate(op: Op, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The accumulators of one operator before its requantization.

    Args:
        inputs: int arrays (C, H, W), in the order of `op.inputs`.

    Returns:
        One int64 array (C, H, W) per operand: an Add has two, all others one.
    """
    x = [np.asarray(i, dtype=np.int64) for i in inputs]
    if isinstance(op, Conv):
        return [_convolve(op, x[0])]
    if isinstance(op, Pool):
        taps = _taps(_padded(op, x[0]), op.kernel, op.stride)
        return [taps.max(axis=(1, 2)) if op.mode == "max" else taps.sum(axis=(1, 2))]
    if isinstance(op, Concat):
        return [np.concatenate(x)]
    if isinstance(op, Resize):
        return [x[0].repeat(op.factors[0], axis=1).repeat(op.factors[1], axis=2)]
    if isinstance(op, Table):
        return [np.array(op.values, dtype=np.int64)[x[0] & 255]]
    return x


def apply_exact(function: QuantFunction, accumulators: list[np.ndarray]) -> np.ndarray:
    """`function` in exact rational arithmetic on int64 arrays (C, ...), one per operand. Returns int64."""
    if len(accumulators) == 1:
        out = [
            evaluate_exact(acc, ratio, offset, function.rounding, function.lo, function.hi)
            for acc, ratio, offset in zip(accumulators[0], function.ratios[0], function.offset, strict=True)
        ]
        return np.stack(out)
    first, second = accumulators
    ranges = tuple((int(v.min()), int(v.max())) for v in (first, second))
    planes = []
    for c in range(len(function.offset)):
        ratios = function.ratios[0][c], function.ratios[1][c]
        table = _pair_table(ratios, function.offset[c], function.rounding, function.lo, function.hi, ranges)
        planes.append(table[first[c] - ranges[0][0], second[c] - ranges[1][0]])
    return np.stack(planes)


@lru_cache(maxsize=512)
def _pair_table(
    ratios: tuple[Fraction, Fraction], offset: Fraction, rounding: Rounding, lo: int, hi: int,
    ranges: tuple[tuple[int, int], tuple[int, int]],
) -> np.ndarray:
    a, b = (np.arange(low, high + 1) for low, high in ranges)
    return exact_pairs(ratios, offset, rounding, lo, hi, a, b)


def execute(op: Op, inputs: list[np.ndarray], *, exact: bool = False) -> np.ndarray:
    """One operator on int arrays (C, H, W): by its `requant`, or with `exact` by its `function`."""
    if isinstance(op, Table) and exact and op.function is not None:
        return apply_exact(op.function, [np.asarray(i, dtype=np.int64) for i in inputs])
    accumulators = accumulate(op, inputs)
    if isinstance(op, Concat | Resize | Table):
        return accumulators[0]
    if exact:
        if op.function is None:
            raise CompileError(f"layer {op.name!r} has no function to evaluate")
        return apply_exact(op.function, accumulators)
    if op.requant is None:
        raise CompileError(f"layer {op.name!r} has no requantization yet: run the proof first")
    return op.requant.apply(*accumulators)


def evaluate(network: Network, inputs: Mapping[str, np.ndarray], *, exact: bool = False) -> dict[str, np.ndarray]:
    """All tensors of the network.

    Args:
        inputs: int arrays (C, H, W) by graph input name.
        exact: evaluate each operator's exact rational `function` instead of its integer `requant`.

    Returns:
        int64 array (C, H, W) per tensor name, inputs included.
    """
    tensors: dict[str, np.ndarray] = {}
    for name in network.inputs:
        if name not in inputs:
            raise CompileError(f"no data for graph input {name!r}")
        value = np.asarray(inputs[name], dtype=np.int64)
        if value.shape != network.tensors[name].shape:
            raise CompileError(
                f"graph input {name!r}: expected shape {network.tensors[name].shape}, got {value.shape}"
            )
        tensors[name] = value
    for op in network.ops:
        tensors[op.output] = execute(op, [tensors[i] for i in op.inputs], exact=exact)
    return tensors
