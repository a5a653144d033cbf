# SPDX-License-Identifier: Apache-2.0
"""The machine's side of the compiler: kernels, candidates, lowering, linking."""

from collections.abc import Mapping
from ctypes import sizeof
from dataclasses import dataclass, field

import numpy as np
from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import Problem
from nncosim.compiler.image.expected import schedule_notes
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.tiles import Fragment, TensorPlace, tile_table
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.placement.placement import Buffer
from nncosim.compiler.proof.caps import MultiplyShiftCaps, Per, RequantCaps
from nncosim.compiler.schedule import Schedule, Task
from nncosim.kernels.base import Cost, Kernel, candidate_kernels
from nncosim.platforms.rounding import Rounding

from grid.machine import (
    ADD,
    ANALOG,
    COPY,
    DENSE,
    ENTER,
    LEAVE,
    MAC,
    PORT,
    PROGRAM_BASE,
    PROGRAM_STRIDE,
    STREAM,
    TILE_STRIDE,
    Command,
    Grid,
    Wait,
    cycles_of,
)  # fmt: skip

COPIES = 2
MODES = frozenset({Rounding.FLOOR, Rounding.HALF_EVEN})
SPLIT = 24
"""An output of more channels is made by two tiles."""


def wide(tensor: Tensor) -> int:
    return int(tensor.type.bits > 8)


def rows_of(tensor: Tensor) -> int:
    return tensor.elements // tensor.channels


def layout_of(tensor: Tensor) -> Layout:
    return Layout("N C", 16 if wide(tensor) else 8)


def box_of(tensor: Tensor, first: int, end: int) -> tuple[tuple[int, int], ...]:
    return tuple((first, end) if axis == "C" else (0, size) for axis, size in tensor.extents.items())


class GridKernel(Kernel):
    bits: int

    def problems(self, op, network, platform):
        tensors = (*network.op_inputs(op), network.tensors[op.output])
        found = [Problem(op.name, op.kind, f"{t.name} has {t.type.bits} bits", f"use {self.bits}")
                 for t in tensors if t.type.bits > self.bits]  # fmt: skip
        if any(t.shape[2:] != (1, 1) for t in tensors):
            found.append(Problem(op.name, op.kind, "works on maps", "use fully connected layers"))
        return tuple(found)

    def code(self, op, network, platform):
        """The command of the whole operator, without addresses."""
        inputs, out = network.op_inputs(op), network.tensors[op.output]
        command = Command(DENSE if isinstance(op, Conv) else ADD, rows=rows_of(out), wide_in=wide(inputs[0]),
                          signed_in=inputs[0].type.signed, wide_out=wide(out))  # fmt: skip
        for place, tensor in zip(command.sources, inputs, strict=False):
            place.columns = tensor.channels
        command.out.columns = out.channels
        return command

    def cycles(self, op, network, platform):
        return Cost.exactly(cycles_of(platform, self.engine, self.code(op, network, platform)))


class MacKernel(GridKernel):
    name, engine, op_types, bits = "mac_dense", MAC, ("conv", "add"), 16
    caps = RequantCaps((MultiplyShiftCaps(0, 64, 47, MODES, shift_per=Per.LAYER),), accumulator_bits=48)


class AnalogKernel(GridKernel):
    name, engine, op_types, bits = "analog_dense", ANALOG, ("conv",), 8
    caps = RequantCaps((MultiplyShiftCaps(0, 64, 47, MODES, shift_per=Per.LAYER),), accumulator_bits=32)

    def reference(self, op, network, platform, inputs):
        """Sums of `analog_rows` products each are added one by one, and clipped after each."""
        most, total = 1 << platform.clip_bits - 1, np.int64(0)
        for first in range(0, op.weights.shape[1], platform.analog_rows):
            rows = slice(first, first + platform.analog_rows)
            part = np.einsum("nkhw,ok->nohw", inputs[0][:, rows], op.weights[:, rows, 0, 0])
            total = np.clip(total + part, -most, most - 1)
        return op.requant.apply(total, axis=1)

    def deviation(self, op, network, platform):
        """None where no partial sum can leave the clip's range."""
        low, high = op.partial_bounds(network.op_inputs(op))
        reach, most = max(-int(low.min()), int(high.max())), 1 << platform.clip_bits - 1
        return "" if reach < most else f"partial sums reach {reach}, and are clipped at {most}"


