"""The J3DAI back end: operators to kernels, nests to programs and lists, everything to one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import Problem
from nncosim.compiler.image import Image, Segment
from nncosim.compiler.ir import Concat, Network, Op, Table
from nncosim.compiler.j3dai.firmware import LayerStart, firmware_segments
from nncosim.compiler.j3dai.inplace import tensor_lives
from nncosim.compiler.j3dai.lists import descriptor_list
from nncosim.compiler.j3dai.prefetch import prefetch
from nncosim.compiler.j3dai.tiling import LayerCode, compile_nest, parameter_buffer, program_buffer
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.layout import Layout, size_bytes
from nncosim.compiler.placement import Buffer, Placement
from nncosim.compiler.proof import RequantCaps
from nncosim.compiler.schedule import Schedule, Task
from nncosim.compiler.tiles import TensorPlace, tile_table
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES
from nncosim.hdl.j3dai.regs import HOST_IMEM_BASE, L2_BASE
from nncosim.kernels.base import Cost, candidate_kernels
from nncosim.kernels.j3dai import KERNELS
from nncosim.kernels.j3dai.packed import packed_layout
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.j3dai.cycles import Timeline, predict_frames

__all__ = ["BACKEND", "J3daiBackend"]

_ELF_RISCV = 243


@dataclass(frozen=True)
class _Layer:
    """One list: an operator that does something. programs_at: word in IMEM; transfers: those of its list."""

    op: Op
    code: LayerCode
    programs_at: int
    transfers: tuple[Transfer, ...]

    @property
    def list_buffer(self) -> str:
        return f"{self.op.name}.list"

    @property
    def clusters(self) -> int:
        return sum(mask for _, mask in self.code.programs)

    @property
    def program_counter(self) -> int:
        return self.code.plan.platform.word_instructions * self.programs_at


class J3daiBackend:
    """See `backends.Backend`."""

    caps = RequantCaps(tables=True)

    def problems(self, network: Network, platform: Platform) -> tuple[Problem, ...]:
        found = []
        if not network.ops:
            found.append(Problem(network.name, "", "has no operators", "nothing would run"))
        for tensor in network.tensors.values():
            if tensor.type.bits > 8:
                what = f"tensor has {tensor.type.bits} bits, but activations have at most 8"
                found.append(Problem(tensor.name, "", what, "quantise it to 8 bits or less"))
        return tuple(found)

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
        codes = [compile_nest(choice[op.name].kernel.code(op, network, platform), platform) for op in ops]
        layers = [
            _Layer(op, ahead.code, ahead.programs_at, ahead.transfers)
            for op, ahead in zip(ops, prefetch(codes, platform), strict=True)
        ]
        schedule = Schedule(tuple(_tasks(layers, network, views)))
        buffers = (*_tensor_buffers(network, platform, views), *(b for layer in layers for b in _layer_buffers(layer)))
        lives = tensor_lives([(layer.op.name, layer.transfers) for layer in layers], buffers, platform.word_bytes)
        return Lowered(schedule, buffers, tensor_layouts(network, platform), tuple(layers), lives=lives)

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
        tiles = tile_table(_places(network, platform, lowered, placement, layers))
        bare = Image(segments, HOST_IMEM_BASE, _ELF_RISCV)
        first, repeat = (_cycles(timeline) for timeline in predict_frames(bare.to_bytes(), platform, 2))
        return replace(bare, tiles=tiles, schedule=_describe(network, platform, lowered, placement, first, repeat))


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
        reads = tuple(part for name in layer.op.inputs for part in _parts(name, views))
        after = (out[-1].name,) if out else ()
        cost = Cost(cycles * 3 // 4, cycles, cycles * 2)
        out.append(Task(layer.op.name, "clusters", layer.op.name, after, reads, (layer.op.output,), cost))
    return out


def tensor_layouts(network: Network, platform: J3dai) -> dict[str, Layout]:
    """Block planar, but for graph inputs that are packed."""
    plain = Layout("CHWc", platform.word_bytes, 8)
    return {name: packed_layout(name, network, platform) or plain for name in network.tensors}


def _tensor_buffers(network: Network, platform: J3dai, views: Mapping[str, str]) -> list[Buffer]:
    layouts = tensor_layouts(network, platform)
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


def _layer_buffers(layer: _Layer) -> list[Buffer]:
    nest, code = layer.code.plan.nest, layer.code
    line = code.plan.platform.line_bytes
    parameters = nest.parameter_bytes()
    out = [Buffer(parameter_buffer(nest), "l2", len(parameters), "parameters", line, parameters)]
    for i, (program, _) in enumerate(code.programs):
        raw = program.to_bytes()
        out.append(Buffer(program_buffer(nest, i), "l2", len(raw), "program", line, raw))
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
    writer = {layer.op.output: i for i, layer in enumerate(layers)}
    out = []
    for tensor in network.tensors.values():
        by = tuple(sorted({writer[p] for p in _parts(tensor.name, views) if p in writer}))
        role = "output" if tensor.name in network.outputs else "input" if tensor.name in network.inputs else "internal"
        at = L2_BASE + placement.address[tensor.name]
        out.append(TensorPlace(tensor, "l2", at, lowered.layouts[tensor.name], role, by))
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
        nest = layer.code.plan.nest
        steps.append({
            "name": layer.op.name, "op": type(layer.op).__name__, "onnx_nodes": list(layer.op.onnx_nodes),
            "engine": "cluster", "macs": nest.macs, "predicted_cycles": cycles[i],
            "repeat_cycles": repeat[i], "index": i,
            "writes": [layer.op.output], "reads": list(layer.op.inputs), "clusters": layer.clusters,
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
    }  # fmt: skip


BACKEND = J3daiBackend()
