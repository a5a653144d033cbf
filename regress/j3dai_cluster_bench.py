# SPDX-License-Identifier: Apache-2.0
"""Bench of one J3DAI cluster: random programs, random transfers in their way, the RTL as a Verilated model."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nncosim.hdl.emit import emit_design
from nncosim.hdl.formats import decode, encode
from nncosim.hdl.j3dai.cluster import GROUP_MODULE, Cluster
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Agu, Drain, MacOp, Opcode, RequantRecord, Space
from nncosim.hdl.j3dai.ncb import NCB_MODULE
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.timing import DRAIN_AHEAD, LOAD_TO_CLUSTER
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_cluster_model import ClusterModel, Hazard, Words, executed
from nncosim.tb.coverage.points import InstructionCoverage
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

__all__ = [
    "ARMED", "BEGINS", "BENCH_PLATFORM", "ClusterCase", "ClusterRun", "bench_platform", "build_cluster",
    "count_program", "fresh_program", "instruction", "random_program", "run_program",
]  # fmt: skip

def bench_platform(ncbs: int = 16, pes: int = 8, shared: int = 1, ports: int = 2) -> J3dai:
    """A machine whose L1 and WMEM have as many words as the default one's: the programs use fixed word addresses."""
    return J3dai(ncbs_per_cluster=ncbs, pes_per_ncb=pes, l1_bytes=4096 * ncbs, wmem_bytes=2048 * ncbs,
                 ncbs_per_requantizer=shared, l1_ports=ports)


BENCH_PLATFORM = bench_platform()
ARMED, BEGINS = 3, 6
"""Cycles in which a program is armed, and in which its semaphore is taken."""
_INPUTS = 2048  # words of L1 from 0 up that programs read
_VOLATILE = 3584  # words of L1 from here up are the transfers'
_TABLE = 1024  # word of L1 where the look-up tables lie: a copy of 256 bytes a bank
_RECORDS = 1600  # words of WMEM from here up are requantization records, 16 a group
_GROUPS = 12
_FREE_WMEM = 1792  # words of WMEM from here up are the transfers'
_FREE_IMEM = 3584  # bytes of IMEM from here up are, too


def build_cluster(platform: J3dai = BENCH_PLATFORM) -> BuiltModel:
    """The cluster as a simulation; the NCB and its group are compiled once."""
    vlt = "".join(f'no_inline -module "{module}"\n' for module in (NCB_MODULE, GROUP_MODULE))
    return build(emit_design(Cluster(platform), "j3dai_cluster"), "j3dai_cluster", vlt=vlt, optimize="-O1")


def instruction(opcode: Opcode, **fields: Any) -> int:
    """An instruction word; enumeration members are accepted as values."""
    plain = {name: getattr(value, "value", value) for name, value in fields.items()}
    return encode(INSTRUCTIONS[opcode], opcode=int(opcode), **plain)


def _poke_instructions(imem: Words, words: Sequence[int]) -> None:
    raw = np.array(words, dtype="<u8").view(np.uint8)
    imem.reshape(-1)[:len(raw)] = raw


@dataclass
class ClusterCase:
    """Instructions with the memories before them, and the interpreter after them."""

    words: list[int]
    start: ClusterModel
    after: ClusterModel
    seed: int
    platform: J3dai

    @classmethod
    def of(cls, words: list[int], seed: int, execute: bool = True, group: int = 9,
           platform: J3dai = BENCH_PLATFORM) -> ClusterCase:
        """`words` and a HALT, with random memories; interpreted unless `execute` is false.

        The records at word 1600 of WMEM divide accumulators by about 2**(group + 1).
        """
        words = [*words, instruction(Opcode.HALT)]
        start = _memories(np.random.default_rng(seed), platform, group)
        _poke_instructions(start.imem, words)
        after = copy.deepcopy(start)
        if execute:
            after.run(0)
        return cls(words, start, after, seed, platform)


