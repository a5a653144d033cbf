# SPDX-License-Identifier: Apache-2.0
"""Waveforms of the array: a part of a run in terms of the top's ports, and what is shown first of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from nncosim.compiler.aie_ml.notes import AieMlNotes, Site
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.assembly import disassembled
from nncosim.hdl.aie_ml.config import MEMORY_STARTS_AT
from nncosim.hdl.aie_ml.dma import TILE_DMA, DmaShape
from nncosim.hdl.aie_ml.dma_channel import DmaState
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES
from nncosim.hdl.aie_ml.locks import LOCKS
from nncosim.hdl.aie_ml.memory_tile import MEMORY_CHANNELS, MEMORY_DMA, MEMORY_LOCKS
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.observe import place_of, scope_of
from nncosim.tb.aie_ml.segments import TileLoad, loads_of
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.waves import Line, SignalGroup, Trace, Waveform, trace_format, write_save_file
from nncosim.tb.waves.cause import cause_group
from vcd.gtkw import GTKWColor

__all__ = ["MOST_TILES", "NEVER", "TOP", "ends_of", "groups", "instruction_words", "show_first", "steps_done",
           "trace_conditions"]

MOST_TILES = 16
"""That have a group in a save file: core tiles, and as many memory tiles."""
TOP = "aie_ml_array_tb"
_ARRAY = f"{TOP}.array"
NEVER = (1 << 64) - 1
"""Of `probe_since`: no inference has begun."""


def ends_of(image: Image) -> list[int]:
    """Of each step, the cycle of an inference after which it is to be complete, as the cycle model has it."""
    return list(accumulate(step.cycles.best for step in image.notes.steps))


def trace_conditions(trace: Trace, ends: Sequence[int]) -> dict[str, tuple[int, int]]:
    """A waveform's window as conditions on ports of the top. A step is one of the first inference.

    Raises:
        BenchError: the step has no cycles of its own.
    """
    conditions, step = trace.cycles("probe_cycle"), trace.step
    if step is not None:
        begin = ends[step - 1] if step else 0
        if begin == ends[step]:
            raise BenchError("the layer has no cycles of its own to show: it is complete before those listed ahead of "
                             "it, beside which it runs")  # fmt: skip
        conditions |= {"probe_since": (begin, ends[step]), "probe_inferences": (0, 1)}
    return conditions


def steps_done(probes: Mapping[str, int], ends: Sequence[int]) -> int:
    """How many steps of the first inference are complete."""
    if probes["probe_inferences"]:
        return len(ends)
    since = probes["probe_since"]
    return 0 if since == NEVER else sum(end <= since for end in ends)


def show_first(trace: Trace, platform: AieMl, image: Image) -> Waveform:
    """Write the save file of a finished waveform of an image's run; markers stand where inferences end, or as it says.
    """
    path, place, first = trace.path, place_of(trace.about), list[SignalGroup]()
    if trace.about:
        scope = scope_of(image.notes.own_as(AieMlNotes), trace.about)
        first = [cause_group(path, f"{TOP}.{scope}", trace.about)]
    if trace.marks and trace_format(path) == "fst":
        from nncosim.tb.aie_ml.rows import write_rows  # with a library that nothing else needs

        first = [write_rows(path, platform, image, place or (0, 1)), *first]
    return write_save_file(path, [*first, *groups(platform, image, place)], clock=f"{TOP}.clk",
                           marks=f"{TOP}.probe_inferences", cycle=f"{TOP}.probe_cycle",
                           open_scopes=(TOP, _ARRAY), at=trace.marks)  # fmt: skip


def groups(platform: AieMl, image: Image, first: tuple[int, int] | None = None) -> list[SignalGroup]:
    """Signals worth seeing first, of an image's run: those of the first tile, in the order of layers, are open; or of
    the tile at the place `first`."""
    notes, loads = image.notes.own_as(AieMlNotes), loads_of(image, platform)
    sites = sorted(notes.sites, key=lambda site: ((site.column, site.row) != first, site.step))[:MOST_TILES]
    code = instruction_words(loads[site.column, site.row].program for site in sites)
    layers = [step.name for step in image.notes.steps]
    found = [_run(), _shim(notes)]
    found += [_tile(site, layers[site.step], code, closed=k > 0) for k, site in enumerate(sites)]
    buffers = [place for place in sorted(loads, key=lambda place: (place != first, place))
               if place[1] < notes.first_row and _has_buffers(loads[place])]
    return found + [_memory_tile(*place) for place in buffers[:MOST_TILES]]


def instruction_words(programs: Iterable[bytes]) -> dict[int, str]:
    """Every instruction of some programs as a line of text, its slots from load a to control."""
    found: dict[int, str] = {}
    for program in programs:
        for at in range(0, len(program), INSTRUCTION_BYTES):
            word = int.from_bytes(program[at : at + INSTRUCTION_BYTES], "little")
            found.setdefault(word, "; ".join(each.text for each in disassembled(word).values()) or "-")
    return found


def _run() -> SignalGroup:
    return SignalGroup("run", [
        Line(f"{TOP}.clk"), Line(f"{TOP}.probe_cycle", "cycle", "dec"),
        Line(f"{TOP}.configuring"), Line(f"{TOP}.running", color=GTKWColor.yellow),
        Line(f"{TOP}.probe_since", "cycle of the inference", "dec"),
        Line(f"{TOP}.probe_inferences", "inferences done", "dec"),
        Line(f"{TOP}.probe_results", "words of results", "dec"),
        Line(f"{TOP}.hazard", color=GTKWColor.red), Line(f"{TOP}.fault", "lock faults", "bin", color=GTKWColor.red),
    ])  # fmt: skip


def _stream(at: str, label: str) -> list[Line]:
    return [Line(f"{at}__valid", f"{label} valid", color=GTKWColor.yellow), Line(f"{at}__ready", f"{label} ready"),
            Line(f"{at}__payload", label)]  # fmt: skip


def _shim(notes: AieMlNotes) -> SignalGroup:
    """Streams of the shim that carry something."""
    lines: list[Line] = []
    for each in notes.inputs:
        label = f"in {each.column}.{each.number} {each.tensor}"
        lines += _stream(f"{_ARRAY}.in_{each.column}_{each.number}.i", label)
    for each in notes.outputs:
        lowest = f"{'memory' if notes.memory_rows else 'tile'}_{each.column}_1"
        label = f"out {each.column}.{each.number} {each.tensor}"
        lines += _stream(f"{_ARRAY}.{lowest}.south_out__{each.number}", label)
    return SignalGroup("shim", lines)


def _dma(at: str, shape: DmaShape) -> list[Line]:
    states, lines = {state.value: state.name for state in DmaState}, []
    for kind in ("s2mm", "mm2s"):
        for k in range(shape.streams):
            channel = f"{at}.dma.{kind}{k}"
            lines += [Line(f"{channel}.state", f"{kind}{k}", words=states, color=GTKWColor.orange),
                      Line(f"{channel}.bd", f"{kind}{k} descriptor", "dec"),
                      Line(f"{channel}.left", f"{kind}{k} words left", "dec")]  # fmt: skip
            lines += _stream(f"{at}.dma.{kind}__{k}", f"{kind}{k} stream")
    return lines


def _tile(site: Site, layer: str, code: Mapping[int, str], *, closed: bool) -> SignalGroup:
    at = f"{_ARRAY}.tile_{site.column}_{site.row}.tile"
    causes = ("memory", "lock", "cascade")
    waits = {k: "+".join(c for bit, c in enumerate(causes) if k >> bit & 1) or "-" for k in range(1 << len(causes))}
    lines = [
        Line(f"{at}.core.busy"), Line(f"{at}.core.issue", color=GTKWColor.yellow),
        Line(f"{at}.core.waits", words=waits, color=GTKWColor.red),
        Line(f"{at}.core.issued_pc", "pc", "dec"),
        Line(f"{at}.core.fetch.ir", "instruction", words=code, color=GTKWColor.yellow),
        *_stream(f"{at}.core.west", "cascade in"), *_stream(f"{at}.core.east", "cascade out"),
        *_dma(at, TILE_DMA),
        *(Line(f"{at}.locks.values__{k}", f"lock {k}", "dec") for k in range(LOCKS)),
    ]  # fmt: skip
    return SignalGroup(f"tile ({site.column}, {site.row}) {layer}", lines, closed=closed)


def _has_buffers(load: TileLoad) -> bool:
    """Whether a memory tile does more than pass streams on."""
    begin, count = MEMORY_STARTS_AT, MEMORY_CHANNELS
    return any(begin <= at < begin + 4 * count for at, _ in load.registers)


def _memory_tile(column: int, row: int) -> SignalGroup:
    at = f"{_ARRAY}.memory_{column}_{row}.tile"
    locks = (Line(f"{at}.locks.values__{k}", f"lock {k}", "dec") for k in range(MEMORY_LOCKS))
    return SignalGroup(f"memory tile ({column}, {row})", [*_dma(at, MEMORY_DMA), *locks], closed=True)
