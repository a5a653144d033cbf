# SPDX-License-Identifier: Apache-2.0
"""What a DMPA descriptor moves, by the manual's words alone: what the RTL's DMPA and the simulator's are held against.

No time: a semaphore is always ready, a transfer is finished before the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["TransferTrap", "run_descriptor", "words_moved"]

Bytes = npt.NDArray[np.uint8]


class TransferTrap(Exception):
    """The descriptor traps."""


def words_moved(platform: J3dai, f: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """(word of L2, word of the local space) of each word that a descriptor moves, in order; none for SYNC.

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
    space, clusters = field["local"] >> 14, field["clusters"]
    if not field["n0"] or not clusters or clusters >> platform.clusters or space not in list(Space):
        raise TransferTrap("fields")
    if field["op"] == DmpaOp.STORE.value and space != Space.L1:
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


_FIELDS = ("op", "clusters", "n0", "n1", "n2", "l2", "l2_step1", "l2_step2", "local", "local_step1", "local_step2")


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
    for far, near in words_moved(platform, f):
        memory = local[f["local"] >> 14].reshape(platform.clusters, -1, platform.word_bytes)
        place = near % memory.shape[1]
        if f["op"] == DmpaOp.LOAD.value:
            memory[clusters, place] = words[far]
        else:
            words[far] = memory[clusters[0], place]
