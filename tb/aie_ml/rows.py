# SPDX-License-Identifier: Apache-2.0
"""What happens in the cycles of a small waveform of the array, as rows of words: layer, and of the tile that it is made
for and of those beside it instructions, stalls and descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from amaranth.hdl import Shape
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.config import BDS_AT, MEMORY_BDS_AT
from nncosim.hdl.aie_ml.dma import DmaShape, tile_dma
from nncosim.hdl.aie_ml.dma_channel import DmaState
from nncosim.hdl.aie_ml.memory_tile import memory_dma
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.observe import STATES
from nncosim.tb.aie_ml.segments import TileLoad, loads_of
from nncosim.tb.aie_ml.waves import NEVER, TOP, ends_of, instruction_words
from nncosim.tb.sim.waves import Line, SignalGroup
from nncosim.tb.waves.rows import ROWS, Row, add_rows, row_of
from nncosim.tb.waves.samples import Clock
from nncosim.tb.waves.wave import Wave
from vcd.gtkw import GTKWColor

__all__ = ["MOST_TILES", "rows", "write_rows"]

MOST_TILES = 5
"""That have rows."""
_Place = tuple[int, int]


def write_rows(path: Path, platform: AieMl, image: Image, place: _Place) -> SignalGroup:
    """Write an FST file again, with the rows of its cycles; gives them as what to show. place: of the tile.

    Raises:
        BenchError: It cannot be read or written.
    """
    made = rows(path, platform, image, place)
    add_rows(path, made)
    return SignalGroup(ROWS, [Line(f"{ROWS}.{row.name}", row.name, color=GTKWColor.yellow) for row in made])


def rows(path: Path, platform: AieMl, image: Image, place: _Place) -> list[Row]:
    """The rows: `layer` (the schedule step that is to be complete next); of tiles with a core the instruction with its
    program counter, and what the core does or waits for; of each channel that does something, its descriptor.

    Raises:
        BenchError: The waveform cannot be read, or lacks a signal.
    """
    wave = Wave.open(path)
    begins = [time for time, value in wave.changes(f"{TOP}.clk") if value == 1]
    cycles = wave.at_times(begins, range(len(begins)))[f"{TOP}.probe_cycle"].numbers
    now = wave.at_times(begins, cycles)
    made = {"layer": _layers(now, image)}
    loads, first_row = loads_of(image, platform), image.notes.own_as(AieMlNotes).first_row
    near = sorted(loads, key=lambda each: (abs(each[0] - place[0]) + abs(each[1] - place[1]), each))
    for column, row in near[:MOST_TILES]:
        core = row >= first_row
        name = f"{'tile' if core else 'memory'}_{column}_{row}"
        load, at = loads[column, row], f"{TOP}.array.{name}.tile"
        if core and load.program:
            made[f"{name}_instruction"] = _instructions(now, at, instruction_words([load.program]))
            made[f"{name}_does"] = _does(now, at)
        shape = tile_dma(platform.generation) if core else memory_dma(platform.generation)
        made |= _channels(now, at, name, shape, _buffers(load, shape, BDS_AT if core else MEMORY_BDS_AT))
    return [row_of(name, begins, texts) for name, texts in made.items()]


def _layers(now: Clock, image: Image) -> list[str]:
    names, ends = [step.name for step in image.notes.steps], ends_of(image)
    since, done = (now[f"{TOP}.{name}"].numbers for name in ("probe_since", "probe_inferences"))
    running = now[f"{TOP}.running"].numbers
    texts = []
    for at, number, runs in zip(map(int, since), map(int, done), map(int, running), strict=True):
        if at == NEVER:
            texts.append("configuration")
        elif not runs:
            texts.append(f"inference {number} is done")
        else:
            texts.append(next((name for name, end in zip(names, ends, strict=True) if at < end), "late"))
    return texts


def _instructions(now: Clock, at: str, words: Mapping[int, str]) -> list[str]:
    """While the core issues or waits; a word that is not of the image's program in hexadecimal."""
    issue, waits, pc, ir = (now[f"{at}.core.{name}"].numbers for name in ("issue", "waits", "issued_pc", "fetch.ir"))
    return [f"{pc[k]}: {words.get(int(ir[k]), f'{int(ir[k]):#x}')}" if issue[k] or waits[k] else "none"
            for k in range(len(now))]  # fmt: skip


def _does(now: Clock, at: str) -> list[str]:
    issue, waits, busy = (now[f"{at}.core.{name}"].numbers for name in ("issue", "waits", "busy"))
    texts = []
    for issues, waited, works in zip(map(int, issue), map(int, waits), map(int, busy), strict=True):
        state = 1 if issues else 2 if waited & 1 else 4 if waited & 4 else 3 if waited & 2 else 5 if works else 0
        texts.append(STATES[state])
    return texts


def _buffers(load: TileLoad, shape: DmaShape, at: int) -> dict[int, str]:
    """What each descriptor of an image moves."""
    fields, words = shape.format.fields.as_shape(), dict(load.registers)
    texts = {}
    for number in range(shape.descriptors * shape.pools):
        value = sum(words.get(at + 32 * number + 4 * k, 0) << 32 * k for k in range(shape.format.width // 32))
        base, length = (value >> fields[name].offset & (1 << Shape.cast(fields[name].shape).width) - 1
                        for name in ("base", "length"))  # fmt: skip
        texts[number] = f"{length} words at {base}"
    return texts


def _channels(now: Clock, at: str, tile: str, shape: DmaShape, buffers: Mapping[int, str]) -> dict[str, list[str]]:
    """Of those that do something in these cycles."""
    names = {each.value: each.name.lower() for each in DmaState}
    made = {}
    for number in range(shape.channels):
        kind, index = divmod(number, shape.streams)
        channel = f"{('s2mm', 'mm2s')[kind]}{index}"
        state, bd = (now[f"{at}.dma.{channel}.{name}"].numbers for name in ("state", "bd"))
        if not state.any():
            continue
        own = index % shape.pools * shape.descriptors
        made[f"{tile}_{channel}"] = [
            f"{names.get(int(does), '?')} {at_}: {buffers[own + int(at_) % shape.descriptors]}" if does else "idle"
            for does, at_ in zip(state, bd, strict=True)]  # fmt: skip
    return made
