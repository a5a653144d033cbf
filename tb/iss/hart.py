# SPDX-License-Identifier: Apache-2.0
"""Hosts of an instruction-set simulator: the image's own RISC-V code on unicorn, or a script in Python.

A host owns the time between its register accesses: it asks the device to simulate up to the cycle of each access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from unicorn import (
    UC_ARCH_RISCV,
    UC_HOOK_CODE,
    UC_HOOK_MEM_INVALID,
    UC_HOOK_MEM_READ,
    UC_MODE_RISCV32,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    Uc,
    UcError,
)
from unicorn.riscv_const import UC_RISCV_REG_MSTATUS, UC_RISCV_REG_PC

__all__ = [
    "CV32E40P", "AddressMap", "Device", "HartTiming", "HostModel", "InstructionCost", "Reason", "RiscvHost", "Script",
    "ScriptHost", "instruction_cycles",
]  # fmt: skip

_MMIO_BYTES = 0x1000
_WFI = 0x1050_0073
_MIE = 8


class Reason:
    """Why `Device.run` came back. LOST: the device dropped what must not be dropped, which ends the simulation."""

    REACHED, INTERRUPT, TRAPPED, STUCK, LOST = range(5)


class Device(Protocol):
    """What a host drives: everything but the host, cycle by cycle."""

    @property
    def cycle(self) -> int:
        """Cycles since reset."""
        ...

    def run(self, until: int, asleep: bool = False) -> int:
        """Simulate up to (not including) cycle `until`. With `asleep` the host is in WFI: an interrupt ends the run,
        and so does a state in which nothing can ever happen again. Gives the `Reason`."""
        ...

    def read(self, reg: int) -> int:
        """The value in this cycle of the register at a byte offset."""
        ...

    def write(self, reg: int, value: int) -> None:
        """The host writes a register in this cycle, which the next `run` simulates."""
        ...


@dataclass(frozen=True)
class AddressMap:
    """Where a hart finds its instruction memory, its data memory and the device's registers; `ends`: byte offset of the
    register whose write ends an inference. `bytes`: of the registers, a power of two; their addresses repeat."""

    imem: int
    dmem: int
    mmio: int
    ends: int
    bytes: int = 0x100


class HostModel(Protocol):
    """What drives the registers."""

    fault: str  # why the host cannot go on, or ""

    def where(self) -> str:
        """What it does at the moment, for messages."""
        ...

    def run(self, limit: int) -> int:
        """Go on until the host has written the register that ends an inference, or `limit`, or a trap; gives the
        device's `Reason`: REACHED (it was written, or the limit), TRAPPED, STUCK, or LOST."""
        ...


class InstructionCost:
    """Cycles of one instruction: `plain`; `taken` if another than the following one is executed next."""

    __slots__ = ("is_wfi", "loads", "plain", "reads", "taken")

    def __init__(self, plain: int, taken: int, loads: int = 0, reads: tuple[int, ...] = (), is_wfi: bool = False):
        self.plain, self.taken, self.loads, self.reads, self.is_wfi = plain, taken, loads, reads, is_wfi


def instruction_cycles(word: int) -> InstructionCost:
    """Cycles of a RV32IMC instruction on a cv32e40p with memories that answer in the next cycle (its user manual,
    chapter Pipeline Details). Compressed words are those with low bits other than 3."""
    if word & 3 != 3:
        return _compressed_cycles(word & 0xFFFF)
    opcode, funct3 = word & 0x7F, word >> 12 & 7
    rd, rs1, rs2 = word >> 7 & 31, word >> 15 & 31, word >> 20 & 31
    if opcode == 0x03:
        return InstructionCost(1, 1, loads=rd, reads=(rs1,))
    if opcode == 0x23:
        return InstructionCost(1, 1, reads=(rs1, rs2))
    if opcode == 0x63:
        return InstructionCost(1, 3, reads=(rs1, rs2))
    if opcode in (0x6F, 0x67):
        return InstructionCost(2, 2, reads=(rs1,) if opcode == 0x67 else ())
    if opcode == 0x33 and word >> 25 == 1:
        cycles = 1 if funct3 == 0 else 5 if funct3 < 4 else 19  # division takes 3 to 35, by its operands
        return InstructionCost(cycles, cycles, reads=(rs1, rs2))
    if opcode == 0x73:
        return InstructionCost(1, 1, is_wfi=True) if word == _WFI else InstructionCost(4, 4, reads=(rs1,))
    if opcode == 0x0F:
        return InstructionCost(6, 6)  # FENCE.I flushes
    return InstructionCost(1, 1, reads=(rs1, rs2) if opcode == 0x33 else (rs1,))


