# SPDX-License-Identifier: Apache-2.0
"""Data memory of an AIE-ML tile, cycle by cycle against a model of its own: grants, what is read, counters, contents.

Every port asks at random and holds what it asks for until it is granted; pins that mean nothing carry noise.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory as amaranth_memory
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml import memory
from nncosim.hdl.aie_ml.memory import DataMemory
from nncosim.regress.block_bench import clocked, simulate
from nncosim.regress.emission import emit_once
from nncosim.regress.planted import planted
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

WORDS, TOP = 512, "aie_ml_data_alone"

Port = tuple[str, str]
"""Who asks ("own", "east", "dma"), by which of its ports."""
NAMES: dict[Port, str] = {
    ("own", "lda"): "vector__0", ("own", "ldb"): "vector__1", ("own", "store"): "vector__2",
    ("east", "lda"): "vector__3", ("east", "ldb"): "vector__4", ("east", "store"): "vector__5",
    ("dma", "0"): "word__0", ("dma", "1"): "word__1", ("dma", "2"): "word__2", ("dma", "3"): "word__3",
}
CORES = [port for port in NAMES if port[0] != "dma"]
CHANNELS = [port for port in NAMES if port[0] == "dma"]
CLASSES = {"own": "conflicts__0", "east": "conflicts__1", "dma": "conflicts__2"}


class Request(NamedTuple):
    """`addr`: a beat of 256 bits; of a channel, a word of 128. `mask`: of a channel, which 32 bits are written."""

    addr: int
    write: bool
    data: int
    mask: int = 15


class Reference:
    """Who is granted, what is read, what is counted. `banks`: 8 lists of `words` numbers of 128 bits."""

    def __init__(self, words: int, banks: list[list[int]]):
        self.words, self.banks = words, banks
        self.last = ["east"] * 4
        self.refused: set[int] = set()  # pairs where a word made a core wait in the cycle before
        self.conflicts = dict.fromkeys(CLASSES, 0)

    def places(self, port: Port, request: Request) -> list[tuple[int, int]]:
        """(bank, row) of each word of an access, the low one first."""
        beat, halves = (request.addr // 2, [request.addr % 2]) if port[0] == "dma" else (request.addr, [0, 1])
        return [(2 * (beat // self.words) + half, beat % self.words) for half in halves]

    def pair(self, port: Port, request: Request) -> int:
        return self.places(port, request)[0][0] // 2

    def order(self, pair: int, urgent: bool) -> list[Port]:
        """All ports that may, the first one first."""
        last = self.last[pair]
        cores = [core for core in ("own", "east") if core != last] + [last]
        vectors = [(core, port) for core in cores for port in ("store", "lda", "ldb")]
        if pair not in self.refused:
            return [*CHANNELS, *vectors]
        return [*CHANNELS[:urgent], *vectors]  # who was refused holds its request: there is a vector

    def grants(self, asked: dict[Port, Request], urgent: bool) -> set[Port]:
        busy: set[int] = set()
        granted: set[Port] = set()
        for pair in range(4):
            for port in self.order(pair, urgent):
                if port not in asked or self.pair(port, asked[port]) != pair:
                    continue
                banks = {bank for bank, _ in self.places(port, asked[port])}
                if not banks & busy:
                    busy |= banks
                    granted.add(port)
        return granted

    def step(self, asked: dict[Port, Request], granted: set[Port], clear: bool) -> dict[Port, int]:
        """The end of the cycle. What was read."""
        read = {}
        pairs = {port: self.pair(port, request) for port, request in asked.items()}
        self.refused = {pairs[port] for port in granted if port[0] == "dma"} & {
            pair for port, pair in pairs.items() if port[0] != "dma"}  # fmt: skip
        for port in granted:
            places = self.places(port, asked[port])
            if asked[port].write:
                written = sum((1 << 32) - 1 << 32 * lane for lane in range(4) if asked[port].mask >> lane & 1)
                for half, (bank, row) in enumerate(places):
                    kept = self.banks[bank][row] & ~written
                    self.banks[bank][row] = kept | asked[port].data >> 128 * half & written
            else:
                read[port] = sum(self.banks[bank][row] << 128 * half for half, (bank, row) in enumerate(places))
            if port[0] != "dma":
                self.last[places[0][0] // 2] = port[0]
        for name in self.conflicts:
            refused = any(port[0] == name for port in asked if port not in granted)
            self.conflicts[name] = 0 if clear else self.conflicts[name] + refused
        return read


class Traffic:
    """Requests of all ports, in phases: how much each asks, of which pairs, of which rows."""

    def __init__(self, rng: random.Random, words: int):
        self.rng, self.words = rng, words
        self.waiting: dict[Port, Request] = {}
        self.left = 0

    def offer(self) -> dict[Port, Request]:
        """What is asked for in this cycle."""
        rng = self.rng
        if self.left == 0:
            self.left = rng.choice([5, 20, 60])
            most = rng.choice([0.02, 0.3, 1.0, 1.0])
            even = rng.random() < 0.3
            self.density = {port: most * (even or rng.choice([0, 0.2, 0.5, 1.0])) for port in NAMES}
            hot, apart = rng.sample(range(4), rng.choice([1, 1, 2, 4])), rng.random() < 0.4
            self.pairs = {port: [number % 4] if apart else hot for number, port in enumerate(NAMES)}
            self.halves = rng.choice([[0], [1], [0, 1]])
            self.rows = [0, self.words - 1, *(rng.randrange(self.words) for _ in range(rng.choice([0, 1, 8])))]
            self.writes = rng.choice([None, 0.0, 0.5])  # None: what a port is for
        self.left -= 1
        for port in NAMES:
            if port not in self.waiting and rng.random() < self.density[port]:
                self.waiting[port] = self.request(port)
        return self.waiting

    def request(self, port: Port) -> Request:
        rng = self.rng
        beat = rng.choice(self.pairs[port]) * self.words + rng.choice(self.rows)
        write = port[1] in ("store", "0", "1") if self.writes is None else rng.random() < self.writes
        if port[0] == "dma":
            mask = rng.choice([15, rng.randrange(16)])
            return Request(2 * beat + rng.choice(self.halves), write, rng.getrandbits(128), mask)
        return Request(beat, write, rng.getrandbits(256))


Read = Callable[[str], int]
Steps = Generator[dict[str, int], Read, None]
"""Gives the inputs of a cycle, then takes a look at the outputs before its end."""


def pins(rng: random.Random, asked: dict[Port, Request], words: int) -> dict[str, int]:
    """All inputs of the ports, noise where nothing is asked for."""
    out: dict[str, int] = {}
    for port, name in NAMES.items():
        bits = 128 if port[0] == "dma" else 256
        request = asked.get(port) or Request(rng.randrange(words * 8 * 128 // bits), rng.random() < 0.5, 0)
        data = request.data if port in asked and request.write else rng.getrandbits(bits)
        out |= {f"{name}__valid": int(port in asked), f"{name}__addr": request.addr,
                f"{name}__write": int(request.write), f"{name}__w_data": data}
        if bits == 128:
            out[f"{name}__w_mask"] = request.mask if port in asked and request.write else rng.randrange(16)
    return out


def differences(bad: list[str], reference: Reference, traffic: Traffic, cycles: int, seen: Tally[str]) -> Steps:
    """Random requests; what differs is added to `bad`."""
    rng = traffic.rng
    answers: dict[Port, int] = {}
    for cycle in range(cycles):
        asked, clear, urgent = dict(traffic.offer()), rng.random() < 0.02, rng.random() < 0.2
        read = yield pins(rng, asked, reference.words) | {"clear": int(clear), "urgent": int(urgent)}
        granted = reference.grants(asked, urgent)
        if (got := {port for port in NAMES if read(f"{NAMES[port]}__grant")}) != granted:
            bad.append(f"cycle {cycle}: of {asked} are granted {got}, expected {granted}")
        for port, data in answers.items():
            if (got_data := read(f"{NAMES[port]}__r_data")) != data:
                bad.append(f"cycle {cycle}: {port} reads {got_data:x}, expected {data:x}")
        if (counts := {name: read(port) for name, port in CLASSES.items()}) != reference.conflicts:
            bad.append(f"cycle {cycle}: conflicts {counts}, expected {reference.conflicts}")
        note(seen, reference, asked, granted, answers, clear)
        note_turns(seen, reference, asked, granted, urgent)
        answers = reference.step(asked, granted, clear)
        for port in granted:
            del traffic.waiting[port]


def note(seen: Tally[str], reference: Reference, asked: dict[Port, Request], granted: set[Port],
         answers: dict[Port, int], clear: bool) -> None:
    """What meets in this cycle."""
    for port in asked:
        seen[f"{port} {'granted' if port in granted else 'waits'} {'write' if asked[port].write else 'read'}"] += 1
        seen[f"{port} part of a word"] += port in granted and asked[port].write and asked[port].mask not in (0, 15)
        seen["read and asked again"] += port in answers
    banks = {port: {bank for bank, _ in reference.places(port, asked[port])} for port in asked}
    seen["both halves by words"] += any({2 * k, 2 * k + 1} <= set().union(
        *(banks[port] for port in granted if port[0] == "dma")) for k in range(4))
    seen["four pairs by vectors"] += sum(port[0] != "dma" for port in granted) == 4
    seen["all on one bank"] += len(asked) == 10 and bool(set.intersection(*banks.values()))
    seen["cleared as it counts"] += clear and len(granted) < len(asked)
    seen["nothing asked"] += not asked


def note_turns(
    seen: Tally[str], reference: Reference, asked: dict[Port, Request], granted: set[Port], urgent: bool
) -> None:
    """Who meets whom where it is the cores' turn."""
    pairs = {port: reference.pair(port, request) for port, request in asked.items()}
    for port, pair in pairs.items():
        if pair in reference.refused and port[0] == "dma":
            seen[f"{port[1]} in the cores' turn{', urgent' * urgent}"] += 1
        seen["an urgent word in the cores' turn"] += urgent and port == CHANNELS[0] and pair in reference.refused
        seen["refused in its turn"] += port[0] != "dma" and pair in reference.refused and port not in granted


