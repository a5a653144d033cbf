# SPDX-License-Identifier: Apache-2.0
"""The traffic of L2 in the order of the descriptor lists, from which `placement` tells what may lie over what.

All traffic of L2 is the DMPA's, one transfer after the other, and a LOAD behind a STORE sees what that has written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.j3dai.transfers import Piece, Transfer
from nncosim.compiler.placement.accesses import Ints
from nncosim.hdl.j3dai.isa import DmpaOp

__all__ = ["L2", "PieceAccess", "accesses", "first_words", "piece_words"]

L2 = "l2", 0
"""Memory and instance."""


@dataclass(frozen=True)
class PieceAccess:
    """What a piece does to L2, see `placement.accesses.Access`; a unit is a word."""

    piece: Piece
    write: bool
    word_bytes: int

    @property
    def buffer(self) -> str:
        return self.piece.buffer

    def units(self) -> Ints:
        return piece_words(self.piece, self.word_bytes)


def accesses(transfers: Iterable[Transfer], word_bytes: int) -> Iterator[PieceAccess]:
    """Of a list, in order."""
    for transfer in transfers:
        for piece in transfer.pieces:
            yield PieceAccess(piece, transfer.op is DmpaOp.STORE, word_bytes)


def first_words(transfers: Iterable[Transfer], word_bytes: int) -> list[tuple[str, int]]:
    """Of each descriptor of a list its buffer, and the first word in it."""
    pieces = [piece for transfer in transfers for piece in transfer.pieces]
    return [(p.buffer, p.offset if p.gather is None else p.offset // word_bytes) for p in pieces]


def piece_words(piece: Piece, word_bytes: int) -> Ints:
    """Words of its buffer that a piece moves, in the order in which the DMPA does; of a GATHER those with its bytes."""
    if piece.gather is not None:
        starts = piece.offset + np.arange(piece.n2)[:, None] * piece.l2_step2 + np.arange(piece.n1) * piece.l2_step1
        low, high = starts.ravel() // word_bytes, (starts.ravel() + piece.gather.length - 1) // word_bytes
        return np.concatenate([np.arange(a, b + 1) for a, b in zip(low, high, strict=True)])
    runs = piece.offset + np.arange(piece.n2)[:, None] * piece.l2_step2 + np.arange(piece.n1) * piece.l2_step1
    return (runs[:, :, None] + np.arange(piece.n0)).reshape(-1)
