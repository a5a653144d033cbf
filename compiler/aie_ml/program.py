# SPDX-License-Identifier: Apache-2.0
"""From schedules to the core's program: all instructions in a line, then loops wherever they repeat, then words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nncosim.compiler.aie_ml.loops import Line, assembled, roll
from nncosim.compiler.aie_ml.scheduler import SETS_OF_ACCUMULATORS, Timing, timing
from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml.isa import (
    LATENCY,
    AguRegister,
    Control,
    ControlOp,
    Load,
    LockUse,
    Mac,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Set,
    Srs,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.formats import encode
from nncosim.kernels.aie_ml.product import Job, Product, Shape
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["Addresses", "Code", "Exchange", "program_of", "streaming_program"]

INPUT, OUTPUT, WEIGHTS, BIAS = 0, 2, 4, 5
"""Pointers; of inputs and outputs one for each row of tiles in a block."""
_encode = lru_cache(maxsize=4096)(encode)
"""A layer has thousands of instructions, made of few words."""
_LOAD_TO_STORE = 3
"""From a store to a load of what it wrote, at least: the one accesses memory in t+6, the other in t+4."""


@dataclass(frozen=True)
class Addresses:
    """Beats where a layer's buffers begin: of its first and second operand, of its bias and results.

    addend: of the second summand of a sum, whose rows are as far apart as those of the first; None: beside those.
    """

    input: int
    weights: int
    bias: int
    output: int
    addend: int | None = None


@dataclass(frozen=True)
class Exchange:
    """Locks by which a buffer goes from its producer to its consumer and back.

    free: counts buffers that may be filled; full: those that may be read. west: they are the west neighbour's.
    """

    free: int
    full: int
    west: bool = False


@dataclass
class _Layer:
    """Instructions of a layer by cycle: slot to encoded fields. SETs come last, where there is room.

    inputs, outputs: what is acquired for the layer, and released behind it.
    """

    product: Product
    at: Addresses
    inputs: Sequence[Exchange] = ()
    outputs: Sequence[Exchange] = ()
    lines: dict[int, dict[str, int]] = field(default_factory=dict)
    uses: dict[int, list[int]] = field(default_factory=dict)

    def put(self, cycle: int, slot: str, word: int) -> None:
        line = self.lines.setdefault(cycle, {})
        if slot in line:
            raise CompileError(f"two operations in slot {slot} of cycle {cycle}")
        line[slot] = word

    def load(self, cycle: int, slot: str, vector: int, pointer: int) -> None:
        self.put(cycle, slot, _encode(Load, valid=1, vector=vector, pointer=pointer, post=Post.WALK.value))
        self.uses.setdefault(pointer, []).append(cycle)

    def emit(self) -> list[Line]:
        """The instructions, with loops."""
        shape, times = self.product.shape, timing(self.product.shape)
        registers = _Registers.of(shape)
        period = shape.steps * times.interval
        for block in range(shape.blocks):
            begin, accs = block * period, block % SETS_OF_ACCUMULATORS * shape.rows * shape.columns
            for step in range(shape.steps):
                self._step(step, begin + step * times.interval, times, registers, accs)
            self._ends(begin, begin + period - times.interval, times, registers, accs)
        for pointer in self.uses:
            self.uses[pointer].sort()
        self._locks()
        self._settings()
        lines = [self.lines.get(cycle, {}) for cycle in range(min(self.lines), max(self.lines) + 1)]
        return roll([Line(tuple(sorted(line.items()))) for line in lines],
                    (SETS_OF_ACCUMULATORS * period, times.interval))

    def _locks(self) -> None:
        """A buffer is acquired in the cycle before it is first accessed, and released in that of the last access."""
        shape = self.product.shape
        activations = [WEIGHTS] if shape.job == Job.TRANSPOSE else [INPUT + row for row in range(shape.rows)]
        results = [OUTPUT + row for row in range(shape.rows)]
        for pointers, memory, pairs in (
            (results, LATENCY["store_memory"], [(each.free, each.full, each.west) for each in self.outputs]),
            (activations, LATENCY["load_memory"], [(each.full, each.free, each.west) for each in self.inputs]),
        ):
            cycles = [cycle + memory for pointer in pointers for cycle in self.uses.get(pointer, ())]
            for acquired, released, west in pairs:
                self._lock(ControlOp.ACQUIRE, acquired, west, min(cycles) - 1, -1)
                self._lock(ControlOp.RELEASE, released, west, max(cycles), 1)

    def _lock(self, op: ControlOp, lock: int, west: bool, cycle: int, towards: int) -> None:
        """In that cycle, or in the next one there with room."""
        while "control" in self.lines.get(cycle, {}):
            cycle += towards
        use = _encode(LockUse, lock=lock, value=1, west=int(west))
        self.put(cycle, "control", _encode(Control, op=op.value, payload=use))

    def _step(self, step: int, at: int, times: Timing, registers: _Registers, accs: int) -> None:
        shape = self.product.shape
        for row, (vector, time) in enumerate(zip(registers.a, times.load_a, strict=True)):
            self.load(at + time, "load_a", vector, INPUT + row)
        for vector, time in zip(registers.b, times.load_b, strict=True):
            self.load(at + time, "load_b", vector, WEIGHTS)
        a_signed, b_signed = self.product.signs_at(step)
        for k, time in enumerate(times.mac):
            row, column = divmod(k, shape.columns)
            beat, half = shape.second_at(column)
            word = _encode(
                Vector, op=shape.mac.value, a=registers.a[row], b=registers.b[beat], b_half=half,
                acc=accs + k, a_signed=int(a_signed), b_signed=int(b_signed),
            )
            self.put(at + time, "vector", word)

    def _ends(self, first: int, last: int, times: Timing, registers: _Registers, accs: int) -> None:
        """Bias and results of a block whose first step begins at `first`, its last one at `last`."""
        shape = self.product.shape
        for vector, time in zip(registers.bias, times.load_bias, strict=True):
            self.load(first + time, "load_a", vector, BIAS)
        for (tile, part), time in zip(shape.words, times.get, strict=False):
            word = _encode(Move, op=MoveOp.GET.value, dest=accs + tile, half=part % 2, high=part // 2)
            self.put(first + time, "move", word)
        for (tile, part), time in zip(shape.words, times.put, strict=False):
            word = _encode(Move, op=MoveOp.PUT.value, source=accs + tile, half=part % 2, high=part // 2)
            self.put(last + time, "move", word)
        wide = int(shape.mac == Mac.I16X16)
        for k, time in enumerate(times.bias):
            source = registers.bias[k % shape.columns]
            self.put(first + time, "move", _encode(Move, op=MoveOp.BIAS.value, dest=accs + k, source=source, wide=wide))
        for n, ((row, column, half), time) in enumerate(zip(shape.stores, times.store, strict=True)):
            common = dict(form=shape.form.value, half=half)
            source, op = accs + row * shape.columns + column, StoreOp.VST_SRS
            if shape.relu:
                result = registers.results[n % shape.results]
                self.put(last + times.srs[n], "move",
                         _encode(Move, op=MoveOp.SRS.value, dest=result, source=source, **common))
                self.put(last + times.relu[n], "move",
                         _encode(Move, op=MoveOp.MAX.value, dest=result, source=result, wide=int(shape.wide_results)))
                source, op, common = result, StoreOp.VST, {}
            self.put(last + time, "store",
                     _encode(Store, op=op.value, source=source, pointer=OUTPUT + row, post=Post.WALK.value, **common))
            self.uses.setdefault(OUTPUT + row, []).append(last + time)

    def _settings(self) -> None:
        """Registers of the address generators, each set before its first use; as early as there is room."""
        shape, times = self.product.shape, timing(self.product.shape)
        wanted = _walks(shape, self.at, self.uses)
        if shape.role.ends:
            first_result = (shape.steps - 1) * times.interval + min(times.srs or times.store)
            srs = encode(Srs, shift=self.product.shift, rounding=self.product.rounding.value,
                         saturation=self.product.saturation.value, signed=int(self.product.signed))
            wanted.append(_Setting(first_result, ControlOp.SRS, -1, srs))
        wanted.sort(key=lambda each: each.before)
        begin = min(self.lines)
        while not self._settled(wanted, begin):
            begin -= 1

    def _settled(self, wanted: Sequence[_Setting], begin: int) -> bool:
        """Whether all can be made from cycle `begin` on; then they are."""
        placed: list[tuple[int, str]] = []
        taken: set[tuple[int, str]] = set()
        for each in wanted:
            for cycle in range(begin, each.before):
                used = each.moves_pointer and cycle in self.uses[each.register & 7]
                line = self.lines.get(cycle, {})
                free = [slot for slot in each.slots if slot not in line and (cycle, slot) not in taken]
                if free and not used:
                    taken.add((cycle, free[0]))
                    placed.append((cycle, free[0]))
                    break
            else:
                return False
        for each, (cycle, slot) in zip(wanted, placed, strict=True):
            self.put(cycle, slot, each.encoded(slot))
        return True


@dataclass(frozen=True)
class _Setting:
    """`before`: the first cycle that needs it. `value`: of a register of an address generator, or SRS's payload."""

    before: int
    op: ControlOp
    register: int
    value: int

    @property
    def moves_pointer(self) -> bool:
        return self.op == ControlOp.SET and self.register >> 3 == AguRegister.POINTER

    @property
    def slots(self) -> tuple[str, ...]:
        return ("control",) if self.op == ControlOp.SRS else ("move", "control")

    def encoded(self, slot: str) -> int:
        if slot == "move":
            return encode(MoveSet, op=MoveOp.SET.value, register=self.register, value=self.value)
        payload = self.value if self.op == ControlOp.SRS else encode(Set, register=self.register, value=self.value)
        return encode(Control, op=self.op.value, payload=payload)