def fresh_program(program: ClusterCase) -> ClusterModel:
    """An interpreter that has not run the program yet."""
    return copy.deepcopy(program.start)


@dataclass
class _Writer:
    """Builds a program, each piece tried on the interpreter: pieces with hazards are fenced or dropped."""

    rng: np.random.Generator
    model: ClusterModel
    words: list[int] = field(default_factory=list)

    def add(self, body: list[int], count: int = 1) -> bool:
        """`body` once, or `count` times in a LOOP."""
        for fence in ([], [instruction(Opcode.FENCE)]):
            trial = copy.deepcopy(self.model)
            try:
                for word in fence + body * count:
                    opcode = Opcode(word & 63)
                    trial.execute(opcode, decode(INSTRUCTIONS[opcode], word))
            except Hazard:
                continue
            loop = [instruction(Opcode.LOOP, count=count, body=len(body))] if count > 1 else []
            self.words += fence + loop + body
            self.model = trial
            return True
        return False


def _records(rng: np.random.Generator, count: int, group: int | None) -> list[int]:
    """Groups of `count` records; group g divides accumulators by about 2**(g + 1), so that few results are clipped.

    With `group`, the first of them divides as that one would.
    """
    words: list[int] = []
    for number in range(_GROUPS):
        for _ in range(count):
            shift = int(rng.integers(20, 31))
            m = int(rng.integers(1 << shift, 2 << shift)) * (1 if rng.random() < 0.8 else -1)
            s = min(62, shift + (number if group is None or number else group) + 1)
            low, high = [(-128, 127), (0, 255), (-100, 90), (-256, 255)][int(rng.integers(4))]
            words.append(encode(RequantRecord, m=m, c=int(rng.integers(-1 << s, 1 << s)) * 4, s=s, lo=low, hi=high,
                                rounding=int(rng.integers(8)), wrap=len(words) % 7 == 3))
    return words


def _memories(rng: np.random.Generator, platform: J3dai, group: int | None = None) -> ClusterModel:
    p, size = platform, platform.word_bytes
    l1, wmem = (rng.integers(0, 256, (words, size), dtype=np.uint8) for words in (p.l1_words, p.wmem_words))
    raw = b"".join(word.to_bytes(16, "little") for word in _records(rng, size, group))
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    wmem[_RECORDS:_RECORDS + len(records)] = records
    imem = rng.integers(0, 256, (p.imem_words, size), dtype=np.uint8)
    return ClusterModel(l1, wmem, imem, p.pes_per_ncb, volatile=frozenset(range(_VOLATILE, p.l1_words)),
                        volatile_wmem=frozenset(range(_FREE_WMEM, p.wmem_words)))


def random_program(seed: int, pieces: int = 8, platform: J3dai = BENCH_PLATFORM) -> ClusterCase:
    """A program of about `pieces` MAC instructions, each with random registers."""
    rng = np.random.default_rng(seed)
    start = _memories(rng, platform)
    writer = _Writer(rng, copy.deepcopy(start))
    for pset in range(2):
        writer.add([instruction(Opcode.LDP, pset=pset, base=_RECORDS + 16 * int(rng.integers(_GROUPS)))])
    for _ in range(pieces):
        _random_piece(rng, writer, platform)
        if len(writer.words) > 380:
            break
    words = [*writer.words, instruction(Opcode.HALT)]
    for model in (start, writer.model):
        _poke_instructions(model.imem, words)
    return ClusterCase(words, start, writer.model, seed, platform)


