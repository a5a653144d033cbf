# SPDX-License-Identifier: Apache-2.0
"""What a program of the AIE-ML core reads too early, by the manual: a model that shares nothing with the RTL's monitor,
nor with the compiler's checker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nncosim.compiler.aie_ml.loops import Line
from nncosim.compiler.aie_ml.notes import early_read
from nncosim.hdl.aie_ml.agu import POINTER_BITS
from nncosim.hdl.aie_ml.isa import (
    INSTRUCTION_BYTES,
    Control,
    ControlOp,
    Form,
    Instruction,
    Load,
    Mac,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Set,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.formats import decode
from nncosim.regress.aie_ml_programs import issue_order

__all__ = ["EarlyRead", "Generator", "early_reads", "early_reads_of", "lines_of"]

_MASK = (1 << POINTER_BITS) - 1
_SLOTS = {"load_a": Load, "load_b": Load, "store": Store, "vector": Vector, "move": Move, "control": Control}
_PLACES = {name: (member.offset, member.width) for name, member in Instruction.as_shape()}
Fields = Mapping[str, Mapping[str, int]]


class Generator:
    """One pointer, by the manual."""

    def __init__(self):
        self.at = self.inc = self.n1 = self.s1 = self.n2 = self.s2 = self.c1 = self.c2 = 0

    def step(self, post: int, step: int) -> None:
        if post == Post.ADD.value:
            self.at += step
        elif post == Post.WALK.value:
            if self.c1 + 1 < self.n1:
                self.c1, self.at = self.c1 + 1, self.at + self.inc
            elif self.c2 + 1 < self.n2:
                self.c1, self.c2, self.at = 0, self.c2 + 1, self.at + self.s1
            else:
                self.c1, self.c2, self.at = 0, 0, self.at + self.s2
        self.at &= _MASK

    def set(self, which: int, value: int) -> None:
        if which == 0:
            self.at, self.c1, self.c2 = value & _MASK, 0, 0
        elif which < 6:
            name = ("inc", "n1", "s1", "n2", "s2")[which - 1]
            setattr(self, name, value & 2047 if name in ("n1", "n2") else value)


@dataclass(frozen=True, order=True)
class EarlyRead:
    """The issue that reads (counted from 0), its program counter, how many cycles too early, which register (as in
    `nncosim.compiler.aie_ml.notes.early_read`), and the program counter of the instruction that writes it."""

    issue: int
    pc: int
    cycles: int
    register: int
    writer: int

    @property
    def number(self) -> int:
        return early_read(self.pc, self.cycles, self.register)


def lines_of(program: bytes) -> list[Line]:
    """The instructions of a program."""
    words = [int.from_bytes(program[k : k + INSTRUCTION_BYTES], "little")
             for k in range(0, len(program), INSTRUCTION_BYTES)]  # fmt: skip
    out = []
    for word in words:
        slots = {name: word >> offset & (1 << width) - 1 for name, (offset, width) in _PLACES.items()}
        out.append(Line(tuple(sorted((name, bits) for name, bits in slots.items() if bits))))
    return out


def _fields(line: Line) -> Fields:
    bits = dict(line.slots)
    out = {name: decode(fmt, bits.get(name, 0)) for name, fmt in _SLOTS.items()}
    return out | {"move_set": decode(MoveSet, bits.get("move", 0)), "set": decode(Set, out["control"]["payload"])}


def _half(number: int, half: int) -> int:
    return 32 + 16 * half + number


def _of_accumulator(slot: Mapping[str, int]) -> list[int]:
    if slot["form"] in (Form.ACC32_16.value, Form.ACC64_32.value):
        return [_half(slot["source"], slot["half"])]
    return [_half(slot["source"], 0), _half(slot["source"], 1)]


def _reads(slots: Fields) -> Iterator[tuple[int, int]]:
    """Registers, and how many cycles after the issue they are read."""
    store, mac, move = slots["store"], slots["vector"], slots["move"]
    if store["op"] == StoreOp.VST_SRS.value:
        yield from ((each, 0) for each in _of_accumulator(store))
    elif store["op"]:
        yield store["source"], 0
    if mac["op"]:
        yield from ((mac["a"], 0), (mac["b"], 0))
        if mac["op"] == Mac.I8X8.value:
            yield mac["b"] + 1, 0
        if not mac["clear"]:
            yield from ((_half(mac["acc"], half), 2) for half in range(2))
    if move["op"] in (MoveOp.BIAS.value, MoveOp.MAX.value):
        yield move["source"], 0
    elif move["op"] == MoveOp.SRS.value:
        yield from ((each, 0) for each in _of_accumulator(move))
    elif move["op"] == MoveOp.PUT.value:
        yield _half(move["source"], move["half"]), 0


def _writes(slots: Fields) -> Iterator[tuple[int, int]]:
    """Registers, and how many cycles after the issue an instruction may read the result."""
    mac, move = slots["vector"], slots["move"]
    for name in ("load_a", "load_b"):
        if slots[name]["valid"]:
            yield slots[name]["vector"], 7
    if mac["op"]:
        yield from ((_half(mac["acc"], half), 5) for half in range(2))
    if move["op"] == MoveOp.BIAS.value:
        yield from ((_half(move["dest"], half), 3) for half in range(2))
    elif move["op"] == MoveOp.SRS.value:
        yield move["dest"], 4
    elif move["op"] == MoveOp.MAX.value:
        yield move["dest"], 2
    elif move["op"] == MoveOp.GET.value:
        yield _half(move["dest"], move["half"]), 7


def early_reads(program: bytes) -> Iterator[EarlyRead]:
    """All of a run from the begin on to the end of the program, in the order in which they happen.

    A loop without end is gone through once.
    """
    decoded, pointers = [_fields(line) for line in lines_of(program)], [Generator() for _ in range(8)]
    comes: dict[int, list[tuple[int, int]]] = {}  # of a register: when it may be read, and which instruction writes it
    stored: tuple[int, int, int] = (-1, -1, -1)
    for issue, pc in enumerate(issue_order(lines_of(program))):
        slots = decoded[pc]
        for register, late in _reads(slots):
            early = [(when - issue - late, writer) for when, writer in comes.get(register, ()) if when > issue + late]
            yield from (EarlyRead(issue, pc, cycles, register, writer) for cycles, writer in early)
        for k, name in enumerate(("load_a", "load_b")):
            if slots[name]["valid"] and stored[:2] == (issue - 1, pointers[slots[name]["pointer"]].at):
                yield EarlyRead(issue, pc, 1, 24 + k, stored[2])
        for register, cycles in _writes(slots):
            later = [each for each in comes.get(register, ()) if each[0] > issue]
            comes[register] = [*later, (issue + cycles, pc)]
        if slots["store"]["op"]:
            stored = issue, pointers[slots["store"]["pointer"]].at, pc
        _move_pointers(slots, pointers)


def _move_pointers(slots: Fields, pointers: list[Generator]) -> None:
    used = slots["load_a"]["valid"], slots["load_b"]["valid"], slots["store"]["op"]
    for name, valid in zip(("load_a", "load_b", "store"), used, strict=True):
        if valid:
            pointers[slots[name]["pointer"]].step(slots[name]["post"], slots[name]["step"])
    for slot, op, setting in (("move", MoveOp.SET, "move_set"), ("control", ControlOp.SET, "set")):
        if slots[slot]["op"] == op.value:
            which, pointer = divmod(slots[setting]["register"], 8)
            pointers[pointer].set(which, slots[setting]["value"])


def early_reads_of(program: bytes) -> tuple[int, ...]:
    """What an image says of a program in which all of them are meant."""
    return tuple(sorted({each.number for each in early_reads(program)}))
