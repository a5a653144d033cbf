# SPDX-License-Identifier: Apache-2.0
"""The machine itself, in Python: it sees the image's loadable segments, and the tile table only to watch."""

import ctypes
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from nncosim.compiler.backends import register_backend
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.image.tiles import tensor_from_bytes, tensor_to_bytes
from nncosim.compiler.ir.layout import Layout, from_bytes, to_bytes
from nncosim.platforms.registry import register
from nncosim.tb.backend import Diagnosis, Frame, Interval, RunResult, register_bench

from toy.compiler import BACKEND
from toy.machine import BASES, MATRIX, STREAM, TOY, WEIGHTS, Command, Record, Toy, cycles_of


def convolve(memory: np.ndarray, k: Command) -> None:
    """The matrix engine: one command, in numpy."""
    depth, layout = k.channels // k.groups, Layout("C H W", k.a_type & 255)
    x = from_bytes(memory[k.a:].tobytes(), (k.channels, k.height, k.width), layout, bool(k.a_type & 256), "CHW")
    shape = (k.out_channels, depth, k.kernel_h, k.kernel_w)
    weights = from_bytes(memory[k.weights:].tobytes(), shape, WEIGHTS, True, "OIHW")
    tall, broad = k.kernel_h * k.dilation_h, k.kernel_w * k.dilation_w  # no padding is larger
    full = np.full((k.channels, k.height + 2 * tall, k.width + 2 * broad), k.pad_value)
    full[:, k.pad_top:k.pad_top + k.height, k.pad_left:k.pad_left + k.width] = x
    out = np.zeros((k.out_channels, k.out_height, k.out_width), dtype=np.int64)
    for channel, r in enumerate((Record * k.out_channels).from_buffer_copy(memory[k.records:].tobytes())):
        first = channel * k.groups // k.out_channels * depth
        for i, j in np.ndindex(k.kernel_h, k.kernel_w):
            rows = slice(i * k.dilation_h, i * k.dilation_h + (k.out_height - 1) * k.stride_h + 1, k.stride_h)
            columns = slice(j * k.dilation_w, j * k.dilation_w + (k.out_width - 1) * k.stride_w + 1, k.stride_w)
            out[channel] += np.tensordot(weights[channel, :, i, j], full[first:first + depth, rows, columns], 1)
        out[channel] = np.clip((out[channel] * r.m0 + r.c) >> r.s, r.lo, r.hi)
    data = np.frombuffer(to_bytes(out, Layout("C H W", k.out_type & 255), "CHW"), dtype=np.uint8)
    memory[k.out:k.out + len(data)] = data


