# SPDX-License-Identifier: Apache-2.0
"""Which buffers still lie whole in memory when an inference has ended: there a host finds them, and a bench looks.

Placement and the order of the accesses say so; values and predicted times play no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from nncosim.compiler.placement.lives import BEFORE, Lives, expand
from nncosim.compiler.placement.placement import Buffer, Placement, outermost, unified
from nncosim.compiler.schedule import Schedule

__all__ = ["kept_buffers"]


def kept_buffers(
    buffers: Iterable[Buffer], placement: Placement, schedule: Schedule, lives: Lives | None = None
) -> frozenset[str]:
    """Names of the buffers of which nothing is overwritten when the last task has ended.

    Args:
        lives: as for `nncosim.compiler.placement.placement.place`; buffers in it are looked at unit by unit. Any other
            counts as overwritten if one lies over it that is not surely out of use when it is written first.
    """
    known = {b.name: b for b in unified(buffers)}
    places = {name: outermost(b, known) for name, b in known.items()}
    roots = {root.name: root for root, _ in places.values()}
    exact = _owned(lives, placement.address) if lives is not None else {}
    users = {root: schedule.users(n for n, (r, _) in places.items() if r.name == root) for root in roots}
    out = set()
    for name, (root, offset) in places.items():
        size = known[name].size
        if lives is not None and root.name in exact:
            kept = bool(exact[root.name][offset // lives.unit : -(-(offset + size) // lives.unit)].all())
        else:
            at = placement.address[name]
            over = [other for other in roots.values() if other.name != root.name and other.memory == root.memory
                    and placement.address[other.name] < at + size
                    and at < placement.address[other.name] + other.size]  # fmt: skip
            kept = all(
                not other.to_end and all(schedule.precedes(i, j) for i in users[other.name] for j in users[root.name])
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
