# SPDX-License-Identifier: Apache-2.0
"""What the engines of J3DAI did when: from records of changes to spans, for the RTL and the simulator alike.

Bits of a key of a change (see `nncosim.tb.run.spans`):

    2..0    the `Counter` of the cycle; 0 where bit 3 is set
    3       a MAC is in execution (cluster), a descriptor runs (DMPA): its cycles are busy, waits and control mixed
    4       a program runs (cluster)
    16..8   program counter (cluster; no part of the comparison); 27..8 word address of the descriptor (DMPA)
    30..28  the semaphore that is waited for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

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
from nncosim.tb.run.spans import Cut, Said, Spans, activity, change_dtype, spans_of

__all__ = ["CHANGE", "activity_of"]

CHANGE = change_dtype(len(Counter))
RUNS, PROGRAM = 1 << 3, 1 << 4
_AWAITED: Mapping[str, Mapping[int, str]] = {  # a cluster waits for the DMPA, the DMPA for a cluster
    "cluster": {
        ToCluster.INPUT_READY: "input", ToCluster.WEIGHTS_READY: "weights", ToCluster.OUTPUT_FREE: "room for results",
    },
    "dmpa": {
        ToDmpa.INPUT_FREE: "room for input", ToDmpa.WEIGHTS_FREE: "room for weights", ToDmpa.OUTPUT_READY: "results",
    },
}  # fmt: skip
CATEGORIES = tuple(counter.name.lower() for counter in Counter)
_STATES = {Counter.WAIT_HOST: "wait: host", Counter.CONTROL: "control", Counter.IDLE: "idle"}
_MOVES = {"tensor": "input", "parameters": "weights"}


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


def _transfers(image: Image, platform: J3dai) -> dict[int, Said]:
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


def _transfer(step: int, d: Mapping[str, int], buffer: _Buffer, platform: J3dai) -> Said:
    if d["op"] not in (DmpaOp.LOAD.value, DmpaOp.STORE.value, DmpaOp.GATHER.value):
        return Said(step, "sync", "sync")
    name, kind = buffer.name, buffer.kind
    words = d["n0"] * max(d["n1"], 1) * max(d["n2"], 1)
    space = Space(d["local"] >> 14).name
    clusters = ", ".join(str(c) for c in range(platform.clusters) if d["clusters"] >> c & 1)
    size = words * platform.word_bytes
    if d["op"] == DmpaOp.STORE.value:
        text = f"store {size:,} bytes of {name or '?'} from {space} of cluster {clusters}"
        return Said(step, "store", text, name, size)
    many, what = "s" if "," in clusters else "", f"load {size:,} bytes of {name or '?'}"
    if d["op"] == DmpaOp.GATHER.value:
        size = d["length"] * max(d["n1"], 1) * max(d["n2"], 1)
        what = f"gather {size:,} bytes of {name or '?'} as {words:,} words"
    text = f"{what} to {space} of cluster{many} {clusters}"
    return Said(step, f"load {_MOVES.get(kind, kind)}", text, name, size)


def activity_of(
    platform: J3dai, image: Image, changes: npt.NDArray[np.void], cuts: Sequence[Cut],
    engines: Sequence[tuple[str, int]],
) -> tuple[Activity, ...]:
    """Spans of the first inference after reset.

    Args:
        changes: `CHANGE` records since reset. cuts, engines: see `nncosim.tb.run.spans.spans_of`.
    """
    transfers = _transfers(image, platform)
    steps = len(image.notes.steps)
    out = []
    for spans in spans_of(changes, cuts, engines, steps, idle=int(Counter.IDLE)):
        mine = _of_programs(spans, image) if spans.engine.startswith("cluster") else spans
        out.append(activity(mine, partial(_describe, spans.engine, transfers), CATEGORIES))
    return tuple(out)


def _steps_of_runs(image: Image, cluster: int) -> list[int]:
    """The steps in which a cluster runs a program, in order."""
    return [i for i, each in enumerate(j3dai_notes(image).lists) if each.clusters >> cluster & 1]


def _of_programs(spans: Spans, image: Image) -> Spans:
    """A cluster's spans with the step of the program that runs or is waited for, whatever list ends then."""
    keys = spans.key & ~0x1FF00
    runs = np.array([*_steps_of_runs(image, int(spans.engine[7:])), -1])
    running = (keys & PROGRAM) != 0
    begins = running & ~np.concatenate(([False], running[:-1]))
    # Between two programs, what is waited for is the next one.
    number = np.cumsum(begins) - running
    known = np.minimum(number, len(runs) - 1)
    mine = running | (keys & 7 == Counter.WAIT_DATA)
    return replace(spans, key=keys, step=np.where(mine & (runs[known] >= 0), runs[known], spans.step))


def _describe(engine: str, transfers: Mapping[int, Said], key: int) -> Said:
    """What a key says: step -1 where it does not tell."""
    state, semaphore = key & 7, key >> 28 & 7
    if engine == "host":
        kind = {Counter.BUSY: "run", Counter.WAIT_DATA: "sleep"}.get(Counter(state), "idle")
        return Said(-1, kind, kind)
    kind = "cluster" if engine.startswith("cluster") else engine
    awaited = _AWAITED[kind].get(semaphore, f"semaphore {semaphore}")
    if kind == "cluster":
        if key & RUNS:
            return Said(-1, "compute", "MAC instruction")
        if state == Counter.WAIT_DATA:
            awaited = awaited if key & PROGRAM else "program"
            return Said(-1, f"wait: {awaited}", f"waits for {awaited}")
    else:
        transfer = transfers.get(key >> 8 & 0xFFFFF)
        if key & RUNS:
            return transfer or Said(-1, "transfer", "transfer")
        if state == Counter.WAIT_DATA:
            behind = f" to {transfer.text}" if transfer else ""
            step = transfer.step if transfer else -1
            return Said(step, f"wait: {awaited}", f"waits for {awaited}{behind}")
    text = _STATES.get(Counter(state), Counter(state).name.lower())
    return Said(-1, text, text)
