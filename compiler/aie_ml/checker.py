# SPDX-License-Identifier: Apache-2.0
"""Re-reads an encoded program and proves what it computes, by executing it with names in place of numbers.

It knows the core by its manual and the layer by its shape, and nothing of the schedule: a load that comes a cycle too
late, a register that is overwritten while it is needed, a pointer that goes wrong, a loop of one turn too few all leave
another formula in memory than the layer's. So an illegal schedule is an error when it is compiled, for all data.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nncosim.compiler.aie_ml.program import Addresses
from nncosim.hdl.aie_ml.isa import (
    INSTRUCTION_BYTES,
    LATENCY,
    LOOP_LEVELS,
    AguRegister,
    Control,
    ControlOp,
    Instruction,
    Load,
    LockUse,
    Loop,
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
from nncosim.hdl.formats import decode
from nncosim.kernels.aie_ml.product import Job, Product
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["Guard", "wrong_in"]

_MOST = 8
_SLOTS = {"load_a": Load, "load_b": Load, "store": Store, "vector": Vector, "move": Move, "control": Control}
_BITS = {name: (member.offset, member.width) for name, member in Instruction.as_shape()}
"""Where each slot is, and how wide."""
_UNKNOWN = ("unknown",)
Name = Hashable


@dataclass(frozen=True)
class Guard:
    """Beats that may be accessed only between the acquire of one lock and the release of the other."""

    beats: range
    acquired: int
    released: int


@lru_cache(maxsize=4096)
def _decoded(word: int) -> dict[str, dict[str, int]]:
    slots = {name: word >> offset & (1 << width) - 1 for name, (offset, width) in _BITS.items()}
    out = {name: decode(fmt, slots[name]) for name, fmt in _SLOTS.items()}
    out["move_set"] = decode(MoveSet, slots["move"])
    payload = out["control"]["payload"]
    return out | {name: decode(fmt, payload) for name, fmt in
                  (("set", Set), ("loop", Loop), ("srs", Srs), ("lock", LockUse))}


@dataclass
class _Generator:
    at: int = -1
    registers: dict[int, int] = field(default_factory=dict)
    c1: int = 0
    c2: int = 0

    def walk(self) -> int | None:
        """What is added; None where a register that it takes was never set."""
        r = self.registers
        if self.c1 + 1 < max(1, r.get(AguRegister.N1, 0)):
            self.c1 += 1
            return r.get(AguRegister.INC)
        self.c1 = 0
        if self.c2 + 1 < max(1, r.get(AguRegister.N2, 0)):
            self.c2 += 1
            return r.get(AguRegister.S1)
        self.c2 = 0
        return r.get(AguRegister.S2)


class _Core:
    """The core's state in names. Sums are numbers modulo 2**64 made from the names of what was added, in any order."""

    def __init__(self, generation: Generation, guards: Sequence[Guard]) -> None:
        self.generation, self.parts = generation, range(generation.acc_parts)
        self.guards, self.held = guards, set[int]()
        self.vectors: dict[int, Name] = {}
        self.accumulators: dict[tuple[int, int], int] = {}
        self.memory: dict[int, Name] = {}
        self.pointers = [_Generator() for _ in range(8)]
        self.srs: Name = _UNKNOWN
        self.landing: dict[int, list[tuple[str, Hashable, Name]]] = {}
        self.gets = 0
        self.puts: list[Name] = []
        self.sums: dict[int, tuple[int, int, Name]] = {}
        self.loads: dict[int, list[tuple[int, int]]] = {}
        self.stores: dict[int, tuple[int, Name]] = {}
        self.found: list[str] = []
        self.cycle = self.pc = 0

    def report(self, text: str) -> None:
        self.found.append(f"cycle {self.cycle}, pc {self.pc}: {text}")

    def land(self) -> Iterator[tuple[int, Name]]:
        """What arrives in this cycle; gives what is stored."""
        seen = set()
        for file, number, name in self.landing.pop(self.cycle, ()):
            if (file, number) in seen:
                self.report(f"two writes of {file} {number} arrive at once")
            seen.add((file, number))
            if file == "cm" and isinstance(name, int) and isinstance(number, tuple):
                self.accumulators[number] = name
            elif isinstance(number, int):
                self.vectors[number] = name
        if self.cycle in self.stores:
            beat, name = self.stores.pop(self.cycle)
            self._guarded(beat)
            self.memory[beat] = name
            yield beat, name
        for beat, vector in self.loads.pop(self.cycle, ()):
            self._guarded(beat)
            name = self.memory.get(beat, ("memory", beat))
            self._later(LATENCY["load"] - LATENCY["load_memory"], "w", vector, name)
        if self.cycle in self.sums:
            number, clear, product = self.sums.pop(self.cycle)
            for part in self.parts:
                total = _added(0 if clear else self.accumulators.get((number, part), hash(_UNKNOWN)), (part, product))
                self._later(LATENCY["mac"] - LATENCY["mac_reads"], "cm", (number, part), total)

    def _guarded(self, beat: int) -> None:
        for each in self.guards:
            if beat in each.beats and each.acquired not in self.held:
                self.report(f"beat {beat} is accessed without lock {each.acquired}")

    def _later(self, cycles: int, file: str, number: Hashable, name: Name) -> None:
        self.landing.setdefault(self.cycle + cycles, []).append((file, number, name))

    def issue(self, slots: Mapping[str, Mapping[str, int]]) -> None:
        used: set[int] = set()
        for name in ("load_a", "load_b"):
            if slots[name]["valid"]:
                beat = self._use(slots[name], used)
                self.loads.setdefault(self.cycle + LATENCY["load_memory"], []).append((beat, slots[name]["vector"]))
        store, mac = slots["store"], slots["vector"]
        if store["op"]:
            fused = store["op"] == StoreOp.VST_SRS.value
            value = self._requantized(store) if fused else self.vectors.get(store["source"], _UNKNOWN)
            self.stores[self.cycle + LATENCY["store_memory"]] = self._use(store, used), value
        if mac["op"]:
            names = [self.vectors.get(mac["a"], _UNKNOWN), self.vectors.get(mac["b"], _UNKNOWN)]
            if mac["op"] == Mac.I8X8.value and not self.generation.wide_words:
                names.append(self.vectors.get(mac["b"] + 1, _UNKNOWN))
            product = (mac["op"], mac["a_signed"], mac["b_signed"], mac["b_half"], *names)
            self.sums[self.cycle + LATENCY["mac_reads"]] = mac["acc"], mac["clear"], product
        self._move(slots, used)
        if slots["control"]["op"] == ControlOp.SET.value:
            self._set(slots["set"], used)
        if slots["control"]["op"] == ControlOp.SRS.value:
            self.srs = tuple(sorted(slots["srs"].items()))
        if slots["control"]["op"] == ControlOp.ACQUIRE.value:
            self.held.add(slots["lock"]["lock"])

    def release(self, slots: Mapping[str, Mapping[str, int]]) -> None:
        """After the cycle's accesses."""
        if slots["control"]["op"] == ControlOp.RELEASE.value:
            for each in self.guards:
                if each.released == slots["lock"]["lock"]:
                    self.held.discard(each.acquired)

    def _move(self, slots: Mapping[str, Mapping[str, int]], used: set[int]) -> None:
        move = slots["move"]
        source = self.vectors.get(move["source"], _UNKNOWN)
        if move["op"] == MoveOp.SET.value:
            self._set(slots["move_set"], used)
        elif move["op"] == MoveOp.BIAS.value:
            for part in self.parts:
                total = _added(0, ("bias", part, move["wide"], source))
                self._later(LATENCY["bias"], "cm", (move["dest"], part), total)
        elif move["op"] == MoveOp.GET.value:
            place = move["dest"], move["half"] + 2 * move["high"]
            self._later(LATENCY["cascade_get"], "cm", place, _added(0, ("cascade", self.gets)))
            self.gets += 1
        elif move["op"] == MoveOp.PUT.value:
            if slots["store"]["op"] == StoreOp.VST_SRS.value:
                self.report("PUT and VST.SRS at once")
            self.puts.append(self.accumulators.get((move["source"], move["half"] + 2 * move["high"]), _UNKNOWN))
        elif move["op"] == MoveOp.SRS.value:
            if slots["store"]["op"] == StoreOp.VST_SRS.value:
                self.report("SRS and VST.SRS at once")
            self._later(LATENCY["srs"], "w", move["dest"], self._requantized(move))
        elif move["op"] == MoveOp.MAX.value:
            self._later(LATENCY["max"], "w", move["dest"], ("max", move["wide"], source))
        elif move["op"]:
            self.report(f"move slot: operation {move['op']}")

    def _requantized(self, slot: Mapping[str, int]) -> Name:
        sums = tuple(self.accumulators.get((slot["source"], part), _UNKNOWN) for part in self.parts)
        return ("srs", slot["form"], slot["half"], self.srs, sums)

    def _use(self, slot: Mapping[str, int], used: set[int]) -> int:
        """The beat that is accessed."""
        number = slot["pointer"]
        if number in used:
            self.report(f"two slots use p{number}")
        used.add(number)
        pointer = self.pointers[number]
        beat = pointer.at
        if not 0 <= beat < self.generation.beats:
            self.report(f"p{number} is {beat}, not in the tile's memory")
        if slot["post"] == Post.ADD.value:
            pointer.at += slot["step"]
        elif slot["post"] == Post.WALK.value:
            step = pointer.walk()
            if step is None:
                self.report(f"p{number} walks by a register that was never set")
            pointer.at += step or 0
        return beat

    def _set(self, fields: Mapping[str, int], used: set[int]) -> None:
        which, number = divmod(fields["register"], 8)
        pointer = self.pointers[number]
        if which == AguRegister.POINTER:
            if number in used:
                self.report(f"p{number} is set while it is used")
            pointer.at, pointer.c1, pointer.c2 = fields["value"], 0, 0
        else:
            pointer.registers[which] = fields["value"]


