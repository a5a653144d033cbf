# SPDX-License-Identifier: Apache-2.0
"""Making an image's traffic table, see `image.traffic`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nncosim.compiler.image.traffic import ListTraffic, Traffic, TrafficBuffer
from nncosim.compiler.placement.placement import Buffer, Placement, outermost, unified

__all__ = ["traffic_table"]


def traffic_table(
    lists: Sequence[Iterable[tuple[str, int]]], buffers: Iterable[Buffer], placement: Placement,
    where: tuple[str, int], word_bytes: int,
) -> Traffic:
    """What each transfer of each list means.

    Args:
        lists: of each transfer (the buffer in that memory, the first word in it). where: memory and instance.
    """
    known = {b.name: b for b in unified(buffers)}
    index: dict[str, int] = {}
    rows: list[TrafficBuffer] = []
    meant: dict[str, tuple[int, int]] = {}
    for name, buffer in known.items():
        root, offset = outermost(buffer, known)
        if root.where != where:
            continue
        if root.name not in index:
            index[root.name] = len(rows)
            words = -(-root.size // word_bytes)
            rows.append(TrafficBuffer(root.name, placement.address[root.name] // word_bytes, words, root.always))
        meant[name] = index[root.name], offset // word_bytes
    out = []
    for transfers in lists:
        pairs = [(meant[buffer], offset) for buffer, offset in transfers]
        out.append(ListTraffic(tuple(b for (b, _), _ in pairs), tuple(start + offset for (_, start), offset in pairs)))
    tensors = {name: meant[name] for name, b in known.items() if name in meant and b.kind == "tensor"}
    return Traffic(tuple(rows), tensors, tuple(out))