def _compressed_cycles(word: int) -> InstructionCost:
    quadrant, funct3 = word & 3, word >> 13
    rd, rs2 = word >> 7 & 31, word >> 2 & 31
    small1, small2 = 8 + (word >> 7 & 7), 8 + (word >> 2 & 7)
    if quadrant == 0:
        if funct3 == 2:
            return InstructionCost(1, 1, loads=small2, reads=(small1,))
        return InstructionCost(1, 1, reads=(small1, small2))
    if quadrant == 1:
        if funct3 in (1, 5):
            return InstructionCost(2, 2)
        if funct3 >= 6:
            return InstructionCost(1, 3, reads=(small1,))
        return InstructionCost(1, 1, reads=(rd, small1, small2))
    if funct3 == 2:
        return InstructionCost(1, 1, loads=rd, reads=(2,))
    if funct3 == 4 and rs2 == 0:
        return InstructionCost(2, 2, reads=(rd,))  # c.jr, c.jalr
    return InstructionCost(1, 1, reads=(rd, rs2))


@dataclass(frozen=True)
class HartTiming:
    """Cycles of a core with memories that answer in the next cycle.

    boot: from reset release to the execution of the first instruction. sleep: from WFI to sleep, an interrupt is looked
    for at the earliest then. wake: from the interrupt to the instruction behind WFI. instruction: of a word.
    """

    boot: int
    sleep: int
    wake: int
    instruction: Callable[[int], InstructionCost]


CV32E40P = HartTiming(boot=2, sleep=3, wake=3, instruction=instruction_cycles)
"""The first three were measured on the core's RTL."""


