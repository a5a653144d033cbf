# SPDX-License-Identifier: Apache-2.0
"""The DMAs of AIE-ML's tiles, cycle by cycle against a model of its own: descriptors, locks, memory, streams.

Descriptors, grants, gaps and back-pressure are random; descriptors are also rewritten while channels run. Then streams
are copied through memory by channels that wait for each other's locks: what comes out, what is in memory when it is
released, who touches memory when.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from nncosim.hdl.aie_ml import dma, dma_channel
from nncosim.hdl.aie_ml.locks import Locks
from nncosim.hdl.aie_ml.memory_tile import MEMORY_DMA
from nncosim.regress.aie_ml_dma_model import (
    FETCH,
    IDLE,
    LOAD,
    MEMORY,
    MOVE,
    TILE,
    WORD,
    Channel,
    Descriptor,
    Descriptors,
    FromMemory,
    Kind,
    ToMemory,
    random_descriptor,
)
from nncosim.regress.block_bench import garbage, simulate
from nncosim.regress.planted import planted, some
from nncosim.regress.test_aie_ml_memory import OnePort

CHANNELS, WORDS = 4, TILE.space

# Random work


class Rates(NamedTuple):
    """How often: words come, go; memory, locks grant; idle channels, others are started; descriptors rewritten."""

    comes: float
    goes: float
    memory: float
    lock: float
    start: float
    write: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Rates:
        comes, goes, memory, lock = (float(rng.choice([0.2, 0.6, 0.9, 1.0, 1.0])) for _ in range(4))
        return cls(comes, goes, memory, lock, float(rng.choice([0.02, 0.5])), float(rng.choice([0, 0.05, 0.3])))


class Bench:
    """The RTL beside the model, for one run."""

    def __init__(self, dut: Any, kind: Kind, seed: int, seen: Counter[str]):
        self.dut, self.kind, self.seen, self.rng = dut, kind, seen, np.random.default_rng(seed)
        self.pools, self.bad = [Descriptors(kind) for _ in range(kind.pools)], list[str]()
        self.to, self.out = [ToMemory() for _ in range(kind.streams)], [FromMemory() for _ in range(kind.streams)]
        self.channels: list[Channel] = [*self.to, *self.out]
        self.payload = [int(self.rng.integers(1 << 32)) for _ in self.to]
        self.valid = [False for _ in self.to]
        self.rates = Rates.random(self.rng)
        self.pending: list[tuple[int, int, int]] = [
            (bd, word, value) for bd in range(kind.descriptors * kind.pools)
            for word, value in enumerate(random_descriptor(self.rng, kind).words())]
        self.setup = len(self.pending)

    def differs(self, cycle: int, what: str, got: Any, expected: Any) -> None:
        if got != expected:
            self.bad.append(f"cycle {cycle}: {what} is {got}, expected {expected}")

    def configure(self, ctx: Any, first: bool) -> tuple[list[bool], int, tuple[int, int, int] | None]:
        """Pins of the configuration: starts, with what; a write."""
        rng, dut, rates = self.rng, self.dut, self.rates
        if not self.pending and rng.random() < rates.write:
            bd = int(rng.integers(1 << self.kind.fields["next"][2]))  # some of a memory tile's do not exist
            words = [*random_descriptor(rng, self.kind).words(), 0, 0][:8]
            order = rng.permutation(8)[: int(rng.choice([1, 8]))]
            self.pending = [(bd, int(word), words[word]) for word in order]
        write = self.pending.pop(0) if self.pending and (first or rng.random() < 0.8) else None
        garbage(ctx, rng, dut.bd_addr, dut.bd_data)
        ctx.set(dut.start_bd, int(rng.integers(self.kind.descriptors * self.kind.pools)))
        ctx.set(dut.bd_write, int(write is not None))
        if write:
            ctx.set(dut.bd_addr, int(write[0] << 3 | write[1]))
            ctx.set(dut.bd_data, write[2])
        starts = [not first and rng.random() < (rates.start if channel.state == IDLE else 0.1)
                  for channel in self.channels]
        for port, start in zip(dut.start, starts, strict=True):
            ctx.set(port, int(start))
        return starts, ctx.get(dut.start_bd), write

    def drive(self, ctx: Any) -> tuple[list[bool], list[bool], list[bool]]:
        """Pins of streams, memory, locks. What the consumers take, what memory and locks grant."""
        rng, dut, rates = self.rng, self.dut, self.rates
        for k, port in enumerate(dut.s2mm):
            self.valid[k] = self.valid[k] or rng.random() < rates.comes
            garbage(ctx, rng, port.payload)
            ctx.set(port.valid, int(self.valid[k]))
            if self.valid[k]:
                ctx.set(port.payload, self.payload[k])
        ready = [bool(rng.random() < rates.goes) for _ in self.out]
        asked = [*(each.request(self.valid[k]) for k, each in enumerate(self.to)), *(e.request() for e in self.out)]
        memory = [bool(ask and rng.random() < rates.memory) for ask in asked]
        lock = [bool(channel.lock() and rng.random() < rates.lock) for channel in self.channels]
        for port, value in [*((each.ready, on) for each, on in zip(dut.mm2s, ready, strict=True)),
                            *((each.grant, on) for each, on in zip(dut.memory, memory, strict=True)),
                            *((each.grant, on) for each, on in zip(dut.lock, lock, strict=True))]:
            ctx.set(port, int(value))
        return ready, memory, lock

    def compare(self, ctx: Any, cycle: int, grants: list[bool]) -> None:
        dut = self.dut
        for k, channel in enumerate(self.channels):
            self.differs(cycle, f"state {k}", ctx.get(dut.state[k]).value, channel.state)
            self.differs(cycle, f"busy {k}", ctx.get(dut.busy[k]), channel.state != IDLE)
            if channel.state != IDLE:
                self.differs(cycle, f"bd {k}", ctx.get(dut.bd[k]), channel.bd)
            lock, asked = dut.lock[k], channel.lock()
            self.differs(cycle, f"lock request {k}", ctx.get(lock.valid), asked is not None)
            if asked:
                got = ctx.get(lock.lock), ctx.get(lock.op).value, ctx.get(lock.value)
                self.differs(cycle, f"lock {k}", got, (asked[0], asked[1].value, asked[2]))
        for k, to in enumerate(self.to):
            port, valid = dut.memory[k], self.valid[k]
            self.differs(cycle, f"write {k}", ctx.get(port.valid), to.request(valid))
            if to.request(valid):
                got = ctx.get(port.addr), ctx.get(port.write), ctx.get(port.w_mask)
                self.differs(cycle, f"write of {k}", got, (to.line, 1, sum(1 << lane for lane in to.lanes)))
                data = ctx.get(port.w_data)
                lanes = {lane: data >> 32 * lane & WORD for lane in to.lanes}
                self.differs(cycle, f"data of {k}", lanes, to.lanes)
            if valid:
                self.differs(cycle, f"ready {k}", ctx.get(dut.s2mm[k].ready), to.takes(valid, grants[k]))
            elif not to.moving:
                self.differs(cycle, f"ready {k}", ctx.get(dut.s2mm[k].ready), 0)
        for k, out in enumerate(self.out):
            port, stream = dut.memory[len(self.to) + k], dut.mm2s[k]
            self.differs(cycle, f"read {k}", ctx.get(port.valid), out.request())
            if out.request():
                self.differs(cycle, f"read of {k}", (ctx.get(port.addr), ctx.get(port.write)), (out.row, 0))
            self.differs(cycle, f"valid {k}", ctx.get(stream.valid), bool(out.queue))
            if out.queue:
                self.differs(cycle, f"payload {k}", ctx.get(stream.payload), out.queue[0])

    def end(self, ready: list[bool], grants: list[bool], locks: list[bool]) -> list[int | None]:
        """The end of a cycle in the model, but for descriptors. What is read."""
        for k, to in enumerate(self.to):
            takes = to.takes(self.valid[k], grants[k])
            self.seen[f"s2mm {k} writes {len(to.lanes)}"] += grants[k]
            to.end(self.payload[k], self.valid[k], grants[k])
            if takes:
                self.payload[k], self.valid[k] = int(self.rng.integers(1 << 32)), False
        read: list[int | None] = [None for _ in self.out]
        for k, out in enumerate(self.out):
            data = int.from_bytes(self.rng.bytes(16), "little")
            read[k] = data if grants[len(self.to) + k] else None
            self.seen[f"mm2s {k} reads"] += grants[len(self.to) + k]
            self.seen[f"mm2s {k} pads"] += out.wants and out.row is None
            self.seen[f"mm2s {k} waits for the stream"] += len(out.queue) == 2 and out.given is not None
            out.end(ready[k], grants[len(self.to) + k], data)
        for k, (channel, granted) in enumerate(zip(self.channels, locks, strict=True)):
            if granted:
                channel.granted()
                self.seen[f"{k} goes on"] += channel.state == FETCH
        return read

    async def run(self, ctx: Any, cycles: int) -> None:
        for cycle in range(cycles):
            if cycle % 100 == 0:
                self.rates = Rates.random(self.rng)
            before = [channel.state for channel in self.channels]
            starts, start_bd, write = self.configure(ctx, cycle < self.setup)
            ready, grants, locks = self.drive(ctx)
            self.compare(ctx, cycle, grants)
            if self.bad:
                return
            read = self.end(ready, grants, locks)
            for number, pool in enumerate(self.pools):
                first = number * self.kind.descriptors
                own = write is not None and 0 <= write[0] - first < self.kind.descriptors
                pool.serve([channel for k, channel in enumerate(self.channels)
                            if before[k] in (FETCH, LOAD) and self.kind.pool(k) == number],
                           (write[0] - first, *write[1:]) if write and own else None)  # fmt: skip
            for k, channel in enumerate(self.channels):
                if starts[k]:
                    self.seen[f"{k} started {'idle' if before[k] == IDLE else 'busy'}"] += 1
                if starts[k] and before[k] == IDLE:
                    channel.state, channel.bd = FETCH, start_bd
            empty = [each.state == MOVE and not each.now.length for each in self.channels]
            self.seen["a buffer of no words"] += any(empty)
            self.seen["two fetch"] += before.count(FETCH) > 1
            self.seen["fetch while written"] += FETCH in before and write is not None
            await ctx.tick()
            for k, data in enumerate(read):
                garbage(ctx, self.rng, self.dut.memory[len(self.to) + k].r_data)
                if data is not None:
                    ctx.set(self.dut.memory[len(self.to) + k].r_data, data)


NO_BUG = "streams, channels = ", "streams, channels = "


def copy_of(right: str = NO_BUG[0], wrong: str = NO_BUG[1]) -> ModuleType:
    """The DMA's module, with a memory that Amaranth's simulator has, and perhaps a bug, in it or in a channel."""
    assert dma.__file__ and dma_channel.__file__
    in_channel = right in Path(dma_channel.__file__).read_text()
    module = planted(dma, *NO_BUG) if in_channel else planted(dma, right, wrong)
    if in_channel:
        channel = planted(dma_channel, right, wrong)
        channel.DmaState = dma_channel.DmaState  # type: ignore[attr-defined]
        module.S2mm, module.Mm2s = channel.S2mm, channel.Mm2s  # type: ignore[attr-defined]
    module.Sram = OnePort  # type: ignore[attr-defined]
    return module


def differences(module: ModuleType, kind: Kind, seed: int, cycles: int, seen: Counter[str]) -> list[str]:
    bench = Bench(module.Dma(dma.TILE_DMA if kind is TILE else MEMORY_DMA), kind, seed, seen)

    async def run(ctx: Any) -> None:
        await bench.run(ctx, cycles)

    simulate(bench.dut, run)
    return bench.bad


def needed(kind: Kind) -> set[str]:
    return {
        *(f"{k} {what}" for k in range(kind.channels) for what in ("started idle", "started busy", "goes on")),
        *(f"s2mm {k} writes {words}" for k in range(kind.streams) for words in (1, 2, 3, 4)),
        *(f"mm2s {k} {what}" for k in range(kind.streams) for what in ("reads", "waits for the stream")),
        *(f"mm2s {k} pads" for k in range(kind.streams) if kind is MEMORY),
        "two fetch", "fetch while written", "a buffer of no words",
    }


@pytest.mark.parametrize("kind, seed", [
    pytest.param(TILE, 0, id="core tile 0"), pytest.param(TILE, 1, id="core tile 1"),
    pytest.param(MEMORY, 0, id="memory tile 0"),
    pytest.param(MEMORY, 1, id="memory tile 1", marks=pytest.mark.slow),
])  # fmt: skip
def test_random_descriptors(kind: Kind, seed: int) -> None:
    seen: Counter[str] = Counter()
    assert differences(copy_of(), kind, seed, 5000 if kind is TILE else 3000, seen) == []
    assert {name for name in needed(kind) if not seen[name]} == set()


# Rates, and cycles of the table in the module


async def configured(ctx: Any, dut: Any, descriptors: dict[int, Descriptor]) -> None:
    ctx.set(dut.bd_write, 1)
    for bd, descriptor in descriptors.items():
        for word, value in enumerate(descriptor.words()):
            ctx.set(dut.bd_addr, bd << 3 | word)
            ctx.set(dut.bd_data, value)
            await ctx.tick()
    ctx.set(dut.bd_write, 0)


def moments(number: int, descriptors: list[Descriptor], words: int) -> tuple[list[int], list[int], list[int]]:
    """One channel, alone, with everything granted: cycles after its start of words of its stream, of accesses of
    memory, of lock requests."""
    dut = copy_of().Dma()
    stream, memory, lock = [*dut.s2mm, *dut.mm2s][number], dut.memory[number], dut.lock[number]
    moved, accessed, asked = list[int](), list[int](), list[int]()

    async def bench(ctx: Any) -> None:
        await configured(ctx, dut, dict(enumerate(descriptors)))
        side = stream.valid if number < 2 else stream.ready
        for port in (side, memory.grant, lock.grant, dut.start[number]):
            ctx.set(port, 1)
        for cycle in range(words + 20 * len(descriptors)):
            if ctx.get(stream.valid) and ctx.get(stream.ready):
                moved.append(cycle)
            if ctx.get(memory.valid):
                accessed.append(cycle)
            if ctx.get(lock.valid):
                asked.append(cycle)
            await ctx.tick()
            ctx.set(dut.start[number], 0)

    simulate(dut, bench)
    return moved, accessed, asked


@pytest.mark.parametrize("number", range(CHANNELS))
@pytest.mark.parametrize("step", [1, 5])
def test_cycles_of_a_chain(number: int, step: int) -> None:
    """Acquire and release; then neither; lengths 16 and 8."""
    moved, accessed, asked = moments(number, [
        Descriptor(0, 16, (step, 0, 0), (16, 0), next=1, acquire=(0, 1, True), release=(1, 1)),
        Descriptor(96, 8, (0, 0, step)),
    ], 24)
    # First words of both in memory's or the stream's hands, and the release: of S2MM words taken, of MM2S words read.
    first, release, second = (4, 21, 24) if number < 2 else (4, 20, 23)
    assert asked == [3, release]
    each = [*range(first, first + 16), *range(second, second + 8)]
    places = [*range(0, 16 * step, step), *range(96, 96 + 8 * step, step)]
    if number < 2:
        assert moved == each
        last = [k for k, a in enumerate(places) if k in (15, 23) or places[k + 1] // 4 != a // 4]
        assert accessed == [each[k] + 1 for k in last]
    else:
        assert moved == [cycle + 2 for cycle in each]
        new = [k for k, a in enumerate(places) if k in (0, 16) or places[k - 1] // 4 != a // 4]
        assert accessed == [each[k] for k in new]


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("length", [1500, pytest.param(16384, marks=pytest.mark.slow)])
def test_a_long_buffer_at_full_rate(number: int, length: int) -> None:
    moved, *_ = moments(number, [Descriptor(3, length, (5, -1, 7), (700, 2))], length)
    assert moved == list(range(moved[0], moved[0] + length))


# Copies through memory


class Both(wiring.Component):
    """A DMA and its locks."""

    def __init__(self, module: ModuleType):
        self.dma, self.locks = module.Dma(), Locks()
        super().__init__({})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dma, m.submodules.locks = self.dma, self.locks
        for asked, served in zip(self.dma.lock, self.locks.request[2:], strict=True):
            wiring.connect(m, asked, served)
        return m


def traversals(rng: np.random.Generator, at: int) -> tuple[Descriptor, Descriptor, int]:
    """The same places in two orders, each once; and how many places lie between the first and the last."""
    sizes = [int(n) for n in rng.integers(1, 5, 3)]
    strides, size = [0, 0, 0], int(rng.choice([1, 1, 2]))
    for dim in rng.permutation(3):
        strides[dim] = size
        size = size * sizes[dim] + int(rng.integers(0, 3))
    out = []
    for _ in range(2):
        dims = [int(dim) for dim in rng.permutation(3)]
        back = [bool(rng.random() < 0.3) for _ in dims]
        steps = [-strides[dim] if turned else strides[dim] for dim, turned in zip(dims, back, strict=True)]
        base = at + sum((sizes[dim] - 1) * strides[dim] for dim, turned in zip(dims, back, strict=True) if turned)
        out.append(Descriptor(base, int(np.prod(sizes)), (steps[0], steps[1], steps[2]),
                              (sizes[dims[0]], sizes[dims[1]])))  # fmt: skip
    return out[0], out[1], size


def pairs(rng: np.random.Generator) -> tuple[dict[int, Descriptor], list[tuple[Descriptor, Descriptor]]]:
    """Descriptors: 0, and 2 and 3, the first pair's: two copies of its buffer, by iteration and by a chain. 4, and 5,
    the other pair's: one copy, that is passed on when a lock is equal to 1. And the traversals of both pairs."""
    to, out, size = traversals(rng, int(rng.integers(WORDS)) & ~3)
    apart = size + int(rng.integers(8))
    lone, single, _ = traversals(rng, (to.base + 2000) % WORDS)
    descriptors = {
        0: to._replace(iteration=(apart, 2), next=0, acquire=(3, 1, True), release=(4, 1)),
        2: out._replace(next=3, acquire=(4, 1, True), release=(3, 1)),
        3: out._replace(base=out.base + apart, next=2, acquire=(4, 1, True), release=(3, 1)),
        4: lone._replace(next=4, acquire=(7, 1, False), release=(9, 1)),
        5: single._replace(next=5, acquire=(9, 1, False), release=(7, 1)),
    }
    return {bd: each._replace(base=each.base % WORDS) for bd, each in descriptors.items()}, [(to, out), (lone, single)]


