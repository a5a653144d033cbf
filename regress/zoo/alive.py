# SPDX-License-Identifier: Apache-2.0
"""Whether every tensor of a network tells anything: what is saturated or constant hides a wrong bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from nncosim.compiler.ir.network import Network, Op

__all__ = ["SATURATED", "VALUES", "dead_layers", "saturated_share"]

SATURATED = 0.01
"""Of a tensor's elements less than this share is clipped."""
VALUES = 64
"""Each tensor has at least as many different values."""
_ZERO = 0.6
"""After a ReLU no larger share is zero."""


def saturated_share(network: Network, op: Op, values: np.ndarray) -> float:
    """The share of `op`'s output that its Quant clips. The zeros of a ReLU are no saturation."""
    kind = network.tensors[op.output].type
    rectified = op.function is not None and kind.lo == kind.zero_point
    return float(np.mean((values >= kind.hi) | ((values <= kind.lo) & (not rectified))))


def dead_layers(network: Network, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """What is wrong with the output of each operator, one line each; [] if all are alive.

    Args:
        tensors: of one inference, int (C, H, W) by name.
    """
    found = []
    for op in network.ops:
        if op.copies:
            continue  # a copy is as alive as what it copies
        values, where = tensors[op.output], f"{op.name} ({op.output})"
        share = saturated_share(network, op, values)
        if share >= SATURATED:
            found.append(f"{where}: {share:.1%} of the values saturate")
        distinct = len(np.unique(values))
        if distinct < VALUES:
            found.append(f"{where}: {distinct} different values")
        zero = float(np.mean(values == network.tensors[op.output].type.zero_point))
        if zero > _ZERO:
            found.append(f"{where}: {zero:.0%} of the values are zero")
        flat = values.reshape(values.shape[0], -1)
        constant = int((flat == flat[:, :1]).all(axis=1).sum()) if flat.shape[1] > 1 else 0
        if constant:
            found.append(f"{where}: {constant} of {len(flat)} channels are constant")
    return found