def _random_piece(rng: np.random.Generator, writer: _Writer, platform: J3dai) -> None:
    """Registers, then one MAC, perhaps in a loop that moves both AGUs."""
    def pick(*values: int) -> int:
        return int(values[int(rng.integers(len(values)))])

    op = [MacOp.MAC, MacOp.MAC, MacOp.MAC, MacOp.ADD, MacOp.MAX, MacOp.TABLE][int(rng.integers(6))]
    size = platform.word_bytes
    depthwise, lanes = pick(0, 0, 1), pick(0, 1, 5, size - 2, size - 1)
    counts = [pick(0, 1, 2, 3), pick(0, 1, 3), pick(1, 1, 2)]
    width, height = pick(1, 7, 16, 30), pick(1, 5, 12)
    body = [
        instruction(Opcode.SETB, agu=Agu.A, rewind=pick(0, 1, 1), base=int(rng.integers(200, 900)),
                    x=pick(-2, -1, 0, 3, 9), y=pick(-1, 0, 0, 2)),
        instruction(Opcode.SETI, width=width, height=height, pstride=pick(1, 1, 1, 2, 2, 0, 3, -1, 8),
                    xpstep=pick(1, 1, 2, -1, 0), pad=int(rng.integers(-256, 256))),
    ]
    for d, count in enumerate([*counts, pick(1, 2, 3), pick(1, 2, 4), pick(0, 2, 7)]):
        body.append(instruction(Opcode.SETD, agu=Agu.A, dim=d, count=count, step=int(rng.integers(-30, 40)),
                                xstep=pick(-1, 0, 1, 2, 8), ystep=pick(0, 1, 0, -1)))
    body += _random_outputs(rng, pick)
    if op == MacOp.TABLE:
        body.append(instruction(Opcode.SETW, base=_TABLE + pick(0, 3, 200)))
    elif rng.random() < 0.6:
        body.append(instruction(Opcode.SETW, base=int(rng.integers(0, 1500))))
    if rng.random() < 0.5:
        spread = 0.5 * math.log2(math.prod(max(1, c) for c in counts) * (1 if depthwise else lanes + 1))
        group = int({MacOp.MAC: 6 + spread, MacOp.ADD: spread + 1}.get(op, 0))
        body.append(instruction(Opcode.LDP, pset=pick(0, 1), base=_RECORDS + 16 * min(group, _GROUPS - 1)
                                + pick(0, platform.banks - 3)))
    writer.add(body)
    lane = pick(0, 0, 3, size - 1)
    mac = instruction(Opcode.MAC, op=op, depthwise=depthwise, signed_a=pick(0, 1), first=pick(0, 1, 1),
                      last=pick(0, 1, 1, 1), advance=pick(0, 1), lane=lane & 15, lanes=lanes & 15,
                      lane_high=lane >> 4, lanes_high=lanes >> 4,
                      rewind_w=pick(0, 1), next_w=pick(0, 1), pset=pick(0, 1),
                      drain=Drain(pick(0, 0, 0, 1, 2, 3)), repeat=pick(0, 1, 2, 5, 12),
                      wide_x=pick(0, 1), wide_m=pick(0, 1))
    extra = [instruction(Opcode.NOP)] if rng.random() < 0.3 else []
    if rng.random() < 0.4:
        extra.append(instruction(Opcode.SIGNAL, semaphore=int(rng.integers(8))))
    if rng.random() < 0.4:
        moves = [instruction(Opcode.ADDB, agu=Agu.A, step=pick(-7, 1, 16), xstep=pick(0, 1, 8), ystep=pick(0, 1)),
                 instruction(Opcode.ADDW, step=pick(-3, 0, 9)),
                 instruction(Opcode.ADDB, agu=Agu.O, step=pick(40, 100, 13))]
        writer.add([mac, *extra, *moves[:pick(1, 2, 3)]], count=pick(2, 3)) or writer.add([mac, *extra])
    else:
        writer.add([mac, *extra])