class Copies:
    """What goes into the streams, through memory and out of them. Channel k writes for channel 2 + k."""

    def __init__(self, module: ModuleType, seed: int):
        self.dut, self.rng = Both(module), np.random.default_rng(seed)
        self.descriptors, self.walks = pairs(self.rng)
        self.memory, self.bad = [0] * WORDS, list[str]()
        self.came: list[list[int]] = [[], []]
        self.left: list[list[int]] = [[], []]
        self.inside = [False] * CHANNELS  # between an acquire and a release
        self.blocks = [0] * CHANNELS

    def released(self, k: int) -> None:
        """What is released has been written."""
        length = self.walks[k][0].length
        to, block = self.descriptors[4 * k], self.blocks[k]
        words = self.came[k][block * length: (block + 1) * length]
        if [self.memory[to.address(n, block % 2 if k == 0 else 0)] for n in range(length)] != words:
            self.bad.append(f"block {block} of {k} is not in memory when it is released")

    def locks(self, ctx: Any) -> None:
        for k, port in enumerate(self.dut.dma.lock):
            if not ctx.get(port.valid & port.grant):
                continue
            if self.inside[k]:
                if k < 2:
                    self.released(k)
                self.blocks[k] += 1
            self.inside[k] = not self.inside[k]

    async def run(self, ctx: Any, cycles: int) -> None:
        dut, locks, rng = self.dut.dma, self.dut.locks, self.rng
        await configured(ctx, dut, self.descriptors)
        for lock, value in ((3, 2), (7, 1)):
            for port, given in ((locks.set.valid, 1), (locks.set.lock, lock), (locks.set.value, value)):
                ctx.set(port, given)
            await ctx.tick()
        ctx.set(locks.set.valid, 0)
        comes = [int(rng.integers(1 << 32)) for _ in dut.s2mm]
        for cycle in range(cycles):
            if cycle < CHANNELS:
                ctx.set(dut.start_bd, (0, 4, 2, 5)[cycle])
            for k, port in enumerate(dut.start):
                ctx.set(port, int(k == cycle))
            if cycle % 64 == 0:
                rates = [float(rate) for rate in rng.choice([0.2, 0.7, 1.0], 3)]
            for k, port in enumerate(dut.s2mm):
                ctx.set(port.valid, int(ctx.get(port.valid) or rng.random() < rates[0]))
                ctx.set(port.payload, comes[k])
            for port in dut.mm2s:
                ctx.set(port.ready, int(rng.random() < rates[1]))
            for port in dut.memory:
                ctx.set(port.grant, int(ctx.get(port.valid) and rng.random() < rates[2]))
            reads = self.cycle(ctx, comes)
            self.locks(ctx)
            await ctx.tick()
            for port, data in zip(dut.memory, reads, strict=True):
                garbage(ctx, rng, port.r_data)
                if data is not None:
                    ctx.set(port.r_data, data)
            for k, port in enumerate(dut.s2mm):
                if self.came[k][-1:] == [comes[k]]:
                    comes[k] = int(rng.integers(1 << 32))
                    ctx.set(port.valid, 0)

    def cycle(self, ctx: Any, comes: list[int]) -> list[int | None]:
        """What the streams and memory do in it. What is read."""
        dut = self.dut.dma
        for k, (into, out) in enumerate(zip(dut.s2mm, dut.mm2s, strict=True)):
            if ctx.get(into.valid & into.ready):
                self.came[k].append(comes[k])
                if not self.inside[k]:
                    self.bad.append(f"{k} takes a word before its acquire")
            if ctx.get(out.valid & out.ready):
                self.left[k].append(ctx.get(out.payload))
        reads: list[int | None] = []
        for k, port in enumerate(dut.memory):
            row, granted = 4 * ctx.get(port.addr), ctx.get(port.valid & port.grant)
            if ctx.get(port.valid) and not self.inside[k]:
                self.bad.append(f"{k} uses memory outside its buffer")
            reads.append(sum(self.memory[row + lane] << 32 * lane for lane in range(4)) if granted else None)
            if granted and k < 2:
                mask, data = ctx.get(port.w_mask), ctx.get(port.w_data)
                for lane in range(4):
                    if mask >> lane & 1:
                        self.memory[row + lane] = data >> 32 * lane & WORD
        return reads

    def expected(self, k: int) -> list[int]:
        to, out = self.walks[k]
        length = to.length
        order = [[to.address(n) for n in range(length)].index(out.address(n)) for n in range(length)]
        return [self.came[k][start + n] for start in range(0, len(self.came[k]) - length + 1, length) for n in order]


