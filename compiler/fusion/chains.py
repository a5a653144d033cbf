# SPDX-License-Identifier: Apache-2.0
"""Which operators could run as one layer.

A tensor between two operators can stay inside if it has one reader and nobody outside needs it. Such links make chains
through the network. An operator has one link at most before it and one behind it, so the chains do not branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Resize

__all__ = ["chains", "may_stay"]


def may_stay(network: Network) -> frozenset[str]:
    """Tensors that a group could keep inside as far as operators tell, without their kernels: one operator reads each,
    nobody outside does, and no result of it is written several times."""
    reads = Counter(name for op in network.ops for name in op.inputs)
    enlarged = {op.output for op in network.ops if isinstance(op, Resize) and op.factors != (1, 1)}
    made = {op.output for op in network.ops if reads[op.output] == 1}
    return frozenset(made - enlarged - {*network.outputs})


def _links(
    network: Network, ops: Sequence[Op], kept: Mapping[str, str], joins: Callable[[int, int], bool],
    work: Callable[[int], int],
) -> dict[int, int]:
    """Operator -> the only reader of its output, where the two can be fused. No operator has two such before it."""
    user = {name: j for j, op in enumerate(ops) for name in op.inputs}
    free = may_stay(network) - {*kept, *kept.values()}
    chosen: dict[int, int] = {}
    for i, op in enumerate(ops):
        j = user.get(op.output) if op.output in free else None
        if j is None or not joins(i, j):
            continue
        # Of two producers, the one with more to compute.
        if j not in chosen or work(i) > work(chosen[j]):
            chosen[j] = i
    return {i: j for j, i in chosen.items()}


def chains(
    network: Network, ops: Sequence[Op], kept: Mapping[str, str], joins: Callable[[int, int], bool],
    work: Callable[[int], int],
) -> list[tuple[int, ...]]:
    """Every operator once, as numbers, in chains of which each link can be fused.

    Args:
        ops: those that do something. kept: tensors that lie inside others.
        joins: whether the kernels of an operator and of the reader of its output could run as one layer.
        work: how much an operator computes; of two that one reader could be fused with, the greater is.
    """
    links = _links(network, ops, kept, joins, work)
    out = []
    for start in sorted(set(range(len(ops))) - set(links.values())):
        path = [start]
        while path[-1] in links:
            path.append(links[path[-1]])
        out.append(tuple(path))
    return out
