# SPDX-License-Identifier: Apache-2.0
"""Layers: what one descriptor list runs, with its buffers in L2 and its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nncosim.compiler.ir.network import Op
from nncosim.compiler.j3dai.tiling import LayerCode, parameter_buffer, program_buffer
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.placement.placement import Buffer
from nncosim.compiler.placement.views import written_parts
from nncosim.compiler.schedule import Task
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES
from nncosim.kernels.base import Cost
from nncosim.kernels.j3dai.nest import Nest

__all__ = ["Layer", "layer_buffers", "layer_tasks"]


@dataclass(frozen=True)
class Layer:
    """One list: operators that do something, of which each but the first reads what the one before wrote in L1.

    programs_at: word in IMEM. transfers: those of its list.
    """

    ops: tuple[Op, ...]
    code: LayerCode
    programs_at: int
    transfers: tuple[Transfer, ...]

    @property
    def list_buffer(self) -> str:
        return f"{self.name}.list"

    @property
    def name(self) -> str:
        return self.code.plan.name

    @property
    def output(self) -> str:
        """The tensor that it writes to L2."""
        return self.ops[-1].output

    @property
    def inside(self) -> tuple[str, ...]:
        """Tensors that stay in L1."""
        return tuple(op.output for op in self.ops[:-1])

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that it reads from L2."""
        return tuple(dict.fromkeys(name for op in self.ops for name in op.inputs if name not in self.inside))

    @property
    def clusters(self) -> int:
        """Those that run a program of it, as a mask."""
        return sum(mask for _, mask in self.code.programs)

    @property
    def program_counter(self) -> int:
        """Where its programs begin, in instructions."""
        return self.code.plan.platform.word_instructions * self.programs_at


def layer_tasks(layers: Sequence[Layer], views: Mapping[str, str]) -> list[Task]:
    """One task a list: the host, the DMPA and its clusters work on it together, in order. views: of `concat_views`."""
    out: list[Task] = []
    for layer in layers:
        reads = tuple(part for name in layer.inputs for part in written_parts(name, views))
        after = (out[-1].name,) if out else ()
        cost = Cost.estimated(layer.code.cycles)  # on its own: the next layer's first transfers run meanwhile
        instances = tuple(k for k in range(layer.clusters.bit_length()) if layer.clusters >> k & 1)
        out.append(Task(layer.name, "cluster", layer.name, after, reads, (layer.output,), cost, instances))
    return out


def _weight_bytes(nest: Nest) -> int:
    """Of what a nest has in L2, the bytes that are no requantization parameters."""
    return sum(map(len, nest.weights[: 1 if nest.alike else None])) + nest.table_words * nest.platform.word_bytes


def layer_buffers(layer: Layer) -> list[Buffer]:
    """Its parameters and programs with their contents, and room for its list, which needs addresses first."""
    code, plan = layer.code, layer.code.plan
    word, line, parameters = plan.platform.word_bytes, plan.platform.line_bytes, plan.parameter_bytes()
    weights = sum(_weight_bytes(nest) for nest in plan.nests)
    kinds = (("weights", weights),)
    out = [Buffer(parameter_buffer(plan), "l2", len(parameters), "parameters", word, parameters, parts=kinds)]
    for i, (program, _) in enumerate(code.programs):
        raw = program.to_bytes()
        out.append(Buffer(program_buffer(plan, i), "l2", len(raw), "program", word, raw))
    count = sum(len(t.pieces) for t in layer.transfers)
    size = -(-count * DESCRIPTOR_BYTES // line) * line
    out.append(Buffer(layer.list_buffer, "l2", size, "list", line, permanent=True))
    return out
