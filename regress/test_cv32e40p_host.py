# SPDX-License-Identifier: Apache-2.0
"""A host without its core, at J3DAI's addresses: every access of both buses and of the entry port, the memories' ends,
counters, cycle by cycle against plain arrays."""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import pytest
from nncosim.hdl import cv32e40p as product
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.regs import Counter
from nncosim.regress.cv32e40p_stub import CORE_PORTS, CORE_VERILOG
from nncosim.regress.planted import planted
from nncosim.regress.puppet import Puppet
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

DMEM, MMIO = 0x0010_0000, 0x1000_0000
"""By hand, from the manual."""
SIZES = [(8 * 1024, 1024 * 1024), (1024 * 1024, 8 * 1024)]
NO_STATE = 7


@dataclass(frozen=True)
class Given:
    """What the core, the registers and the entry port do in one cycle; `where`: what the data access goes to."""

    run: bool = False
    fetch: bool = False
    fetch_at: int = 0
    where: str = "dmem"
    access: int = DMEM
    request: bool = False
    write: bool = False
    enables: int = 0
    word: int = 0
    sleep: bool = False
    irq: bool = False
    in_frame: bool = False
    mmio_data: int = 0
    load: bool = False
    load_imem: bool = False
    load_at: int = 0  # a word's
    load_word: int = 0

    @property
    def to_dmem(self) -> bool:
        return self.request and self.where == "dmem"

    @property
    def loaded(self) -> str | None:
        """The memory that the entry port's word is written to in this cycle."""
        if not self.load or (self.to_dmem and not self.load_imem):
            return None
        return "imem" if self.load_imem else "dmem"


QUIET = Given()


