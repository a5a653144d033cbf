# SPDX-License-Identifier: Apache-2.0
"""Folding: equal neighbouring pieces of a cluster's code become hardware loops, which does the same in less memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from nncosim.compiler.errors import CompileError
from nncosim.hdl.j3dai.asm import LOOP_LEVELS, PROGRAM_WORDS, Program
from nncosim.hdl.j3dai.isa import Drain
from nncosim.platforms.j3dai import PLATFORM, J3dai

__all__ = ["Instr", "ProgramTooLong", "Unit", "assemble"]


class ProgramTooLong(CompileError):
    """A plan whose program does not fit the instruction memory."""


class Instr(NamedTuple):
    """One instruction: assembler method and arguments. "mixed" stands for a loop of two MACs, see `_mixed`."""

    method: str
    fields: tuple[tuple[str, object], ...] = ()


Unit = tuple[Instr, ...]


@dataclass(frozen=True)
class _Loop:
    count: int
    body: tuple[object, ...]


def _size(node: object) -> int:
    if isinstance(node, _Loop):
        # a NOP keeps the ends of nested loops apart
        return 1 + sum(map(_size, node.body)) + isinstance(node.body[-1], _Loop)
    assert isinstance(node, tuple)
    return sum(4 if instr.method == "mixed" else 1 for instr in node)


def _fold(nodes: list[object], short: bool = False, most: int = LOOP_LEVELS) -> list[object]:
    """Replace neighbouring repetitions by loops, the most saving first at each place.

    short: the shortest first, so that equal pieces fold equally wherever they are. most: levels of loops.
    """
    numbers: dict[object, int] = {}
    ids = [numbers.setdefault(node, len(numbers)) for node in nodes]
    sizes = [_size(node) for node in nodes]
    levels = [_levels(node) for node in nodes]
    out: list[object] = []
    i = 0
    while i < len(ids):
        best, best_saving = (1, 1), 0
        for period in range(1, min(96, (len(ids) - i) // 2) + 1):
            if ids[i] != ids[i + period] or (short and best_saving):
                continue
            count = 1
            while ids[i + count * period : i + (count + 1) * period] == ids[i : i + period]:
                count += 1
            saving = (count - 1) * sum(sizes[i : i + period]) - 2
            if count > 1 and saving > best_saving and max(levels[i : i + period]) < most:
                best, best_saving = (period, count), saving
        period, count = best
        if count > 1:
            out.append(_Loop(count, tuple(nodes[i : i + period])))
        else:
            out.append(nodes[i])
        i += period * count
    return out


def _rounds(nodes: list[object], short: bool) -> list[object]:
    """Folded until there is nothing more to fold."""
    while True:
        folded = _fold(nodes, short, LOOP_LEVELS if short else LOOP_LEVELS - 1)
        if len(folded) == len(nodes):
            return nodes
        nodes = folded


def _levels(node: object) -> int:
    """How deep loops are nested in a node."""
    if isinstance(node, _Loop):
        return 1 + max(map(_levels, node.body))
    assert isinstance(node, tuple)
    return int(any(instr.method == "mixed" for instr in node))


def _deepen(node: object, room: int) -> object:
    """A loop with its body folded too, if that leaves it at most `room` levels."""
    if not isinstance(node, _Loop):
        return node
    body = _fold([_deepen(inner, room - 1) for inner in node.body])
    return _Loop(node.count, tuple(body)) if max(map(_levels, body)) < room else node


def _replay(program: Program, node: object) -> None:
    if isinstance(node, _Loop):
        with program.loop(node.count):
            for inner in node.body:
                _replay(program, inner)
            if isinstance(node.body[-1], _Loop):
                program.nop()
        return
    assert isinstance(node, tuple)
    for instr in node:
        fields = dict(instr.fields)
        if instr.method == "mixed":
            _mixed(program, fields)
        else:
            getattr(program, instr.method)(**fields)


def _mixed(program: Program, fields: dict) -> None:
    """A pair of which one operand is signed and the other is not: two MACs for each pixel group."""
    first, second = map(int, fields.pop("signed"))
    with program.loop(fields.pop("jobs")):
        program.mac(**fields, signed_a=first, pset=0, drain=Drain.KEEP)
        program.mac(**fields, signed_a=second, pset=1, drain=Drain.ADD)
    program.nop()


def assemble(units: Iterable[Unit], limit: int = PROGRAM_WORDS, platform: J3dai = PLATFORM) -> Program:
    """The program with repetitions folded into as many levels of loops as there are.

    Raises:
        ProgramTooLong: it does not fit the instruction memory.
    """
    text: list[object] = list(units)
    nodes = [_deepen(node, LOOP_LEVELS) for node in _rounds(text, short=False)]
    size = sum(map(_size, nodes))
    if size > limit:
        nodes = _rounds(text, short=True)
    size = sum(map(_size, nodes))
    if size > limit:
        raise ProgramTooLong(f"the program has {size} instructions, the instruction memory holds {limit}")
    program = Program(platform)
    for node in nodes:
        _replay(program, node)
    return program
