# SPDX-License-Identifier: Apache-2.0
"""What the engines of J3DAI did when: from records of changes to spans, for the RTL and the simulator alike.

A record says that an engine does something else from a cycle on: what, as a key, and the engine's counters up to that
cycle. Bits of a key:

    2..0    the `Counter` of the cycle; 0 where bit 3 is set
    3       a MAC is in execution (cluster), a descriptor runs (DMPA): its cycles are busy, waits and control mixed
    4       a program runs (cluster)
    16..8   program counter (cluster; no part of the comparison); 27..8 word address of the descriptor (DMPA)
    30..28  the semaphore that is waited for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.compiler.image.notes import Step
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.compiler.j3dai.semaphores import ToCluster, ToDmpa
from nncosim.hdl.j3dai.asm import DESCRIPTOR_BYTES, decode_descriptors
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.hdl.j3dai.regs import L2_BASE, Counter
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Activity

__all__ = ["CHANGE", "Cut", "activity_of"]

CHANGE = np.dtype([("cycle", "<u8"), ("engine", "<u4"), ("key", "<u4"), ("counters", "<u4", (len(Counter),))])
"""One record of a change: the counters are of all cycles before `cycle`."""

RUNS, PROGRAM = 1 << 3, 1 << 4
_AWAITED: Mapping[str, Mapping[int, str]] = {  # a cluster waits for the DMPA, the DMPA for a cluster
    "cluster": {
        ToCluster.INPUT_READY: "input", ToCluster.WEIGHTS_READY: "weights", ToCluster.OUTPUT_FREE: "room for results",
    },
    "dmpa": {
        ToDmpa.INPUT_FREE: "room for input", ToDmpa.WEIGHTS_FREE: "room for weights", ToDmpa.OUTPUT_READY: "results",
    },
}  # fmt: skip
_STATES = {Counter.WAIT_HOST: "wait: host", Counter.CONTROL: "control", Counter.IDLE: "idle"}
_MOVES = {"tensor": "input", "parameters": "weights"}


@dataclass(frozen=True)
class Cut:
    """The counters of all engines, of all cycles before `cycle`: (engines, 6) in the order of the records."""

    cycle: int
    counters: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Transfer:
    """One descriptor of a step's list. `bytes`: what it moves on L2's port; a broadcast counts once."""

    step: int
    kind: str
    text: str
    buffer: str
    bytes: int


@dataclass(frozen=True)
class _Buffer:
    """What lies in L2 from word `first` to (not including) `end`. `layers`: that read or write it."""

    first: int
    end: int
    name: str
    kind: str
    layers: tuple[str, ...]


def _buffers(image: Image, platform: J3dai) -> list[_Buffer]:
    found = []
    for buffer in image.notes.buffers:
        if buffer.memory == "l2":
            first = (buffer.address - L2_BASE) // platform.word_bytes
            end = first + -(-buffer.bytes // platform.word_bytes)
            found.append(_Buffer(first, end, buffer.name, buffer.kind, buffer.layers))
    return found


def _l2_bytes(image: Image, word: int, platform: J3dai, size: int = 1 << 16) -> bytes:
    address = L2_BASE + word * platform.word_bytes
    for segment in image.segments:
        if segment.address <= address < segment.address + len(segment.data):
            return segment.data[address - segment.address :][:size]
    return b""


def _transfers(image: Image, platform: J3dai) -> dict[int, _Transfer]:
    """Every descriptor of the image by its word address."""
    buffers, out = _buffers(image, platform), {}
    steps, lists = image.notes.steps, j3dai_notes(image).lists
    number_of = {step.name: i for i, step in enumerate(steps)}
    for index, (step, own) in enumerate(zip(steps, lists, strict=True)):
        raw = _l2_bytes(image, own.word, platform, DESCRIPTOR_BYTES * own.descriptors)
        for number, fields in enumerate(decode_descriptors(raw)):
            buffer = _touched(fields, buffers, step)
            # A list also loads programs and weights of the step after it.
            owner = index if buffer.kind == "tensor" else number_of.get(buffer.name.rpartition(".")[0], index)
            at = own.word + DESCRIPTOR_BYTES * number // platform.word_bytes
            out[at] = _transfer(owner, fields, buffer, platform)
    return out


def _touched(d: Mapping[str, int], buffers: Sequence[_Buffer], step: Step) -> _Buffer:
    """The buffer that a transfer begins in: tensors take turns at an address, so one that the step reads or writes."""
    names = step.writes if d["op"] == DmpaOp.STORE.value else step.reads
    inside = [b for b in buffers if b.first <= d["l2"] < b.end]

    def rank(b: _Buffer) -> tuple[bool, bool, int]:
        # What lies inside another buffer is the more telling.
        return b.kind == "tensor" and b.name not in names, step.name not in b.layers, b.end - b.first

    return min(inside, key=rank, default=_Buffer(0, 0, "", "data", ()))


def _transfer(step: int, d: Mapping[str, int], buffer: _Buffer, platform: J3dai) -> _Transfer:
    if d["op"] not in (DmpaOp.LOAD.value, DmpaOp.STORE.value, DmpaOp.GATHER.value):
        return _Transfer(step, "sync", "sync", "", 0)
    name, kind = buffer.name, buffer.kind
    words = d["n0"] * max(d["n1"], 1) * max(d["n2"], 1)
    space = Space(d["local"] >> 14).name
    clusters = ", ".join(str(c) for c in range(platform.clusters) if d["clusters"] >> c & 1)
    size = words * platform.word_bytes
    if d["op"] == DmpaOp.STORE.value:
        text = f"store {size:,} bytes of {name or '?'} from {space} of cluster {clusters}"
        return _Transfer(step, "store", text, name, size)
    many, what = "s" if "," in clusters else "", f"load {size:,} bytes of {name or '?'}"
    if d["op"] == DmpaOp.GATHER.value:
        size = d["length"] * max(d["n1"], 1) * max(d["n2"], 1)
        what = f"gather {size:,} bytes of {name or '?'} as {words:,} words"
    text = f"{what} to {space} of cluster{many} {clusters}"
    return _Transfer(step, f"load {_MOVES.get(kind, kind)}", text, name, size)


def activity_of(
    platform: J3dai, image: Image, changes: npt.NDArray[np.void], cuts: Sequence[Cut],
    engines: Sequence[tuple[str, int]],
) -> tuple[Activity, ...]:
    """Spans of the first inference after reset.

    Args:
        changes: `CHANGE` records since reset.
        cuts: the completion of each list, and the end of the inference, or of a run that stopped in it. No span reaches
            over one, so that the spans between two completions add up to the counters between them.
        engines: name of each engine, its number in the records and its row in the cuts.
    """
    transfers = _transfers(image, platform)
    ends = np.array([cut.cycle for cut in cuts], np.int64)
    steps = len(image.notes.steps)
    out = []
    for name, number in engines:
        records = changes[(changes["engine"] == number) & (changes["cycle"] < ends[-1])]
        start, end, keys, cycles, first = _cut(records, [(cut.cycle, cut.counters[number]) for cut in cuts])
        # The last step lasts until the inference ends; what runs at a stop comes behind the completed ones.
        interval = np.minimum(np.searchsorted(ends[:-1], start, side="right"), max(steps - 1, 0))
        out.append(_named(name, image, transfers, start, end, keys, cycles, first, interval))
    return tuple(out)


def _cut(records: npt.NDArray[np.void], cuts: Sequence[tuple[int, npt.NDArray[np.int64]]]) -> tuple[Any, ...]:
    """Spans between changes and cuts: start, end, key, cycles of each counter, whether it begins with a change."""
    before = np.zeros(len(Counter), np.int64)
    times = np.concatenate(([0], [cycle for cycle, _ in cuts], records["cycle"].astype(np.int64)))
    counters = np.concatenate((before[None], [c for _, c in cuts], records["counters"].astype(np.int64)))
    keys = np.concatenate(([int(Counter.IDLE)], np.full(len(cuts), -1), records["key"].astype(np.int64)))
    order = np.argsort(times, kind="stable")
    times, counters, keys = times[order], counters[order], keys[order]
    last = np.maximum.accumulate(np.where(keys >= 0, np.arange(len(keys)), 0))
    kept = np.diff(times) > 0
    cycles, first = np.diff(counters, axis=0), keys[:-1] >= 0
    return times[:-1][kept], times[1:][kept], keys[last][:-1][kept], cycles[kept], first[kept]


def _steps_of_runs(image: Image, cluster: int) -> list[int]:
    """The steps in which a cluster runs a program, in order."""
    return [i for i, each in enumerate(j3dai_notes(image).lists) if each.clusters >> cluster & 1]


def _named(
    engine: str, image: Image, transfers: Mapping[int, _Transfer], start: Any, end: Any, keys: Any, cycles: Any,
    first: Any, interval: Any,
) -> Activity:  # fmt: skip
    steps = interval.astype(np.int64)
    if engine.startswith("cluster"):
        keys = keys & ~0x1FF00
        runs = np.array([*_steps_of_runs(image, int(engine[7:])), -1])
        running = (keys & PROGRAM) != 0
        begins = running & ~np.concatenate(([False], running[:-1]))
        # Between two programs, what is waited for is the next one.
        number = np.cumsum(begins) - running
        known = np.minimum(number, len(runs) - 1)
        mine = running | (keys & 7 == Counter.WAIT_DATA)
        steps = np.where(mine & (runs[known] >= 0), runs[known], steps)
    unique, what = np.unique(keys, return_inverse=True)
    described = [_describe(engine, int(key), transfers) for key in unique]
    kinds = tuple(dict.fromkeys(d.kind for d in described))
    texts = tuple(dict.fromkeys(d.text for d in described))
    buffers = tuple(dict.fromkeys(d.buffer for d in described if d.buffer))
    own = np.array([d.step for d in described])[what]
    steps = np.where(own >= 0, own, steps)
    return Activity(
        engine, start, end,
        kinds, np.array([kinds.index(d.kind) for d in described])[what],
        texts, np.array([texts.index(d.text) for d in described])[what],
        buffers, np.array([buffers.index(d.buffer) if d.buffer else -1 for d in described])[what],
        steps,
        np.where(first, np.array([d.bytes for d in described])[what], 0),
        {counter.name.lower(): cycles[:, counter] for counter in Counter},
    )  # fmt: skip


def _describe(engine: str, key: int, transfers: Mapping[int, _Transfer]) -> _Transfer:
    """What a key says: step -1 where it does not tell."""
    state, semaphore = key & 7, key >> 28 & 7
    if engine == "host":
        kind = {Counter.BUSY: "run", Counter.WAIT_DATA: "sleep"}.get(Counter(state), "idle")
        return _Transfer(-1, kind, kind, "", 0)
    kind = "cluster" if engine.startswith("cluster") else engine
    awaited = _AWAITED[kind].get(semaphore, f"semaphore {semaphore}")
    if kind == "cluster":
        if key & RUNS:
            return _Transfer(-1, "compute", "MAC instruction", "", 0)
        if state == Counter.WAIT_DATA:
            awaited = awaited if key & PROGRAM else "program"
            return _Transfer(-1, f"wait: {awaited}", f"waits for {awaited}", "", 0)
    else:
        transfer = transfers.get(key >> 8 & 0xFFFFF)
        if key & RUNS:
            return transfer or _Transfer(-1, "transfer", "transfer", "", 0)
        if state == Counter.WAIT_DATA:
            behind = f" to {transfer.text}" if transfer else ""
            step = transfer.step if transfer else -1
            return _Transfer(step, f"wait: {awaited}", f"waits for {awaited}{behind}", "", 0)
    text = _STATES.get(Counter(state), Counter(state).name.lower())
    return _Transfer(-1, text, text, "", 0)
