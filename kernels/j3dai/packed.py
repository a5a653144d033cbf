# SPDX-License-Identifier: Apache-2.0
"""Graph inputs as a camera gives them: row after row, pixel after pixel, channel after channel, byte after byte.

Kernels want words in L1. The DMPA makes them on the way (GATHER): one pixel a word, or, *packed*, all the pixels of a
row that one or two neighbouring results of a convolution read. An image of 3 channels fills 3 of a word's 16 bytes, and
with stride 2 every second word is of no use to neighbouring PEs. Packed, word u of a row holds the columns
`step * u - pad_left` and following, all channels of each, so a window of neighbouring words serves neighbouring
results, and a kernel's row is a run of lanes of a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Conv
from nncosim.kernels.j3dai.nest import Gather, Source, blocks_of
from nncosim.platforms.j3dai import J3dai

__all__ = ["Packed", "input_layout", "is_interleaved", "packed_input", "source_of"]

_MOST_LOSS = 1.15
"""Jobs that two results a word may cost, of those with one: rows that leave PEs idle."""


@dataclass(frozen=True)
class Packed:
    """The words of a row, packed. words: their number. results: neighbouring ones that a word serves, 1 or 2."""

    words: int
    results: int
    gather: Gather


def is_interleaved(tensor: str, network: Network, platform: J3dai) -> bool:
    """Whether a tensor lies in L2 as a camera gives it: a graph input of which a pixel is no more than a word.

    Inputs of more channels are block planar like all other tensors: no camera gives them.
    """
    return tensor in network.inputs and network.tensors[tensor].shape[0] <= platform.word_bytes


def input_layout(tensor: str, network: Network, platform: J3dai) -> Layout | None:
    """The layout of a graph input that lies in L2 as a camera gives it; None for all other tensors."""
    return Layout("H W C") if is_interleaved(tensor, network, platform) else None


def source_of(tensor: str, network: Network, platform: J3dai) -> Source:
    """A tensor as what a nest reads, one pixel a word."""
    channels = network.tensors[tensor].shape[0]
    plain = channels == platform.word_bytes or not is_interleaved(tensor, network, platform)
    return Source(tensor, blocks_of(channels, platform), None if plain else Gather(channels, channels))


def _packable(op: Conv, network: Network) -> bool:
    """Whether a convolution can read packed words."""
    kind = network.tensors[op.inputs[0]].type
    low, high = (-128, 127) if kind.signed else (0, 255)
    plain = op.groups == 1 and op.dilation[1] == 1 and low <= op.pad_value <= high
    flat = op.weights.shape[2:] == (1, 1) and op.stride == (1, 1)
    return plain and not flat


def packed_input(op: Conv, network: Network, platform: J3dai) -> Packed | None:
    """What the packed words of a convolution's input hold.

    None for what is read one pixel a word: no graph input, groups, a kernel's row that fills more than a word, windows
    in the padding alone, a padding value that is no byte of the input's type, nothing to be gained.
    """
    tensor = op.inputs[0]
    if not is_interleaved(tensor, network, platform) or not _packable(op, network):
        return None
    (c, _, width), results = network.tensors[tensor].shape, network.tensors[op.output].shape[2]
    kernel, stride, (_, pad, _, right) = op.weights.shape[3], op.stride[1], op.pads
    pes, columns = platform.pes_per_ncb, platform.word_bytes // c
    if max(pad, right) >= kernel:
        return None
    found: dict[int, Packed] = {}
    for each in (1, 2):
        used = (each - 1) * stride + kernel  # columns
        if used <= columns and 1 < each * stride <= columns:
            gather = Gather(each * stride * c, used * c, -pad * c, op.pad_value & 0xFF, width * c)
            found[each] = Packed(-(-results // each), each, gather)
    two, one = 2 * -(-results // (2 * pes)), -(-results // pes)
    each = 2 if 2 in found and two <= _MOST_LOSS * one else 1
    return found.get(each)