@dataclass
class Lowering:
    """What has been made so far: of each task (command, buffers that it reads, the one that it writes), of each tensor
    (buffer, tile, first channel, one past the last)."""

    network: Network
    platform: Grid
    buffers: list[Buffer] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    commands: dict[str, tuple[Command, tuple[str, ...], str]] = field(default_factory=dict)
    parts: dict[str, list[tuple[str, int, int, int]]] = field(default_factory=dict)

    def buffer(self, name: str, tile: int, tensor: Tensor, columns: int, **facts: bool) -> str:
        size = rows_of(tensor) * columns * (1 + wide(tensor))
        self.buffers.append(Buffer(name, "data", COPIES * size, "tensor", 4, instance=tile, **facts))
        return name

    def task(self, name: str, where: tuple[str, int], layer: str, command: Command, reads: tuple[str, ...],
             write: str, constants: tuple[str, ...] = (), hops: int = 0) -> None:
        makers = {t.writes[0]: t.name for t in self.tasks if t.writes}
        after = tuple(dict.fromkeys(makers[b] for b in reads))
        cost = Cost.exactly(cycles_of(self.platform, where[0], command, hops))
        writes = (write,) if write else ()
        self.tasks.append(Task(name, where[0], layer, after, (*reads, *constants), writes, cost, (where[1],)))
        self.commands[name] = command, reads, write

    def bring(self, tensor: Tensor, tile: int, layer: str) -> list[tuple[str, int]]:
        """The parts of a tensor where `tile` reaches them: (buffer, columns); by streams where they are not."""
        found = []
        for name, there, first, end in self.parts[tensor.name]:
            if there not in self.platform.neighbours(tile):
                copy = self.buffer(f"{name}@{tile}", tile, tensor, end - first)
                command = Command(COPY, rows=rows_of(tensor), wide_in=wide(tensor), wide_out=wide(tensor),
                                  signed_in=tensor.type.signed)  # fmt: skip
                command.sources[0].columns = command.out.columns = end - first
                self.task(f"{layer}: {copy}", (STREAM, tile), layer, command, (name,), copy,
                          hops=self.platform.distance(there, tile))  # fmt: skip
                name = copy
            found.append((name, end - first))
        return found

    def enter(self, name: str, tile: int) -> None:
        tensor = self.network.tensors[name]
        self.parts[name] = [(self.buffer(name, tile, tensor, tensor.channels), tile, 0, tensor.channels)]
        command = Command(ENTER, rows=rows_of(tensor), wide_out=wide(tensor))
        command.out.columns = tensor.channels
        self.task(f"enter {name}", (PORT, 0), name, command, (), name)

    def leave(self, name: str) -> None:
        tensor = self.network.tensors[name]
        for buffer, _, first, end in self.parts[name]:
            command = Command(LEAVE, rows=rows_of(tensor), wide_in=wide(tensor), wide_out=wide(tensor),
                              signed_in=tensor.type.signed)  # fmt: skip
            command.sources[0].columns = command.out.columns = end - first
            self.task(f"leave {buffer}", (PORT, 1), name, command, (buffer,), "")

    def operator(self, op: Op, engine: str, tiles: list[int], whole: Command) -> None:
        """One task a tile: each makes its share of the output's channels."""
        out, requant = self.network.tensors[op.output], op.requant
        shares = np.array_split(np.arange(out.channels), len(tiles))
        self.parts[op.output] = []
        for tile, share in zip(tiles, shares, strict=True):
            first, end = int(share[0]), int(share[-1]) + 1
            sources = [part for t in self.network.op_inputs(op) for part in self.bring(t, tile, op.name)]
            name = op.output if len(tiles) == 1 else f"{op.output}[{first}:{end}]"
            command = Command.from_buffer_copy(whole)
            for place, (_, columns) in zip(command.sources, sources, strict=False):
                place.columns = columns
            command.out.columns = end - first
            command.shift, command.half_even = int(requant.s[0]), int(requant.rounding[0] == Rounding.HALF_EVEN)
            command.lo, command.hi = int(requant.lo[0]), int(requant.hi[0])
            constants = {f"{name}.constants": requant.c[first:end].astype("<i8").tobytes()}
            if isinstance(op, Conv):
                constants[f"{name}.weights"] = op.weights[first:end].astype("i1").tobytes()
            self.buffers += [Buffer(key, "data", len(data), key.rpartition(".")[2], 8, data, instance=tile)
                             for key, data in constants.items()]  # fmt: skip
            self.buffer(name, tile, out, end - first, to_end=op.output in self.network.outputs)
            self.parts[op.output].append((name, tile, first, end))
            where = (engine, 0 if engine == ANALOG else tile)
            self.task(name, where, op.name, command, tuple(b for b, _ in sources), name, tuple(constants))