def copied(module: ModuleType, seed: int, cycles: int) -> tuple[Copies, list[str]]:
    """What differs, and whether it stood still."""
    copies = Copies(module, seed)

    async def run(ctx: Any) -> None:
        await copies.run(ctx, cycles)

    simulate(copies.dut, run)
    bad = copies.bad
    for k in range(2):
        left, expected = copies.left[k], copies.expected(k)
        if left != expected[:len(left)]:
            bad.append(f"stream {k} is not as it came")
        if len(left) < cycles // 40 or len(copies.came[k]) - len(left) > 4 * copies.walks[k][0].length:
            bad.append(f"stream {k} stands")
    return copies, bad


@pytest.mark.parametrize("seed", range(4))
def test_copies_through_memory(seed: int) -> None:
    copies, bad = copied(copy_of(), seed, 2000)
    assert bad == []
    assert min(copies.blocks) > 5


BUGS = {
    "a dimension one longer": ("counter + 1 < size", "counter < size"),
    "count 0 is the largest": ("counter + 1 < size", "counter + 1 != size"),
    "the third dimension stays": ("begins[: k + 1]", "begins[: min(k, 1) + 1]"),
    "length one shorter": ("self.left.eq(fetched.length)", "self.left.eq(fetched.length - 1)"),
    "no iteration": ("fetched.base + self.fetch.offset", "fetched.base"),
    "iterations one more": ("count + 1 < words.iteration_count", "count < words.iteration_count"),
    "iteration not begun anew": ("[offsets[k].eq(0), counts[k].eq(0)]", "counts[k].eq(0)"),
    "a mask keeps what is written": ("Mux(here & ~goes, mask, 0)", "mask"),
    "words one lane further": ("lane.eq(1 << self.at[:2])", "lane.eq(1 << (self.at + 1)[:2])"),
    "released before it is written": (
        "(self.left == 0) & (~here | goes)", "(self.left == 0) & (~here | asks)"),
    "a write that is not granted is done": ("goes.eq(asks & self.memory.grant)", "goes.eq(asks)"),
    "no acquire": ("Mux(fetched.acquire, DmaState.ACQUIRE, DmaState.MOVE)", "DmaState.MOVE"),
    "at least for equal": ("Mux(now.at_least, LockOp", "Mux(~now.at_least, LockOp"),
    "the acquire's lock is released": ("Mux(release, now.release_lock,", "Mux(0, now.release_lock,"),
    "a delta without sign": ("now.release_delta, now", "now.release_delta.as_unsigned()[:6], now"),
    "no release": ("over.eq(~now.release)", "over.eq(1)"),
    "a chain ends": ("Mux(now.use_next, DmaState.FETCH, DmaState.IDLE)", "DmaState.IDLE"),
    "a line of the buffer before": ("m.d.sync += known.eq(0)", "m.d.sync += known.eq(known)"),
    "a line not held": ("Mux(fresh, self.memory.r_data, line)", "self.memory.r_data"),
    "reads without room": ("(~given | out.i.ready)", "1"),
    "reads a line for each word": ("| (known &", "| (0 &"),
    "descriptors read while written": ("- 1) == 0) & ~write", "- 1) == 0)"),
    "two descriptors at once": ("((asked & (1 << k) - 1) == 0)", "1"),
    "a start of a busy channel": (
        "with m.If(over):", "with m.If(self.start):\n            m.d.sync += self.bd.eq(self.start_bd)\n"
        "        with m.If(over):"),
}


