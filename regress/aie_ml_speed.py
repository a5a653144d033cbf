# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.regress.aie_ml_speed`: cycles a second of the AIE-ML array, RTL and simulator, side by side.

Busy: one dense layer over all tiles, 128 x 128 a tile, batches streamed through, so that each core multiplies in nearly
every cycle. Idle: the same array with nothing configured, which the simulator does not step at all. Processor seconds
of this process, of one core, without builds. With --hazards: the RTL, busy, with its monitors of latencies and without.
With --rebuild: seconds from an edit of the core tile's RTL to a simulation of the array that was built before.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.tile import emit_tile
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.errors import PlatformError
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.build import build_array, feed, load_image
from nncosim.tb.aie_ml.frames import DEFAULT_LIMIT, input_words, result_words
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.rtl import SETTLE_CYCLES
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel
from rich.console import Console
from rich.table import Table

__all__ = ["Speed", "main", "measured", "rebuilt", "with_monitors"]

_SLICE, _BATCH = 128, 64
_IDLE_CYCLES = 2000
_ROUNDS = 4
ARRAYS = ("1x1", "4x2", "8x8")


@dataclass(frozen=True)
class Speed:
    """Cycles a second: of the RTL busy and idle, of the simulator busy."""

    rtl: float
    idle: float
    iss: float


def measured(columns: int, rows: int) -> Speed:
    """Of an array of so many tiles, with a row of memory tiles below them."""
    platform, image, given = _busy(columns, rows)
    built = _built(platform, image)
    with Model(built, seed=1) as model:
        model.reset(cycles=RESET_CYCLES)
        begin = time.process_time()
        model.tick(_IDLE_CYCLES)
        idle = _IDLE_CYCLES / (time.process_time() - begin)
    return Speed(_rtl(built, image, platform, given), idle, _iss(image, platform, given))


def with_monitors(columns: int, rows: int) -> tuple[float, float]:
    """Cycles a second of the RTL, busy, with monitors of latencies and without: the best of rounds in turn."""
    platform, image, given = _busy(columns, rows)
    builds = [_built(platform, image, hazards) for hazards in (True, False)]
    found = [[_rtl(built, image, platform, given) for built in builds] for _ in range(_ROUNDS)]
    first, second = (max(each) for each in zip(*found, strict=True))
    return first, second


def rebuilt(columns: int, rows: int) -> float:
    """Seconds of a clock on the wall that it takes to emit and build the array again after an edit of its core tile."""
    platform = AieMl(columns=columns, rows=rows, memory_rows=1)
    build_array(platform, columns, rows, 1)
    begin = time.perf_counter()
    tile = emit_tile(platform.instructions, platform.generation)
    # No edit twice, or it is found built.
    edited = {name: f"{text}// {uuid.uuid4()}\n" for name, text in tile.items()}
    build_array(platform, columns, rows, 1, tile=edited)
    return time.perf_counter() - begin


def _busy(columns: int, rows: int) -> tuple[AieMl, Image, Mapping[str, np.ndarray]]:
    platform = AieMl(columns=columns, rows=rows, memory_rows=1)
    spec = DenseSpec((_SLICE * columns, _SLICE * rows), batch=_BATCH)
    made = compiled(spec, platform, splits=[(columns, rows)])
    (given,) = frames_of(spec, made.network, 1)
    return platform, made.image, given


def _built(platform: AieMl, image: Image, hazards: bool = True) -> BuiltModel:
    notes = image.notes.own_as(AieMlNotes)
    return build_array(platform, notes.columns, notes.rows, notes.memory_rows, hazards=hazards)


def _iss(image: Image, platform: AieMl, given: Mapping[str, np.ndarray]) -> float:
    array = Array(image, platform)
    array.infer(given, DEFAULT_LIMIT)  # settles
    begin = time.process_time()
    array.infer(given, DEFAULT_LIMIT)
    return array.cycle / (time.process_time() - begin)


def _rtl(built: BuiltModel, image: Image, platform: AieMl, given: Mapping[str, np.ndarray]) -> float:
    notes = image.notes.own_as(AieMlNotes)
    with Model(built, seed=1) as model:
        model.poison(1)
        writes = load_image(model, platform, image)
        held = {"config_writes": writes, "settle": SETTLE_CYCLES, "gap_seed": 0, "result_words": result_words(notes)}
        feed(model, notes.columns, input_words(notes, platform.generation, given))
        for port, value in held.items():
            model[port] = value
        model.reset(cycles=RESET_CYCLES)
        model.start = 1
        model.tick()
        model.start = 0
        while model.probe_since > 1 << 63:  # ones: the configuration
            model.tick(16)
        first, begin = model.probe_cycle, time.process_time()
        model.run_until("stopped", 1, DEFAULT_LIMIT)
        return (model.probe_cycle - first) / (time.process_time() - begin)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arrays", nargs="*", default=list(ARRAYS), metavar="COLUMNSxROWS")
    parser.add_argument("--hazards", action="store_true", help="what the monitors of latencies cost")
    parser.add_argument("--rebuild", action="store_true", help="how long a build takes after an edit of the tile")
    given = parser.parse_args()
    title = "Rebuild" if given.rebuild else "Cycles a second, one processor core"
    table = Table(title=title, box=None)
    headings = (("seconds",) if given.rebuild else ("with monitors", "without", "ratio") if given.hazards
                else ("RTL, busy", "RTL, idle", "simulator, busy", "simulator / RTL"))  # fmt: skip
    for column in ("array", *headings):
        table.add_column(column, justify="left" if column == "array" else "right")
    for text in given.arrays:
        try:
            columns, rows = map(int, text.split("x"))
            AieMl(columns=columns, rows=rows)
        except (ValueError, PlatformError) as error:
            parser.error(f"an array is COLUMNSxROWS, such as 4x2, not {text!r}: {error}")
        if given.rebuild:
            table.add_row(text, f"{rebuilt(columns, rows):.1f}")
            continue
        if given.hazards:
            first, second = with_monitors(columns, rows)
            table.add_row(text, f"{first:,.0f}", f"{second:,.0f}", f"{first / second:.3f}")
            continue
        found = measured(columns, rows)
        table.add_row(text, *(f"{each:,.0f}" for each in (found.rtl, found.idle, found.iss)),
                      f"{found.iss / found.rtl:.1f}")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