NEEDED = {
    *(f"{port} {what} {how}" for port in NAMES for what in ("granted", "waits") for how in ("read", "write")),
    *(f"{port[1]} in the cores' turn{text}" for port in CHANNELS for text in ("", ", urgent")),
    "an urgent word in the cores' turn", "refused in its turn",
    *(f"{port} part of a word" for port in CHANNELS),
    "read and asked again", "both halves by words", "four pairs by vectors", "all on one bank", "cleared as it counts",
    "nothing asked",
}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(build(emit_once(DataMemory, WORDS, TOP), TOP, optimize="-O0")) as model:
        yield model


def contents(model: Model) -> list[list[int]]:
    return [[int.from_bytes(row.tobytes(), "little") for row in model.memory(f"bank{k}")] for k in range(8)]


def run(model: Model, steps: Steps) -> None:
    """From reset on."""
    for name, (direction, _) in model.ports.items():
        if direction == "in" and name not in ("clk", "rst"):
            model[name] = 0
    model.reset()
    clocked(model, steps)


def test_random_requests(model: Model, seed: int) -> None:
    seen: Tally[str] = Tally()
    bad: list[str] = []
    model.poison(seed)
    reference = Reference(WORDS, contents(model))
    run(model, differences(bad, reference, Traffic(random.Random(seed), WORDS), 8_000, seen))
    assert bad[:3] == []
    assert contents(model) == reference.banks
    assert {name for name in NEEDED if not seen[name]} == set()


