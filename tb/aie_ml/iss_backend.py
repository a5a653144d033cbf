# SPDX-License-Identifier: Apache-2.0
"""The iss backend: an image and its inputs on the array's simulator."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.array import SHIM_OUT
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.deadlock import explained
from nncosim.tb.aie_ml.floor import floor_plan_of
from nncosim.tb.aie_ml.frames import DEFAULT_LIMIT, Records, frame_of, result_words, results_of
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.observe import channels_of
from nncosim.tb.backend import Diagnosis, Frame, RunResult

__all__ = ["hang_of", "run_iss"]


def hang_of(image: Image, array: Array, records: Records, limit: int) -> str:
    """Why an inference does not end: who waits for whom."""
    notes = image.notes.own_as(AieMlNotes)
    came, wanted, cycles = len(records.results), result_words(notes), array.cycle
    text = f"shim: {came} of {wanted} words of results came within {limit} cycles"
    if array.quiet:
        text = f"shim: {came} of {wanted} words of results came; nothing goes on any more after {cycles} cycles"
    missing = [stream.column * SHIM_OUT + stream.number for stream in notes.outputs
               if len(results_of(stream, records)) < stream.words]  # fmt: skip
    return "\n".join(filter(None, (text, explained(image.notes, array.account(), missing))))


def run_iss(
    platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], *, limit_cycles: int | None = None,
    seed: int = 0, observe: bool = False,
) -> RunResult:
    """Run an image on the simulator; see `nncosim.tb.backend.Bench.run`. observe: give its channels."""
    image, limit = Image.from_bytes(data), limit_cycles or DEFAULT_LIMIT
    begin = time.perf_counter()
    array = Array(image, platform, seed=seed, observe=observe)
    seconds = {"build": time.perf_counter() - begin}
    begin = time.perf_counter()
    frames: list[Frame] = []
    diagnosis = None
    for number, given in enumerate(inputs):
        records = array.infer(given, limit)
        frames.append(frame_of(image, platform, records, number, seed + number))
        if array.problems:
            diagnosis = Diagnosis("check", "\n".join(map(str, array.problems[:8])))
        elif records.done is None:
            diagnosis = Diagnosis("hang", hang_of(image, array, records, limit))
        if diagnosis is not None:
            break
    seconds["simulate"] = time.perf_counter() - begin
    channels = channels_of(platform, image, array.seen()) if observe else ()
    return RunResult("iss", None, tuple(frames), diagnosis, seconds, channels=channels,
                     floor_plan=floor_plan_of(image, platform))
