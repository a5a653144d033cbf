# SPDX-License-Identifier: Apache-2.0
"""The iss backend: an image and its inputs on the instruction-set simulator."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.isa import BEAT_BYTES
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.frames import DEFAULT_LIMIT, DONE, LEAD_CYCLES, frame_of, places
from nncosim.tb.aie_ml.iss import Tile
from nncosim.tb.aie_ml.segments import loads_of
from nncosim.tb.backend import Diagnosis, Frame, RunResult
from nncosim.tb.run.capture import kept_places, pack_input, poison_kept, read_back

__all__ = ["loaded_tile", "run_iss", "run_once"]


def loaded_tile(image: Image, platform: AieMl, seed: int) -> Tile:
    """A tile with the segments of an image in its memories.

    Raises:
        ImageError: a segment lies outside them.
    """
    data, program = loads_of(image, platform)
    tile = Tile(seed=seed)
    for beat, content in data:
        tile.memory[BEAT_BYTES * beat :][: len(content)] = np.frombuffer(content, np.uint8)
    tile.load_program(program)
    return tile


def run_once(tile: Tile, limit: int) -> tuple[npt.NDArray[np.void], np.void | None]:
    """One inference: its stores, and its end (None if there was none)."""
    tile.start()
    tile.run(limit)
    stores = tile.writes()
    stores["cycle"] += LEAD_CYCLES
    if not tile.halted:
        return stores, None
    done = np.zeros(1, DONE)
    done[0] = tile.cycle + LEAD_CYCLES, tile.busy, tile.wait_port, 0
    return stores, done[0]


def run_iss(
    platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], *, limit_cycles: int | None = None,
    seed: int = 0,
) -> RunResult:
    """Run an image on the simulator; see `nncosim.tb.backend.Bench.run`."""
    image, limit = Image.from_bytes(data), limit_cycles or DEFAULT_LIMIT
    table = places(image)
    begin = time.perf_counter()
    tile = loaded_tile(image, platform, seed)
    seconds = {"build": time.perf_counter() - begin}
    begin = time.perf_counter()

    def write(beat: int, content: bytes) -> None:
        tile.memory[BEAT_BYTES * beat :][: len(content)] = np.frombuffer(content, np.uint8)

    def read(beat: int, count: int) -> npt.NDArray[np.uint8]:
        return tile.memory[BEAT_BYTES * beat :][: BEAT_BYTES * count].reshape(-1, BEAT_BYTES)

    frames: list[Frame] = []
    diagnosis = None
    for number, given in enumerate(inputs):
        poison_kept(table, write, seed + number)
        for name, values in given.items():
            write(table[name].word, pack_input(table[name], values))
        loaded = read_back([table[name] for name in given], read)
        stores, done = run_once(tile, limit)
        frames.append(frame_of(image, stores, done, read_back(kept_places(table), read), loaded, seed + number))
        if tile.problems:
            diagnosis = Diagnosis("check", "\n".join(map(str, tile.problems[:8])))
        elif done is None:
            diagnosis = Diagnosis("hang", f"core: no HALT within {limit} cycles")
        if diagnosis is not None:
            break
    seconds["simulate"] = time.perf_counter() - begin
    return RunResult("iss", None, tuple(frames), diagnosis, seconds)
