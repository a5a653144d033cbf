# SPDX-License-Identifier: Apache-2.0
"""The machine itself, in Python: it sees the image's loadable segments, and the tile table only to watch."""

import ctypes
import heapq
import time
from collections.abc import Mapping, Sequence

import numpy as np
from nncosim.compiler.backends import register_backend
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.image.tiles import Fragment, TensorPlace, tensor_from_bytes
from nncosim.platforms.registry import register
from nncosim.tb.backend import Diagnosis, Frame, RunResult, register_bench
from nncosim.tb.run.tasks import activities_of_tasks, passages_of_tasks, steps_of_tasks

from grid.compiler import BACKEND
from grid.machine import (
    ADD,
    ANALOG,
    DENSE,
    ENTER,
    GRID,
    LEAVE,
    PROGRAM_BASE,
    PROGRAM_STRIDE,
    STREAM,
    TILE_STRIDE,
    Command,
    Grid,
    Place,
    cycles_of,
)  # fmt: skip

Span = tuple[int, int]


class Machine:
    """Memories, sequencers with their programs, and what each command does."""

    def __init__(self, platform: Grid, image: Image, seed: int):
        self.platform = platform
        shape = platform.tiles, platform.data_bytes
        self.memory = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        self.programs: dict[tuple[str, int], list[Command]] = {}
        for segment in image.segments:
            if segment.address < PROGRAM_BASE:
                tile, at = divmod(segment.address, TILE_STRIDE)
                self.memory[tile, at:at + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
            else:
                which = platform.sequencers[(segment.address - PROGRAM_BASE) // PROGRAM_STRIDE]
                count = len(segment.data) // ctypes.sizeof(Command)
                self.programs[which] = list((Command * count).from_buffer_copy(segment.data))

    def where(self, place: Place, inference: int) -> tuple[int, int]:
        """Tile, and byte in its memory."""
        return divmod(place.address + inference % place.copies * place.bytes, TILE_STRIDE)

    def read(self, place: Place, rows: int, wide: int, signed: int, inference: int) -> np.ndarray:
        tile, at = self.where(place, inference)
        data = self.memory[tile, at:at + rows * place.columns * (1 + wide)].tobytes()
        return np.frombuffer(data, f"<{'i' if signed else 'u'}{1 + wide}").astype(np.int64).reshape(rows, -1)

    def write(self, place: Place, values: np.ndarray, wide: int, inference: int) -> None:
        tile, at = self.where(place, inference)
        data = np.frombuffer(values.astype(f"<i{1 + wide}").tobytes(), np.uint8)
        self.memory[tile, at:at + len(data)] = data

    def compute(self, engine: str, c: Command, inference: int, given: np.ndarray | None) -> np.ndarray:
        """What a command writes, of shape (rows, columns)."""
        if c.opcode == ENTER:
            assert given is not None
            return given
        operands = [self.read(source, c.rows, c.wide_in, c.signed_in, inference)
                    for source in c.sources if source.columns]  # fmt: skip
        if c.opcode not in (DENSE, ADD):
            return operands[0]
        tile, at = divmod(c.constants, TILE_STRIDE)
        constants = self.memory[tile, at:at + 8 * c.out.columns].view("<i8")
        total = self.products(engine, c, np.concatenate(operands, axis=1)) if c.opcode == DENSE else sum(operands)
        return self.narrow(c, total + constants)

    def products(self, engine: str, c: Command, x: np.ndarray) -> np.ndarray:
        tile, at = divmod(c.weights, TILE_STRIDE)
        count = x.shape[1] * c.out.columns
        weights = self.memory[tile, at:at + count].view(np.int8).astype(np.int64).reshape(c.out.columns, -1)
        if engine != ANALOG:
            return x @ weights.T
        most = 1 << self.platform.clip_bits - 1
        total = np.zeros((c.rows, c.out.columns), np.int64)
        for first in range(0, x.shape[1], self.platform.analog_rows):
            part = slice(first, first + self.platform.analog_rows)
            total = np.clip(total + x[:, part] @ weights[:, part].T, -most, most - 1)
        return total

    @staticmethod
    def narrow(c: Command, total: np.ndarray) -> np.ndarray:
        """Rounds at the layer's one shift, and clips."""
        wrapped = (total << 16) >> 16  # accumulators have 48 bits
        floor, rest = wrapped >> c.shift, wrapped & (1 << c.shift) - 1
        half = (1 << c.shift) >> 1
        up = (rest > half) | ((rest == half) & (floor & 1 == 1)) if c.half_even and c.shift else False
        return np.clip(floor + up, c.lo, c.hi)

    def run(self, inputs: Sequence[Mapping[int, np.ndarray]], limit: int, watch: "Watch"):
        """All programs once an inference; `inputs`: of each, the rows that each task of the port brings.

        Returns (start, end) of each task of each inference, and a diagnosis. `watch` is told of each write.
        """
        spans: list[dict[int, Span]] = [{} for _ in inputs]
        at, free = dict.fromkeys(self.programs, 0), dict.fromkeys(self.programs, 0)
        writes: list[tuple[int, int, int, Command, np.ndarray]] = []
        turn = 0
        while any(at[which] < len(code) * len(inputs) for which, code in self.programs.items()):
            ready, stuck = [], []
            for number, (which, code) in enumerate(self.programs.items()):
                if at[which] == len(code) * len(inputs):
                    continue
                inference, index = divmod(at[which], len(code))
                ends = [self._end(spans, inference, wait) for wait in code[index].waits if wait.used]
                if None in ends:
                    stuck.append(f"{which[0]} {which[1]}: task {code[index].task} of inference {inference} waits")
                else:
                    ready.append((max([free[which], *filter(None, ends)]), number, which, code[index], inference))
            if not ready:
                return spans, Diagnosis("hang", "\n".join(stuck))
            start, _, which, command, inference = min(ready, key=lambda item: item[:2])
            while writes and writes[0][0] <= start:
                self._land(heapq.heappop(writes), watch)
            end = start + cycles_of(self.platform, which[0], command, self._hops(which[0], command))
            if end > limit:
                return spans, Diagnosis("hang", f"{which[0]} {which[1]}: would end in cycle {end}, past {limit}")
            rows = self.compute(which[0], command, inference, inputs[inference].get(command.task))
            spans[inference][command.task] = start, end
            free[which], at[which], turn = end, at[which] + 1, turn + 1
            heapq.heappush(writes, (end, turn, inference, command, rows))
        while writes:
            self._land(heapq.heappop(writes), watch)
        return spans, None

    def _end(self, spans: Sequence[Mapping[int, Span]], inference: int, wait: object) -> int | None:
        before = inference - wait.distance
        return 0 if before < 0 else spans[before].get(wait.task, (0, None))[1]

    def _hops(self, engine: str, c: Command) -> int:
        tiles = c.sources[0].address // TILE_STRIDE, c.out.address // TILE_STRIDE
        return self.platform.distance(*tiles) if engine == STREAM else 0

    def _land(self, write: tuple[int, int, int, Command, np.ndarray], watch: "Watch") -> None:
        """What a command computed when it began is there when it ends."""
        _, _, inference, command, rows = write
        if command.opcode != LEAVE:
            self.write(command.out, rows, command.wide_out, inference)
        watch(command.task, inference, rows)


class Watch:
    """What the bench sees of every inference: tensors as they are written, inputs and outputs as they lie in memory."""

    def __init__(self, machine: Machine, image: Image, count: int):
        self.machine, self.places = machine, read_tiles(image)
        self.tasks = image.notes.schedule.tasks
        self.of_task = {i: (place, part) for place in self.places.values() for part in place.fragments
                        for i in part.written_by}  # fmt: skip
        self.tensors, self.memory, self.loaded = ([{} for _ in range(count)] for _ in range(3))

    def __call__(self, task: int, inference: int, rows: np.ndarray) -> None:
        if task in self.of_task:
            place, part = self.of_task[task]
            tensors = self.loaded if place.role == "input" else self.tensors
            empty = np.full(place.tensor.shape, 1 << 40)
            tensors[inference].setdefault(place.tensor.name, empty)[part.slices] = rows.reshape(part.shape)
            if tensors is self.loaded:
                self.loaded[inference][place.tensor.name] = self.held(place, inference)
        elif place := self.places.get(self.tasks[task].layer):  # it leaves
            self.memory[inference][place.tensor.name] = self.held(place, inference)

    def held(self, place: TensorPlace, inference: int) -> np.ndarray:
        def read(part: Fragment, size: int) -> bytes:
            tile, at = divmod(part.at(inference), TILE_STRIDE)
            return self.machine.memory[tile, at:at + size].tobytes()

        return tensor_from_bytes(place, read)


class GridBench:
    backends = ("python",)
    drivers: Mapping[str, tuple[str, ...]] = {}

    def run(self, platform, image, inputs, *, backend, driver=None, limit_cycles=None, seed=0, **_):
        begin, whole = time.perf_counter(), Image.from_bytes(image)
        machine, notes, schedule = Machine(platform, whole, seed), whole.notes, whole.notes.schedule
        watch = Watch(machine, whole, len(inputs))
        brought = [{i: frame[watch.of_task[i][0].tensor.name].reshape(watch.of_task[i][1].shape[0], -1)
                    for i in watch.of_task if watch.of_task[i][0].role == "input"} for frame in inputs]  # fmt: skip
        spans, diagnosis = machine.run(brought, (limit_cycles or 1 << 40) + 1000 * len(inputs), watch)
        frames = []
        for k, found in enumerate(spans):
            start, ended = min((first for first, _ in found.values()), default=0), len(found) == len(schedule.tasks)
            cycles = max(end for _, end in found.values()) - start if ended else 0
            steps = steps_of_tasks(notes, schedule, platform, found)
            activity = activities_of_tasks(notes, schedule, platform, spans) if ended and k == 0 else ()
            passages = passages_of_tasks(notes, schedule, platform, found)
            frames.append(Frame(cycles, watch.tensors[k], steps, activity, watch.memory[k] if ended else {},
                                watch.loaded[k], start=start, passages=passages))  # fmt: skip
            if not ended:
                break
        return RunResult(backend, driver, tuple(frames), diagnosis, {"simulate": time.perf_counter() - begin})


def install() -> None:
    """Make the machine known, as an installed package would."""
    register(GRID)
    register_backend(GRID.name, BACKEND)
    register_bench(GRID.name, GridBench())
