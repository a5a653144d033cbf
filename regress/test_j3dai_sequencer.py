# SPDX-License-Identifier: Apache-2.0
"""The sequencer: every micro-operation of random MACs, in its cycle, while windows come late and L1's port is taken."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import sequencer
from nncosim.hdl.j3dai.isa import Drain, MacOp, Opcode
from nncosim.hdl.j3dai.timing import TABLE_LATENCY
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.block_bench import corner, simulate
from nncosim.regress.j3dai_cluster_bench import instruction
from nncosim.regress.planted import planted

WMEM_WORDS = 256
LANES = PLATFORM.ncbs_per_cluster


def machine(ncbs: int = LANES, pes: int = PLATFORM.pes_per_ncb, shared: int = 1) -> J3dai:
    """With a WMEM of `WMEM_WORDS`."""
    return PLATFORM.with_parameters(ncbs_per_cluster=ncbs, pes_per_ncb=pes, wmem_bytes=WMEM_WORDS * ncbs,
                                    ncbs_per_requantizer=shared)


@dataclass
class Instruction:
    """SETW, ADDW or MAC with its fields; `windows`: of each job of a MAC; `idle`: cycles before it."""

    opcode: Opcode
    fields: dict[str, int]
    windows: tuple[int, ...] = ()
    idle: int = 0


def program(rng: np.random.Generator, count: int, lanes: int) -> list[Instruction]:
    """Random instructions; small jobs, so that drains come close and jobs of one micro-operation occur."""
    out = [Instruction(Opcode.SETW, {"base": corner(rng, 14)})] if rng.random() < 0.5 else []
    for _ in range(count):
        idle = int(rng.choice([0, 0, 1, 5, 12]))
        kind = rng.random()
        if kind < 0.1:
            out.append(Instruction(Opcode.SETW, {"base": corner(rng, 14)}, idle=idle))
            continue
        if kind < 0.2:
            out.append(Instruction(Opcode.ADDW, {"step": corner(rng, 14, True)}, idle=idle))
            continue
        jobs = int(rng.integers(1, 5))
        fields: dict[str, Any] = {
            "op": rng.choice([op.value for op in MacOp]), "lane": rng.integers(lanes), "repeat": jobs - 1,
            "lanes": rng.choice([0, 1, lanes - 1, int(rng.integers(lanes))]), "drain": rng.integers(4),
        }
        fields |= {name: int(rng.random() < 0.5) for name in (
            "depthwise", "first", "rewind_w", "next_w", "signed_a", "wide_x", "wide_m")}
        fields["last"] = int(rng.random() < 0.8)
        windows = tuple(int(w) for w in rng.integers(1, 4, jobs))
        out.append(Instruction(Opcode.MAC, {k: int(v) for k, v in fields.items()}, windows, idle))
    return out


@dataclass
class MicroOperation:
    """One micro-operation, in the manual's words."""

    lane: int
    starts_window: bool
    first: bool
    ends_job: bool
    odd: bool
    job: int


def micro_operations(mac: Instruction, lanes: int) -> Iterator[MicroOperation]:
    """What a MAC issues, in order: sections 2.2 and 2.3 of the manual."""
    f, table = mac.fields, mac.fields["op"] == MacOp.TABLE.value
    count = 1 if f["depthwise"] and not table else f["lanes"] + 1
    for job, windows in enumerate(mac.windows):
        for window in range(windows):
            for k in range(count):
                first = window == 0 and (table or k == 0)
                ends = window == windows - 1 and k == count - 1
                sets = bool(f["first"] and first)
                yield MicroOperation((f["lane"] + k) % lanes, k == 0, sets, ends, job % 2 == 1, job)


