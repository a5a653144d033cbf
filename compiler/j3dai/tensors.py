# SPDX-License-Identifier: Apache-2.0
"""Tensors in L2: their layouts, their buffers, and which lie inside the result of a Concat that so has no work."""

from __future__ import annotations

from collections.abc import Mapping

from nncosim.compiler.frontend import raw_outputs
from nncosim.compiler.ir.layout import Layout, size_bytes
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Concat
from nncosim.compiler.placement.placement import Buffer
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.conv import planes_of
from nncosim.kernels.j3dai.packed import input_layout, is_interleaved
from nncosim.platforms.j3dai import J3dai

__all__ = ["concat_views", "is_view", "tensor_buffers", "tensor_layouts", "written_parts"]


def concat_views(network: Network, platform: J3dai) -> dict[str, str]:
    """Tensors that can simply lie inside the output of the Concat that reads them: {tensor: that output}."""
    views: dict[str, str] = {}
    word = platform.word_bytes
    for op in network.ops:
        if not isinstance(op, Concat):
            continue
        tensors = network.op_inputs(op)
        whole = all(t.shape[0] % word == 0 for t in tensors[:-1])
        planar = all(t.shape[0] >= word or not is_interleaved(t.name, network, platform) for t in tensors)
        free = len(set(op.inputs)) == len(op.inputs) and not any(name in views for name in op.inputs)
        same = len({t.type.signed for t in (*tensors, network.tensors[op.output])}) == 1
        if whole and planar and free and same:
            views.update(dict.fromkeys(op.inputs, op.output))
    return views


def is_view(op: Op, views: Mapping[str, str]) -> bool:
    """Whether all that a Concat reads lies inside its result."""
    return all(views.get(name) == op.output for name in op.inputs)


def written_parts(name: str, views: Mapping[str, str]) -> list[str]:
    """The tensors that are really written when `name` is: itself, or what a Concat without work is made of."""
    inside = [tensor for tensor, parent in views.items() if parent == name]
    return [part for tensor in inside for part in written_parts(tensor, views)] if inside else [name]


def tensor_layouts(network: Network, platform: J3dai) -> dict[str, Layout]:
    """Block planar with evenly filled blocks, but for graph inputs as a camera gives them; whole accumulators byte by
    byte."""
    word, layouts = platform.word_bytes, {}
    for name in network.tensors:
        held = held_channels(name, network, platform)
        even = Layout(f"C/{held} H W C%{held}:{word}")
        layouts[name] = input_layout(name, network, platform) or even
    whole = {name: planes_of(network.tensors[name].type) for name in raw_outputs(network)}
    return layouts | {name: Layout(f"bit/8 C/{word} H W C%{word}", 8 * planes) for name, planes in whole.items()}


def tensor_buffers(
    network: Network, platform: J3dai, views: Mapping[str, str], layouts: Mapping[str, Layout]
) -> list[Buffer]:
    """One a tensor, in the network's order. views: of `concat_views`."""
    offsets: dict[str, int] = {}
    word = platform.word_bytes
    for op in network.ops:
        if isinstance(op, Concat) and is_view(op, views):
            at = 0
            for tensor in network.op_inputs(op):
                offsets[tensor.name] = at
                at += size_bytes(tensor.shape, layouts[tensor.name], tensor.axes)
    return [
        Buffer(
            t.name, "l2", -(-size_bytes(t.shape, layouts[t.name], t.axes) // word) * word, "tensor",
            platform.line_bytes if t.name not in views else platform.word_bytes,
            from_start=t.name in network.inputs, to_end=t.name in network.outputs,
            parent=views.get(t.name), offset=offsets.get(t.name, 0),
        )
        for t in network.tensors.values()
    ]  # fmt: skip
