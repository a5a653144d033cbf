# SPDX-License-Identifier: Apache-2.0
"""From what a run of the array recorded, on RTL or on the simulator, to its inferences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes, Stream
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.image.tiles import TensorPlace
from nncosim.compiler.ir.layout import from_bytes, to_bytes
from nncosim.hdl.aie_ml.array import SHIM_IN, SHIM_OUT
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import Generation
from nncosim.tb.aie_ml.activity import activities, times_of
from nncosim.tb.backend import Frame, Interval, Passage

__all__ = [
    "DEFAULT_LIMIT", "DONE", "RESULT", "STATE", "Records", "frame_of", "input_words", "layer_cycles",
    "put_result", "result_words", "results_of", "store_of", "written_to",
]  # fmt: skip

RESULT = np.dtype([("cycle", "<u8"), ("stream", "<u8"), ("word", "<u8"), ("unused", "<u8")])
"""A word that left the array."""
STATE = np.dtype([("cycle", "<u8"), ("tile", "<u8"), ("state", "<u8"), ("pc", "<u8")])
"""A core is in another state from this cycle on: an index into `nncosim.tb.aie_ml.activity.CATEGORIES`."""
DONE = np.dtype([("cycles", "<u8"), ("config", "<u8"), ("at", "<u8"), ("unused", "<u8")])
"""The end of an inference; cycles that the configuration took; since reset."""
(_AXES,) = AieMl.tensor_axes
DEFAULT_LIMIT = 10_000_000
"""Cycles of an inference where the caller sets no limit."""


def store_of(generation: Generation) -> np.dtype[np.void]:
    """A store of a core: its cycle since words were offered first; its tile, column by column of those there are. beat:
    of the west neighbour's memory behind the own."""
    return np.dtype([("cycle", "<u8"), ("tile", "<u4"), ("beat", "<u4"), ("data", "u1", (generation.beat_bytes,))])


@dataclass(frozen=True, eq=False)
class Records:
    """Of one inference. done: None if it did not end."""

    stores: npt.NDArray[np.void]
    results: npt.NDArray[np.void]
    states: npt.NDArray[np.void]
    done: np.void | None


def input_words(
    notes: AieMlNotes, generation: Generation, inputs: Mapping[str, np.ndarray]
) -> dict[int, npt.NDArray[np.unsignedinteger]]:
    """What each stream of the shim brings."""
    out, word = {}, np.dtype(f"u{generation.word_bytes}")
    for stream in notes.inputs:
        values = inputs[stream.tensor][tuple(slice(*each) for each in stream.box)]
        data = to_bytes(values, stream.layout, _AXES)
        out[stream.column * SHIM_IN + stream.number] = np.frombuffer(data, word.newbyteorder("<")).astype(word)
    return out


def result_words(notes: AieMlNotes) -> int:
    """Words that all results of an inference are."""
    return sum(stream.words for stream in notes.outputs)


def results_of(stream: Stream, records: Records) -> npt.NDArray[np.void]:
    """What came out of a stream, as `RESULT`."""
    return records.results[records.results["stream"] == stream.column * SHIM_OUT + stream.number]


def put_result(
    stream: Stream, generation: Generation, came: npt.NDArray[np.void], signed: bool, whole: np.ndarray, poison: int = 0
) -> None:
    """Put the part of a tensor that a stream carries into the whole one. What is missing is poison."""
    size = generation.word_bytes * stream.words
    data = came["word"].astype(f"<u{generation.word_bytes}").tobytes()[:size]
    data += np.random.default_rng([poison, stream.column, stream.number]).bytes(size - len(data))
    shape = tuple(stop - start for start, stop in stream.box)
    box = tuple(slice(*each) for each in stream.box)
    whole[box] = from_bytes(data, shape, stream.layout, signed, _AXES)


def written_to(stores: npt.NDArray[np.void], rows: int, beats: int) -> npt.NDArray[np.void]:
    """Stores with tile and beat of the memory that they are to.

    Args:
        rows: of core tiles. beats: of a tile's memory.
    """
    out = stores.copy()
    out["tile"] -= np.where(stores["beat"] < beats, 0, rows).astype(np.uint32)
    out["beat"] %= beats
    return out


