# SPDX-License-Identifier: Apache-2.0
"""A RISC-V hart in front of a device written in Python: addresses, time, sleep, and what a write may end."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.tb.iss.hart import CV32E40P, AddressMap, HartTiming, Reason, RiscvHost, ScriptHost, instruction_cycles
from riscv_words import T0, T1, T2, WFI, addi, branch, jump, lui, lw, sw

AT = AddressMap(imem=0x1C00_0000, dmem=0x1C08_0000, mmio=0x1A10_0000, ends=0x20, bytes=0x200)
DONE, ASK = AT.ends, 0x184
SLOW = HartTiming(boot=7, sleep=10, wake=20, instruction=instruction_cycles)


class Timer:
    """A device that interrupts `after` cycles behind a write to ASK, or never; notes what is done to it and when."""

    def __init__(self, after: int | None):
        self.cycle, self.after, self.due, self.seen = 0, after, None, []

    def run(self, until: int, asleep: bool = False) -> int:
        if asleep and self.due is None:
            return Reason.STUCK
        if asleep and self.due <= until:
            self.cycle = max(self.cycle, self.due)
            return Reason.INTERRUPT
        self.cycle = max(self.cycle, until)
        return Reason.REACHED

    def read(self, reg: int) -> int:
        self.seen.append((self.cycle, "read", reg, 0))
        return 5

    def write(self, reg: int, value: int) -> None:
        self.seen.append((self.cycle, "write", reg, value))
        if reg == ASK and self.after is not None:
            self.due = self.cycle + self.after


def hart(device: Timer, code: list[int], timing: HartTiming = CV32E40P) -> RiscvHost:
    imem, dmem = np.zeros(4096, np.uint8), np.zeros(4096, np.uint8)
    raw = b"".join(word.to_bytes(4, "little") for word in code)
    imem[: len(raw)] = np.frombuffer(raw, np.uint8)
    return RiscvHost(device, imem, dmem, AT, AT.imem, timing)


ASKS = [lui(T0, 0x1A100), sw(T1, ASK, T0), WFI, lui(T0, 0x1A100), lw(T2, 0x10, T0), sw(T2, DONE, T0), jump(0)]


@pytest.mark.parametrize(("timing", "after", "cycles"), [
    # boot, LUI; three instructions to sleep; from the interrupt LUI, LW, and the value's use a cycle late
    (CV32E40P, 100, [3, 3 + 100 + 3 + 1, 3 + 100 + 3 + 3]), (SLOW, 100, [8, 8 + 100 + 20 + 1, 8 + 100 + 20 + 3]),
])  # fmt: skip
def test_a_hart_at_addresses_of_its_own(timing: HartTiming, after: int, cycles: list[int]) -> None:
    device = Timer(after)
    assert hart(device, ASKS, timing).run(10_000) == Reason.REACHED
    assert device.seen == list(zip(cycles, ("write", "read", "write"), (ASK, 0x10, DONE), (0, 0, 5), strict=True))


def test_nothing_that_can_wake_it() -> None:
    host = hart(Timer(None), ASKS)
    assert host.run(10_000) == Reason.STUCK and host.where() == f"sleeps before {AT.imem + 12:#x}"


def test_registers_repeat_by_their_size() -> None:
    device = Timer(None)
    assert hart(device, [lui(T0, 0x1A100), sw(T1, 0x710, T0), sw(T1, 0x420, T0), jump(0)]).run(1000) == Reason.REACHED
    assert [reg for _, _, reg, _ in device.seen] == [0x110, DONE] and device.cycle < 20


def test_a_fault_names_the_address() -> None:
    host = hart(Timer(None), [lui(T0, 0x1C000), lw(T1, 0, T0)])  # instruction memory is not on the data bus
    host.run(1000)
    assert "accesses 0x1c000000" in host.fault


def test_a_script_ends_at_its_register() -> None:
    device = Timer(None)

    def script(host: ScriptHost):
        assert host.read(0x10) == 5
        host.write(DONE, 1)
        yield

    assert ScriptHost(device, script, DONE, access_cycles=4).run(1000) == Reason.REACHED
    assert device.seen == [(3, "read", 0x10, 0), (7, "write", DONE, 1)] and device.cycle == 8


@pytest.mark.parametrize("word, plain, taken", [
    (addi(1, 1, 1), 1, 1), (lw(1, 0, 2), 1, 1), (sw(1, 0, 2), 1, 1), (branch(0, 1, 2, 8), 1, 3), (jump(8), 2, 2),
    (0x02208033, 1, 1), (0x4501, 1, 1), (0xA001, 2, 2), (0xC101, 1, 3), (0x8082, 2, 2),
])  # fmt: skip
def test_cycles_of_instructions(word: int, plain: int, taken: int) -> None:
    """As in the core's user manual: ALU and memory 1, taken branch 3, jump 2, multiplication 1."""
    cost = instruction_cycles(word)
    assert (cost.plain, cost.taken) == (plain, taken)
