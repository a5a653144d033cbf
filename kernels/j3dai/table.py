# SPDX-License-Identifier: Apache-2.0
"""Element-wise functions given by a table of 256 values: each cluster looks bytes up in its L1."""

from __future__ import annotations

from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Table
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.common import NestKernel, problem
from nncosim.kernels.j3dai.nest import Nest, blocks_of, identity, records
from nncosim.kernels.j3dai.packed import source_of
from nncosim.platforms.j3dai import J3dai

__all__ = ["TableKernel"]


class TableKernel(NestKernel[Table]):
    """One look-up for each channel of a window, one channel after the other; the requantization passes it through."""

    name = "table"
    op_types = ("table",)

    def own_problems(self, op: Table, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        found = []
        (source,), out = network.op_inputs(op), network.tensors[op.output]
        if len(op.values) != 256:
            found.append(problem(op, f"has a table of {len(op.values)} values, not 256", "give one value a byte"))
        low, high = (-128, 127) if out.type.signed else (0, 255)
        if min(op.values) < low or max(op.values) > high:
            what = f"gives {min(op.values)}..{max(op.values)}, but its output holds {low}..{high}"
            found.append(problem(op, what, "quantise the output to 8 bits or less"))
        if source.shape != out.shape:
            what = f"has input {source.shape} and output {out.shape}"
            found.append(problem(op, what, "an element-wise function keeps the shape"))
        return tuple(found)

    def code(self, op: Table, network: Network, platform: J3dai) -> Nest:
        (source,), out = network.op_inputs(op), network.tensors[op.output]
        flat, count = (1, source.shape[1] * source.shape[2]), blocks_of(source.shape[0], platform)
        held = held_channels(op.output, network, platform)
        return Nest(
            op.name, (source_of(source.name, network, platform),), op.output, flat, flat, count, MacOp.TABLE, True,
            (out.type.signed,), records(identity(op, network), platform, held), lanes=min(source.shape[0], held),
            platform=platform,
            table=bytes(value & 0xFF for value in op.values),
        )  # fmt: skip
