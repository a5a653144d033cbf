# SPDX-License-Identifier: Apache-2.0
"""Every word of a memory tagged with what it holds: buffer, word of the buffer, version; every read held against it.

The tags follow the writes; values do not matter. So a transfer that finds a word of another tensor, of the frame
before, or nothing, is seen although the value may happen to be the right one. What each transfer means is told by the
image; how the compiler came to its addresses is not asked.

Used twice: on the transfers that an image names (`MemoryTags.play`, after linking), and on the accesses that monitors
saw at the memory's port (`MemoryTags.frame`, on RTL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.traffic import TrafficBuffer

__all__ = ["Accesses", "Meaning", "Meant", "MemoryTags", "Placed", "Shared"]

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]

_WORD_BITS, _BUFFER_BITS = 24, 16
_NOTHING = -1
_MOST = 4
"""Complaints that are written out."""


@dataclass(frozen=True, eq=False)
class Accesses:
    """Words of a memory that transfers read and wrote, in order. `word`: addresses."""

    word: _Ints
    write: _Bools

    @classmethod
    def of_beats(cls, reads: npt.NDArray[np.void], writes: npt.NDArray[np.void], lanes: int) -> Accesses:
        """From the monitors' records: fields `cycle`, `address`, `mask` (bit i: word address + i)."""
        cycle = np.concatenate([reads["cycle"], writes["cycle"]]).astype(np.int64)
        order = np.argsort(cycle, kind="stable")
        address, mask = (
            np.concatenate([reads[name].astype(np.int64), writes[name].astype(np.int64)])[order]
            for name in ("address", "mask")
        )
        write = order >= len(reads)
        lane = np.arange(lanes)
        used = (mask[:, None] >> lane & 1).astype(bool)
        return cls((address[:, None] + lane)[used], np.broadcast_to(write[:, None], used.shape)[used])


@dataclass(frozen=True, eq=False)
class Meant:
    """What the lists of a frame mean, word by word, and behind each list a look at all words of what it has completed.

    tag: without version. owner: index into `names`, (list, transfer; -1 for such a look). real: those that move.
    """

    word: _Ints
    tag: _Ints
    write: _Bools
    owner: _Ints
    names: list[tuple[int, int]]
    real: _Ints


@dataclass(frozen=True)
class Placed:
    """A tensor: `words` words at word address `at` hold those of a buffer (its number) from word `start` on.

    complete: number of the list that makes it whole, -1: it comes from outside. output: it must be there at the end.
    """

    buffer: int
    start: int
    at: int
    words: int
    complete: int
    output: bool


@dataclass(frozen=True)
class Shared:
    """A memory that transfers share, and what lies in it.

    name, mover, reads, writes: what messages call the memory ("L2"), who moves ("the DMPA"), and its transfers.
    inputs: tensors that are put there before each frame. steps: names, one a list.
    """

    name: str
    mover: str
    reads: str
    writes: str
    words: int
    buffers: Sequence[TrafficBuffer]
    tensors: Mapping[str, Placed]
    inputs: Sequence[str]
    steps: Sequence[str]

    def tags(self, name: str) -> tuple[_Ints, _Ints]:
        """Addresses and tags without version of a tensor's words."""
        placed = self.tensors[name]
        offsets = np.arange(placed.words)
        return placed.at + offsets, (placed.buffer << _WORD_BITS) + placed.start + offsets

    def completed(self, number: int) -> list[str]:
        """Tensors that are complete when list `number` ends, and at a frame's end all of its outputs."""
        last = number + 1 == len(self.steps)
        return [name for name, t in self.tensors.items() if t.complete == number or (last and t.output)]


class Meaning:
    """Collects what lists mean: each transfer, in order, by `move` or `skip`; behind its last one `end`."""

    def __init__(self, memory: Shared):
        self._memory, self._list, self._transfer = memory, 0, 0
        self._columns: list[tuple[_Ints, _Ints, bool, int, bool]] = []
        self._names: list[tuple[int, int]] = []

    def _add(self, word: _Ints, tag: _Ints, write: bool, name: tuple[int, int], real: bool) -> None:
        self._columns.append((word, tag, write, len(self._names), real))
        self._names.append(name)

    def move(self, word: _Ints, buffer: int, within: _Ints, write: bool) -> None:
        """The next transfer: words at addresses `word`, which are words `within` of a buffer."""
        self._add(word, (buffer << _WORD_BITS) + within, write, (self._list, self._transfer), True)
        self._transfer += 1

    def skip(self) -> None:
        """The next transfer moves nothing."""
        self._transfer += 1

    def end(self) -> None:
        """The list ends."""
        for tensor in self._memory.completed(self._list):
            self._add(*self._memory.tags(tensor), False, (self._list, -1), False)
        self._list, self._transfer = self._list + 1, 0

    def all(self) -> Meant:
        columns = self._columns
        sizes = [len(word) for word, *_ in columns]

        def spread(values: Iterable[int]) -> _Ints:
            return np.repeat(np.fromiter(values, np.int64, len(columns)), sizes)

        return Meant(
            np.concatenate([c[0] for c in columns]), np.concatenate([c[1] for c in columns]),
            spread(c[2] for c in columns).astype(bool), spread(c[3] for c in columns), self._names,
            np.flatnonzero(spread(c[4] for c in columns)),
        )  # fmt: skip


