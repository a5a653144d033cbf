# SPDX-License-Identifier: Apache-2.0
"""Convolutions (and Gemm as one) on the J3DAI clusters: dense, grouped, depthwise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.layout import Layout, to_bytes
from nncosim.compiler.ir.network import Network, TensorType
from nncosim.compiler.ir.operators import Conv
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.common import NestKernel, problem
from nncosim.kernels.j3dai.nest import Nest, blocks_of, products, records, requant_of, weight_layout
from nncosim.kernels.j3dai.packed import packed_input, source_of
from nncosim.platforms.j3dai import J3dai

__all__ = ["DenseConv", "DepthwiseConv", "planes_of"]


def _flat(op: Conv) -> bool:
    """Whether the map can be walked as one row: each result depends on the pixel at its own place only."""
    return op.weights.shape[2:] == (1, 1) and op.stride == (1, 1) and not any(op.pads)


def _maps(op: Conv, network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    (_, h, w), (_, oh, ow) = network.tensors[op.inputs[0]].shape, network.tensors[op.output].shape
    return ((1, h * w), (1, oh * ow)) if _flat(op) else ((h, w), (oh, ow))


def _macs(op: Conv, network: Network) -> int:
    _, oh, ow = network.tensors[op.output].shape
    return int(op.weights.size) * oh * ow


def _is_depthwise(op: Conv, network: Network) -> bool:
    channels = network.tensors[op.inputs[0]].shape[0]
    return op.groups == channels == op.weights.shape[0] and op.weights.shape[1] == 1 and channels > 1


def _conv_problems(op: Conv) -> list[Problem]:
    found = []
    low, high = int(op.weights.min()), int(op.weights.max())
    if low < -128 or high > 127:
        found.append(problem(op, f"weights reach {low}..{high}, but the multipliers take -128..127",
                             "quantise the weights to 8 bits signed or less, without a zero point"))  # fmt: skip
    if max(op.stride) > 15:
        found.append(problem(op, f"stride {op.stride} is over 15", "use a smaller stride and a pooling layer"))
    if max(op.dilation) * op.stride[1] > 31:
        found.append(problem(op, f"dilation {op.dilation} is too large", "use a smaller dilation"))
    if not -256 <= op.pad_value <= 255:
        found.append(problem(op, f"padding value {op.pad_value} does not fit 9 bits", "use zero padding"))
    return found


class DenseConv(NestKernel[Conv]):
    """Each output block reads all input blocks of its groups; channels of other groups have weight 0."""

    name = "conv"
    op_types = ("conv",)

    def own_problems(self, op: Conv, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        return tuple(_conv_problems(op))

    def code(self, op: Conv, network: Network, platform: J3dai) -> Nest:
        source = network.tensors[op.inputs[0]]
        in_map, out_map = _maps(op, network)
        held = held_channels(source.name, network, platform), held_channels(op.output, network, platform)
        reads = _reads(op, source.shape[0], held)
        passes = _passes(op, network, platform)
        nest = Nest(
            op.name, (source_of(source.name, network, platform),), op.output, in_map, out_map,
            len(reads), MacOp.MAC, False, (source.type.signed,), passes[0],
            kernel=(op.weights.shape[2], op.weights.shape[3]), stride=op.stride, dilation=op.dilation, pads=op.pads[:2],
            pad_value=op.pad_value, lanes=min(source.shape[0], held[0]), reads=reads,
            weights=_dense_weights(op, source.shape[0], reads, held, platform), macs=_macs(op, network),
            platform=platform, products=products(op, network),
        )  # fmt: skip
        nest = _packed(nest, op, network, platform)
        return replace(
            nest, out_blocks=len(passes) * len(reads), reads=len(passes) * reads, weights=len(passes) * nest.weights,
            records=tuple(record for each in passes for record in each),
        )


def planes_of(kind: TensorType) -> int:
    """Bytes that a raw accumulator of this range takes."""
    return next(n for n in range(1, 5) if -(1 << (8 * n - 1)) <= kind.lo and kind.hi < 1 << (8 * n - 1))


def _passes(op: Conv, network: Network, platform: J3dai) -> list[tuple[bytes, ...]]:
    """Records of the output's blocks: once, or for whole accumulators once for each of their bytes."""
    kind, held = network.tensors[op.output].type, held_channels(op.output, network, platform)
    if kind.bits <= 8:
        return [records(requant_of(op), platform, held)]
    channels = network.tensors[op.output].shape[0]
    planes = (MultiplyShift.uniform(channels, s=8 * k) for k in range(planes_of(kind)))
    return [records(plane, platform, held, wrap=True) for plane in planes]


