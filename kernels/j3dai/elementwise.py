# SPDX-License-Identifier: Apache-2.0
"""Operators without weights on the J3DAI clusters: pooling, element-wise sum, requantization."""

from __future__ import annotations

from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Add, Pool, Requantize
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.common import NestKernel, problem
from nncosim.kernels.j3dai.nest import Nest, Source, blocks_of, products, records, requant_of
from nncosim.kernels.j3dai.packed import source_of
from nncosim.platforms.j3dai import J3dai

__all__ = ["AddKernel", "PoolKernel", "RequantizeKernel"]


def _sources(op: Op, network: Network, platform: J3dai) -> tuple[Source, ...]:
    return tuple(source_of(name, network, platform) for name in op.inputs)


class PoolKernel(NestKernel[Pool]):
    """Maximum or sum over windows; the division of an average is in the requantization."""

    name = "pool"
    op_types = ("pool",)

    def own_problems(self, op: Pool, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        found = []
        if op.mode not in ("max", "sum"):
            found.append(problem(op, f"mode {op.mode!r} is unknown", "use max or sum"))
        if max(op.stride) > 15:
            found.append(problem(op, f"stride {op.stride} is over 15", "use two pooling layers"))
        if not -256 <= op.pad_value <= 255:
            found.append(problem(op, f"padding value {op.pad_value} does not fit 9 bits", "use -256 to 255"))
        return tuple(found)

    def code(self, op: Pool, network: Network, platform: J3dai) -> Nest:
        (source,), out = network.op_inputs(op), network.tensors[op.output]
        held = held_channels(op.output, network, platform)
        return Nest(
            op.name, _sources(op, network, platform), op.output, source.chw[1:], out.chw[1:],
            blocks_of(out.shape[0], platform), MacOp.MAX if op.mode == "max" else MacOp.ADD, True,
            (source.type.signed,), records(requant_of(op), platform, held),
            kernel=op.kernel, stride=op.stride, pads=op.pads[:2], pad_value=op.pad_value, platform=platform,
            products=products(op, network),
        )  # fmt: skip


class RequantizeKernel(NestKernel[Requantize]):
    """Reads each value once and requantizes it."""

    name = "requantize"
    op_types = ("requantize",)

    def code(self, op: Requantize, network: Network, platform: J3dai) -> Nest:
        (source,) = network.op_inputs(op)
        flat = (1, source.shape[1] * source.shape[2])
        held = held_channels(op.output, network, platform)
        return Nest(
            op.name, _sources(op, network, platform), op.output, flat, flat, blocks_of(source.shape[0], platform),
            MacOp.ADD, True, (source.type.signed,), records(requant_of(op), platform, held), platform=platform,
            products=products(op, network),
        )  # fmt: skip


class AddKernel(NestKernel[Add]):
    """Two jobs for each result: the first operand's product is kept, the second's added and requantized."""

    name = "add"
    op_types = ("add",)

    def own_problems(self, op: Add, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        if len(op.inputs) != 2:
            return (problem(op, f"has {len(op.inputs)} operands, not 2", "add two tensors at a time"),)
        a, b = network.op_inputs(op)
        if a.shape != b.shape:
            return (problem(op, f"operands have shapes {a.shape} and {b.shape}", "add tensors of one shape"),)
        return ()

    def code(self, op: Add, network: Network, platform: J3dai) -> Nest:
        a, b = network.op_inputs(op)
        flat = (1, a.shape[1] * a.shape[2])
        held = held_channels(op.output, network, platform)
        return Nest(
            op.name, _sources(op, network, platform), op.output, flat, flat, blocks_of(a.shape[0], platform),
            MacOp.ADD, True, (a.type.signed, b.type.signed), records(requant_of(op), platform, held), pair=True,
            platform=platform, products=products(op, network),
        )  # fmt: skip
