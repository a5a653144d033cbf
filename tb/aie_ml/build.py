# SPDX-License-Identifier: Apache-2.0
"""The array as a simulation, and the back doors into its memories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.array import INSIDE_TILES, SHIM_IN, emit_array, tile_ports
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES
from nncosim.hdl.aie_ml.memory_tile import MEMORY_TILE, emit_memory_tile
from nncosim.hdl.aie_ml.tile import TILE, emit_tile
from nncosim.hdl.sram import SRAM_MODULE, SRAM_VERILOG
from nncosim.platforms.aie_ml import BANKS, AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation
from nncosim.tb.aie_ml.hazards import STOP, SWITCH, allow_early_reads, monitor_options, monitor_sources
from nncosim.tb.aie_ml.segments import bus_writes, loads_of, poisoned
from nncosim.tb.aie_ml.taps import taps
from nncosim.tb.errors import CapacityError
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.emitted import emitted
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.verilate import BuildProgress, BuiltModel, build, build_library

__all__ = [
    "CONFIG_WORDS", "FEEDER_WORDS", "TOP", "build_array", "check_feed", "feed", "load_image", "poison_memories",
    "run_once", "small_array", "write_beats", "write_lines",
]  # fmt: skip

TOP = "aie_ml_array_tb"
_FEEDER = "aie_ml_feeder"
FEEDER_WORDS = (1 << 15) - 1
"""That a stream of the shim can bring in an inference; the feeder has one more, for their number."""
CONFIG_WORDS = 1 << 17
"""That can go over the bus."""


def build_array(
    platform: AieMl, columns: int, rows: int, memory_rows: int = 0, *, hazards: bool = True,
    tile: Mapping[str, str] | None = None, patch: RtlPatch | None = None, inside: bool = False,
    trace: str | None = None, progress: BuildProgress | None = None, **options: Any,
) -> BuiltModel:
    """So many of the platform's tiles under `TOP`, built once for each content.

    Tiles that an image does not use do nothing, and are left out: nothing can tell.

    Args:
        rows: of core tiles. memory_rows: of memory tiles below them.
        hazards: with a monitor of latencies in each core tile, see `nncosim.tb.aie_ml.hazards`; AIE-MLv2's has none.
        tile: Verilog in place of the core tile's own.
        patch: of the Verilog of tiles and array; what stands on parts that it does not change is not built again.
        inside: with records of what passes the boundaries between the blocks (`nncosim.tb.aie_ml.taps`).
        trace: "vcd" or "fst" for a build with waveforms. options: of `nncosim.tb.sim.verilate.BuildOptions`.

    Raises:
        BuildError, ToolError: as `nncosim.tb.sim.verilate.build`.
        BenchError: the patch does not fit.
    """
    generation = platform.generation
    emitted_tile, memory_tile, array = _verilog(platform, columns, rows, memory_rows, patch)
    tile = tile or emitted_tile
    if inside:
        tile, memory_tile = {**tile, **taps(generation, False)}, {**memory_tile, **taps(generation, True)}
    hazards &= generation == AIE_ML  # the monitor knows that one's registers
    files = (Path(__file__).with_name("aie_ml_array_tb.sv"), SRAM_VERILOG)
    options = {"optimize": "-O1", "optimize_rest": "-O0", "trace": trace, **options}
    sources, monitor = ({**tile, **monitor_sources()}, monitor_options()) if hazards else (tile, {})
    libraries = [build_library(sources, TILE, progress=progress, **options, **monitor)]
    if memory_rows:
        libraries.append(build_library(memory_tile, MEMORY_TILE, progress=progress, **options))
    width = generation.beat_bits * rows
    ports = ", ".join(f".store_data__{k}(store_data[{width * k} +: {width}])" for k in range(columns))
    options["defines"] = {"STORE_DATA_PORTS": ports, **(SWITCH if hazards else {})}
    return build(array, TOP, files=files, cpp_sources=(STOP,) if hazards else (), libraries=libraries,
                 progress=progress,
                 parameters={"COLUMNS": columns, "ROWS": rows, "MEMORY_ROWS": memory_rows,
                             "WORD": generation.word_bits, "BEAT": generation.beat_bits,
                             "FEEDER_DEPTH": FEEDER_WORDS + 1, "CONFIG_DEPTH": CONFIG_WORDS},
                 memories={SRAM_MODULE: "mem", _FEEDER: "words"}, **options)  # fmt: skip


def small_array(platform: AieMl) -> dict[str, str]:
    """Verilog of both kinds of tiles, and of an array of two columns of two tiles of each: file name to text."""
    tile, memory_tile, array = _verilog(platform, 2, 2, 2)
    return {**array, **tile, **memory_tile}


def _verilog(
    platform: AieMl, columns: int, rows: int, memory_rows: int, patch: RtlPatch | None = None
) -> tuple[dict[str, str], ...]:
    """Verilog of core tiles, of memory tiles and of the array, patched where `patch` says."""
    instructions, generation = platform.instructions, platform.generation
    shape = (columns, rows, memory_rows, instructions, generation)
    has_memory = memory_rows or patch is not None  # a patch may be of what this array lacks
    parts = (
        emitted(TILE, (instructions, generation), lambda: emit_tile(instructions, generation)),
        emitted(MEMORY_TILE, generation, lambda: emit_memory_tile(generation)) if has_memory else {},
        emitted("aie_ml_array", (shape, tile_ports(instructions, generation)), lambda: emit_array(*shape),
                outside=INSIDE_TILES),
    )  # fmt: skip
    if patch is None:
        return parts
    whole = patch.applied({name: text for part in parts for name, text in part.items()})
    return tuple({name: whole[name] for name in part} for part in parts)


def _tile(tile: tuple[int, int]) -> str:
    """Where a tile's memories are: its module is compiled by itself, and has its name in between."""
    return f"array.tile_{tile[0]}_{tile[1]}.{TILE}.tile"


