# SPDX-License-Identifier: Apache-2.0
"""Which layer is the reason why tensors do not fit a memory, and how much room it may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from nncosim.compiler.placement.accesses import Access, lives_in_order
from nncosim.compiler.placement.lives import Lives, forbidden
from nncosim.compiler.placement.packing import Item, pack
from nncosim.compiler.placement.placement import Buffer, outermost, unified

__all__ = ["Crowded", "crowded", "list_need"]


@dataclass(frozen=True)
class Crowded:
    """A layer whose tensors need more of a memory than there is.

    index: of the layer. need: bytes, room: what it may have.
    """

    index: int
    need: int
    room: int


def _roots(names: Iterable[str], known: Mapping[str, Buffer]) -> list[Buffer]:
    roots = (outermost(known[name], known)[0] for name in names)
    return [b for b in {root.name: root for root in roots}.values() if not b.always]


def _tensors(accesses: Iterable[Access], known: Mapping[str, Buffer]) -> tuple[list[Buffer], set[str]]:
    """Tensors that a list reads or writes, and the names of those it writes."""
    reads: set[str] = set()
    writes: set[str] = set()
    for access in accesses:
        if access.buffer in known:
            (writes if access.write else reads).add(access.buffer)
    return _roots(sorted(reads | writes), known), {b.name for b in _roots(writes, known)}


def list_need(accesses: Sequence[Access], buffers: Iterable[Buffer], where: tuple[str, int], unit: int) -> int:
    """Bytes that the tensors which a list reads and writes need together, with what it writes lying over what it reads
    as far as the order of its accesses allows.

    Args:
        where: memory and instance. unit: bytes of what an access counts in.
    """
    known = {b.name: b for b in buffers if b.where == where}
    used, written = _tensors(accesses, known)
    roots = [replace(b, from_start=b.name not in written, to_end=b.name in written) for b in used]
    names = {b.name for b in roots}
    others = [b for b in known.values() if b.name not in names]
    lives = lives_in_order([("", accesses)], [*roots, *others], where, unit)
    apart = {}
    for a, b in combinations(roots, 2):
        ranges = forbidden(lives.of[a.name], lives.of[b.name])
        apart[a.name, b.name] = [((low - 1) * unit + 1, high * unit) for low, high in ranges]
    items = [Item(b.name, b.size, b.align, ((b.size,),)) for b in roots]
    return pack(items, apart, 0, 1 << 60, max((b.size for b in roots), default=0)).end


def crowded(
    lists: Sequence[Sequence[Access]], buffers: Sequence[Buffer], lives: Lives, size: int, missing: int
) -> list[Crowded]:
    """Layers whose own tensors, beside those that only pass them by, do not fit the memory of `lives` as the layers are
    run. If every one by itself fits, the one that needs most, as if the memory had `missing` bytes less.

    Args:
        size: bytes of the memory.
    """
    known = {b.name: b for b in buffers if b.where == lives.where}
    stays = sum(b.size for b in unified(known.values()) if b.always and b.parent is None)
    firsts = [first for first, _ in lives.steps] + [1 << 59]
    out = []
    for index, accesses in enumerate(lists):
        names = {b.name for b in _tensors(accesses, known)[0]}
        passing = sum(
            known[name].size for name, life in lives.of.items()
            if name not in names and life.first < firsts[index] and life.last >= firsts[index + 1]
        )
        room = size - stays - passing
        out.append(Crowded(index, list_need(accesses, buffers, lives.where, lives.unit), room))
    over = [c for c in out if c.need > c.room]
    if over or not out:
        return over
    worst = max(out, key=lambda c: c.need - c.room)
    return [replace(worst, room=worst.room - missing)]
