# SPDX-License-Identifier: Apache-2.0
"""The memory tile of AIE-ML: every port in every cycle against a model made of those of its parts.

Everything comes over the configuration bus and the streams, at random: routes, descriptors, locks, data, starts. Then
tensors are written in one order and read in another, with padding, as numpy has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Value
from nncosim.hdl.aie_ml import config, dma, dma_channel, locks, memory_banks, memory_tile, switch
from nncosim.regress import test_aie_ml_locks as lock_bench
from nncosim.regress import test_aie_ml_switch as switch_bench
from nncosim.regress.aie_ml_dma_model import (
    FETCH,
    IDLE,
    LOAD,
    MEMORY,
    MOVE,
    Channel,
    Descriptor,
    Descriptors,
    FromMemory,
    ToMemory,
    random_descriptor,
)
from nncosim.regress.block_bench import clocked, simulate
from nncosim.regress.planted import planted, some
from nncosim.regress.test_aie_ml_memory import OnePort
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

STREAMS, LANES = 6, 4
COLUMN, ROW = 5, 2
DATA, BDS, STARTS, SWITCH, LOCKS = 0, 0xA0000, 0xA0600, 0xB0000, 0xC0000
"""Bytes (AM020)."""
SLAVES = {**{6 + k: f"north_in__{k}" for k in range(4)}, **{10 + k: f"south_in__{k}" for k in range(6)}}
MASTERS = {**{6 + k: f"north_out__{k}" for k in range(6)}, **{12 + k: f"south_out__{k}" for k in range(4)}}

Inputs = dict[str, int]
Steps = Generator[Inputs, Callable[[str], int], None]


@dataclass(frozen=True)
class Write:
    """On the bus. at: bytes in the tile."""

    column: int
    row: int
    at: int
    data: int

    @property
    def packed(self) -> int:
        return self.column | self.row << 6 | self.at // 4 << 10 | self.data << 28


@dataclass
class Taken:
    """What goes over in a cycle: of memory, by port, whether it is granted; which lock's requester; words of the
    switch's slaves, and who takes those of its masters."""

    memory: list[bool]
    lock: int | None
    offered: list[int | None]
    takes: list[bool]


