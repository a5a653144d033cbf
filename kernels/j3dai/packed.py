# SPDX-License-Identifier: Apache-2.0
"""Packed graph inputs: a word holds all the pixels of a row that one or two neighbouring results of a convolution read.

An image of 3 channels fills 3 of a word's 16 bytes, and with stride 2 every second word is of no use to neighbouring
PEs. Packed, word u of a row holds the columns `step * u - pad_left` and following, all channels of each, so
a window of neighbouring words serves neighbouring results, and a kernel's row is a run of lanes of a word.
"""

from __future__ import annotations

from nncosim.compiler.ir import Conv, Network
from nncosim.compiler.layout import Layout, Windows
from nncosim.platforms.j3dai import J3dai

__all__ = ["packed_input", "packed_layout"]

_MOST_LOSS = 1.15
"""Jobs that two results a word may cost, of those with one: rows that leave PEs idle."""


def _reader(tensor: str, network: Network) -> Conv | None:
    """The convolution that is a graph input's only reader, if it is one that can read packed words."""
    if tensor not in network.inputs or tensor in network.outputs:
        return None
    readers = [op for op in network.ops if tensor in op.inputs]
    if len(readers) != 1 or not isinstance(readers[0], Conv):
        return None
    op = readers[0]
    kind = network.tensors[tensor].type
    low, high = (-128, 127) if kind.signed else (0, 255)
    plain = op.groups == 1 and op.dilation[1] == 1 and low <= op.pad_value <= high
    flat = op.weights.shape[2:] == (1, 1) and op.stride == (1, 1)
    return op if plain and not flat else None


def packed_input(tensor: str, network: Network, platform: J3dai) -> tuple[int, Windows] | None:
    """How many neighbouring results a packed word of a graph input serves (1 or 2), and what it holds.

    None for what stays as it is: no graph input, several readers or one that is no dense convolution, a kernel's row
    that fills more than a word, a padding value that is no byte of the input's type, nothing to be gained.
    """
    op = _reader(tensor, network)
    if op is None:
        return None
    (c, _, width), results = network.tensors[tensor].shape, network.tensors[op.output].shape[2]
    kernel, stride = op.weights.shape[3], op.stride[1]
    pes, columns = platform.pes_per_ncb, platform.word_bytes // c
    found: dict[int, Windows] = {}
    for each in (1, 2):
        if (each - 1) * stride + kernel <= columns and 1 < each * stride <= columns:
            words = max(-(-results // each), -(-(width + op.pads[1] - columns) // (each * stride)) + 1)
            found[each] = Windows(words, columns, each * stride, -op.pads[1], op.pad_value)
    two, one = 2 * -(-results // (2 * pes)), -(-results // pes)
    each = 2 if 2 in found and two <= _MOST_LOSS * one else 1
    return (each, found[each]) if each in found else None


def packed_layout(tensor: str, network: Network, platform: J3dai) -> Layout | None:
    """The layout of a packed graph input; None if it is not packed."""
    found = packed_input(tensor, network, platform)
    return None if found is None else Layout("CHWc", platform.word_bytes, 8, found[1])