def _added(total: int, part: Name) -> int:
    """A sum that does not tell the order of its parts."""
    return (total + hash(part)) % (1 << 64)


class _Formulas:
    """What a layer is to leave in each beat of its output, and to put on its cascade.

    Args:
        memory: names in memory when it begins. got: words that were taken from the cascade before.
    """

    def __init__(self, product: Product, at: Addresses, memory: Mapping[int, Name], got: int):
        self._product, self._at, self._memory, self._got = product, at, memory, got
        settings = dict(shift=product.shift, rounding=product.rounding.value, saturation=product.saturation.value,
                        signed=int(product.signed), unused=0)
        self._srs = tuple(sorted(settings.items()))
        self.puts: list[Name] = []
        self.beats: dict[int, Name] = {}
        shape = product.shape
        for block in range(shape.blocks):
            for tile, part in shape.words if not shape.role.ends else ():
                self.puts.append(self._sum(block, tile, part))
            for row, column, half in shape.stores:
                self._store(block, row, column, half)

    def _held(self, beat: int) -> Name:
        return self._memory.get(beat, ("memory", beat))

    def _store(self, block: int, row: int, column: int, half: int) -> None:
        shape = self._product.shape
        parts = range(shape.generation.acc_parts)
        sums = tuple(self._sum(block, row * shape.columns + column, each) for each in parts)
        name: Name = ("srs", shape.form.value, half, self._srs, sums)
        row_block, column_block = divmod(block, shape.column_blocks)
        across = (column_block * shape.columns + column) * shape.halves + half
        beat = self._at.output + (row_block * shape.rows + row) * shape.output_beats + across
        self.beats[beat] = ("max", int(shape.wide_results), name) if shape.relu else name

    def _sum(self, block: int, tile: int, part: int) -> int:
        shape, at = self._product.shape, self._at
        row_block, column_block = divmod(block, shape.column_blocks)
        row, column = divmod(tile, shape.columns)
        if shape.role.begins:
            bias = self._held(at.bias + column_block * shape.columns + column)
            total = _added(0, ("bias", part, int(shape.mac == Mac.I16X16), bias))
        else:
            total = _added(0, ("cascade", self._got + block * len(shape.words) + shape.words.index((tile, part))))
        for step in range(shape.steps):
            a, b, signs = self._operands(row_block, column_block, row, column, step)
            tiles = [self._held(b + k) for k in range(shape.second_beats)]
            name = shape.mac.value, *signs, shape.second_at(column)[1], self._held(a), *tiles
            total = _added(total, (part, name))
        return total

    def _operands(
        self, row_block: int, column_block: int, row: int, column: int, step: int
    ) -> tuple[int, int, tuple[int, int]]:
        """Beats of the two tiles that a step multiplies, and whether they have signs."""
        shape, at, signs = self._product.shape, self._at, self._product.signs
        above, within = row_block * shape.rows + row, shape.second_at(column)[0]
        if shape.job == Job.TRANSPOSE:  # of several steps, each with a column of blocks and a tile of the unit matrix
            block = (row_block * shape.steps + step) * shape.column_blocks + column_block
            return at.input + row + step, at.weights + block * shape.step_beats + within, (1, int(signs[0]))
        if shape.job == Job.ADD:  # operand, and which of its tiles along the row
            operand, tile = step % 2, column_block * (shape.steps // 2) + step // 2
            a = at.input + above * shape.input_beats + operand * (shape.input_beats // 2) + tile
            return a, at.weights + step * shape.step_beats, (int(signs[operand]), 1)
        b = at.weights + (column_block * shape.steps + step) * shape.step_beats + within
        return at.input + above * shape.input_beats + step, b, (int(signs[0]), 1)


def wrong_in(
    program: bytes, layers: Sequence[tuple[Product, Addresses]], guards: Sequence[Guard] = (), limit: int = 1_000_000
) -> list[str]:
    """What a program does that it should not; [] if it computes just these layers, one after the other.

    It ends with HALT, or with its return to the begin of an endless loop.

    Args:
        guards: what locks protect. limit: of cycles.
    """
    words = [int.from_bytes(program[k : k + INSTRUCTION_BYTES], "little")
             for k in range(0, len(program), INSTRUCTION_BYTES)]  # fmt: skip
    core, queue = _Core(layers[0][0].shape.generation, guards), list(layers)
    loops: list[list[int]] = []
    beats: dict[int, Name] = {}
    puts: list[Name] = []
    got, layer, last_cycle = 0, 0, limit
    while core.cycle < last_cycle and len(core.found) < _MOST:
        if not beats and not puts and queue:
            product, at = queue.pop(0)
            wanted = _Formulas(product, at, core.memory, got)
            beats, puts, layer = wanted.beats, wanted.puts, layer + 1
            got += 0 if product.shape.role.begins else product.shape.blocks * len(product.shape.words)
        for beat, name in core.land():
            if beats.pop(beat, None) != name:
                core.report(f"what is stored in beat {beat} is not what layer {layer} computes there")
            core.memory[beat] = ("layer", layer, beat)
        if last_cycle == limit:
            if core.pc >= len(words):
                core.report("the program has no HALT")
                break
            slots = _decoded(words[core.pc])
            core.issue(slots)
            core.release(slots)
            for name in core.puts:
                if (puts.pop(0) if puts else None) != name:
                    core.report(f"what is put on the cascade is not what layer {layer} has there")
            core.puts.clear()
            last_cycle = _last_cycle(core, loops, slots, limit)
            core.pc = _next(core, loops, slots)
        core.cycle += 1
    if last_cycle == limit and not core.found:
        core.report(f"no HALT within {limit} cycles")
    if (beats or puts or queue) and not core.found:
        core.report(f"{len(beats)} beats and {len(puts)} words of the cascade of layer {layer} are never made, and "
                    f"{len(queue)} layers not begun")
    if core.held and not core.found:
        core.report(f"locks {sorted(core.held)} are never released")
    return core.found


def _last_cycle(core: _Core, loops: Sequence[Sequence[int]], slots: Mapping[str, Mapping[str, int]], limit: int) -> int:
    """When all is done, if this instruction ends the program; else `limit`."""
    endless = bool(loops) and loops[-1][1] == core.pc and loops[-1][2] <= 0
    if endless or slots["control"]["op"] == ControlOp.HALT.value:
        return core.cycle + LATENCY["store_memory"] + 2
    return limit


def _next(core: _Core, loops: list[list[int]], slots: Mapping[str, Mapping[str, int]]) -> int:
    """The program counter after this instruction; `loops`: (first, last, turns), the innermost one last."""
    pc, following = core.pc, core.pc + 1
    if loops and loops[-1][1] == pc:
        if loops[-1][2] == 1:
            loops.pop()
        else:
            loops[-1][2] -= 1
            following = loops[-1][0]
    if slots["control"]["op"] == ControlOp.LOOP.value:
        body = slots["loop"]["body"]
        if body < 2 or len(loops) == LOOP_LEVELS or (loops and loops[-1][1] <= pc + body):
            core.report("a loop of less than two instructions, of a fourth level, or that ends with its outer one")
        loops.append([pc + 1, pc + body, slots["loop"]["count"]])
    return following
