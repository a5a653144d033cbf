# SPDX-License-Identifier: Apache-2.0
"""The traffic table of an image: which buffer, and where in it, each descriptor means; see `notes.Traffic`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nncosim.compiler.j3dai.notes import Meant, Traffic, TrafficBuffer
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.placement.placement import Buffer, Placement, outermost, unified

__all__ = ["traffic_table"]


def traffic_table(
    lists: Sequence[Iterable[Transfer]], buffers: Iterable[Buffer], placement: Placement, word_bytes: int
) -> Traffic:
    """What each transfer of each list means."""
    known = {b.name: b for b in unified(buffers)}
    index: dict[str, int] = {}
    rows: list[TrafficBuffer] = []
    meant: dict[str, tuple[int, int]] = {}
    for name, buffer in known.items():
        root, offset = outermost(buffer, known)
        if root.memory != "l2":
            continue
        if root.name not in index:
            index[root.name] = len(rows)
            words = -(-root.size // word_bytes)
            rows.append(TrafficBuffer(root.name, placement.address[root.name] // word_bytes, words, root.always))
        meant[name] = index[root.name], offset // word_bytes
    out = []
    for transfers in lists:
        pieces = [p for t in transfers for p in t.pieces]
        pairs = [(meant[p.buffer], p.offset if p.gather is None else p.offset // word_bytes) for p in pieces]
        out.append(Meant(tuple(b for (b, _), _ in pairs), tuple(start + offset for (_, start), offset in pairs)))
    tensors = {name: meant[name] for name, b in known.items() if name in meant and b.kind == "tensor"}
    return Traffic(tuple(rows), tensors, tuple(out))
