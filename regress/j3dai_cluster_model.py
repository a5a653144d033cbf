# SPDX-License-Identifier: Apache-2.0
"""One J3DAI cluster as a plain interpreter of its manual: what the RTL's cluster and the simulator's are held against.

Nothing here is fast, and nothing is shared with the RTL or with the simulator's C++ but the instruction formats.
Instructions take effect one after the other; reading a word whose result may still be in the pipeline raises `Hazard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import numpy.typing as npt
from nncosim.compiler.ir.arithmetic import round_shift
from nncosim.hdl.formats import decode
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Agu, Drain, MacOp, Opcode, RequantRecord

__all__ = ["ClusterModel", "Hazard", "Trap", "executed", "wrap"]

Words = npt.NDArray[np.uint8]
_RECORD = 16  # bytes of a requantization record


class Hazard(Exception):
    """A window read depends on a write that no FENCE has completed."""


class Trap(Exception):
    """The program trapped."""


def executed(
    fetch: Callable[[int], int], pc: int = 0, limit: int = 100_000
) -> Iterator[tuple[int, Opcode, dict[str, int]]]:
    """(pc, opcode, fields) of the instructions of a program in order of execution, its LOOPs and the HALT included.

    Args:
        fetch: The instruction at a pc.

    Raises:
        Trap: as the manual says. RuntimeError: after `limit` instructions.
    """
    stack: list[list[int]] = []  # first, last, turns left
    for _ in range(limit):
        word = fetch(pc)
        if word & 63 not in INSTRUCTIONS:
            raise Trap(f"opcode {word & 63} at {pc}")
        opcode = Opcode(word & 63)
        fields = decode(INSTRUCTIONS[opcode], word)
        following = (pc + 1) % 512
        if opcode == Opcode.LOOP:
            if not fields["count"] or not fields["body"] or len(stack) == 4:
                raise Trap(f"LOOP at {pc}")
            stack.append([following, (pc + fields["body"]) % 512, fields["count"] - 1])
        yield pc, opcode, fields
        if opcode == Opcode.HALT:
            return
        if opcode != Opcode.LOOP and stack and stack[-1][1] == pc:
            if stack[-1][2]:
                stack[-1][2] -= 1
                following = stack[-1][0]
            else:
                stack.pop()
        pc = following
    raise RuntimeError("the program does not end")


def wrap(value: int, bits: int) -> int:
    """Two's complement of `bits` bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _low(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """The low bits of each value, as signed numbers."""
    half = 1 << (bits - 1)
    return (values + half) % (2 * half) - half


@dataclass
class _Dimension:
    count: int = 0
    step: tuple[int, int, int] = (0, 0, 0)
    index: int = 0
    offset: tuple[int, int, int] = (0, 0, 0)

    def rewind(self) -> None:
        self.index, self.offset = 0, (0, 0, 0)


@dataclass
class _Generator:
    """An AGU: base and dimensions; a position is (address, x, y)."""

    dims: list[_Dimension]
    base: tuple[int, int, int] = (0, 0, 0)

    def at(self) -> tuple[int, int, int]:
        a, x, y = (self.base[k] + sum(d.offset[k] for d in self.dims) for k in range(3))
        return a % (1 << 14), wrap(x, 13), wrap(y, 13)

    def advance(self, dims: list[_Dimension]) -> None:
        for d in dims:
            if d.index + 1 < d.count:
                d.index += 1
                d.offset = tuple(o + s for o, s in zip(d.offset, d.step, strict=True))  # type: ignore[assignment]
                return
            d.rewind()