class GridBackend:
    kernels = (MacKernel(), AnalogKernel())

    def problems(self, network, platform) -> tuple[Problem, ...]:
        return ()

    def candidates(self, op, network, platform):
        fitting, reasons = candidate_kernels(self.kernels, op, network, platform)
        return tuple(Candidate(k, k.engine, k.cycles(op, network, platform), k.caps) for k in fitting), reasons

    def lower(self, network, platform: Grid, choice: Mapping[str, Candidate]) -> Lowered:
        made, tile = Lowering(network, platform), 0
        for op in network.ops:
            count = 2 if network.tensors[op.output].channels > SPLIT and isinstance(op, Conv) else 1
            kernel = choice[op.name].kernel
            tiles = [(tile + i) % platform.tiles for i in range(count)]
            if kernel.engine == ANALOG:
                tiles = [platform.middle]
            for name in op.inputs:
                if name in network.inputs and name not in made.parts:
                    made.enter(name, tiles[0])
            made.operator(op, kernel.engine, tiles, kernel.code(op, network, platform))
            tile += 0 if kernel.engine == ANALOG else count
        for name in network.outputs:
            made.leave(name)
        copies = dict.fromkeys((b.name for b in made.buffers if b.kind == "tensor"), COPIES)
        schedule = Schedule(tuple(made.tasks), overlapping=True, copies=copies)
        for number, (engine, instance) in enumerate(platform.sequencers):
            size = sum(task.where == ((engine, instance),) for task in made.tasks) * sizeof(Command)
            if size:
                made.buffers.append(Buffer(f"{engine}{instance}", "program", size, "program", 8, permanent=True,
                                           instance=number))  # fmt: skip
        layouts = {name: layout_of(tensor) for name, tensor in network.tensors.items()}
        inside = frozenset(name for name, parts in made.parts.items() if len(parts) > 1)
        return Lowered(schedule, tuple(made.buffers), layouts, made, inside=inside)

    def link(self, network, platform, lowered, placement) -> Image:
        schedule, made = lowered.schedule, lowered.private
        home = {b.name: b.instance * TILE_STRIDE + placement.address[b.name]
                for b in lowered.buffers if b.memory == "data"}  # fmt: skip
        size = {b.name: b.size // COPIES for b in lowered.buffers}
        waits: dict[int, list[Wait]] = {}
        for edge in schedule.edges:
            if schedule.tasks[edge.first].where != schedule.tasks[edge.then].where:
                waits.setdefault(edge.then, []).append(Wait(1, edge.first, edge.distance))
        programs = {which: b"" for which in platform.sequencers}
        for number, task in enumerate(schedule.tasks):
            command, reads, write = made.commands[task.name]
            command.task = number
            command.waits[:len(waits.get(number, ()))] = waits.get(number, [])
            for place, name in (*zip(command.sources, reads, strict=False), *([(command.out, write)] if write else [])):
                place.address, place.bytes, place.copies = home[name], size[name], COPIES
            for name in task.reads[len(reads):]:
                setattr(command, name.rpartition(".")[2], home[name])
            programs[task.where[0]] += bytes(command)
        segments = [Segment("data", home[b.name], b.content) for b in lowered.buffers if b.content]
        segments += [Segment("program", PROGRAM_BASE + number * PROGRAM_STRIDE, programs[which])
                     for number, which in enumerate(platform.sequencers) if programs[which]]  # fmt: skip
        writers = {name: (i,) for i, task in enumerate(schedule.tasks) for name in task.writes}
        roles = dict.fromkeys(network.inputs, "input") | dict.fromkeys(network.outputs, "output")
        tiles = tile_table(TensorPlace(tensor, roles.get(name, "internal"), tuple(
            Fragment("data", home[buffer], box_of(tensor, first, end), layout_of(tensor), writers[buffer], tile, COPIES,
                     size[buffer])
            for buffer, tile, first, end in made.parts[name]), name in network.outputs)
            for name, tensor in network.tensors.items())  # fmt: skip
        return Image(tuple(segments), tiles=tiles, notes=schedule_notes(schedule, network.inputs, network.outputs))


BACKEND = GridBackend()