class Machine:
    """Memory, and the two engines with their command lists."""

    def __init__(self, platform: Toy, image: Image, seed: int):
        self.platform = platform
        self.memory = np.random.default_rng(seed).integers(0, 256, platform.data_bytes, dtype=np.uint8)
        self.programs: dict[str, list[Command]] = {MATRIX: [], STREAM: []}
        for segment in image.segments:
            region = max((base, name) for name, base in BASES.items() if base <= segment.address)[1]
            if region == "data":
                self.memory[segment.address:][:len(segment.data)] = np.frombuffer(segment.data, np.uint8)
            elif region == "kernels":
                with tempfile.NamedTemporaryFile(suffix=".so", buffering=0) as file:
                    file.write(segment.data)
                    self.stream = ctypes.CDLL(file.name).run
            else:
                commands = (Command * (len(segment.data) // ctypes.sizeof(Command))).from_buffer_copy(segment.data)
                self.programs[region] = [command for command in commands if command.opcode]

    def held(self, places, which) -> dict[str, np.ndarray]:
        """The tensors that memory holds at the places that are `which`."""
        return {p.tensor.name: tensor_from_bytes(p, lambda part, size: self.memory[part.address:][:size].tobytes())
                for p in filter(which, places.values())}

    def run(self, limit: int, watch) -> tuple[dict[str, list[tuple[int, int, int]]], Diagnosis | None]:
        """All commands once. Returns (task, start, end) of each by engine; `watch` is called after each task."""
        log: dict[str, list[tuple[int, int, int]]] = {MATRIX: [], STREAM: []}
        ended: dict[int, int] = {}
        while any(len(log[e]) < len(self.programs[e]) for e in log):
            ready, stuck = [], []
            for engine in (e for e in log if len(log[e]) < len(self.programs[e])):
                command = self.programs[engine][len(log[engine])]
                waits = [t for t in range(64) if command.waits >> t & 1]
                if missing := [t for t in waits if t not in ended]:
                    stuck.append(f"{engine}: task {command.task} waits for tasks {missing}")
                else:
                    free = max([0, *(ended[t] for t in waits), *(end for _, _, end in log[engine][-1:])])
                    ready.append((free, engine, command))
            if not ready:
                return log, Diagnosis("hang", "\n".join(stuck))
            start, engine, command = min(ready, key=lambda item: item[0])
            end = ended[command.task] = start + cycles_of(self.platform, command)
            if end > limit:
                return log, Diagnosis("hang", f"{engine}: task {command.task} would end in cycle {end}, past {limit}")
            if engine == MATRIX:
                convolve(self.memory, command)
            else:
                self.stream(ctypes.byref(command), self.memory.ctypes.data_as(ctypes.c_void_p))
            log[engine].append((command.task, start, end))
            watch(command.task)
        return log, None


def account(log, begin: int, end: int) -> dict[str, dict[str, int]]:
    """Cycles of [begin, end) by engine and category."""
    counters = {}
    for engine, tasks in log.items():
        busy = sum(max(0, min(e, end) - max(s, begin)) for _, s, e in tasks)
        last = max([begin, *(min(e, end) for _, _, e in tasks)])
        counters[engine] = {"busy": busy, "wait_data": last - begin - busy, "idle": end - last}
    return counters


class ToyBench:
    backends = ("python",)
    drivers: Mapping[str, tuple[str, ...]] = {}

    def run(self, platform, image, inputs, *, backend, driver=None, limit_cycles=None, seed=0, **_):
        begin, whole, diagnosis = time.perf_counter(), Image.from_bytes(image), None
        machine, places, frames = Machine(platform, whole, seed), read_tiles(whole), []
        for frame in inputs:
            tensors: dict[str, np.ndarray] = {}

            def watch(task: int, into=tensors) -> None:
                into |= machine.held(places, lambda one, ended=task: ended in one.written_by)

            for place in (place for place in places.values() if place.kept and place.written_by):
                machine.memory[place.only.address:][:place.size] ^= 255  # nothing is left of the one before
            for name, array in frame.items():
                for part, data in tensor_to_bytes(places[name], array):
                    machine.memory[part.address:][:len(data)] = np.frombuffer(data, np.uint8)
            loaded = machine.held(places, lambda place, given=frame: place.tensor.name in given)
            log, diagnosis = machine.run(limit_cycles or 1 << 62, watch)
            ends = sorted(end for tasks in log.values() for _, _, end in tasks)
            spans = [(a, b, account(log, a, b)) for a, b in pairwise((0, *ends))]
            cycles = ends[-1] if diagnosis is None else 0
            steps, memory = tuple(Interval(i, *s) for i, s in enumerate(spans)), machine.held(places, lambda p: p.kept)
            frames.append(Frame(cycles, tensors, steps, memory=memory if cycles else {}, loaded=loaded))
            if diagnosis is not None:
                break
        return RunResult(backend, driver, tuple(frames), diagnosis, {"simulate": time.perf_counter() - begin})


def install() -> None:
    """Make the machine known, as an installed package would."""
    register(TOY)
    register_backend(TOY.name, BACKEND)
    register_bench(TOY.name, ToyBench())