class MemoryTags:
    """The tags of a memory over the frames of a run.

    Args:
        loaded: (words,), which of them the image fills.
    """

    def __init__(self, memory: Shared, meant: Meant, loaded: _Bools):
        self.memory, self.meant = memory, meant
        self._stays = np.array([buffer.stays for buffer in memory.buffers], bool)
        self._frame = 0
        self._state = np.full(memory.words, _NOTHING, np.int64)
        for number, buffer in enumerate(memory.buffers):
            if buffer.stays:
                words = buffer.word + np.flatnonzero(loaded[buffer.word : buffer.word + buffer.words])
                self._state[words] = (number << _WORD_BITS) + words - buffer.word

    def frame(self, seen: Accesses, complete: bool = True) -> str:
        """Judge the accesses of the next frame, from its first list on; "" or what is wrong.

        Transfers happen in the order of the lists, so word k of what was seen has to be word k of what they mean.

        complete: whether the frame came to its end; else what was not moved is no fault.
        """
        self._frame += 1
        for name in self.memory.inputs:  # written by the bench
            words, tag = self.memory.tags(name)
            self._state[words] = self._versions(tag)
        meant = self.meant
        expected, count = meant.write[meant.real], min(len(seen.word), len(meant.real))
        other = np.flatnonzero(seen.write[:count] != expected[:count])
        order = ""
        if len(other):
            count = int(other[0])
            did = "wrote" if seen.write[count] else "read"
            order = f"{self.memory.mover} {did} word {int(seen.word[count])} out of the order of the lists"
        elif len(seen.word) > count or (complete and len(meant.real) > count):
            order = f"{self.memory.mover} moved {len(seen.word)} words, but the lists name {len(meant.real)}"
        end = len(meant.tag) if count == len(meant.real) else int(meant.real[count])
        word = meant.word[:end].copy()
        word[meant.real[:count]] = seen.word[:count]
        wrong = self._judge(word)
        return wrong or (order and f"frame {self._frame}: {order}")

    def play(self, frames: int = 2) -> str:
        """Move what the lists mean, `frames` inferences in a row: "" or the first reads that find what they do not
        mean."""
        moved = Accesses(self.meant.word[self.meant.real], self.meant.write[self.meant.real])
        return next(filter(None, (self.frame(moved) for _ in range(frames))), "")

    def holds(self, name: str) -> bool:
        """Whether all words of a tensor, of the latest frame, are where the tile table says."""
        words, tag = self.memory.tags(name)
        return bool((self._state[words] == self._versions(tag)).all())

    def _versions(self, tag: _Ints) -> _Ints:
        """Tags with the version of this frame; what stays has version 0."""
        return tag + np.where(self._stays[tag >> _WORD_BITS], 0, self._frame << (_WORD_BITS + _BUFFER_BITS))

    def _judge(self, word: _Ints) -> str:
        """Play the first accesses of a frame at addresses `word` through, and describe the first that are wrong."""
        meant, count = self.meant, len(word)
        tag, write = self._versions(meant.tag[:count]), meant.write[:count]
        outside = np.flatnonzero((word < 0) | (word >= len(self._state)))
        if len(outside):
            who, astray = self._who(int(outside[0])), int(word[outside[0]])
            return f"frame {self._frame}: {who} moves word {astray} beyond {self.memory.name}"
        order = np.argsort(word.astype(np.int32), kind="stable")
        at = np.arange(count)
        ordered = word[order]
        first = np.append(True, ordered[1:] != ordered[:-1])[:count]
        begin = np.maximum.accumulate(np.where(first, at, 0))
        written = np.maximum.accumulate(np.where(write[order], at, -1))
        holds = np.where(written >= begin, tag[order][written], self._state[ordered])
        # What stays is never written, by whomever.
        spoilt = write[order] & self._constant(self._state[ordered])
        bad = np.sort(order[(~write[order] & (holds != tag[order])) | spoilt])
        text = ""
        if len(bad):
            where = np.empty(count, np.int64)
            where[order] = holds
            text = self._describe(bad, word, tag, where)
        last = np.append(first[1:], True)[:count]
        self._state[ordered[last]] = holds[last]
        return text

    def _constant(self, tag: _Ints) -> _Bools:
        return (tag >= 0) & (tag < 1 << (_WORD_BITS + _BUFFER_BITS))

    def _describe(self, bad: _Ints, word: _Ints, tag: _Ints, holds: _Ints) -> str:
        lines, seen = [], set()
        for k in map(int, bad):
            owner = int(self.meant.owner[k])
            if owner in seen:
                continue
            seen.add(owner)
            if self.meant.write[k]:
                lines.append(f"{self._who(k)} overwrites word {word[k]}: {self._name(int(self._state[word[k]]))}")
            else:
                lines.append(f"{self._who(k)} reads word {word[k]} for {self._name(int(tag[k]))}, "
                             f"but there is {self._name(int(holds[k]))}")  # fmt: skip
            if len(lines) == _MOST:
                break
        more = f" ({len(bad)} words in all)" if len(bad) > 1 else ""
        return f"frame {self._frame}: {self.memory.name} does not hold what is read{more}\n  " + "\n  ".join(lines)

    def _who(self, k: int) -> str:
        number, descriptor = self.meant.names[int(self.meant.owner[k])]
        where = f"list {number} ({self.memory.steps[number]})"
        if descriptor < 0:
            return f"at the end of {where} the check of its results"
        kind = self.memory.writes if self.meant.write[k] else self.memory.reads
        return f"{where}, descriptor {descriptor}: {kind}"

    def _name(self, tag: int) -> str:
        if tag == _NOTHING:
            return "nothing that was ever written"
        number, word = tag >> _WORD_BITS & (1 << _BUFFER_BITS) - 1, tag & (1 << _WORD_BITS) - 1
        version = tag >> _WORD_BITS + _BUFFER_BITS
        kind = f"of frame {version}" if version else "as loaded"
        return f"word {word} of {self.memory.buffers[number].name} {kind}"
