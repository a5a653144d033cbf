# SPDX-License-Identifier: Apache-2.0
"""Where an element of a tensor lies on J3DAI, and which cluster wrote it in which cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.network import MAP
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.hdl.j3dai.asm import decode_descriptors
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES, DmpaOp
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import ElementOrigin
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.l1_capture import InsidePlaces, inside_places
from nncosim.tb.run.capture import Place

__all__ = ["origins"]

Index = tuple[int, ...]


def origins(
    platform: J3dai, image: Image, writes: npt.NDArray[np.void], l1_writes: npt.NDArray[np.void], first_list: int,
    frame: int,
) -> Callable[[str, Index], ElementOrigin | None]:
    """The `origin` of a `nncosim.tb.backend.Frame`.

    Args:
        writes, l1_writes: what was written to L2 and L1 in the inference; see `capture` and `capture_l1`.
        first_list: number of the inference's first list, frame: its own number, counted from reset.
    """
    table, inside = places(image), inside_places(image)

    def origin(tensor: str, index: Index) -> ElementOrigin | None:
        if tensor in table:
            return _in_l2(platform, image, table[tensor], index, writes, first_list)
        return _in_l1(platform, inside, tensor, index, l1_writes, frame)

    return origin


def _in_l2(
    platform: J3dai, image: Image, place: Place, index: Index, writes: npt.NDArray[np.void], first_list: int
) -> ElementOrigin:
    offset, _ = place.layout.place(index, place.shape, place.axes)
    address, word = L2_BASE + place.word * place.word_bytes + offset, place.word + offset // place.word_bytes
    lists, at = writes["list"].astype(np.int64) - first_list, writes["address"].astype(np.int64)
    near = (at <= word) & (word < at + writes.dtype["data"].shape[0]) & np.isin(lists, place.lists)
    mine = [i for i in np.flatnonzero(near) if int(writes["mask"][i]) >> (word - int(at[i])) & 1]
    if not mine:
        return ElementOrigin("l2", address)
    cluster = _storing_cluster(platform, image, int(lists[mine[-1]]), word)
    return ElementOrigin("l2", address, int(writes["cycle"][mine[-1]]), "" if cluster is None else f"cluster{cluster}")


def _storing_cluster(platform: J3dai, image: Image, step: int, word: int) -> int | None:
    """The cluster that a list's last STORE to a word of L2 reads from."""
    lists = j3dai_notes(image).lists
    if step >= len(lists):
        return None
    address = L2_BASE + lists[step].word * platform.word_bytes
    size = lists[step].descriptors * DESCRIPTOR_BYTES
    raw = next((s.data[address - s.address :][:size] for s in image.segments
                if s.address <= address < s.address + len(s.data)), b"")  # fmt: skip
    found = None
    for d in decode_descriptors(raw):
        if d["op"] == DmpaOp.STORE.value and _covers(d, word) and d["clusters"]:
            found = (d["clusters"] & -d["clusters"]).bit_length() - 1
    return found


def _covers(d: Mapping[str, int], word: int) -> bool:
    """Whether a descriptor's runs of words in L2 hold a word."""
    planes, runs = (np.arange(max(d[name], 1), dtype=np.int64) for name in ("n2", "n1"))
    starts = d["l2"] + planes[:, None] * d["l2_step2"] + runs * d["l2_step1"]
    return bool(((word - starts) % (1 << 20) < d["n0"]).any())


def _in_l1(
    platform: J3dai, inside: InsidePlaces, name: str, index: Index, writes: npt.NDArray[np.void], frame: int
) -> ElementOrigin | None:
    """Of the tile that was written last; elements that two tiles compute lie in both."""
    tensor = next((t for t in inside.tensors if t.name == name), None)
    if tensor is None:
        return None
    channel, y, x = index
    found = []
    for piece in tensor.pieces:
        row, column = divmod(y * tensor.shape[2] + x, piece.width)
        if not (piece.y0 <= row < piece.y1 and piece.x0 <= column < piece.x1):
            continue
        offset, _ = tensor.layout.place((channel, row - piece.y0, column - piece.x0), tensor.part(piece), MAP)
        word, byte = divmod(offset, platform.word_bytes)
        word = (piece.address + word) % platform.l1_words
        run = frame * inside.runs[piece.cluster] + piece.run
        mine = writes[(writes["cluster"] == piece.cluster) & (writes["run"] == run)]
        hits = (mine["address"] == word) & (mine["mask"][:, None] >> np.arange(mine["address"].shape[1]) & 1 != 0)
        cycles = mine["cycle"][hits.any(axis=1)]
        address, cycle = word * platform.word_bytes + byte, int(cycles[-1]) if len(cycles) else None
        found.append(ElementOrigin("l1", address, cycle, f"cluster{piece.cluster}"))
    return max(found, key=lambda origin: -1 if origin.cycle is None else origin.cycle, default=None)