class SequencerReference:
    """When each micro-operation is issued: section 4 of the manual, cycle by cycle."""

    def __init__(self, platform: J3dai) -> None:
        self.lanes, self.results = platform.ncbs_per_cluster, platform.pes_per_ncb * platform.ncbs_per_requantizer
        self.now = 0
        self.base = self.pointer = 0
        self.mac: Instruction | None = None
        self.left: list[MicroOperation] = []
        self.taken: int | None = None  # TABLE: when the window in work was taken
        self.ready = 0  # TABLE: when the next micro-operation may be issued
        self.drainable = 0  # when the next job may be drained

    def outputs(self, staged: bool, blocked: bool) -> dict[str, int]:
        """Of this cycle. Micro-operations that are issued are removed."""
        out = {"busy": int(bool(self.left)), "w_base": self.base, "issue": 0, "take": 0, "drain": 0, "weight": 0}
        if self.mac is None or not self.left:
            return out
        f, op = self.mac.fields, self.left[0]
        if f["op"] == MacOp.TABLE.value:
            if op.starts_window and self.taken is None:
                if staged:
                    out["take"], self.taken, self.ready = 1, self.now, self.now + TABLE_LATENCY + 2
                return out
            if self.now < self.ready or blocked:
                return out
        elif op.starts_window and not staged:
            return out
        drain = op.ends_job and f["last"]
        if drain and self.now < self.drainable:
            return out
        return out | self._issue(f, op, bool(drain))

    def _issue(self, f: dict[str, int], op: MicroOperation, drain: bool) -> dict[str, int]:
        self.left.pop(0)
        self.ready = self.now + 1
        out = {"issue": 1, "lane": op.lane, "first": int(op.first), "drain": int(drain)}
        if f["op"] == MacOp.TABLE.value:
            if not self.left or self.left[0].starts_window:
                self.taken = None
        else:
            out["take"] = int(op.starts_window)
        if drain:
            out |= {"odd": int(op.odd), "drain_cycles": self._drain_cycles(f, op.odd)}
            self.drainable = self.now + out["drain_cycles"]
        if f["op"] == MacOp.MAC.value:
            out |= {"weight": 1, "pointer": self.pointer}
            self.pointer = (self.pointer + 1) % WMEM_WORDS
        if not self.left and f["next_w"]:
            self.base = self.pointer
        if self.left and self.left[0].job != op.job and f["rewind_w"]:
            self.pointer = self.base
        return out

    def _drain_cycles(self, f: dict[str, int], odd: bool) -> int:
        """A cycle a partial product of each result; what is kept only takes one."""
        pair = f["drain"] == Drain.PAIR.value
        if f["drain"] == Drain.KEEP.value or (pair and not odd):
            return 1
        two_xs = f["wide_x"] or f["drain"] == Drain.ADD.value or pair
        return self.results * (2 if two_xs else 1) * (2 if f["wide_m"] else 1)

    def execute(self, what: Instruction) -> None:
        """An instruction executes in this cycle."""
        if what.opcode == Opcode.MAC:
            self.mac, self.left = what, list(micro_operations(what, self.lanes))
            if what.fields["rewind_w"]:
                self.pointer = self.base
        else:
            base = what.fields["base"] if what.opcode == Opcode.SETW else self.base + what.fields["step"]
            self.base = self.pointer = base % (1 << 14)


@dataclass
class SequencerRun:
    """What was otherwise than expected, one line each, and how many micro-operations were issued."""

    wrong: list[str] = field(default_factory=list)
    issued: int = 0


def encoded(what: Instruction) -> int:
    """The instruction word; lanes from 16 up have their highest bit in a field of its own."""
    high = {f"{name}_high": what.fields[name] >> 4 for name in ("lane", "lanes") if name in what.fields}
    low = {name: what.fields[name] & 15 for name in ("lane", "lanes") if name in what.fields}
    return instruction(what.opcode, **what.fields | low | high)


def run(module: ModuleType, seed: int, late: float, taken: float, count: int = 60, platform: J3dai | None = None
        ) -> SequencerRun:
    """Random instructions. `late`: how often the next window is not there yet; `taken`: L1's read port."""
    platform = platform or machine()
    rng, dut, result = np.random.default_rng(seed), module.Sequencer(platform), SequencerRun()
    instructions, reference = program(rng, count, platform.ncbs_per_cluster), SequencerReference(platform)

    async def bench(ctx: Any) -> None:
        windows: list[Any] = []
        todo, staged, selected, idle = list(instructions), None, None, 0
        while (todo or reference.left) and len(result.wrong) < 5 and reference.now < 100_000:
            blocked = rng.random() < taken
            ctx.set(dut.blocked, blocked)
            ctx.set(dut.staged, staged is not None)
            # What is not there may have any value.
            ctx.set(dut.staged_last, rng.random() < 0.5 if staged is None else staged)
            expected = reference.outputs(staged is not None, blocked)
            starting = todo[0] if todo and not ctx.get(dut.busy) and idle >= todo[0].idle else None
            others = int(rng.integers(1 << 32)) & ~(1 << Opcode.MAC | 1 << Opcode.SETW | 1 << Opcode.ADDW)
            ctx.set(dut.executes, 1 << starting.opcode if starting else others)
            ctx.set(dut.ir, encoded(starting) if starting else int(rng.integers(1 << 62)))
            selected = _compare(ctx, dut, expected, selected, reference, result)
            if expected["take"]:
                staged = None
            if windows and staged is None and not ctx.get(dut.hold) and not blocked and rng.random() >= late:
                staged = windows.pop(0)
            if starting:
                reference.execute(todo.pop(0))
                windows, idle = [k == n - 1 for n in starting.windows for k in range(n)], 0
            elif not ctx.get(dut.busy):
                idle += 1
            await ctx.tick()
            reference.now += 1
        if todo or reference.left:
            result.wrong.append("it does not end")

    simulate(dut, bench)
    return result


