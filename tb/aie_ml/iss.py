# SPDX-License-Identifier: Apache-2.0
"""The instruction-set simulator of a tile: functional and cycle-exact, from the same instruction words as the RTL.

The exposed pipeline is simulated as it is: an operation reads what a register holds in that cycle, and what it writes
is there when `hdl/aie_ml/MANUAL.md` says. Fields, codes and latencies are generated from `nncosim.hdl.aie_ml.isa`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from nncosim.hdl.aie_ml import isa
from nncosim.hdl.aie_ml.core import DRAIN_CYCLES
from nncosim.hdl.aie_ml.fetch import FETCH_CYCLES
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation
from nncosim.tb.aie_ml.taps import seen_layouts
from nncosim.tb.boundaries.layouts import seen_header, seen_source
from nncosim.tb.iss.native import NativeSources, Signatures, records

__all__ = ["PROBLEM", "Problem", "Tile", "core_store", "header", "problem_of"]

_SOURCES = NativeSources(
    "the AIE-ML simulator", Path(__file__).parent,
    ("iss_seen.h", "iss_words.h", "iss_vector.h", "iss_elastic.h", "iss_locks.h", "iss_west.h", "iss_access.h",
     "iss_agu.h", "iss_core_seen.h", "iss_core.h", "iss.cpp"), "nncosim_aie_",
)  # fmt: skip
_P, _U64 = ctypes.c_void_p, ctypes.c_uint64
_FUNCTIONS: Signatures = {
    "create": (_P, [_U64]), "destroy": (None, [_P]), "load": (None, [_P, ctypes.c_char_p, _U64]), "memory": (_P, [_P]),
    "west_memory": (_P, [_P]),
    "start": (None, [_P]), "run": (None, [_P, _U64]), "halted": (ctypes.c_int, [_P]), "cycle": (_U64, [_P]),
    "issued": (_U64, [_P]), "stalls": (_U64, [_P]), "stores": (_P, [_P, ctypes.POINTER(_U64)]),
    "problems": (_P, [_P, ctypes.POINTER(_U64)]), "remarks": (_P, [_P, ctypes.POINTER(_U64)]),
}  # fmt: skip
PROBLEM = np.dtype([("cycle", "<u8"), ("pc", "<u4"), ("code", "<u4")])
_TEXTS = {
    1: "two writes of one register land in one cycle", 2: "two slots use one pointer, or it is set while it is used",
    3: "more loops than there are levels, or a body of less than 2", 4: "the program ends without HALT",
    5: "a register that does not exist", 6: "SRS or PUT in the move slot beside a VST.SRS, which share a unit",
    7: "the west neighbour's memory or lock, where there is none",
    16: "a vector is read while a write of it is in flight",
    17: "an accumulator is read while a write of it is in flight",
    18: "an operation that is not in this tile",
}  # fmt: skip


def core_store(generation: Generation) -> np.dtype[np.void]:
    """A store: its cycle since the first instruction; of the cycles before, those that issued and that stalled. beat:
    of the west neighbour's memory behind the own."""
    return np.dtype([("cycle", "<u8"), ("beat", "<u4"), ("issued", "<u4"), ("stalls", "<u4"),
                     ("data", "u1", (generation.beat_bytes,))])  # fmt: skip


def header(generation: Generation) -> str:
    """What the C++ takes from `nncosim.hdl.aie_ml` and `nncosim.platforms.aie_ml_generation`."""
    lines = ["#pragma once", "#include <cstdint>", *_fields(), *_constants(), *_widths(generation)]
    return "\n".join([*lines, *seen_header(seen_layouts(generation)), ""])


def _widths(generation: Generation) -> Iterator[str]:
    values = {
        "VECTORS": generation.vectors, "ACCUMULATORS": generation.accumulators, "MEMORY_BEATS": generation.beats,
        "TILE_ROWS": generation.rows, "WORD_BYTES": generation.word_bytes, "BEAT_BYTES": generation.beat_bytes,
        "LINE_BYTES": generation.line_bytes, "MEMORY_BANKS": generation.memory_banks,
        "WORD_TYPE": f"uint{generation.word_bits}_t",
    }  # fmt: skip
    yield from (f"#define {name} {value}" for name, value in values.items())


def _fields() -> Iterator[str]:
    """Where each field of the instruction lies. Formats that share a slot's bits begin where its payload does."""
    slots = {name: (member.offset, member.shape) for name, member in isa.Instruction.as_shape()}
    move, control = slots["move"][0], slots["control"][0]
    payload = control + isa.Control.as_shape()["payload"].offset
    slots |= {"move_set": (move, isa.MoveSet), "set": (payload, isa.Set), "loop": (payload, isa.Loop),
              "srs": (payload, isa.Srs), "lock": (payload, isa.LockUse)}  # fmt: skip
    for slot, (offset, shape) in slots.items():
        for name, field in shape.as_shape():
            cast = Shape.cast(field.shape)
            yield (f"#define FIELD_{slot}_{name} "
                   f"{{{offset + field.offset}, {cast.width}, {'true' if cast.signed else 'false'}}}")


