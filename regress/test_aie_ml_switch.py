# SPDX-License-Identifier: Apache-2.0
"""The stream switches of AIE-ML's tiles and their buffer, cycle by cycle against a model of its own.

Routes, gaps and back-pressure are random, and routes change while words are inside; pins that mean nothing carry noise.
Outputs are looked at twice a cycle, before and after the inputs change: no way leads from one to the other. Apart from
the model: what comes in goes out, once and in order; how long it takes; a word that waits does not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml import stream, switch
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS, TILE_PORTS
from nncosim.hdl.aie_ml.switch import StreamSwitch
from nncosim.regress.block_bench import corner, garbage, simulate
from nncosim.regress.planted import planted, some


class Kind(NamedTuple):
    """How many slaves there are, and masters; the first `dma` masters go to the tile's own DMA."""

    ports: int
    dma: int

    def switch(self, module: ModuleType = switch) -> StreamSwitch:
        made: StreamSwitch = module.StreamSwitch({2: TILE_PORTS, 6: MEMORY_PORTS}[self.dma])
        return made


CORE, MEMORY = Kind(20, 2), Kind(16, 6)
KINDS = pytest.mark.parametrize("kind", [CORE, MEMORY], ids=["core tile", "memory tile"])
WORD, ROOM = (1 << 32) - 1, 2
"""All ones; how many words a buffer holds."""

Buffer = list[int]


class Pin(NamedTuple):
    """What a master is told: whether it listens, to which slave."""

    listens: int
    source: int


def heard(pins: Sequence[Pin]) -> list[int | None]:
    """The slave that each master listens to."""
    return [pin.source if pin.listens and pin.source < len(pins) else None for pin in pins]


class Outputs(NamedTuple):
    """Of all slaves: ready; of all masters: the word that is valid, if one is."""

    ready: list[bool]
    words: list[int | None]


