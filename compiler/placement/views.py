# SPDX-License-Identifier: Apache-2.0
"""Tensors that lie inside the result of a Concat, which then has nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Concat

__all__ = ["concat_views", "is_view", "view_offsets", "written_parts"]


def concat_views(network: Network, possible: Callable[[Concat], bool]) -> dict[str, str]:
    """Tensors that can simply lie inside the output of the Concat that reads them: {tensor: that output}.

    Args:
        possible: whether the platform's layouts let all inputs of a Concat lie behind each other.
    """
    views: dict[str, str] = {}
    for op in network.ops:
        if not isinstance(op, Concat):
            continue
        free = len(set(op.inputs)) == len(op.inputs) and not any(name in views for name in op.inputs)
        same = len({t.type.signed for t in (*network.op_inputs(op), network.tensors[op.output])}) == 1
        if free and same and possible(op):
            views.update(dict.fromkeys(op.inputs, op.output))
    return views


def is_view(op: Op, views: Mapping[str, str]) -> bool:
    """Whether all that a Concat reads lies inside its result."""
    return all(views.get(name) == op.output for name in op.inputs)


def written_parts(name: str, views: Mapping[str, str]) -> list[str]:
    """The tensors that are really written when `name` is: itself, or what a Concat without work is made of."""
    inside = [tensor for tensor, parent in views.items() if parent == name]
    return [part for tensor in inside for part in written_parts(tensor, views)] if inside else [name]


def view_offsets(network: Network, views: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes from the start of the result at which each tensor of `views` lies. sizes: bytes of each tensor."""
    offsets: dict[str, int] = {}
    for op in network.ops:
        if isinstance(op, Concat) and is_view(op, views):
            at = 0
            for name in op.inputs:
                offsets[name] = at
                at += sizes[name]
    return offsets
