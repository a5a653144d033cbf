# SPDX-License-Identifier: Apache-2.0
"""Signals as a clock's registers see them: one value a cycle, fields of it, and conditions over time.

A sample's value in a cycle is the one just before the rising edge that ends the cycle. Bits that are x or z are known
to be unknown: numbers are refused while there are any, and a condition on one is neither true nor false.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from amaranth.hdl import Shape, ShapeLike
from nncosim.tb.errors import BenchError, UnknownValueError
from nncosim.tb.sim.payload import Payload
from nncosim.tb.sim.trace_file import Change
from nncosim.tb.waves.shapes import decode, field_of, fitting

__all__ = ["Clock", "Condition", "Samples"]

_NARROW = 64  # bits of a numpy number


class Clock:
    """The cycles of a clock, of the whole waveform or of a part; `clock["name"]` are the samples of a signal.

    Attributes:
        name: The clock.
        times: When each cycle ends, in the file's unit: at a rising edge.
        cycles: Their numbers.
    """

    def __init__(self, find: Callable[[Clock, str], Samples], name: str, times: Sequence[int] | np.ndarray,
                 late: frozenset[str] = frozenset()):
        self._find, self.name, self._late = find, name, late
        self.times = np.asarray(times, np.int64)
        self.cycles = np.arange(len(self.times))

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, pattern: str) -> Samples:
        """Samples of the one signal whose name fits, as `Wave` has it; `.typed(shape)` gives them a shape."""
        return self._find(self, pattern)

    def window(self, first: int | None = None, end: int | None = None) -> Clock:
        """Only the cycles from `first` on and before `end`.

        Raises:
            BenchError: There is none.
        """
        low, high = np.searchsorted(self.cycles, [first or 0, np.iinfo(np.int64).max if end is None else end])
        return self._part(slice(low, high), f"cycles {first or 0} to {'the end' if end is None else end}")

    def between(self, first: int, end: int) -> Clock:
        """Only the cycles that end at a time from `first` on and before `end`, in the file's unit.

        Raises:
            BenchError: There is none.
        """
        return self._part(slice(*np.searchsorted(self.times, [first, end])), f"times {first} to {end}")

    def _part(self, chosen: slice | np.ndarray, what: str) -> Clock:
        made = Clock(self._find, self.name, self.times[chosen], self._late)
        made.cycles = self.cycles[chosen]
        if not len(made):
            last = f"; there are {self.cycles[0]} to {self.cycles[-1]}" if len(self) else ""
            raise BenchError(f"clock {self.name} has no edge in {what}{last}")
        return made

    def numbered(self, count: Samples) -> Clock:
        """The same, each cycle with the number that `count` has in it; see `Wave.clocked`."""
        known = np.flatnonzero(count.known)
        numbers = count.numbers[known]
        falls = np.flatnonzero(numbers[1:] < numbers[:-1])
        if len(falls) == 1 and numbers[falls[0] + 1] == 0 and np.all(numbers[:falls[0]] == numbers[falls[0]]):
            known, numbers, falls = known[falls[0] + 1:], numbers[falls[0] + 1:], falls[:0]
        if len(numbers) == 0 or len(falls):
            raise BenchError(f"{count.name} does not count the cycles of {self.name}: it "
                             + ("falls" if len(numbers) else "is unknown"))
        last = np.append(numbers[1:] != numbers[:-1], True)
        made = self._part(known[last], "a counted cycle")
        made.cycles = numbers[last].astype(np.int64)
        return made

    def condition(self, true: np.ndarray, text: str, about: tuple[Samples, ...] = ()) -> Condition:
        """A condition of your own making: whether it holds in each cycle. `about`: what it was made of."""
        return Condition(self, np.asarray(true, bool), np.zeros(len(self), bool), text, about)

    def sample(self, name: str, bits: int, changes: Sequence[Change]) -> Samples:
        """Samples from the changes of a signal of so many bits."""
        kind: Any = np.uint64 if bits <= _NARROW else object
        low = (1 << bits) - 1
        pairs = [(value, 0) if isinstance(value, int) else _split(str(value)) for _, value in changes]
        values = np.array([0, *(value for value, _ in pairs)], kind)
        unknown = np.array([low, *(mask for _, mask in pairs)], kind)
        side: Any = "right" if name in self._late else "left"
        index = np.searchsorted(np.array([time for time, _ in changes], np.int64), self.times, side)
        return Samples(self, name, bits, None, values[index], unknown[index])


def _split(text: str) -> tuple[int, int]:
    """Bits that are 1, and bits that are neither 0 nor 1."""
    ones = int("".join("1" if each == "1" else "0" for each in text), 2)
    return ones, int("".join("0" if each in "01" else "1" for each in text), 2)


@dataclass(frozen=True, eq=False)
class Samples:
    """A signal's value in each cycle of a clock.

    `bits`: of the signal. `shape`: see `typed`. `raw`: its bits that are 1, `unknown`: those that are x or z, both as
    numpy's uint64, or Python's integers if it has more than 64.
    """

    clock: Clock
    name: str
    bits: int
    shape: ShapeLike | None
    raw: np.ndarray
    unknown: np.ndarray

    def typed(self, shape: ShapeLike) -> Samples:
        """The same, of an Amaranth shape: a layout has fields, an enumeration members, a number may be signed.

        Raises:
            BenchError: The signal has not the bits of the shape.
        """
        return replace(self, shape=fitting(shape, self.bits, self.name))

    def __getitem__(self, field: str | int) -> Samples:
        """A field of a layout, an element of an array, a bit of what is neither.

        Raises:
            BenchError: There is no such field.
        """
        shape, offset, bits = field_of(self.shape, field, self.name, self.bits)
        kind: Any = np.uint64 if bits <= _NARROW else object
        mask = (1 << bits) - 1
        if self.bits <= _NARROW:
            at, low = np.uint64(offset), np.uint64(mask)
            raw, unknown = self.raw >> at & low, self.unknown >> at & low
        else:
            raw, unknown = (np.array([each >> offset & mask for each in array], kind)
                            for array in (self.raw, self.unknown))  # fmt: skip
        name = f"{self.name}[{field}]" if isinstance(field, int) else f"{self.name}.{field}"
        return Samples(self.clock, name, bits, shape, raw, unknown)

    def __len__(self) -> int:
        return len(self.raw)

    @functools.cached_property
    def known(self) -> np.ndarray:
        """In which cycles every bit is 0 or 1."""
        return np.asarray(self.unknown == 0, bool)

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """Its values as numbers, those of cycles in which it is not `known` without meaning.

        int64, or uint64 for 64 bits without a sign, or Python's integers if it has more bits.
        """
        signed = self.shape is not None and Shape.cast(self.shape).signed
        if self.bits > _NARROW:
            half = 1 << self.bits - 1
            return np.array([each - 2 * half if signed and each >= half else each for each in self.raw], object)
        if signed:
            unused = np.uint64(_NARROW - self.bits)
            return (self.raw << unused).astype(np.int64) >> unused.astype(np.int64)
        return self.raw if self.bits == _NARROW else self.raw.astype(np.int64)

    @property
    def values(self) -> np.ndarray:
        """`numbers`, all of them known.

        Raises:
            UnknownValueError: In some cycle a bit is x or z.
        """
        unknown = np.flatnonzero(~self.known)
        if len(unknown):
            more = f" and in {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise UnknownValueError(f"{self.name} is {self.decoded(unknown[0])} in cycle "
                                    f"{self.clock.cycles[unknown[0]]}{more}; x and z have no number")
        return self.numbers

    def at(self, cycle: int) -> Payload | str:
        """Its value in a cycle, by its shape; a text of all its bits, "01xx", if some are x or z.

        Raises:
            BenchError: The clock has no such cycle.
        """
        index = int(np.searchsorted(self.clock.cycles, cycle))
        if index == len(self) or self.clock.cycles[index] != cycle:
            raise BenchError(f"{self.name}: there is no cycle {cycle}; there are {self.clock.cycles[0]} to "
                             f"{self.clock.cycles[-1]}")
        return self.decoded(index)

    def decoded(self, index: int) -> Payload | str:
        """As `at`, of the sample with an index from 0."""
        raw, unknown = int(self.raw[index]), int(self.unknown[index])
        if unknown:
            return "".join("x" if unknown >> bit & 1 else str(raw >> bit & 1) for bit in reversed(range(self.bits)))
        return decode(self.shape, raw)

    def _compared(self, other: Any, sign: str, compare: Callable[[Any, Any], Any]) -> Condition:
        unknown, value = ~self.known, other
        about: tuple[Samples, ...] = (self,)
        if isinstance(other, Samples):
            if other.clock is not self.clock:
                raise BenchError(f"{self.name} and {other.name} are of different clocks or windows")
            unknown, value, about = unknown | ~other.known, other.numbers, (self, other)
        elif isinstance(other, Enum):
            value = other.value
        text = getattr(other, "name", None) or (hex(other) if isinstance(other, int) and other > 9 else str(other))
        mine = self.numbers.astype(object) if isinstance(other, Samples) else self.numbers  # numpy's mix is a float
        return Condition(self.clock, np.asarray(compare(mine, value), bool) & ~unknown, unknown,
                         f"{self.name} {sign} {text}", about)  # fmt: skip

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared(other, "==", lambda a, b: a == b)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared(other, "!=", lambda a, b: a != b)

    def __lt__(self, other: object) -> Condition:
        return self._compared(other, "<", lambda a, b: a < b)

    def __le__(self, other: object) -> Condition:
        return self._compared(other, "<=", lambda a, b: a <= b)

    def __gt__(self, other: object) -> Condition:
        return self._compared(other, ">", lambda a, b: a > b)

    def __ge__(self, other: object) -> Condition:
        return self._compared(other, ">=", lambda a, b: a >= b)

    __hash__ = None  # type: ignore[assignment]

    @property
    def nonzero(self) -> Condition:
        """Where it is not 0."""
        return replace(self != 0, text=self.name if self.bits == 1 else f"{self.name} != 0")

    @property
    def changed(self) -> Condition:
        """Where it is not what it was in the cycle before; false in the first."""
        same = (self.raw[1:] == self.raw[:-1]) & (self.unknown[1:] == self.unknown[:-1])
        unknown = ~self.known
        unknown[1:] |= unknown[:-1].copy()
        return Condition(self.clock, np.append(False, ~same.astype(bool)) & ~unknown, unknown,
                         f"{self.name} changes", (self,))  # fmt: skip

    def _one(self) -> Condition:
        if self.bits != 1:
            raise BenchError(f"{self.name} has {self.bits} bits and is no condition; compare it, or take .nonzero")
        return self.nonzero

    def __and__(self, other: Condition | Samples) -> Condition:
        return self._one() & other

    def __or__(self, other: Condition | Samples) -> Condition:
        return self._one() | other

    def __invert__(self) -> Condition:
        return ~self._one()


@dataclass(frozen=True, eq=False)
class Condition:
    """Where something is true: `true`, `unknown` (for it depends on an x or z) or neither, in each cycle of a clock.

    `text`: the condition. `about`: the signals in it.
    """

    clock: Clock
    true: np.ndarray
    unknown: np.ndarray
    text: str
    about: tuple[Samples, ...] = ()

    @classmethod
    def of(cls, source: Condition | Samples) -> Condition:
        """A condition, or a signal of one bit as one.

        Raises:
            BenchError: The signal has more bits.
        """
        return source._one() if isinstance(source, Samples) else source

    def _joined(self, other: Condition | Samples) -> tuple[Condition, tuple[Samples, ...]]:
        right = Condition.of(other)
        if right.clock is not self.clock:
            raise BenchError(f"{self.text} and {right.text} are of different clocks or windows")
        return right, self.about + tuple(s for s in right.about if not any(s is mine for mine in self.about))

    def __and__(self, other: Condition | Samples) -> Condition:
        right, about = self._joined(other)
        true = self.true & right.true
        unknown = (self.true | self.unknown) & (right.true | right.unknown) & ~true
        return Condition(self.clock, true, unknown, f"{self.text} & {right.text}", about)

    def __or__(self, other: Condition | Samples) -> Condition:
        right, about = self._joined(other)
        true = self.true | right.true
        unknown = (self.unknown | right.unknown) & ~true
        return Condition(self.clock, true, unknown, f"({self.text} | {right.text})", about)

    def __invert__(self) -> Condition:
        return Condition(self.clock, ~self.true & ~self.unknown, self.unknown, f"~({self.text})", self.about)

    def previous(self, cycles: int = 1) -> Condition:
        """Where it held so many cycles before; not in the first ones."""
        empty = np.zeros(min(cycles, len(self.clock)), bool)
        true, unknown = (np.append(empty, array)[:len(self.clock)] for array in (self.true, self.unknown))
        return Condition(self.clock, true, unknown, f"{self.text}, {cycles} before", self.about)

    @property
    def cycles(self) -> np.ndarray:
        """The cycles in which it is true."""
        return self.clock.cycles[self.true]

    @property
    def unknown_cycles(self) -> np.ndarray:
        return self.clock.cycles[self.unknown]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Runs of cycles in which it is true: the first, and the one after the last."""
        found: list[tuple[int, int]] = []
        for cycle in map(int, self.cycles):
            if found and found[-1][1] == cycle:
                found[-1] = (found[-1][0], cycle + 1)
            else:
                found.append((cycle, cycle + 1))
        return found

    def __bool__(self) -> bool:
        raise BenchError(f"{self.text} is true in some cycles and not in others: ask for .cycles, .spans, .true.any()")
