# SPDX-License-Identifier: Apache-2.0
"""What a layer's list can already do for the layers after it: load their programs, and weights where WMEM has room.

Semaphores count, and the DMPA works in order. So what is loaded early must come behind everything that signals the same
semaphore to the same cluster for a layer before; a cluster then takes for each layer what was loaded for it. One
that is started early waits for its first input, which comes with its own list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nncosim.compiler.j3dai.tiling import LayerCode, program_words, relocate
from nncosim.compiler.j3dai.transfers import Piece, Transfer
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["Ahead", "prefetch"]

_LAYERS = 3
"""How many lists ahead of its own something may be loaded."""

_BUSY = 0.75
"""Share of a layer's cycles in which the DMPA may be busy before what it does for others costs time."""


@dataclass(frozen=True)
class Ahead:
    """A layer with its place in the clusters' memories. transfers: of its list, those for later layers included."""

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


@dataclass
class _List:
    """A layer's list being made. own: the layer's transfers in order, `early` those for later layers.

    slack: cycles that the DMPA has left for later layers.
    """

    code: LayerCode
    ranges: dict[Space, _Range]
    own: list[Transfer]
    early: list[Transfer]
    slack: int

    def merged(self) -> tuple[Transfer, ...]:
        """The early ones between the loads of the list's second half, but behind all for the same semaphores."""
        if not self.early:
            return tuple(self.own)
        signals = {t.signal for t in self.early}
        first = max((i + 1 for i, t in enumerate(self.own) if t.signal in signals and t.op is DmpaOp.LOAD), default=0)
        last = max((i + 1 for i, t in enumerate(self.own) if t.op is DmpaOp.LOAD), default=0)
        at = max(first, last // 2)
        out, waiting = self.own[:at], list(self.early)
        for transfer in self.own[at:last]:
            if waiting and transfer.wait is not None:
                out.append(waiting.pop(0))
            out.append(transfer)
        return (*out, *waiting, *self.own[last:])


def _beside(before: Sequence[_Range], words: int, size: int) -> _Range:
    """A range of `words` that touches none of those, of which the last matter most; else the memory's beginning."""
    for first in range(len(before)):
        others = before[first:]
        for start in sorted({0, *(other.end for other in others)}):
            found = _Range(start, words)
            if found.end <= size and all(found.apart(other) for other in others):
                return found
    return _Range(0, words)


def _at(transfers: Sequence[Transfer], programs_at: int) -> list[Transfer]:
    """With the programs' place in IMEM."""
    return [
        replace(t, pieces=tuple(replace(p, local=p.local + programs_at) for p in t.pieces))
        if t.pieces[0].space is Space.IMEM else t
        for t in transfers
    ]


def _touched(piece: Piece) -> _Range:
    """The words from the first to the last one that a piece writes in a cluster's memory."""
    reach = (max(piece.n1, 1) - 1) * piece.local_step1 + (max(piece.n2, 1) - 1) * piece.local_step2
    return _Range(piece.local, reach + piece.n0)


def prefetch(codes: Sequence[LayerCode], platform: J3dai) -> list[Ahead]:
    """All layers with their lists, each doing for the next ones what it can."""
    lists: list[_List] = []
    latest: dict[tuple[int | None, int], int] = {}  # (semaphore, cluster) -> list of the last transfer that signals it
    size = {Space.IMEM: platform.imem_words, Space.WMEM: platform.wmem_words}
    for number, code in enumerate(codes):
        need = {
            Space.IMEM: max(program_words(program) for program, _ in code.programs), Space.WMEM: code.plan.wmem_words
        }  # fmt: skip
        near = lists[-_LAYERS:]
        ranges = {s: _beside([before.ranges[s] for before in near], need[s], size[s]) for s in need}
        code = relocate(code, ranges[Space.WMEM].start)
        this = _List(code, ranges, [], [], 0)
        busy = 0
        lists.append(this)
        for transfer in _at(code.transfers, ranges[Space.IMEM].start):
            keys = [(transfer.signal, cluster) for cluster in transfer.members]
            cost = transfer.cycles(platform)
            first = max(number - _LAYERS, *(latest.get(key, 0) for key in keys), 0)
            at = _choose(lists, first, transfer, cost, size) if transfer.early else number
            latest.update(dict.fromkeys(keys, at))
            if at == number:
                this.own.append(transfer)
                busy += cost
            else:
                lists[at].early.append(transfer)
                lists[at].slack -= cost
        this.slack = max(0, int(_BUSY * code.cycles) - busy)
    return [Ahead(each.code, each.ranges[Space.IMEM].start, each.merged()) for each in lists]


def _choose(lists: Sequence[_List], first: int, transfer: Transfer, cost: int, size: dict[Space, int]) -> int:
    """The list that is to hold a transfer of the last layer: the nearest with time for it, not before `first`."""
    number = len(lists) - 1
    best = number
    for at in range(number - 1, first - 1, -1):
        for piece in transfer.pieces:
            touched = _touched(piece)
            if touched.end > size[piece.space] or not touched.apart(lists[at].ranges[piece.space]):
                return best
        if best == number or lists[at].slack > max(lists[best].slack, 0):
            best = at
        if lists[best].slack >= cost:
            return best
    return best
