# SPDX-License-Identifier: Apache-2.0
"""The simulator of the array: functional and cycle-exact, from the same image as the RTL.

Cores are those of `nncosim.tb.aie_ml.iss`; DMA, locks, streams, cascades and the shim are simulated cycle by cycle.
What an image does not configure is not simulated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml import config
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES
from nncosim.platforms.aie_ml import MEMORY_TILE_BYTES, AieMl
from nncosim.platforms.aie_ml_generation import Generation
from nncosim.tb.aie_ml.clock import FIRST_START, GAP_CYCLES, first_inference
from nncosim.tb.aie_ml.deadlock import BUFFER, GIVER, WAIT, WAY, Account
from nncosim.tb.aie_ml.frames import DONE, RESULT, STATE, Records, input_words, result_words, store_of
from nncosim.tb.aie_ml.iss import PROBLEM, Problem, header, problem_of
from nncosim.tb.aie_ml.lock_faults import LOCK_FAULT, LockFault, lock_fault_of
from nncosim.tb.aie_ml.segments import bus_writes, loads_of, poisoned
from nncosim.tb.aie_ml.taps import seen_layouts
from nncosim.tb.boundaries.layouts import seen_source
from nncosim.tb.iss.native import NativeSources, Signatures, records

__all__ = ["Array"]

_SOURCES = NativeSources(
    "the AIE-ML array's simulator", Path(__file__).parent,
    ("iss_seen.h", "iss_words.h", "iss_vector.h", "iss_elastic.h", "iss_locks.h", "iss_west.h", "iss_access.h",
     "iss_agu.h", "iss_core_seen.h", "iss_core.h", "iss_stream.h", "iss_dma.h", "iss_node.h", "iss_banks.h",
     "iss_waits.h", "iss_array.cpp"),
    "nncosim_aiearray_",
)  # fmt: skip
_P, _U64, _INT, _U32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_uint32
_COUNT = ctypes.POINTER(_U64)
_FUNCTIONS: Signatures = {
    "create": (_P, [_INT, _INT, _INT, _U64]), "destroy": (None, [_P]), "memory": (_P, [_P, _INT]),
    "program": (None, [_P, _INT, ctypes.c_char_p, _U64]), "write": (None, [_P, _INT, _U32, _U32]),
    "feed": (None, [_P, _INT, ctypes.c_char_p, _U64]), "begin": (None, [_P, _U64]), "run": (_INT, [_P, _U64, _U64]),
    "cycle": (_U64, [_P]), "quiet": (_INT, [_P]), "stores": (_P, [_P, _COUNT]), "results": (_P, [_P, _COUNT]),
    "states": (_P, [_P, _COUNT]), "problems": (_P, [_P, _COUNT]), "account": (None, [_P]),
    "lock_faults": (_P, [_P, _COUNT]),
    "waits": (_P, [_P, _COUNT]), "givers": (_P, [_P, _COUNT]), "buffers": (_P, [_P, _COUNT]),
    "ways": (_P, [_P, _COUNT]), "watch": (None, [_P, _U64, _U64, _U64]), "seen": (_P, [_P, _U32, _COUNT]),
}  # fmt: skip
_SETTLE_CYCLES = 2000
"""After the configuration, before the first inference: then all wait for words."""


@cache
def _library(generation: Generation) -> ctypes.CDLL:
    names = {"LOCKS": config.LOCKS_AT, "BDS": config.BDS_AT, "STARTS": config.STARTS_AT, "SWITCH": config.SWITCH_AT,
             "CORE": config.CORE_AT, "MEMORY_LOCKS": config.MEMORY_LOCKS_AT, "MEMORY_BDS": config.MEMORY_BDS_AT,
             "MEMORY_STARTS": config.MEMORY_STARTS_AT, "MEMORY_SWITCH": config.MEMORY_SWITCH_AT}  # fmt: skip
    text = header(generation) + "".join(f"#define CONFIG_{name} {at}\n" for name, at in names.items())
    text += f"#define MEMORY_TILE_BYTES {MEMORY_TILE_BYTES}\n"
    return _SOURCES.load({"isa.h": text, **seen_source()}, _FUNCTIONS)


class Array:
    """The tiles that an image uses, with it in their memories. What it leaves alone is poison from `seed`.

    observe: keep what passes the boundaries between the blocks (`seen`), in the RTL's cycles. next_inference: the cycle
    since reset in which the next inference begins there.

    Raises:
        ImageError: a segment lies outside a tile.
        BuildError, ToolError: the simulator cannot be built.
    """

    def __init__(self, image: Image, platform: AieMl, *, seed: int = 0, observe: bool = False):
        self._generation = platform.generation
        self._lib, self._notes = _library(self._generation), image.notes.own_as(AieMlNotes)
        self._runs = self._ran = 0  # and their cycles
        loads, notes = loads_of(image, platform), self._notes
        self._array = ctypes.c_void_p(
            self._lib.nncosim_aiearray_create(notes.columns, notes.memory_rows, notes.rows, seed))
        for tile, content in poisoned(image, platform, seed) if observe else ():
            self.memory(tile)[:] = np.frombuffer(content, np.uint8)
        for tile, load in loads.items():
            node = self._node(tile)
            if load.program:
                words = len(load.program) // INSTRUCTION_BYTES
                self._lib.nncosim_aiearray_program(self._array, node, load.program, words)
            unit = self._generation.beat_bytes if tile[1] >= notes.first_row else self._generation.line_bytes
            for at, data in load.data:
                self.memory(tile)[unit * at :][: len(data)] = np.frombuffer(data, np.uint8)

        writes = bus_writes(image, platform)
        columns, rows, words, values = (
            (writes >> field.offset & (1 << Shape.cast(field.shape).width) - 1).tolist()
            for _, field in config.Write.as_shape())  # fmt: skip
        for column, row, word, value in zip(columns, rows, words, values, strict=True):
            self._lib.nncosim_aiearray_write(self._array, self._node((column, row)), 4 * word, value)

        self._observed, self.next_inference = observe, first_inference(len(writes))
        if observe:
            self._lib.nncosim_aiearray_watch(self._array, FIRST_START, self.next_inference, GAP_CYCLES)

    def __del__(self) -> None:
        if getattr(self, "_array", None) is not None:
            self._lib.nncosim_aiearray_destroy(self._array)

    def _node(self, tile: tuple[int, int]) -> int:
        """Number of a tile, (column, row), in the simulator."""
        return tile[0] * (self._notes.memory_rows + self._notes.rows) + tile[1] - 1

    def memory(self, tile: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Data memory of a tile, (column, row): (65536,) bytes, of a memory tile (524288,); writes reach the simulator.
        """
        generation = self._generation
        core = tile[1] >= self._notes.first_row
        size = generation.beat_bytes * generation.beats if core else MEMORY_TILE_BYTES
        address = self._lib.nncosim_aiearray_memory(self._array, self._node(tile))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def infer(self, inputs: Mapping[str, np.ndarray], limit: int) -> Records:
        """One inference: until all words of its results are out, nothing goes on any more, or `limit` cycles."""
        return self.stream(input_words(self._notes, self._generation, inputs), result_words(self._notes), limit)

    def stream(self, given: Mapping[int, npt.NDArray[np.unsignedinteger]], results_: int, limit: int) -> Records:
        """Words into streams of the shim, by number, until so many came out, nothing goes on, or `limit` cycles."""
        for number, words in given.items():
            self._lib.nncosim_aiearray_feed(self._array, number, words.tobytes(), len(words))
        self._lib.nncosim_aiearray_begin(self._array, _SETTLE_CYCLES)
        ended = self._lib.nncosim_aiearray_run(self._array, results_, limit)
        self._runs, self._ran = self._runs + 1, self._ran + self.cycle
        done = np.zeros(1, DONE)
        self.next_inference += self.cycle
        done["cycles"], done["at"] = self.cycle, self.next_inference - 1 if self._observed else self._ran
        self.next_inference += GAP_CYCLES
        stores, results, states = (
            records(getattr(self._lib, f"nncosim_aiearray_{name}"), self._array, fmt)
            for name, fmt in (("stores", store_of(self._generation)), ("results", RESULT), ("states", STATE))
        )
        return Records(stores, results, states, done[0] if ended else None)

    def seen(self) -> dict[str, npt.NDArray[np.void]]:
        """Of an observed array, records of each of `nncosim.tb.aie_ml.taps.seen_layouts`."""
        return {
            name: records(lambda array, count, number=number: self._lib.nncosim_aiearray_seen(array, number, count),
                          self._array, layout)
            for number, (name, layout) in enumerate(seen_layouts(self._generation).items())
        }  # fmt: skip

    @property
    def cycle(self) -> int:
        """Cycles of the last run."""
        return int(self._lib.nncosim_aiearray_cycle(self._array))

    @property
    def quiet(self) -> bool:
        """Whether the last run stopped because nothing went on any more."""
        return bool(self._lib.nncosim_aiearray_quiet(self._array))

    def account(self) -> Account:
        """Who waits for what now."""
        self._lib.nncosim_aiearray_account(self._array)
        lists = (("waits", WAIT), ("givers", GIVER), ("buffers", BUFFER), ("ways", WAY))
        return Account(*(records(getattr(self._lib, f"nncosim_aiearray_{name}"), self._array, fmt)
                         for name, fmt in lists))  # fmt: skip

    @property
    def problems(self) -> tuple[Problem | LockFault, ...]:
        """Rules that the programs broke, of the core and of locks."""
        broken = map(problem_of, records(self._lib.nncosim_aiearray_problems, self._array, PROBLEM))
        return *broken, *map(self._lock_fault, records(self._lib.nncosim_aiearray_lock_faults, self._array, LOCK_FAULT))

    def _lock_fault(self, record: np.void) -> LockFault:
        column, above = divmod(int(record["tile"]), self._notes.memory_rows + self._notes.rows)
        return lock_fault_of(record, (column, above + 1), self._runs, int(record["lock"]))
