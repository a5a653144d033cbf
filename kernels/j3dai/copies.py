# SPDX-License-Identifier: Apache-2.0
"""Operators that only move values on the J3DAI clusters: concatenation (where placement cannot do it), enlargement."""

from __future__ import annotations

import numpy as np
from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.layout import to_bytes
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Concat, Resize
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.common import NestKernel, problem
from nncosim.kernels.j3dai.nest import Nest, blocks_of, identity, records, weight_layout
from nncosim.kernels.j3dai.packed import source_of
from nncosim.platforms.j3dai import J3dai

__all__ = ["ConcatKernel", "ResizeKernel"]


class ConcatKernel(NestKernel[Concat]):
    """A 1x1 convolution with weights 0 and 1 over the blocks of all inputs: moves channels between bytes of a word."""

    name = "concat"
    op_types = ("concat",)

    def own_problems(self, op: Concat, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        if len({t.type.signed for t in network.op_inputs(op)}) > 1:
            return (problem(op, "joins signed and unsigned tensors", "requantize them to one type first"),)
        return ()

    def code(self, op: Concat, network: Network, platform: J3dai) -> Nest:
        size = platform.word_bytes
        tensors, out = network.op_inputs(op), network.tensors[op.output]
        sources = tuple(source_of(t.name, network, platform) for t in tensors)
        origin = []  # virtual input channel of each output channel
        first = 0
        for tensor, source in zip(tensors, sources, strict=True):
            origin += [first + c for c in range(tensor.shape[0])]
            first += source.blocks * size
        reads, weights = _selection(origin, first // size, platform)
        flat = (1, out.shape[1] * out.shape[2])
        held = held_channels(op.output, network, platform)
        return Nest(
            op.name, sources, op.output, flat, flat, len(reads), MacOp.MAC, False, (out.type.signed,),
            records(identity(op, network), platform, held), reads=reads, weights=weights, platform=platform,
        )  # fmt: skip


def _selection(
    origin: list[int], blocks: int, platform: J3dai
) -> tuple[tuple[tuple[int, int], ...], tuple[bytes, ...]]:
    """Reads and 0/1 weights that bring input channel `origin[i]` to output channel i, in blocks of a word."""
    size = platform.word_bytes
    groups = [origin[i : i + size] for i in range(0, len(origin), size)]
    count = max(g[-1] // size - g[0] // size + 1 for g in groups)
    reads, weights = [], []
    for group in groups:
        low = min(group[0] // size, blocks - count)
        matrix = np.zeros((len(group), count * size), dtype=np.int8)
        for n, channel in enumerate(group):
            matrix[n, channel - low * size] = 1
        reads.append((low, count))
        weights.append(to_bytes(matrix, weight_layout(size, platform), "OI"))
    return tuple(reads), tuple(weights)


class ResizeKernel(NestKernel[Resize]):
    """Nearest neighbour: columns are repeated by the result address generator, rows by the DMPA's stores."""

    name = "resize"
    op_types = ("resize",)

    def own_problems(self, op: Resize, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        if min(op.factors) < 1 or max(op.factors) > 64:
            return (problem(op, f"factors {op.factors} are not within 1..64", "enlarge in two steps"),)
        return ()

    def code(self, op: Resize, network: Network, platform: J3dai) -> Nest:
        (source,) = network.op_inputs(op)
        held = held_channels(op.output, network, platform)
        return Nest(
            op.name, (source_of(source.name, network, platform),), op.output, source.chw[1:],
            source.chw[1:], blocks_of(source.shape[0], platform), MacOp.ADD, True, (source.type.signed,),
            records(identity(op, network), platform, held), upsample=op.factors, platform=platform,
        )  # fmt: skip
