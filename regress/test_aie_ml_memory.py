# SPDX-License-Identifier: Apache-2.0
"""Data memory of an AIE-ML tile, cycle by cycle against a model of its own: grants, what is read, counters, contents.

Every port asks at random and holds what it asks for until it is granted; pins that mean nothing carry noise.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any

import pytest
from nncosim.hdl.aie_ml import memory
from nncosim.hdl.aie_ml.memory import DataMemory
from nncosim.regress.aie_ml_data_memory_model import CHANNELS, CLASSES, CORES, NAMES, OnePort, Port, Reference, Request
from nncosim.regress.block_bench import clocked, simulate
from nncosim.regress.emission import emit_once
from nncosim.regress.planted import planted
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

WORDS, TOP = 512, "aie_ml_data_alone"


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