@dataclass(frozen=True)
class _Registers:
    """Vectors of a layer. `b` begins with an even one."""

    b: tuple[int, ...]
    a: tuple[int, ...]
    bias: tuple[int, ...]
    results: tuple[int, ...]

    @classmethod
    def of(cls, shape: Shape) -> _Registers:
        counts = (shape.step_beats, shape.rows, shape.columns if shape.role.begins else 0, shape.results)
        ends = [sum(counts[: k + 1]) for k in range(len(counts))]
        return cls(*(tuple(range(end - count, end)) for end, count in zip(ends, counts, strict=True)))


def _walks(shape: Shape, at: Addresses, uses: Mapping[int, Sequence[int]]) -> list[_Setting]:
    """What the address generators are set to, and by when."""
    out: list[_Setting] = []

    def add(pointer: int, base: int, walk: Iterable[tuple[AguRegister, int, int]]) -> None:
        for which, value, use in ((AguRegister.POINTER, base, 0), *walk):
            if use < len(uses.get(pointer, ())):
                out.append(_Setting(uses[pointer][use], ControlOp.SET, which << 3 | pointer, value))

    for row in range(shape.rows):
        add(INPUT + row, at.input + row * shape.input_beats, _first_operand(shape, at))
        if shape.role.ends:
            count = shape.output_beats
            add(OUTPUT + row, at.output + row * count, (
                (AguRegister.INC, 1, 0), (AguRegister.N1, count, 0), (AguRegister.N2, 1, count - 1),
                (AguRegister.S2, (shape.rows - 1) * count + 1, count - 1),
            ))  # fmt: skip
    if shape.job == Job.TRANSPOSE and shape.steps > 1:
        add(WEIGHTS, at.weights, _blocks_above(shape))
    linear = [(BIAS, at.bias, shape.column_blocks * shape.columns)]
    if shape.job != Job.TRANSPOSE or shape.steps == 1:
        count = shape.activation_beats if shape.job == Job.TRANSPOSE else shape.constant_beats
        linear.insert(0, (WEIGHTS, at.weights, count))
    for pointer, base, count in linear:
        add(pointer, base, ((AguRegister.INC, 1, 0), (AguRegister.N1, count, 0), (AguRegister.N2, 1, count - 1),
                            (AguRegister.S2, 1 - count, count - 1)))
    return out


