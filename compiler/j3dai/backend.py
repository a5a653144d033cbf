# SPDX-License-Identifier: Apache-2.0
"""The J3DAI back end: operators to kernels, nests to programs and lists, everything to one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from nncosim.compiler.backends import Candidate, Lowered, Room
from nncosim.compiler.errors import Problem
from nncosim.compiler.frontend import raw_outputs
from nncosim.compiler.image import Image, Segment
from nncosim.compiler.ir import Concat, Network, Op, Table
from nncosim.compiler.j3dai.choices import schedule_files
from nncosim.compiler.j3dai.firmware import LayerStart, firmware_segments
from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.fusion import MOST_MEMBERS, Fuser, may_stay
from nncosim.compiler.j3dai.inplace import tensor_lives
from nncosim.compiler.j3dai.lists import descriptor_list
from nncosim.compiler.j3dai.prefetch import prefetch
from nncosim.compiler.j3dai.relax import roomier_layers
from nncosim.compiler.j3dai.tiling import LayerCode, compile_nest, parameter_buffer, program_buffer
from nncosim.compiler.j3dai.traffic import traffic_table
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.layout import Layout, size_bytes
from nncosim.compiler.placement import Buffer, Placement, PlacementError
from nncosim.compiler.proof import RequantCaps
from nncosim.compiler.schedule import Schedule, Task
from nncosim.compiler.tiles import TensorPlace, tile_table
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES
from nncosim.hdl.j3dai.regs import HOST_IMEM_BASE, L2_BASE
from nncosim.kernels.base import Cost, candidate_kernels
from nncosim.kernels.j3dai import KERNELS
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.conv import planes_of
from nncosim.kernels.j3dai.nest import Nest
from nncosim.kernels.j3dai.packed import packed_layout
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.j3dai.cycles import Timeline, predict_frames
from nncosim.tb.j3dai.l2_tags import check_image

__all__ = ["BACKEND", "J3daiBackend"]

_ELF_RISCV = 243


@dataclass(frozen=True)
class _Layer:
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
        return sum(mask for _, mask in self.code.programs)

    @property
    def program_counter(self) -> int:
        return self.code.plan.platform.word_instructions * self.programs_at


@dataclass(frozen=True)
class J3daiBackend:
    """See `backends.Backend`.

    fusion: "cost" fuses operators where that is faster, "prefer" wherever it saves L2, "off" nowhere.
    """

    fusion: str = "cost"
    caps = RequantCaps(tables=True)

    def problems(self, network: Network, platform: Platform) -> tuple[Problem, ...]:
        found = []
        if not network.ops:
            found.append(Problem(network.name, "", "has no operators", "nothing would run"))
        whole = set(raw_outputs(network))
        for tensor in network.tensors.values():
            if tensor.type.bits > 8 and not (tensor.name in whole and not network.consumers(tensor.name)):
                what = f"tensor has {tensor.type.bits} bits, but activations have at most 8"
                found.append(Problem(tensor.name, "", what, "quantise it to 8 bits or less"))
        return tuple(found)

    def room(self, network: Network, platform: Platform) -> Room:
        """Everything lies in L2; in L1 there is what a tile needs, and what passes between fused operators."""
        assert isinstance(platform, J3dai)
        return Room("l2", 8, may_stay(network), MOST_MEMBERS)

    def candidates(
        self, op: Op, network: Network, platform: Platform
    ) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
        kernels, reasons = candidate_kernels(KERNELS, op, network, platform)
        ready = op.requant is not None or op.function is None or isinstance(op, Table)
        found = tuple(
            Candidate(k, k.engine, k.cycles(op, network, platform) if ready else Cost.exactly(0)) for k in kernels
        )
        return found, reasons

    def lower(self, network: Network, platform: Platform, choice: Mapping[str, Candidate]) -> Lowered:
        assert isinstance(platform, J3dai)
        views = concat_views(network, platform)
        ops = [op for op in network.ops if not (isinstance(op, Concat) and _is_view(op, views))]
        nests = [choice[op.name].kernel.code(op, network, platform) for op in ops]
        alone = [compile_nest(nest, platform) for nest in nests]
        fuser = Fuser(network, platform, ops, nests, alone, views)
        avoid = fuser.could_stay(list(network.tensors)) if self.fusion == "prefer" else ()
        return self._lowered(fuser, views, frozenset(avoid))

    def _lowered(
        self, fuser: Fuser, views: Mapping[str, str], avoid: frozenset[str],
        roomy: Mapping[tuple[int, ...], LayerCode] | None = None,
    ) -> Lowered:
        """avoid: tensors that are to stay in L1 where that is possible. roomy: other code for some layers, by their
        operators."""
        network, platform, roomy = fuser.network, fuser.platform, roomy or {}
        chosen = fuser.separate() if self.fusion == "off" else fuser.layers(avoid)
        chosen = [replace(each, code=roomy.get(each.ops, each.code)) for each in chosen]
        layers = [
            _Layer(tuple(fuser.ops[i] for i in each.ops), ahead.code, ahead.programs_at, ahead.transfers)
            for each, ahead in zip(chosen, prefetch([each.code for each in chosen], platform), strict=True)
        ]
        inside = frozenset(name for layer in layers for name in layer.inside)
        schedule = Schedule(tuple(_tasks(layers, network, views)))
        layouts = tensor_layouts(network, platform)
        tensors = [b for b in _tensor_buffers(network, platform, views, layouts) if b.name not in inside]
        buffers = (*tensors, *(b for layer in layers for b in _layer_buffers(layer)))
        lives = tensor_lives([(layer.name, layer.transfers) for layer in layers], buffers, platform.word_bytes)
        notes = {"files": schedule_files(fuser, chosen, avoid, roomy)}
        made = Lowered(schedule, buffers, layouts, tuple(layers), notes, lives=lives, inside=inside)
        return replace(made, relax=partial(self._relaxed, fuser, views, avoid, roomy, [c.ops for c in chosen], made))

    def _relaxed(
        self, fuser: Fuser, views: Mapping[str, str], avoid: frozenset[str],
        roomy: Mapping[tuple[int, ...], LayerCode], chosen: list[tuple[int, ...]], before: Lowered,
        error: PlacementError,
    ) -> Lowered | None:
        """With other plans where a layer's result cannot lie over its input; else with the largest tensors where the
        memory is fullest kept in L1, one more at a time."""
        lists = [(layer.code, layer.transfers) for layer in before.private]
        assert before.lives is not None
        other_code = roomier_layers(lists, before.buffers, before.lives, fuser.platform, error.missing)
        if other_code and not any(chosen[i] in roomy for i in other_code):
            return self._lowered(fuser, views, avoid, {**roomy, **{chosen[i]: c for i, c in other_code.items()}})
        if self.fusion == "off":
            return None
        names = [name for name, _ in sorted(error.alive, key=lambda item: (-item[1], item[0]))]
        for name in fuser.could_stay(names):
            if name not in avoid:
                avoid |= {name}
                other = self._lowered(fuser, views, avoid, roomy)
                if other.inside - before.inside:
                    return other
        return None

    def link(self, network: Network, platform: Platform, lowered: Lowered, placement: Placement) -> Image:
        assert isinstance(platform, J3dai)
        layers: Sequence[_Layer] = lowered.private
        contents = {b.name: b.content for b in lowered.buffers if b.content}
        address = placement.address
        for layer in layers:
            made = descriptor_list(layer.transfers, address, platform)
            contents[layer.list_buffer] = made.to_bytes()
        starts = [
            LayerStart(i, address[layer.list_buffer] // platform.word_bytes, layer.clusters, layer.program_counter)
            for i, layer in enumerate(layers)
        ]
        l2 = _merge({address[name]: data for name, data in contents.items()}, platform.line_bytes)
        segments = (*firmware_segments(platform, starts), *(Segment("l2", L2_BASE + at, data) for at, data in l2))
        tiles = tile_table(_places(network, platform, lowered, placement, layers)) | {"runs": _runs(layers, platform)}
        bare = Image(segments, HOST_IMEM_BASE, _ELF_RISCV)
        first, repeat = (_cycles(timeline) for timeline in predict_frames(bare.to_bytes(), platform, 2))
        return replace(bare, tiles=tiles, schedule=_describe(network, platform, lowered, placement, first, repeat))

    def audit(self, image: Image, platform: Platform) -> str:
        """Whether every transfer of a linked image finds what it means; "" if so. Shares nothing with placement."""
        assert isinstance(platform, J3dai)
        return check_image(image, platform)


def concat_views(network: Network, platform: J3dai) -> dict[str, str]:
    """Tensors that can simply lie inside the output of the Concat that reads them: {tensor: that output}."""
    views: dict[str, str] = {}
    for op in network.ops:
        if not isinstance(op, Concat):
            continue
        tensors = network.op_inputs(op)
        whole = all(t.shape[0] % platform.word_bytes == 0 for t in tensors[:-1])
        free = len(set(op.inputs)) == len(op.inputs) and not any(name in views for name in op.inputs)
        same = len({t.type.signed for t in (*tensors, network.tensors[op.output])}) == 1
        if whole and free and same:
            views.update(dict.fromkeys(op.inputs, op.output))
    return views


def _is_view(op: Op, views: Mapping[str, str]) -> bool:
    return all(views.get(name) == op.output for name in op.inputs)


def _parts(name: str, views: Mapping[str, str]) -> list[str]:
    """The tensors that are really written when `name` is: itself, or what a Concat without work is made of."""
    inside = [tensor for tensor, parent in views.items() if parent == name]
    return [part for tensor in inside for part in _parts(tensor, views)] if inside else [name]


def _tasks(layers: Sequence[_Layer], network: Network, views: Mapping[str, str]) -> list[Task]:
    """One task a list: the host, the DMPA and the clusters work on it together, in order."""
    out: list[Task] = []
    for layer in layers:
        cycles = layer.code.cycles
        reads = tuple(part for name in layer.inputs for part in _parts(name, views))
        after = (out[-1].name,) if out else ()
        cost = Cost(cycles * 3 // 4, cycles, cycles * 2)
        out.append(Task(layer.name, "clusters", layer.name, after, reads, (layer.output,), cost))
    return out


def tensor_layouts(network: Network, platform: J3dai) -> dict[str, Layout]:
    """Block planar with evenly filled blocks, but for graph inputs that are packed; whole accumulators byte by byte."""
    plain, layouts = Layout("CHWc", platform.word_bytes, 8), {}
    for name in network.tensors:
        held = held_channels(name, network, platform)
        even = plain if held == platform.word_bytes else replace(plain, held=held)
        layouts[name] = packed_layout(name, network, platform) or even
    whole = {name: planes_of(network.tensors[name].type) for name in raw_outputs(network)}
    return layouts | {name: replace(plain, planes=planes) for name, planes in whole.items()}


def _tensor_buffers(
    network: Network, platform: J3dai, views: Mapping[str, str], layouts: Mapping[str, Layout]
) -> list[Buffer]:
    offsets: dict[str, int] = {}
    for op in network.ops:
        if isinstance(op, Concat) and _is_view(op, views):
            at = 0
            for tensor in network.op_inputs(op):
                offsets[tensor.name] = at
                at += size_bytes(tensor.shape, layouts[tensor.name])
    return [
        Buffer(
            t.name, "l2", size_bytes(t.shape, layouts[t.name]), "tensor",
            platform.line_bytes if t.name not in views else platform.word_bytes,
            from_start=t.name in network.inputs, to_end=t.name in network.outputs,
            parent=views.get(t.name), offset=offsets.get(t.name, 0),
        )
        for t in network.tensors.values()
    ]  # fmt: skip


def _weight_bytes(nest: Nest) -> int:
    """Of what a nest has in L2, the bytes that are no requantization parameters."""
    return sum(map(len, nest.weights[: 1 if nest.alike else None])) + nest.table_words * nest.platform.word_bytes


def _layer_buffers(layer: _Layer) -> list[Buffer]:
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


def _merge(contents: Mapping[int, bytes], line: int) -> list[tuple[int, bytes]]:
    """Neighbouring pieces as one, gaps under a line filled with zeros."""
    out: list[tuple[int, bytearray]] = []
    for at, data in sorted(contents.items()):
        if out and 0 <= at - out[-1][0] - len(out[-1][1]) < line:
            out[-1][1].extend(bytes(at - out[-1][0] - len(out[-1][1])))
            out[-1][1].extend(data)
        else:
            out.append((at, bytearray(data)))
    return [(at, bytes(data)) for at, data in out]


def _places(
    network: Network, platform: J3dai, lowered: Lowered, placement: Placement, layers: Sequence[_Layer]
) -> list[TensorPlace]:
    views = concat_views(network, platform)
    writer = {layer.output: i for i, layer in enumerate(layers)}
    out = _inside_places(network, lowered, layers)
    for tensor in network.tensors.values():
        if tensor.name in lowered.inside:
            continue
        by = tuple(sorted({writer[p] for p in _parts(tensor.name, views) if p in writer}))
        role = "output" if tensor.name in network.outputs else "input" if tensor.name in network.inputs else "internal"
        at = L2_BASE + placement.address[tensor.name]
        out.append(TensorPlace(tensor, "l2", at, lowered.layouts[tensor.name], role, by))
    return out


def _runs(layers: Sequence[_Layer], platform: J3dai) -> list[int]:
    """How many programs each cluster runs in an inference."""
    return [sum(layer.clusters >> c & 1 for layer in layers) for c in range(platform.clusters)]


def _inside_places(network: Network, lowered: Lowered, layers: Sequence[_Layer]) -> list[TensorPlace]:
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
            out.append(TensorPlace(tensor, "l1", 0, layout, "internal", (index,), tuple(found)))
    return out


def _cycles(timeline: Timeline) -> list[int]:
    """Cycles of each list by the cycle model; the last lasts until the host has reported the inference done."""
    ends = [*(layer.end for layer in timeline.layers[:-1]), timeline.cycles]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _describe(
    network: Network, platform: J3dai, lowered: Lowered, placement: Placement, cycles: Sequence[int],
    repeat: Sequence[int],
) -> dict[str, Any]:
    """The schedule section. `cycles`: of each list in the first inference, `repeat`: in each one after it."""
    layers: Sequence[_Layer] = lowered.private
    steps = []
    for i, layer in enumerate(layers):
        steps.append({
            "name": layer.name, "op": " + ".join(type(op).__name__ for op in layer.ops),
            "onnx_nodes": [node for op in layer.ops for node in op.onnx_nodes],
            "members": [op.name for op in layer.ops], "inside": list(layer.inside),
            "engine": "cluster", "macs": sum(nest.macs for nest in layer.code.plan.nests),
            "predicted_cycles": cycles[i], "repeat_cycles": repeat[i], "index": i,
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
        "predicted_cycles": sum(cycles), "repeat_cycles": sum(repeat),
        "memory": [
            {"memory": u.memory, "bytes": u.size, "peak": u.peak, "by_kind": u.by_kind} for u in placement.table
        ],
        "traffic": traffic_table([x.transfers for x in layers], lowered.buffers, placement, platform.word_bytes),
    }  # fmt: skip


BACKEND = J3daiBackend()
