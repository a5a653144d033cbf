# SPDX-License-Identifier: Apache-2.0
"""Whether every accumulator holds its sums, proved from the operators' own bounds."""

from __future__ import annotations

from nncosim.compiler.errors import AccumulatorError
from nncosim.compiler.ir.network import Network

__all__ = ["check_accumulators"]


def check_accumulators(network: Network, bits: int) -> None:
    """Raise `AccumulatorError` naming each layer whose partial sums may leave `bits` (signed)."""
    limit = 1 << (bits - 1)
    bad = []
    for op in network.ops:
        low, high = op.partial_bounds(network.op_inputs(op))
        lowest, highest = int(low.min()), int(high.max())
        if lowest < -limit or highest >= limit:
            bad.append(f"layer {op.name!r}: partial sums reach {lowest}..{highest}")
    if bad:
        raise AccumulatorError(
            f"accumulators of {bits} bits hold {-limit}..{limit - 1}, but " + "; ".join(bad)
            + ". Fewer input channels, smaller kernels or narrower weights or activations would help"
        )
