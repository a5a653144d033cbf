# SPDX-License-Identifier: Apache-2.0
"""What is going on during a long run: phases, and how far a simulation is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "BUILDING", "MAPPING", "PLACING", "SIMULATING", "Cycles", "Progress", "building", "cycles_of", "leave_cycles",
    "phase_of", "tell_cycles",
]  # fmt: skip

Progress = Callable[[str], None]
"""Called with short texts during long steps."""

BUILDING, SIMULATING = "building the simulation", "simulating the RTL"
"""What benches call the phases that take minutes; what follows, after a colon, changes all the time."""
MAPPING, PLACING = "mapping and timing", "placing and routing"
"""The same, of a block; its name stands before."""
EVERY_SECONDS = 0.5


def building(progress: Progress | None) -> Callable[[str, int, int], None] | None:
    """What `nncosim.tb.sim.verilate.build` tells of its steps, as texts; None where nobody listens."""
    if progress is None:
        return None
    return lambda step, done, total: progress(f"{BUILDING}: {step} {done}/{total}")


def phase_of(text: str) -> str:
    """`text` up to the name of a long phase; "" if there is none in it."""
    for phase in (BUILDING, SIMULATING, MAPPING, PLACING):
        before, found, _ = text.partition(phase)
        if found:
            return before + phase
    return ""


class Cycles:
    """Progress that knows how many cycles a simulation takes; called as any other with a text.

    Args:
        say: Where the texts go.
        expected: Cycles of the whole simulation.
    """

    def __init__(self, say: Progress, expected: int):
        self._say, self._expected = say, expected
        self._from: tuple[float, int] | None = None  # when it was where, once it ran
        self._said = 0.0

    def __call__(self, text: str) -> None:
        self._say(text)

    def at(self, cycles: int) -> None:
        """The simulation is at this cycle; told twice a second at most."""
        now = time.monotonic()
        if cycles and self._from is None:
            self._from = now, cycles
        if now - self._said < EVERY_SECONDS:
            return
        self._said = now
        self._say(f"{SIMULATING}: {self._text(now, cycles)}")

    def _text(self, now: float, cycles: int) -> str:
        """How far it is, and what is left at the speed so far."""
        if cycles >= self._expected:
            return f"{cycles:,} cycles, {self._expected:,} were expected"
        left = ""
        if self._from is not None and now - self._from[0] >= 1 and cycles > self._from[1]:
            seconds = (self._expected - cycles) * (now - self._from[0]) / (cycles - self._from[1])
            left = f", {seconds:,.0f} s left"
        return f"{cycles:,} of {self._expected:,} cycles{left}"


def cycles_of(progress: Callable[[str], None] | None) -> Callable[[int], None] | None:
    """Where a bench tells its cycles: None if nobody counts them. Says that the simulation begins."""
    if not isinstance(progress, Cycles):
        return None
    progress.at(0)
    return progress.at


# ---- from one process to the other: a file in the folder that both work in

_FILE = "cycles"


def leave_cycles(cycles: int) -> None:
    """In the simulator's process: where the simulation is."""
    Path(_FILE).write_text(str(cycles))


def tell_cycles(folder: Path, watch: Callable[[int], None]) -> None:
    """In the process that waits for it: tell `watch`."""
    with contextlib.suppress(OSError, ValueError):  # not there yet, or being written
        watch(int((folder / _FILE).read_text()))