def _random_outputs(rng: np.random.Generator, pick: Any) -> list[int]:
    words = [
        instruction(Opcode.SETB, agu=Agu.O, rewind=pick(0, 1), base=int(rng.integers(_INPUTS, 3000)),
                    x=pick(-3, 0, 0, 1)),
        instruction(Opcode.SETO, width=pick(1, 8, 13, 64), ostride=pick(0, 0, 1)),
    ]
    for d in range(3):
        words.append(instruction(Opcode.SETD, agu=Agu.O, dim=d, count=pick(0, 1, 2, 4), step=pick(8, 16, 13, 40, -8),
                                 xstep=pick(0, 8, 4)))
    return words


@dataclass
class ClusterRun:
    """What the RTL did."""

    l1: Words
    wmem: Words
    imem: Words
    signals: list[int]
    cycles: int  # with `running` high
    counters: list[int]
    trap: bool
    bad_stores: int
    stores: int
    loads: int
    states: list[int]  # the `Counter` of each cycle
    blocked: set[int]  # cycles with a STORE beat, or with one port a LOAD's in L1
    hosts: list[bool]  # whether a cycle is the host's, if nothing is armed


def _banks(model: Model, name: str, banks: int) -> list[Words]:
    return [model.memory(f"{name}.bank{k}", np.uint8) for k in range(banks)]


