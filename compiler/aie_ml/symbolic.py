# SPDX-License-Identifier: Apache-2.0
"""The core's state in names in place of numbers, moved on by encoded instructions, as its manual says."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nncosim.compiler.aie_ml.notes import BEAT_A, BEAT_B, acc_half, early_read
from nncosim.hdl.aie_ml.isa import (
    LATENCY,
    MEMORY_BEATS,
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

__all__ = ["Guard", "Name", "Slots", "SymbolicCore", "added", "decoded"]

_SLOTS = {"load_a": Load, "load_b": Load, "store": Store, "vector": Vector, "move": Move, "control": Control}
_BITS = {name: (member.offset, member.width) for name, member in Instruction.as_shape()}
"""Where each slot is, and how wide."""
UNKNOWN = ("unknown",)
Name = Hashable
Slots = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Guard:
    """Beats that may be accessed only between the acquire of one lock and the release of the other."""

    beats: range
    acquired: int
    released: int


@lru_cache(maxsize=4096)
def decoded(word: int) -> dict[str, dict[str, int]]:
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


class SymbolicCore:
    """The core's state in names. Sums are numbers modulo 2**64 made from the names of what was added, in any order.

    early_reads: numbers of `nncosim.compiler.aie_ml.notes.early_read`, of all that was read while a write to it, which
    an earlier instruction makes, was in flight.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards, self.held = guards, set[int]()
        self.vectors: dict[int, Name] = {}
        self.accumulators: dict[tuple[int, int], int] = {}
        self.memory: dict[int, Name] = {}
        self.pointers = [_Generator() for _ in range(8)]
        self.srs: Name = UNKNOWN
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
            self._guarded(beat)
            self.memory[beat] = name
            yield beat, name
        for beat, vector in self.loads.pop(self.cycle, ()):
            self._guarded(beat)
            name = self.memory.get(beat, ("memory", beat))
            self._later(LATENCY["load"] - LATENCY["load_memory"], "w", vector, name)
        if self.cycle in self.sums:
            number, clear, product = self.sums.pop(self.cycle)
            for half in range(2):
                total = added(0 if clear else self.accumulators.get((number, half), hash(UNKNOWN)), product)
                self._later(LATENCY["mac"] - LATENCY["mac_reads"], "cm", (number, half), total)

    def _guarded(self, beat: int) -> None:
        for each in self.guards:
            if beat in each.beats and each.acquired not in self.held:
                self.report(f"beat {beat} is accessed without lock {each.acquired}")

    def _later(self, cycles: int, file: str, number: Hashable, name: Name) -> None:
        self.landing.setdefault(self.cycle + cycles, []).append((file, number, name))

    def issue(self, slots: Slots) -> None:
        used: set[int] = set()
        for name in ("load_a", "load_b"):
            if slots[name]["valid"]:
                beat = self._use(slots[name], used)
                if self._stored == (self.cycle - 1, beat):
                    self.early_reads.add(early_read(self.pc, 1, {"load_a": BEAT_A, "load_b": BEAT_B}[name]))
                self._written.append((slots[name]["vector"], LATENCY["load"]))
                self.loads.setdefault(self.cycle + LATENCY["load_memory"], []).append((beat, slots[name]["vector"]))
        store, mac = slots["store"], slots["vector"]
        if store["op"]:
            fused = store["op"] == StoreOp.VST_SRS.value
            value = self._requantized(store) if fused else self._vector(store["source"])
            beat = self._use(store, used)
            self.stores[self.cycle + LATENCY["store_memory"]] = beat, value
            self._stored = self.cycle, beat
        if mac["op"]:
            names = [self._vector(mac["a"]), self._vector(mac["b"])]
            if mac["op"] == Mac.I8X8.value:
                names.append(self._vector(mac["b"] + 1))
            if not mac["clear"]:
                self._read((acc_half(mac["acc"], half) for half in range(2)), LATENCY["mac_reads"])
            self._written += [(acc_half(mac["acc"], half), LATENCY["mac"]) for half in range(2)]
            product = (mac["op"], mac["a_signed"], mac["b_signed"], *names)
            self.sums[self.cycle + LATENCY["mac_reads"]] = mac["acc"], mac["clear"], product
        self._move(slots, used)
        if slots["control"]["op"] == ControlOp.SET.value:
            self._set(slots["set"], used)
        if slots["control"]["op"] == ControlOp.SRS.value:
            self.srs = tuple(sorted(slots["srs"].items()))
        if slots["control"]["op"] == ControlOp.ACQUIRE.value:
            self.held.add(slots["lock"]["lock"])
        self._begin_writes()

    def _vector(self, number: int) -> Name:
        self._read((number,))
        return self.vectors.get(number, UNKNOWN)

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
            for each in self.guards:
                if each.released == slots["lock"]["lock"]:
                    self.held.discard(each.acquired)

    def _move(self, slots: Slots, used: set[int]) -> None:
        move = slots["move"]
        if move["op"] == MoveOp.SET.value:
            self._set(slots["move_set"], used)
        elif move["op"] == MoveOp.BIAS.value:
            source = self._vector(move["source"])
            for half in range(2):
                total = added(0, ("bias", move["wide"], source))
                self._later(LATENCY["bias"], "cm", (move["dest"], half), total)
                self._written.append((acc_half(move["dest"], half), LATENCY["bias"]))
        elif move["op"] == MoveOp.GET.value:
            self._written.append((acc_half(move["dest"], move["half"]), LATENCY["cascade_get"]))
            self._later(LATENCY["cascade_get"], "cm", (move["dest"], move["half"]), added(0, ("cascade", self.gets)))
            self.gets += 1
        elif move["op"] == MoveOp.PUT.value:
            if slots["store"]["op"] == StoreOp.VST_SRS.value:
                self.report("PUT and VST.SRS at once")
            self._read((acc_half(move["source"], move["half"]),))
            self.puts.append(self.accumulators.get((move["source"], move["half"]), UNKNOWN))
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
        half = slot["form"] in (Form.ACC32_16.value, Form.ACC64_32.value)
        self._read(acc_half(slot["source"], each) for each in ((slot["half"],) if half else range(2)))
        sums = tuple(self.accumulators.get((slot["source"], half), UNKNOWN) for half in range(2))
        return ("srs", slot["form"], slot["half"], self.srs, sums)

    def _use(self, slot: Mapping[str, int], used: set[int]) -> int:
        """The beat that is accessed."""
        number = slot["pointer"]
        if number in used:
            self.report(f"two slots use p{number}")
        used.add(number)
        pointer = self.pointers[number]
        beat = pointer.at
        if not 0 <= beat < MEMORY_BEATS:
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


def added(total: int, part: Name) -> int:
    """A sum that does not tell the order of its parts."""
    return (total + hash(part)) % (1 << 64)