def _packed(nest: Nest, op: Conv, network: Network, platform: J3dai) -> Nest:
    """The nest that reads a graph input packed, where that can be: weights stay as they are."""
    found = packed_input(op, network, platform)
    if found is None:
        return nest
    (source,), each = nest.sources, found.results
    (channels, height, _), (_, rows, columns) = (network.tensors[n].shape for n in (op.inputs[0], op.output))
    kernel, stride = op.weights.shape[2:], op.stride
    return replace(
        nest, sources=(replace(source, gather=found.gather),), in_map=(height, found.words),
        out_map=(rows, -(-columns // each)), kernel=(kernel[0], 1),
        stride=(stride[0], 1), dilation=(op.dilation[0], 1), pads=(op.pads[0], 0), lanes=kernel[1] * channels,
        interleave=each, lane_step=stride[1] * channels, columns=columns,
    )  # fmt: skip


def _reads(op: Conv, channels: int, held: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Input blocks (first, number) of every output block; the number is the same for all.

    held: channels of a block of the input, of the output.
    """
    outputs, depth = op.weights.shape[:2]
    per_group = outputs // op.groups
    spans = []
    for first in range(0, outputs, held[1]):
        last = min(first + held[1], outputs) - 1
        low = first // per_group * depth // held[0]
        spans.append((low, ((last // per_group + 1) * depth - 1) // held[0] - low + 1))
    count = max(n for _, n in spans)
    return tuple((min(low, -(-channels // held[0]) - count), count) for low, _ in spans)


def _dense_weights(
    op: Conv, channels: int, reads: tuple[tuple[int, int], ...], held: tuple[int, int], platform: J3dai
) -> tuple[bytes, ...]:
    """The weights of each output block. `held` as for `_reads`."""
    outputs, depth, kh, kw = op.weights.shape
    per_group, lanes = outputs // op.groups, min(channels, held[0])
    out = []
    for b, (low, count) in enumerate(reads):
        weights = op.weights[b * held[1] : (b + 1) * held[1]]
        block = np.zeros((len(weights), count * lanes, kh, kw), dtype=np.int8)
        for n, one in enumerate(weights):
            start = (b * held[1] + n) // per_group * depth - low * lanes
            block[n, start : start + depth] = one
        out.append(to_bytes(block, weight_layout(lanes, platform), "OIHW"))
    return tuple(out)


class DepthwiseConv(NestKernel[Conv]):
    """One channel in, one channel out: a window is one micro-operation for all channels of its block."""

    name = "depthwise"
    op_types = ("conv",)

    def own_problems(self, op: Conv, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        if not _is_depthwise(op, network):
            return (problem(op, "is not depthwise", "use as many groups as channels"),)
        if network.tensors[op.output].type.bits > 8:
            return (problem(op, "gives whole accumulators", "quantise the output to 8 bits or less"),)
        return tuple(_conv_problems(op))

    def code(self, op: Conv, network: Network, platform: J3dai) -> Nest:
        source = network.tensors[op.inputs[0]]
        in_map, out_map = _maps(op, network)
        channels, _, kh, kw = op.weights.shape
        count, held = blocks_of(channels, platform), held_channels(op.output, network, platform)
        weights = to_bytes(op.weights, Layout(f"O/{held} H W O%{held}:{platform.word_bytes}"), "OIHW")
        each = len(weights) // count
        return Nest(
            op.name, (source_of(source.name, network, platform),), op.output, in_map, out_map, count, MacOp.MAC, True,
            (source.type.signed,), records(requant_of(op), platform, held), kernel=(kh, kw), stride=op.stride,
            dilation=op.dilation, platform=platform, pads=op.pads[:2], pad_value=op.pad_value,
            weights=tuple(weights[i : i + each] for i in range(0, len(weights), each)),
            macs=math.prod(op.weights.shape) * math.prod(network.tensors[op.output].shape[1:]),
            products=products(op, network),
        )  # fmt: skip