MEMORY_BUGS = {
    "a zero too many": ("counter >= begin", "counter > begin"),
    "a zero too few": ("counter < end)", "counter <= end)"),
    "no zeros behind": ('behind + fetched[f"pad{k}_after"]', "behind"),
    "addresses go on in padding": ("Mux(counters[k] < self.bounds[k][0], 0, step)", "step"),
    "count 0 with padding is none": ("Mux(count == 0, 1, count)", "count"),
    "padding of what comes": ('fmt.padded and self.kind == "mm2s"', "fmt.padded"),
    "padding is read": ("same.eq(zero | (", "same.eq(("),
    "padding takes the line's place": ("with m.If(~zero):", "with m.If(1):"),
    "padding is not zero": ("Mux(blank, 0, here", "Mux(0, 0, here"),
    "a zero for the word behind it": ("blank.eq(zero)", "blank.eq(0)"),
    "the fourth dimension stays": ("begins[: k + 1]", "begins[: min(k, 2) + 1]"),
    "the other pool": ("number % shape.streams % shape.pools == pool", "number % shape.streams % shape.pools != pool"),
    "one pool for both kinds of a channel": ("number % shape.streams % shape.pools", "number // shape.streams"),
    "a number of the other pool as it is": ("Mux(number >= size, number - size, number)", "number"),
    "written into both pools": ("(written >= pool * size) & ", ""),
    "a write of the other pool is waited for": ("- 1) == 0) & ~write", "- 1) == 0) & ~self.bd_write"),
    "the tile's word of the iteration": ("word == fmt.iteration_word", "word == 4"),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_noticed(name: str) -> None:
    module = copy_of(*BUGS[name])
    assert any(differences(module, TILE, seed, 700, Counter()) for seed in (1, 2, 3))


@pytest.mark.parametrize("name", some(MEMORY_BUGS, 4))
def test_a_planted_bug_in_a_memory_tile_is_noticed(name: str) -> None:
    module = copy_of(*MEMORY_BUGS[name])
    assert any(differences(module, MEMORY, seed, 1000, Counter()) for seed in (1, 2, 3))


@pytest.mark.parametrize("name", [
    "released before it is written", "no acquire", "no release", "no iteration", "a mask keeps what is written",
])  # fmt: skip
def test_a_planted_bug_shows_in_a_copy(name: str) -> None:
    module = copy_of(*BUGS[name])
    assert any(copied(module, seed, 600)[1] for seed in (1, 2, 3))
