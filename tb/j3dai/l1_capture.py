# SPDX-License-Identifier: Apache-2.0
"""Tensors that never reach L2: from what the clusters' results wrote to L1, by the image's tile table.

A fused group keeps the tensors between its members in the clusters' L1, tile by tile, and neighbouring tiles compute
the rows and columns that both need twice. Every tile is looked at; elements computed twice must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.layout import Layout, from_bytes, size_bytes
from nncosim.compiler.ir.network import MAP
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Diagnosis

__all__ = ["InsidePlaces", "capture_l1", "disputed", "inside_places", "l1_write_dtype"]


def l1_write_dtype(platform: J3dai, words: int | None = None) -> np.dtype[np.void]:
    """Words that a cluster's results wrote to L1 in one cycle, or (with `words`) so many of them.

    `run`: which program of the cluster since reset did it, from 0. Word i of `data` went to word `address[i]` if bit i
    of `mask` is set.
    """
    words, size = words or platform.banks, platform.word_bytes
    return np.dtype([
        ("cycle", "<u8"), ("cluster", "<u4"), ("run", "<u4"), ("mask", "<u4"), ("unused", "<u4"),
        ("address", "<u2", (words,)), ("data", "u1", (words, size)),
    ])  # fmt: skip


@dataclass(frozen=True)
class _Piece:
    """A tile: which of the cluster's programs in the inference writes it, and where (see the J3DAI back end)."""

    run: int
    cluster: int
    first: int
    lines: int
    address: int
    y0: int
    y1: int
    x0: int
    x1: int
    width: int  # of the map as y and x count it


@dataclass(frozen=True)
class _Inside:
    name: str
    shape: tuple[int, ...]
    layout: Layout
    signed: bool
    pieces: tuple[_Piece, ...]

    def part(self, piece: _Piece) -> tuple[int, int, int]:
        """The shape of a piece, which lies in L1 as a tensor of its own."""
        return self.shape[0], piece.y1 - piece.y0, piece.x1 - piece.x0


@dataclass(frozen=True)
class InsidePlaces:
    """The tensors of an image that stay in L1. `runs`: programs that each cluster runs in an inference."""

    tensors: tuple[_Inside, ...] = ()
    runs: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tensors)


def inside_places(image: Image) -> InsidePlaces:
    """What the image says of tensors in L1."""
    notes = j3dai_notes(image)
    found = [
        _Inside(name, tensor.shape, note.layout, tensor.type.signed, tuple(_Piece(*piece) for piece in note.pieces))
        for name, note in notes.inside.items() for tensor in (image.tiles[name].tensor,)
    ]  # fmt: skip
    return InsidePlaces(tuple(found), notes.runs)


@dataclass
class _Lines:
    """What one program of a cluster wrote: its records, and the number of the line that each is part of."""

    records: npt.NDArray[np.void]
    number: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        cycles = self.records["cycle"]
        self.number = np.cumsum(np.concatenate([[0], cycles[1:] != cycles[:-1]])) if len(cycles) else np.zeros(0, int)

    def of(self, piece: _Piece) -> npt.NDArray[np.void]:
        low, high = np.searchsorted(self.number, [piece.first, piece.first + piece.lines])
        return self.records[low:high]


def _by_program(writes: npt.NDArray[np.void]) -> dict[tuple[int, int], _Lines]:
    order = np.lexsort((writes["cycle"], writes["run"], writes["cluster"]))
    sorted_writes = writes[order]
    keys = sorted_writes["cluster"].astype(np.int64) << 32 | sorted_writes["run"]
    values, starts = np.unique(keys, return_index=True)
    ends = [*starts[1:], *[len(keys)] * bool(len(keys))]
    return {
        (int(key) >> 32, int(key) & 0xFFFF_FFFF): _Lines(sorted_writes[a:b])
        for key, a, b in zip(values, starts, ends, strict=True)
    }


def capture_l1(
    inside: InsidePlaces, writes: npt.NDArray[np.void], frame: int, l1_words: int, poison: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rebuild the tensors that stay in L1.

    Args:
        writes: `l1_write_dtype` records of the inference, each cluster's in order.
        frame: number of the inference since reset. poison: seed of the bytes that nothing wrote.

    Returns:
        Integers (C, H, W) by tensor (absent if nothing of it was written), and in words each tensor of which
        an element was computed twice with different results.
    """
    rng = np.random.default_rng([poison, 1])
    programs = _by_program(writes)
    tensors: dict[str, np.ndarray] = {}
    disputes: list[str] = []
    for tensor in inside.tensors:
        made = _Canvas(tensor, rng)
        for piece in tensor.pieces:
            lines = programs.get((piece.cluster, frame * inside.runs[piece.cluster] + piece.run))
            if lines is not None:
                made.paint(piece, lines.of(piece), l1_words)
        if (made.by >= 0).any():
            tensors[tensor.name] = made.values.reshape(tensor.shape)
        if made.dispute:
            disputes.append(made.dispute)
    return tensors, disputes


def disputed(disputes: Sequence[str]) -> Diagnosis | None:
    """What a run has to say of elements that were computed twice with different results."""
    return Diagnosis("check", "\n".join(disputes)) if disputes else None


class _Canvas:
    """A tensor being put together: integers (C, H * W), and the cluster that wrote each, -1 for none."""

    def __init__(self, tensor: _Inside, rng: np.random.Generator):
        c, h, w = tensor.shape
        poison = rng.bytes(size_bytes(tensor.shape, tensor.layout, MAP))
        self.tensor = tensor
        self.values = from_bytes(poison, tensor.shape, tensor.layout, tensor.signed, MAP).reshape(c, h * w)
        self.by = np.full(self.values.shape, -1, np.int8)
        self.dispute = ""

    def paint(self, piece: _Piece, records: npt.NDArray[np.void], l1_words: int) -> None:
        tensor, shape = self.tensor, self.tensor.part(piece)
        count, word_bytes = records.dtype["data"].shape
        words = size_bytes(shape, tensor.layout, MAP) // word_bytes
        memory = np.zeros((2, words, word_bytes), np.uint8)  # bytes; which of them were written
        valid = (records["mask"][:, None] >> np.arange(count) & 1).astype(bool)
        target = (records["address"].astype(np.int64) - piece.address) % l1_words
        valid &= target < words
        memory[0, target[valid]], memory[1, target[valid]] = records["data"][valid], 255
        values = from_bytes(memory[0].tobytes(), shape, tensor.layout, tensor.signed, MAP)
        written = from_bytes(memory[1].tobytes(), shape, tensor.layout, False, MAP) != 0
        pixels = np.arange(piece.y0, piece.y1)[:, None] * piece.width + np.arange(piece.x0, piece.x1)
        before, by = self.values[:, pixels], self.by[:, pixels]
        again = written & (by >= 0) & (values != before)
        if again.any() and not self.dispute:
            first = tuple(np.argwhere(again)[0])
            at = (int(first[0]), *divmod(int(pixels[first[1:]]), tensor.shape[2]))
            self.dispute = (
                f"{tensor.name}[{', '.join(map(str, at))}] was computed twice: as {before[first]} by cluster "
                f"{by[first]}, then as {values[first]} by cluster {piece.cluster}"
            )
        self.values[:, pixels] = np.where(written, values, before)
        self.by[:, pixels] = np.where(written, piece.cluster, by)
