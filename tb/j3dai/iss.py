# SPDX-License-Identifier: Apache-2.0
"""Instruction-set simulator of the J3DAI accelerator: executes an image as the RTL does, bit by bit and cycle by cycle.

    machine = Machine(PLATFORM, seed=1)
    machine.load_elf("model.elf")
    result = machine.run_frame(max_cycles=10_000_000)
    machine.l2[...]                      # numpy views of all memories
    result.lists[3].counters["cluster0"]["busy"]

It sees the image's loadable segments only. The host's code runs on unicorn; the accelerator is simulated cycle by
cycle in C++ (`iss_core`), whose one timing model also serves `nncosim.tb.j3dai.cycles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nncosim.hdl.j3dai.isa import DmpaOp, Opcode
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE, L2_BASE, MMIO_BASE, Counter, Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Diagnosis
from nncosim.tb.iss.elf import IssError, load_elf
from nncosim.tb.iss.hart import AddressMap, HostModel, Reason, RiscvHost, Script, ScriptHost
from nncosim.tb.j3dai.capture import named_transfers
from nncosim.tb.j3dai.iss_core import DMPA_ENGINE, HOST_ENGINE, Core, Status

__all__ = ["FrameResult", "ListResult", "Machine"]

Counters = Mapping[str, Mapping[str, int]]

_HOST = AddressMap(HOST_IMEM_BASE, HOST_DMEM_BASE, MMIO_BASE, ends=Reg.FRAMES_DONE)


@dataclass(frozen=True)
class ListResult:
    """One descriptor list of a frame.

    `index`: since reset. `start`, `end`: cycles since the frame began; `end` is the cycle of its completion (all its
    writes are in L2), `start` that of the list before it, 0 for the first. `counters`: engine ("cluster0"...,
    "dmpa", "host") -> `Counter` name in lower case -> cycles; they add up to end - start. `transfers`: see
    `named_transfers`.
    """

    index: int
    start: int
    end: int
    counters: Counters
    transfers: Counters = field(default_factory=dict)


@dataclass(frozen=True)
class FrameResult:
    """One inference. `begin`: cycle since reset of its request; `cycles`: from there to the write of FRAMES_DONE.

    `counters`: of the whole frame. `diagnosis`: why it stopped early, or None. `error`: register ERROR.
    """

    begin: int
    cycles: int
    lists: tuple[ListResult, ...]
    counters: Counters
    diagnosis: Diagnosis | None
    error: int
    transfers: Counters = field(default_factory=dict)


class Machine:
    """The accelerator with its memories.

    Attributes:
        l2, host_imem, host_dmem: shape (bytes,), uint8: the memories themselves.
        core: registers, and the clusters' memories `core.l1`, `core.wmem`, `core.imem`, shape (clusters, bytes).

    Args:
        platform: sizes.
        data: compute tensor data. Without it only control flow and cycles are simulated (they do not depend on data).
        seed: of the poison that fills all memories.
        log_writes: record every beat written to L2 (`core.l2_writes()`).
        batch: simulate several cycles at a time where nothing can interfere (the same results, sooner).
        log_activity: record whenever an engine turns to something else (`core.changes()`).
    """

    def __init__(
        self, platform: J3dai, *, data: bool = True, seed: int = 0, log_writes: bool = False, batch: bool = True,
        log_activity: bool = False,
    ):
        self.platform = platform
        self.core = Core(platform, data, log_writes, batch, log_activity)
        self.l2 = self.core.l2
        self.host_imem = np.zeros(platform.host_imem_bytes, np.uint8)
        self.host_dmem = np.zeros(platform.host_dmem_bytes, np.uint8)
        self.host: HostModel | None = None
        self._frames = 0
        if data:
            rng = np.random.default_rng(seed)
            for memory in (self.l2, self.core.l1, self.core.wmem, self.core.imem, self.host_imem, self.host_dmem):
                memory.reshape(-1)[:] = np.frombuffer(rng.bytes(memory.size), np.uint8)

    def load_elf(self, image: str | Path | bytes) -> None:
        """Load every PT_LOAD segment to its physical address; the host starts at the entry point.

        Raises:
            IssError: not a 32-bit RISC-V ELF file, or a segment outside the memories.
        """
        memories = ((HOST_IMEM_BASE, self.host_imem), (HOST_DMEM_BASE, self.host_dmem), (L2_BASE, self.l2))
        entry = load_elf(image, memories)
        self.host = RiscvHost(self.core, self.host_imem, self.host_dmem, _HOST, entry)

    def run_script(self, script: Script, access_cycles: int = 2) -> None:
        """Use a Python generator in place of the image's firmware (see `nncosim.tb.iss.hart.Script`)."""
        self.host = ScriptHost(self.core, script, Reg.FRAMES_DONE, access_cycles)

    def run_frame(self, max_cycles: int) -> FrameResult:
        """Pulse `frame` and run until the host writes FRAMES_DONE.

        Raises:
            IssError: nothing was loaded.
        """
        if self.host is None:
            raise IssError("load an image (load_elf) before running")
        if self._frames:
            self.core.run(self.core.cycle + 1)  # the next request comes a cycle after the completion was seen
        begin, before = self.core.cycle if self._frames else 0, self.core.counters().astype(np.int64)
        moved = self.core.transfers()
        first = len(self.core.lists())
        self._frames += 1
        self.core.frame()
        reason = self.host.run(begin + max_cycles)
        status = self.core.status()
        diagnosis = self._diagnose(reason, status, max_cycles)
        after = self.core.counters().astype(np.int64)
        end = self.core.cycle
        lists = self._lists(first, begin, before, moved)
        return FrameResult(begin, end - begin, lists, self._named(after - before), diagnosis, status.error,
                           named_transfers(self.core.transfers() - moved))

    def _lists(self, first: int, begin: int, before: npt.NDArray[np.int64],
               moved: npt.NDArray[np.uint32]) -> tuple[ListResult, ...]:
        results = []
        start = begin
        for index, record in enumerate(self.core.lists()[first:], first):
            end, counters = int(record["cycle"]), record["counters"].astype(np.int64)
            results.append(ListResult(index, start - begin, end - begin, self._named(counters - before),
                                      named_transfers(record["transfers"] - moved)))
            start, before, moved = end, counters, record["transfers"]
        return tuple(results)

    def _named(self, counters: npt.NDArray[np.int64]) -> Counters:
        engines = [(f"cluster{c}", c) for c in range(self.platform.clusters)]
        engines += [("dmpa", DMPA_ENGINE), ("host", HOST_ENGINE)]
        out: dict[str, dict[str, int]] = {}
        for name, row in engines:
            values = [int(value) & 0xFFFF_FFFF for value in counters[row]]
            out[name] = {counter.name.lower(): values[counter] for counter in Counter}
        return out

    def _diagnose(self, reason: int, status: Status, max_cycles: int) -> Diagnosis | None:
        text = "\n".join(self.describe(status))
        fault = self.host.fault if self.host else ""
        if fault:
            return Diagnosis("trap", f"{fault}\n{text}")
        if reason == Reason.LOST:
            return Diagnosis("check", "\n".join([*self._lost(status), text]))
        if reason == Reason.TRAPPED:
            return Diagnosis("trap", text)
        if status.frames_done == status.frames_requested:
            return None
        if reason == Reason.STUCK:
            return Diagnosis("hang", f"deadlock at cycle {status.cycle}: nothing can happen any more\n{text}")
        return Diagnosis("hang", f"no end within {max_cycles} cycles\n{text}")

    def _lost(self, status: Status) -> list[str]:
        """The words of the RTL's monitors for semaphores that ran over in the cycle simulated last."""
        lines = []
        for c, at in enumerate(status.cluster[: self.platform.clusters]):
            if at.lost_outputs:
                lines.append(f"cluster {c} signals output semaphores {at.lost_outputs:08b} at 255: that is lost")
            if at.lost_inputs:
                lines.append(f"input semaphores {at.lost_inputs:08b} of cluster {c} are incremented at 255: "
                             "that is lost")
        return [f"checker error: cycle {status.cycle - 1}: {line}" for line in lines]

    def describe(self, status: Status | None = None) -> list[str]:
        """Where everybody stands, one line an engine."""
        status = status or self.core.status()
        where = self.host.where() if self.host else "absent"
        lines = [f"host: {where}; {status.frames_done} of {status.frames_requested} frames done, "
                 f"error {status.error:#x}; {status.lists_done} lists done"]
        op = DmpaOp(status.dmpa_op).name if status.dmpa_op in {op.value for op in DmpaOp} else f"op {status.dmpa_op}"
        where = f"{op} descriptor at L2 word {status.dmpa_address} (list {status.dmpa_list})"
        if status.dmpa_trap:
            lines.append(f"dmpa: trap: {status.dmpa_reason.decode()}; {where}")
        elif status.dmpa_waiting:
            waits = ", ".join(f"cluster{c}" for c in range(8) if status.dmpa_waiting >> c & 1)
            lines.append(f"dmpa: {where} waits for output semaphore {status.dmpa_semaphore} of {waits}")
        else:
            lines.append("dmpa: idle" if status.dmpa_idle else f"dmpa: runs {where}")
        return lines + [self._describe_cluster(status, c) for c in range(self.platform.clusters)]

    @staticmethod
    def _describe_cluster(status: Status, index: int) -> str:
        at = status.cluster[index]
        known = at.opcode in set(Opcode)
        name = Opcode(at.opcode).name if known else f"opcode {at.opcode}"
        where = f"cluster{index}:"
        if at.trap:
            return f"{where} trap: {name} at {at.pc}" + ("" if known else " does not exist")
        if not at.running:
            return f"{where} armed, waits for input semaphore 7 (its program)" if at.armed else f"{where} idle"
        if at.waits:
            return f"{where} waits at {at.pc} for input semaphore {at.semaphore}"
        return f"{where} runs {'a MAC before ' if at.sequencer_busy else ''}{name} at {at.pc}"