class RiscvHost:
    """The image's firmware, instruction by instruction.

    Interrupts must stay disabled in mstatus (WFI then only waits), data must lie in data memory.
    """

    def __init__(self, core: Device, imem: npt.NDArray[np.uint8], dmem: npt.NDArray[np.uint8], at: AddressMap,
                 entry: int, timing: HartTiming = CV32E40P):
        self.core, self._at, self._timing = core, at, timing
        self._registers = at.bytes - 4  # mask of their words' offsets
        self.fault = ""
        self.time = core.cycle + timing.boot
        self._limit, self._reason = 0, Reason.REACHED
        self._stop = self._asleep = False
        self._pc = entry
        self._last: InstructionCost | None = None
        self._next = entry
        self._memories = (imem, dmem)  # unicorn works on their storage
        self._costs: dict[int, InstructionCost] = {}
        uc = self._uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
        uc.mem_map_ptr(at.imem, len(imem), UC_PROT_READ | UC_PROT_EXEC, imem.ctypes.data)
        uc.mem_map_ptr(at.dmem, len(dmem), UC_PROT_READ | UC_PROT_WRITE, dmem.ctypes.data)
        uc.mmio_map(at.mmio, _MMIO_BYTES, self._read, None, self._write, None)
        uc.hook_add(UC_HOOK_CODE, self._instruction)
        uc.hook_add(UC_HOOK_MEM_INVALID, self._invalid)
        # Instruction memory is not on the data bus.
        uc.hook_add(UC_HOOK_MEM_READ, self._invalid, None, at.imem, at.imem + len(imem) - 1)

    def where(self) -> str:
        return f"sleeps before {self._pc:#x}" if self._asleep else f"runs at {self._pc:#x}"

    def run(self, limit: int) -> int:
        self._limit, self._reason = limit, Reason.REACHED
        while self._reason == Reason.REACHED and not self.fault and self.time < limit:
            self._stop = False
            try:
                self._uc.emu_start(self._pc, 0xFFFF_FFFF)
            except UcError as error:
                self.fault = self.fault or f"the host stopped before {self._next:#x}: {error}"
            self._pc = int(self._uc.reg_read(UC_RISCV_REG_PC))
            if self._stop:
                break
            if not self.fault:
                self._sleep()
        self._advance(min(self.time, limit))
        return self._reason

    def _sleep(self) -> None:
        """WFI: the only instruction that ends emulation."""
        self._last = None
        self.time += self._timing.sleep
        if int(self._uc.reg_read(UC_RISCV_REG_MSTATUS)) & _MIE:
            self.fault = f"the firmware sleeps at {self._pc:#x} with interrupts enabled in mstatus; WFI needs none"
            return
        self._advance(self.time)
        if self._reason != Reason.REACHED:
            return
        self._asleep = True
        reason = self.core.run(self._limit, asleep=True)
        self.time = self.core.cycle
        if reason == Reason.INTERRUPT:
            self._asleep = False
            self.time += self._timing.wake
        else:
            self._reason = reason

    def _advance(self, cycle: int) -> None:
        reason = self.core.run(cycle)
        if reason != Reason.REACHED:
            self._reason, self._stop = reason, True

    def _instruction(self, uc: Uc, address: int, size: int, _: object) -> None:
        last = self._last
        cost = self._costs.get(address)
        if cost is None:
            offset = address - self._at.imem
            word = int.from_bytes(self._memories[0][offset : offset + 4].tobytes(), "little")
            cost = self._costs[address] = self._timing.instruction(word)
        if last is not None:
            straight = address == self._next
            self.time += last.plain if straight else last.taken
            if not straight and address & 2 and size == 4:
                self.time += 1  # the target lies in two words of instruction memory
            if last.loads and last.loads in cost.reads:
                self.time += 1
        self._last = cost
        self._next = address + size
        if self._stop or self.time >= self._limit:
            self._stop = True
            self._last = None
            uc.emu_stop()

    def _read(self, uc: Uc, offset: int, size: int, _: object) -> int:
        self._advance(self.time)
        return self.core.read(offset & self._registers)

    def _write(self, uc: Uc, offset: int, size: int, value: int, _: object) -> None:
        self._advance(self.time)
        self.core.write(offset & self._registers, value)
        self._advance(self.time + 1)
        if offset & self._registers == self._at.ends:
            self._stop = True

    def _invalid(self, uc: Uc, access: int, address: int, size: int, value: int, _: object) -> bool:
        self._stop = True
        self.fault = (f"the host before {self._next:#x} accesses {address:#x}, where there is neither data memory nor "
                      "a register (the hardware reads 0)")
        return False


Script = Callable[["ScriptHost"], Iterator[None]]
"""A generator that uses `ScriptHost.read` and `write`, and yields where firmware would execute WFI."""


class ScriptHost:
    """A host written in Python, for tests and for measurements without firmware; each access takes `access_cycles`.

    ends: byte offset of the register whose write ends an inference.
    """

    def __init__(self, core: Device, script: Script, ends: int, access_cycles: int = 2):
        self.core, self._ends = core, ends
        self.fault = ""
        self.access_cycles = access_cycles
        self._script = script(self)
        self._done = False
        self._reason = Reason.REACHED

    def where(self) -> str:
        return "is a script"

    def read(self, reg: int) -> int:
        self._advance(self.core.cycle + self.access_cycles - 1)
        value = self.core.read(reg)
        self._advance(self.core.cycle + 1)
        return value

    def write(self, reg: int, value: int) -> None:
        self._advance(self.core.cycle + self.access_cycles - 1)
        self.core.write(reg, value)
        self._advance(self.core.cycle + 1)
        self._done |= reg == self._ends

    def _advance(self, cycle: int) -> None:
        if self._reason == Reason.REACHED:
            self._reason = self.core.run(cycle)

    def run(self, limit: int) -> int:
        self._done, self._reason = False, Reason.REACHED
        while self.core.cycle < limit and self._reason == Reason.REACHED:
            finished = next(self._script, self) is self
            if self._done or self._reason != Reason.REACHED:
                break
            reason = self.core.run(limit, asleep=True)
            if reason != Reason.INTERRUPT:
                self._reason = reason
            elif finished:
                self._reason = Reason.STUCK
        return self._reason


