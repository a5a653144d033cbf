# SPDX-License-Identifier: Apache-2.0
"""A bench for a core's way to its west neighbour's memory and locks: both ends, with the memory, the locks and all
others that use them.

The core is the bench, which issues loads, stores, ACQUIREs and RELEASEs at random and is held up at random.
"""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from nncosim.hdl.aie_ml import locks
from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.regress import aie_ml_lock_model as lock_model
from nncosim.regress.aie_ml_data_memory_model import CHANNELS, NAMES, OnePort, Port, Reference, Request
from nncosim.regress.aie_ml_neighbour_model import NONE, SLOTS, WEST, Expected, Issued
from nncosim.regress.block_bench import garbage, simulate

__all__ = ["differences"]

WORDS = 4
"""Of a bank: a beat of the neighbour is 11 bits, of which the memory here has 4, two of the pair and two of the row."""
OTHERS = (0, 2, 3, 4, 5)
"""Requesters of the locks that are not the east neighbour's core."""


class Boundary(wiring.Component):
    """Loads and store of a core, both ends of its way to the west, memory and locks there. What nothing here drives,
    the bench does.

    Args:
        parts: copies of the modules `access`, `neighbour`, `memory`, `locks`.
    """

    def __init__(self, parts: dict[str, ModuleType]):
        self.paths = [parts["access"].LoadPath(), parts["access"].LoadPath(), parts["access"].StorePath()]
        self.to_west, self.from_east = parts["neighbour"].ToWest(), parts["neighbour"].FromEast()
        self.memory, self.locks = parts["memory"].DataMemory(WORDS), parts["locks"].Locks()
        super().__init__({"hold": wiring.In(1), "advance": wiring.Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        west, east = self.to_west, self.from_east
        for name, part in (("west", west), ("east", east), ("memory", self.memory), ("locks", self.locks)):
            m.submodules[name] = part
        lock_waits = (west.acquire & ~west.lock_grant) | (west.release & ~west.lock_free)
        waiting = Cat(path.waiting for path in self.paths).any() | west.waiting | lock_waits
        m.d.comb += [
            self.advance.eq(~waiting & ~self.hold), west.advance.eq(self.advance),
            west.goes.eq(Cat(path.goes_west for path in self.paths)), west.w_data.eq(self.paths[2].west_data),
        ]
        for number, path in enumerate(self.paths):
            m.submodules[f"path{number}"] = path
            m.d.comb += [path.advance.eq(self.advance), west.addr[number].eq(path.west_addr)]
            port = self.memory.vector[3 + number]
            address = east.addr[number]
            m.d.comb += [
                port.valid.eq(east.valid[number]), port.addr.eq(Cat(address[:2], address[-2:])),
                port.write.eq(number == 2), east.grant[number].eq(port.grant),
            ]
            if number < 2:
                m.d.comb += [
                    path.came.eq(west.came[number]), path.came_data.eq(west.r_data[number]),
                    east.r_data[number].eq(port.r_data),
                ]
            else:
                m.d.comb += port.w_data.eq(east.w_data)
        wiring.connect(m, west.link, east.link)
        wiring.connect(m, east.request, self.locks.request[1])
        return m


class Stimulus:
    """Phases of everything that is random."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.left = rng, 0
        self.others: dict[Port, Request] = {}

    def phase(self) -> None:
        rng = self.rng
        if self.left == 0:
            self.left = int(rng.choice([10, 30, 60]))
            self.density = [float(rng.choice([0.1, 0.5, 1.0])) for _ in range(3)]
            self.in_west, self.few = float(rng.choice([0.5, 0.9, 1.0])), int(rng.choice([1, 2, 4]))
            self.hold, self.grant = float(rng.choice([0, 0, 0.3, 0.8])), float(rng.choice([0.5, 1.0]))
            self.cores, self.words = float(rng.choice([0, 0.3, 1.0])), float(rng.choice([0, 0.2, 1.0]))
            self.locks, self.others_lock = float(rng.choice([0, 0.1, 0.8])), float(rng.choice([0.1, 0.5]))
            self.rest = float(rng.choice([0, 0.5]))
            if rng.random() < 0.3:  # stores and releases, against all others
                self.density, self.in_west, self.few = [0.1, 0.1, 0.8], 1.0, 1
                self.hold, self.cores, self.words, self.locks = 0.0, 1.0, 1.0, 0.8
        self.left -= 1

    def addr(self) -> int:
        rng = self.rng
        pair, row = int(rng.integers(self.few)), int(rng.integers(WORDS))
        return pair << 9 | int(rng.integers(128)) << 2 | row | WEST * bool(rng.random() < self.in_west)

    def word(self, reference: lock_model.Reference) -> Issued:
        rng = self.rng
        rests = rng.random() < self.rest
        used = [not rests and rng.random() < each for each in self.density]
        loads = [(self.addr(), int(rng.integers(24))) if each else None for each in used[:2]]
        store = (self.addr(), int.from_bytes(rng.bytes(32), "little")) if used[2] else None
        return Issued(loads, store, self.lock(reference) if rng.random() < self.locks else None)

    def lock(self, reference: lock_model.Reference) -> lock_model.Request:
        """One that can be before long, as others do much the same."""
        request = lock_model.random_request(self.rng, reference, 2)
        if self.rng.random() < 0.5:
            return lock_model.Request(request.lock, LockOp.RELEASE, int(self.rng.integers(-2, 4)))
        return request._replace(value=request.value % 3) if request.op != LockOp.RELEASE else request

    def traffic(self) -> dict[Port, Request]:
        """Of the own core and the channels; who asks holds it."""
        rng = self.rng
        for port in NAMES:
            often = self.words if port in CHANNELS else self.cores if port[0] == "own" else 0
            if port in self.others or rng.random() >= often:
                continue
            write, beat = bool(rng.random() < 0.5), int(rng.integers(self.few)) << 2 | int(rng.integers(WORDS))
            if port in CHANNELS:
                data = int.from_bytes(rng.bytes(16), "little")
                self.others[port] = Request(2 * beat + int(rng.integers(2)), write, data, int(rng.integers(16)))
            else:
                self.others[port] = Request(beat, write, int.from_bytes(rng.bytes(32), "little"))
        return dict(self.others)


def own_data(addr: int) -> int:
    """What the core's own memory holds."""
    return addr * 0x1234567 + 1


class Bench:
    def __init__(self, dut: Boundary, seed: int, cycles: int, seen: Counter[str]):
        self.dut, self.cycles, self.seen = dut, cycles, seen
        self.rng, self.bad = np.random.default_rng(seed), list[str]()
        self.stimulus = Stimulus(self.rng)
        banks = Reference(WORDS, [[0] * WORDS for _ in range(8)])
        self.model = Expected(banks, lock_model.Reference(locks.LOCKS), seen)
        self.fresh: list[int | None] = [None, None]

    def complain(self, text: str) -> None:
        self.bad.append(f"cycle {self.model.cycle}: {text}")

    async def __call__(self, ctx: Any) -> None:
        word, granted = self.stimulus_word(), False
        for cycle in range(self.cycles):
            self.stimulus.phase()
            self.model.cycle = cycle
            self.issue(ctx, word, granted)
            grants = self.own_memory(ctx)
            asked, others = self.neighbour(ctx)
            waits = self.model.waits(word, granted)
            hold = bool(self.rng.random() < self.stimulus.hold)
            ctx.set(self.dut.hold, hold)
            advance = not hold and not waits - {f"own {number}" for number in grants}
            self.look(ctx, waits, advance)
            if self.bad:
                return
            granted = word.lock is not None and word.lock.op != LockOp.RELEASE and (granted or self.model.acquired())
            self.end(ctx, asked, others, grants, word, advance)
            if advance:
                word, granted = self.stimulus_word(), False
            await ctx.tick()

    def stimulus_word(self) -> Issued:
        if not self.stimulus.left:
            self.stimulus.phase()
        return self.stimulus.word(self.model.locks)

    def issue(self, ctx: Any, word: Issued, granted: bool) -> None:
        dut, rng = self.dut, self.rng
        for path, found in zip(dut.paths, (*word.loads, word.store), strict=True):
            ctx.set(path.valid, found is not None)
            garbage(ctx, rng, path.addr)
            if found is not None:
                ctx.set(path.addr, found[0])
        for number in range(2):
            ctx.set(dut.paths[number].dest, (word.loads[number] or (0, 0))[1])
        ctx.set(dut.paths[2].plain, word.store[1] if word.store else 0)
        lock = word.lock
        release = lock is not None and lock.op == LockOp.RELEASE
        ctx.set(dut.to_west.acquire, lock is not None and not release and not granted)
        ctx.set(dut.to_west.release, release)
        garbage(ctx, rng, dut.to_west.lock, dut.to_west.lock_value)
        if lock is not None:
            ctx.set(dut.to_west.lock, lock.lock)
            ctx.set(dut.to_west.lock_op, lock.op)
            ctx.set(dut.to_west.lock_value, lock.value)

    def own_memory(self, ctx: Any) -> set[int]:
        """Of the core's own memory: what it grants, and what it read."""
        grants = set()
        for number, path in enumerate(self.dut.paths):
            may = bool(self.rng.random() < self.stimulus.grant)
            ctx.set(path.grant, may)
            if number in self.model.own_left and may:
                grants.add(number)
        for number in range(2):
            garbage(ctx, self.rng, self.dut.paths[number].data)
            addr = self.fresh[number]
            if addr is not None:
                ctx.set(self.dut.paths[number].data, own_data(addr))
        return grants

    def neighbour(self, ctx: Any) -> tuple[dict[Port, Request], list[lock_model.Request | None]]:
        """What all others ask for there."""
        asked = self.stimulus.traffic()
        ports = [*self.dut.memory.vector, *self.dut.memory.word]
        for port, pin in zip(NAMES, ports, strict=True):
            if port[0] == "east":
                continue
            ctx.set(pin.valid, port in asked)
            garbage(ctx, self.rng, pin.addr, pin.w_data)
            if port in asked:
                for signal, value in ((pin.addr, asked[port].addr), (pin.write, asked[port].write),
                                      (pin.w_data, asked[port].data)):  # fmt: skip
                    ctx.set(signal, value)
                if port in CHANNELS:
                    ctx.set(pin.w_mask, asked[port].mask)
        others: list[lock_model.Request | None] = [None] * 6
        for number in OTHERS:
            if self.rng.random() < self.stimulus.others_lock:
                others[number] = self.stimulus.lock(self.model.locks)
            pin, request = self.dut.locks.request[number], others[number]
            ctx.set(pin.valid, request is not None)
            for name, value in request._asdict().items() if request else ():
                ctx.set(getattr(pin, name), value)
        setting = bool(self.rng.random() < 0.1)
        ctx.set(self.dut.locks.set.valid, setting)
        ctx.set(self.dut.locks.set.lock, int(self.rng.integers(2)))
        ctx.set(self.dut.locks.set.value, int(self.rng.integers(4)))
        return asked | self.model.east(), others

    def look(self, ctx: Any, waits: set[str], advance: bool) -> None:
        """What the core sees of it."""
        dut, model = self.dut, self.model
        for each in waits:
            self.seen[each] += 1
        if ctx.get(dut.advance) != advance:
            self.complain(f"the core {'waits' if advance else 'does not wait'}: {sorted(waits)}")
        for number, path in enumerate(dut.paths):
            if ctx.get(path.request) != (number in model.own_left):
                self.complain(f"{SLOTS[number]} asks the own memory")
        if ctx.get(dut.memory.conflicts[1]) != model.memory.conflicts["east"]:
            self.complain("conflicts of the east core")
        if [ctx.get(value) for value in dut.locks.values] != model.locks.values:
            self.complain("locks")
        for number in range(2) if advance else ():
            found, path = model.slot(number, 6), dut.paths[number]
            if ctx.get(path.write) != (found is not None):
                self.complain(f"{SLOTS[number]} writes")
            if found is None:
                continue
            west = found[0] >= WEST
            want = model.came[model.now - 6, number][1] if west else own_data(found[0])
            self.seen[f"{SLOTS[number]} {'west' if west else 'own'}"] += 1
            if (ctx.get(path.write_dest), ctx.get(path.write_data)) != (found[1], want):
                self.complain(f"{SLOTS[number]} of {found} writes {ctx.get(path.write_data):x}, not {want:x}")

    def end(
        self, ctx: Any, asked: dict[Port, Request], others: list[lock_model.Request | None], grants: set[int],
        word: Issued, advance: bool,
    ) -> None:  # fmt: skip
        model = self.model
        self.fresh = [None, None]
        for number in grants:
            model.own_left.discard(number)
            found = model.slot(number, 4)
            if number < 2 and found is not None:
                self.fresh[number] = found[0]
        granted = model.memory.grants(asked, False)
        self.note(asked, granted)
        read = model.memory.step(asked, granted, False)
        for port in granted:
            self.stimulus.others.pop(port, None)
        model.served(granted, read)
        self.serve_locks(ctx, others)
        model.ask_lock(word, advance)
        if advance:
            model.go_on(word)

    def serve_locks(self, ctx: Any, others: list[lock_model.Request | None]) -> None:
        model = self.model
        others[1] = model.lock_asked()
        setting = ctx.get(self.dut.locks.set.valid)
        number = None if setting else model.locks.served(others)
        if number is not None and others[number] is not None:
            model.locks.do(others[number])  # type: ignore[arg-type]
        if number == 1 and model.lock is not None:
            model.lock.served = model.cycle
            self.seen[f"{model.lock.request.op.name} {'at once' if model.lock.since == model.cycle else 'late'}"] += 1
        self.seen["a lock waits for others"] += others[1] is not None and number not in (1, None)
        if setting:
            model.locks.values[ctx.get(self.dut.locks.set.lock)] = ctx.get(self.dut.locks.set.value)

    def note(self, asked: dict[Port, Request], granted: set[Port]) -> None:
        """Who meets whom."""
        model = self.model
        pairs = {port: model.memory.pair(port, request) for port, request in asked.items()}
        for port, pair in pairs.items():
            if port[0] != "east" or port in granted:
                continue
            winners = {other[0] for other in granted if pairs[other] == pair}
            for name in winners:
                self.seen[f"{port[1]} behind {name}"] += 1
        for number in range(2):
            for before in (4, 5, 6):
                when = model.came.get((model.now - before, number), (NONE, 0))[0]
                self.seen[f"{SLOTS[number]} comes in t+{before}"] += when == model.cycle and model.west(number, before)
        both = [model.came.get((model.now - 6, number), (NONE, 0))[0] == model.cycle for number in range(2)]
        self.seen["both slots come"] += all(both)


def differences(parts: dict[str, ModuleType], seed: int, cycles: int, seen: Counter[str]) -> list[str]:
    """Those of the first cycle that has any."""
    parts["memory"].Sram = OnePort  # type: ignore[attr-defined]
    bench = Bench(Boundary(parts), seed, cycles, seen)
    simulate(bench.dut, bench.__call__)
    return bench.bad
