# SPDX-License-Identifier: Apache-2.0
"""Legality, reference and cycle bounds that all J3DAI kernels share."""

from __future__ import annotations

from typing import ClassVar, Generic

from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.hdl.j3dai.timing import FETCH_CYCLES, TABLE_LATENCY, drain_cycles, passes
from nncosim.kernels.base import Cost, Kernel, OpT
from nncosim.kernels.j3dai.nest import Nest
from nncosim.platforms.j3dai import J3dai

__all__ = ["NestKernel", "fetch_cycles", "job_cycles", "problem"]

START_CYCLES = 500
"""About what a layer alone takes before its first job: host, programs, first inputs and weights. An estimate."""


def problem(op: Op, what: str, remedy: str) -> Problem:
    return Problem(op.name, type(op).__name__, what, remedy)


def fetch_cycles(nest: Nest) -> int:
    """Cycles of L1's read port for one window."""
    return FETCH_CYCLES.get(nest.stride[1] if nest.upsample[1] <= 2 else 0, nest.platform.pes_per_ncb)


def job_cycles(nest: Nest) -> int:
    """Cycles of one job once its data is there: a pixel a PE x a channel an NCB."""
    fetch = fetch_cycles(nest)
    if nest.op is MacOp.TABLE:  # nothing of a window overlaps with the next
        windows, each = nest.kernel[0] * nest.kernel[1], fetch + TABLE_LATENCY + 2 + nest.lanes
    elif nest.depthwise:
        windows, each = nest.kernel[0] * nest.kernel[1], max(1, fetch)
    else:
        windows = nest.kernel[0] * nest.kernel[1] * nest.reads[0][1]
        each = max(nest.lanes, fetch)
    platform, pair = nest.platform, int(nest.pair)
    drain = drain_cycles(platform.pes_per_ncb, platform.ncbs_per_requantizer, passes(
        **nest.products.fields, add=pair))
    return max(windows * each, drain // (1 + pair))  # of a pair's two jobs one is drained


def _map_problems(op: Op, tensors: tuple[Tensor, ...]) -> list[Problem]:
    found = []
    for tensor in tensors:
        if max(tensor.shape[1:]) > 4095:
            what = f"tensor {tensor.name!r} is {tensor.shape[1]} x {tensor.shape[2]}, at most 4095 x 4095"
            found.append(problem(op, what, "cut the input into parts"))
    return found


class NestKernel(Kernel[OpT, J3dai, Nest], Generic[OpT]):
    """A kernel of the J3DAI clusters: `code` gives the `Nest`."""

    engine: ClassVar[str] = "cluster"

    def problems(self, op: OpT, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        tensors = (*network.op_inputs(op), network.tensors[op.output])
        return (*_map_problems(op, tensors), *self.own_problems(op, network, platform))

    def own_problems(self, op: OpT, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        return ()

    def code(self, op: OpT, network: Network, platform: J3dai) -> Nest:
        raise NotImplementedError

    def cycles(self, op: OpT, network: Network, platform: J3dai) -> Cost:
        """An estimate from the nest alone: all clusters busy without a pause, once they have begun."""
        nest = self.code(op, network, platform)
        jobs = nest.out_map[0] * -(-nest.out_map[1] // platform.pes_per_ncb) * nest.out_blocks
        jobs *= len(nest.sources) if nest.pair else nest.interleave * max(1, nest.upsample[1])
        work = jobs * job_cycles(nest)
        return Cost.estimated(-(-work // platform.clusters) + START_CYCLES)