def test_every_row(model: Model) -> None:
    """Each beat written by a store, read as words; each word written, read by loads: nothing lies on anything else."""
    rng, beats = random.Random(1), 4 * WORDS
    for writer, reader in ((("own", "store"), ("dma", "3")), (("dma", "0"), ("east", "lda"))):
        size = {port: 128 if port[0] == "dma" else 256 for port in (writer, reader)}
        value, got = rng.getrandbits(256 * beats), list[int]()

        def steps(writer: Port = writer, reader: Port = reader, size: dict[Port, int] = size, value: int = value,
                  got: list[int] = got) -> Steps:
            raw = value.to_bytes(32 * beats, "little")
            for port in (writer, reader):
                step = size[port] // 8
                for a in range(256 * beats // size[port]):
                    data = int.from_bytes(raw[a * step: (a + 1) * step], "little")
                    read = yield pins(rng, {port: Request(a, port == writer, data)}, WORDS)
                    assert read(f"{NAMES[port]}__grant")
                    if port == reader and a:
                        got.append(read(f"{NAMES[port]}__r_data"))
            read = yield pins(rng, {}, WORDS)
            got.append(read(f"{NAMES[reader]}__r_data"))

        run(model, steps())
        assert b"".join(word.to_bytes(size[reader] // 8, "little") for word in got) == value.to_bytes(32 * beats,
                                                                                                    "little")


# Nobody waits for ever

BOUNDS = {(0, 4): 5, (1, 4): 7, (2, 4): 11, (4, 4): 11, (1, 1): 11, (4, 1): 11}
"""Cycles that a vector access waits at most, by the channels that use its pair and how often each asks: every four
cycles, with words in a row, or in each, with words apart. Five vectors come before it, and of each channel an access in
four cycles: R = 6 + channels * ceil(R / 4), less the cycle of the grant; but never more than a word before each vector.
"""


def longest_waits(
    model: Model, rng: random.Random, channels: int, every: int, cycles: int, rest: float
) -> dict[Port, int]:
    """All of both cores' ports and some channels on one pair. Cores ask anew when all is granted, channels `every`
    cycles after they last did, both at once or, as often as `rest` says, later."""
    waits, since = dict.fromkeys(NAMES, -1), dict[Port, int]()
    asked: dict[Port, Request] = {}
    due = {port: rng.randrange(8) for port in CHANNELS[:channels]}
    pair = rng.randrange(4)

    def steps() -> Steps:
        for cycle in range(cycles):
            for core in ("own", "east"):
                if not any(port[0] == core for port in asked) and rng.random() >= rest:
                    asked.update({port: Request(pair * WORDS + rng.randrange(WORDS), port[1] == "store", cycle)
                                  for port in CORES if port[0] == core})
            for port, when in due.items():
                if cycle >= when and port not in asked and rng.random() >= rest:
                    asked[port] = Request(2 * pair * WORDS + rng.randrange(2 * WORDS), False, 0)
                    due[port] = cycle + every
            since.update({port: cycle for port in asked if port not in since})
            read = yield pins(rng, asked, WORDS)
            for port in [port for port in asked if read(f"{NAMES[port]}__grant")]:
                del asked[port]
                waits[port] = max(waits[port], cycle - since.pop(port))
        for port, start in since.items():
            waits[port] = max(waits[port], cycles - start)

    run(model, steps())
    return waits


@pytest.mark.parametrize(("channels", "every"), BOUNDS)
def test_no_vector_waits_longer_than_its_bound(model: Model, seed: int, channels: int, every: int) -> None:
    rng = random.Random(seed)
    longest = 0
    for rest in (0.0, 0.0, 0.0, 0.1, 0.5):
        waits = longest_waits(model, rng, channels, every, 400, rest)
        longest = max(longest, *(waits[port] for port in CORES))
        assert longest <= BOUNDS[channels, every], waits
        if not rest:  # the load is the largest there is: the last ports of both cores come late, and they take turns
            assert min(waits["own", "ldb"], waits["east", "ldb"]) >= 4, waits
            assert abs(waits["own", "store"] - waits["east", "store"]) <= 3, waits
    assert longest == BOUNDS[channels, every]


@pytest.mark.parametrize("channels", [1, 2])
def test_no_word_waits_longer_than_its_bound(model: Model, seed: int, channels: int) -> None:
    """Before each word one vector, and before the second channel's one of the first."""
    rng = random.Random(seed)
    for rest in (0.0, 0.1, 0.5):
        waits = longest_waits(model, rng, channels, 4, 400, rest)
        assert all(waits[port] <= bound for port, bound in zip(CHANNELS[:channels], (1, 3), strict=False)), waits


# Planted bugs, in Amaranth's simulator: none has to be built

class OnePort(wiring.Component):
    """The SRAM macro with one port and masks: what is read in the cycle of a write is inverted."""

    def __init__(self, depth: int, width: int, write_granularity: int, *, ports: int):
        assert ports == 1
        self.depth, self.width, self.granularity = depth, width, write_granularity
        super().__init__({"r_en": In(1), "w_en": In(width // write_granularity), "addr": In((depth - 1).bit_length()),
                          "w_data": In(width), "r_data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = amaranth_memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read, poison = store.write_port(granularity=self.granularity), store.read_port(), Signal()
        m.d.sync += poison.eq(self.w_en.any())
        m.d.comb += [
            write.en.eq(self.w_en), write.addr.eq(self.addr), write.data.eq(self.w_data),
            read.en.eq(self.r_en), read.addr.eq(self.addr), self.r_data.eq(Mux(poison, ~read.data, read.data)),
        ]
        return m


def simulated(module: ModuleType, seed: int, cycles: int = 250, words: int = 4) -> list[str]:
    """The first differences of a copy of the module, whose memories are small and all 0 at first."""
    module.Sram = OnePort  # type: ignore[attr-defined]
    dut, bad = module.DataMemory(words), list[str]()
    reference = Reference(words, [[0] * words for _ in range(8)])
    steps = differences(bad, reference, Traffic(random.Random(seed), words), cycles, Tally())

    def signal(name: str) -> Any:
        found: Any = dut
        for part in name.split("__"):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        return found

    async def bench(ctx: Any) -> None:
        inputs = next(steps)
        signals = {name: signal(name) for name in inputs}
        outputs = {name: signal(name) for name in CLASSES.values()}
        outputs |= {f"{port}__{name}": signal(f"{port}__{name}") for port in NAMES.values()
                    for name in ("grant", "r_data")}
        while not bad:
            for name, value in inputs.items():
                ctx.set(signals[name], value)
            try:
                inputs = steps.send(lambda name: ctx.get(outputs[name]))
            except StopIteration:
                return
            await ctx.tick()

    simulate(dut, bench)
    return bad


BUGS = {
    "the low half to both banks": ("vector.w_data.word_select(half,", "vector.w_data.word_select(0,"),
    "vectors write one half": (
        "word.w_mask, (1 << self.lanes) - 1)", "word.w_mask, (1 << self.lanes) - 1 if half else 0)"),
    "the half of a word from the wrong bit": ("Cat(port.addr[0], self._pair_of", "Cat(port.addr[1], self._pair_of"),
    "turns not kept": ("own_was_last.eq(~east_comes)", "own_was_last.eq(own_was_last)"),
    "a turn passes without a grant": ("with m.If(valid):", "with m.If(own.valid | east.valid):"),
    "east first after reset": ('Signal(name=f"own_was_last{pair}")', 'Signal(name=f"own_was_last{pair}", init=1)'),
    "a load before the store": ("_ORDER = (2, 0, 1)", "_ORDER = (0, 2, 1)"),
    "load b before load a": ("_ORDER = (2, 0, 1)", "_ORDER = (2, 1, 0)"),
    "data chosen by what is asked now": ("m.d.sync += taken.eq(place)", "m.d.comb += taken.eq(place)"),
    "the last beat of a pair in the next": ("return port.addr[-2:]", "return (port.addr + 1)[:-1][-2:]"),
    "rows one further": ("port.write, port.addr[:-2]", "port.write, (port.addr + port.addr[-1])[:-3]"),
    "cores not behind a word in the high half": ("~(asked[0].valid | asked[1].valid)", "~asked[0].valid"),
    "a vector that is not granted is done": ("valid.eq(free & (", "valid.eq((1 | free) & ("),
    "words behind the cores": (
        "may & (self._bank_of(port) == bank)", "may & (self._bank_of(port) == bank)"
        " & ~Cat(each.valid & (each.addr[-2:] == bank // 2) for each in self.vector).any()"),
    "words from the last port on": (
        "        return self._first(m, f\"word{bank}\", asked, goes)",
        "        return self._first(m, f\"word{bank}\", asked[::-1], goes[::-1])"),
    "conflicts of both cores counted as one's": ("self.vector[PORTS_PER_CORE:]", "self.vector"),
    "words written whole": ("Mux(word.valid, word.w_mask, (1 << self.lanes) - 1)", "(1 << self.lanes) - 1"),
    "vectors with a word's mask": ("Mux(word.valid, word.w_mask, (1 << self.lanes) - 1)", "word.w_mask"),
    "the first channel's mask for all": ("word.w_mask, (1 <<", "self.word[0].w_mask, (1 <<"),
    "masks the wrong way round": ("word.w_mask, (1 <<", "word.w_mask[::-1], (1 <<"),
    "the cores have no turn": ("may = ~turn |", "may = 1 | ~turn |"),
    "but before the first channel": ("if number == 0 else ~turn", "if number == 0 else 1"),
    "whose turn it is, waits": ("& ~free)", "& ~free & ~turn)"),
    "words have no turn": ("turn.eq((own.valid | east.valid) & ~free)", "turn.eq(own.valid | east.valid)"),
    "only the own core has a turn": ("turn.eq((own.valid | east.valid)", "turn.eq(own.valid"),
    "only the east core has a turn": ("turn.eq((own.valid | east.valid)", "turn.eq(east.valid"),
    "nothing is urgent": ("~turn | self.urgent", "~turn"),
    "all words are urgent": ("else ~turn", "else ~turn | self.urgent"),
    "clear does not win": ("m.d.sync += conflicts.eq(0)", "m.d.sync += conflicts.eq(conflicts)"),
}


def test_planted_bugs_are_noticed() -> None:
    same = "PAIRS = 4"
    assert simulated(planted(memory, same, same), 1) == []
    assert [name for name, (right, wrong) in BUGS.items()
            if not any(simulated(planted(memory, right, wrong), seed) for seed in (1, 2, 3))] == []
