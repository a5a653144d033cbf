# SPDX-License-Identifier: Apache-2.0
"""From what a run wrote to a memory, and what that holds, to its tensors; and from its completions to its layers.

Used for RTL (records of monitors) and instruction-set simulators (records of their own) alike. A list is what a step of
the schedule gives to the machine; a record says in which of them it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.ir.layout import Layout, from_bytes, size_bytes, to_bytes
from nncosim.tb.backend import Interval

__all__ = [
    "Completion", "Place", "capture", "intervals", "kept_places", "pack_input", "places", "poison_kept", "read_back",
]  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a memory, as what, in which lists of a frame it is written (none for an input), and
    whether it is still there when the frame has ended.

    word: its first, of `word_bytes` bytes.
    """

    name: str
    word: int
    word_bytes: int
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    layout: Layout
    signed: bool
    lists: tuple[int, ...]
    kept: bool

    @property
    def words(self) -> int:
        return -(-size_bytes(self.shape, self.layout, self.axes) // self.word_bytes)


@dataclass(frozen=True)
class Completion:
    """One list done, or (the last of a frame) the host's completion: cycle and counters since reset.

    `transfers`: by kind, as in `nncosim.tb.backend.Interval`.
    """

    cycle: int
    counters: Mapping[str, Mapping[str, int]]
    transfers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def places(image: Image, memory: str, base: int, word_bytes: int) -> dict[str, Place]:
    """The tensors of an image's tile table that lie in a memory, which begins at address `base`.

    Raises:
        ImageError: the image has none.
        TilesError: a tensor lies there in several fragments.
    """
    found = {}
    for name, place in read_tiles(image).items():
        if any(fragment.memory == memory for fragment in place.fragments):
            fragment, tensor = place.only, place.tensor
            word = (fragment.address - base) // word_bytes
            found[name] = Place(name, word, word_bytes, fragment.shape, tensor.axes, fragment.layout,
                                tensor.type.signed, fragment.written_by, place.kept)  # fmt: skip
    return found


def pack_input(place: Place, values: npt.NDArray[np.int64]) -> bytes:
    """The bytes of an input tensor, filled up to whole words."""
    data = to_bytes(values, place.layout, place.axes)
    return data + b"\0" * (place.words * place.word_bytes - len(data))


def kept_places(places_: Mapping[str, Place]) -> list[Place]:
    """Those that are still there when a frame has ended, graph inputs among them."""
    return [place for place in places_.values() if place.kept]


def read_back(places_: Iterable[Place], read: Callable[[int, int], npt.NDArray[np.uint8]]) -> dict[str, np.ndarray]:
    """Tensors as memory holds them. `read`: (first word, number of words) to bytes (words, word)."""
    return {
        p.name: from_bytes(read(p.word, p.words).tobytes(), p.shape, p.layout, p.signed, p.axes) for p in places_
    }  # fmt: skip


def poison_kept(places_: Mapping[str, Place], write: Callable[[int, bytes], None], seed: int) -> None:
    """Fill the places of kept results with random bytes, so that what the frame before left there is no result.

    Comes before the inputs are put in place: a result may come to lie over one. `write`: (first word, bytes).
    """
    rng = np.random.default_rng([seed, 2])
    for place in kept_places(places_):
        if place.lists:
            write(place.word, rng.bytes(place.words * place.word_bytes))


def capture(
    places_: Mapping[str, Place], writes: npt.NDArray[np.void], first_list: int, poison: int
) -> dict[str, np.ndarray]:
    """Rebuild each tensor from the writes of the lists that write it.

    Args:
        writes: records with fields `list`, `address` (word), `mask` and `data` (words of so many bytes), in order.
        first_list: number of the frame's first list, counted from reset.
        poison: seed of the bytes that nothing wrote.

    Returns:
        Integers (C, H, W) by tensor. A tensor of which nothing was written is absent.
    """
    rng = np.random.default_rng(poison)
    tensors: dict[str, np.ndarray] = {}
    lists = writes["list"].astype(np.int64) - first_list
    address = writes["address"].astype(np.int64)
    beat = writes.dtype["data"].shape[0]
    lanes = np.arange(beat)
    for place in places_.values():
        if not place.lists:
            continue
        near = (address + beat > place.word) & (address < place.word + place.words)
        chosen = writes[near & np.isin(lists, place.lists)]
        if not len(chosen):
            continue
        memory = rng.integers(0, 256, (place.words, place.word_bytes), dtype=np.uint8)
        target = chosen["address"].astype(np.int64)[:, None] + lanes - place.word
        valid = (chosen["mask"][:, None] >> lanes & 1).astype(bool) & (target >= 0) & (target < place.words)
        # Later writes win: numpy assigns in order for equal indexes.
        memory[target[valid]] = chosen["data"][valid]
        tensors[place.name] = from_bytes(memory.tobytes(), place.shape, place.layout, place.signed, place.axes)
    return tensors


def _difference(after: Mapping[str, Mapping[str, int]], before: Mapping[str, Mapping[str, int]]
                ) -> dict[str, dict[str, int]]:
    return {
        name: {kind: value - before.get(name, {}).get(kind, 0) for kind, value in kinds.items()}
        for name, kinds in after.items()
    }


def intervals(start: Completion, ends: Sequence[Completion], finish: Completion) -> tuple[Interval, ...]:
    """The steps of one frame: each from the completion before it; the last until the host has seen its completion."""
    out = []
    before = start
    for step, end in enumerate(ends):
        end = finish if step == len(ends) - 1 else end
        counters, transfers = (_difference(after, earlier) for after, earlier in (
            (end.counters, before.counters), (end.transfers, before.transfers)))
        out.append(Interval(step, before.cycle - start.cycle, end.cycle - start.cycle, counters, transfers))
        before = end
    return tuple(out)
