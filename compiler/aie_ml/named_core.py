# SPDX-License-Identifier: Apache-2.0
"""The core by its manual, with names in place of numbers: what a program leaves in registers and memory, as formulas.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from nncosim.compiler.aie_ml.notes import BEAT_A, BEAT_B, acc_part, early_read
from nncosim.hdl.aie_ml.isa import (
    LATENCY,
    LOOP_LEVELS,
    AguRegister,
    Control,
    ControlOp,
    Form,
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
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["Event", "Guard", "Lock", "Name", "NamedCore", "Slots", "added", "decoded", "end_of", "following", "of_west"]

_SLOTS = {"load_a": Load, "load_b": Load, "store": Store, "vector": Vector, "move": Move, "control": Control}
_BITS = {name: (member.offset, member.width) for name, member in Instruction.as_shape()}
"""Where each slot is, and how wide."""
_UNKNOWN = ("unknown",)
Name = Hashable
Lock = tuple[bool, int]
"""Whether it is the west neighbour's, and its number."""
Slots = Mapping[str, Mapping[str, int]]
"""Of an instruction, by their names: fields of each."""


@dataclass(frozen=True)
class Guard:
    """Beats that may be accessed only between the acquire of one lock and the release of the other.

    west: the locks are the west neighbour's.
    """

    beats: range
    acquired: int
    released: int
    west: bool = False

    @property
    def lock(self) -> Lock:
        """That is held."""
        return self.west, self.acquired


@lru_cache(maxsize=4096)
def decoded(word: int) -> Slots:
    """An instruction's slots; of the control slot also its payload in each of its forms."""
    slots = {name: word >> offset & (1 << width) - 1 for name, (offset, width) in _BITS.items()}
    out = {name: decode(fmt, slots[name]) for name, fmt in _SLOTS.items()}
    out["move_set"] = decode(MoveSet, slots["move"])
    payload = out["control"]["payload"]
    return out | {name: decode(fmt, payload) for name, fmt in
                  (("set", Set), ("loop", Loop), ("srs", Srs), ("lock", LockUse))}


@dataclass
class _Generator:
    at: int | None = None
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


class Event(NamedTuple):
    """What a core does that others may see. what: "acquire", "release", "load", "store". west: in the west neighbour.
    number: of a lock, of a beat in that tile's memory. value: of a lock, what is acquired or added."""

    what: str
    west: bool
    number: int
    value: int = 0


