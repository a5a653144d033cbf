# SPDX-License-Identifier: Apache-2.0
"""The tile as a simulation, and the back doors into its memories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.isa import BEAT_BYTES, INSTRUCTION_BYTES
from nncosim.hdl.aie_ml.tile import emit_tile
from nncosim.platforms.aie_ml import BANK_BYTES, BANKS, AieMl
from nncosim.tb.aie_ml.segments import loads_of
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.emitted import emitted
from nncosim.tb.sim.verilate import BuildProgress, BuiltModel, build

__all__ = [
    "DONE_STREAM", "STORE_STREAM", "TOP", "build_tile", "load_image", "read_beats", "write_beats", "write_program",
]  # fmt: skip

TOP = "aie_ml_tb"
STORE_STREAM, DONE_STREAM = 1, 2
_PAIR_BEATS = BANK_BYTES // BEAT_BYTES


def build_tile(
    platform: AieMl, *, trace: str | None = None, progress: BuildProgress | None = None, **options: Any
) -> BuiltModel:
    """The tile under `TOP`, built once for each content.

    Args:
        trace: "vcd" or "fst" for a build with waveforms. options: of `nncosim.tb.sim.verilate.BuildOptions`.

    Raises:
        BuildError, ToolError: as `nncosim.tb.sim.verilate.build`.
    """
    sources = emitted("aie_ml_tile", platform, lambda: emit_tile(platform.instructions))
    files = (Path(__file__).with_name("aie_ml_tb.sv"),)
    return build(sources, TOP, files=files, trace=trace, progress=progress, **options)


def write_beats(model: Backdoor, beat: int, data: bytes) -> None:
    """Back door: put whole beats into data memory."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 2, BEAT_BYTES // 2)
    for pair in range(BANKS):
        chosen, at = _within(pair, beat, len(rows))
        for half in range(2):
            model.stack(f"tile.data.bank{2 * pair + half}", np.uint8)[at] = rows[chosen, half]


def read_beats(model: Backdoor, beat: int, count: int) -> npt.NDArray[np.uint8]:
    """Back door: beats of data memory, (count, 32)."""
    out = np.zeros((count, 2, BEAT_BYTES // 2), np.uint8)
    for pair in range(BANKS):
        chosen, at = _within(pair, beat, count)
        for half in range(2):
            out[chosen, half] = model.stack(f"tile.data.bank{2 * pair + half}", np.uint8)[at]
    return out.reshape(count, BEAT_BYTES)


def _within(pair: int, beat: int, count: int) -> tuple[slice, slice]:
    """Of `count` beats from `beat` on: which lie in a pair of banks, and in which of its rows."""
    first, last = max(beat, pair * _PAIR_BEATS), min(beat + count, (pair + 1) * _PAIR_BEATS)
    last = max(first, last)
    return slice(first - beat, last - beat), slice(first - pair * _PAIR_BEATS, last - pair * _PAIR_BEATS)


def write_program(model: Backdoor, data: bytes) -> None:
    """Back door: put whole instructions into program memory."""
    words = np.frombuffer(data, np.uint8).reshape(-1, INSTRUCTION_BYTES)
    model.stack("tile.core.fetch.program", np.uint8)[: len(words)] = words


def load_image(model: Backdoor, platform: AieMl, image: Image) -> None:
    """Back door: put the loadable segments into data and program memory.

    Raises:
        ImageError: a segment lies outside them.
    """
    data, program = loads_of(image, platform)
    for beat, content in data:
        write_beats(model, beat, content)
    write_program(model, program)
