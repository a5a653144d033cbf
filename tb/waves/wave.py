# SPDX-License-Identifier: Apache-2.0
"""A waveform file, of this bench or of any other tool, and its signals by name or pattern.

    wave = Wave.open("run.fst")
    pcs = wave.signals("soc.cluster*.controller.pc")
    clock = wave.clocked("j3dai_tb.clk", count="probe_cycle")       # see `nncosim.tb.waves.samples`
    busy = clock["soc.cluster0.controller.running"] & ~clock["soc.cluster0.controller.waits"]
    print(busy.spans)

A pattern's parts are a name's, with dots between them: ``*`` stands for any characters of a part, ``?`` for one,
``**`` for any number of parts. A pattern that no full name fits is tried below every scope: ``soc.*`` is
``**.soc.*``.
"""

from __future__ import annotations

import bisect
import difflib
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.hdl import ShapeLike
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.payload import Payload
from nncosim.tb.sim.trace_file import Change, TraceFile
from nncosim.tb.waves.samples import Clock, Samples
from nncosim.tb.waves.shapes import decode, fitting, unknown_text

__all__ = ["Signal", "Wave"]

_NEAR = 5  # names in a message, at most


@dataclass(frozen=True, eq=False)
class Signal:
    """A variable of a waveform. `name`: in full. `bits`: None for a real number or a text. `shape`: see `typed`."""

    wave: Wave
    name: str
    bits: int | None
    shape: ShapeLike | None = None

    def typed(self, shape: ShapeLike) -> Signal:
        """The same, whose values are of an Amaranth shape: a layout, an enumeration, `signed(8)`.

        Raises:
            BenchError: The signal has not the bits of the shape.
        """
        return Signal(self.wave, self.name, self.bits, fitting(shape, self.bits, self.name))

    @functools.cached_property
    def changes(self) -> list[tuple[int, Payload | float | str]]:
        """When it changed, in the file's unit, and to what; its first value is the first.

        A value with bits that are neither 0 nor 1 is a text of all of them: "01xz".
        """
        return [(time, decode(self.shape, value)) for time, value in self.wave.changes(self.name)]

    def at(self, time: int) -> Payload | float | str:
        """Its value at a time, after what changes then; before its first value, all bits are "x"."""
        found = self.wave.changes(self.name)
        index = bisect.bisect_right(found, time, key=lambda change: change[0])
        if not index:
            return unknown_text(self.bits)
        return decode(self.shape, found[index - 1][1])


class Wave:
    """A waveform.

    Attributes:
        path: The file.
        unit: What its times count, such as "1ps".
        names: The full names of its signals.
    """

    def __init__(self, file: TraceFile):
        self.path, self.unit, self.names = file.path, file.unit, tuple(file.variables)
        self._file = file
        self._changes: dict[str, list[Change]] = {}

    @classmethod
    def open(cls, path: Path | str) -> Wave:
        """Open a VCD or FST file; values are read when they are asked for.

        Raises:
            BenchError: It cannot be read.
        """
        return cls(TraceFile(path))

    def changes(self, name: str) -> list[Change]:
        """The changes of one signal by its full name, undecoded; see `nncosim.tb.sim.trace_file.Change`."""
        if name not in self._changes:
            self._changes |= self._file.changes(self.names if self._file.at_once else [name])
        return self._changes[name]

    def signals(self, pattern: str) -> list[Signal]:
        """The signals whose names fit, in the file's order.

        Raises:
            BenchError: None does; the message has names like it.
        """
        found = _fitting(pattern, self.names, self._file.variables)
        if not found:
            near = ", ".join(_near(pattern, self.names))
            raise BenchError(f"waveform {self.path} has no signal {pattern!r}"
                             + (f"; near it are {near}" if near else f"; it has {len(self.names):,} others"))
        return [Signal(self, name, self._file.variables[name].bits) for name in found]

    def __getitem__(self, pattern: str) -> Signal:
        """The one signal whose name fits.

        Raises:
            BenchError: None does, or several.
        """
        found = self.signals(pattern)
        if len(found) > 1:
            some = ", ".join(signal.name for signal in found[:_NEAR])
            raise BenchError(f"{pattern!r} fits {len(found)} signals of waveform {self.path}, and one is wanted: {some}"
                             + (", ..." if len(found) > _NEAR else ""))
        return found[0]

    def clocked(self, clock: str, *, count: str | None = None, inputs: Iterable[str] = ()) -> Clock:
        """Samples at each rising edge of a clock: of every signal the value just before it, which a register sees.

        Args:
            clock: The clock.
            count: A signal that counts cycles, whose values then number them; else they count from 0, the file's
                first rising edge. Of edges with the same count the last is meant (a counter in reset); what it is
                before it is reset to 0 may be anything that stays.
            inputs: Signals of which the file shows the value that an edge sees only at the edge: what a `Model` was
                given since the last `tick`. What is combinational of such is not in the file as a register sees it.

        Raises:
            BenchError: No such signal, no rising edge, or a count that does not rise.
        """
        found = self.changes(self[clock].name)
        edges = [time for (_, before), (time, after) in itertools.pairwise(found) if (before, after) == (0, 1)]
        if not edges:
            raise BenchError(f"clock {self[clock].name} of waveform {self.path} never rises from 0 to 1")
        late = frozenset(signal.name for pattern in inputs for signal in self.signals(pattern))
        made = Clock(self._sampled, self[clock].name, edges, late)
        return made if count is None else made.numbered(made[count])

    def at_times(self, times: Sequence[int], cycles: Sequence[int] | np.ndarray) -> Clock:
        """Samples at given times, after what changes then, as the cycles with these numbers; times rise."""
        made = Clock(self._sampled, f"{self.path}", times, frozenset(self.names))
        made.cycles = np.asarray(cycles, np.int64)
        return made

    def _sampled(self, clock: Clock, pattern: str) -> Samples:
        signal = self[pattern]
        if signal.bits is None:
            raise BenchError(f"{signal.name} of waveform {self.path} is a real number or a text, which is not sampled")
        return clock.sample(signal.name, signal.bits, self.changes(signal.name))


def _fitting(pattern: str, names: Iterable[str], known: Mapping[str, object]) -> list[str]:
    if pattern in known:
        return [pattern]
    for tried in (pattern, f"**.{pattern}"):
        wanted = _expression(tried)
        if found := [name for name in names if wanted.fullmatch(name)]:
            return found
    return []


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    """Of a pattern; brackets are those of names."""
    pieces = {"**.": r"(?:[^.]+\.)*", ".**": r"(?:\.[^.]+)+", "**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*\.|\.\*\*$|\*\*|\*|\?)", pattern)
    return re.compile("".join(pieces.get(part) or re.escape(part) for part in parts))


def _near(pattern: str, names: Iterable[str]) -> list[str]:
    """Names whose last parts are like the pattern's, the most alike in whole first."""
    own = pattern.rpartition(".")[2]
    by_own: dict[str, list[str]] = {}
    for name in names:
        by_own.setdefault(name.rpartition(".")[2], []).append(name)
    like = difflib.get_close_matches(own, by_own, n=_NEAR, cutoff=0.6)
    found = [name for each in like for name in by_own[each][:1000]]
    return sorted(found, key=lambda name: -difflib.SequenceMatcher(None, pattern, name).ratio())[:_NEAR]