class _Transfers:
    """Random LOAD and STORE beats, issued by the DMPA's rules, each STORE checked when its words arrive."""

    def __init__(self, rng: np.random.Generator, program: ClusterCase, obey: bool):
        self.rng, self.after, self.start, self.obey = rng, program.after, program.start, obey
        self.shape = (program.platform.banks, program.platform.word_bytes)
        self.beats: dict[int, tuple[int, int, int, Words]] = {}
        self.expected: dict[int, Words] = {}
        self.stores = self.loads = self.bad = 0
        self.blocked: set[int] = set()
        self.last_load = -100
        self.one_port = program.platform.l1_ports == 1
        self.drains: list[bool] = []  # `drain_ahead` by cycle

    def cycle(self, model: Model, now: int, load: float, store: float) -> None:
        """Drive the transfer ports in cycle `now`."""
        if now in self.expected:
            got = np.frombuffer(model.rd_data.to_bytes(math.prod(self.shape), "little"), np.uint8).reshape(self.shape)
            self.bad += not np.array_equal(got, self.expected.pop(now))
        self.drains.append(bool(model.drain_ahead))
        beat = self.beats.pop(now, None)
        model.wr_valid = beat is not None
        if beat:
            model.wr_space, model.wr_addr, model.wr_mask, words = beat
            model.wr_data = int.from_bytes(words.tobytes(), "little")
            if self.one_port and beat[0] == Space.L1:
                self.blocked.add(now)
        if self.rng.random() < load:
            self._load(now, bool(model.drain_ahead))
        model.rd_valid = 0
        # A read now uses L1 in the next cycle, for which a drain was announced `DRAIN_AHEAD` cycles before.
        written = (now > DRAIN_AHEAD and self.drains[now + 1 - DRAIN_AHEAD]) or (beat and beat[0] == Space.L1)
        if self.rng.random() < store and not (self.one_port and written):
            self._store(model, now)

    def _load(self, now: int, drain: bool) -> None:
        """A beat issued in this cycle; it is at the cluster `LOAD_TO_CLUSTER` cycles later."""
        space = Space(int(self.rng.integers(3)))
        if drain and self.obey:
            return
        line, size = self.shape
        free = min(_FREE_IMEM // size, len(self.after.imem) - 2 * line)
        memory, first = {Space.L1: (self.after.l1, _VOLATILE), Space.WMEM: (self.after.wmem, _FREE_WMEM),
                         Space.IMEM: (self.after.imem, free)}[space]
        address, mask = int(self.rng.integers(first, len(memory) - line)), int(self.rng.integers(1, 1 << line))
        words = self.rng.integers(0, 256, self.shape, dtype=np.uint8)
        for i in range(line):
            if mask >> i & 1:
                memory[address + i] = words[i]
        self.beats[now + LOAD_TO_CLUSTER] = (int(space), address, mask, words)
        self.last_load = now if space == Space.L1 else self.last_load
        self.loads += 1

    def _store(self, model: Model, now: int) -> None:
        """Read words that no program writes; those of the transfers only when no LOAD is on its way."""
        line = self.shape[0]
        address = int(self.rng.integers(0, _INPUTS - line))
        memory = self.start.l1
        if now - self.last_load > DRAIN_AHEAD + 1 and self.rng.random() < 0.5:
            address, memory = int(self.rng.integers(_VOLATILE, len(self.start.l1) - line)), self.after.l1
        model.rd_valid, model.rd_addr = 1, address
        self.blocked.add(now)
        self.expected[now + 3] = memory[address:address + line].copy()
        self.stores += 1


def count_program(coverage: InstructionCoverage, program: ClusterCase) -> None:
    """Count the instructions that a program executes, in their order."""
    words = program.start.imem.reshape(-1).view("<u8")
    coverage.executed(int(words[pc]) for pc, _, _ in executed(lambda at: int(words[at])))


def run_program(built: BuiltModel, program: ClusterCase, *, load: float = 0.0, store: float = 0.0, obey: bool = True,
                max_cycles: int = 60_000, arrivals: Mapping[int, Sequence[int]] | None = None,
                coverage: InstructionCoverage | None = None) -> ClusterRun:
    """Run on the RTL with LOAD and STORE beats issued with these probabilities in each cycle.

    The cluster is armed in cycle `ARMED` and begins in `BEGINS`; `arrivals`: by semaphore, cycles from then on in which
    it is incremented. Inputs `in_frame` and `dmpa_idle` change all the time.
    The beats are also applied to ``program.after``. With `obey` false they ignore `drain_ahead`. `coverage`: gets
    what was executed, and the categories of the cycles.
    """
    with Model(built, seed=program.seed) as model:
        memories = {name: getattr(program.start, name) for name in ("l1", "wmem", "imem")}
        banks = program.platform.banks
        for name, content in memories.items():
            for k, bank in enumerate(_banks(model, name, banks)):
                bank[:] = content[k::banks]
        for port in ("start", "wr_valid", "rd_valid", "signal_in", "in_frame", "dmpa_idle"):
            model[port] = 0
        model.reset()
        transfers = _Transfers(np.random.default_rng(program.seed + 1), program, obey)
        signals: list[int] = []
        running, ended = 0, 0
        states, hosts = [], []
        chance = np.random.default_rng(program.seed + 2)
        for now in range(max_cycles):
            model.start, model.signal_in = int(now == ARMED - 1), 128 if now == BEGINS - 1 else 0
            for semaphore, cycles in (arrivals or {}).items():
                if now - BEGINS in cycles:
                    model.signal_in |= 1 << semaphore
            model.in_frame, model.dmpa_idle = (int(value) for value in chance.integers(2, size=2))
            hosts.append(bool(model.in_frame and model.dmpa_idle))
            transfers.cycle(model, now, load if not ended else 0, store if not ended else 0)
            model.tick()
            states.append(model.probe >> 20 & 7)
            running += model.running
            if model.signal_out:
                signals += [k for k in range(8) if model.signal_out >> k & 1]
            ended += bool(running and not model.running)
            if ended > 40:
                break
        content = {}
        for name, before in memories.items():
            content[name] = np.zeros_like(before)
            for k, bank in enumerate(_banks(model, name, banks)):
                content[name][k::banks] = bank
        counters = [model.counters >> (32 * k) & 0xFFFF_FFFF for k in range(6)]
        if coverage is not None:
            count_program(coverage, program)
            for state in states:
                coverage.hit(f"cycle that counts as {Counter(state).name}")
        return ClusterRun(content["l1"], content["wmem"], content["imem"], signals, running, counters, bool(model.trap),
                   transfers.bad, transfers.stores, transfers.loads, states, transfers.blocked, hosts)
