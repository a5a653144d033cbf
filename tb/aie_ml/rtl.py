# SPDX-License-Identifier: Apache-2.0
"""The rtl backend: an image on the Verilated array, by the direct driver or by cocotb."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.array import SHIM_IN
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.build import build_array, check_feed, feed, load_image, poison_memories
from nncosim.tb.aie_ml.clock import SETTLE_CYCLES
from nncosim.tb.aie_ml.floor import floor_plan_of
from nncosim.tb.aie_ml.frames import (
    DEFAULT_LIMIT,
    DONE,
    RESULT,
    STATE,
    Records,
    frame_of,
    input_words,
    result_words,
    store_of,
)
from nncosim.tb.aie_ml.hazards import found_hazards, hazard_text
from nncosim.tb.aie_ml.iss_backend import run_iss
from nncosim.tb.aie_ml.lock_faults import LockFault, found_lock_faults, lock_faults_text
from nncosim.tb.aie_ml.observe import channels_of
from nncosim.tb.aie_ml.segments import bus_writes, loads_of
from nncosim.tb.aie_ml.taps import seen_layouts
from nncosim.tb.aie_ml.waves import ends_of, show_first, steps_done, trace_conditions
from nncosim.tb.backend import Diagnosis, Frame, RunResult
from nncosim.tb.boundaries.layouts import FIRST_STREAM
from nncosim.tb.errors import BenchError
from nncosim.tb.lockstep import Channel
from nncosim.tb.run.drive import Begun, Driven, drive
from nncosim.tb.run.traced import traced
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.model import OtherClock
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.waves import Trace, trace_format
from nncosim.tb.system.files import is_stream
from nncosim.tb.system.progress import building, cycles_of

__all__ = ["DONES", "RESULTS", "SETTLE_CYCLES", "STATES", "STORES", "ArrayRun", "run_rtl"]

STORES, DONES, RESULTS, STATES = 1, 2, 3, 4
"""Streams of the event log, see aie_ml_array_tb.sv."""


@dataclass(frozen=True, eq=False)
class Taken:
    """An inference; what monitors told in it, of latencies as `nncosim.tb.aie_ml.hazards.HAZARD`, and of locks; what
    taps told until its end."""

    frame: Frame
    hazards: npt.NDArray[np.void]
    lock_faults: tuple[LockFault, ...] = ()
    taps: Mapping[str, npt.NDArray[np.void]] = field(default_factory=dict)


@dataclass(frozen=True)
class ArrayRun:
    """A `nncosim.tb.run.drive.Chip`: the inferences of an image on the array, one after the other."""

    failed: ClassVar[Sequence[str]] = ("hazard", "lock_fault")
    probes: ClassVar[Sequence[str]] = (
        "probe_cycle", "probe_config", "probe_results", "probe_since", "probe_inferences",
    )  # fmt: skip
    other_clocks: ClassVar[Mapping[str, OtherClock]] = {}

    platform: AieMl
    image: bytes
    inputs: list[Mapping[str, np.ndarray]]
    observe: bool = False  # the simulation has taps between the blocks

    @property
    def period_ps(self) -> int:
        return 10**12 // self.platform.clock_hz // 2 * 2

    @property
    def inferences(self) -> int:
        return len(self.inputs)

    def attach(self, memories: Backdoor, seed: int) -> _Session:
        return _Session(self, memories, seed)


class _Session:
    def __init__(self, run: ArrayRun, model: Backdoor, seed: int):
        self._model, self._run, self._seed = model, run, seed
        self._image = Image.from_bytes(run.image)
        self._notes = self._image.notes.own_as(AieMlNotes)
        if run.observe:
            poison_memories(model, run.platform, self._image, seed)
        writes = load_image(model, run.platform, self._image)
        self.held: Mapping[str, int] = {
            "start": 0, "config_writes": writes, "settle": SETTLE_CYCLES, "result_words": result_words(self._notes),
            "gap_seed": 0,
        }  # fmt: skip

    def begin(self, number: int, read: Callable[[str], int]) -> Begun[int]:
        words = input_words(self._notes, self._run.platform.generation, self._run.inputs[number])
        feed(self._model, self._notes.columns, words)
        return Begun({}, ("start",), number)

    def take(self, begun: Begun[int]) -> Taken:
        stores, results, states, done = (
            self._model.log(stream, fmt, clear=True)
            for stream, fmt in ((STORES, store_of(self._run.platform.generation)), (RESULTS, RESULT), (STATES, STATE),
                                (DONES, DONE))
        )
        records = Records(stores, results, states, done[0] if len(done) else None)
        frame = frame_of(self._image, self._run.platform, records, begun.known, self._seed + begun.known)
        faults = found_lock_faults(self._model, self._notes, begun.known + 1)
        layouts = seen_layouts(self._run.platform.generation) if self._run.observe else {}
        taps = {name: self._model.log(FIRST_STREAM + number, layout, clear=True)
                for number, (name, layout) in enumerate(layouts.items())}  # fmt: skip
        return Taken(frame, found_hazards(self._model), faults, taps)


def run_rtl(
    platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], *, driver: str,
    limit_cycles: int | None, seed: int, trace: Trace | None, progress: Callable[[str], None] | None,
    hazards: bool = True, patch: RtlPatch | None = None, observe: bool = False,
) -> RunResult:
    """Run an image on the RTL; see `nncosim.tb.backend.Bench.run`.

    Args:
        hazards: a violated latency ends the run, see `nncosim.tb.aie_ml.hazards`.
        patch: of the RTL. observe: record what passes the boundaries between the blocks.
    """
    image = Image.from_bytes(data)
    notes = image.notes.own_as(AieMlNotes)
    loads_of(image, platform)  # complain before anything is built
    check_feed({stream.column * SHIM_IN + stream.number: stream.words for stream in notes.inputs})
    begin = time.perf_counter()
    # A waveform of an observed run is of the same simulation.
    kind = trace_format(trace.path) if trace is not None else "fst" if observe else None
    built = build_array(platform, notes.columns, notes.rows, notes.memory_rows, hazards=hazards, patch=patch,
                        inside=observe, trace=kind, progress=building(progress))  # fmt: skip
    seconds = {"build": time.perf_counter() - begin}
    begin = time.perf_counter()
    chip, limit = ArrayRun(platform, data, list(inputs), observe), limit_cycles or DEFAULT_LIMIT
    behind, watch, most = "", cycles_of(progress), limit + len(bus_writes(image, platform)) + SETTLE_CYCLES + 8
    if trace is None:
        driven = drive(built, chip, driver, most, seed, watch=watch)
    else:
        ends = ends_of(image)
        driven, behind = traced(
            trace, trace_conditions(trace, ends), lambda window: drive(built, chip, driver, most, seed, window, watch),
            [step.name for step in image.notes.steps], lambda probes: steps_done(probes, ends),
        )  # fmt: skip
    seconds["simulate"] = time.perf_counter() - begin
    diagnosis = _diagnosis(driven, limit, platform, data, inputs)
    if behind and diagnosis is None:
        raise BenchError(behind)
    if behind and diagnosis is not None:
        diagnosis = replace(diagnosis, text=f"{diagnosis.text}\n{behind}")
    frames = tuple(each.frame for each in driven.raw)
    waveform = None
    if trace is not None and not behind and not is_stream(trace.path):
        waveform = show_first(trace, platform, image)
    channels = _channels(platform, image, driven.raw) if observe and trace is None else ()
    return RunResult("rtl", driver, frames, diagnosis, seconds, built.key, waveform=waveform, channels=channels,
                     floor_plan=floor_plan_of(image, platform))  # fmt: skip


def _channels(platform: AieMl, image: Image, raw: Sequence[Taken]) -> tuple[Channel, ...]:
    seen = {name: np.concatenate([each.taps[name] for each in raw]) for name in seen_layouts(platform.generation)}
    return channels_of(platform, image, seen)


def _diagnosis(
    driven: Driven[Taken], limit: int, platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]]
) -> Diagnosis | None:
    """Why a run stopped early; of one that comes to no end, what the simulator says of the same."""
    if driven.stopped:
        return Diagnosis("check", driven.stopped)
    for each in driven.raw:
        if len(each.hazards):
            return Diagnosis("check", hazard_text(each.hazards, Image.from_bytes(data)))
        if each.lock_faults:
            text = lock_faults_text(each.lock_faults)
            simulated = run_iss(platform, data, inputs[: len(driven.raw)], limit_cycles=limit)
            which = "" if simulated.diagnosis is None else f"\non the simulator: {simulated.diagnosis.text}"
            return Diagnosis("check", text + which)
    ended = sum(each.frame.cycles > 0 for each in driven.raw)
    if len(driven.raw) == len(inputs) and ended == len(inputs):
        return None
    text = f"shim: {driven.probes['probe_results']} words of results came within {limit} cycles"
    simulated = run_iss(platform, data, inputs[: ended + 1], limit_cycles=limit)
    if simulated.diagnosis is None:
        cycles = simulated.frames[-1].cycles
        text += f"\nthe simulator ends this inference after {cycles} cycles, where the RTL does not"
        return Diagnosis("hang", text)
    return Diagnosis("hang", f"{text}\non the simulator: {simulated.diagnosis.text}")
