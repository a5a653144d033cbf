# SPDX-License-Identifier: Apache-2.0
"""The monitor of latencies in each core tile (aie_ml_hazards.sv): how it is built in, what it is told, what it tells.

A register that is read while a write to it is in flight gives its old value; the core does not wait. Where a program
means that, as a software-pipelined one does, its image says so (`nncosim.compiler.aie_ml.notes.EarlyReads`). Anywhere
else, and where the core itself is early or late, the run ends as a failed check.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from nncosim.compiler.aie_ml.notes import BEAT_A, BEAT_B, AieMlNotes, acc_part
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml import isa
from nncosim.hdl.aie_ml.assembly import disassembled
from nncosim.hdl.aie_ml.tile import TILE
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.sim.backdoor import Backdoor

__all__ = [
    "HAZARD", "HAZARDS", "STOP", "SWITCH", "HazardKind", "allow_early_reads", "found_hazards", "hazard_text",
    "monitor_options", "monitor_sources",
]  # fmt: skip

HAZARDS = 5
"""Stream of the event log."""
HAZARD = np.dtype([
    ("cycle", "<u8"), ("kind", "<u4"), ("column", "<u2"), ("row", "<u2"), ("pc", "<u4"), ("register", "<u4"),
    ("cycles", "<u4"), ("writer", "<u4"), ("word", "u1", (16,)), ("writer_word", "u1", (16,)),
])  # fmt: skip
"""Cycle since reset. pc, word: the instruction of that cycle; writer, writer_word: that makes the write, -1 where none.
register: as in `nncosim.compiler.aie_ml.notes.EarlyReads`; cycles: how many too early, whatever is."""
_MONITOR, _INSTANCE = "aie_ml_hazards", "hazards"
STOP = Path(__file__).with_name("hazards.cpp")
"""By which the top knows of what the monitors of tiles found."""
SWITCH = {"AIE_ML_HAZARDS": "1"}
"""Define of the top."""
_NOBODY = (1 << 32) - 1
_BEATS, _ACCUMULATORS = {"load_a": BEAT_A, "load_b": BEAT_B}, acc_part(0, 0, 2)


class HazardKind(IntEnum):
    """As in aie_ml_hazards.sv."""

    EARLY, TWO, MISSING, SOON, STANDING = range(5)


def monitor_sources() -> dict[str, str]:
    """Verilog beside the tile's, by file name."""
    path = Path(__file__).with_name(f"{_MONITOR}.sv")
    return {path.name: path.read_text()}


def monitor_options() -> dict[str, Any]:
    """Of `nncosim.tb.sim.verilate.BuildOptions`, for a tile with it."""
    return {"defines": _instruction_macros(), "memories": {SRAM_MODULE: "mem", _MONITOR: "meant"}}


def _instruction_macros() -> dict[str, str]:
    """Where an instruction's fields lie, and its codes, from `nncosim.hdl.aie_ml.isa`; no latencies."""
    out = {}
    for slot, member in isa.Instruction.as_shape():
        for name, field in member.shape.as_shape():
            first = member.offset + field.offset
            out[f"{slot}_{name}"] = f"{first} +: {Shape.cast(field.shape).width}"
    for kind in (isa.Mac, isa.StoreOp, isa.Form, isa.MoveOp):
        out |= {f"{kind.__name__}_{each.name}": str(each.value) for each in kind}
    return out


def allow_early_reads(model: Backdoor, notes: AieMlNotes) -> None:
    """Back door: tell the monitors what is meant; nothing else is. Without monitors, nothing is done."""
    places = [path for path in model.memories if path.rpartition(".")[2] == _INSTANCE]
    for path in places:
        model.memory(path)[:] = 0
    if not places:
        return
    for each in notes.early_reads:
        numbers = np.array(each.reads, np.int64)
        meant = np.zeros(len(model.memory(places[0])), np.uint64)
        np.bitwise_or.at(meant, numbers >> 6, np.uint64(1) << (numbers & 63).astype(np.uint64))
        for column, row in each.tiles:
            model.memory(f"array.tile_{column}_{row}.{TILE}.{_INSTANCE}")[:] = meant


def found_hazards(model: Backdoor) -> npt.NDArray[np.void]:
    """What the monitors told, as `HAZARD`, the first one first."""
    found = model.log(HAZARDS, HAZARD, clear=True)
    return found[np.argsort(found, order=("cycle", "column", "row", "kind"), kind="stable")]


def hazard_text(found: npt.NDArray[np.void], image: Image) -> str:
    """The first of some in a sentence, and how many there are besides."""
    first, notes = found[0], image.notes.own_as(AieMlNotes)
    column, row, cycle = (int(first[name]) for name in ("column", "row", "cycle"))
    steps = {(site.column, site.row): site.step for site in notes.sites}
    step = steps.get((column, row))
    layer = f", layer {image.notes.steps[step].name}" if step is not None and step < len(image.notes.steps) else ""
    more = f" (and {len(found) - 1} more until the run stopped)" if len(found) > 1 else ""
    return f"tile ({column}, {row}){layer}, cycle {cycle:,}, pc {first['pc']}: {_sentence(first)}{more}"


def _sentence(found: np.void) -> str:
    number, cycles = int(found["register"]), int(found["cycles"])
    name, register = _register_name(number), _register(number)
    writer = _operation(found["writer_word"], register, "writes", f", pc {found['writer']}")
    times = f"{cycles} cycle{'s' if cycles != 1 else ''}"
    kind = HazardKind(found["kind"])
    if kind is HazardKind.EARLY:
        reader = _operation(found["word"], register, "reads")
        return f"{reader} reads {name} {times} too early: a write of it is in flight, of {writer}"
    if kind is HazardKind.TWO:
        return f"two writes of {name} arrive in this cycle, one of them of {writer}"
    if kind is HazardKind.MISSING:
        return f"the core does not write {name} in this cycle, as the manual has it of {writer}"
    if kind is HazardKind.STANDING:
        return f"the core writes {name} while it stands still"
    if found["writer"] == _NOBODY:
        return f"the core writes {name}, which no instruction does"
    return f"the core writes {name} {times} before the manual has it of {writer}"


def _operation(word: npt.NDArray[np.uint8], register: str, use: str, where: str = "") -> str:
    """What an instruction does that "reads" or "writes" a register, with its slot. where: behind the slot."""
    slots = disassembled(int.from_bytes(word.tobytes(), "little"))
    name = next((name for name, each in slots.items() if register in getattr(each, use)), "")
    if register in _BEATS:
        name = register if use == "reads" else "store"
    text = slots[name].text if name in slots else "; ".join(each.text for each in slots.values())
    return f"{text} ({name.replace('_', ' ')} slot{where})"


def _register(number: int) -> str:
    """As `nncosim.hdl.aie_ml.assembly` calls it; a beat is that of a slot."""
    if number in _BEATS.values():
        return next(slot for slot, each in _BEATS.items() if each == number)
    return f"w{number}" if number < _ACCUMULATORS else f"cm{number % 16}"


def _register_name(number: int) -> str:
    if number in _BEATS.values():
        return "its beat"
    half = f"{('low', 'high')[number // 48]} half of " if number >= _ACCUMULATORS else ""
    return half + _register(number)