def _first_operand(shape: Shape, at: Addresses) -> tuple[tuple[AguRegister, int, int], ...]:
    """How one row of tiles is walked in each row of blocks: (register, value, the use that needs it)."""
    steps, turn = shape.steps, shape.steps * shape.column_blocks
    if shape.job == Job.TRANSPOSE:  # stays where it is, or goes through the tiles of a block
        inc = ((AguRegister.INC, 1, 0),) if steps > 1 else ()
        last = steps - 1
        return (*inc, (AguRegister.N1, steps, 0), (AguRegister.N2, 1, last), (AguRegister.S2, -last, last))
    if shape.job == Job.ADD:  # a tile of the one, a tile of the other
        beats = shape.summand_beats
        away, generation = beats if at.addend is None else at.addend - at.input, shape.generation
        return (
            (AguRegister.INC, _wrapped(away, generation), 0), (AguRegister.N1, 2, 0), (AguRegister.N2, beats, 1),
            (AguRegister.S1, _wrapped(1 - away, generation), 1 if beats > 1 else 2 * beats),
            (AguRegister.S2, _wrapped(shape.rows * shape.input_beats + 1 - beats - away, generation), 2 * beats - 1),
        )  # fmt: skip
    return (
        (AguRegister.INC, 1, 0), (AguRegister.N1, steps, 0), (AguRegister.N2, shape.column_blocks, steps - 1),
        (AguRegister.S1, 1 - steps, steps - 1 if shape.column_blocks > 1 else turn),
        (AguRegister.S2, shape.rows * shape.input_beats - steps + 1, turn - 1),
    )  # fmt: skip