def _compare(ctx: Any, dut: Any, expected: dict[str, int], selected: int | None, reference: SequencerReference,
             result: SequencerRun) -> int | None:
    """Outputs against the reference; for TABLE also what is selected before it is issued. Gives what is selected."""
    result.issued += expected["issue"]
    found = {name: int(ctx.get(getattr(dut, name))) for name in expected}
    if found != expected:
        result.wrong.append(f"cycle {reference.now}: {found}, expected {expected}")
    table = reference.mac is not None and reference.mac.fields["op"] == MacOp.TABLE.value
    if table and expected["issue"]:
        if not ctx.get(dut.table_valid) or selected != expected["lane"]:
            result.wrong.append(f"cycle {reference.now}: lane {expected['lane']} is issued, {selected} was selected")
        selected = None
    if table and ctx.get(dut.table_select):
        if selected is not None:
            result.wrong.append(f"cycle {reference.now}: a lane is selected before {selected} was issued")
        selected = int(ctx.get(dut.select_lane))
    in_work = table and (reference.taken is not None or bool(expected["issue"]))
    if bool(ctx.get(dut.hold)) != in_work:
        result.wrong.append(f"cycle {reference.now}: hold is {ctx.get(dut.hold)}")
    return selected


@pytest.mark.parametrize(("late", "taken"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.6), (0.3, 0.3), (0.9, 0.5)])
def test_micro_operations(late, taken, seed):
    for offset in range(2):
        result = run(sequencer, seed + 10 * offset, late, taken)
        assert result.wrong == []
        assert result.issued > 300


@pytest.mark.parametrize(("ncbs", "pes", "shared"), [(8, 4, 1), (8, 4, 8), (16, 8, 2), (32, 16, 4)])
def test_micro_operations_of_other_machines(ncbs, pes, shared, seed):
    result = run(sequencer, seed, 0.3, 0.3, platform=machine(ncbs, pes, shared))
    assert result.wrong == []
    assert result.issued > 200


def test_at_full_speed_every_cycle_issues():
    """A MAC whose windows are there in time: from its first micro-operation on, one in each cycle."""
    mac = Instruction(Opcode.MAC, {"op": MacOp.MAC.value, "lanes": LANES - 1, "last": 1, "lane": 0, "repeat": 3,
                                   "depthwise": 0, "first": 1, "rewind_w": 1, "next_w": 0, "drain": Drain.WRITE.value,
                                   "wide_x": 0, "wide_m": 0}, (3, 3, 3, 3))
    reference = SequencerReference(machine())
    reference.execute(mac)
    cycles = 0
    while reference.left:
        assert reference.outputs(True, False)["issue"]
        reference.now += 1
        cycles += 1
    assert cycles == 12 * LANES


BUGS = [
    ("spacing.eq(self.drain_cycles - 1)", "spacing.eq(self.drain_cycles - 2)"),
    ("Mux(keeps, 1, Const(once)", "Mux(keeps & self.odd, 1, Const(once)"),
    ("<< ((self.mac.wide_x | adds) + self.mac.wide_m)", "<< (self.mac.wide_x + self.mac.wide_m)"),
    ("lane.eq(self._current_lane + 1)", "lane.eq(self._current_lane + 2)"),
    ("self.weight.eq(self.issue & (self.mac.op == MacOp.MAC))", "self.weight.eq(self.issue)"),
    ("ends_mac & self.mac.next_w", "self.mac.next_w & self._ends_job"),
    ("self.table_valid & ~self.blocked & ", "self.table_valid & "),
    ("self.busy.eq(~last_job)", "self.busy.eq(jobs > 1)"),
    ("self.odd.eq(~self.odd), ", ""),
    ("self.drain.eq(ends_job & self.mac.last)", "self.drain.eq(ends_job)"),
    ("single = self.mac.depthwise & ~is_table", "single = self.mac.depthwise & is_table"),
    ("wait.eq(TABLE_LATENCY)", "wait.eq(TABLE_LATENCY - 1)"),
    ("self._in_window | self.take | self.table_valid", "self._in_window | self.take"),
    ("table_first.eq(first_window)", "table_first.eq(1)"),
    ("self.w_base.eq(added), pointer.eq(added)", "self.w_base.eq(added)"),
    ("(clear | ~(last_lane & current_last))", "clear"),
    ("job_start & self.mac.rewind_w", "job_start"),
    ("self.select_lane.eq(self._current_lane)", "self.select_lane.eq(self.mac.lane)"),
]


@pytest.mark.parametrize(("right", "wrong"), BUGS)
def test_planted_bug_is_caught(right, wrong, seed):
    module = planted(sequencer, right, wrong)
    found = [run(module, seed + offset, late, taken).wrong for offset, (late, taken) in enumerate(
        [(0.3, 0.3), (0.0, 0.0), (0.0, 0.6)])]
    assert any(found)