@dataclass
class ClusterModel:
    """State of a cluster, and `run`.

    Attributes:
        l1, wmem, imem: uint8 (words, bytes of a word: a byte an NCB).
        pes: PEs of an NCB.
        semaphores: The eight input semaphores.
        signals: Output semaphores incremented, in order.
        forbidden: Word addresses of L1 that a window may not read now.
        volatile, volatile_wmem: Word addresses of L1 and WMEM that somebody else writes: never to be read or written.
        trace: What was executed: opcode, fields, and for MAC the windows of a job and the window registers.
    """

    l1: Words
    wmem: Words
    imem: Words
    pes: int = 8
    semaphores: list[int] = field(default_factory=lambda: [0] * 8)
    signals: list[int] = field(default_factory=list)
    forbidden: set[int] = field(default_factory=set)
    volatile: frozenset[int] = frozenset()
    volatile_wmem: frozenset[int] = frozenset()
    trace: list[tuple[int, dict[str, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lanes = lanes = self.l1.shape[1]
        self.a = _Generator([_Dimension() for _ in range(6)])
        self.o = _Generator([_Dimension() for _ in range(3)])
        self.window = dict(width=0, height=0, pstride=0, xpstep=0, pad=0)
        self.out = dict(width=0, ostride=0)
        self.w_base = self.w_pointer = 0
        self.sets: list[list[dict[str, int]]] = [[{} for _ in range(lanes)] for _ in range(2)]
        self.acc = np.zeros((lanes, self.pes), dtype=np.int64)
        self.kept = np.zeros((lanes, self.pes), dtype=np.int64)

    def instruction(self, pc: int) -> int:
        raw, at = self.imem.reshape(-1), 8 * pc % self.imem.size
        return int.from_bytes(raw[at:at + 8].tobytes(), "little")

    def run(self, pc: int, limit: int = 100_000) -> None:
        """Execute from `pc` until HALT.

        Raises:
            Trap: as the manual says. Hazard: see there. RuntimeError: after `limit` instructions, or a WAIT for ever.
        """
        for _, opcode, fields in executed(self.instruction, pc, limit):
            self.trace.append((opcode, self._costs(opcode, fields)))
            if opcode not in (Opcode.HALT, Opcode.LOOP):
                self.execute(opcode, fields)

    def _costs(self, opcode: Opcode, fields: dict[str, int]) -> dict[str, int]:
        if opcode != Opcode.MAC:
            return fields
        windows = 1
        for d in self.a.dims[:3]:
            windows *= max(1, d.count)
        return fields | {"windows": windows, "pstride": self.window["pstride"], "ostride": self.out["ostride"]}

    def execute(self, opcode: Opcode, f: dict[str, int]) -> None:
        """One instruction other than HALT and LOOP."""
        if opcode == Opcode.WAIT:
            if not self.semaphores[f["semaphore"]]:
                raise RuntimeError("WAIT for ever")
            self.semaphores[f["semaphore"]] -= 1
        elif opcode == Opcode.SIGNAL:
            self.signals.append(f["semaphore"])
        elif opcode == Opcode.FENCE:
            self.forbidden.clear()
        elif opcode in (Opcode.SETB, Opcode.ADDB):
            self._base(opcode, f)
        elif opcode == Opcode.SETD:
            agu = self.a if f["agu"] == Agu.A.value else self.o
            if f["dim"] < len(agu.dims):
                agu.dims[f["dim"]].count = f["count"]
                agu.dims[f["dim"]].step = (f["step"], f["xstep"], f["ystep"])
        elif opcode == Opcode.SETI:
            self.window = {name: f[name] for name in self.window}
        elif opcode == Opcode.SETO:
            self.out = {name: f[name] for name in self.out}
        elif opcode == Opcode.SETW:
            self.w_base = self.w_pointer = f["base"]
        elif opcode == Opcode.ADDW:
            self.w_base = self.w_pointer = (self.w_base + f["step"]) % (1 << 14)
        elif opcode == Opcode.LDP:
            raw, base = self.wmem.reshape(-1), f["base"] // self.pes * self.pes * self.lanes
            for n in range(self.lanes):
                at = (base + _RECORD * n) % raw.size
                record = int.from_bytes(raw[at:at + _RECORD].tobytes(), "little")
                self.sets[f["pset"]][n] = decode(RequantRecord, record)
        elif opcode == Opcode.MAC:
            self._mac(f)

    def _base(self, opcode: Opcode, f: dict[str, int]) -> None:
        agu, outer = (self.a, self.a.dims[3:]) if f["agu"] == Agu.A.value else (self.o, self.o.dims)
        if opcode == Opcode.ADDB:
            agu.base = (agu.base[0] + f["step"], agu.base[1] + f["xstep"], agu.base[2] + f["ystep"])
            return
        agu.base = (f["base"], f["x"], f["y"])
        if f["rewind"]:
            for d in outer:
                d.rewind()

    def _mac(self, f: dict[str, int]) -> None:
        for job in range(f["repeat"] + 1):
            if f["rewind_w"]:
                self.w_pointer = self.w_base
            self._job(f)
            if f["last"]:
                self._drain(f, job)
            if f["advance"]:
                self.a.advance(self.a.dims[3:])
        if f["next_w"]:
            self.w_base = self.w_pointer

    def _positions(self) -> Iterator[int]:
        counts = [max(1, d.count) for d in self.a.dims[:3]]
        for number, _ in enumerate(product(*(range(c) for c in counts))):
            yield number
            self.a.advance(self.a.dims[:3])

    def _read(self, address: int) -> Words:
        address %= len(self.l1)
        if address in self.forbidden or address in self.volatile:
            raise Hazard(f"word {address}")
        return self.l1[address]

    def _window(self) -> tuple[Words, npt.NDArray[np.bool_]]:
        """(PE, lane) bytes, and which words are padding; only words inside the map are read."""
        a, x, y = self.a.at()
        words, padding = np.zeros((self.pes, self.lanes), dtype=np.uint8), np.zeros(self.pes, dtype=bool)
        for p in range(self.pes):
            x_p = wrap(x + p * self.window["xpstep"], 13)
            inside = 0 <= x_p < self.window["width"] and 0 <= y < self.window["height"]
            padding[p] = not inside
            if inside:
                words[p] = self._read(a + p * self.window["pstride"])
        return words, padding

    def _job(self, f: dict[str, int]) -> None:
        op, signed = MacOp(f["op"]), bool(f["signed_a"])
        first = bool(f["first"])
        start, count = ((f[name] | f[f"{name}_high"] << 4) % self.lanes for name in ("lane", "lanes"))
        for number in self._positions():
            words, padding = self._window()
            for k in range(count + 1 if not f["depthwise"] or op == MacOp.TABLE else 1):
                lane = (start + k) % self.lanes
                if op == MacOp.TABLE:
                    self._look_up(lane, words[:, lane], padding, signed, bool(f["first"]) and number == 0)
                    continue
                raw = words.T if f["depthwise"] else np.broadcast_to(words[:, lane], (self.lanes, self.pes))
                a = self._extend(raw, padding, signed)
                if op == MacOp.MAC:
                    if self.w_pointer % len(self.wmem) in self.volatile_wmem:
                        raise Hazard(f"weight {self.w_pointer}")
                    a = a * self.wmem[self.w_pointer % len(self.wmem)].view(np.int8).astype(np.int64)[:, None]
                    self.w_pointer = (self.w_pointer + 1) % len(self.wmem)
                old = self.acc
                if op == MacOp.MAX and not first:
                    self.acc = np.where(a > _low(old, 9), a, old)
                else:
                    self.acc = a if first else old + a
                self.acc = ((self.acc + (1 << 31)) % (1 << 32)) - (1 << 31)
                first = False

    def _extend(self, raw: Words, padding: npt.NDArray[np.bool_], signed: bool) -> npt.NDArray[np.int64]:
        values = raw.astype(np.int64)
        if signed:
            values = np.where(values > 127, values - 256, values)
        return np.where(padding[None, :], self.window["pad"], values)

    def _look_up(self, lane: int, column: Words, padding: npt.NDArray[np.bool_], signed: bool, first: bool) -> None:
        for p in range(self.pes):
            if padding[p]:
                value = self.window["pad"]
            else:
                byte = int(column[p])
                row = self.w_base // self.pes + byte // self.lanes
                value = int(self._read(row * self.pes + p)[byte % self.lanes])
                value = value - 256 if signed and value > 127 else value
            total = value if first else int(self.acc[lane, p]) + value
            self.acc[lane, p] = wrap(total, 32)

    def _drain(self, f: dict[str, int], job: int) -> None:
        mode = Drain(f["drain"])
        if mode == Drain.PAIR:
            mode = Drain.ADD if job % 2 else Drain.KEEP
        if mode == Drain.KEEP:
            self.kept = _low(self.acc, 16)
            return
        pset = 1 if mode == Drain.ADD else f["pset"]
        m, c, s, lo, hi, rounding, wraps = (self._field(pset, name) for name in (
            "m", "c", "s", "lo", "hi", "rounding", "wrap"))
        factor = m if f["wide_m"] else _low(m, 25)
        # Sums of 64 bits that wrap, as int64 does.
        if mode == Drain.ADD:
            first = self._field(0, "m")
            total = self.kept * (first if f["wide_m"] else _low(first, 25)) + self._field(0, "c")
            total = total + _low(self.acc, 16) * factor
        else:
            total = (self.acc if f["wide_x"] else _low(self.acc, 19)) * factor + c
            self.kept = self.acc >> 16
        q = round_shift(total, np.minimum(s, 62), rounding)
        q = np.where(wraps, q, np.minimum(np.maximum(q, lo), hi))
        a, x, _ = self.o.at()
        for p in range(self.pes):
            if 0 <= wrap(x + p, 13) < self.out["width"]:
                self._write(a + p * (self.out["ostride"] + 1), q[:, p])
        self.o.advance(self.o.dims)

    def _field(self, pset: int, name: str) -> npt.NDArray[np.int64]:
        """A field of the records of all NCBs; (NCB, 1)."""
        return np.array([[record[name]] for record in self.sets[pset]], np.int64)

    def _write(self, address: int, values: npt.NDArray[np.int64]) -> None:
        """A word: a value of each NCB."""
        address %= len(self.l1)
        if address in self.volatile:
            raise Hazard(f"write to word {address}")
        self.forbidden.add(address)
        self.l1[address] = (values & 255).astype(np.uint8)
