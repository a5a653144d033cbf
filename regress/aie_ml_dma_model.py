# SPDX-License-Identifier: Apache-2.0
"""A model of the DMAs of AIE-ML's core and memory tiles, by the manual and the table of cycles in
`nncosim.hdl.aie_ml.dma_channel`.

In each cycle a bench asks what a channel shows, decides what is granted, and then ends the cycle: `end` of all
channels, locks, and `Descriptors.serve`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from nncosim.hdl.aie_ml.isa import LockOp

__all__ = [
    "ACQUIRE", "FETCH", "IDLE", "LOAD", "MEMORY", "MOVE", "RELEASE", "TILE", "WORD", "Channel", "Descriptor",
    "Descriptors", "FromMemory", "Kind", "ToMemory", "decoded", "random_descriptor",
]  # fmt: skip

WORD = (1 << 32) - 1
IDLE, FETCH, LOAD, ACQUIRE, MOVE, RELEASE = range(6)
AT_LEAST, EQUAL = LockOp.ACQUIRE_AT_LEAST, LockOp.ACQUIRE_EQUAL


class Kind(NamedTuple):
    """Of a tile. space: 32-bit words of its memory. streams: channels of each kind. descriptors: of each pool; pools.
    locks. words: of a descriptor. fields: of it, each with its word, its first bit there and how many bits it has."""

    space: int
    streams: int
    descriptors: int
    pools: int
    locks: int
    words: int
    fields: dict[str, tuple[int, int, int]]

    @property
    def channels(self) -> int:
        return 2 * self.streams

    @property
    def dimensions(self) -> int:
        return sum(name.startswith("step") for name in self.fields)

    def pool(self, channel: int) -> int:
        return channel % self.streams % self.pools

    def read(self, words: list[int]) -> dict[str, int]:
        values = {}
        for name, (word, low, bits) in self.fields.items():
            values[name] = words[word] >> low & (1 << bits) - 1
            if name.startswith(("step", "iteration_step", "delta")):
                values[name] -= (values[name] >> bits - 1) << bits
        return values

    def written(self, values: dict[str, int]) -> list[int]:
        words = [0] * self.words
        for name, value in values.items():
            word, low, bits = self.fields[name]
            words[word] |= (value & (1 << bits) - 1) << low
        return words


TILE = Kind(1 << 14, 2, 16, 1, 16, 6, {
    "base": (0, 0, 14), "length": (0, 16, 15), "step0": (1, 0, 15), "count0": (1, 16, 10), "step1": (2, 0, 15),
    "count1": (2, 16, 10), "step2": (3, 0, 15), "iteration_step": (4, 0, 15), "iteration_count": (4, 16, 6),
    "next": (5, 0, 4), "use_next": (5, 4, 1), "acquire": (5, 5, 1), "lock": (5, 6, 4), "value": (5, 10, 6),
    "at_least": (5, 16, 1), "release": (5, 17, 1), "release_lock": (5, 18, 4), "delta": (5, 22, 7),
})  # fmt: skip
MEMORY = Kind(1 << 17, 6, 24, 2, 64, 8, {
    "base": (0, 0, 17), "before0": (0, 17, 6), "after0": (0, 23, 6), "length": (1, 0, 18), "before1": (1, 18, 5),
    "after1": (1, 23, 5), "before2": (1, 28, 4), "step0": (2, 0, 18), "count0": (2, 18, 10), "step1": (3, 0, 18),
    "count1": (3, 18, 10), "step2": (4, 0, 18), "count2": (4, 18, 10), "step3": (5, 0, 18), "value": (5, 18, 6),
    "at_least": (5, 24, 1), "after2": (5, 25, 4), "iteration_step": (6, 0, 18), "iteration_count": (6, 18, 6),
    "next": (7, 0, 6), "use_next": (7, 6, 1), "acquire": (7, 7, 1), "lock": (7, 8, 6), "release": (7, 14, 1),
    "release_lock": (7, 15, 6), "delta": (7, 21, 7),
})  # fmt: skip


class Descriptor(NamedTuple):
    """acquire: lock, value, at least. release: lock, delta. pads: zeros before and after each dimension with a
    count."""

    base: int
    length: int
    steps: tuple[int, ...] = (1, 0, 0)
    counts: tuple[int, ...] = (0, 0)
    iteration: tuple[int, int] = (0, 0)
    next: int | None = None
    acquire: tuple[int, int, bool] | None = None
    release: tuple[int, int] | None = None
    pads: tuple[tuple[int, int], ...] = ()
    kind: Kind = TILE

    def words(self) -> list[int]:
        """As the manual lays them out."""
        values = {"base": self.base, "length": self.length, "iteration_step": self.iteration[0],
                  "iteration_count": self.iteration[1]}  # fmt: skip
        values |= {f"step{k}": step for k, step in enumerate(self.steps)}
        values |= {f"count{k}": count for k, count in enumerate(self.counts)}
        for k, (before, after) in enumerate(self.pads):
            values |= {f"before{k}": before, f"after{k}": after}
        if self.next is not None:
            values |= {"next": self.next, "use_next": 1}
        if self.acquire:
            lock, value, at_least = self.acquire
            values |= {"acquire": 1, "lock": lock, "value": value, "at_least": int(at_least)}
        if self.release:
            values |= {"release": 1, "release_lock": self.release[0], "delta": self.release[1]}
        return self.kind.written(values)

    def place(self, n: int, i: int = 0) -> int | None:
        """Where word n lies when it is begun for the i-th time; None: it is padding."""
        at = self.base + i * self.iteration[0]
        inside = True
        for k, (step, count) in enumerate(zip(self.steps, self.counts, strict=False)):
            before, after = self.pads[k] if self.pads else (0, 0)
            n, index = divmod(n, before + max(count, 1) + after)
            inside = inside and before <= index < before + max(count, 1)
            at += (index - before) * step
        return (at + n * self.steps[-1]) % self.kind.space if inside else None

    def address(self, n: int, i: int = 0) -> int:
        """Of a word that is no padding."""
        at = self.place(n, i)
        assert at is not None
        return at


def decoded(words: list[int], kind: Kind) -> Descriptor:
    of = kind.read(words)
    last = kind.dimensions - 1
    return Descriptor(
        of["base"], of["length"], tuple(of[f"step{k}"] for k in range(last + 1)),
        tuple(of[f"count{k}"] for k in range(last)), (of["iteration_step"], of["iteration_count"]),
        of["next"] if of["use_next"] else None,
        (of["lock"], of["value"], bool(of["at_least"])) if of["acquire"] else None,
        (of["release_lock"], of["delta"]) if of["release"] else None,
        tuple((of[f"before{k}"], of[f"after{k}"]) for k in range(last)) if kind is MEMORY else (), kind,
    )


def random_descriptor(rng: np.random.Generator, kind: Kind = TILE) -> Descriptor:
    """Mostly short, so that chains go on."""
    edge, dimensions = 1 << kind.fields["step0"][2] - 1, kind.dimensions

    def step() -> int:
        return int(rng.choice([0, 1, 1, -1, 2, 4, -4, 5, int(rng.integers(-edge, edge))]))

    def pad() -> int:
        return int(rng.choice([0, 0, 1, 3, int(rng.integers(8))]))

    counts = [int(rng.integers(0, most)) for most in (12, 5, 4)[: dimensions - 1]]
    lengths = [1, 2, 4, int(rng.integers(1, 24)), int(rng.integers(1, 70)), int(rng.integers(2))]
    steps = [step() if k or rng.random() < 0.4 else 1 for k in range(dimensions)]
    padded = kind is MEMORY and rng.random() < 0.6
    lock, other, value = int(rng.integers(kind.locks)), int(rng.integers(kind.locks)), int(rng.integers(64))
    chained, acquires, releases, at_least = (bool(rng.random() < chance) for chance in (0.7, 0.5, 0.5, 0.5))
    return Descriptor(
        int(rng.integers(kind.space if rng.random() < 0.7 else 8)), int(rng.choice(lengths)), tuple(steps),
        tuple(counts), (step(), int(rng.integers(0, 5))),
        int(rng.integers(kind.descriptors * kind.pools)) if chained else None,
        (lock, value, at_least) if acquires else None, (other, int(rng.integers(-64, 64))) if releases else None,
        tuple((pad(), pad()) for _ in counts) if padded else (), kind,
    )  # fmt: skip


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
    def at(self) -> int | None:
        """Where the next word lies; None: it is padding."""
        return self.now.place(self.n, self.turn)

    @property
    def row(self) -> int | None:
        at = self.at
        return None if at is None else at // 4

    def lock(self) -> tuple[int, LockOp, int] | None:
        """What is asked for: lock, operation, value."""
        if self.state == ACQUIRE and self.now.acquire:
            lock, value, at_least = self.now.acquire
            return lock, AT_LEAST if at_least else EQUAL, value
        if self.state == RELEASE and self.now.release:
            return self.now.release[0], LockOp.RELEASE, self.now.release[1]
        return None

    def granted(self) -> None:
        """The end of a cycle in which the lock is."""
        if self.state == ACQUIRE:
            self.state = MOVE
        else:
            self.go_on()

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
    line: int = 0
    lanes: dict[int, int] = field(default_factory=dict)

    def request(self, valid: bool) -> bool:
        """Whether memory is asked for."""
        here = bool(self.lanes)
        elsewhere = here and self.moving and valid and self.row != self.line
        return elsewhere or len(self.lanes) == 4 or (here and self.n == self.now.length)

    def takes(self, valid: bool, grant: bool) -> bool:
        if not (self.moving and valid):
            return False
        return not self.request(valid) or grant

    def end(self, payload: int, valid: bool, grant: bool) -> None:
        if self.state != MOVE:
            return
        over = self.n == self.now.length and (grant or not self.lanes)
        takes = self.takes(valid, grant)
        if grant:
            self.lanes = {}
        if takes:
            at = self.now.address(self.n, self.turn)
            self.line, self.lanes = at // 4, self.lanes | {at % 4: payload}
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
        if not self.wants or self.row is None:
            return False
        return self.line is None or self.line[0] != self.row

    def end(self, ready: bool, grant: bool, data: int) -> None:
        """`data`: what a granted read reads."""
        moves = self.wants and (grant or not self.request())
        room = len(self.queue) < 2
        if self.queue and ready:
            self.queue.pop(0)
        if self.given is not None and room:
            self.queue.append(self.given)
            self.given = None
        at = self.at
        if grant and at is not None:
            self.line = at // 4, data
        if moves:
            self.given = 0
            if self.line and at is not None:
                self.given = self.line[1] >> 32 * (at % 4) & WORD
            self.n += 1
        if self.state == MOVE and self.n == self.now.length:
            self.moved()


class Descriptors:
    """Those of one pool, and how often each was begun. A channel takes a number of the other pool as one of its own."""

    def __init__(self, kind: Kind = TILE) -> None:
        self.kind = kind
        self.words = [[0] * kind.words for _ in range(kind.descriptors)]
        self.turns = [0] * kind.descriptors

    def serve(self, channels: list[Channel], write: tuple[int, int, int] | None) -> None:
        """The end of a cycle, for the pool's channels that fetch or load. `write`: descriptor, word, value."""
        for channel in channels:
            if channel.state == LOAD:
                number = channel.bd % len(self.turns)
                channel.turn, channel.n = self.turns[number], 0
                again = channel.turn + 1 < channel.now.iteration[1]
                self.turns[number] = channel.turn + 1 if again else 0
                channel.state = ACQUIRE if channel.now.acquire else MOVE
                if isinstance(channel, FromMemory):
                    channel.line = None
        fetching = [channel for channel in channels if channel.state == FETCH]
        if fetching and not write:
            first = fetching[0]
            first.now, first.state = decoded(self.words[first.bd % len(self.words)], self.kind), LOAD
            if isinstance(first, ToMemory):
                first.now = first.now._replace(pads=())
        if write:
            bd, word, value = write
            if word < self.kind.words:
                self.words[bd][word] = value
            if word == self.kind.fields["iteration_step"][0]:
                self.turns[bd] = 0
