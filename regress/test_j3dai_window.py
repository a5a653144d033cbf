# SPDX-License-Identifier: Apache-2.0
"""The window path, every output in every cycle: staging, window register, lanes, look-ups; the rest is noise."""

from collections import Counter
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import window
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.block_bench import corner, garbage, simulate
from nncosim.regress.j3dai_block_bench import MACHINES, machine
from nncosim.regress.planted import planted

CYCLES = {4: 500, 8: 350, 16: 160}


@dataclass
class Word:
    """A word of a window: its bytes, and the ninth bit of its operands. Padding: all bytes are the same."""

    values: list[int]
    signed: bool
    pad: int | None  # 9 bits

    def operand(self, lane: int) -> int:
        """9 bits."""
        if self.pad is not None:
            return self.pad
        return self.values[lane] | (0x100 if self.signed and self.values[lane] & 0x80 else 0)


@dataclass
class LookUp:
    """Of one lane: a byte, or what stands for padding, of each PE; when L1 is read."""

    indexes: list[int]
    pads: list[int | None]
    rows: list[int]
    read: int = -1


@dataclass
class WindowReference:
    """Sections 2.2 and 4 of the manual, as seen from the registers behind L1."""

    platform: J3dai
    row_bits: int
    staged: list[Word | None] = field(default_factory=list)
    current: list[Word | None] = field(default_factory=list)
    waiting: LookUp | None = None
    flying: list[LookUp] = field(default_factory=list)
    operands: list[int] | None = None

    def __post_init__(self) -> None:
        self.staged = [None] * self.platform.pes_per_ncb
        self.current = list(self.staged)

    def stage(self, i: dict[str, Any]) -> None:
        pes = len(self.staged)
        for p in range(pes):
            if i["words2"] >> p & 1:
                slot = 0 if i["single2"] else 2 * p % pes if i["spread2"] else p
                pad = i["pad"] if i["padded2"] >> p & 1 else None
                self.staged[p] = Word(i["words"][slot] if pad is None else [pad & 255] * len(i["words"][slot]),
                                      bool(i["signed_a"]), pad)

    def select(self, lane: int, base: int) -> LookUp:
        words = [word for word in self.current if word is not None]
        indexes, size, banks = [w.values[lane] for w in words], self.platform.word_bytes, self.platform.banks
        rows = [(base // banks + index // size) % (1 << self.row_bits) for index in indexes]
        return LookUp(indexes, [w.pad for w in words], rows)

    def read(self, look_up: LookUp, banks: list[list[int]], signed: int) -> list[int]:
        """The operands of a look-up, its rows being at L1's outputs."""
        out = []
        for p, (index, pad) in enumerate(zip(look_up.indexes, look_up.pads, strict=True)):
            byte = banks[p][index % self.platform.word_bytes]
            out.append(pad if pad is not None else byte | (0x100 if signed and byte & 0x80 else 0))
        return out


class WindowBench:
    """A window path beside its reference. `seen`: what happened, and what met in one cycle."""

    def __init__(self, module: ModuleType, size: tuple[int, int], seed: int):
        self.platform = platform = machine(*size)
        self.pes, self.lanes = platform.pes_per_ncb, platform.word_bytes
        self.row_bits = (platform.l1_words // platform.banks - 1).bit_length()
        self.dut, self.rng = module.WindowPath(self.row_bits, platform), np.random.default_rng(seed)
        self.reference = WindowReference(platform, self.row_bits)
        self.bad: list[str] = []
        self.seen: Counter[str] = Counter()
        self.now = 0
        self.tables = False

    def words(self) -> list[list[int]]:
        """A word a bank; the extremes of a byte are often in it."""
        return [[corner(self.rng, 8, often=0.3) for _ in range(self.lanes)] for _ in range(self.pes)]

    def inputs(self) -> dict[str, Any]:
        """Of this cycle: anything, where it does not count too."""
        rng, reference = self.rng, self.reference
        full = (1 << self.pes) - 1
        words2 = int(rng.choice([0, full, full, 1 << int(rng.integers(self.pes)), full >> self.pes // 2,
                                 full - (full >> self.pes // 2), int(rng.integers(full + 1))]))
        filled = None not in reference.current
        issue = reference.waiting is not None and rng.random() < 0.6
        select = self.tables and filled and (reference.waiting is None or issue) and rng.random() < 0.7
        return {
            "words": self.words(), "banks": self.words(), "words2": words2, "spread2": int(rng.integers(2)),
            "single2": int(rng.integers(2)), "padded2": int(rng.integers(full + 1)) & int(rng.integers(full + 1)),
            "pad": corner(rng, 9), "signed_a": int(rng.integers(2)),
            "load_s2": int(None not in reference.staged and rng.random() < 0.4),
            "lane_s3": corner(rng, self.platform.lane_bits), "table_select": int(select),
            "select_lane": corner(rng, self.platform.lane_bits), "base": corner(rng, 14),
            "table_issue": int(issue), "table_s3": int(self.tables),
        }

    def drive(self, ctx: Any, i: dict[str, Any]) -> None:
        for name, value in i.items():
            if name in ("words", "banks"):
                for port, word in zip(getattr(self.dut, name), value, strict=True):
                    ctx.set(port, int.from_bytes(bytes(word), "little"))
            else:
                ctx.set(getattr(self.dut, name), value)

    def compare(self, ctx: Any, i: dict[str, Any]) -> None:
        dut, reference = self.dut, self.reference
        common = [ctx.get(dut.common_s3) >> 9 * p & 511 for p in range(self.pes)]
        if self.tables and reference.operands is not None and common != reference.operands:
            self.bad.append(f"cycle {self.now}: looked up {common}, expected {reference.operands}")
        if reference.waiting is not None:
            rows = [ctx.get(row) for row in dut.table_row]
            if rows != reference.waiting.rows:
                self.bad.append(f"cycle {self.now}: rows {rows}, expected {reference.waiting.rows}")
        current = [word for word in reference.current if word is not None]
        if len(current) < self.pes:
            return
        if not self.tables:
            want = [word.operand(i["lane_s3"]) for word in current]
            if common != want:
                self.bad.append(f"cycle {self.now}: lane {i['lane_s3']}: {common}, expected {want}")
        sext, one = ctx.get(dut.sext_s3), ctx.get(dut.one_s3)
        for p, word in enumerate(current):
            raw = ctx.get(dut.bytes_s3[p]).to_bytes(self.lanes, "little")
            nine = [b | ((b >> 7 & sext >> p | one >> p) & 1) << 8 for b in raw]
            if nine != [word.operand(lane) for lane in range(self.lanes)]:
                self.bad.append(f"cycle {self.now}: word {p}: {nine}")

    def step(self, i: dict[str, Any]) -> None:
        reference, seen = self.reference, self.seen
        landed = [look_up for look_up in reference.flying if look_up.read == self.now]
        reference.operands = reference.read(landed[0], i["banks"], i["signed_a"]) if landed else None
        seen["padding looked up"] += bool(landed) and any(pad is not None for pad in landed[0].pads)
        seen["selected as another is issued"] += i["table_select"] and i["table_issue"]
        seen["staged as it is loaded"] += i["load_s2"] and i["words2"] > 0
        seen["looked up as one lands"] += bool(landed) and i["table_issue"]
        seen["waits"] += reference.waiting is not None and not i["table_issue"]
        if i["table_issue"] and reference.waiting is not None:
            reference.waiting.read = self.now + 2  # in L1 in the next cycle, at its outputs in this
            reference.flying = [*reference.flying[-2:], reference.waiting]
            reference.waiting = None
        if i["table_select"]:
            reference.waiting = reference.select(i["select_lane"], i["base"])
        if i["load_s2"]:
            reference.current = list(reference.staged)
        reference.stage(i)

    async def run(self, ctx: Any) -> None:
        garbage(ctx, self.rng, self.dut.lane_s3)
        for _ in range(CYCLES[self.pes]):
            if self.now % 40 == 20 and self.reference.waiting is None:
                self.tables = not self.tables
                self.reference.operands = None
            i = self.inputs()
            self.drive(ctx, i)
            self.compare(ctx, i)
            if self.bad:
                return
            self.step(i)
            await ctx.tick()
            self.now += 1


def differences(module: ModuleType, size: tuple[int, int], seed: int) -> WindowBench:
    bench = WindowBench(module, size, seed)
    simulate(bench.dut, bench.run)
    return bench


@pytest.mark.parametrize("size", MACHINES)
def test_every_output_in_every_cycle(size: tuple[int, int], seed: int) -> None:
    bench = differences(window, size, seed)
    assert not bench.bad, f"seed {seed}: {bench.bad[0]}"
    assert len(bench.seen) == 5 and min(bench.seen.values()) > 5, bench.seen


@pytest.mark.parametrize("right, wrong", [
    ("at_1.eq(waiting)", "at_1.eq(extended)"),
    ("with m.If(self.table_select):", "with m.If(self.table_s3):"),
    ("sext.eq(self.signed_a & ~pad)", "sext.eq(self.signed_a)"),
    ("2 * (p % (pes // 2))", "2 * p % (pes // 2)"),
    ("Mux(at_2[9], at_2[:9],", "Mux(at_2[9], at_2[:8],"),
    ("lanes[p][lane_bits:]", "lanes[p][lane_bits:7]"),
    ("with m.If(self.load_s2):", "with m.If(self.load_s2 & ~self.words2[p]):"),
], ids=["index held", "row held", "padding's sign", "spread", "padding looked up", "short index", "load meets words"])
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert differences(planted(window, right, wrong), (8, 4), 1).bad