def write_beats(
    model: Backdoor, tile: tuple[int, int], beat: int, data: bytes, generation: Generation = AIE_ML
) -> None:
    """Back door: put whole beats into a tile's data memory."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 2, generation.line_bytes)
    for pair in range(BANKS):
        chosen, at = _within(pair, beat, len(rows), generation.beats // BANKS)
        for half in range(2):
            if at.start < at.stop:
                model.stack(f"{_tile(tile)}.data.bank{2 * pair + half}", np.uint8)[at] = rows[chosen, half]


def write_lines(
    model: Backdoor, tile: tuple[int, int], line: int, data: bytes, generation: Generation = AIE_ML
) -> None:
    """Back door: put whole lines into a memory tile's data memory."""
    lines, banks = np.frombuffer(data, np.uint8).reshape(-1, generation.line_bytes), generation.memory_banks
    for bank in range(banks):
        own = lines[(bank - line) % banks :: banks]
        at = (line + (bank - line) % banks) // banks
        if len(own):
            place = f"array.memory_{tile[0]}_{tile[1]}.{MEMORY_TILE}.tile.data.bank{bank}"
            model.stack(place, np.uint8)[at : at + len(own)] = own


def _within(pair: int, beat: int, count: int, size: int) -> tuple[slice, slice]:
    """Of `count` beats from `beat` on: which lie in a pair of banks, of `size` beats, and in which of its rows."""
    first, last = max(beat, pair * size), min(beat + count, (pair + 1) * size)
    last = max(first, last)
    return slice(first - beat, last - beat), slice(first - pair * size, last - pair * size)


def load_image(model: Backdoor, platform: AieMl, image: Image, *, bus: bool = False) -> int:
    """Put an image into memories by the back door, and what is left into the list that goes over the bus.

    Args:
        bus: all of it goes over the bus.

    Returns:
        The words that go over the bus.

    Raises:
        ImageError: a segment lies outside a tile.
        CapacityError: more words go over the bus than the test bench holds.
    """
    notes = image.notes.own_as(AieMlNotes)
    first_row = notes.first_row
    allow_early_reads(model, notes)
    for tile, load in () if bus else loads_of(image, platform).items():
        for at, content in load.data:
            (write_lines if tile[1] < first_row else write_beats)(model, tile, at, content, platform.generation)
        words = np.frombuffer(load.program, np.uint8).reshape(-1, INSTRUCTION_BYTES)
        if len(words):
            model.stack(f"{_tile(tile)}.core.fetch.program", np.uint8)[: len(words)] = words
    writes = bus_writes(image, platform, memories=bus)
    if len(writes) > CONFIG_WORDS:
        raise CapacityError(f"{len(writes):,} words of the image go over the configuration bus, and the test bench "
                            f"holds {CONFIG_WORDS:,}; load memories by the back door")  # fmt: skip
    model.stack("config_words", np.uint64)[: len(writes)] = writes[:, None]
    return len(writes)


def poison_memories(model: Backdoor, platform: AieMl, image: Image, seed: int) -> None:
    """Back door: what nothing writes is the same as in an observed run of the simulator; before `load_image`."""
    first_row = image.notes.own_as(AieMlNotes).first_row
    for tile, content in poisoned(image, platform, seed):
        (write_lines if tile[1] < first_row else write_beats)(model, tile, 0, content, platform.generation)


def check_feed(counts: Mapping[int, int]) -> None:
    """Words of each stream of the shim.

    Raises:
        CapacityError: they are more than its feeder holds.
    """
    stream, count = max(counts.items(), key=lambda each: each[1], default=(0, 0))
    if count > FEEDER_WORDS:
        column, number = divmod(stream, SHIM_IN)
        raise CapacityError(f"stream {number} of column {column} is to bring {count:,} words, and its feeder on "
                            f"RTL holds {FEEDER_WORDS:,}; take smaller or fewer batches, or the iss")  # fmt: skip


def feed(model: Backdoor, columns: int, words: Mapping[int, npt.NDArray[np.unsignedinteger]]) -> None:
    """What the streams of the shim bring in the next inference, by their number; those that are left out nothing.

    Raises:
        CapacityError: as of `check_feed`.
    """
    check_feed({stream: len(each) for stream, each in words.items()})
    for stream in range(columns * SHIM_IN):
        brought = words.get(stream, np.zeros(0, np.uint32))
        place = model.memory(f"feed[{stream}].feeder")
        place[0] = len(brought)
        place[1 : len(brought) + 1] = brought


def run_once(model: Model, held: Mapping[str, int], limit: int) -> None:
    """From reset, with these ports held, to the end of what is started.

    Raises:
        SimulationTimeout: there is none within `limit` cycles.
    """
    for port, value in held.items():
        model[port] = value
    model.reset(cycles=RESET_CYCLES)
    model.start = 1
    model.tick()
    model.start = 0
    model.run_until("stopped", 1, limit)
