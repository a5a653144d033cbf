# SPDX-License-Identifier: Apache-2.0
"""A model of an AIE-ML tile's DMA, by the manual and the table of cycles in `nncosim.hdl.aie_ml.dma`.

In each cycle a bench asks what a channel shows, decides what is granted, and then ends the cycle: `end` of all
channels, locks, and `Descriptors.serve`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from nncosim.hdl.aie_ml.isa import LockOp

__all__ = [
    "ACQUIRE", "CHANNELS", "FETCH", "IDLE", "LOAD", "MOVE", "RELEASE", "WORD", "WORDS", "Channel", "Descriptor",
    "Descriptors", "FromMemory", "ToMemory", "decoded",
]  # fmt: skip

CHANNELS, WORDS, WORD = 4, 1 << 14, (1 << 32) - 1
IDLE, FETCH, LOAD, ACQUIRE, MOVE, RELEASE = range(6)
AT_LEAST, EQUAL = LockOp.ACQUIRE_AT_LEAST, LockOp.ACQUIRE_EQUAL


class Descriptor(NamedTuple):
    """acquire: lock, value, at least. release: lock, delta."""

    base: int
    length: int
    steps: tuple[int, int, int] = (1, 0, 0)
    counts: tuple[int, int] = (0, 0)
    iteration: tuple[int, int] = (0, 0)
    next: int | None = None
    acquire: tuple[int, int, bool] | None = None
    release: tuple[int, int] | None = None

    def words(self) -> list[int]:
        """As the manual lays them out."""
        s0, s1, s2, si = (step & 0x7FFF for step in (*self.steps, self.iteration[0]))
        last = 0 if self.next is None else self.next | 1 << 4
        if self.acquire:
            last |= 1 << 5 | self.acquire[0] << 6 | self.acquire[1] << 10 | self.acquire[2] << 16
        if self.release:
            last |= 1 << 17 | self.release[0] << 18 | (self.release[1] & 0x7F) << 22
        return [self.base | self.length << 16, s0 | self.counts[0] << 16, s1 | self.counts[1] << 16, s2,
                si | self.iteration[1] << 16, last]  # fmt: skip

    def address(self, n: int, i: int = 0) -> int:
        count0, count1 = (max(count, 1) for count in self.counts)
        i0, i1, i2 = n % count0, n // count0 % count1, n // count0 // count1
        s0, s1, s2 = self.steps
        return (self.base + i * self.iteration[0] + i2 * s2 + i1 * s1 + i0 * s0) % WORDS


def signed(value: int, bits: int) -> int:
    return (value & (1 << bits) - 1) - ((value >> bits - 1 & 1) << bits)


def decoded(words: list[int]) -> Descriptor:
    last = words[5]
    return Descriptor(
        words[0] & 0x3FFF, words[0] >> 16 & 0x7FFF, (signed(words[1], 15), signed(words[2], 15), signed(words[3], 15)),
        (words[1] >> 16 & 0x3FF, words[2] >> 16 & 0x3FF), (signed(words[4], 15), words[4] >> 16 & 0x3F),
        last & 15 if last & 1 << 4 else None,
        (last >> 6 & 15, last >> 10 & 63, bool(last >> 16 & 1)) if last & 1 << 5 else None,
        (last >> 18 & 15, signed(last >> 22, 7)) if last & 1 << 17 else None,
    )



_NONE = Descriptor(0, 0)


@dataclass
class Channel:
    """What both kinds have: `n` words of the buffer have been moved, or asked for."""

    state: int = IDLE
    bd: int = 0
    now: Descriptor = _NONE
    turn: int = 0
    n: int = 0

    @property
    def moving(self) -> bool:
        return self.state == MOVE and self.n < self.now.length

    @property
    def at(self) -> int:
        return self.now.address(self.n, self.turn)

    def lock(self) -> tuple[int, LockOp, int] | None:
        """What is asked for: lock, operation, value."""
        if self.state == ACQUIRE and self.now.acquire:
            lock, value, at_least = self.now.acquire
            return lock, AT_LEAST if at_least else EQUAL, value
        if self.state == RELEASE and self.now.release:
            return self.now.release[0], LockOp.RELEASE, self.now.release[1]
        return None

    def go_on(self) -> None:
        """The buffer is done with, and released."""
        self.state = IDLE if self.now.next is None else FETCH
        self.bd = self.bd if self.now.next is None else self.now.next

    def moved(self) -> None:
        self.state = RELEASE
        if self.now.release is None:
            self.go_on()


@dataclass
class ToMemory(Channel):
    row: int = 0
    lanes: dict[int, int] = field(default_factory=dict)

    def request(self, valid: bool) -> bool:
        """Whether memory is asked for."""
        here = bool(self.lanes)
        elsewhere = here and self.moving and valid and self.at // 4 != self.row
        return elsewhere or len(self.lanes) == 4 or (here and self.n == self.now.length)

    def takes(self, valid: bool, grant: bool) -> bool:
        if not (self.moving and valid):
            return False
        return not self.request(valid) or grant

    def end(self, payload: int, valid: bool, grant: bool) -> None:
        if self.state != MOVE:
            return
        over, takes = self.n == self.now.length and grant, self.takes(valid, grant)
        if grant:
            self.lanes = {}
        if takes:
            self.row, self.lanes = self.at // 4, self.lanes | {self.at % 4: payload}
            self.n += 1
        if over:
            self.moved()


@dataclass
class FromMemory(Channel):
    line: tuple[int, int] | None = None
    given: int | None = None
    queue: list[int] = field(default_factory=list)

    @property
    def wants(self) -> bool:
        return self.moving and (self.given is None or len(self.queue) < 2)

    def request(self) -> bool:
        return self.wants and (self.line is None or self.line[0] != self.at // 4)

    def end(self, ready: bool, grant: bool, data: int) -> None:
        """`data`: what a granted read reads."""
        moves = self.wants and (grant or not self.request())
        room = len(self.queue) < 2
        if self.queue and ready:
            self.queue.pop(0)
        if self.given is not None and room:
            self.queue.append(self.given)
            self.given = None
        if grant:
            self.line = self.at // 4, data
        if moves and self.line:
            self.given = self.line[1] >> 32 * (self.at % 4) & WORD
            self.n += 1
            if self.n == self.now.length:
                self.moved()


class Descriptors:
    """Their memory, and how often each was begun."""

    def __init__(self) -> None:
        self.words = [[0] * 6 for _ in range(16)]
        self.turns = [0] * 16

    def serve(self, channels: list[Channel], write: tuple[int, int, int] | None) -> None:
        """The end of a cycle, for the channels that fetch or load. `write`: descriptor, word, value."""
        for channel in channels:
            if channel.state == LOAD:
                channel.turn, channel.n = self.turns[channel.bd], 0
                again = channel.turn + 1 < channel.now.iteration[1]
                self.turns[channel.bd] = channel.turn + 1 if again else 0
                channel.state = ACQUIRE if channel.now.acquire else MOVE
                if isinstance(channel, FromMemory):
                    channel.line = None
        fetching = [channel for channel in channels if channel.state == FETCH]
        if fetching and not write:
            fetching[0].now, fetching[0].state = decoded(self.words[fetching[0].bd]), LOAD
        if write:
            bd, word, value = write
            if word < 6:
                self.words[bd][word] = value
            if word == 4:
                self.turns[bd] = 0
