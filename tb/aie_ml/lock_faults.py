# SPDX-License-Identifier: Apache-2.0
"""Locks that leave their range, which is a fault of the program (`hdl/aie_ml/MANUAL.md`): where and when.

The array's monitor (aie_ml_array_tb.sv) knows the tile; the simulator knows the lock, too. Either ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.hdl.aie_ml.locks import VALUE_BITS
from nncosim.tb.sim.backdoor import Backdoor

__all__ = ["LOCK_FAULT", "LOCK_FAULTS", "LockFault", "found_lock_faults", "lock_fault_of", "lock_faults_text"]

LOCK_FAULTS = 6
"""Stream of the event log."""
LOCK_FAULT = np.dtype([("cycle", "<u8"), ("tile", "<u8"), ("lock", "<u8"), ("unused", "<u8")])
"""cycle: of the inference, `_OUTSIDE` where none ran. tile: on RTL core tiles as in other records, memory tiles behind
them; on the simulator column by column, from the shim up. lock: of the simulator only."""
_OUTSIDE = (1 << 64) - 1


@dataclass(frozen=True)
class LockFault:
    """inference: from 1 on. cycle: of it; None: before it began. lock: None where only the tile is known."""

    column: int
    row: int
    inference: int
    cycle: int | None
    lock: int | None = None

    def __str__(self) -> str:
        when = f"before inference {self.inference}" if self.cycle is None else (
            f"cycle {self.cycle:,} of inference {self.inference}")  # fmt: skip
        which = "a lock" if self.lock is None else f"lock {self.lock}"
        return f"tile ({self.column}, {self.row}), {when}: {which} leaves its range of 0 to {(1 << VALUE_BITS) - 1}"


def lock_fault_of(record: np.void, place: tuple[int, int], inference: int, lock: int | None = None) -> LockFault:
    """From a record of `LOCK_FAULT`. place: column and row of its tile."""
    cycle = int(record["cycle"])
    return LockFault(*place, inference, None if cycle == _OUTSIDE else cycle, lock)


def found_lock_faults(model: Backdoor, notes: AieMlNotes, inference: int = 1) -> tuple[LockFault, ...]:
    """What the monitor told of an inference, and of the time before it: the first one of each tile."""
    return tuple(lock_fault_of(each, _place(notes, int(each["tile"])), inference)
                 for each in model.log(LOCK_FAULTS, LOCK_FAULT, clear=True))  # fmt: skip


def _place(notes: AieMlNotes, number: int) -> tuple[int, int]:
    behind = number - notes.columns * notes.rows
    if behind < 0:
        return number // notes.rows, notes.first_row + number % notes.rows
    return behind // notes.memory_rows, 1 + behind % notes.memory_rows


def lock_faults_text(found: Sequence[LockFault]) -> str:
    """The first of some in a sentence, and how many there are besides."""
    return f"{found[0]}{f' (and {len(found) - 1} more until the run stopped)' if len(found) > 1 else ''}"
