# SPDX-License-Identifier: Apache-2.0
"""What happens in the cycles of a small J3DAI waveform, as rows of words: layer, transfer, instructions and stalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nncosim.compiler.image.image import Image
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp, Space
from nncosim.hdl.j3dai.regs import Counter
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.j3dai.waves import instruction_words
from nncosim.tb.sim.waves import Line, SignalGroup
from nncosim.tb.waves.rows import ROWS, Row, add_rows, row_of
from nncosim.tb.waves.samples import Clock, Samples
from nncosim.tb.waves.wave import Wave
from vcd.gtkw import GTKWColor

__all__ = ["rows", "write_rows"]

_TOP = "j3dai_tb"
_RESET = 0xFFFFFFFF  # what j3dai_tb.sv's `step` is in reset


def write_rows(path: Path, platform: J3dai, image: Image) -> SignalGroup:
    """Write an FST file again, with the rows of its cycles; gives them as what to show.

    Raises:
        BenchError: It cannot be read or written.
    """
    made = rows(path, platform, image)
    add_rows(path, made)
    return SignalGroup(ROWS, [Line(f"{ROWS}.{row.name}", row.name, color=GTKWColor.yellow) for row in made])


def rows(path: Path, platform: J3dai, image: Image) -> list[Row]:
    """The rows: `layer` (its schedule step), `dmpa` (the descriptor in execution), and of each cluster the
    instruction with its program counter, and what it does or waits for.

    Raises:
        BenchError: The waveform cannot be read, or lacks a signal.
    """
    wave = Wave.open(path)
    begins = [time for time, value in wave.changes(f"{_TOP}.clk") if value == 1]
    cycles = wave.at_times(begins, range(len(begins)))[f"{_TOP}.probe_cycle"].numbers
    now = wave.at_times(begins, cycles)
    names = [step.name for step in image.notes.steps]
    made = {"layer": _layers(now, names), "dmpa": _transfers(now)}
    words = instruction_words(image, platform)
    for index in range(platform.clusters):
        made[f"cluster{index}_instruction"] = _instructions(now, index, words)
        made[f"cluster{index}_does"] = _does(now, index)
    return [row_of(name, begins, texts) for name, texts in made.items()]


def _layers(now: Clock, names: Sequence[str]) -> list[str]:
    """Of each inference from its first list on; the last layer lasts until the inference is done."""
    steps, done, asked = (now[f"{_TOP}.{name}"].numbers for name in ("step", "frames_done", "frames_asked"))
    texts = []
    for step, frames, wanted in zip(map(int, steps), map(int, done), map(int, asked), strict=True):
        inside = step - frames * len(names)
        if step == _RESET or frames == wanted > 0:
            texts.append("reset" if step == _RESET else "done")
        else:
            texts.append(names[min(inside, len(names) - 1)] if inside >= 0 else f"list {step}")
    return texts


def _transfers(now: Clock) -> list[str]:
    at = f"{_TOP}.soc.dmpa"
    running, number, place = (now[f"{at}.{name}"].numbers for name in ("running", "current_list", "current_addr"))
    waiting, semaphore = now[f"{at}.probe_waiting"].numbers, now[f"{at}.probe_semaphore"].numbers
    current = now[f"{at}.current"].typed(Descriptor)
    fields = {name: current[name] for name in ("op", "l2", "local", "n0", "n1", "n2", "clusters")}
    texts = []
    for k in range(len(now)):
        if running[k]:
            texts.append(f"list {number[k]}, descriptor at {place[k]}: {_transfer(fields, k)}")
        elif waiting[k]:
            texts.append(f"waits for semaphore {semaphore[k]} of {_clusters(int(waiting[k]))}")
        else:
            texts.append("idle")
    return texts


def _transfer(fields: Mapping[str, Samples], k: int) -> str:
    value = {name: int(samples.numbers[k]) for name, samples in fields.items()}
    if value["op"] not in {op.value for op in DmpaOp}:
        return f"operation {value['op']}, which there is not"
    if value["op"] == DmpaOp.SYNC.value:
        return "sync"
    space = value["local"] >> 14
    local = f"{Space(space).name if space in {each.value for each in Space} else '?'} {value['local'] & 0x3FFF}"
    count = value["n0"] * max(value["n1"], 1) * max(value["n2"], 1)
    shared, clusters = f"L2 {value['l2']}", _clusters(value["clusters"])
    ends = (f"{local} of {clusters}", shared) if value["op"] == DmpaOp.STORE.value else (
        shared, f"{local} of {clusters}")
    return f"{DmpaOp(value['op']).name.lower()} {ends[0]} to {ends[1]}, {count} words"


def _clusters(mask: int) -> str:
    named = [str(index) for index in range(mask.bit_length()) if mask >> index & 1]
    return f"cluster{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _instructions(now: Clock, index: int, words: Mapping[int, str]) -> list[str]:
    """While a program runs, from the cycle in which it is fetched to the one in which it executes, as far as the
    waveform has that one; a word that is not of the image's programs in hexadecimal."""
    at = f"{_TOP}.soc.cluster{index}.controller"
    running, execute, pc, ir = (now[f"{at}.{name}"].numbers for name in ("running", "execute", "pc", "ir"))
    texts: list[str] = []
    coming: str | None = None  # backwards: a fetch is named by what it brings
    for k in reversed(range(len(now))):
        if not running[k]:
            coming = None
        elif execute[k]:
            word = int(ir[k])
            coming = f"{pc[k]}: {words.get(word, f'{word:#x}')}"
        elif coming is None or not coming.startswith(f"{pc[k]}: "):
            coming = f"{pc[k]}: fetched"
        texts.append(coming or "none")
    return texts[::-1]


def _does(now: Clock, index: int) -> list[str]:
    """The kind of cycle that the cluster counts, which its probe tells a cycle later, and what it waits for."""
    at = f"{_TOP}.soc.cluster{index}"
    trap, waits, waited = (now[f"{at}.controller.{name}"].numbers for name in ("trap", "waits", "waited"))
    state = now[f"{at}.probe"].numbers >> 20 & 7
    kinds = {each.value: each.name.lower().replace("_", " ") for each in Counter}
    texts = []
    for k in range(len(now)):
        if trap[k]:
            texts.append("trap")
        elif waits[k]:
            texts.append(f"waits for semaphore {waited[k]}")
        elif k + 1 < len(now) and now.cycles[k + 1] == now.cycles[k] + 1:
            texts.append(kinds.get(int(state[k + 1]), "?"))
        else:
            texts.append("not in this waveform")
    return texts
