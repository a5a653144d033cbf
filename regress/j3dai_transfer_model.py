# SPDX-License-Identifier: Apache-2.0
"""What a DMPA descriptor moves, by the manual's words alone: what the RTL's DMPA and the simulator's are held against.

No time: a semaphore is always ready, a transfer is finished before the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["TransferTrap", "run_descriptor", "words_gathered", "words_moved"]

Bytes = npt.NDArray[np.uint8]


class TransferTrap(Exception):
    """The descriptor traps."""


def words_moved(platform: J3dai, f: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """(word of L2, word of the local space) of each word that a LOAD or STORE moves, in order; none for SYNC.

    Args:
        f: the descriptor's fields; one that is missing is 0.

    Raises:
        TransferTrap: as the hardware does; what was given before has been moved.
    """
    field = {name: f.get(name, 0) for name in _FIELDS}
    if field["op"] == DmpaOp.SYNC.value:
        return
    if field["op"] not in (DmpaOp.LOAD.value, DmpaOp.STORE.value):
        raise TransferTrap(f"operation {field['op']}")
    _check_fields(platform, field)
    if field["op"] == DmpaOp.STORE.value and field["local"] >> 14 != Space.L1:
        raise TransferTrap("STORE from a space other than L1")
    for i2 in range(max(field["n2"], 1)):
        for i1 in range(max(field["n1"], 1)):
            far = field["l2"] + i1 * field["l2_step1"] + i2 * field["l2_step2"]
            near = field["local"] + i1 * field["local_step1"] + i2 * field["local_step2"]
            for i0 in range(field["n0"]):
                word = far % (1 << 20) + i0
                if word >= platform.l2_words:
                    raise TransferTrap("beyond the end of L2")
                yield word, (near + i0) % (1 << 14)


_FIELDS = ("op", "clusters", "n0", "n1", "n2", "l2", "l2_step1", "l2_step2", "local", "local_step1", "local_step2",
           "offset", "step", "used", "left", "length", "fill")


def _check_fields(platform: J3dai, field: Mapping[str, int]) -> None:
    clusters = field["clusters"]
    if not field["n0"] or not clusters or clusters >> platform.clusters or field["local"] >> 14 not in list(Space):
        raise TransferTrap("fields")


def words_gathered(platform: J3dai, f: Mapping[str, int], byte: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """(word of the local space, its value) of each word that a GATHER makes, in order.

    Args:
        f: as for `words_moved`. byte: gives the byte of L2 at an address.

    Raises:
        TransferTrap: as `words_moved`.
    """
    field, word = {name: f.get(name, 0) for name in _FIELDS}, platform.word_bytes
    _check_fields(platform, field)
    in_range = 1 <= field["step"] <= word and 1 <= field["used"] <= word and field["offset"] < word
    if not in_range or field["left"] >= field["used"] or not field["length"]:
        raise TransferTrap("fields of GATHER")
    for i2 in range(max(field["n2"], 1)):
        for i1 in range(max(field["n1"], 1)):
            first = field["l2"] * word + field["offset"] + i1 * field["l2_step1"] + i2 * field["l2_step2"]
            first %= word << 20
            if first + field["length"] > platform.l2_bytes:
                raise TransferTrap("beyond the end of L2")
            near = field["local"] + i1 * field["local_step1"] + i2 * field["local_step2"]
            for i0 in range(field["n0"]):
                value = 0
                for j in range(field["used"]):
                    place = i0 * field["step"] + j - field["left"]
                    inside = 0 <= place < field["length"]
                    value |= (byte(first + place) if inside else field["fill"]) << 8 * j
                yield (near + i0) % (1 << 14), value


def run_descriptor(platform: J3dai, f: Mapping[str, int], l2: Bytes, local: Mapping[int, Bytes]) -> None:
    """Perform one descriptor's transfer.

    Args:
        f: its fields.
        l2: all of L2.
        local: `Space` -> the memory of all clusters, shape (clusters, bytes); local addresses wrap at its end.

    Raises:
        TransferTrap: as the hardware does. What it did before is done.
    """
    words = l2.reshape(-1, platform.word_bytes)
    clusters = [c for c in range(platform.clusters) if f["clusters"] >> c & 1]
    if f["op"] == DmpaOp.GATHER.value:
        for near, value in words_gathered(platform, f, lambda at: int(l2[at])):
            memory = local[f["local"] >> 14].reshape(platform.clusters, -1, platform.word_bytes)
            raw = value.to_bytes(platform.word_bytes, "little")
            memory[clusters, near % memory.shape[1]] = np.frombuffer(raw, np.uint8)
        return
    for far, near in words_moved(platform, f):
        memory = local[f["local"] >> 14].reshape(platform.clusters, -1, platform.word_bytes)
        place = near % memory.shape[1]
        if f["op"] == DmpaOp.LOAD.value:
            memory[clusters, place] = words[far]
        else:
            words[far] = memory[clusters[0], place]
