# SPDX-License-Identifier: Apache-2.0
"""A line of instructions with zero-overhead loops in place of what repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES, Control, ControlOp, Instruction, Loop
from nncosim.hdl.formats import encode

__all__ = ["Line", "assembled", "roll"]

_OFFSETS = {name: member.offset for name, member in Instruction.as_shape()}
_LEAST_BODY = 2
_MOST_BODY, _MOST_TURNS = (1 << 9) - 1, (1 << 11) - 1


@dataclass(frozen=True)
class Line:
    """One instruction: (slot, encoded fields), by slot. `ends_loop`: it is the last of a body."""

    slots: tuple[tuple[str, int], ...] = ()
    ends_loop: bool = False

    @property
    def takes_loop(self) -> bool:
        """Whether a LOOP can be put into it."""
        return not self.ends_loop and all(slot != "control" for slot, _ in self.slots)

    @property
    def word(self) -> int:
        """The encoded instruction."""
        return sum(word << _OFFSETS[slot] for slot, word in self.slots)

    def with_loop(self, count: int, body: int) -> Line:
        payload = encode(Loop, count=count, body=body)
        word = encode(Control, op=ControlOp.LOOP.value, payload=payload)
        return Line(tuple(sorted((*self.slots, ("control", word)))))


def assembled(lines: Sequence[Line]) -> bytes:
    """The bytes of a program."""
    return b"".join(line.word.to_bytes(INSTRUCTION_BYTES, "little") for line in lines)


def roll(lines: Sequence[Line], periods: Sequence[int]) -> list[Line]:
    """The same instructions in the same order when executed, in fewer words.

    Args:
        periods: of repetition that are looked for, the longest first; those after it also within its bodies.
    """
    if not periods:
        return list(lines)
    period, rest = periods[0], periods[1:]
    out: list[Line] = []
    done = at = 0
    while at + 2 * period <= len(lines):
        same = _run(lines, at, period)
        found = _loop(lines, done, at, period, same, rest, out)
        if found is None:
            at += same + 1
            continue
        out, done = found
        at = done
    return out + roll(lines[done:], rest)


def _run(lines: Sequence[Line], at: int, period: int) -> int:
    """How many instructions from `at` on are equal to those a period later."""
    count = 0
    while at + count + period < len(lines) and lines[at + count] == lines[at + count + period]:
        count += 1
    return count


def _loop(
    lines: Sequence[Line], done: int, at: int, period: int, same: int, rest: Sequence[int], out: list[Line]
) -> tuple[list[Line], int] | None:
    """A loop somewhere in the run of `same` equal ones from `at` on: what there is with it, and where it ends."""
    if period < _LEAST_BODY:
        return None
    for begin in range(max(at, done + 1), at + same):
        turns = min((at + same - begin) // period + 1, _MOST_TURNS)
        if turns < 2:
            return None
        before, body = roll(lines[done:begin], rest), roll(lines[begin : begin + period], rest)
        if not before or len(body) > _MOST_BODY or body[-1].ends_loop or not before[-1].takes_loop:
            continue
        if any(slot == "control" for slot, _ in body[-1].slots):
            continue
        head = before[-1].with_loop(turns, len(body))
        last = Line(body[-1].slots, ends_loop=True)
        return [*out, *before[:-1], head, *body[:-1], last], begin + turns * period
    return None
