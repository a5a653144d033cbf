# SPDX-License-Identifier: Apache-2.0
"""The reference: an exact integer executor of a network, independent of any accelerator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.network import Network, Op, QuantFunction
from nncosim.compiler.ir.sums import ExactSum

__all__ = ["Reference", "apply_exact", "evaluate", "execute"]


def apply_exact(function: QuantFunction, accumulators: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """`function` in exact rational arithmetic on int64 arrays, one per operand. Returns int64.

    `axis`: where their channels are.
    """
    if function.integers is not None:
        return function.integers.apply(*accumulators, axis=axis)
    if axis:
        in_front = [np.moveaxis(accumulator, axis, 0) for accumulator in accumulators]
        return np.moveaxis(apply_exact(function, in_front), 0, axis)
    if len(accumulators) == 1:
        return np.stack([function.at(c, acc) for c, acc in enumerate(accumulators[0])])
    first, second = accumulators
    ranges = tuple((int(v.min()), int(v.max())) for v in (first, second))
    planes = []
    for c in range(len(function.offset)):
        ratios = function.ratios[0][c], function.ratios[1][c]
        exact = _exact_sum(ratios, function.offset[c], function.rounding, function.lo, function.hi, ranges)
        planes.append(exact(first[c], second[c]))
    return np.stack(planes)


_exact_sum = lru_cache(maxsize=128)(ExactSum)  # a Quant's ratios are those of all channels


def execute(op: Op, inputs: Sequence[np.ndarray], axis: int, *, exact: bool = False) -> np.ndarray:
    """One operator on int arrays: by its `requant`, or with `exact` by its `function`.

    `axis`: where the result's channels are.
    """
    values = [np.asarray(i, dtype=np.int64) for i in inputs]
    if exact and op.function is not None:
        return apply_exact(op.function, op.operands(values), axis)
    if not op.requantized:
        return op.accumulate(values)[0]
    if exact:
        raise CompileError(f"layer {op.name!r} has no function to evaluate")
    if op.requant is None:
        raise CompileError(f"layer {op.name!r} has no requantization yet: run the proof first")
    return op.requant.apply(*op.accumulate(values), axis=axis)


Reference = Callable[[Op, Sequence[np.ndarray]], np.ndarray]
"""What an operator gives for its inputs."""


def evaluate(
    network: Network, inputs: Mapping[str, np.ndarray], *, exact: bool = False, reference: Reference | None = None
) -> dict[str, np.ndarray]:
    """All tensors of the network.

    Args:
        inputs: int arrays by graph input name, of the tensors' shapes.
        reference: another meaning of each operator than its own, such as the chosen kernels'.
        exact: evaluate each operator's exact rational `function` instead of its integer `requant`.

    Returns:
        int64 array per tensor name, inputs included.
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
        values = [tensors[i] for i in op.inputs]
        if reference is not None:
            tensors[op.output] = reference(op, values)
        else:
            tensors[op.output] = execute(op, values, network.tensors[op.output].channel_axis, exact=exact)
    return tensors