def _blocks_above(shape: Shape) -> tuple[tuple[AguRegister, int, int], ...]:
    """How a TRANSPOSE of several steps walks its activations: a block of each of its columns of blocks, and back."""
    steps, apart = shape.steps, shape.column_blocks * shape.step_beats
    return (
        (AguRegister.INC, apart, 0), (AguRegister.N1, steps, 0), (AguRegister.N2, shape.column_blocks, steps - 1),
        (AguRegister.S1, 1 - (steps - 1) * apart, steps - 1),
        (AguRegister.S2, 1, steps * shape.column_blocks - 1),
    )  # fmt: skip


def _wrapped(step: int, generation: Generation) -> int:
    """Of a pointer, as its address generator has it: with a sign."""
    return (step + generation.beats) % generation.pointers - generation.beats


@dataclass(frozen=True)
class Code:
    """A program. `ends`: of each layer, how many stores have been made when it is complete."""

    words: bytes
    ends: tuple[int, ...]


def program_of(layers: Sequence[tuple[Product, Addresses]], room: int) -> Code:
    """One layer after the other, then HALT.

    Args:
        room: instructions that the program memory holds.

    Raises:
        CompileError: it does not fit.
    """
    lines: list[Line] = []
    ends: list[int] = []
    stores = 0
    for product, at in layers:
        layer = _Layer(product, at)
        own = layer.emit()
        shape = product.shape
        wait = max(0, _LOAD_TO_STORE - (layer.uses[INPUT][0] - min(layer.lines))) if lines else 0
        lines += [Line()] * wait
        lines += own
        stores += shape.blocks * len(shape.stores)
        ends.append(stores)
    lines.append(Line((("control", encode(Control, op=ControlOp.HALT.value)),)))
    return Code(_fitting(lines, room), tuple(ends))


def _fitting(lines: Sequence[Line], room: int) -> bytes:
    if len(lines) > room:
        raise CompileError(f"the program has {len(lines)} instructions, and the program memory holds {room}; "
                           "use fewer or smaller layers")
    return assembled(lines)


def streaming_program(
    product: Product, buffers: Sequence[Addresses], inputs: Sequence[Exchange], outputs: Sequence[Exchange], room: int
) -> bytes:
    """A layer for ever, each time with the next of its buffers, when its inputs are there and its outputs are free.

    Args:
        buffers: in turn. room: instructions that the program memory holds.

    Raises:
        CompileError: it does not fit.
    """
    lines: list[Line] = []
    for at in buffers:
        lines += _Layer(product, at, inputs, outputs).emit()
    if lines[-1].ends_loop or not lines[-1].takes_loop:
        lines.append(Line())
    return _fitting([Line().with_loop(0, len(lines)), *lines], room)
