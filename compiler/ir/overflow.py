# SPDX-License-Identifier: Apache-2.0
"""Bounds of every accumulator, proved from the weights and the range of the inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nncosim.compiler.errors import AccumulatorError
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.ir.operators import Add, Conv, Pool

__all__ = ["accumulator_bounds", "check_accumulators", "partial_sum_bounds"]


def _conv_bounds(op: Conv, lo: int, hi: int, with_zero: bool) -> tuple[np.ndarray, np.ndarray]:
    if any(op.pads):
        lo, hi = min(lo, op.pad_value), max(hi, op.pad_value)
    weights = op.weights.reshape(op.weights.shape[0], -1).astype(np.int64)
    low, high = np.minimum(weights * lo, weights * hi), np.maximum(weights * lo, weights * hi)
    if with_zero:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    return low.sum(axis=1), high.sum(axis=1)


def _bounds(op: Op, inputs: Sequence[Tensor], with_zero: bool) -> tuple[np.ndarray, np.ndarray]:
    source = inputs[0]
    lo, hi, channels = source.type.lo, source.type.hi, source.shape[0]
    if isinstance(op, Conv):
        return _conv_bounds(op, lo, hi, with_zero)
    if isinstance(op, Pool) and op.mode == "sum":
        if any(op.pads):
            lo, hi = min(lo, op.pad_value), max(hi, op.pad_value)
        terms = op.kernel[0] * op.kernel[1]
        lo, hi = (min(lo, 0), max(hi, 0)) if with_zero else (lo, hi)
        lo, hi = lo * terms, hi * terms
    elif isinstance(op, Add):
        lo, hi = min(t.type.lo for t in inputs), max(t.type.hi for t in inputs)
    return np.full(channels, lo, dtype=np.int64), np.full(channels, hi, dtype=np.int64)


def accumulator_bounds(op: Op, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest finished accumulator of each output channel.

    Args:
        op: the operator; `inputs`: its input tensors in order.

    Returns:
        Two int64 arrays (C,). Both bounds are reached by some input, so they are tight. For an Add they
        bound each operand.
    """
    return _bounds(op, inputs, with_zero=False)


def partial_sum_bounds(op: Op, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of every partial sum in any order of the terms, the empty sum included. int64 (C,) each."""
    return _bounds(op, inputs, with_zero=True)


def check_accumulators(network: Network, bits: int) -> None:
    """Raise `AccumulatorError` naming each layer whose partial sums may leave `bits` (signed)."""
    limit = 1 << (bits - 1)
    bad = []
    for op in network.ops:
        low, high = partial_sum_bounds(op, network.op_inputs(op))
        lowest, highest = int(low.min()), int(high.max())
        if lowest < -limit or highest >= limit:
            bad.append(f"layer {op.name!r}: partial sums reach {lowest}..{highest}")
    if bad:
        raise AccumulatorError(
            f"accumulators of {bits} bits hold {-limit}..{limit - 1}, but " + "; ".join(bad)
            + ". Fewer input channels, smaller kernels or narrower weights or activations would help"
        )
