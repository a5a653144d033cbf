# SPDX-License-Identifier: Apache-2.0
"""The rtl backend of J3DAI: an image on the Verilated SoC, by the direct driver or by cocotb."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from nncosim.compiler.image.image import Image, ImageError
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.hdl.j3dai.regs import Counter
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.tb.backend import Activity, Diagnosis, Entering, EntryFacts, Frame, RunResult
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.activity import activity_of
from nncosim.tb.j3dai.build import (
    FRAME_ASKED,
    build_soc,
    engine_names,
    read_l2,
    split_counters,
    write_host,
    write_l2,
)
from nncosim.tb.j3dai.capture import named_transfers, places
from nncosim.tb.j3dai.diagnosis import describe
from nncosim.tb.j3dai.entry_model import entry_channels
from nncosim.tb.j3dai.inside import as_seen
from nncosim.tb.j3dai.l1_capture import capture_l1, disputed, inside_places
from nncosim.tb.j3dai.l2_tags import l2_tags
from nncosim.tb.j3dai.netlist import build_with_names
from nncosim.tb.j3dai.observe import channels_of
from nncosim.tb.j3dai.origin import origins
from nncosim.tb.j3dai.records import RawFrame, take_records
from nncosim.tb.j3dai.sensor import Sensor, entered, entry_facts, input_words, memory_of, overtaken
from nncosim.tb.j3dai.waves import show_first, trace_conditions
from nncosim.tb.lockstep import Channel
from nncosim.tb.netlist.twin import told
from nncosim.tb.run.capture import (
    Completion,
    capture,
    intervals,
    pack_input,
    poison_kept,
    read_back,
)
from nncosim.tb.run.drive import Begun, drive
from nncosim.tb.run.spans import Cut
from nncosim.tb.run.traced import traced
from nncosim.tb.run.traffic import Accesses
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.model import OtherClock
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.sim.waves import Trace, trace_format
from nncosim.tb.system.files import is_stream
from nncosim.tb.system.progress import building, cycles_of

__all__ = ["DEFAULT_LIMIT", "PROBES", "SocRun", "load_image", "run_built", "run_netlist", "run_rtl", "write_inputs"]

DEFAULT_LIMIT = 50_000_000
"""Cycles of a frame where the caller sets no limit."""

BACKDOORS = Entering()

ENTRY_FACTOR = 8
"""A frame may take so many cycles more for each word of the image that may have to come in before it."""

KINDS = tuple(counter.name.lower() for counter in Counter)
"""What a cycle of an engine counts as, in the order of its counters."""

PROBES = ("frames_done", "error", "trap", "lists_done", "probe_cycle", "probe_running", "probe_armed", "probe_trap",
          "probe_cluster", "probe_dmpa", "probe_host_sleeping", "probe_host_pc",
          "probe_counters", "probe_run")  # fmt: skip


def load_image(model: Backdoor, platform: J3dai, image: Image) -> None:
    """Back door: put the loadable segments into L2 and the host's memories.

    Raises:
        ImageError: a segment lies outside the platform's memories.
    """
    for segment in image.segments:
        name, offset = memory_of(platform, segment.address, len(segment.data))
        if name == "l2":
            word = platform.word_bytes
            if offset % word:
                raise ImageError(f"segment at {segment.address:#x} of L2 must begin on a word of {word} bytes")
            write_l2(model, offset // word, segment.data + b"\0" * (-len(segment.data) % word), platform)
        else:
            write_host(model, name, offset, segment.data)


def write_inputs(
    model: Backdoor, image: Image, inputs: Mapping[str, np.ndarray], platform: J3dai = PLATFORM, seed: int = 0
) -> dict[str, np.ndarray]:
    """Back door: put a frame's inputs where the image expects them, and poison where kept results are to lie.

    Returns:
        What L2 then holds of the inputs.
    """
    table = places(image)
    poison_kept(table, partial(write_l2, model, platform=platform), seed)
    for name, values in inputs.items():
        write_l2(model, table[name].word, pack_input(table[name], values), platform)
    return read_back([table[name] for name in inputs], partial(read_l2, model, platform=platform))


@dataclass(frozen=True)
class SocRun:
    """A `nncosim.tb.run.drive.Chip`: the inferences of an image on the SoC."""

    failed: ClassVar[Sequence[str]] = ("trap", "error")
    probes: ClassVar[Sequence[str]] = PROBES
    other_clocks: ClassVar[Mapping[str, OtherClock]] = {}

    platform: J3dai
    image: bytes
    inputs: list[Mapping[str, np.ndarray]]
    entering: Entering
    observe: bool = False  # what results write to L1 is recorded, and the simulation has taps between the blocks
    monitors: bool = True  # without them nothing is recorded or checked
    taken: Callable[[Backdoor], None] | None = None  # called at the end of each inference

    @property
    def period_ps(self) -> int:
        return 10**12 // self.platform.clock_hz

    @property
    def inferences(self) -> int:
        return len(self.inputs)

    def attach(self, memories: Backdoor, seed: int) -> _Session:
        return _Session(self, memories, seed)


class _Session:
    def __init__(self, run: SocRun, model: Backdoor, seed: int):
        self._model, self._run, self._seed = model, run, seed
        self._image = image = Image.from_bytes(run.image)
        self._sensor = Sensor(model, run.platform, image, run.inputs, run.entering) if run.entering else None
        if not run.entering.bus:
            load_image(model, run.platform, image)
        self.held: Mapping[str, int] = {
            "frame": 0, "sensor_limit": 0, "stop_at": 0, "boot": int(run.entering.bus),
            "monitor_enable": int(run.monitors),
            "monitor_l1": int(run.monitors and (run.observe or bool(inside_places(image)))),
        }

    def begin(self, number: int, read: Callable[[str], int]) -> Begun[tuple[int, dict[str, np.ndarray]]]:
        start, run = read("probe_cycle"), self._run
        if self._sensor is None:
            seed = self._seed + number
            loaded = write_inputs(self._model, self._image, run.inputs[number], run.platform, seed)
            return Begun({}, ("frame",), (start, loaded))
        limit = self._sensor.limit(number, read("sensor_sent"))
        return Begun({"sensor_limit": limit, "stop_at": number + 1}, (), (start, {}))

    def take(self, begun: Begun[tuple[int, dict[str, np.ndarray]]]) -> RawFrame:
        if self._run.taken is not None:
            self._run.taken(self._model)
        return take_records(self._model, self._run.platform, self._image, *begun.known, observe=self._run.observe)


def run_rtl(
    platform: J3dai,
    data: bytes,
    inputs: Sequence[Mapping[str, np.ndarray]],
    *,
    driver: str,
    limit_cycles: int | None,
    seed: int,
    trace: Trace | None,
    progress: Callable[[str], None] | None,
    entering: Entering = BACKDOORS,
    observe: bool = False,
    patch: RtlPatch | None = None,
) -> RunResult:
    """Run an image on the RTL; see `nncosim.tb.backend.Bench.run`."""
    places(Image.from_bytes(data))  # complain before anything is built
    # A waveform of an observed run is of the same simulation, and what was recorded is known already.
    built, build_seconds = _build(platform, trace, progress, patch, observe)
    result = run_built(
        built, platform, data, inputs, driver=driver, limit_cycles=limit_cycles, seed=seed, trace=trace,
        entering=entering, watch=cycles_of(progress), observe=observe and trace is None,
    )
    return replace(result, wall_seconds={"build": build_seconds, **result.wall_seconds})


def run_netlist(
    platform: J3dai,
    data: bytes,
    inputs: Sequence[Mapping[str, np.ndarray]],
    blocks: Sequence[str],
    liberty: Path,
    beside_rtl: bool = False,
    *,
    driver: str,
    limit_cycles: int | None,
    seed: int,
    progress: Callable[[str], None] | None,
    entering: Entering = BACKDOORS,
) -> RunResult:
    """Run an image on the RTL with some blocks of it as gates of a cell library (`nncosim.tb.j3dai.netlist`)."""
    places(Image.from_bytes(data))  # complain before anything is built
    begin = time.perf_counter()
    built, twins = build_with_names(platform, blocks, liberty, progress=building(progress), beside_rtl=beside_rtl)
    build_seconds = time.perf_counter() - begin
    result = run_built(built, platform, data, inputs, driver=driver, limit_cycles=limit_cycles, seed=seed,
                       entering=entering, watch=cycles_of(progress), twins=twins)  # fmt: skip
    return replace(result, backend="netlist", wall_seconds={"build": build_seconds, **result.wall_seconds})


def run_built(
    built: BuiltModel,
    platform: J3dai,
    data: bytes,
    inputs: Sequence[Mapping[str, np.ndarray]],
    *,
    driver: str,
    limit_cycles: int | None = None,
    seed: int = 0,
    trace: Trace | None = None,
    entering: Entering = BACKDOORS,
    watch: Callable[[int], None] | None = None,
    observe: bool = False,
    plusargs: Sequence[str] = (),
    twins: Mapping[str, Sequence[str]] | None = None,
    taken: Callable[[Backdoor], None] | None = None,
) -> RunResult:
    """`run_rtl` on a simulation that is built already: for many runs in one process. `watch` is told the cycles.
    plusargs: for the simulation. twins: registers of gates that have the RTL beside them, by module. taken: called at
    the end of each inference, before the log is emptied."""
    image = Image.from_bytes(data)
    limit = limit_cycles or DEFAULT_LIMIT
    if entering.stream and not image.notes.streams:
        raise ImageError("the image's inputs make room for other tensors; compile it for streaming (--stream)")
    if entering:
        limit += ENTRY_FACTOR * sum(len(s.data) for s in image.segments) // platform.word_bytes
    chip = SocRun(platform, data, list(inputs), entering, observe, taken=taken)
    begin, behind = time.perf_counter(), ""
    if trace is None:
        driven = drive(built, chip, driver, limit, seed, watch=watch, plusargs=plusargs)
    else:
        steps = [step.name for step in image.notes.steps]
        driven, behind = traced(
            trace, trace_conditions(trace, len(steps)),
            lambda window: drive(built, chip, driver, limit, seed, window, watch), steps,
            lambda probes: probes["lists_done"],
        )  # fmt: skip
    seconds = {"simulate": time.perf_counter() - begin}
    raw, probes = driven.raw, driven.probes
    frames, disputes = _frames(platform, image, raw, seed, _stop(platform, probes), entering)
    diagnosis = _diagnose(platform, probes, driven.stopped, limit, len(inputs), _stale(platform, image, raw))
    diagnosis = _apart(raw, twins or {}, diagnosis or disputed(disputes))
    if behind:
        if diagnosis is None:
            raise BenchError(behind)
        diagnosis = replace(diagnosis, text=f"{diagnosis.text}\n{behind}")
    shown = trace is not None and not behind and not is_stream(trace.path)
    waveform = show_first(trace, platform, image) if trace is not None and shown else None
    facts = EntryFacts()
    if entering:
        records = np.concatenate([each.entry for each in raw])
        passages = entered(image, np.concatenate([each.entry_writes for each in raw]), records, len(frames))
        frames = tuple(replace(frame, passages=found) for frame, found in zip(frames, passages, strict=True))
        cycles = [frame.cycles for frame in frames if frame.cycles]
        facts = entry_facts(platform, image, records, entering, cycles)
    channels = _channels(platform, raw) if observe else ()
    passed = entry_channels(platform, np.concatenate([each.taps["entry"] for each in raw])) if observe else None
    return RunResult("rtl", driver, frames, diagnosis, seconds, built.key, facts, waveform, channels=channels,
                     modelled=() if passed is None else (passed,))


def _apart(raw: Sequence[RawFrame], twins: Mapping[str, Sequence[str]], known: Diagnosis | None) -> Diagnosis | None:
    """With where gates parted from the RTL beside them."""
    lines = told(np.concatenate([each.differences for each in raw]), twins) if raw and twins else []
    if not lines:
        return known
    text = "\n".join(["the gates part from the RTL:", *lines, *([known.text] if known else [])])
    return Diagnosis(known.kind if known else "check", text)


def _channels(platform: J3dai, raw: Sequence[RawFrame]) -> tuple[Channel, ...]:
    changes, l2, lists, transfers = (np.concatenate([getattr(each, name) for each in raw])
                                     for name in ("changes", "writes", "lists", "transfers"))  # fmt: skip
    engines = {name: number for number, name in enumerate(engine_names(platform))}
    seen = as_seen(platform, {name: np.concatenate([each.taps[name] for each in raw]) for name in raw[0].taps})
    counted = transfers["transfers"][np.isin(transfers["cycle"], lists["cycle"])]
    return channels_of(platform, engines, changes, l2, lists, counted, seen)


def _build(
    platform: J3dai, trace: Trace | None, progress: Callable[[str], None] | None, patch: RtlPatch | None, observe: bool
) -> tuple[BuiltModel, float]:
    begin = time.perf_counter()
    kind = trace_format(trace.path) if trace is not None else "fst" if observe else None
    built = build_soc(platform, patch=patch, inside=observe, trace=kind, progress=building(progress))
    return built, time.perf_counter() - begin


def _completions(platform: J3dai, raw: RawFrame) -> dict[int, Completion]:
    engines = engine_names(platform)
    out = {}
    for record, moved in zip(raw.counters, raw.transfers, strict=True):
        counters = {
            engine: dict(zip(KINDS, map(int, values), strict=True))
            for engine, values in zip(engines, record["counters"], strict=True)
        }
        at = int(record["cycle"])
        out[at] = Completion(at, counters, named_transfers(moved["transfers"]))
    return out


def _frames(
    platform: J3dai, image: Image, raw: Sequence[RawFrame], seed: int, stop: Cut,
    entering: Entering,
) -> tuple[tuple[Frame, ...], list[str]]:
    """Finished frames, and of an unfinished last one what it wrote; and what was computed twice with two results.

    `stop`: where the simulation ended.
    """
    table, inside = places(image), inside_places(image)
    frames = []
    disputes: list[str] = []
    first_list = 0
    start = Completion(0, {engine: dict.fromkeys(KINDS, 0) for engine in engine_names(platform)})
    for number, records in enumerate(raw):
        tensors = capture(table, records.writes, first_list, seed + number)
        more, found = capture_l1(inside, records.l1, number, platform.l1_words, seed + number)
        tensors |= more
        disputes += found
        origin = origins(platform, image, records.writes, records.l1, first_list, number)
        at = _completions(platform, records)
        begin = at.get(_asked(records), start) if entering else at.get(records.start, start) if number else start
        # A simulation that stops on an error may not have read the last counters.
        ends = [at[int(cycle)] for cycle in records.lists["cycle"] if int(cycle) in at]
        done = [int(cycle) for cycle in records.done["cycle"]]
        if done:
            finish = at[done[-1]]
            activity = () if number or entering else _activity(platform, image, records, ends, finish)
            steps, kept = intervals(begin, ends, finish), (records.memory, records.loaded, origin)
            frames.append(Frame(finish.cycle - begin.cycle, tensors, steps, activity, *kept))
            start = finish
        else:
            last = ends[-1] if ends else begin
            activity = () if number or entering else _activity(platform, image, records, ends, stop)
            steps = intervals(begin, ends, last) if ends else ()
            frames.append(Frame(0, tensors, steps, activity, {}, records.loaded, origin))
        first_list += len(records.lists)
    return tuple(frames), disputes


def _asked(records: RawFrame) -> int:
    """The cycle in which a frame was asked for, -1 if that was before the end of the one before it."""
    asked = records.entry[(records.entry["events"] & FRAME_ASKED) != 0]
    first = records.lists["cycle"][0] if len(records.lists) else np.iinfo(np.uint64).max
    return int(asked["cycle"][0]) if len(asked) and asked["cycle"][0] < first else -1


def _activity(
    platform: J3dai, image: Image, raw: RawFrame, ends: Sequence[Completion], last: Completion | Cut
) -> tuple[Activity, ...]:
    read = {int(record["cycle"]): record["counters"].astype(np.int64) for record in raw.counters}
    cuts = [Cut(end.cycle, read[end.cycle]) for end in ends]
    cuts.append(last if isinstance(last, Cut) else Cut(last.cycle, read[last.cycle]))
    engines = [(name, number) for number, name in enumerate(engine_names(platform))]
    return activity_of(platform, image, raw.changes, cuts, engines)


def _stop(platform: J3dai, probes: Mapping[str, int]) -> Cut:
    """Where the simulation ended, a cycle less: the counters are late by one."""
    engines = split_counters(platform, probes["probe_counters"])
    values = np.array([[engine[kind] for kind in KINDS] for engine in engines.values()], np.int64)
    return Cut(max(probes["probe_cycle"] - 1, 0), values)


def _stale(platform: J3dai, image: Image, raw: Sequence[RawFrame]) -> str:
    """What the DMPA read from L2 that was not what the image's layers mean; "" if nothing, or for a stripped image."""
    if j3dai_notes(image).traffic is None:
        return ""
    tags = l2_tags(image, platform)
    columns = ([getattr(records, name) for records in raw] for name in ("reads", "entry_writes", "entry"))
    wrong = overtaken(input_words(platform, image), *map(np.concatenate, columns))
    if wrong:
        return wrong
    for records in raw:
        seen = Accesses.of_beats(records.reads, records.writes, platform.banks)
        wrong = tags.frame(seen, bool(len(records.done)))
        if wrong:
            return wrong
    return ""


def _diagnose(
    platform: J3dai, probes: Mapping[str, int], stopped: str, limit: int, asked: int, stale: str
) -> Diagnosis | None:
    """`stale`: what was read from L2 without being there, told with whatever it led to."""
    found = _stopped(platform, probes, stopped, limit, asked)
    if found is not None and stale:
        return replace(found, text=f"{found.text}\n{stale}")
    return found or (Diagnosis("check", stale) if stale else None)


def _stopped(
    platform: J3dai, probes: Mapping[str, int], stopped: str, limit: int, asked: int
) -> Diagnosis | None:
    if stopped:
        return Diagnosis("check", stopped)
    if probes["trap"] or probes["error"]:
        return Diagnosis("trap", describe(platform, probes))
    if probes["frames_done"] < asked:
        return Diagnosis("hang", f"no end within {limit} cycles\n" + describe(platform, probes))
    return None
