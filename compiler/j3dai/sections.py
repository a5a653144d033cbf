# SPDX-License-Identifier: Apache-2.0
"""What an image says about itself: where tensors lie, and the schedule section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from nncosim.compiler.backends import Lowered
from nncosim.compiler.image.tiles import TensorPlace, tile_table
from nncosim.compiler.ir.network import Network
from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.fusion import estimate_of
from nncosim.compiler.j3dai.layer import Layer
from nncosim.compiler.j3dai.tensors import concat_views, written_parts
from nncosim.compiler.j3dai.traffic import traffic_table
from nncosim.compiler.placement.kept import kept_buffers
from nncosim.compiler.placement.placement import Placement
from nncosim.compiler.schedule import Schedule
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.kernels.base import Cost
from nncosim.platforms.j3dai import J3dai

__all__ = ["schedule_section", "tiles_section"]


def tiles_section(network: Network, platform: J3dai, lowered: Lowered, placement: Placement) -> dict[str, Any]:
    """The tile table. Beside it "runs": how many programs each cluster runs in an inference; "word_bytes": of a word of
    L2."""
    layers: Sequence[Layer] = lowered.private
    runs = [sum(layer.clusters >> c & 1 for layer in layers) for c in range(platform.clusters)]
    table = tile_table(_places(network, platform, lowered, placement, layers))
    return table | {"runs": runs, "word_bytes": platform.word_bytes}


def _places(
    network: Network, platform: J3dai, lowered: Lowered, placement: Placement, layers: Sequence[Layer]
) -> list[TensorPlace]:
    views = concat_views(network, platform)
    writer = {layer.output: i for i, layer in enumerate(layers)}
    kept = kept_buffers(lowered.buffers, placement, lowered.schedule, lowered.lives)
    out = _inside_places(network, lowered, layers)
    for tensor in network.tensors.values():
        if tensor.name in lowered.inside:
            continue
        by = tuple(sorted({writer[p] for p in written_parts(tensor.name, views) if p in writer}))
        role = "output" if tensor.name in network.outputs else "input" if tensor.name in network.inputs else "internal"
        at = L2_BASE + placement.address[tensor.name]
        layout, stays = lowered.layouts[tensor.name], tensor.name in kept
        out.append(TensorPlace(tensor, "l2", at, layout, role, by, stays))
    return out


def _inside_places(network: Network, lowered: Lowered, layers: Sequence[Layer]) -> list[TensorPlace]:
    """Tensors that stay in L1. A piece: which of its cluster's programs in the inference writes it, the cluster, the
    number of the first line and how many among those that the program's results make, L1 word, rows, columns, and
    the width of the map as these count it."""
    out = []
    for index, layer in enumerate(layers):
        plan = layer.code.plan
        if not isinstance(plan, FusedPlan):
            continue
        pieces: dict[str, list[tuple[int, ...]]] = {name: [] for name in layer.inside}
        for m in plan.made():
            run = sum(before.clusters >> m.cluster & 1 for before in layers[:index])
            rectangle = (m.tile.y0, m.tile.y1, m.tile.x0, m.tile.x1, m.width)
            pieces[m.tensor].append((run, m.cluster, m.first, m.lines, m.address, *rectangle))
        for name, found in pieces.items():
            tensor, layout = network.tensors[name], lowered.layouts[name]
            out.append(TensorPlace(tensor, "l1", 0, layout, "internal", (index,), pieces=tuple(found)))
    return out


def schedule_section(
    network: Network, platform: J3dai, lowered: Lowered, placement: Placement, cycles: Sequence[int],
    repeat: Sequence[int],
) -> dict[str, Any]:
    """The schedule section. `cycles`: of each list in the first inference on the ISS, `repeat`: in each later one."""
    layers: Sequence[Layer] = lowered.private
    steps = []
    for i, layer in enumerate(layers):
        steps.append({
            "name": layer.name, "op": " + ".join(type(op).__name__ for op in layer.ops),
            "onnx_nodes": [node for op in layer.ops for node in op.onnx_nodes],
            "members": [op.name for op in layer.ops], "inside": list(layer.inside),
            "engine": "cluster", "macs": sum(nest.macs for nest in layer.code.plan.nests),
            "iss_cycles": cycles[i], "repeat_cycles": repeat[i], "index": i,
            "estimated_cycles": estimate_of(layer.code.plan),
            "writes": [layer.output], "reads": list(layer.inputs), "clusters": layer.clusters,
            "program_counter": layer.program_counter,
            "list": placement.address[layer.list_buffer] // platform.word_bytes,
            "descriptors": sum(len(t.pieces) for t in layer.transfers), "plan": layer.code.plan.line,
        })  # fmt: skip
    exact = [replace(t, cost=Cost.exactly(c)) for t, c in zip(lowered.schedule.tasks, cycles, strict=True)]
    tasks = Schedule(tuple(exact))
    return {
        "network": network.name, "platform": platform.name,
        "parameters": {f.name: getattr(platform, f.name) for f in fields(platform)},
        "inputs": list(network.inputs), "outputs": list(network.outputs),
        "onnx_shapes": {name: list(shape) for name, shape in network.onnx_shapes.items()},
        "steps": steps, "tasks": tasks.as_dicts(), "macs": sum(s["macs"] for s in steps),
        "iss_cycles": sum(cycles), "repeat_cycles": sum(repeat),
        "estimated_cycles": sum(step["estimated_cycles"] for step in steps),
        "memory": [
            {"memory": u.memory, "bytes": u.size, "peak": u.peak, "by_kind": u.by_kind} for u in placement.table
        ],
        "traffic": traffic_table([x.transfers for x in layers], lowered.buffers, placement, platform.word_bytes),
    }  # fmt: skip