class NamedCore:
    """The core's state in names. Sums are numbers modulo 2**64 made from the names of what was added, in any order.

    events: in the order of the cycles in which they count; of one cycle, accesses come before what is acquired and
    released. early_reads: numbers of `nncosim.compiler.aie_ml.notes.early_read`, of all that was read while a write to
    it, which an earlier instruction makes, was in flight.
    """

    def __init__(self, generation: Generation, guards: Sequence[Guard]) -> None:
        self.generation, self.parts = generation, range(generation.acc_parts)
        self.guards, self.held, self.events = guards, set[Lock](), list[Event]()
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
        self.early_reads: set[int] = set()
        self._in_flight: dict[int, list[int]] = {}
        self._written: list[tuple[int, int]] = []
        self._stored = (-1, -1)

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
            self._accessed("store", beat)
            self.memory[beat] = name
            yield beat, name
        for beat, vector in self.loads.pop(self.cycle, ()):
            self._accessed("load", beat)
            name = self.memory.get(beat, ("memory", beat))
            self._later(LATENCY["load"] - LATENCY["load_memory"], "w", vector, name)
        if self.cycle in self.sums:
            number, clear, product = self.sums.pop(self.cycle)
            for part in self.parts:
                before = 0 if clear else self.accumulators.get((number, part), hash(_UNKNOWN))
                self._later(LATENCY["mac"] - LATENCY["mac_reads"], "cm", (number, part), added(before, (part, product)))

    def _accessed(self, what: str, beat: int) -> None:
        """In the west neighbour's memory nothing is the core's but what a guard is for."""
        beats = self.generation.beats
        west, mine = beat >= beats, [each for each in self.guards if beat in each.beats]
        self.events.append(Event(what, west, beat % beats))
        if west and not mine:
            self.report(f"beat {beat}, of the west neighbour's memory, is accessed, and no lock is for it")
        for each in mine:
            if each.lock not in self.held:
                self.report(f"beat {beat} is accessed without lock {each.acquired}{of_west(each.west)}")

    def _later(self, cycles: int, file: str, number: Hashable, name: Name) -> None:
        self.landing.setdefault(self.cycle + cycles, []).append((file, number, name))

    def issue(self, slots: Slots) -> None:
        used: set[int] = set()
        for name in ("load_a", "load_b"):
            if slots[name]["valid"]:
                beat = self._use(slots[name], used)
                self.loads.setdefault(self.cycle + LATENCY["load_memory"], []).append((beat, slots[name]["vector"]))
                if self._stored == (self.cycle - 1, beat):
                    self.early_reads.add(early_read(self.pc, 1, {"load_a": BEAT_A, "load_b": BEAT_B}[name]))
                self._written.append((slots[name]["vector"], LATENCY["load"]))
        store, mac = slots["store"], slots["vector"]
        if store["op"]:
            fused = store["op"] == StoreOp.VST_SRS.value
            value = self._requantized(store) if fused else self._vector(store["source"])
            beat = self._use(store, used)
            self.stores[self.cycle + LATENCY["store_memory"]] = beat, value
            self._stored = self.cycle, beat
        if mac["op"]:
            names = [self._vector(mac["a"]), self._vector(mac["b"])]
            if mac["op"] == Mac.I8X8.value and not self.generation.wide_words:
                names.append(self._vector(mac["b"] + 1))
            if not mac["clear"]:
                self._read((self._part(mac["acc"], part) for part in self.parts), LATENCY["mac_reads"])
            self._written += [(self._part(mac["acc"], part), LATENCY["mac"]) for part in self.parts]
            product = (mac["op"], mac["a_signed"], mac["b_signed"], mac["b_half"], *names)
            self.sums[self.cycle + LATENCY["mac_reads"]] = mac["acc"], mac["clear"], product
        self._move(slots, used)
        if slots["control"]["op"] == ControlOp.SET.value:
            self._set(slots["set"], used)
        if slots["control"]["op"] == ControlOp.SRS.value:
            self.srs = tuple(sorted(slots["srs"].items()))
        if slots["control"]["op"] == ControlOp.ACQUIRE.value:
            self.held.add(self._lock("acquire", slots["lock"]))
        self._begin_writes()

    def _part(self, number: int, part: int) -> int:
        """Of an accumulator, as `early_read` takes it."""
        return acc_part(number, part, len(self.parts))

    def _vector(self, number: int) -> Name:
        self._read((number,))
        return self.vectors.get(number, _UNKNOWN)

    def _read(self, registers: Iterable[int], late: int = 0) -> None:
        """Registers, by the numbers of `early_read`, are read so many cycles after this one."""
        for register in registers:
            for there in self._in_flight.get(register, ()):
                if there > self.cycle + late:
                    self.early_reads.add(early_read(self.pc, there - self.cycle - late, register))

    def _begin_writes(self) -> None:
        """What the instruction writes is in flight for those that come after it."""
        for register, cycles in self._written:
            left = [there for there in self._in_flight.get(register, ()) if there > self.cycle]
            self._in_flight[register] = [*left, self.cycle + cycles]
        self._written.clear()

    def release(self, slots: Slots) -> None:
        """After the cycle's accesses."""
        if slots["control"]["op"] == ControlOp.RELEASE.value:
            released = self._lock("release", slots["lock"])
            self.held -= {each.lock for each in self.guards if (each.west, each.released) == released}

    def _lock(self, what: str, use: Mapping[str, int]) -> Lock:
        west, number = bool(use["west"]), use["lock"]
        self.events.append(Event(what, west, number, use["value"]))
        if use["equal"]:
            self.report(f"lock {number}{of_west(west)} is acquired when it is just {use['value']}")
        return west, number

    def _move(self, slots: Slots, used: set[int]) -> None:
        move = slots["move"]
        if move["op"] == MoveOp.SET.value:
            self._set(slots["move_set"], used)
        elif move["op"] == MoveOp.BIAS.value:
            source = self._vector(move["source"])
            for part in self.parts:
                total = added(0, ("bias", part, move["wide"], source))
                self._later(LATENCY["bias"], "cm", (move["dest"], part), total)
                self._written.append((self._part(move["dest"], part), LATENCY["bias"]))
        elif move["op"] == MoveOp.GET.value:
            place = move["dest"], move["half"] + 2 * move["high"]
            self._written.append((self._part(*place), LATENCY["cascade_get"]))
            self._later(LATENCY["cascade_get"], "cm", place, added(0, ("cascade", self.gets)))
            self.gets += 1
        elif move["op"] == MoveOp.PUT.value:
            if slots["store"]["op"] == StoreOp.VST_SRS.value:
                self.report("PUT and VST.SRS at once")
            place = move["source"], move["half"] + 2 * move["high"]
            self._read((self._part(*place),))
            self.puts.append(self.accumulators.get(place, _UNKNOWN))
        elif move["op"] == MoveOp.SRS.value:
            if slots["store"]["op"] == StoreOp.VST_SRS.value:
                self.report("SRS and VST.SRS at once")
            self._later(LATENCY["srs"], "w", move["dest"], self._requantized(move))
            self._written.append((move["dest"], LATENCY["srs"]))
        elif move["op"] == MoveOp.MAX.value:
            self._later(LATENCY["max"], "w", move["dest"], ("max", move["wide"], self._vector(move["source"])))
            self._written.append((move["dest"], LATENCY["max"]))
        elif move["op"]:
            self.report(f"move slot: operation {move['op']}")

    def _requantized(self, slot: Mapping[str, int]) -> Name:
        halves = (slot["half"],) if slot["form"] in (Form.ACC32_16.value, Form.ACC64_32.value) else (0, 1)
        size = len(self.parts) // 2
        self._read(self._part(slot["source"], size * half + k) for half in halves for k in range(size))
        sums = tuple(self.accumulators.get((slot["source"], part), _UNKNOWN) for part in self.parts)
        return ("srs", slot["form"], slot["half"], self.srs, sums)

    def _use(self, slot: Mapping[str, int], used: set[int]) -> int:
        """The beat that is accessed."""
        number = slot["pointer"]
        if number in used:
            self.report(f"two slots use p{number}")
        used.add(number)
        pointer = self.pointers[number]
        beat, step = pointer.at, 0
        if beat is None:
            self.report(f"p{number} was never set")
            beat = 0
        if slot["post"] == Post.ADD.value:
            step = slot["step"]
        elif slot["post"] == Post.WALK.value:
            walked = pointer.walk()
            if walked is None:
                self.report(f"p{number} walks by a register that was never set")
            step = walked or 0
        pointer.at = (beat + step) % self.generation.pointers
        return beat

    def _set(self, fields: Mapping[str, int], used: set[int]) -> None:
        which, number = divmod(fields["register"], 8)
        pointer = self.pointers[number]
        if which == AguRegister.POINTER:
            if number in used:
                self.report(f"p{number} is set while it is used")
            pointer.at, pointer.c1, pointer.c2 = fields["value"] % self.generation.pointers, 0, 0
        else:
            pointer.registers[which] = fields["value"]