class HostBench:
    """The host, and what its memories should hold."""

    def __init__(self, model: Model, imem: int, dmem: int):
        self.model, self.core = model, Puppet(model, "core", CORE_PORTS)
        self.words = {"imem": imem // 4, "dmem": dmem // 4}
        self.memories = {name: model.stack(name) for name in self.words}
        self.stored = {name: memory.copy() for name, memory in self.memories.items()}
        self.seen: Tally[object] = Tally()
        self.reset()

    def reset(self) -> None:
        """With noise on every input."""
        for name, (direction, bits) in CORE_PORTS.items():
            if direction == "out":
                self.core[name] = (1 << bits) - 1
        self.core["data_we_o"] = self.core["data_req_o"] = 0
        self.model.irq = self.model.in_frame = self.model.run = 1
        self.model.load_valid = 0
        self.model.reset()
        self.answer: tuple[str, int] | None = None  # where the access of the cycle before was to, what a read gives
        self.fetched: int | None = None
        self.state: int | None = None
        self.pc: int | None = None
        self.counters = [0] * 6
        self.before: Given | None = None

    def word(self, rng: random.Random, memory: str) -> int:
        """A word of a memory: its first, its last, one of a single address bit, any."""
        words = self.words[memory]
        return rng.choice([0, 1, words - 1, 1 << rng.randrange(words.bit_length() - 1), rng.randrange(words)])

    def given(self, rng: random.Random, run: bool) -> Given:
        """Anything that may be: the core fetches only when it runs, and then nothing is loaded where it fetches from.

        The entry port's word often lies where the core's data access goes, or where the last one went.
        """
        words, at = self.words["dmem"], self.word(rng, "dmem")
        where, access = rng.choice([
            ("dmem", DMEM + 4 * at), ("dmem", DMEM + 4 * at), ("mmio", MMIO + 4 * rng.randrange(64)),
            ("mmio", MMIO + DMEM + 4 * rng.randrange(64)), ("nothing", 4 * rng.randrange(words)),
            ("nothing", 0x8000_0000 + 4 * rng.randrange(64))])
        to_imem = not run and rng.random() < 0.5
        load_at = self.word(rng, "imem" if to_imem else "dmem")
        if not to_imem and rng.random() < 0.4:
            load_at = at if self.before is None or rng.random() < 0.5 else (self.before.access - DMEM) // 4 % words
        fetch_at = 4 * self.word(rng, "imem") + rng.choice([0, 0x8000_0000])  # no bit of it above the memory's counts
        return Given(
            run, run and rng.random() < 0.6, fetch_at, where, access, rng.random() < 0.7,
            rng.random() < 0.5, rng.randrange(16), rng.getrandbits(32), rng.random() < 0.4, rng.random() < 0.5,
            rng.random() < 0.5, rng.getrandbits(32), rng.random() < 0.6, to_imem, load_at, rng.getrandbits(32))

    def step(self, g: Given) -> None:
        """One cycle."""
        model, core = self.model, self.core
        core["instr_req_o"], core["instr_addr_o"], core["core_sleep_o"] = g.fetch, g.fetch_at, g.sleep
        core["data_req_o"], core["data_we_o"], core["data_be_o"] = g.request, g.write, g.enables
        core["data_addr_o"], core["data_wdata_o"] = g.access, g.word
        model.run, model.irq, model.in_frame, model.mmio_r_data = g.run, g.irq, g.in_frame, g.mmio_data
        model.load_valid, model.load_imem = g.load, g.load_imem
        model.load_addr, model.load_data = g.load_at, g.load_word
        model.eval()
        self._compare(g)
        self._edge(g)
        model.tick()
        for name, at in (("dmem", (g.access - DMEM) // 4), ("imem" if g.load_imem else "dmem", g.load_at)):
            if at in range(self.words[name]):
                found, expected = int(self.memories[name][at]), int(self.stored[name][at])
                assert found == expected, f"{name}[{at:#x}] is {found:#x}, not {expected:#x}: {g}"

    def _compare(self, g: Given) -> None:
        """Grants, the registers' port, answers to the cycle before, the entry port."""
        model, core, to_mmio = self.model, self.core, g.request and g.where == "mmio"
        assert (core["instr_gnt_i"], core["data_gnt_i"]) == (g.fetch, g.request)
        assert (model.mmio_r_en, model.mmio_w_en) == (to_mmio and not g.write, to_mmio and g.write)
        if g.where == "mmio":
            assert (model.mmio_addr, model.mmio_w_data) == (g.access & 0xFF, g.word)
        assert core["instr_rvalid_i"] == (self.fetched is not None)
        assert core["data_rvalid_i"] == (self.answer is not None)
        if self.fetched is not None:
            assert core["instr_rdata_i"] == self.fetched
        if self.answer is not None and self.answer[0] != "write":
            expected = g.mmio_data if self.answer[0] == "mmio" else self.answer[1]
            assert core["data_rdata_i"] == expected, self.answer
        assert (core["irq_i"], model.sleeping, core["fetch_enable_i"]) == (g.irq << 16, g.sleep, g.run)
        if g.load:
            assert model.load_ready == (g.loaded is not None), g
        if self.pc is not None:
            assert model.pc == self.pc
        assert model.probe_state == (NO_STATE if self.state is None else self.state)
        assert model.counters == sum(value << 32 * k for k, value in enumerate(self.counters))

    def _edge(self, g: Given) -> None:
        """What the clock's edge does."""
        self._meet(g)
        index, data = (g.access - DMEM) // 4, self.stored["dmem"]
        self.answer = None
        if g.request:
            read = int(data[index]) if g.where == "dmem" else 0
            self.answer = ("write", 0) if g.write else (g.where, read)
        if g.to_dmem and g.write:
            mask = sum(0xFF << 8 * k for k in range(4) if g.enables >> k & 1)
            data[index] = int(data[index]) & ~mask | g.word & mask
        self.fetched = int(self.stored["imem"][g.fetch_at // 4 % self.words["imem"]]) if g.fetch else None
        if g.loaded:
            self.stored[g.loaded][g.load_at] = g.load_word
        self.pc = g.fetch_at if g.fetch else self.pc
        if self.state is not None:
            self.counters[self.state] += 1
        self.state = (1 if g.in_frame else 5) if g.sleep or not g.run else 0  # waiting for data, idle, busy
        self.before = g

    def _meet(self, g: Given) -> None:
        access = "none" if not g.request else f"{g.where} {'write' if g.write else 'read'}"
        if not g.load:
            return
        memory = "imem" if g.load_imem else "dmem"
        same = g.to_dmem and not g.load_imem and g.load_at == (g.access - DMEM) // 4
        self.seen[memory, access, g.run] += 1
        self.seen["same word", access] += same
        for name, at in (("first", 0), ("last", self.words[memory] - 1)):
            self.seen[name, g.loaded] += at == g.load_at
        if (b := self.before) and g.loaded == "dmem" and b.to_dmem and not b.write:
            self.seen["behind a read of it"] += g.load_at == (b.access - DMEM) // 4
        if b and b.loaded is None and b.load:
            self.seen["behind one that waited"] += 1


ACCESSES = ["none", *(f"{where} {what}" for where in ("dmem", "mmio", "nothing") for what in ("read", "write"))]
NEEDED = {
    *(("imem", access, False) for access in ACCESSES),
    *(("dmem", access, run) for access in ACCESSES for run in (False, True)),
    ("same word", "dmem read"), ("same word", "dmem write"),
    *((which, memory) for which in ("first", "last") for memory in ("imem", "dmem")),
    "behind a read of it", "behind one that waited",
}
"""What must have met in one cycle: each load with each access, before the core runs and after."""


def session(bench: HostBench, seed: int) -> None:
    """From reset: the memories are loaded, then the core runs; every port in every cycle, and all that is stored."""
    rng = random.Random(seed)
    bench.reset()
    bench.model.eval()
    for number in range(3600):
        bench.step(bench.given(rng, number >= 1200))
    for name, words in bench.stored.items():
        assert np.array_equal(bench.memories[name], words), name
    assert all(bench.counters[k] for k in (0, 1, 5)) and not any(bench.counters[k] for k in (2, 3, 4))


def built(imem: int, dmem: int, module: ModuleType = product) -> BuiltModel:
    host = module.Cv32e40pHost(imem, dmem, module.HostMap(0, DMEM, MMIO), Counter)
    sources = emit_design(host, "host_alone") | {"core.v": CORE_VERILOG}
    return build(sources, "host_alone", optimize="-O0")


@pytest.fixture(scope="module", params=SIZES)
def bench(request) -> Iterator[HostBench]:
    with Model(built(*request.param), seed=1) as model:
        model.poison(1)
        yield HostBench(model, *request.param)


def test_every_access(bench, seed):
    """Both buses and the entry port at once, each cycle: what is granted, answered, stored, shown to the registers."""
    bench.seen.clear()
    session(bench, seed)
    assert NEEDED - {event for event, count in bench.seen.items() if count} == set()


def test_every_word_of_one_address_bit_is_loaded(bench, seed):
    """Both memories by the entry port alone, then fetched and read by the core: no two of the words are the same."""
    rng = random.Random(seed)
    bench.reset()
    places = {name: sorted({0, words - 1, *(1 << k for k in range(words.bit_length() - 1)),
                            *(words - 1 - (1 << k) for k in range(words.bit_length() - 1))})
              for name, words in bench.words.items()}
    for name, words in places.items():
        for at in words:
            bench.step(replace(QUIET, load=True, load_imem=name == "imem", load_at=at, load_word=rng.getrandbits(32)))
    for at in places["imem"]:
        bench.step(replace(QUIET, run=True, fetch=True, fetch_at=4 * at))
    for at in places["dmem"]:
        bench.step(replace(QUIET, run=True, request=True, access=DMEM + 4 * at))
    bench.step(replace(QUIET, run=True))


def test_writes_elsewhere_change_nothing(bench, seed):
    bench.reset()
    model, core, before = bench.model, bench.core, bench.memories["dmem"].copy()
    model.load_valid = 0
    rng = random.Random(seed)
    for _ in range(300):
        core["data_req_o"], core["data_we_o"], core["data_be_o"] = 1, 1, 15
        core["data_addr_o"] = rng.choice([0, MMIO, MMIO + DMEM]) + 4 * rng.randrange(bench.words["dmem"])
        core["data_wdata_o"] = rng.getrandbits(32)
        model.eval()
        model.tick()
    assert np.array_equal(bench.memories["dmem"], before)


def test_constants_and_reset(bench):
    """What the core is told once and for all; it is in reset exactly while the host is."""
    model, core = bench.model, bench.core
    for reset in (1, 0):
        for run in (1, 0):
            model.rst, model.run = reset, run
            model.eval()
            assert core["rst_ni"] == 1 - reset
            for name in ("boot_addr_i", "mtvec_addr_i", "dm_halt_addr_i", "hart_id_i", "dm_exception_addr_i",
                         "debug_req_i", "scan_cg_en_i"):
                assert core[name] == 0, name
            assert (core["fetch_enable_i"], core["pulp_clock_en_i"]) == (run, 1)


BUGS = {
    "the entry port never waits": ("self.load_ready.eq(self.load_imem | ~to_dmem)", "self.load_ready.eq(1)"),
    "it waits for reads only": ("self.load_imem | ~to_dmem)", "self.load_imem | ~to_dmem | data_we)"),
    "it waits with words for the other memory": ("self.load_imem | ~to_dmem)", "~to_dmem)"),
    "it waits for accesses of the registers": ("self.load_imem | ~to_dmem)", "self.load_imem | ~data_req)"),
    "the core's access gives way": ("dmem.w_data.eq(Mux(to_dmem,", "dmem.w_data.eq(Mux(to_dmem & ~self.load_valid,"),
    "its word goes where the core reads": (
        "Mux(data_we, data_be, 0)", "Mux(data_we, data_be, self.load_valid.replicate(4))"),
    "it goes to the core's address": ("dmem.w_addr.eq(Mux(to_dmem,", "dmem.w_addr.eq(Mux(data_req,"),
    "it goes to both memories": ("(self.load_valid & ~self.load_imem)", "self.load_valid"),
    "instruction memory gets all": ("self.load_valid & self.load_imem)", "self.load_valid)"),
    "three bytes of four": (".replicate(4)", ".replicate(3)"),
    "a short address": ("imem.w_addr.eq(self.load_addr)", "imem.w_addr.eq(self.load_addr[:10])"),
    "a word is written without being valid": ("(self.load_valid & ~self.load_imem)", "(~self.load_imem)"),
    "the core runs from reset": ("i_fetch_enable_i=self.run", "i_fetch_enable_i=Const(1)"),
    "one that does not run yet is busy": ("self.sleeping | ~self.run", "self.sleeping"),
    "an access that fails reads a word": ("Mux(from_mmio, self.mmio_r_data, 0)", "self.mmio_r_data"),
}


@pytest.mark.parametrize("bug", [
    pytest.param(bug, marks=[] if number < 5 else pytest.mark.slow) for number, bug in enumerate(BUGS)])
def test_planted_bug_is_noticed(bug):
    sizes = (8 * 1024, 8 * 1024)
    with Model(built(*sizes, planted(product, *BUGS[bug])), seed=1) as model:
        model.poison(1)
        with pytest.raises(AssertionError):
            session(HostBench(model, *sizes), 1)