class Reference:
    """By the manual. memory: 32-bit words."""

    def __init__(self, memory: np.ndarray):
        self.memory = memory
        self.switch, self.pins = switch_bench.Reference(switch_bench.MEMORY), [switch_bench.Pin(0, 0)] * 16
        self.locks, self.pools = lock_bench.Reference(64), [Descriptors(MEMORY), Descriptors(MEMORY)]
        self.to, self.out = [ToMemory() for _ in range(STREAMS)], [FromMemory() for _ in range(STREAMS)]
        self.channels: list[Channel] = [*self.to, *self.out]
        self.held: Write | None = None
        self.fault = False

    def outputs(self) -> dict[str, int]:
        """Those that mean something."""
        shown = self.switch.outputs()
        values = {"fault": int(self.fault), "onward__valid": int(self.held is not None)}
        if self.held:
            values["onward__write"] = self.held.packed
        values |= {f"{name}__ready": int(shown.ready[k]) for k, name in SLAVES.items()}
        for k, name in MASTERS.items():
            word = shown.words[k]
            values[f"{name}__valid"] = int(word is not None)
            if word is not None:
                values[f"{name}__payload"] = word
        return values

    def here(self, at: int, size: int) -> int | None:
        """The number of the word, of so many from there on, that the configuration writes in this cycle, if any."""
        held = self.held
        if held is None or (held.column, held.row) != (COLUMN, ROW) or not at <= held.at < at + 4 * size:
            return None
        return (held.at - at) // 4

    def granted(self, valid: list[bool]) -> list[bool]:
        """Of memory, by channel."""
        lines: list[int | None] = [each.line if each.request(on) else None
                                   for each, on in zip(self.to, valid, strict=True)]  # fmt: skip
        lines += [each.row if each.request() else None for each in self.out]
        written = self.here(DATA, MEMORY.space)
        if written is not None:
            lines[0] = written // 4
        banks: set[int] = set()
        out = []
        for line in lines:
            out.append(line is not None and line % 16 not in banks)
            banks |= set() if line is None else {line % 16}
        if written is not None:
            out[0] = False
        return out

    def takes(self, offered: dict[int, int | None], ready: dict[int, bool]) -> Taken:
        """Args: of the slaves, and of the masters, that have ports."""
        shown = self.switch.outputs()
        valid = [shown.words[k] is not None for k in range(STREAMS)]
        memory = self.granted(valid)
        requests = [None if (asked := each.lock()) is None else lock_bench.Request(*asked) for each in self.channels]
        lock = None if self.here(LOCKS, 64) is not None else self.locks.served(requests)
        local = [each.queue[0] if each.queue else None for each in self.out]
        mine = [each.takes(on, grant) for each, on, grant in zip(self.to, valid, memory, strict=False)]
        return Taken(memory, lock, [*local, *(offered[k] for k in SLAVES)], [*mine, *(ready[k] for k in MASTERS)])

    def step(self, taken: Taken, write: Write | None) -> None:
        """The end of a cycle."""
        shown, before = self.switch.outputs(), [each.state for each in self.channels]
        self._memory(taken, shown)
        self.fault = False
        if taken.lock is not None:
            asked = self.channels[taken.lock].lock()
            assert asked
            self.fault = self.locks.do(lock_bench.Request(*asked))
            self.channels[taken.lock].granted()
        self.switch.step(taken.offered, taken.takes, switch_bench.heard(self.pins))
        self._configured(before)
        self.held = write

    def _memory(self, taken: Taken, shown: switch_bench.Outputs) -> None:
        for k, to in enumerate(self.to):
            if taken.memory[k]:
                for lane, word in to.lanes.items():
                    self.memory[4 * to.line + lane] = word
            came = shown.words[k]
            to.end(came or 0, came is not None, taken.memory[k])
        for k, out in enumerate(self.out):
            grant, data = taken.memory[STREAMS + k], 0
            if grant and out.row is not None:
                data = sum(int(self.memory[4 * out.row + lane]) << 32 * lane for lane in range(LANES))
            out.end(shown.ready[k], grant, data)

    def _configured(self, before: list[int]) -> None:
        data = self.held.data if self.held else 0
        bd = self.here(BDS, 8 * 48)
        for pool, each in enumerate(self.pools):
            own = bd is not None and bd // 8 // 24 == pool
            fetching = [channel for k, channel in enumerate(self.channels)
                        if before[k] in (FETCH, LOAD) and MEMORY.pool(k) == pool]  # fmt: skip
            each.serve(fetching, (bd // 8 % 24, bd % 8, data) if bd is not None and own else None)
        if (number := self.here(STARTS, 12)) is not None and before[number] == IDLE:
            self.channels[number].state, self.channels[number].bd = FETCH, data & 63
        if (number := self.here(LOCKS, 64)) is not None:
            self.locks.values[number] = data & 63
        if (number := self.here(SWITCH, 16)) is not None:
            self.pins[number] = switch_bench.Pin(data >> 5 & 1, data & 31)
        if (number := self.here(DATA, MEMORY.space)) is not None:
            self.memory[number] = data


class Traffic:
    """What comes over the bus and the streams."""

    def __init__(self, rng: np.random.Generator, reference: Reference, descriptors: int):
        self.rng, self.reference = rng, reference
        self.offered: dict[int, int | None] = dict.fromkeys(SLAVES)
        self.numbers = [int(n) for n in rng.permutation(48)[:descriptors]]
        self.few = [int(n) for n in rng.permutation(64)[:6]]
        self.area = int(rng.integers(MEMORY.space))
        self.pending = self.routes()
        self.pending += [each for number in self.numbers for each in self.descriptor(number)]
        self.left = 0

    def own(self, at: int, data: int) -> Write:
        return Write(COLUMN, ROW, at, data)

    def word(self) -> int:
        return int(self.rng.integers(1 << 32))

    def route(self, source: int, listens: bool = True) -> int:
        return self.word() & ~63 | listens << 5 | source

    def routes(self) -> list[Write]:
        """Of all masters: mostly from the sides to the DMA, and from there to the sides."""
        slaves = [int(k) for k in (*(6 + self.rng.permutation(10)), *self.rng.permutation(6))]
        return [self.own(SWITCH + 4 * k, self.route(slave)) for k, slave in enumerate(slaves)]

    def place(self) -> int:
        """Mostly near each other, so that what was written is read."""
        if self.rng.random() < 0.2:
            return int(self.rng.integers(MEMORY.space))
        return (self.area + int(self.rng.integers(256))) % MEMORY.space

    def descriptor(self, number: int) -> list[Write]:
        rng = self.rng
        made = random_descriptor(rng, MEMORY)
        acquire, release = made.acquire, made.release
        if acquire:
            acquire = int(rng.choice(self.few)), int(rng.choice([0, 1, 1, 2])), bool(rng.random() < 0.9)
        if release and rng.random() < 0.8:
            release = int(rng.choice(self.few)), int(rng.integers(-1, 5))
        following = int(rng.choice(self.numbers)) if rng.random() < 0.8 else None
        length = made.length if rng.random() < 0.7 else int(rng.integers(50, 200))
        made = made._replace(base=self.place(), length=length, acquire=acquire, release=release, next=following)
        return [self.own(BDS + 32 * number + 4 * k, word) for k, word in enumerate(made.words())]

    def phase(self) -> None:
        rng = self.rng
        self.left = int(rng.choice([20, 60, 150]))
        self.comes, self.goes = (float(rng.choice([0.2, 0.7, 1.0, 1.0])) for _ in range(2))
        self.writes, self.starts = float(rng.choice([0.02, 0.1, 0.5])), float(rng.choice([0.05, 0.5]))

    def something(self) -> list[Write]:
        rng, what = self.rng, float(self.rng.random())
        if what < 0.3:
            numbers = rng.permutation([*self.few, int(rng.integers(64))])[: int(rng.integers(1, 7))]
            return [self.own(LOCKS + 4 * int(number), self.word() & ~63 | int(rng.integers(8))) for number in numbers]
        if what < 0.6:
            return [self.own(DATA + 4 * self.place(), self.word()) for _ in range(int(rng.integers(1, 9)))]
        if what < 0.7:
            return self.descriptor(int(rng.choice(self.numbers)))
        if what < 0.8:
            if rng.random() < 0.3:
                return self.routes()
            return [self.own(SWITCH + 4 * int(rng.integers(16)), self.route(int(rng.integers(32)), rng.random() < 0.7))]
        if what < 0.9:  # to somebody else
            other = int(rng.choice([1, 2, 32, 1 << 6, 1 << 9, int(rng.integers(1, 1 << 10))])) ^ (COLUMN | ROW << 6)
            at = int(rng.choice([BDS, STARTS, SWITCH, LOCKS, 4 * self.place()]))
            return [Write(other & 63, other >> 6, at, self.word())]
        nothing = [0xA0630, 0xA0800, 0xB0040, 0xC0100, 0x80000 + 4 * self.place(), 0x20000 | 1 << 19, 0xFFFFC]
        outside = int(rng.choice(nothing))
        used = any(at <= outside < at + 4 * size for at, size in ((BDS, 384), (STARTS, 12), (SWITCH, 16), (LOCKS, 64)))
        return [] if used else [self.own(outside, self.word())]

    def next(self) -> tuple[Write | None, dict[int, bool]]:
        """Of this cycle: what is on the bus, who is ready. Words are offered until they are taken."""
        rng = self.rng
        if self.left == 0:
            self.phase()
        self.left -= 1
        for k, word in self.offered.items():
            if word is None and rng.random() < self.comes:
                self.offered[k] = self.word()
        idle = [k for k, each in enumerate(self.reference.channels) if each.state == IDLE]
        if not self.pending and idle and rng.random() < self.starts:
            number = int(rng.choice(idle)) if rng.random() < 0.9 else int(rng.integers(12))
            bd = int(rng.choice(self.numbers))
            self.pending = [self.own(STARTS + 4 * number, self.word() & ~63 | bd)]
        if not self.pending and rng.random() < self.writes:
            self.pending = self.something()
        write = self.pending.pop(0) if self.pending else None
        return write, {k: bool(rng.random() < self.goes) for k in MASTERS}


def differences(
    bad: list[str], reference: Reference, traffic: Traffic, cycles: int, seen: Counter[str]
) -> Steps:
    """From the model, in the first cycle that has any."""
    rng = traffic.rng
    for cycle in range(cycles):
        write, ready = traffic.next()
        inputs = {"column": COLUMN, "row": ROW, "bus__valid": int(write is not None),
                  "bus__write": write.packed if write else int(rng.integers(1 << 60))}  # fmt: skip
        for k, name in SLAVES.items():
            word = traffic.offered[k]
            inputs |= {f"{name}__valid": int(word is not None),
                       f"{name}__payload": traffic.word() if word is None else word}  # fmt: skip
        inputs |= {f"{name}__ready": int(ready[k]) for k, name in MASTERS.items()}
        read = yield inputs
        expected = reference.outputs()
        got = {name: read(name) for name in expected}
        bad.extend(f"cycle {cycle}: {name} is {got[name]:#x}, expected {value:#x}"
                   for name, value in expected.items() if got[name] != value)  # fmt: skip
        if bad:
            return
        taken = reference.takes(traffic.offered, ready)
        note(seen, reference, taken)
        reference.step(taken, write)
        for k, name in SLAVES.items():
            if expected[f"{name}__ready"]:
                traffic.offered[k] = None


def note(seen: Counter[str], reference: Reference, taken: Taken) -> None:
    asks = [*(bool(taken.memory[k]) for k in range(2 * STREAMS))]
    for k, each in enumerate(reference.channels):
        seen[f"{k} moves"] += each.state == MOVE and each.n > 0
        seen[f"{k} is granted"] += asks[k]
        seen[f"{k} is granted a lock"] += taken.lock == k
        seen[f"{k} begins again"] += each.state == LOAD and each.now.iteration[1] > 1
    for k, out in enumerate(reference.out):
        seen[f"{k} pads"] += out.wants and out.row is None
        seen[f"{k} waits for a bank"] += out.request() and not asks[STREAMS + k]
        seen["four read"] += sum(asks[STREAMS:]) > 3
    seen["six accesses"] += sum(asks) > 5
    first, data = reference.to[0], reference.here(DATA, MEMORY.space)
    seen["configuration before the first channel"] += data is not None and len(first.lanes) == 4
    seen["fault"] += reference.fault
    seen["both pools"] += {0, 1} <= {MEMORY.pool(k) for k, each in enumerate(reference.channels) if each.state == LOAD}


NEEDED = {
    *(f"{k} {what}" for k in range(2 * STREAMS) for what in ("moves", "is granted", "is granted a lock")),
    *(f"{k} {what}" for k in range(STREAMS) for what in ("pads", "waits for a bank", "begins again")),
    "four read", "six accesses", "configuration before the first channel", "fault", "both pools",
}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    built = build(memory_tile.emit_memory_tile(), memory_tile.MEMORY_TILE, optimize="-O0")
    with Model(built) as model:
        yield model


def contents(model: Model) -> np.ndarray:
    """32-bit words: line by line over the banks."""
    banks = [model.memory(f"tile.data.bank{k}").view(np.uint32).reshape(-1, LANES) for k in range(16)]
    return np.stack(banks, axis=1).reshape(-1)


def reset(model: Model, seed: int) -> None:
    """With anything in memories: a cycle passes until reset is everywhere, and its writes count, too."""
    model.poison(seed)
    for name, (direction, _) in model.ports.items():
        if direction == "in" and name not in ("clk", "rst"):
            model[name] = 0
    model.reset(cycles=4)
    model.tick()


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_work(model: Model, seed: int, number: int) -> None:
    seen, bad = Counter[str](), list[str]()
    reset(model, seed + number)
    reference = Reference(contents(model).copy())
    traffic = Traffic(np.random.default_rng([seed, number]), reference, 48)
    clocked(model, differences(bad, reference, traffic, 15_000 if number == 0 else 100_000, seen))
    assert bad[:3] == []
    assert (contents(model) == reference.memory).all()
    assert {name for name in NEEDED if not seen[name]} == set()


def test_every_word(model: Model, seed: int) -> None:
    """All of memory written over the bus, and read by one channel."""
    rng = np.random.default_rng(seed)
    reset(model, seed)
    words = rng.integers(1 << 32, size=MEMORY.space)
    read = Descriptor(5, MEMORY.space, (0, 0, 0, 1), (0, 0, 0), kind=MEMORY)
    settings = [*((DATA + 4 * k, int(word)) for k, word in enumerate(words)), (SWITCH + 4 * 6, 32 | 5),
                *((BDS + 32 * 47 + 4 * k, word) for k, word in enumerate(read.words())), (STARTS + 4 * 11, 47)]

    def steps() -> Steps:
        for at, data in settings:
            yield {"column": COLUMN, "row": ROW, "bus__valid": 1, "bus__write": Write(COLUMN, ROW, at, data).packed}
        assert (contents(model) == words).all()
        inputs = {"bus__valid": 0, "north_out__0__ready": 1}
        while len(got) < MEMORY.space:
            read = yield inputs
            inputs = {}
            if read("north_out__0__valid"):
                got.append(read("north_out__0__payload"))

    got: list[int] = []
    clocked(model, steps())
    assert got == [int(word) for word in np.roll(words, -5)]


# Tensors in one order, and in another


class Copy:
    """Blocks of a tensor that come by a stream from the south, and go by one to the north in another order and padded;
    two at a time in memory. Which channels, is the same number of both."""

    def __init__(self, rng: np.random.Generator, number: int):
        self.rng, self.number, base = rng, number, int(rng.integers(MEMORY.space))
        self.sizes = [int(n) for n in rng.integers(1, 5, 4)]
        strides, size = [0, 0, 0, 0], int(rng.choice([1, 1, 2]))
        for dim in rng.permutation(4):
            strides[dim] = size
            size = size * self.sizes[dim] + int(rng.integers(0, 3))
        self.order, back = [int(dim) for dim in rng.permutation(4)], [bool(rng.random() < 0.3) for _ in range(4)]
        self.back = [dim for dim in range(4) if back[dim]]
        self.pads = [(int(rng.integers(4)), int(rng.integers(4))) for _ in range(3)]
        first = 24 * (number % 2) + number // 2
        full, free = 63 - number, 40 - number
        self.locks = {free: 2}
        to = Descriptor(base, int(np.prod(self.sizes)), tuple(strides), tuple(self.sizes[:3]), (size, 2), first,
                        (free, 1, True), (full, 1), (), MEMORY)
        start = base + sum((self.sizes[dim] - 1) * strides[dim] for dim in self.back)
        steps = [-strides[dim] if back[dim] else strides[dim] for dim in self.order]
        counts = [self.sizes[dim] for dim in self.order]
        length = counts[3] * int(np.prod([sum(pad) + n for pad, n in zip(self.pads, counts, strict=False)]))
        out = Descriptor(start % MEMORY.space, length, tuple(steps), tuple(counts[:3]), (size, 2), first + 8,
                         (full, 1, True), (free, 1), tuple(self.pads), MEMORY)  # fmt: skip
        self.descriptors = {first: to, first + 8: out._replace(next=first + 8)}
        self.came: list[int] = []
        self.left: list[int] = []

    def writes(self) -> Iterator[tuple[int, int]]:
        for number, descriptor in self.descriptors.items():
            yield from ((BDS + 32 * number + 4 * k, word) for k, word in enumerate(descriptor.words()))
        yield from ((LOCKS + 4 * lock, value) for lock, value in self.locks.items())
        yield SWITCH + 4 * self.number, 32 | 10 + self.number
        yield SWITCH + 4 * (6 + self.number), 32 | self.number
        for channel, number in zip((self.number, 6 + self.number), self.descriptors, strict=True):
            yield STARTS + 4 * channel, number

    def expected(self) -> list[int]:
        """By numpy, whose last axis is the first dimension."""
        size = int(np.prod(self.sizes))
        blocks = np.array(self.came[: len(self.came) // size * size], np.int64).reshape(-1, *self.sizes[::-1])
        blocks = np.flip(blocks, tuple(4 - dim for dim in self.back))
        turned = blocks.transpose(0, *(4 - dim for dim in reversed(self.order)))
        return [int(word) for word in np.pad(turned, [(0, 0), (0, 0), *reversed(self.pads)]).reshape(-1)]


def copying(copies: list[Copy], rng: np.random.Generator, cycles: int) -> Steps:
    pending = [Write(COLUMN, ROW, *each).packed for copy in copies for each in copy.writes()]
    offered: list[int | None] = [None for _ in copies]
    come, go = (rng.choice([0.5, 0.7, 1.0, 1.0], len(copies)) for _ in range(2))
    for _ in range(cycles):
        inputs = {"column": COLUMN, "row": ROW, "bus__valid": int(bool(pending)),
                  "bus__write": pending.pop(0) if pending else 0}  # fmt: skip
        ready = [bool(rng.random() < rate) for rate in go]
        for k, word in enumerate(offered):
            offered[k] = int(rng.integers(1 << 32)) if word is None and rng.random() < come[k] else word
            inputs |= {f"south_in__{k}__valid": int(offered[k] is not None), f"south_in__{k}__payload": offered[k] or 0,
                       f"north_out__{k}__ready": int(ready[k])}  # fmt: skip
        read = yield inputs
        for k, copy in enumerate(copies):
            word = offered[k]
            if word is not None and read(f"south_in__{k}__ready"):
                copy.came.append(word)
                offered[k] = None
            if ready[k] and read(f"north_out__{k}__valid"):
                copy.left.append(read(f"north_out__{k}__payload"))


@pytest.mark.parametrize("number", range(4))
def test_tensors_in_another_order_and_padded(model: Model, seed: int, number: int) -> None:
    rng = np.random.default_rng([seed, number])
    reset(model, seed + number)
    copies = [Copy(rng, k) for k in range(STREAMS)]
    clocked(model, copying(copies, rng, 8000))
    for copy in copies:
        expected = copy.expected()
        assert copy.left == expected[: len(copy.left)], f"channels {copy.number}"
        # Two blocks are in memory, another one or a part of it, and some words, are on their way.
        whole = len(expected) // max(1, len(copy.came) // int(np.prod(copy.sizes)))
        assert len(copy.left) > 2 * whole and len(expected) - len(copy.left) <= 3 * whole + 16


# Planted bugs, in Amaranth's simulator: none has to be built


def spoilt(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """The memory tile's module with a bug in it or in what it is made of, and memories that the simulator has."""
    copies = {each: planted(each, right, wrong) if each is module else copy_without_a_bug(each) for each in PARTS}
    top, channel, descriptors, banks = (copies[each] for each in (memory_tile, dma_channel, dma, memory_banks))
    channel.DmaState = descriptors.DmaState  # type: ignore[attr-defined]
    descriptors.S2mm, descriptors.Mm2s = channel.S2mm, channel.Mm2s  # type: ignore[attr-defined]
    banks.Sram = descriptors.Sram = OnePort  # type: ignore[attr-defined]
    for name, part in (("Dma", descriptors), ("MemoryBanks", banks), ("Locks", copies[locks]),
                       ("StreamSwitch", copies[switch]), ("ConfigPort", copies[config])):  # fmt: skip
        setattr(top, name, getattr(part, name))
    return top


PARTS = memory_tile, memory_banks, dma, dma_channel, locks, switch, config


def copy_without_a_bug(module: ModuleType) -> ModuleType:
    return planted(module, "# SPDX", "# SPDX")


def simulated(module: ModuleType, steps: Steps, bad: list[str]) -> None:
    dut = module.MemoryTile()

    def signal(name: str) -> Any:
        found: Any = dut
        for part in name.split("__"):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        return Value.cast(found)

    signals: dict[str, Any] = {}

    async def bench(ctx: Any) -> None:
        for _ in range(3):
            await ctx.tick()
        inputs = next(steps)
        while not bad:
            for name, value in inputs.items():
                ctx.set(signals.setdefault(name, signal(name)), value)
            try:
                inputs = steps.send(lambda name: ctx.get(signals.setdefault(name, signal(name))))
            except StopIteration:
                return
            await ctx.tick()

    simulate(dut, bench)


def noticed(module: ModuleType, seed: int, cycles: int) -> list[str]:
    bad = list[str]()
    reference = Reference(np.zeros(MEMORY.space, np.uint32))
    traffic = Traffic(np.random.default_rng(seed), reference, 8)
    simulated(module, differences(bad, reference, traffic, cycles, Counter()), bad)
    return bad


BUGS = {
    "banks not interleaved": (memory_banks, "port.addr[:bits] == number", "port.addr[-bits:] == number"),
    "two lines of a bank in one row": (memory_banks, "port.addr[bits:], 0)", "port.addr[bits + 1 :], 0)"),
    "two accesses of a bank": (memory_banks, "other.valid & (", "0 & ("),
    "half as many banks": (memory_banks, "[:bits] == port.addr[:bits])", "[:3] == port.addr[:3])"),
    "the last channel first": (memory_banks, "ports[:number]]", "ports[number + 1 :]]"),
    "what the bank asked for now gives": (memory_banks, "m.d.sync += taken", "m.d.comb += taken"),
    "whole lines are written": (memory_banks, "reduce(or_, masks)", "Mux(reduce(or_, masks).any(), 15, 0)"),
    "a channel's write is lost to the configuration": (
        memory_tile, "asked.grant.eq(port.grant & ~config_here)", "asked.grant.eq(port.grant)"),
    "the configuration writes lines": (memory_tile, "Mux(config_here, config.data_mask,", "Mux(config_here, 15,"),
    "the fifth channel too": (memory_tile, "(config.number[:4] == number)) for", "(config.number[:2] == number)) for"),
    "a fault a cycle early": (memory_tile, "m.d.sync += self.fault", "m.d.comb += self.fault"),
    "a lock's number a bit short": (dma_channel, "now.release_lock, now.acquire_lock)",
                                    "now.release_lock[:5], now.acquire_lock[:5])"),
    "steps the other way": (dma_channel, "begin + step", "begin - step"),
    "a zero too few": (dma_channel, "counter < end)", "counter <= end)"),
    "the other pool": (dma, "shape.pools == pool", "shape.pools != pool"),
    "no iteration anew": (dma, "word == fmt.iteration_word", "0"),
    "a lock beyond the last": (config, "(at >> 2) + words", "(at >> 2) + words + 1"),
    "every column": (config, "(coming.column == self.column) & ", ""),
    "data beyond the end": (config, "word[within + places.data :] == 0", "word[3 + places.data :] == 0"),
    "what is taken goes not on": (config, "onward.valid.eq(valid)", "onward.valid.eq(valid & ~mine)"),
    "the last lock requester first": (locks, "(can & (1 << number) - 1) == 0", "(can >> number + 1) == 0"),
    "a link to the DMA": (switch, "number >= ports.local", "number >= ports.local - 1"),
    "masters from 16 slaves and those beyond": (switch, "*[Value.cast(0)] * beyond", "*goes[:beyond]"),
}


def test_the_copy_without_a_bug_is_right() -> None:
    assert noticed(spoilt(config, "LISTENS = 5", "LISTENS = 5"), 1, 500) == []


@pytest.mark.parametrize("name", some(BUGS, 7))
def test_a_planted_bug_is_noticed(name: str) -> None:
    module = spoilt(*BUGS[name])
    assert any(noticed(module, seed, 1200) for seed in (1, 2, 3))


@pytest.mark.parametrize("name", ["a zero too few", "steps the other way", "two accesses of a bank"])
def test_a_planted_bug_shows_in_a_copy(name: str) -> None:
    rng, bad = np.random.default_rng(1), list[str]()
    copies = [Copy(rng, k) for k in range(2)]
    simulated(spoilt(*BUGS[name]), copying(copies, rng, 1500), bad)
    assert any(copy.left != copy.expected()[: len(copy.left)] for copy in copies)
