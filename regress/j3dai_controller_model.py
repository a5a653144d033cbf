# SPDX-License-Identifier: Apache-2.0
"""A cluster's controller, cycle by cycle, as the manual and the ports' descriptions have it: sections 2, 2.4 and 4."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nncosim.hdl.formats import decode
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Opcode
from nncosim.hdl.j3dai.timing import record_lines

__all__ = ["LEVELS", "ControllerInputs", "ControllerModel"]

START = 7  # the semaphore that begins a program
LEVELS = 4
DRAINED = (Opcode.HALT, Opcode.FENCE)


@dataclass
class ControllerInputs:
    """Of one cycle."""

    start: bool = False
    start_pc: int = 0
    signal_in: int = 0
    sequencer_busy: bool = False
    in_flight: bool = False
    set_busy: int = 0
    instruction: int = 0


@dataclass
class ControllerModel:
    """State, the outputs of a cycle (`outputs`), and what comes after it (`step`).

    `seen` counts events, and events that met in one cycle.
    """

    pes: int
    semaphores: list[int] = field(default_factory=lambda: [0] * 8)
    stack: list[list[int]] = field(default_factory=list)  # first, last, turns left
    stage: str = ""  # fetch, decode, execute
    word: int = 0
    pc: int = 0
    armed: bool = False
    running: bool = False
    trap: bool = False
    start_pc: int = 0
    records: int = 0  # cycles until the records of an LDP are read
    seen: Counter[str] = field(default_factory=Counter)

    def executes(self, i: ControllerInputs) -> tuple[Opcode | None, bool, dict[str, int]]:
        """What executes in this cycle, or whether it traps; its fields."""
        if self.stage != "execute":
            return None, False, {}
        if self.word & 63 not in INSTRUCTIONS:
            return None, not i.sequencer_busy, {}
        opcode = Opcode(self.word & 63)
        f = decode(INSTRUCTIONS[opcode], _low(self.word, opcode))
        if opcode == Opcode.LOOP:
            wrong = not f["count"] or not f["body"] or len(self.stack) == LEVELS
            return (None, True, f) if wrong else (opcode, False, f)
        ready = opcode == Opcode.NOP or not i.sequencer_busy
        if opcode in DRAINED:
            ready &= not i.in_flight
        if opcode == Opcode.WAIT:
            ready &= self.semaphores[f["semaphore"]] > 0
        if opcode == Opcode.LDP:
            ready &= not i.set_busy >> f["pset"] & 1 and not self.records
        return (opcode if ready else None), False, f

    def begins(self) -> bool:
        return self.armed and not self.running and not self.trap and self.semaphores[START] > 0

    def outputs(self, i: ControllerInputs) -> dict[str, int]:
        """Those that count in this cycle."""
        opcode, _, f = self.executes(i)
        out = {"running": int(self.running), "armed": int(self.armed), "trap": int(self.trap),
               "fetch": int(self.stage == "fetch"), "executes": 1 << opcode if opcode else 0,
               "signal": 1 << f["semaphore"] if opcode == Opcode.SIGNAL else 0}
        if self.stage in ("fetch", "execute"):
            out["pc"] = self.pc
        if opcode:
            out["ir"] = self.word
        if not self.trap:
            out |= self._waits(i)
        return out

    def _waits(self, i: ControllerInputs) -> dict[str, int]:
        if not self.running:
            return {"waits": int(self.armed)} | ({"waited": START} if self.armed else {})
        if self.stage == "execute" and self.word & 63 == Opcode.WAIT and not i.sequencer_busy:
            which = self.word >> 6 & 7
            if not self.semaphores[which]:
                return {"waits": 1, "waited": which}
        return {"waits": 0}

    def step(self, i: ControllerInputs) -> None:
        """What the clock edge at the end of this cycle does."""
        opcode, fault, f = self.executes(i)
        begins, was_trapped = self.begins(), self.trap
        self._count(i, opcode, fault, f, begins)
        taken = {f["semaphore"]} if opcode == Opcode.WAIT else set()
        self._semaphores(i.signal_in, taken | ({START} if begins else set()))
        self.records = record_lines(self.pes) - 1 if opcode == Opcode.LDP else max(0, self.records - 1)
        if self.stage == "decode":
            self.word, self.stage = i.instruction, "execute"
        elif self.stage == "fetch":
            self.stage = "decode"
        elif opcode:
            self.pc, self.stage = self._after(opcode, f), "fetch"
        if opcode == Opcode.HALT or fault:
            self.running, self.stage = False, ""
        if begins:
            self.running, self.armed, self.stage, self.pc, self.stack = True, False, "fetch", self.start_pc, []
        if fault or (i.start and self.armed):
            self.trap = True
        if i.start:
            self.armed, self.start_pc = True, i.start_pc
        if was_trapped:
            self.running, self.stage = False, ""

    def _semaphores(self, signals: int, taken: set[int]) -> None:
        for k in range(8):
            up, down = signals >> k & 1, k in taken
            if up != down:
                self.semaphores[k] = min(255, self.semaphores[k] + up - down)

    def _after(self, opcode: Opcode, f: dict[str, int]) -> int:
        """The pc after the instruction; the stack follows."""
        following = (self.pc + 1) % 512
        if opcode == Opcode.LOOP:
            self.stack.append([following, (self.pc + f["body"]) % 512, f["count"] - 1])
        elif self.stack and self.stack[-1][1] == self.pc:
            if self.stack[-1][2]:
                self.stack[-1][2] -= 1
                return self.stack[-1][0]
            self.stack.pop()
        return following

    def _count(self, i: ControllerInputs, opcode: Opcode | None, fault: bool, f: dict[str, int], begins: bool) -> None:
        seen, up = self.seen, i.signal_in
        happens = {
            "WAIT and increment at 1": opcode == Opcode.WAIT and up >> f["semaphore"] & 1
            and self.semaphores[f["semaphore"]] == 1,
            "WAIT and increment at 255": opcode == Opcode.WAIT and up >> f["semaphore"] & 1
            and self.semaphores[f["semaphore"]] == 255,
            "WAIT and other increments": opcode == Opcode.WAIT and up & ~(1 << f["semaphore"]),
            "WAIT at its increment": self.stage == "execute" and self.word & 63 == Opcode.WAIT
            and up >> (self.word >> 6 & 7) & 1 and not self.semaphores[self.word >> 6 & 7],
            "begin and increment": begins and up >> START & 1,
            "begin without increment": begins and not up >> START & 1,
            "armed as it begins": begins and i.start,
            "armed as it waits": self.armed and not begins and i.start,
            "armed as it halts": i.start and opcode == Opcode.HALT and not self.armed,
            "armed as it traps": i.start and fault and not self.armed,
            "armed while running": i.start and self.running and not self.armed,
            "begins in the cycle after HALT": begins and self.seen["last HALT"] == self.seen["now"],
            "armed and incremented": i.start and up >> START & 1 and not self.armed and not self.semaphores[START],
            "saturated": up and any(up >> k & 1 and v == 255 for k, v in enumerate(self.semaphores)),
            "HALT in a loop": opcode == Opcode.HALT and self.stack,
            "HALT in all loops": opcode == Opcode.HALT and len(self.stack) == LEVELS,
            "trap": fault, "trap at the fifth level": fault and len(self.stack) == LEVELS
            and self.word & 63 == Opcode.LOOP,
            "end of a turn": bool(opcode) and opcode != Opcode.LOOP and self.stack and self.stack[-1][1] == self.pc,
            "start while trapped": i.start and self.trap,
            "pc wraps": bool(opcode) and self.pc == 511,
        }
        seen["now"] += 1
        if opcode == Opcode.HALT:
            seen["last HALT"] = seen["now"]
        for what, happened in happens.items():
            seen[what] += bool(happened)


def _low(word: int, opcode: Opcode) -> int:
    """The bits of `word` that its format has: formats are narrower than an instruction."""
    return word & ((1 << INSTRUCTIONS[opcode].as_shape().size) - 1)