def of_west(west: bool) -> str:
    """How a message says whose lock it is."""
    return " of the west neighbour" if west else ""


def added(total: int, part: Name) -> int:
    """A sum that does not tell the order of its parts."""
    return (total + hash(part)) % (1 << 64)


def end_of(core: NamedCore, loops: Sequence[Sequence[int]], slots: Slots, limit: int) -> int:
    """When all is done, if this instruction ends the program; else `limit`."""
    endless = bool(loops) and loops[-1][1] == core.pc and loops[-1][2] <= 0
    if endless or slots["control"]["op"] == ControlOp.HALT.value:
        return core.cycle + LATENCY["store_memory"] + 2
    return limit


def following(core: NamedCore, loops: list[list[int]], slots: Slots) -> int:
    """The program counter after this instruction; `loops`: (first, last, turns), the innermost one last."""
    pc, after = core.pc, core.pc + 1
    if loops and loops[-1][1] == pc:
        if loops[-1][2] == 1:
            loops.pop()
        else:
            loops[-1][2] -= 1
            after = loops[-1][0]
    if slots["control"]["op"] == ControlOp.LOOP.value:
        body = slots["loop"]["body"]
        if body < 2 or len(loops) == LOOP_LEVELS or (loops and loops[-1][1] <= pc + body):
            core.report("a loop of less than two instructions, of a fourth level, or that ends with its outer one")
        loops.append([pc + 1, pc + body, slots["loop"]["count"]])
    return after
