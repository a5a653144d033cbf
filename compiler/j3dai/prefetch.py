"""What a layer's list can already do for the next layer: load its programs, and weights where WMEM has room.

Semaphores count, and the DMPA works in order: what is loaded for the next layer after the last load of this one is
taken by the next layer only. A cluster that is started early waits for its first input, which comes with its own list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nncosim.compiler.j3dai.tiling import LayerCode, program_words, relocate
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["Ahead", "prefetch"]


@dataclass(frozen=True)
class Ahead:
    """A layer with its place in the clusters' memories. transfers: of its list, those for the next layer included."""

    code: LayerCode
    programs_at: int
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True)
class _Range:
    start: int
    words: int

    @property
    def end(self) -> int:
        return self.start + self.words

    def apart(self, other: _Range) -> bool:
        return self.end <= other.start or other.end <= self.start


def _beside(before: _Range, words: int, size: int) -> _Range:
    """A range of `words` that does not touch `before`, if there is one; else the memory's beginning."""
    if before.end + words <= size:
        return _Range(before.end, words)
    return _Range(0, words)


def _at(transfers: Sequence[Transfer], programs_at: int) -> list[Transfer]:
    """With the programs' place in IMEM."""
    return [
        replace(t, pieces=tuple(replace(p, local=p.local + programs_at) for p in t.pieces))
        if t.pieces[0].space is Space.IMEM else t
        for t in transfers
    ]


def prefetch(codes: Sequence[LayerCode], platform: J3dai) -> list[Ahead]:
    """All layers with their lists, each doing for the next what it can."""
    programs, weights = _Range(0, 0), _Range(0, 0)
    placed: list[tuple[LayerCode, int]] = []
    lists: list[list[Transfer]] = []
    for number, code in enumerate(codes):
        size = max(program_words(program) for program, _ in code.programs)
        here = _beside(programs, size, platform.imem_words)
        kept = _beside(weights, code.plan.wmem_words, platform.wmem_words)
        code = relocate(code, kept.start)
        own = _at(code.transfers, here.start)
        if number and here.apart(programs):
            room = kept.apart(weights)
            moves = [t.early and (room or t.pieces[0].space is Space.IMEM) for t in own]
            lists[-1] = _insert(lists[-1], [t for t, move in zip(own, moves, strict=True) if move])
            own = [t for t, move in zip(own, moves, strict=True) if not move]
        placed.append((code, here.start))
        lists.append(own)
        programs, weights = here, kept
    return [Ahead(code, at, tuple(own)) for (code, at), own in zip(placed, lists, strict=True)]


def _insert(own: list[Transfer], early: list[Transfer]) -> list[Transfer]:
    """Behind all loads of `own`; the stores after them mostly wait for the clusters anyway."""
    at = max((i + 1 for i, t in enumerate(own) if t.op is DmpaOp.LOAD), default=0)
    return [*own[:at], *early, *own[at:]]