def _tensor(
    place: TensorPlace, beat: int, numbers: Mapping[int, int], written: npt.NDArray[np.void], inference: int,
    poison: int,
) -> np.ndarray | None:
    """A tensor as cores stored it, in beats of so many bytes; None if nothing of it was. written: of `written_to`."""
    tensor = place.tensor
    out, any_ = np.zeros(tensor.shape, np.int64), False
    for fragment in place.fragments:
        stores = written[written["tile"] == numbers[fragment.instance]]
        first, size = fragment.at(inference) // beat, place.size_of(fragment)
        rng = np.random.default_rng([poison, fragment.instance])
        beats = np.frombuffer(rng.bytes(-(-size // beat) * beat), np.uint8).copy().reshape(-1, beat)
        at = stores["beat"].astype(np.int64) - first
        inside = (at >= 0) & (at < len(beats))
        beats[at[inside]] = stores["data"][inside]
        any_ = any_ or bool(inside.any())
        out[fragment.slices] = from_bytes(beats.tobytes()[:size], fragment.shape, fragment.layout, tensor.type.signed,
                                          tensor.axes)  # fmt: skip
    return out if any_ else None


def _ends(notes: AieMlNotes, records: Records) -> list[int]:
    """The cycle after which each step, and those listed before it, were complete: all their results stored; of the last
    one, all words out. One of another branch may have been done before the one ahead of it."""
    ends: list[int] = []
    steps = max(site.step for site in notes.sites) + 1
    for step in range(steps):
        last = []
        for site in notes.sites:
            if site.step == step and site.stores:
                cycles = records.stores["cycle"][records.stores["tile"] == notes.number(site.column, site.row)]
                if len(cycles) < site.stores:
                    return ends
                last.append(int(cycles[site.stores - 1]) + 1)
        ends.append(max([*last, *ends[-1:]]))
    if records.done is None:
        return ends[:-1]
    return [*ends[:-1], int(records.done["cycles"])]


def layer_cycles(notes: AieMlNotes, records: Records) -> tuple[int, ...]:
    """Cycles of each layer, from the completion of those before; 0 where it was complete before them."""
    return tuple(after - before for before, after in pairwise([0, *_ends(notes, records)]))


def frame_of(image: Image, platform: AieMl, records: Records, inference: int, poison: int) -> Frame:
    """An inference."""
    notes, table, generation = image.notes.own_as(AieMlNotes), read_tiles(image), platform.generation
    numbers = {platform.number(site.column, site.row): notes.number(site.column, site.row) for site in notes.sites}
    tensors, written = {}, written_to(records.stores, notes.rows, generation.beats)
    for name, place in table.items():
        if place.role != "input":
            found = _tensor(place, generation.beat_bytes, numbers, written, inference, poison)
            if found is not None:
                tensors[name] = found
    ends = _ends(notes, records)
    times = times_of(notes, platform, records.states, max(ends, default=0))
    intervals = tuple(
        Interval(step, before, end, {name: each.counts(before, end) for name, (_, each) in times.items()})
        for step, (before, end) in enumerate(pairwise([0, *ends]))
    )
    seen = activities(times, ends) if inference == 0 else ()
    if records.done is None:
        return Frame(0, tensors, intervals, seen)
    memory = {stream.tensor: np.zeros(table[stream.tensor].tensor.shape, np.int64) for stream in notes.outputs}
    for stream in notes.outputs:
        signed = table[stream.tensor].tensor.type.signed
        put_result(stream, generation, results_of(stream, records), signed, memory[stream.tensor], poison)
    cycles = int(records.done["cycles"])
    start = int(records.done["at"]) - cycles
    passages = {
        stream.tensor: Passage("shim", start + int(records.results["cycle"].min()), start + cycles)
        for stream in notes.outputs
    }  # fmt: skip
    return Frame(cycles, tensors, intervals, seen, memory=memory, start=start, passages=passages)
