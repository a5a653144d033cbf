# SPDX-License-Identifier: Apache-2.0
"""Every word of L2 tagged with what it holds: buffer, word of the buffer, version; and every LOAD held against it.

The tags follow the writes; values do not matter. So a transfer that finds a word of another tensor, of the frame
before, or nothing, is seen although the value may happen to be the right one. What each descriptor means is in the
image's traffic table; how the compiler came to its addresses is not asked.

Used twice: on the descriptor lists of an image (`check_image`, after linking), and on the accesses that the monitors
saw at L2's port (`L2Tags.frame`, on RTL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image, ImageError, read_tiles
from nncosim.compiler.j3dai.notes import ListNote, Traffic, j3dai_notes
from nncosim.hdl.j3dai.asm import DESCRIPTOR_BYTES, decode_descriptors
from nncosim.hdl.j3dai.isa import DmpaOp
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import J3dai

__all__ = ["Accesses", "L2Tags", "check_image", "expand"]

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]

_WORD_BITS, _BUFFER_BITS = 24, 16
_NOTHING = -1
_MOST = 4
"""Complaints that are written out."""


@dataclass(frozen=True, eq=False)
class Accesses:
    """Words of L2 that LOADs read and STOREs wrote, in order. `word`: addresses."""

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
class _Meant:
    """What the lists of a frame mean, word by word, and behind each list a look at all words of what it has completed.

    tag: without version. owner: index into `names`, (list, descriptor; -1 for such a look). real: those that move.
    """

    word: _Ints
    tag: _Ints
    write: _Bools
    owner: _Ints
    names: list[tuple[int, int]]
    real: _Ints


def expand(fields: Mapping[str, int], platform: J3dai) -> _Ints:
    """Offsets from word `l2` of a descriptor of all words that it moves, in order; of a GATHER those that it reads."""
    if fields["op"] == DmpaOp.GATHER.value:
        return _gathered(fields, platform)
    n0, n1, n2 = (max(int(fields[n]), 1) for n in ("n0", "n1", "n2"))
    runs = np.arange(n2)[:, None] * int(fields["l2_step2"]) + np.arange(n1) * int(fields["l2_step1"])
    return (runs[:, :, None] + np.arange(n0)).reshape(-1)


def _gathered(fields: Mapping[str, int], platform: J3dai) -> _Ints:
    """A beat reads a line from the word in which its first byte lies, as far as that line has words of the run."""
    word, line = platform.word_bytes, np.arange(platform.banks)
    advance = fields["step"] * min(platform.beat_words, (platform.line_bytes - 2 * word + 1) // fields["step"] + 1)
    n1, n2 = max(fields["n1"], 1), max(fields["n2"], 1)
    beats = -(-fields["n0"] * fields["step"] // advance)
    starts = (np.arange(n2)[:, None] * fields["l2_step2"] + np.arange(n1) * fields["l2_step1"]).reshape(-1, 1)
    first = fields["offset"] + starts
    at = (first - fields["left"] + np.arange(beats) * advance) // word
    words = at[:, :, None] + line
    low, high = first[:, :, None] // word, (first[:, :, None] + fields["length"] - 1) // word
    return words[(words >= low) & (words <= high)]


def _load(image: Image, platform: J3dai) -> tuple[bytes, _Bools]:
    """L2 as the image loads it, and which words it loads."""
    memory, loaded = bytearray(platform.l2_bytes), np.zeros(platform.l2_words, bool)
    for segment in image.segments:
        at = segment.address - L2_BASE
        end = at + len(segment.data)
        if segment.memory == "l2" and 0 <= at and end <= platform.l2_bytes:
            memory[at:end] = segment.data
            loaded[at // platform.word_bytes : -(-end // platform.word_bytes)] = True
    return bytes(memory), loaded


class L2Tags:
    """The tags of L2 over the frames of a run.

    Args:
        image: with schedule, tile table and traffic table.

    Raises:
        ImageError: an image without them, or whose table does not fit its lists.
    """

    def __init__(self, image: Image, platform: J3dai):
        self._platform, self._word_bytes = platform, platform.word_bytes
        memory, loaded = _load(image, platform)
        table = j3dai_notes(image).traffic
        if table is None:
            raise ImageError("the image has no traffic table (it was stripped); compile it again")
        self._buffers = table.buffers
        self._stays = np.array([buffer.stays for buffer in table.buffers], bool)
        self._inputs = [name for name in image.notes.inputs if name in table.tensors]
        self._steps = [step.name for step in image.notes.steps]
        self._places = {
            name: (*table.tensors[name], place) for name, place in read_tiles(image).items() if name in table.tensors
        }
        self.meant = self._meaning(j3dai_notes(image).lists, table, memory)
        self._frame = 0
        self._state = np.full(platform.l2_words, _NOTHING, np.int64)
        for number, buffer in enumerate(self._buffers):
            if buffer.stays:
                words = buffer.word + np.flatnonzero(loaded[buffer.word : buffer.word + buffer.words])
                self._state[words] = (number << _WORD_BITS) + words - buffer.word

    def _meaning(self, lists: Sequence[ListNote], table: Traffic, memory: bytes) -> _Meant:
        columns: list[tuple[_Ints, _Ints, bool, int, bool]] = []
        names: list[tuple[int, int]] = []

        def add(word: _Ints, tag: _Ints, write: bool, name: tuple[int, int], real: bool) -> None:
            columns.append((word, tag, write, len(names), real))
            names.append(name)

        if len(table.lists) != len(lists):
            raise ImageError(f"the image has {len(lists)} lists, its traffic table names {len(table.lists)}")
        for number, (one, meant) in enumerate(zip(lists, table.lists, strict=True)):
            at, count = one.word * self._word_bytes, len(meant.buffer)
            found = decode_descriptors(memory[at : at + DESCRIPTOR_BYTES * count])
            if len(found) != count or not found or not found[-1]["end"]:
                raise ImageError(f"list {number} of the image has not the descriptors that its traffic table names")
            for k, (fields, buffer, word) in enumerate(zip(found, meant.buffer, meant.word, strict=True)):
                if fields["op"] != DmpaOp.SYNC.value:
                    offsets, store = expand(fields, self._platform), fields["op"] == DmpaOp.STORE.value
                    tag = (buffer << _WORD_BITS) + word + offsets
                    add(int(fields["l2"]) + offsets, tag, store, (number, k), True)
            for tensor in self._completed(number, number + 1 == len(self._steps)):
                add(*self._tensor(tensor), False, (number, -1), False)
        sizes = [len(word) for word, *_ in columns]

        def spread(values: Iterable[Any], kind: type) -> npt.NDArray[Any]:
            return np.repeat(np.fromiter(values, kind, len(columns)), sizes)

        return _Meant(
            np.concatenate([c[0] for c in columns]), np.concatenate([c[1] for c in columns]),
            spread((c[2] for c in columns), bool), spread((c[3] for c in columns), np.int64), names,
            np.flatnonzero(spread((c[4] for c in columns), bool)),
        )  # fmt: skip

    def _completed(self, number: int, last: bool) -> list[str]:
        """Tensors that are complete when list `number` ends, and at a frame's end all of its outputs."""
        return [
            name for name, (_, _, place) in self._places.items()
            if max(place.written_by, default=-1) == number or (last and place.role == "output")
        ]  # fmt: skip

    def _tensor(self, name: str) -> tuple[_Ints, _Ints]:
        """Addresses (by the tile table) and tags without version of a tensor's words."""
        buffer, start, place = self._places[name]
        offsets = np.arange(-(-place.size // self._word_bytes))
        first = (place.address - L2_BASE) // self._word_bytes
        return first + offsets, (buffer << _WORD_BITS) + start + offsets

    def frame(self, seen: Accesses, complete: bool = True) -> str:
        """Judge the accesses of the next frame, from its first list on; "" or what is wrong.

        The DMPA works in the order of the lists, so word k of what was seen has to be word k of what they mean.

        complete: whether the frame came to its end; else what was not moved is no fault.
        """
        self._frame += 1
        for name in self._inputs:  # written by the bench
            words, tag = self._tensor(name)
            self._state[words] = self._versions(tag)
        meant = self.meant
        expected, count = meant.write[meant.real], min(len(seen.word), len(meant.real))
        other = np.flatnonzero(seen.write[:count] != expected[:count])
        order = ""
        if len(other):
            count = int(other[0])
            did = "wrote" if seen.write[count] else "read"
            order = f"the DMPA {did} word {int(seen.word[count])} out of the order of the lists"
        elif len(seen.word) > count or (complete and len(meant.real) > count):
            order = f"the DMPA moved {len(seen.word)} words, but the lists name {len(meant.real)}"
        end = len(meant.tag) if count == len(meant.real) else int(meant.real[count])
        word = meant.word[:end].copy()
        word[meant.real[:count]] = seen.word[:count]
        wrong = self._judge(word)
        return wrong or (order and f"frame {self._frame}: {order}")

    def holds(self, name: str) -> bool:
        """Whether all words of a tensor, of the latest frame, are where the tile table says."""
        words, tag = self._tensor(name)
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
            return f"frame {self._frame}: {self._who(int(outside[0]))} moves word {int(word[outside[0]])} beyond L2"
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
        return f"frame {self._frame}: L2 does not hold what is read{more}\n  " + "\n  ".join(lines)

    def _who(self, k: int) -> str:
        number, descriptor = self.meant.names[int(self.meant.owner[k])]
        where = f"list {number} ({self._steps[number]})"
        if descriptor < 0:
            return f"at the end of {where} the check of its results"
        return f"{where}, descriptor {descriptor}: {'STORE' if self.meant.write[k] else 'LOAD'}"

    def _name(self, tag: int) -> str:
        if tag == _NOTHING:
            return "nothing that was ever written"
        number, word = tag >> _WORD_BITS & (1 << _BUFFER_BITS) - 1, tag & (1 << _WORD_BITS) - 1
        version = tag >> _WORD_BITS + _BUFFER_BITS
        kind = f"of frame {version}" if version else "as loaded"
        return f"word {word} of {self._buffers[number].name} {kind}"


def check_image(image: Image, platform: J3dai, frames: int = 2) -> str:
    """Play an image's lists through, `frames` inferences in a row: "" or the first LOADs that find what they do not
    mean.

    Raises:
        ImageError: as `L2Tags`.
    """
    tags = L2Tags(image, platform)
    meant = tags.meant
    moved = Accesses(meant.word[meant.real], meant.write[meant.real])
    return next(filter(None, (tags.frame(moved) for _ in range(frames))), "")
