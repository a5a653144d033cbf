# SPDX-License-Identifier: Apache-2.0
"""Plans that need less of L2: where the fastest way to run a layer leaves its result too little room over its input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from nncosim.compiler.j3dai.fold import ProgramTooLong
from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.fusion import ranked_groups
from nncosim.compiler.j3dai.inplace import tensor_lives
from nncosim.compiler.j3dai.interleave import interleaved
from nncosim.compiler.j3dai.stream import StreamPlan
from nncosim.compiler.j3dai.tiling import (
    AnyPlan,
    LayerCode,
    measure,
    parameter_buffer,
    program_buffer,
    ranked,
    realize,
)
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.placement.lives import Lives, forbidden
from nncosim.compiler.placement.packing import Item, pack
from nncosim.compiler.placement.placement import Buffer, outermost, unified
from nncosim.hdl.j3dai.isa import DmpaOp
from nncosim.platforms.j3dai import J3dai

__all__ = ["layer_need", "roomier_layers"]

_MOST_TRIED = 24
_SLOWEST = 1.5


@dataclass(frozen=True)
class _Crowded:
    """A layer whose tensors need more of L2 than there is. index: of the layer. need: bytes, room: what it may have."""

    index: int
    need: int
    room: int


def _roots(names: Iterable[str], known: Mapping[str, Buffer]) -> list[Buffer]:
    roots = (outermost(known[name], known)[0] for name in names)
    return [b for b in {root.name: root for root in roots}.values() if not b.always]


def _tensors(transfers: Iterable[Transfer], known: Mapping[str, Buffer]) -> tuple[list[Buffer], set[str]]:
    """Tensors that a list reads or writes, and the names of those it writes."""
    names: dict[DmpaOp, set[str]] = {DmpaOp.LOAD: set(), DmpaOp.STORE: set(), DmpaOp.SYNC: set()}
    for transfer in transfers:
        names[transfer.op].update(p.buffer for p in transfer.pieces if p.buffer in known)
    written = {b.name for b in _roots(names[DmpaOp.STORE], known)}
    return _roots(sorted(names[DmpaOp.LOAD] | names[DmpaOp.STORE]), known), written


def layer_need(transfers: Sequence[Transfer], buffers: Iterable[Buffer], word_bytes: int) -> int:
    """Bytes of L2 that the tensors which a list reads and writes need together, with what it writes lying over what it
    reads as far as the order of its transfers allows."""
    known = {b.name: b for b in buffers}
    used, written = _tensors(transfers, known)
    roots = [replace(b, from_start=b.name not in written, to_end=b.name in written) for b in used]
    names = {b.name for b in roots}
    others = [b for b in known.values() if b.name not in names]
    strange = {p.buffer for t in transfers for p in t.pieces} - set(known)
    fixed = [Buffer(name, "l2", 0, "", permanent=True) for name in sorted(strange)]
    lives = tensor_lives([("", transfers)], [*roots, *others, *fixed], word_bytes)
    apart = {}
    for a, b in combinations(roots, 2):
        ranges = forbidden(lives.of[a.name], lives.of[b.name])
        apart[a.name, b.name] = [((low - 1) * word_bytes + 1, high * word_bytes) for low, high in ranges]
    items = [Item(b.name, b.size, b.align, ((b.size,),)) for b in roots]
    return pack(items, apart, 0, 1 << 60, max((b.size for b in roots), default=0)).end


def _crowded(
    lists: Sequence[Sequence[Transfer]], buffers: Sequence[Buffer], lives: Lives, platform: J3dai, missing: int
) -> list[_Crowded]:
    """Layers whose own tensors, beside those that only pass them by, do not fit L2 as the layers are run. If every one
    by itself fits, the one that needs most, as if L2 had `missing` bytes less."""
    known = {b.name: b for b in buffers}
    stays = sum(b.size for b in unified(buffers) if b.always and b.parent is None)
    firsts = [first for first, _ in lives.steps] + [1 << 59]
    out = []
    for index, transfers in enumerate(lists):
        names = {b.name for b in _tensors(transfers, known)[0]}
        passing = sum(
            known[name].size for name, life in lives.of.items()
            if name not in names and life.first < firsts[index] and life.last >= firsts[index + 1]
        )
        room = platform.l2_bytes - stays - passing
        out.append(_Crowded(index, layer_need(transfers, buffers, platform.word_bytes), room))
    over = [c for c in out if c.need > c.room]
    if over or not out:
        return over
    worst = max(out, key=lambda c: c.need - c.room)
    return [replace(worst, room=worst.room - missing)]


def _roomier(code: LayerCode, platform: J3dai, buffers: Sequence[Buffer], crowd: _Crowded) -> LayerCode | None:
    """The fastest of a layer's other plans with which its tensors fit; None if there is none."""
    names = {parameter_buffer(code.plan), *(program_buffer(code.plan, i) for i in range(platform.clusters))}
    tensors = [b for b in buffers if b.name not in names]
    best: LayerCode | None = None
    for tried, plan in enumerate(_others(code.plan, platform)):
        if tried >= _MOST_TRIED:
            break
        try:
            other = realize(plan)
        except ProgramTooLong:
            continue
        if layer_need(other.transfers, tensors, platform.word_bytes) > crowd.room:
            continue
        other = replace(other, cycles=measure(other))
        if other.cycles < (best.cycles if best is not None else _SLOWEST * code.cycles):
            best = other
    return best


def _others(plan: AnyPlan, platform: J3dai) -> Iterator[AnyPlan]:
    """The plan with its tiles in another order, then the other plans, each in both orders."""
    if isinstance(plan, StreamPlan):
        return
    dealt = interleaved(plan)
    if dealt is not None:
        yield dealt
    same = replace(plan, wmem_base=0)
    others = ranked_groups(plan.group, platform) if isinstance(plan, FusedPlan) else ranked(plan.nest, platform)
    for other in others:
        if other != same:
            yield other
            dealt = interleaved(other)
            if dealt is not None:
                yield dealt


def roomier_layers(
    lists: Sequence[tuple[LayerCode, Sequence[Transfer]]], buffers: Sequence[Buffer], lives: Lives, platform: J3dai,
    missing: int,
) -> dict[int, LayerCode]:
    """Other code for the layers that are the reason why tensors do not fit, by index; empty if that does not help.

    Args:
        lists: per layer its code, and its list as it is run.
        missing: bytes by which placement failed.
    """
    out = {}
    for crowd in _crowded([transfers for _, transfers in lists], buffers, lives, platform, missing):
        code = _roomier(lists[crowd.index][0], platform, buffers, crowd)
        if code is None:
            return {}
        out[crowd.index] = code
    return out
