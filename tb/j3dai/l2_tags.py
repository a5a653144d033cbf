# SPDX-License-Identifier: Apache-2.0
"""What the descriptors of an image mean, for the traffic check of L2 (`nncosim.tb.run.traffic`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image, ImageError, read_tiles
from nncosim.compiler.image.traffic import ListTraffic, Traffic
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.hdl.j3dai.asm import DESCRIPTOR_BYTES, decode_descriptors
from nncosim.hdl.j3dai.isa import DmpaOp
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.run.traffic import Meaning, MemoryTags, Placed, Shared

__all__ = ["check_image", "expand", "l2_tags"]

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


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


def l2_tags(image: Image, platform: J3dai) -> MemoryTags:
    """The tags of L2, from an image with schedule, tile table and traffic table.

    Raises:
        ImageError: an image without them, or whose table does not fit its lists.
    """
    contents, loaded = _load(image, platform)
    notes = j3dai_notes(image)
    if notes.traffic is None:
        raise ImageError("the image has no traffic table (it was stripped); compile it again")
    if len(notes.traffic.lists) != len(notes.lists):
        raise ImageError(f"the image has {len(notes.lists)} lists, its traffic table names {len(notes.traffic.lists)}")
    memory = _shared(image, notes.traffic, platform)
    meaning = Meaning(memory)
    for number, (one, meant) in enumerate(zip(notes.lists, notes.traffic.lists, strict=True)):
        at = one.word * platform.word_bytes
        _read_list(meaning, number, contents[at : at + DESCRIPTOR_BYTES * len(meant.buffer)], meant, platform)
    return MemoryTags(memory, meaning.all(), loaded)


def _shared(image: Image, table: Traffic, platform: J3dai) -> Shared:
    word, tensors = platform.word_bytes, {}
    for name, place in read_tiles(image).items():
        if name in table.tensors:
            at, words = (place.only.address - L2_BASE) // word, -(-place.size // word)
            last = max(place.written_by, default=-1)
            tensors[name] = Placed(*table.tensors[name], at, words, last, place.role == "output")
    return Shared(
        "L2", "the DMPA", "LOAD", "STORE", platform.l2_words,
        table.buffers, tensors,
        [name for name in image.notes.inputs if name in table.tensors], [step.name for step in image.notes.steps],
    )  # fmt: skip


def _read_list(meaning: Meaning, number: int, raw: bytes, meant: ListTraffic, platform: J3dai) -> None:
    found = decode_descriptors(raw)
    if len(found) != len(meant.buffer) or not found or not found[-1]["end"]:
        raise ImageError(f"list {number} of the image has not the descriptors that its traffic table names")
    for fields, buffer, word in zip(found, meant.buffer, meant.word, strict=True):
        if fields["op"] == DmpaOp.SYNC.value:
            meaning.skip()
        else:
            offsets, store = expand(fields, platform), fields["op"] == DmpaOp.STORE.value
            meaning.move(int(fields["l2"]) + offsets, buffer, word + offsets, store)
    meaning.end()


def check_image(image: Image, platform: J3dai) -> str:
    """Play an image's lists through: see `MemoryTags.play`; raises as `l2_tags`."""
    return l2_tags(image, platform).play()
