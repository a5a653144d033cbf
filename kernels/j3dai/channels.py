# SPDX-License-Identifier: Apache-2.0
"""How many channels of a tensor a word holds: evenly many in each of its blocks.

24 channels take two blocks, whether as 16 + 8 or as 12 + 12; but a convolution that reads them takes as many
micro-operations for each block as the fullest has channels, so 12 + 12 saves a quarter of its time.
"""

from __future__ import annotations

import functools

from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Concat, Conv
from nncosim.platforms.j3dai import J3dai

__all__ = ["held_channels"]


def held_channels(tensor: str, network: Network, platform: J3dai) -> int:
    """Channels in each block of a tensor; the last may have fewer. At most the bytes of a word."""
    return _held(network, platform.word_bytes)[tensor]


def _channelwise(op: Op, network: Network) -> bool:
    """Whether an operator keeps each channel in the block and byte where it is."""
    if isinstance(op, Conv):
        channels = network.tensors[op.inputs[0]].shape[0]
        return op.groups == channels == op.weights.shape[0] > 1
    return not isinstance(op, Concat)


@functools.lru_cache(maxsize=8)
def _held(network: Network, word: int) -> dict[str, int]:
    """For each tensor. Those that channelwise operators connect are alike; what is joined lies without gaps."""
    parent = {name: name for name in network.tensors}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    dense = set()
    for op in network.ops:
        if _channelwise(op, network):
            for name in op.inputs:
                parent[root(name)] = root(op.output)
        if isinstance(op, Concat):
            dense |= {*op.inputs, op.output}
    dense |= {name for name, tensor in network.tensors.items() if tensor.type.bits > 8 or tensor.shape[0] <= word}
    roots = {root(name) for name in dense}
    out = {}
    for name, tensor in network.tensors.items():
        channels = tensor.shape[0]
        out[name] = word if root(name) in roots else -(-channels // -(-channels // word))
    return out
