# SPDX-License-Identifier: Apache-2.0
"""The controller: starts, loops, semaphores, what each instruction waits for, traps."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.formats import decode
from nncosim.hdl.j3dai import controller
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Opcode
from nncosim.hdl.j3dai.timing import CONTROLLER_CYCLES
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.block_bench import simulate
from nncosim.regress.j3dai_block_bench import any_word, corners, word
from nncosim.regress.j3dai_cluster_bench import instruction
from nncosim.regress.j3dai_cluster_model import Trap, executed
from nncosim.regress.j3dai_controller_model import LEVELS, ControllerInputs, ControllerModel
from nncosim.regress.j3dai_isa_coverage import NEEDS
from nncosim.regress.planted import planted
from nncosim.tb.coverage.points import InstructionCoverage

QUIET = dict(sequencer_busy=0.0, in_flight=0.0, set_busy=0.0)
NOISY = dict(sequencer_busy=0.5, in_flight=0.6, set_busy=0.6)


@dataclass
class ControllerLog:
    """What the controller did: (cycle, pc, opcode), pulses of `signal`, and how it ended."""

    executed: list[tuple[int, int, int]] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    trap: bool = False
    ended: bool = False
    starts: int = 0


def run(module: ModuleType, program: dict[int, int], pc: int, seed: int, noise: dict[str, float] = QUIET,
        starts: tuple[int, ...] = (2,), cycles: int = 2000, semaphores: float = 1.0,
        platform: J3dai = PLATFORM, coverage: InstructionCoverage | None = None) -> ControllerLog:
    """Run with the rest of the cluster busy at random; `starts` are the cycles of start pulses. `coverage`: gets what
    was executed, and what waited for what."""
    rng, dut, log = np.random.default_rng(seed), module.Controller(platform), ControllerLog()

    async def bench(ctx: Any) -> None:
        address = None
        for now in range(cycles):
            ctx.set(dut.start, now in starts)
            ctx.set(dut.start_pc, pc)
            ctx.set(dut.signal_in, int(rng.integers(256)) if rng.random() < semaphores else 0)
            ctx.set(dut.instruction, 0 if address is None else program.get(address, 0))
            state = {name: rng.random() < p for name, p in noise.items()}
            for name, value in state.items():
                ctx.set(getattr(dut, name), 3 * value if name == "set_busy" else value)
            _observe(ctx, dut, now, state, log)
            if coverage is not None:
                _waiting(ctx, dut, state, coverage)
            address = ctx.get(dut.pc) if ctx.get(dut.fetch) else None
            was_running = ctx.get(dut.running)
            await ctx.tick()
            log.starts += bool(ctx.get(dut.running) and not was_running)
            if was_running and not ctx.get(dut.running) and now > max(starts):
                log.ended = True
                break
        log.trap = bool(ctx.get(dut.trap))

    simulate(dut, bench)
    if coverage is not None:
        coverage.executed(program[at] for _, at, _ in log.executed)
    return log


def _waiting(ctx: Any, dut: Any, state: dict[str, bool], coverage: InstructionCoverage) -> None:
    """Points of `controller_coverage` for an instruction that is held up in this cycle."""
    if ctx.get(dut.armed) and not ctx.get(dut.running) and ctx.get(dut.waits):
        coverage.hit("start held by its semaphore")
    opcode = ctx.get(dut.ir) & 63
    if not ctx.get(dut._execute) or ctx.get(dut.executes) or opcode not in set(Opcode):
        return
    for name in NEEDS.get(Opcode(opcode), ("sequencer_busy",)):
        if state[name]:
            coverage.hit(f"{Opcode(opcode).name} held by {name}")
    if opcode == Opcode.WAIT and ctx.get(dut.waits):
        coverage.hit("WAIT held by its semaphore")


def _observe(ctx: Any, dut: Any, now: int, state: dict[str, bool], log: ControllerLog) -> None:
    executes = ctx.get(dut.executes)
    if ctx.get(dut.signal):
        log.signals.append(ctx.get(dut.signal).bit_length() - 1)
    if not executes:
        return
    opcode = executes.bit_length() - 1
    log.executed.append((now, ctx.get(dut.pc), opcode))
    for name in NEEDS.get(Opcode(opcode), ("sequencer_busy",)):
        if state[name]:
            log.early.append(f"cycle {now}: opcode {opcode} with {name}")


def interpret(program: dict[int, int], pc: int) -> tuple[list[tuple[int, int]], bool]:
    """(pc, opcode) of every instruction in order, and whether it ends in a trap."""
    order: list[tuple[int, int]] = []
    try:
        order.extend((at, int(opcode)) for at, opcode, _ in executed(lambda at: program.get(at, 0), pc, 5000))
    except Trap:
        return order, True
    return order, False


def nested(rng: np.random.Generator, depth: int) -> list[int]:
    """Random instructions with loops up to `depth` deep; no two loops end on the same one."""
    kinds = [Opcode.NOP, Opcode.SETW, Opcode.FENCE, Opcode.SIGNAL, Opcode.WAIT, Opcode.LDP, Opcode.SETO]
    body = []
    for _ in range(int(rng.integers(1, 4))):
        if depth and rng.random() < 0.6:
            inner = nested(rng, depth - 1)
            body += [instruction(Opcode.LOOP, count=int(rng.integers(1, 4)), body=len(inner)), *inner]
        kind = kinds[int(rng.integers(len(kinds)))]
        body.append(instruction(kind, semaphore=int(rng.integers(8))) if kind in (Opcode.WAIT, Opcode.SIGNAL)
                    else instruction(kind))
    return body


def random_program(seed: int) -> tuple[dict[int, int], int]:
    """A program that may wrap around the end of the instruction memory, and where it starts."""
    rng = np.random.default_rng(seed)
    pc = int(rng.choice([0, 500, 509, int(rng.integers(512))]))
    words = [*nested(rng, 4), instruction(Opcode.HALT)]
    return {(pc + k) % 512: word for k, word in enumerate(words)}, pc


def differences(module: ModuleType, seed: int, noise: dict[str, float]) -> list[str]:
    program, pc = random_program(seed)
    want, _ = interpret(program, pc)
    log = run(module, program, pc, seed, noise, cycles=40 * len(want) + 200)
    bad = list(log.early)
    if [(at, opcode) for _, at, opcode in log.executed] != want:
        bad.append(f"order: {log.executed[:20]}, expected {want[:20]}")
    signals = [decode(INSTRUCTIONS[Opcode.SIGNAL], program[at] & 511)["semaphore"]
               for at, op in want if op == Opcode.SIGNAL]
    if log.signals != signals:
        bad.append(f"signals {log.signals}, expected {signals}")
    if log.trap or not log.ended:
        bad.append("trapped or did not end")
    return bad


@pytest.mark.parametrize("seed", range(8))
def test_order_and_waits(seed: int) -> None:
    assert not differences(controller, seed, NOISY), f"seed {seed}"


def test_an_instruction_takes_three_cycles() -> None:
    words = [instruction(Opcode.LOOP, count=6, body=3), instruction(Opcode.SETW), instruction(Opcode.NOP),
             instruction(Opcode.SETO), instruction(Opcode.HALT)]
    cycles = [now for now, _, _ in run(controller, dict(enumerate(words)), 0, 3).executed]
    assert len(cycles) == 20 and set(np.diff(cycles)) == {CONTROLLER_CYCLES}


@pytest.mark.parametrize("instruction_word", [
    0, 7, 15, 18, 63, instruction(Opcode.LOOP, count=0, body=3), instruction(Opcode.LOOP, count=3, body=0),
])
def test_traps(instruction_word: int) -> None:
    log = run(controller, {5: instruction(Opcode.NOP), 6: instruction_word, 7: instruction(Opcode.HALT)}, 5, 1)
    assert log.trap and [at for _, at, _ in log.executed] == [5]


def test_fifth_loop_traps() -> None:
    program = {k: instruction(Opcode.LOOP, count=2, body=100 - k) for k in range(5)}
    log = run(controller, program, 0, 1)
    assert log.trap and len(log.executed) == 4


def test_arming_an_armed_cluster_traps() -> None:
    program = {0: instruction(Opcode.HALT)}
    assert run(controller, program, 0, 1, starts=(2, 6), cycles=12, semaphores=0.0).trap
    assert not run(controller, program, 0, 1, starts=(2, 30), cycles=60).trap


def test_start_waits_for_its_semaphore() -> None:
    log = run(controller, {0: instruction(Opcode.HALT)}, 0, 1, cycles=50, semaphores=0.0)
    assert not log.starts and not log.executed


@pytest.mark.parametrize("pes, distance", [(4, 4), (8, 3), (16, 3)])
def test_ldp_waits_for_the_records_of_the_one_before(pes: int, distance: int) -> None:
    """16 words are so many lines, one a cycle; with few PEs that takes longer than an instruction."""
    words = [instruction(Opcode.LDP, pset=k & 1, base=16 * k) for k in range(4)]
    program = dict(enumerate([*words, instruction(Opcode.HALT)]))
    log = run(controller, program, 0, 1, platform=PLATFORM.with_parameters(pes_per_ncb=pes))
    cycles = [cycle for cycle, _, opcode in log.executed if opcode == Opcode.LDP]
    assert [b - a for a, b in pairwise(cycles)] == [distance] * 3


def test_semaphores_saturate_and_count() -> None:
    """600 increments give 255 takes, no more."""
    words = [instruction(Opcode.LOOP, count=600, body=1), instruction(Opcode.NOP),
             instruction(Opcode.LOOP, count=255, body=1),
             instruction(Opcode.WAIT, semaphore=2), instruction(Opcode.WAIT, semaphore=2), instruction(Opcode.HALT)]
    dut, takes = controller.Controller(PLATFORM), []

    async def bench(ctx: Any) -> None:
        address = 0
        for now in range(4200):
            ctx.set(dut.start, now == 1)
            ctx.set(dut.signal_in, 0x84 if 3 <= now < 603 else 0)
            ctx.set(dut.instruction, words[address] if address < len(words) else 0)
            address = ctx.get(dut.pc) if ctx.get(dut.fetch) else 99
            takes.append(ctx.get(dut.executes) >> Opcode.WAIT & 1)
            await ctx.tick()
        assert ctx.get(dut.running) and ctx.get(dut.waits) and ctx.get(dut.waited) == 2

    simulate(dut, bench)
    assert sum(takes) == 255


EPISODES = 48
MEETINGS = (
    "WAIT and increment at 1", "WAIT and increment at 255", "WAIT and other increments", "WAIT at its increment",
    "begin and increment", "begin without increment", "armed as it begins", "armed as it waits", "armed as it halts",
    "armed as it traps", "armed while running", "begins in the cycle after HALT", "armed and incremented", "saturated",
    "HALT in a loop", "HALT in all loops", "trap", "trap at the fifth level", "end of a turn", "start while trapped",
    "pc wraps",
)  # fmt: skip


def any_program(rng: np.random.Generator, level: int) -> list[int]:
    """A full IMEM of instructions with fields at their extremes; few end it, and very few trap. Level 2: no loops.

    There two semaphores are waited for all the time, so that one too many or too few of them shows soon.
    """
    kinds = [Opcode.NOP, Opcode.WAIT, Opcode.WAIT, Opcode.SIGNAL, Opcode.LDP, Opcode.LDP, Opcode.FENCE, Opcode.MAC,
             Opcode.SETB, Opcode.LOOP, Opcode.LOOP, Opcode.LOOP, Opcode.HALT]
    words: list[int] = []
    if level == 2:
        kinds = [Opcode.NOP, Opcode.SIGNAL, Opcode.LDP, Opcode.HALT, *[Opcode.WAIT] * 6]
    for _ in range(512):
        opcode = kinds[int(rng.integers(len(kinds)))]
        fields = corners(rng, opcode)
        if opcode == Opcode.WAIT and level == 2:
            fields["semaphore"] = int(rng.choice([2, 2, 2, 7]))
        if opcode == Opcode.LOOP and rng.random() < 0.97:
            fields["count"] = int(rng.choice([1, 2, 3, 65535, 1 + (1 << int(rng.integers(1, 16)))]))
            fields["body"] = int(rng.choice([1, 2, 4, 9, 511])) if level else int(rng.integers(30, 500))
        high = int(rng.integers(1 << 20)) << 44 if opcode != Opcode.MAC else 0  # bits that no field has
        unknown = level < 2 and rng.random() < 0.01
        words.append(any_word(rng) & ~63 | len(words) % 64 if unknown else word(opcode, fields) | high)
    return words


def _meet(rng: np.random.Generator, model: ControllerModel, i: ControllerInputs, loops: bool) -> None:
    """Often lets events meet: an increment and what takes it, arming and the end of a program, or a trap.

    With `loops` also those of the loop stack: it fills, and programs end with a full one.
    """
    opcode, fault, _ = model.executes(i)
    if model.stage == "execute" and model.word & 63 == Opcode.WAIT and rng.random() < 0.4:
        i.signal_in |= 1 << (model.word >> 6 & 7)
    if model.begins() and rng.random() < 0.5:
        i.signal_in |= 128
    if opcode == Opcode.HALT or fault or model.trap:
        i.start = not model.armed and rng.random() < 0.5
    if i.start and rng.random() < 0.5:
        i.signal_in |= 128
    if model.stage == "decode" and loops and rng.random() < 0.25:
        if len(model.stack) == LEVELS and rng.random() < 0.5:
            i.instruction = instruction(Opcode.HALT)
        else:
            i.instruction = instruction(Opcode.LOOP, count=2, body=60) if rng.random() < 0.9 else 0


def model_differences(module: ModuleType, pes: int, seed: int, episodes: int = EPISODES
                      ) -> tuple[list[str], ControllerModel]:
    """Every output in every cycle; programs end, trap, are armed again, and are reset in the middle of anything."""
    rng, model, bad = np.random.default_rng(seed), ControllerModel(pes), []
    dut = module.Controller(PLATFORM.with_parameters(pes_per_ncb=pes, dmpa_bits=512))

    programs = [any_program(rng, level) for level in range(3)]

    async def bench(ctx: Any, reset: Any) -> None:
        nonlocal model
        for episode in range(episodes):
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            full = episode % 12 == 1  # the semaphores go to their greatest value
            model, program = ControllerModel(pes, seen=model.seen), programs[2 if full else episode % 3]
            dense = 0.97 if full else (0.1, 0.7, 0.004)[episode % 3]  # how often a semaphore is incremented
            starts, noise = (0.05, 0.3, 0.01)[episode // 3 % 3], (0.0, 0.5)[episode % 2]
            pcs, patience, address = [0, 509, 511, int(rng.integers(512))], 0, None
            for _ in range(700 if full else 200):
                i = ControllerInputs(
                    start=bool(rng.random() < starts * (1 if not model.armed or model.begins() else 0.02)),
                    start_pc=int(rng.choice(pcs)), signal_in=sum(1 << k for k in range(8) if rng.random() < dense),
                    sequencer_busy=bool(rng.random() < noise), in_flight=bool(rng.random() < noise),
                    set_busy=int(rng.integers(4)) if rng.random() < noise else 0,
                    instruction=any_word(rng) if address is None else int(program[address]))
                _meet(rng, model, i, program is not programs[2])
                for name in vars(i):
                    ctx.set(getattr(dut, name), getattr(i, name))
                want = model.outputs(i)
                got = {name: ctx.get(getattr(dut, name)) for name in want}
                if got != want:
                    bad.append(f"episode {episode}: got {got}, expected {want}")
                    return
                address = model.pc if model.stage == "fetch" else None
                model.step(i)
                await ctx.tick()
                patience = patience + 1 if model.trap else 0
                if patience > 20:
                    break

    simulate(dut, bench, reset=True)
    return bad, model


@pytest.mark.parametrize("pes", [4, 8, 16])
def test_every_output_in_every_cycle(pes: int, seed: int) -> None:
    seen: Counter[str] = Counter()
    for offset in range(4):  # until all that can meet has met
        bad, model = model_differences(controller, pes, seed + 100 * offset)
        assert not bad, f"seed {seed + 100 * offset}: {bad[0]}"
        seen += model.seen
        if all(seen[what] for what in MEETINGS):
            return
    assert not [what for what in MEETINGS if not seen[what]], seen


def turns(module: ModuleType, count: int) -> int:
    """How often the body of a loop is executed, of the first 12."""
    words = [instruction(Opcode.LOOP, count=count, body=1), instruction(Opcode.NOP), instruction(Opcode.HALT)]
    log = run(module, dict(enumerate(words)), 0, 1, cycles=6 + 3 * 13)
    return sum(pc == 1 for _, pc, _ in log.executed[:13])


def test_every_bit_of_a_count(bits: int = 16) -> None:
    for bit in range(bits):
        assert turns(controller, 1 + (1 << bit)) == min(12, 1 + (1 << bit)), f"bit {bit}"
    assert turns(controller, (1 << bits) - 1) == 12


def test_planted_short_count_is_noticed() -> None:
    module = planted(controller, "left = Array(Signal(16, name", "left = Array(Signal(15, name")
    assert turns(module, 1 + (1 << 15)) == 1


@pytest.mark.parametrize("right, wrong", [
    ("with m.Elif(taken & ~self.signal_in[k]):", "with m.Elif(taken):"),
    ("with m.If(self.signal_in[k] & ~taken & ~self.lost[k]):", "with m.If(self.signal_in[k] & ~self.lost[k]):"),
    ("overrun = self.start & self.armed & ~begins", "overrun = self.start & self.armed"),
    ("            m.d.sync += depth.eq(0)", "            m.d.sync += depth.eq(depth)"),
    ("(which == k)) | (self._begins if k == START_SEMAPHORE else 0)", "(which == k))"),
], ids=["increment and WAIT", "WAIT and increment", "armed as it begins", "loops of the run before", "start semaphore"])
def test_planted_bug_is_noticed_in_its_cycle(right: str, wrong: str) -> None:
    assert model_differences(planted(controller, right, wrong), 8, 1)[0]


@pytest.mark.parametrize("right, wrong", [
    ("left[depth].eq(fields.count - 1)", "left[depth].eq(fields.count)"),
    ("last[depth].eq(self.pc + fields.body)", "last[depth].eq(following + fields.body)"),
    ("m.d.comb += ready.eq(~self.sequencer_busy & ~self.in_flight)", "m.d.comb += ready.eq(~self.sequencer_busy)"),
    ("(depth == _LEVELS)", "(depth == _LEVELS - 1)"),
    ("with m.If(done & at_end & ~again):", "with m.If(done & at_end & again):"),
    ("~self.sequencer_busy & ~self.set_busy.", "~self.sequencer_busy | ~self.set_busy."),
], ids=["count", "body", "dropped ready", "levels", "pop", "parameter set"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    module = planted(controller, right, wrong)
    assert any(differences(module, seed, NOISY) for seed in range(6))