class Reference:
    """By the manual: two buffers behind each slave, one before each master, one on the link to a neighbour."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.ports = kind, range(kind.ports)
        self.entry, self.head, self.out, self.link = ([list[int]() for _ in self.ports] for _ in range(4))
        self.last = [self.out[k] if k < kind.dma else self.link[k] for k in self.ports]

    def outputs(self) -> Outputs:
        return Outputs([len(buffer) < ROOM for buffer in self.entry],
                       [buffer[0] if buffer else None for buffer in self.last])

    def step(self, offered: Sequence[int | None], taken: Sequence[bool], routes: Sequence[int | None]) -> None:
        """The end of a cycle: what was there, and what had room, when it began, decides."""
        moves: list[tuple[Buffer, list[Buffer]]] = []
        for s in self.ports:
            came = [] if (word := offered[s]) is None else [word]
            listeners = [self.out[k] for k in self.ports if routes[k] == s]
            moves += [(came, [self.entry[s]]), (self.entry[s], [self.head[s]])]
            moves += [(self.head[s], listeners)] if listeners else []
        moves += [(self.out[k], [self.link[k]]) for k in self.ports if k >= self.kind.dma]
        moves += [(self.last[k], []) for k in self.ports if taken[k]]
        goes = [(start, ends) for start, ends in moves if start and all(len(end) < ROOM for end in ends)]
        for word, ends in [(start.pop(0), ends) for start, ends in goes]:
            for end in ends:
                end.append(word)


# The RTL


class Flat(wiring.Component):
    """All inputs in one signal, all outputs in another: the simulator settles once for all of them."""

    def __init__(self, dut: StreamSwitch):
        self.dut, self.count = dut, len(dut.slave)
        super().__init__({"inputs": In(self.count * (1 + 32 + 1 + 1 + 5)), "outputs": Out(self.count * (1 + 1 + 32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        m.d.comb += [
            Cat(*(port.valid for port in dut.slave), *(port.ready for port in dut.master), *dut.listens,
                *(port.payload for port in dut.slave), *dut.source).eq(self.inputs),
            self.outputs.eq(Cat(*(port.ready for port in dut.slave), *(port.valid for port in dut.master),
                                *(port.payload for port in dut.master))),
        ]
        return m


def packed(values: Iterable[int], bits: int = 1) -> int:
    return sum(int(value) << bits * k for k, value in enumerate(values))


def inputs(noise: Sequence[int], offered: Sequence[int | None], ready: Sequence[bool], pins: Sequence[Pin]) -> int:
    words = [noise[s] if word is None else word for s, word in enumerate(offered)]
    n = len(pins)
    return (packed(word is not None for word in offered) | packed(ready) << n
            | packed(pin.listens for pin in pins) << 2 * n | packed(words, 32) << 3 * n
            | packed((pin.source for pin in pins), 5) << 35 * n)


def outputs(value: int, n: int) -> Outputs:
    return Outputs([bool(value >> k & 1) for k in range(n)],
                   [value >> 2 * n + 32 * k & WORD if value >> n + k & 1 else None for k in range(n)])


def put(ctx: Any, flat: Flat, rng: np.random.Generator, offered: Sequence[int | None], ready: Sequence[bool],
        pins: Sequence[Pin]) -> Outputs:
    """Set the inputs of this cycle. What comes out in it."""
    ctx.set(flat.inputs, inputs(rng.integers(1 << 32, size=flat.count).tolist(), offered, ready, pins))
    return outputs(ctx.get(flat.outputs), flat.count)


# Random traffic


class Traffic:
    """In phases: which master listens to whom, how often words come and go."""

    def __init__(self, rng: np.random.Generator, count: int):
        self.rng, self.count = rng, count
        self.offered: list[int | None] = [None for _ in range(count)]
        self.left = 0

    def phase(self) -> None:
        rng = self.rng
        self.left = int(rng.choice([5, 10, 30]))
        self.pins = self.routes()
        self.comes, self.goes = (
            np.minimum(rng.choice([0.1, 0.5, 1.0, 1.0]), rng.choice([0.1, 0.7, 1.0, 1.0, 1.0], self.count))
            for _ in range(2))

    def routes(self) -> list[Pin]:
        rng, count, style = self.rng, self.count, int(self.rng.integers(4))
        if style == 0:  # each to one
            sources = rng.permutation(np.arange(count))
        elif style == 1:  # one to all
            sources = np.full(count, rng.integers(count))
        elif style == 2:  # few to many
            sources = rng.choice(rng.integers(count, size=5), count)
        else:  # some to several
            sources = rng.integers(count, size=count)
        beyond = rng.random(count) < rng.choice([0.1, 0.3])  # slaves that do not exist
        sources = np.where(beyond, rng.integers(count, 32, size=count), sources)
        listens = rng.random(count) < rng.choice([0.5, 0.8, 1.0])
        return [Pin(int(on), int(source)) for on, source in zip(listens, sources, strict=True)]

    def next(self) -> list[bool]:
        """Words are offered until they are taken. Which masters are ready."""
        if self.left == 0:
            self.phase()
        self.left -= 1
        come, go = self.rng.random(self.count) < self.comes, self.rng.random(self.count) < self.goes
        for s in range(self.count):
            if self.offered[s] is None and come[s]:
                self.offered[s] = corner(self.rng, 32, often=0.05)
        return [bool(ready) for ready in go]


def differences(dut: StreamSwitch, kind: Kind, seed: int, cycles: int, seen: Counter[str]) -> list[str]:
    """From the model, in the first cycle that has any."""
    flat, rng, bad = Flat(dut), np.random.default_rng(seed), list[str]()

    async def bench(ctx: Any, reset: Any) -> None:
        reference, traffic, ports = Reference(kind), Traffic(rng, kind.ports), range(kind.ports)
        stay: list[int | None] = [None for _ in ports]
        for cycle in range(cycles):
            expected, before = reference.outputs(), outputs(ctx.get(flat.outputs), kind.ports)
            resets = rng.random() < 0.01
            ready = traffic.next()
            got = put(ctx, flat, rng, traffic.offered, ready, traffic.pins)
            if ctx.get(reset) != resets:
                ctx.set(reset, int(resets))
            for name in Outputs._fields:
                a, b = getattr(got, name), getattr(expected, name)
                bad.extend(f"cycle {cycle}: {name} {k} is {a[k]}, expected {b[k]}" for k in ports if a[k] != b[k])
            if before != got:
                bad.append(f"cycle {cycle}: an output follows an input")
            bad.extend(f"cycle {cycle}: master {k} changes {word}" for k, word in enumerate(stay)
                       if word is not None and got.words[k] != word)
            if bad:
                return
            note(seen, reference, traffic, ready, resets)
            await ctx.tick()
            reference.step(traffic.offered, ready, heard(traffic.pins))
            stay = [None if taken else word for word, taken in zip(got.words, ready, strict=True)]
            for s in ports:
                if got.ready[s]:
                    traffic.offered[s] = None
            if resets:
                reference, stay = Reference(kind), [None for _ in ports]

    simulate(flat, bench, reset=True)
    return bad


def note(seen: Counter[str], reference: Reference, traffic: Traffic, ready: list[bool], resets: bool) -> None:
    routes, going = heard(traffic.pins), 0
    for s in reference.ports:
        rooms = [len(reference.out[k]) < ROOM for k in reference.ports if routes[k] == s]
        waits = len(reference.head[s]) > 0
        going += waits and len(rooms) > 0 and all(rooms)
        seen["one of several listeners is full"] += waits and any(rooms) and not all(rooms)
        seen["a word goes to ten"] += waits and len(rooms) >= 10 and all(rooms)
        seen[f"slave {s} refuses"] += traffic.offered[s] is not None and len(reference.entry[s]) == ROOM
        seen[f"nobody listens to slave {s}"] += not rooms and len(reference.entry[s]) == ROOM
    seen["ten words go"] += going >= 10
    for k in reference.ports:
        seen[f"master {k} waits"] += len(reference.last[k]) == ROOM and not ready[k]
        seen[f"master {k} does not listen"] += not traffic.pins[k].listens
        seen[f"master {k} listens to nothing"] += bool(traffic.pins[k].listens) and routes[k] is None
    seen["reset"] += resets


@KINDS
@pytest.mark.parametrize("seed", range(2))
def test_random_routes(kind: Kind, seed: int) -> None:
    seen: Counter[str] = Counter()
    assert differences(kind.switch(), kind, seed, 800, seen) == []
    needed = {"one of several listeners is full", "a word goes to ten", "ten words go", "reset"}
    needed |= {name for k in range(kind.ports) for name in (
        f"slave {k} refuses", f"nobody listens to slave {k}", f"master {k} waits", f"master {k} does not listen",
        f"master {k} listens to nothing")}
    assert {name for name in needed if not seen[name]} == set()


# What comes in goes out: without the model


def undelivered(dut: StreamSwitch, kind: Kind, seed: int, phases: int) -> list[str]:
    """In each phase routes stay, and in the end all that is inside leaves; then a reset."""
    flat, rng, bad, ports = Flat(dut), np.random.default_rng(seed), list[str](), range(kind.ports)

    async def bench(ctx: Any, reset: Any) -> None:
        for phase in range(phases):
            traffic = Traffic(rng, kind.ports)
            traffic.phase()
            came, left = ([list[int]() for _ in ports] for _ in range(2))
            for cycle in range(100):
                traffic.left = 2
                if cycle == 60:
                    traffic.comes, traffic.goes = np.zeros(kind.ports), np.ones(kind.ports)
                ready = traffic.next()
                got = put(ctx, flat, rng, traffic.offered, ready, traffic.pins)
                for k, word in enumerate(got.words):
                    if word is not None and ready[k]:
                        left[k].append(word)
                for s, word in enumerate(traffic.offered):
                    if word is not None and got.ready[s]:
                        came[s].append(word)
                        traffic.offered[s] = None
                await ctx.tick()
            routes = heard(traffic.pins)
            for k, source in enumerate(routes):
                if left[k] != ([] if source is None else came[source]):
                    bad.append(f"phase {phase}: master {k} hears {source}, {left[k]}")
            for s in ports:
                if len(came[s]) > 2 * ROOM and s not in routes:
                    bad.append(f"phase {phase}: of slave {s}, that nobody listens to, come {len(came[s])} words")
                if traffic.offered[s] is not None and s in routes:
                    bad.append(f"phase {phase}: slave {s} stands")
            if bad:
                return
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)

    simulate(flat, bench, reset=True)
    return bad


@KINDS
def test_all_words_arrive_once_and_in_order(kind: Kind) -> None:
    assert undelivered(kind.switch(), kind, 1, 8) == []


# How long it takes


def late(dut: StreamSwitch, kind: Kind, words: int) -> list[str]:
    """Every slave to every master: all slaves at once, then one to all; so many words in a row, nobody holds them."""
    flat, rng, bad, ports = Flat(dut), np.random.default_rng(0), list[str](), range(kind.ports)
    rounds = [[(k + turn) % kind.ports for k in ports] for turn in ports] + [[s for _ in ports] for s in ports]

    async def bench(ctx: Any) -> None:
        for sources in rounds:
            comes = {s: [int(word) for word in rng.integers(1 << 32, size=words)] for s in set(sources)}
            pins = [Pin(1, source) for source in sources]
            for cycle in range(words + 5):
                offered = [comes[s][cycle] if s in comes and cycle < words else None for s in ports]
                got = put(ctx, flat, rng, offered, [True] * kind.ports, pins)
                if not all(got.ready):
                    bad.append(f"from {sources}: a slave is not ready")
                for k, source in enumerate(sources):
                    number = cycle - (3 if k < kind.dma else 4)
                    expected = comes[source][number] if 0 <= number < words else None
                    if got.words[k] != expected:
                        bad.append(f"from {source} to {k}: {got.words[k]} in cycle {cycle}, expected {expected}")
                await ctx.tick()
            if bad:
                return

    simulate(flat, bench)
    return bad


@KINDS
def test_latency_and_rate(kind: Kind) -> None:
    assert late(kind.switch(), kind, 8) == []


# The buffer alone, as it is in cascades, too


class Chain(wiring.Component):
    """Buffers behind each other."""

    def __init__(self, module: ModuleType, length: int, bits: int):
        self.buffers = [module.Elastic(bits) for _ in range(length)]
        super().__init__({name: self.buffers[0].signature.members[name] for name in ("i", "o")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules += self.buffers
        wiring.connect(m, wiring.flipped(self.i), self.buffers[0].i)
        for before, after in pairwise(self.buffers):
            wiring.connect(m, before.o, after.i)
        wiring.connect(m, self.buffers[-1].o, wiring.flipped(self.o))
        return m


def chain_differences(module: ModuleType, seed: int, length: int, bits: int, cycles: int) -> list[str]:
    dut, rng, bad = Chain(module, length, bits), np.random.default_rng(seed), list[str]()
    i: Any = dut.i
    o: Any = dut.o

    async def bench(ctx: Any, reset: Any) -> None:
        chain: list[Buffer] = [[] for _ in range(length)]
        word: int | None = None
        stay: int | None = None
        for cycle in range(cycles):
            if cycle % 20 == 0:
                comes, goes = rng.choice([0.2, 0.8, 1.0], 2)
            before = ctx.get(Cat(i.ready, o.valid, o.payload))
            resets, ready = rng.random() < 0.01, bool(rng.random() < goes)
            if word is None and rng.random() < comes:
                word = int.from_bytes(rng.bytes(bits // 8), "little")
            garbage(ctx, rng, i.payload)
            if word is not None:
                ctx.set(i.payload, word)
            ctx.set(Cat(i.valid, o.ready, reset), int(word is not None) | ready << 1 | int(resets) << 2)
            if before != ctx.get(Cat(i.ready, o.valid, o.payload)):
                bad.append(f"cycle {cycle}: an output follows an input")
            accepts, there = len(chain[0]) < ROOM, chain[-1][0] if chain[-1] else None
            got = ctx.get(o.payload) if ctx.get(o.valid) else None
            if (ctx.get(i.ready), got) != (accepts, there):
                bad.append(f"cycle {cycle}: ready {ctx.get(i.ready)}, word {got}, expected {accepts}, {there}")
            if stay is not None and got != stay:
                bad.append(f"cycle {cycle}: {stay} changes to {got}")
            if bad:
                return
            await ctx.tick()
            stay = None if ready or resets else got
            moves = [k for k in range(length - 1) if chain[k] and len(chain[k + 1]) < ROOM]
            if ready and got is not None:
                chain[-1].pop(0)
            for k, moved in [(k, chain[k].pop(0)) for k in moves]:
                chain[k + 1].append(moved)
            if accepts and word is not None:
                chain[0].append(word)
                word = None
            if resets:
                chain, word = [[] for _ in range(length)], None

    simulate(dut, bench, reset=True)
    return bad


@pytest.mark.parametrize("length, bits", [(1, 32), (2, 512), (4, 32)])
def test_buffers(length: int, bits: int) -> None:
    assert chain_differences(stream, length, length, bits, 1000) == []


# Planted bugs

BUFFER_BUGS = {
    "ready while both are there": ("self.i.ready.eq(~both)", "self.i.ready.eq(1)"),
    "ready when the first leaves": ("self.i.ready.eq(~both)", "self.i.ready.eq(~both | self.o.ready)"),
    "one word": ("self.i.ready.eq(~both)", "self.i.ready.eq(~some)"),
    "the later word first": ("second.eq(self.i.payload)]", "second.eq(first), first.eq(self.i.payload)]"),
    "a word changes while it waits": ("second.eq(self.i.payload)]", "second.eq(self.i.payload), first.eq(second)]"),
    "the second word takes the place of the first": (
        "[both.eq(1), second.eq(self.i.payload)]", "first.eq(self.i.payload)"),
    "the second word is lost": ("some.eq(both | self.i.valid)", "some.eq(self.i.valid)"),
    "the second word stays": ("both.eq(0)]", "both.eq(both)]"),
    "the first word goes again": ("first.eq(second)", "first.eq(first)"),
    "a word leaves before it is taken": ("~some | self.o.ready", "1"),
    "a word goes through in its cycle": ("self.o.valid.eq(some)", "self.o.valid.eq(some | self.i.valid)"),
    "no reset": ('Signal(name="some"), Signal(name="both")', 'register(1, "some"), register(1, "both")'),
}
SWITCH_BUGS = {
    "goes when one has room": (
        "Cat(heard & ~out.i.ready for heard, out in", "~Cat(heard & out.i.ready for heard, out in"),
    "again into a listener that has room": ("pick([*goes,", "pick([*(head.o.valid for head in heads),"),
    "leaves though nobody listens": ("& Cat(hears).any() &", "&"),
    "the last master is not waited for": ("== number) for k", "== number) & int(k < self.ports.masters - 1) for k"),
    "the next slave's word": ("pick(padded, self.source[number])", "pick(padded, (self.source[number] + 1)[:5])"),
    "hears without listening": ("self.listens[number] & going", "going"),
    "one buffer behind a slave": ("first.i)\n            wiring.connect(m, first.o, head.i)", "head.i)"),
    "no buffer on a link": ("number >= ports.local", "number >= ports.masters"),
    "a link to the DMA": ("number >= ports.local", "number >= ports.local - 1"),
    "a source of 20 is slave 0": ("*[Value.cast(0)] * beyond", "*goes[:beyond]"),
    "a master that stops listening keeps its words": (
        "wiring.connect(m, last.o, wiring.flipped(self.master[number]))",
        "m.d.comb += [self.master[number].valid.eq(last.o.valid & self.listens[number]), last.o.ready.eq("
        "self.master[number].ready & self.listens[number]), self.master[number].payload.eq(last.o.payload)]"),
    "goes though one has no room": ("heard & ~out.i.ready for", "heard & 0 for"),
    "goes when the first has room": ("heard & ~out.i.ready for", "heard & ~outs[0].i.ready for"),
    "waits for all masters": ("heard & ~out.i.ready for", "~out.i.ready for"),
    "waits for who does not listen": ("self.listens[k] & (", "1 & ("),
    "waits for the next slave's listeners": ("== number) for k", "== number + 1) for k"),
    "a source of four bits": ("pick(padded, self.source[number])", "pick(padded[:16], self.source[number][:4])"),
    "the next master's source": ("pick(padded, self.source[number])", "pick(padded, self.source[(number + 1) % 20])"),
    "no link from the first north master": ("number >= ports.local", "number > ports.local"),
    "slaves crossed": ("flipped(self.slave[number])", "flipped(self.slave[number ^ (number > 17)])"),
    "masters crossed": ("flipped(self.master[number])", "flipped(self.master[number ^ (number > 17)])"),
}


def spoilt(
    bug: Sequence[str], buffer: Sequence[str] = ("class Elastic", "class Elastic"), kind: Kind = CORE
) -> StreamSwitch:
    module = planted(switch, bug[0], bug[1])
    module.Elastic = planted(stream, buffer[0], buffer[1]).Elastic  # type: ignore[attr-defined]
    return kind.switch(module)


NO_BUG = "SOURCE_BITS = 5", "SOURCE_BITS = 5"


def test_the_copy_without_a_bug_is_right() -> None:
    assert differences(spoilt(NO_BUG), CORE, 1, 100, Counter()) == []


@pytest.mark.parametrize("name", BUFFER_BUGS)
def test_a_planted_bug_of_the_buffer_is_noticed(name: str) -> None:
    module = planted(stream, *BUFFER_BUGS[name])
    for length in (1, 3):
        assert any(chain_differences(module, seed, length, 32, 300) for seed in (1, 2, 3))


@pytest.mark.parametrize("name, message", [
    ("a word changes while it waits", "changes to"), ("the later word first", "changes to"),
    ("ready when the first leaves", "follows an input"), ("a word goes through in its cycle", "follows an input"),
])  # fmt: skip
def test_a_planted_bug_of_the_buffer_is_told(name: str, message: str) -> None:
    module = planted(stream, *BUFFER_BUGS[name])
    assert any(message in line for seed in (1, 2, 3) for line in chain_differences(module, seed, 1, 32, 300))


@pytest.mark.parametrize("name", some(SWITCH_BUGS, 6))
def test_a_planted_bug_is_noticed(name: str) -> None:
    assert any(differences(spoilt(SWITCH_BUGS[name]), CORE, seed, 300, Counter()) for seed in (1, 2, 3))


@pytest.mark.parametrize("name", ["a link to the DMA", "a source of 20 is slave 0", "slaves crossed"])
def test_a_planted_bug_in_a_memory_tile_is_noticed(name: str) -> None:
    bug = SWITCH_BUGS[name][0], SWITCH_BUGS[name][1].replace("17", "13")
    assert any(differences(spoilt(bug, kind=MEMORY), MEMORY, seed, 300, Counter()) for seed in (1, 2, 3))


def test_an_output_that_follows_an_input_is_told() -> None:
    bug = SWITCH_BUGS["a master that stops listening keeps its words"]
    assert any("follows" in line for seed in (1, 2, 3) for line in differences(spoilt(bug), CORE, seed, 300, Counter()))


def test_a_word_that_changes_while_it_waits_is_told() -> None:
    bug = BUFFER_BUGS["a word changes while it waits"]
    assert any("changes" in line for seed in (1, 2, 3)
               for line in differences(spoilt(NO_BUG, bug), CORE, seed, 300, Counter()))


@pytest.mark.parametrize("name", ["goes though one has no room", "again into a listener that has room"])
def test_a_planted_bug_shows_in_what_arrives(name: str) -> None:
    assert undelivered(spoilt(SWITCH_BUGS[name]), CORE, 1, 3)


@pytest.mark.parametrize("name", ["one buffer behind a slave", "a link to the DMA"])
def test_a_planted_bug_shows_in_the_latency(name: str) -> None:
    assert late(spoilt(SWITCH_BUGS[name]), CORE, 1)


def test_a_buffer_of_one_word_shows_in_the_rate() -> None:
    assert any("not ready" in line for line in late(spoilt(NO_BUG, BUFFER_BUGS["one word"]), CORE, 3))
