# SPDX-License-Identifier: Apache-2.0
"""A second reading of the machine manual in plain Python: the oracle for the fast simulator and for the RTL.

No time, no pipeline: every instruction is finished before the next one begins, and a semaphore is always ready. So it
gives the right memories for programs that order their accesses as the manual demands, for any register contents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from nncosim.compiler.arithmetic import round_shift
from nncosim.hdl.j3dai.asm import fields_of
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, DmpaOp, Drain, MacOp, Opcode, RequantRecord, Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["ReferenceCluster", "ReferenceTrap", "run_descriptor"]

Bytes = npt.NDArray[np.uint8]
RECORD = 16
"""Bytes of a requantization record."""


class ReferenceTrap(Exception):
    """The program or the descriptor traps."""


def _wrap(value: int, bits: int, signed: bool = False) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


@dataclass
class _Dimension:
    count: int = 0
    step: tuple[int, int, int] = (0, 0, 0)
    index: int = 0
    offset: tuple[int, int, int] = (0, 0, 0)


@dataclass
class _Agu:
    """base, x, y and dimensions; sums are taken when they are needed."""

    dimensions: int
    inner: int
    base: tuple[int, int, int] = (0, 0, 0)
    dims: list[_Dimension] = field(init=False)

    def __post_init__(self) -> None:
        self.dims = [_Dimension() for _ in range(self.dimensions)]

    def at(self) -> tuple[int, int, int]:
        a, x, y = (sum(parts) for parts in zip(self.base, *(d.offset for d in self.dims), strict=True))
        return _wrap(a, 14), _wrap(x, 13, True), _wrap(y, 13, True)

    def step(self, low: int, high: int) -> bool:
        """Advance dimensions low..high - 1; False when all came back to their start."""
        for d in self.dims[low:high]:
            if d.index + 1 < d.count:
                d.index += 1
                d.offset = (d.offset[0] + d.step[0], d.offset[1] + d.step[1], d.offset[2] + d.step[2])
                return True
            d.index, d.offset = 0, (0, 0, 0)
        return False

    def rewind(self) -> None:
        for d in self.dims[self.inner :]:
            d.index, d.offset = 0, (0, 0, 0)


class ReferenceCluster:
    """One cluster. `l1`, `wmem`, `imem`: its memories, uint8 (bytes,), read and written in place."""

    def __init__(self, platform: J3dai, l1: Bytes, wmem: Bytes, imem: Bytes):
        self.word, self.pes = platform.word_bytes, platform.pes_per_ncb
        self.l1, self.wmem = l1.reshape(-1, self.word), wmem.reshape(-1, self.word)
        self.program = imem.view("<u8")
        self.agus = {0: _Agu(6, 3), 1: _Agu(3, 0)}
        self.window = {"width": 0, "height": 0, "pstride": 0, "xpstep": 0, "pad": 0}
        self.output = {"width": 0, "ostride": 0}
        self.w_base = self.w_pointer = 0
        self.sets = [[fields_of(RequantRecord, 0)] * self.word for _ in range(2)]
        self.acc = np.zeros((self.pes, self.word), np.int64)
        self.wide = np.zeros((self.pes, self.word), np.int64)
        self.signals = [0] * 8

    def run(self, pc: int, limit: int = 100_000) -> None:
        """Execute from `pc` to HALT.

        Raises:
            ReferenceTrap: as the hardware does, or `limit` instructions are exceeded.
        """
        loops: list[list[int]] = []  # first, last, left
        for _ in range(limit):
            word = int(self.program[pc % len(self.program)])
            opcode = word & 63
            if opcode not in INSTRUCTIONS:
                raise ReferenceTrap(f"opcode {opcode} at {pc}")
            f = fields_of(INSTRUCTIONS[Opcode(opcode)], word)
            if opcode == Opcode.HALT:
                return
            if opcode == Opcode.LOOP:
                if f["count"] == 0 or f["body"] == 0 or len(loops) == 4:
                    raise ReferenceTrap(f"loop at {pc}")
                loops.append([(pc + 1) & 511, (pc + f["body"]) & 511, f["count"] - 1])
                pc = (pc + 1) & 511
                continue
            self._execute(Opcode(opcode), f)
            if loops and loops[-1][1] == pc:
                if loops[-1][2]:
                    loops[-1][2] -= 1
                    pc = loops[-1][0]
                    continue
                loops.pop()
            pc = (pc + 1) & 511
        raise ReferenceTrap(f"no HALT within {limit} instructions")

    def _execute(self, opcode: Opcode, f: Mapping[str, int]) -> None:
        if opcode == Opcode.SETB:
            agu = self.agus[f["agu"]]
            agu.base = (f["base"], f["x"], f["y"])
            if f["rewind"]:
                agu.rewind()
        elif opcode == Opcode.ADDB:
            agu = self.agus[f["agu"]]
            agu.base = (agu.base[0] + f["step"], agu.base[1] + f["xstep"], agu.base[2] + f["ystep"])
        elif opcode == Opcode.SETD:
            if f["dim"] < self.agus[f["agu"]].dimensions:
                dimension = self.agus[f["agu"]].dims[f["dim"]]
                dimension.count, dimension.step = f["count"], (f["step"], f["xstep"], f["ystep"])
        elif opcode == Opcode.SETI:
            self.window = {name: f[name] for name in self.window}
        elif opcode == Opcode.SETO:
            self.output = {name: f[name] for name in self.output}
        elif opcode == Opcode.SETW:
            self.w_base = self.w_pointer = f["base"]
        elif opcode == Opcode.ADDW:
            self.w_base = self.w_pointer = _wrap(self.w_base + f["step"], 14)
        elif opcode == Opcode.LDP:
            raw, base = self.wmem.reshape(-1), f["base"] // self.pes * self.pes * self.word
            for n in range(self.word):
                at = (base + RECORD * n) % len(raw)
                record = raw[at : at + RECORD]
                self.sets[f["pset"]][n] = fields_of(RequantRecord, int.from_bytes(record.tobytes(), "little"))
        elif opcode == Opcode.SIGNAL:
            self.signals[f["semaphore"]] += 1
        elif opcode == Opcode.MAC:
            self._mac(f)

    def _mac(self, f: Mapping[str, int]) -> None:
        agu = self.agus[0]
        for job in range(f["repeat"] + 1):
            if f["rewind_w"]:
                self.w_pointer = self.w_base
            first = bool(f["first"])
            while True:
                self._window(f, first)
                first = False
                if not agu.step(0, 3):
                    break
            if f["last"]:
                self._drain(f, job)
            if f["advance"]:
                agu.step(3, 6)
        if f["next_w"]:
            self.w_base = self.w_pointer

    def _words(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """The window at AGU A: bytes (PE, lane), and which words are padding."""
        address, x, y = self.agus[0].at()
        w = self.window
        words = np.stack([self.l1[(address + p * w["pstride"]) % len(self.l1)] for p in range(self.pes)])
        columns = [_wrap(x + p * w["xpstep"], 13, True) for p in range(self.pes)]
        inside = [0 <= column < w["width"] and 0 <= y < w["height"] for column in columns]
        return words, ~np.array(inside)

    def _window(self, f: Mapping[str, int], first: bool) -> None:
        words, padded = self._words()
        values = words.view(np.int8).astype(np.int64) if f["signed_a"] else words.astype(np.int64)
        values[padded] = self.window["pad"]
        op = MacOp(f["op"])
        lane, count = (f[name] | f[f"{name}_high"] << 4 for name in ("lane", "lanes"))
        lanes = [(lane + k) % self.word for k in range(count % self.word + 1)]
        if op is MacOp.TABLE:
            for lane in lanes:
                operand = self._look_up(words[:, lane], f["signed_a"])
                operand[padded] = self.window["pad"]
                before = 0 if first else self.acc[:, lane]
                self.acc[:, lane] = (before + operand).astype(np.int32)
            return
        for lane in [0] if f["depthwise"] else lanes:
            operand = values if f["depthwise"] else np.repeat(values[:, lane : lane + 1], self.word, axis=1)
            if op is MacOp.MAC:
                operand = operand * self.wmem[self.w_pointer % len(self.wmem)].view(np.int8).astype(np.int64)
                self.w_pointer = (self.w_pointer + 1) % len(self.wmem)
            if first:
                self.acc = operand
            else:
                self.acc = np.maximum(self.acc, operand) if op is MacOp.MAX else self.acc + operand
            self.acc = self.acc.astype(np.int32).astype(np.int64)
            first = False

    def _look_up(self, indexes: Bytes, signed: int) -> npt.NDArray[np.int64]:
        out = np.zeros(self.pes, np.int64)
        for p, b in enumerate(indexes.tolist()):
            row = self.w_base // self.pes + b // self.word
            byte = int(self.l1[(row * self.pes + p) % len(self.l1), b % self.word])
            out[p] = _wrap(byte, 8, bool(signed))
        return out

    def _drain(self, f: Mapping[str, int], job: int) -> None:
        mode, number = Drain(f["drain"]), f["pset"]
        if mode is Drain.PAIR:
            mode, number = (Drain.ADD, 1) if job % 2 else (Drain.KEEP, 0)
        m, c, s, lo, hi, rounding, wraps = (
            np.array([record[name] for record in self.sets[number]], np.int64)
            for name in ("m", "c", "s", "lo", "hi", "rounding", "wrap"))
        with np.errstate(over="ignore"):
            total = self.acc * m + (self.wide if mode is Drain.ADD else c)
        if mode is Drain.KEEP:
            self.wide = total
            return
        q = round_shift(total, np.minimum(s, 62), rounding)
        q = np.where(wraps, q, np.minimum(np.maximum(q, lo), hi))
        address, x, _ = self.agus[1].at()
        for p in range(self.pes):
            if 0 <= _wrap(x + p, 13, True) < self.output["width"]:
                self.l1[(address + p * (self.output["ostride"] + 1)) % len(self.l1)] = (q[p] & 0xFF).astype(np.uint8)
        self.agus[1].step(0, 3)


def run_descriptor(platform: J3dai, f: Mapping[str, int], l2: Bytes, local: Mapping[int, Bytes]) -> None:
    """Perform one descriptor's transfer.

    Args:
        f: its fields.
        l2: all of L2.
        local: `Space` -> the memory of all clusters, shape (clusters, bytes).

    Raises:
        ReferenceTrap: as the hardware does. What it did before is done.
    """
    op = f["op"]
    if op == DmpaOp.SYNC.value:
        return
    if op not in (DmpaOp.LOAD.value, DmpaOp.STORE.value):
        raise ReferenceTrap(f"operation {op}")
    space, clusters = f["local"] >> 14, [c for c in range(8) if f["clusters"] >> c & 1]
    if not f["n0"] or not clusters or clusters[-1] >= platform.clusters or space == 3:
        raise ReferenceTrap("fields")
    if op == DmpaOp.STORE.value and space != Space.L1:
        raise ReferenceTrap("STORE from a space other than L1")
    memory = local[space].reshape(platform.clusters, -1, platform.word_bytes)
    words = l2.reshape(-1, platform.word_bytes)
    for i2 in range(max(f["n2"], 1)):
        for i1 in range(max(f["n1"], 1)):
            at = f["l2"] + i1 * f["l2_step1"] + i2 * f["l2_step2"]
            to = (f["local"] & 0x3FFF) + i1 * f["local_step1"] + i2 * f["local_step2"]
            for i in range(f["n0"]):
                word, place = _wrap(at, 20) + i, _wrap(to + i, 14) % memory.shape[1]
                if word >= len(words):
                    raise ReferenceTrap("beyond the end of L2")
                if op == DmpaOp.LOAD.value:
                    memory[clusters, place] = words[word]
                else:
                    words[word] = memory[clusters[0], place]
