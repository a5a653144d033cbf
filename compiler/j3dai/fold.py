# SPDX-License-Identifier: Apache-2.0
"""Cluster programs from units of code: equal neighbouring ones become hardware loops, see `folding`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nncosim.compiler.errors import CompileError
from nncosim.compiler.folding import FoldedLoop, Loops, fold
from nncosim.hdl.j3dai.asm import LOOP_LEVELS, PROGRAM_WORDS, ClusterProgram
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


def _size(unit: Unit) -> int:
    return sum(4 if instr.method == "mixed" else 1 for instr in unit)


def _levels(unit: Unit) -> int:
    return int(any(instr.method == "mixed" for instr in unit))


# a NOP keeps the ends of nested loops apart
_LOOPS: Loops[Unit] = Loops(LOOP_LEVELS, _size, _levels, head=1, apart=1)


def _replay(program: ClusterProgram, node: Unit | FoldedLoop[Unit]) -> None:
    if isinstance(node, FoldedLoop):
        with program.loop(node.count):
            for inner in node.body:
                _replay(program, inner)
            if isinstance(node.body[-1], FoldedLoop):
                program.nop()
        return
    for instr in node:
        fields = dict(instr.fields)
        if instr.method == "mixed":
            _mixed(program, fields)
        else:
            getattr(program, instr.method)(**fields)


def _mixed(program: ClusterProgram, fields: dict) -> None:
    """A pair of which one operand is signed and the other is not: two MACs for each pixel group."""
    first, second = map(int, fields.pop("signed"))
    with program.loop(fields.pop("jobs")):
        program.mac(**fields, signed_a=first, pset=0, drain=Drain.KEEP)
        program.mac(**fields, signed_a=second, pset=1, drain=Drain.ADD)
    program.nop()


def assemble(units: Iterable[Unit], limit: int = PROGRAM_WORDS, platform: J3dai = PLATFORM) -> ClusterProgram:
    """The program with repetitions folded into as many levels of loops as there are.

    Raises:
        ProgramTooLong: it does not fit the instruction memory.
    """
    nodes, size = fold(units, _LOOPS, limit)
    if size > limit:
        raise ProgramTooLong(f"the program has {size} instructions, the instruction memory holds {limit}")
    program = ClusterProgram(platform)
    for node in nodes:
        _replay(program, node)
    return program
