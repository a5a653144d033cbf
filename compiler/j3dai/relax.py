# SPDX-License-Identifier: Apache-2.0
"""Plans that need less of L2: where the fastest way to run a layer leaves its result too little room over its input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nncosim.compiler.j3dai.accesses import L2, PieceAccess, accesses
from nncosim.compiler.j3dai.fold import ProgramTooLong
from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.fusion import ranked_groups
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
from nncosim.compiler.placement.crowded import Crowded, crowded, list_need
from nncosim.compiler.placement.lives import Lives
from nncosim.compiler.placement.placement import Buffer
from nncosim.platforms.j3dai import J3dai

__all__ = ["roomier_layers"]

_MOST_TRIED = 24
_SLOWEST = 1.5


def _roomier(code: LayerCode, platform: J3dai, buffers: Sequence[Buffer], crowd: Crowded) -> LayerCode | None:
    """The fastest of a layer's other plans with which its tensors fit; None if there is none."""
    names = {parameter_buffer(code.plan), *(program_buffer(code.plan, i) for i in range(platform.clusters))}
    tensors = [b for b in buffers if b.name not in names]
    best: LayerCode | None = None
    word = platform.word_bytes
    for tried, plan in enumerate(_others(code.plan, platform)):
        if tried >= _MOST_TRIED:
            break
        try:
            other = realize(plan)
        except ProgramTooLong:
            continue
        if list_need(list(accesses(other.transfers, word)), tensors, L2, word) > crowd.room:
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
    traffic: list[list[PieceAccess]] = [list(accesses(transfers, lives.unit)) for _, transfers in lists]
    for crowd in crowded(traffic, buffers, lives, platform.l2_bytes, missing):
        code = _roomier(lists[crowd.index][0], platform, buffers, crowd)
        if code is None:
            return {}
        out[crowd.index] = code
    return out
