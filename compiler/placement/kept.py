# SPDX-License-Identifier: Apache-2.0
"""Which buffers still lie whole in memory when an inference has ended: there a host finds them, and a bench looks.

Placement and the order of the accesses say so; values and predicted times play no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from nncosim.compiler.placement.lives import BEFORE, Lives, expand
from nncosim.compiler.placement.placement import Buffer, Placement, outermost, unified
from nncosim.compiler.schedule import Schedule

__all__ = ["kept_buffers"]


def kept_buffers(
    buffers: Iterable[Buffer], placement: Placement, schedule: Schedule, lives: Sequence[Lives] = ()
) -> frozenset[str]:
    """Names of the buffers of which nothing is overwritten when the last task has ended.

    Args:
        lives: as for `nncosim.compiler.placement.placement.place`; buffers in it are looked at unit by unit. Any other
            counts as overwritten if one lies over it that is not surely out of use when it is written first.
    """
    known = {b.name: b for b in unified(buffers)}
    places = {name: outermost(b, known) for name, b in known.items()}
    roots = {root.name: root for root, _ in places.values()}
    exact = {name: (here.unit, owned) for here in lives for name, owned in _owned(here, placement.address).items()}
    members: dict[str, list[str]] = {}
    for name, (root, _) in places.items():
        members.setdefault(root.name, []).append(name)
    users = {root: schedule.users(names) for root, names in members.items()}
    neighbours: dict[tuple[str, int], list[Buffer]] = {}
    for root in roots.values():
        neighbours.setdefault(root.where, []).append(root)
    out = set()
    for name, (root, offset) in places.items():
        size = known[name].size
        if root.name in exact:
            unit, owned = exact[root.name]
            kept = bool(owned[offset // unit : -(-(offset + size) // unit)].all())
        else:
            at = placement.address[name]
            over = [other for other in neighbours[root.where] if other.name != root.name
                    and placement.address[other.name] < at + size
                    and at < placement.address[other.name] + other.size]  # fmt: skip
            kept = all(
                not other.to_end and schedule.all_precede(users[other.name], users[root.name])
                for other in over
            ) and not (over and root.from_start)
        if kept:
            out.add(name)
    return frozenset(out)


def _owned(lives: Lives, address: Mapping[str, int]) -> dict[str, npt.NDArray[np.bool_]]:
    """Of each buffer, which of its units were written later than any other one at the same address."""
    bases = {name: address[name] // lives.unit for name in lives.of}
    spans = {name: int(life.stop[-1]) if len(life.stop) else 0 for name, life in lives.of.items()}
    latest = np.full(max((bases[n] + spans[n] for n in bases), default=0), BEFORE - 1, np.int64)
    writes = {}
    for name, life in lives.of.items():
        born, dies = expand(life, 0, spans[name])
        writes[name] = np.where(born <= dies, born, BEFORE - 1)  # units that are never used hold nothing
        there = latest[bases[name] : bases[name] + spans[name]]
        np.maximum(there, writes[name], out=there)
    return {
        name: (born >= BEFORE) & (born == latest[bases[name] : bases[name] + spans[name]])
        for name, born in writes.items()
    }
