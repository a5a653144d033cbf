# SPDX-License-Identifier: Apache-2.0
"""The machine's side of the compiler: kernels, candidates, lowering, linking."""

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import Problem
from nncosim.compiler.image.expected import schedule_notes
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.tiles import TensorPlace, tile_table, whole
from nncosim.compiler.ir.layout import size_bytes, to_bytes
from nncosim.compiler.ir.network import Op
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.placement.kept import kept_buffers
from nncosim.compiler.placement.placement import Buffer
from nncosim.compiler.proof.caps import MultiplyShiftCaps, RequantCaps
from nncosim.compiler.schedule import Schedule, Task
from nncosim.kernels.base import Cost, Kernel, candidate_kernels
from nncosim.platforms.rounding import Rounding

from toy.machine import BASES, MATRIX, STREAM, WEIGHTS, Command, Record, Toy, cycles_of, describe, layout_of


@cache
def stream_code() -> bytes:
    """kernels.c, compiled for this computer: the stream engine's code memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernels.so"
        flags = ["-shared", "-fPIC", "-O2", "-nostdlib", "-Wl,--strip-all", Path(__file__).with_name("kernels.c")]
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-o", out], check=True)
        return out.read_bytes()


class ToyKernel(Kernel):  # of both engines: one command an operator
    def problems(self, op, network, platform):
        wide = [t for t in (*network.op_inputs(op), network.tensors[op.output]) if t.type.bits > 8]
        return tuple(Problem(op.name, op.kind, f"{t.name} has {t.type.bits} bits", "use 8") for t in wide)

    def code(self, op, network, platform):
        return describe(op, network.op_inputs(op), network.tensors[op.output])

    def cycles(self, op, network, platform):
        return Cost.exactly(cycles_of(platform, self.code(op, network, platform)))


class MatrixKernel(ToyKernel):
    name, engine, op_types = "matrix_conv", MATRIX, ("conv",)


class StreamKernel(ToyKernel):
    name, engine, op_types = "stream_loop", STREAM, ("pool", "add", "requantize")


def records(op: Op) -> bytes:
    r = op.requant
    columns = (r.m[0], r.m[1] if len(r.m) > 1 else [0] * r.channels, r.c, r.s, r.lo, r.hi)
    return b"".join(bytes(Record(*map(int, row))) for row in zip(*columns, strict=True))


class ToyBackend:
    kernels = (MatrixKernel(), StreamKernel())
    caps = RequantCaps((MultiplyShiftCaps(roundings=frozenset({Rounding.FLOOR})),))

    def problems(self, network, platform) -> tuple[Problem, ...]:
        return ()

    def candidates(self, op, network, platform):
        fitting, reasons = candidate_kernels(self.kernels, op, network, platform)
        return tuple(Candidate(k, k.engine, k.cycles(op, network, platform), self.caps) for k in fitting), reasons

    def lower(self, network, platform: Toy, choice: Mapping[str, Candidate]) -> Lowered:
        layouts = {t.name: layout_of(t) for t in network.tensors.values()}
        buffers = [Buffer(t.name, "data", size_bytes(t.shape, layouts[t.name], t.axes), "tensor", 8, None, False,
                          t.name in network.inputs, t.name in network.outputs) for t in network.tensors.values()]
        buffers.append(Buffer("kernels.c", "kernels", len(stream_code()), "program", content=stream_code()))
        writer, tasks, commands = {op.output: op.name for op in network.ops}, [], {}
        for op in network.ops:
            chosen = choice[op.name]
            constants = {f"{op.name}.records": ("records", records(op))}
            if isinstance(op, Conv):
                constants[f"{op.name}.weights"] = ("weights", to_bytes(op.weights, WEIGHTS, "OIHW"))
            buffers += [Buffer(name, "data", len(data), kind, 8, data) for name, (kind, data) in constants.items()]
            after = tuple(dict.fromkeys(writer[name] for name in op.inputs if name in writer))
            reads = (*op.inputs, *constants, *(["kernels.c"] if chosen.engine == STREAM else []))
            tasks.append(Task(op.name, chosen.engine, op.name, after, reads, (op.output,), chosen.cost))
            commands[op.name] = chosen.kernel.code(op, network, platform)
        for engine in (MATRIX, STREAM):
            size = (sum(task.engine == engine for task in tasks) + 1) * ctypes.sizeof(Command)
            buffers.append(Buffer(f"{engine} program", engine, size, "program", 8, permanent=True))
        return Lowered(Schedule(tuple(tasks)), tuple(buffers), layouts, commands)

    def link(self, network, platform, lowered, placement) -> Image:
        ops, tasks, at = {op.name: op for op in network.ops}, lowered.schedule.tasks, placement.address
        programs = {MATRIX: b"", STREAM: b""}
        for number, task in enumerate(tasks):
            command, op = lowered.private[task.name], ops[task.name]
            command.task, command.waits = number, sum(1 << lowered.schedule.index[name] for name in task.after)
            command.a, command.b, command.out = at[op.inputs[0]], at[op.inputs[-1]], at[op.output]
            command.records, command.weights = at[f"{op.name}.records"], at.get(f"{op.name}.weights", 0)
            programs[task.engine] += bytes(command)
        loaded = (b for b in lowered.buffers if b.content)
        segments = [Segment(b.memory, BASES[b.memory] + at[b.name], b.content) for b in loaded]
        segments += [Segment(engine, BASES[engine], code + bytes(Command())) for engine, code in programs.items()]
        writer = {op.output: (number,) for number, op in enumerate(network.ops)}
        kept = kept_buffers(lowered.buffers, placement, lowered.schedule)
        tiles = tile_table(TensorPlace(t, "tensor", (whole(t, "data", at[t.name], lowered.layouts[t.name],
                                                           writer.get(t.name, ())),), t.name in kept)
                           for t in network.tensors.values())
        notes = schedule_notes(lowered.schedule, network.inputs, network.outputs)
        return Image(tuple(segments), tiles=tiles, notes=notes)


BACKEND = ToyBackend()
