# SPDX-License-Identifier: Apache-2.0
"""The rtl backend: an image on the Verilated tile, by the direct driver or by cocotb."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.build import DONE_STREAM, STORE_STREAM, build_tile, load_image, read_beats, write_beats
from nncosim.tb.aie_ml.frames import DEFAULT_LIMIT, DONE, STORE, frame_of, places
from nncosim.tb.aie_ml.segments import loads_of
from nncosim.tb.aie_ml.waves import steps_done, trace_conditions
from nncosim.tb.backend import Diagnosis, Frame, RunResult
from nncosim.tb.errors import BenchError
from nncosim.tb.run.capture import kept_places, pack_input, poison_kept, read_back
from nncosim.tb.run.drive import Begun, Driven, drive
from nncosim.tb.run.traced import traced
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.model import OtherClock
from nncosim.tb.sim.waves import Trace, trace_format
from nncosim.tb.system.progress import building, cycles_of

__all__ = ["run_rtl"]


@dataclass(frozen=True)
class TileRun:
    """A `nncosim.tb.run.drive.Chip`: the inferences of an image on the tile."""

    failed: ClassVar[Sequence[str]] = ()
    probes: ClassVar[Sequence[str]] = ("probe_cycle", "probe_pc", "probe_stores", "probe_inferences")
    other_clocks: ClassVar[Mapping[str, OtherClock]] = {}

    platform: AieMl
    image: bytes
    inputs: list[Mapping[str, np.ndarray]]

    @property
    def period_ps(self) -> int:
        return 10**12 // self.platform.clock_hz // 2 * 2

    @property
    def inferences(self) -> int:
        return len(self.inputs)

    def attach(self, memories: Backdoor, seed: int) -> _Session:
        return _Session(self, memories, seed)


class _Session:
    held: Mapping[str, int] = {"start": 0}

    def __init__(self, run: TileRun, model: Backdoor, seed: int):
        self._model, self._run, self._seed = model, run, seed
        self._image = Image.from_bytes(run.image)
        self._places = places(self._image)
        load_image(model, run.platform, self._image)

    def begin(self, number: int, read: Callable[[str], int]) -> Begun[tuple[int, dict[str, np.ndarray]]]:
        table, given = self._places, self._run.inputs[number]
        poison_kept(table, partial(write_beats, self._model), self._seed + number)
        for name, values in given.items():
            write_beats(self._model, table[name].word, pack_input(table[name], values))
        loaded = read_back([table[name] for name in given], partial(read_beats, self._model))
        return Begun({}, ("start",), (number, loaded))

    def take(self, begun: Begun[tuple[int, dict[str, np.ndarray]]]) -> Frame:
        number, loaded = begun.known
        stores = self._model.log(STORE_STREAM, STORE, clear=True)
        done = self._model.log(DONE_STREAM, DONE, clear=True)
        memory = read_back(kept_places(self._places), partial(read_beats, self._model))
        return frame_of(self._image, stores, done[0] if len(done) else None, memory, loaded, self._seed + number)


def run_rtl(
    platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], *, driver: str,
    limit_cycles: int | None, seed: int, trace: Trace | None, progress: Callable[[str], None] | None,
) -> RunResult:
    """Run an image on the RTL; see `nncosim.tb.backend.Bench.run`."""
    image = Image.from_bytes(data)
    places(image)  # complain before anything is built
    loads_of(image, platform)
    begin = time.perf_counter()
    kind = None if trace is None else trace_format(trace.path)
    built = build_tile(platform, trace=kind, progress=building(progress))
    seconds = {"build": time.perf_counter() - begin}
    begin = time.perf_counter()
    chip, limit = TileRun(platform, data, list(inputs)), limit_cycles or DEFAULT_LIMIT
    behind, watch = "", cycles_of(progress)
    if trace is None:
        driven = drive(built, chip, driver, limit, seed, watch=watch)
    else:
        ends = image.notes.own_as(AieMlNotes).ends
        driven, behind = traced(
            trace, trace_conditions(trace, ends), lambda window: drive(built, chip, driver, limit, seed, window, watch),
            [step.name for step in image.notes.steps], lambda probes: steps_done(probes, ends),
        )  # fmt: skip
    seconds["simulate"] = time.perf_counter() - begin
    diagnosis = _diagnosis(driven, limit, len(inputs))
    if behind and diagnosis is None:
        raise BenchError(behind)
    if behind and diagnosis is not None:
        diagnosis = replace(diagnosis, text=f"{diagnosis.text}\n{behind}")
    return RunResult("rtl", driver, tuple(driven.raw), diagnosis, seconds, built.key)


def _diagnosis(driven: Driven[Frame], limit: int, inferences: int) -> Diagnosis | None:
    """Why a run stopped early."""
    if driven.stopped:
        return Diagnosis("check", driven.stopped)
    if len(driven.raw) == inferences and all(frame.cycles for frame in driven.raw):
        return None
    text = f"core: no HALT within {limit} cycles; the last instruction issued is at {driven.probes['probe_pc']}"
    return Diagnosis("hang", text)
