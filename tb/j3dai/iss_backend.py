# SPDX-License-Identifier: Apache-2.0
"""The iss backend of J3DAI: an image and its inputs on the instruction-set simulator."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.hdl.j3dai.asm import disassemble
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Activity, Diagnosis, Frame, Interval, RunResult
from nncosim.tb.j3dai.activity import activity_of
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.iss import FrameResult, Machine
from nncosim.tb.j3dai.iss_core import DMPA_ENGINE, HOST_ENGINE
from nncosim.tb.j3dai.l1_capture import capture_l1, disputed, inside_places
from nncosim.tb.j3dai.observe import channels_of
from nncosim.tb.j3dai.origin import origins
from nncosim.tb.lockstep import Channel
from nncosim.tb.run.capture import Place, capture, kept_places, pack_input, poison_kept, read_back
from nncosim.tb.run.spans import Cut

__all__ = ["run_iss", "standing"]

DEFAULT_LIMIT = 50_000_000
"""Cycles of a frame where the caller sets no limit."""


def run_iss(
    platform: J3dai, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], *, limit_cycles: int | None = None,
    seed: int = 0, observe: bool = False,
) -> RunResult:
    """Run an image on the simulator; see `nncosim.tb.backend.Bench.run`. observe: give its channels.

    Raises:
        ImageError: the image's tile table is missing or damaged.
        IssError: the image cannot be loaded.
        BuildError, ToolError: the simulator cannot be built.
    """
    image = Image.from_bytes(data)
    table, inside = places(image), inside_places(image)
    begin = time.perf_counter()
    machine = Machine(platform, seed=seed, log_writes=True, log_activity=True, batch=not observe)
    build = time.perf_counter() - begin
    machine.load_elf(data)
    if inside:
        machine.core.log_l1()
    if observe:
        machine.core.log_seen()
    l2_writes: list[npt.NDArray[np.void]] = []
    frames: list[Frame] = []
    diagnosis: Diagnosis | None = None
    begin = time.perf_counter()
    for number, values in enumerate(inputs):
        loaded = _load(machine, table, values, seed + number)
        first_list = len(machine.core.lists())
        result = machine.run_frame(limit_cycles or DEFAULT_LIMIT)
        writes = machine.core.l2_writes(clear=True)
        tensors = capture(table, writes, first_list, seed + number)
        diagnosis = result.diagnosis or _reported(machine, result)
        l1_writes = machine.core.l1_writes()
        if observe:
            l2_writes.append(writes)
        if inside:
            more, disputes = capture_l1(inside, l1_writes, number, platform.l1_words, seed + number)
            tensors |= more
            diagnosis = diagnosis or disputed(disputes)
        activity = () if number else _activity(machine, image)
        origin = origins(platform, image, writes, l1_writes, first_list, number)
        memory = {} if diagnosis else read_back(kept_places(table), partial(_words, machine))
        cycles = 0 if diagnosis else result.cycles
        frames.append(Frame(cycles, tensors, _intervals(result), activity, memory, loaded, origin))
        if diagnosis is not None:
            break
    seconds = {"build": build, "simulate": time.perf_counter() - begin}
    channels = _channels(machine, l2_writes) if observe else ()
    return RunResult("iss", None, tuple(frames), diagnosis, seconds, channels=channels)


def _channels(machine: Machine, l2_writes: Sequence[npt.NDArray[np.void]]) -> tuple[Channel, ...]:
    core, lists = machine.core, machine.core.lists()
    return channels_of(machine.platform, _engines(machine.platform), core.changes(), np.concatenate(l2_writes), lists,
                       lists["transfers"], core.seen())


def _engines(platform: J3dai) -> dict[str, int]:
    return {**{f"cluster{c}": c for c in range(platform.clusters)}, "dmpa": DMPA_ENGINE, "host": HOST_ENGINE}


def _words(machine: Machine, word: int, count: int) -> npt.NDArray[np.uint8]:
    """So many words of L2, (count, word bytes); a view."""
    return machine.l2.reshape(-1, machine.platform.word_bytes)[word : word + count]


def _load(
    machine: Machine, table: Mapping[str, Place], inputs: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """Put a frame's inputs into L2; returns what L2 holds of them then."""

    def write(word: int, data: bytes) -> None:
        at = word * machine.platform.word_bytes
        machine.l2[at : at + len(data)] = np.frombuffer(data, np.uint8)

    poison_kept(table, write, seed)
    for name, value in inputs.items():
        write(table[name].word, pack_input(table[name], value))
    return read_back([table[name] for name in inputs], partial(_words, machine))


def _activity(machine: Machine, image: Image) -> tuple[Activity, ...]:
    core, platform = machine.core, machine.platform
    cuts = [Cut(int(record["cycle"]), record["counters"].astype(np.int64)) for record in core.lists()]
    cuts.append(Cut(core.cycle, core.counters().astype(np.int64)))
    return activity_of(platform, image, core.changes(), cuts, list(_engines(platform).items()))


def _reported(machine: Machine, result: FrameResult) -> Diagnosis | None:
    if not result.error:
        return None
    return Diagnosis("trap", "\n".join([f"the host reports error {result.error:#x}", *machine.describe()]))


def _intervals(result: FrameResult) -> tuple[Interval, ...]:
    """The frame's lists; the last one lasts until the host has seen its completion."""
    out = [
        Interval(step, entry.start, entry.end, entry.counters, entry.transfers)
        for step, entry in enumerate(result.lists)
    ]
    if out and result.diagnosis is None:
        before = out[:-1]
        rest = {
            engine: {kind: value - sum(step.counters[engine][kind] for step in before) for kind, value in kinds.items()}
            for engine, kinds in result.counters.items()
        }
        moved = {
            kind: {name: value - sum(step.transfers[kind][name] for step in before) for name, value in counts.items()}
            for kind, counts in result.transfers.items()
        }
        out[-1] = Interval(out[-1].step, out[-1].start, result.cycles, rest, moved)
    return tuple(out)


def standing(
    platform: J3dai, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], seed: int, cycle: int
) -> list[str]:
    """Where everybody stands in a cycle of a right run, and what each cluster executes there, a line each."""
    machine, table = Machine(platform, seed=seed), places(Image.from_bytes(data))
    machine.load_elf(data)
    for number, values in enumerate(inputs):
        _load(machine, table, values, seed + number)
        result = machine.run_frame(cycle - machine.core.cycle)
        if result.diagnosis is not None:
            break
    return [*machine.describe(), *_instructions(machine)]


def _instructions(machine: Machine) -> Iterable[str]:
    status = machine.core.status()
    for k in range(machine.platform.clusters):
        at = status.cluster[k]
        if at.running:
            words, pcs = machine.core.imem[k].view("<u8"), (at.pc - 1, at.pc)
            lines = disassemble([int(words[pc % len(words)]) for pc in pcs])
            texts = (line.partition(": ")[2].strip() for line in lines)
            told = "; ".join(f"{pc}: {text}" for pc, text in zip(pcs, texts, strict=True))
            yield f"cluster{k}: instructions there: {told}"
