# SPDX-License-Identifier: Apache-2.0
"""The traffic section of an image: which buffer, and where in it, each descriptor means.

A descriptor holds addresses only. With this table, and without the compiler, a bench can tell whether what a transfer
finds at its address is what the layer meant to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.placement.placement import Buffer, Placement, outermost, unified

__all__ = ["traffic_table"]


def traffic_table(
    lists: Sequence[Iterable[Transfer]], buffers: Iterable[Buffer], placement: Placement, word_bytes: int
) -> dict[str, Any]:
    """Plain data.

    "buffers": [name, first word, words, whether it stays for the whole run], none that lies inside another one.
    "tensors": tensor to (index of its buffer, first word in it).
    "lists": for each list, for each descriptor the index of its buffer and the word in it ("buffer", "word").
    """
    known = {b.name: b for b in unified(buffers)}
    index: dict[str, int] = {}
    rows: list[list[Any]] = []
    meant: dict[str, tuple[int, int]] = {}
    for name, buffer in known.items():
        root, offset = outermost(buffer, known)
        if root.memory != "l2":
            continue
        if root.name not in index:
            index[root.name] = len(rows)
            words = -(-root.size // word_bytes)
            rows.append([root.name, placement.address[root.name] // word_bytes, words, root.always])
        meant[name] = index[root.name], offset // word_bytes
    out = []
    for transfers in lists:
        pieces = [p for t in transfers for p in t.pieces]
        pairs = [(meant[p.buffer], p.offset if p.gather is None else p.offset // word_bytes) for p in pieces]
        out.append({"buffer": [b for (b, _), _ in pairs], "word": [start + offset for (_, start), offset in pairs]})
    tensors = {name: list(meant[name]) for name, b in known.items() if name in meant and b.kind == "tensor"}
    return {"buffers": rows, "tensors": tensors, "lists": out}
