# SPDX-License-Identifier: Apache-2.0
"""When each word of each tensor in L2 is in use, from the order of the descriptor lists.

All traffic of L2 is the DMPA's, one transfer after the other in the order of the lists, and a LOAD behind a STORE sees
what that has written. So the lists alone say when a word is written first and read last; waits and predicted times
do not matter. A frame's inputs are put in place before its first list and its outputs are read after its last,
so frames that follow each other need nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from nncosim.compiler.j3dai.transfers import Piece, Transfer
from nncosim.compiler.placement.lives import BEFORE, BEHIND, Life, Lives
from nncosim.compiler.placement.placement import Buffer, outermost
from nncosim.hdl.j3dai.isa import DmpaOp

__all__ = ["piece_words", "tensor_lives"]

_Ints = npt.NDArray[np.int64]


def piece_words(piece: Piece, word_bytes: int) -> _Ints:
    """Words of its buffer that a piece moves, in the order in which the DMPA does; of a GATHER those with its bytes."""
    if piece.gather is not None:
        starts = piece.offset + np.arange(piece.n2)[:, None] * piece.l2_step2 + np.arange(piece.n1) * piece.l2_step1
        low, high = starts.ravel() // word_bytes, (starts.ravel() + piece.gather.length - 1) // word_bytes
        return np.concatenate([np.arange(a, b + 1) for a, b in zip(low, high, strict=True)])
    runs = piece.offset + np.arange(piece.n2)[:, None] * piece.l2_step2 + np.arange(piece.n1) * piece.l2_step1
    return (runs[:, :, None] + np.arange(piece.n0)).reshape(-1)


class _Words:
    """First write and last use of each word of a buffer."""

    def __init__(self, words: int):
        self.born = np.full(words, BEHIND, np.int64)
        self.dies = np.full(words, BEFORE - 1, np.int64)

    def use(self, at: _Ints | slice, position: int, write: bool) -> None:
        """Positions come in ascending order."""
        if write:
            self.born[at] = np.minimum(self.born[at], position)
        self.dies[at] = np.maximum(self.dies[at], position)


def tensor_lives(
    lists: Sequence[tuple[str, Iterable[Transfer]]], buffers: Iterable[Buffer], word_bytes: int
) -> Lives:
    """Lives of all tensors in L2, counted in words, over the lists of a frame.

    A word counts as in use until the end of the list that writes it, so that a list leaves its tensor complete.

    Args:
        lists: (layer, transfers in order of execution), one after the other.
        buffers: tensors, and whatever the transfers name; only what is not there for the whole run gets a life.
    """
    known = {b.name: b for b in buffers}
    place = {b.name: outermost(b, known) for b in known.values()}
    words = {root.name: _Words(-(-root.size // word_bytes)) for root, _ in place.values() if not root.always}
    for buffer in known.values():
        root, offset = place[buffer.name]
        if root.always:
            continue
        at = slice(offset // word_bytes, -(-(offset + buffer.size) // word_bytes))
        if buffer.from_start:
            words[root.name].use(at, BEFORE, True)
        if buffer.to_end:
            words[root.name].use(at, BEHIND, False)
    starts = {name: (root.name, offset // word_bytes) for name, (root, offset) in place.items()}
    steps, position = [], 0
    for name, transfers in lists:
        steps.append((position, name))
        position = _use(transfers, position, starts, words, word_bytes)
    of = {name: Life.of_units(each.born, each.dies) for name, each in words.items()}
    return Lives("l2", word_bytes, of, tuple(steps))


def _use(
    transfers: Iterable[Transfer], position: int, starts: Mapping[str, tuple[str, int]], words: Mapping[str, _Words],
    word_bytes: int,
) -> int:
    """Plays a list from a position on, and returns the one behind it. starts: where each buffer lies in which of
    `words`, and of others."""
    written: list[tuple[str, _Ints]] = []
    for transfer in transfers:
        store = transfer.op is DmpaOp.STORE
        for piece in transfer.pieces:
            root, start = starts[piece.buffer]
            if root not in words:
                continue
            at = piece_words(piece, word_bytes) + start
            words[root].use(at, position, store)
            if store:
                written.append((root, at))
            position += 1
    for root, at in written:
        words[root].use(at, position, False)
    return position + 1
