# SPDX-License-Identifier: Apache-2.0
"""Inferences that follow each other without a gap: the array takes the next one's words as soon as it has room.

An inference's results are told from the next one's by their number, as words of a stream keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import Generation
from nncosim.tb.aie_ml.build import build_array, check_feed, feed, load_image, run_once
from nncosim.tb.aie_ml.frames import (
    DEFAULT_LIMIT,
    DONE,
    RESULT,
    Records,
    input_words,
    put_result,
    result_words,
    results_of,
)
from nncosim.tb.aie_ml.hazards import found_hazards, hazard_text
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.lock_faults import found_lock_faults, lock_faults_text
from nncosim.tb.aie_ml.rtl import DONES, RESULTS, SETTLE_CYCLES
from nncosim.tb.errors import BenchError, SimulationError
from nncosim.tb.sim.model import Model

__all__ = ["Streamed", "in_a_row", "stream_iss", "stream_rtl"]

_AVERAGED = 16
"""Intervals of which a mean is taken: with doubled buffers they repeat after two."""

Inputs = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Streamed:
    """results: of each inference, by tensor. ends: the cycle after its last word was out."""

    results: tuple[Mapping[str, np.ndarray], ...]
    ends: tuple[int, ...]

    @property
    def interval(self) -> int:
        """Cycles from one inference's end to the next one's, of the last two."""
        return self.ends[-1] - self.ends[-2]

    def steady(self, layers: int) -> float:
        """The mean interval while more come in behind, of `in_a_row` inferences or more. The last ones, behind which
        the array runs empty, are faster."""
        last = len(self.ends) - 1 - _held(layers)
        return (self.ends[last] - self.ends[last - _AVERAGED]) / _AVERAGED


def _held(layers: int) -> int:
    """Inferences that are on their way at once, at most."""
    return 2 * layers + 4


def in_a_row(layers: int) -> int:
    """So many inferences show a steady interval: until the array is full, that are measured, and behind these."""
    return 2 * _held(layers) + _AVERAGED + 1


def _words(notes: AieMlNotes, generation: Generation, inputs: Inputs) -> dict[int, np.ndarray]:
    each = [input_words(notes, generation, given) for given in inputs]
    return {stream: np.concatenate([words[stream] for words in each]) for stream in each[0]}


def _streamed(image: Image, generation: Generation, records: Records, count: int) -> Streamed:
    """Raises BenchError: other words than those that were to come."""
    notes, table = image.notes.own_as(AieMlNotes), read_tiles(image)
    results: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    ends = [0] * count
    for stream in notes.outputs:
        mine = results_of(stream, records)
        if len(mine) != count * stream.words:
            raise BenchError(f"shim stream {stream.number} of column {stream.column} gave {len(mine)} words, not "
                             f"{count * stream.words}")
        tensor = table[stream.tensor].tensor
        for k in range(count):
            part = mine[k * stream.words : (k + 1) * stream.words]
            whole = results[k].setdefault(stream.tensor, np.zeros(tensor.shape, np.int64))
            put_result(stream, generation, part, tensor.type.signed, whole)
            ends[k] = max(ends[k], int(part["cycle"][-1]) + 1)
    return Streamed(tuple(results), tuple(ends))


def stream_iss(platform: AieMl, image: bytes, inputs: Inputs) -> Streamed:
    """On the simulator.

    Raises:
        BenchError: it does not end, or other words come than those that were to.
        SimulationError: a program breaks a rule of the core, or a lock leaves its range.
    """
    whole = Image.from_bytes(image)
    notes = whole.notes.own_as(AieMlNotes)
    array = Array(whole, platform)
    records = array.stream(_words(notes, platform.generation, inputs), len(inputs) * result_words(notes), DEFAULT_LIMIT)
    if array.problems:
        raise SimulationError("; ".join(map(str, array.problems[:3])))
    return _streamed(whole, platform.generation, records, len(inputs))


def stream_rtl(
    platform: AieMl, image: bytes, inputs: Inputs, *, gap_seed: int = 0, bus: bool = False, seed: int = 1
) -> Streamed:
    """On the RTL.

    Args:
        gap_seed: not 0: words are offered, and taken, with random gaps. bus: all of the image goes over the bus.

    Raises:
        BuildError, ToolError: as of a build. BenchError: as of `stream_iss`. SimulationTimeout: it does not end.
        SimulationError: a latency is violated, see `nncosim.tb.aie_ml.hazards`; a lock leaves its range.
        CapacityError: as of `feed` and `load_image`.
    """
    whole = Image.from_bytes(image)
    notes = whole.notes.own_as(AieMlNotes)
    words = _words(notes, platform.generation, inputs)
    check_feed({stream: len(each) for stream, each in words.items()})  # before anything is built
    built = build_array(platform, notes.columns, notes.rows, notes.memory_rows)
    with Model(built, seed=seed) as model:
        model.poison(seed)
        writes = load_image(model, platform, whole, bus=bus)
        feed(model, notes.columns, words)
        held = {"config_writes": writes, "settle": SETTLE_CYCLES, "result_words": len(inputs) * result_words(notes),
                "gap_seed": gap_seed}  # fmt: skip
        run_once(model, held, DEFAULT_LIMIT)
        hazards = found_hazards(model)
        if len(hazards):
            raise SimulationError(hazard_text(hazards, whole))
        if faults := found_lock_faults(model, notes):
            raise SimulationError(lock_faults_text(faults))
        results, done = model.log(RESULTS, RESULT, clear=True), model.log(DONES, DONE, clear=True)
    nothing = np.zeros(0, RESULT)
    return _streamed(whole, platform.generation, Records(nothing, results, nothing, done[0]), len(inputs))