def _constants() -> Iterator[str]:
    for kind in (isa.Post, isa.Mac, isa.StoreOp, isa.Form, isa.MoveOp, isa.ControlOp, isa.AguRegister, RoundingCode,
                 Saturation):
        for member in kind:
            yield f"#define {kind.__name__}_{member.name} {member.value}"
    for name, cycles in isa.LATENCY.items():
        yield f"#define LATENCY_{name} {cycles}"
    yield f"#define WEST_GROUPS {isa.WEST_GROUPS}"
    yield f"#define LOOP_LEVELS {isa.LOOP_LEVELS}"
    yield f"#define DRAIN_CYCLES {DRAIN_CYCLES}"
    yield f"#define FETCH_CYCLES {FETCH_CYCLES}"


@cache
def _library(generation: Generation) -> ctypes.CDLL:
    return _SOURCES.load({"isa.h": header(generation), **seen_source()}, _FUNCTIONS)


@dataclass(frozen=True)
class Problem:
    """What the simulator noticed. `cycle`: since its first instruction; `pc`: where it was then."""

    cycle: int
    pc: int
    text: str

    def __str__(self) -> str:
        return f"cycle {self.cycle}, pc {self.pc}: {self.text}"


def problem_of(record: np.void) -> Problem:
    """From a record of `PROBLEM`."""
    return Problem(int(record["cycle"]), int(record["pc"]), _TEXTS[int(record["code"])])


class Tile:
    """A core with its memories. Registers of all kinds and data memories are full of poison from `seed`.

    memory, west_memory: its data memory and its west neighbour's, (65536,) bytes each; writes reach the simulator.

    Raises:
        BuildError, ToolError: the simulator cannot be built.
    """

    def __init__(self, generation: Generation = AIE_ML, *, seed: int = 0):
        self._lib, self._store = _library(generation), core_store(generation)
        self._tile = ctypes.c_void_p(self._lib.nncosim_aie_create(seed))
        self._size = generation.beat_bytes * generation.beats
        self.memory = self._held(self._lib.nncosim_aie_memory)
        self.west_memory = self._held(self._lib.nncosim_aie_west_memory)

    def __del__(self) -> None:
        if getattr(self, "_tile", None) is not None:
            self._lib.nncosim_aie_destroy(self._tile)

    def _held(self, memory: Callable[..., int]) -> npt.NDArray[np.uint8]:
        held = (ctypes.c_uint8 * self._size).from_address(memory(self._tile))
        return np.ctypeslib.as_array(held)

    def load_program(self, data: bytes) -> None:
        self._lib.nncosim_aie_load(self._tile, data, len(data) // isa.INSTRUCTION_BYTES)

    def start(self) -> None:
        """Begin at program counter 0; counters and records are empty again, registers keep what they hold."""
        self._lib.nncosim_aie_start(self._tile)

    def run(self, limit: int) -> int:
        """Until what was issued up to HALT has ended, or `limit` cycles since `start`, or 16 problems. Those cycles.

        A stall that begins before the limit is simulated whole.
        """
        self._lib.nncosim_aie_run(self._tile, limit)
        return self.cycle

    @property
    def halted(self) -> bool:
        return bool(self._lib.nncosim_aie_halted(self._tile))

    @property
    def cycle(self) -> int:
        """The first instruction is issued in cycle 0."""
        return int(self._lib.nncosim_aie_cycle(self._tile))

    @property
    def busy(self) -> int:
        """Instructions issued."""
        return int(self._lib.nncosim_aie_issued(self._tile))

    @property
    def wait_port(self) -> int:
        """Cycles in which the core waited for a bank."""
        return int(self._lib.nncosim_aie_stalls(self._tile))

    def writes(self) -> npt.NDArray[np.void]:
        """Stores, as `core_store`."""
        return records(self._lib.nncosim_aie_stores, self._tile, self._store)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Rules of the core that the program broke: what happens then is undefined in hardware."""
        return self._noticed(self._lib.nncosim_aie_problems)

    @property
    def remarks(self) -> tuple[Problem, ...]:
        """What the manual defines, and a program seldom means, the first time of each instruction.

        An instruction that comes too early and gets the old value, as overlapped loops may want it; a code without a
        name.
        """
        return self._noticed(self._lib.nncosim_aie_remarks)

    def _noticed(self, function: Callable[..., int]) -> tuple[Problem, ...]:
        return tuple(map(problem_of, records(function, self._tile, PROBLEM)))
