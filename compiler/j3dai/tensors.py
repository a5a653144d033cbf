# SPDX-License-Identifier: Apache-2.0
"""Tensors in L2: their layouts, their buffers, and which lie inside the result of a Concat that so has no work."""

from __future__ import annotations

from collections.abc import Mapping

from nncosim.compiler.frontend import raw_outputs
from nncosim.compiler.ir.layout import Layout, size_bytes
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Concat
from nncosim.compiler.placement.placement import Buffer
from nncosim.compiler.placement.views import concat_views as views_where
from nncosim.compiler.placement.views import view_offsets
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.conv import planes_of
from nncosim.kernels.j3dai.packed import input_layout, is_interleaved
from nncosim.platforms.j3dai import J3dai

__all__ = ["concat_views", "tensor_buffers", "tensor_layouts"]


def concat_views(network: Network, platform: J3dai) -> dict[str, str]:
    """See `views.concat_views`: where all inputs but the last fill their last words, and none is interleaved."""
    word = platform.word_bytes

    def possible(op: Concat) -> bool:
        tensors = network.op_inputs(op)
        whole = all(t.shape[0] % word == 0 for t in tensors[:-1])
        return whole and all(t.shape[0] >= word or not is_interleaved(t.name, network, platform) for t in tensors)

    return views_where(network, possible)


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
    word = platform.word_bytes
    offsets = view_offsets(network, views, {t.name: size_bytes(t.shape, layouts[t.name], t.axes)
                                            for t in network.tensors.values()})  # fmt: skip
    return [
        Buffer(
            t.name, "l2", -(-size_bytes(t.shape, layouts[t.name], t.axes) // word) * word, "tensor",
            platform.line_bytes if t.name not in views else platform.word_bytes,
            from_start=t.name in network.inputs, to_end=t.name in network.outputs,
            parent=views.get(t.name), offset=offsets.get(t.name, 0),
        )
        for t in network.tensors.values()
    ]  # fmt: skip
