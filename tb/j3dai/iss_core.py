# SPDX-License-Identifier: Apache-2.0
"""The accelerator's core simulator: C++ (iss_core.cpp), called through ctypes.

Formats, opcodes, registers and latencies reach it as a header generated from `nncosim.hdl.j3dai`.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from amaranth.lib import data
from nncosim.hdl.j3dai import timing
from nncosim.hdl.j3dai.isa import (
    INSTRUCTIONS,
    KEPT_BITS,
    MAX_BITS,
    NARROW_M_BITS,
    NARROW_X_BITS,
    Descriptor,
    DmpaOp,
    Drain,
    MacOp,
    Opcode,
    RequantRecord,
)
from nncosim.hdl.j3dai.regs import ID_VALUE, TRANSFER_ENGINE, Counter, Reg, TransferCounter, TransferKind
from nncosim.platforms.j3dai import J3dai
from nncosim.platforms.rounding import Rounding
from nncosim.tb.boundaries.layouts import seen_source
from nncosim.tb.iss.native import NativeSources, Signatures, records
from nncosim.tb.j3dai.activity import CHANGE
from nncosim.tb.j3dai.l1_capture import l1_write_dtype
from nncosim.tb.j3dai.taps import seen_header, seen_layouts

__all__ = [
    "COUNTERS", "DMPA_ENGINE", "ENGINES", "HOST_ENGINE", "LIST_DONE", "Core", "Status", "l2_write_dtype",
]  # fmt: skip

ENGINES = 10
DMPA_ENGINE = 8
HOST_ENGINE = 9
COUNTERS = tuple(counter.name.lower() for counter in Counter)
MAX_CLUSTERS = 8

_TRANSFERS = (len(TransferKind), len(TransferCounter))
LIST_DONE = np.dtype([
    ("cycle", "<u8"), ("counters", "<u4", (ENGINES, len(Counter))), ("transfers", "<u4", _TRANSFERS)])
"""A list's completion: cycle of the pulse; counters of all engines (`Counter` order), and of the DMPA's transfers, of
all cycles before it."""

_SOURCES = NativeSources("the J3DAI simulator", Path(__file__).parent, (
    "iss_common.h", "iss_seen.h", "iss_agu.h", "iss_mac.h", "iss_cluster.h", "iss_dmpa.h", "iss_core.cpp"),
    prefix="j3dai_")


def l2_write_dtype(platform: J3dai) -> np.dtype[np.void]:
    """A beat written to L2: index of its list since reset, word address; word i of `data` (words of a line, bytes of a
    word) is written if bit i of `mask` is set."""
    return np.dtype([
        ("cycle", "<u8"), ("list", "<u4"), ("address", "<u4"), ("mask", "<u4"), ("unused", "<u4"),
        ("data", "u1", (platform.banks, platform.word_bytes)),
    ])  # fmt: skip


def formats_header(platform: J3dai) -> str:
    """Text of j3dai_formats.h: the formats, and what of the platform is a constant."""
    lines = ["// Generated from hdl/j3dai. Do not edit.", "#pragma once"]
    formats: list[type[data.Struct]] = [*INSTRUCTIONS.values(), Descriptor, RequantRecord]
    for fmt in formats:
        for name, field in fmt.as_shape():
            shape = Shape.cast(field.shape)
            value = f"{{{field.offset}, {shape.width}, {int(shape.signed)}}}"
            lines.append(f"constexpr Field {fmt.__name__}_{name}{value};")
    for prefix, names in (("OPCODE", Opcode), ("MACOP", MacOp), ("DRAIN", Drain), ("DMPAOP", DmpaOp),
                          ("ROUNDING", Rounding), ("REG", Reg), ("COUNTER", Counter), ("TRANSFER", TransferKind),
                          ("TRANSFERCOUNTER", TransferCounter)):
        lines += [f"constexpr int {prefix}_{member.name} = {int(member.value)};" for member in names]
    for name in timing.__all__:
        constant = getattr(timing, name)
        if isinstance(constant, int):
            lines.append(f"constexpr int {name} = {constant};")
    lines.append(f"constexpr int RECORD_LINES = {timing.record_lines(platform.pes_per_ncb)};")
    once = timing.drain_cycles(platform.pes_per_ncb, platform.ncbs_per_requantizer, 1)
    lines.append(f"constexpr int DRAIN_ONCE = {once}, L1_PORTS = {platform.l1_ports};")
    lines.append(f"constexpr int NARROW_X_BITS = {NARROW_X_BITS}, NARROW_M_BITS = {NARROW_M_BITS};")
    lines.append(f"constexpr int KEPT_BITS = {KEPT_BITS}, MAX_BITS = {MAX_BITS};")
    word, pes = platform.word_bytes, platform.pes_per_ncb
    lines.append(f"constexpr int WORD = {word}, PES = {pes};")
    lines.append(f"constexpr uint32_t ID_VALUE = {ID_VALUE}, TRANSFER_ENGINE = {TRANSFER_ENGINE};")
    return "\n".join([*lines, *seen_header(platform), ""])


class _Config(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("clusters", "beat_words", "data", "batch")),
        *((name, ctypes.c_uint32) for name in ("l2_words", "l1_words", "wmem_words", "imem_words")),
    ]  # fmt: skip


class ClusterStatus(ctypes.Structure):
    """Where a cluster stands. `lost_inputs`, `lost_outputs`: its semaphores (bits) that were incremented at 255."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "running", "armed", "trap", "pc", "opcode", "waits", "semaphore", "sequencer_busy", "lost_inputs",
        "lost_outputs")]


class Status(ctypes.Structure):
    """Where everybody stands; `dmpa_waiting`: clusters whose semaphore the next descriptor waits for."""

    _fields_ = [
        ("cycle", ctypes.c_uint64), *((name, ctypes.c_uint32) for name in (
            "lists_done", "frames_requested", "frames_done", "error", "dmpa_trap", "dmpa_idle", "dmpa_running",
            "dmpa_op", "dmpa_address", "dmpa_list", "dmpa_waiting", "dmpa_semaphore")),
        ("dmpa_reason", ctypes.c_char * 64), ("cluster", ClusterStatus * MAX_CLUSTERS),
    ]  # fmt: skip


def _functions() -> Signatures:
    handle, u64, u32, i32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int32
    logs = {name: (handle, (handle, handle)) for name in ("lists", "writes", "l1_writes", "changes")}
    orders = {name: (None, (handle,)) for name in (
        "destroy", "frame", "clear_writes", "log_l1", "clear_l1_writes", "log_activity", "log_seen")}
    looks = {name: (None, (handle, handle)) for name in ("status", "counters", "transfers")}
    return {
        "create": (handle, (handle,) * 5 + (i32,)), "run": (i32, (handle, u64, i32)), "cycle": (u64, (handle,)),
        "read": (u32, (handle, u32)), "write": (None, (handle, u32, u32)), "seen": (handle, (handle, u32, handle)),
        **logs, **orders, **looks,
    }  # fmt: skip


@functools.cache
def _library(header: str) -> ctypes.CDLL:
    return _SOURCES.load({"j3dai_formats.h": header, **seen_source()}, _functions())


class Core:
    """Control registers, DMPA, L2 and clusters.

    Attributes:
        l2: shape (bytes,), uint8. l1, wmem, imem: shape (clusters, bytes), uint8. They are the simulator's own storage.

    Args:
        platform: sizes.
        data: compute tensor data; without it control flow and cycles are the same, and L1, WMEM and L2 do not change.
        log_writes: keep a record of each beat written to L2 (`l2_writes`).
        log_activity: keep a record whenever an engine turns to something else (`changes`).
        batch: simulate several cycles at a time where nothing can interfere. The results are the same, only slower
            without it.

    Raises:
        BuildError, ToolError: the simulator cannot be built.
    """

    def __init__(self, platform: J3dai, data: bool = True, log_writes: bool = False, batch: bool = True,
                 log_activity: bool = False):
        self.platform = platform
        self._library = _library(formats_header(platform))
        self.l2 = np.zeros(platform.l2_bytes, np.uint8)
        self.l1, self.wmem, self.imem = (
            np.zeros((platform.clusters, size), np.uint8)
            for size in (platform.l1_bytes, platform.wmem_bytes, platform.imem_bytes))
        self._config = _Config(platform.clusters, platform.beat_words, int(data), int(batch), platform.l2_words,
                               platform.l1_words, platform.wmem_words, platform.imem_words)
        memories = [memory.ctypes.data for memory in (self.l2, self.l1, self.wmem, self.imem)]
        self._core = self._library.j3dai_create(ctypes.byref(self._config), *memories, int(log_writes))
        if log_activity:
            self._library.j3dai_log_activity(self._core)

    def __del__(self) -> None:
        if getattr(self, "_core", None):
            self._library.j3dai_destroy(self._core)

    @property
    def cycle(self) -> int:
        """Cycles since reset."""
        return int(self._library.j3dai_cycle(self._core))

    def run(self, until: int, asleep: bool = False) -> int:
        """See `nncosim.tb.iss.hart.Device`; `Reason` LOST: a semaphore was incremented at 255."""
        return int(self._library.j3dai_run(self._core, until, int(asleep)))

    def read(self, reg: int) -> int:
        """A register's value in this cycle."""
        return int(self._library.j3dai_read(self._core, reg))

    def write(self, reg: int, value: int) -> None:
        """The host writes a register in this cycle, which the next `run` simulates."""
        self._library.j3dai_write(self._core, reg, value & 0xFFFF_FFFF)

    def frame(self) -> None:
        """Pulse the `frame` input in this cycle."""
        self._library.j3dai_frame(self._core)

    def status(self) -> Status:
        status = Status()
        self._library.j3dai_status(self._core, ctypes.byref(status))
        return status

    def counters(self) -> npt.NDArray[np.uint32]:
        """Shape (ENGINES, 6): cycles since reset, this one excluded. What the host reads is a cycle late."""
        out = np.zeros((ENGINES, len(Counter)), np.uint32)
        self._library.j3dai_counters(self._core, out.ctypes.data)
        return out

    def transfers(self) -> npt.NDArray[np.uint32]:
        """Shape (`TransferKind`, `TransferCounter`): the DMPA's transfers since reset."""
        out = np.zeros(_TRANSFERS, np.uint32)
        self._library.j3dai_transfers(self._core, out.ctypes.data)
        return out

    def lists(self) -> npt.NDArray[np.void]:
        """`LIST_DONE` records since reset, a copy."""
        return records(self._library.j3dai_lists, self._core, LIST_DONE)

    def l2_writes(self, clear: bool = False) -> npt.NDArray[np.void]:
        """`l2_write_dtype` records since reset or the last time with `clear`, a copy."""
        found = records(self._library.j3dai_writes, self._core, l2_write_dtype(self.platform))
        if clear:
            self._library.j3dai_clear_writes(self._core)
        return found

    def log_l1(self) -> None:
        """From now on keep a record of what the clusters' results write to L1 (`l1_writes`)."""
        self._library.j3dai_log_l1(self._core)

    def l1_writes(self) -> npt.NDArray[np.void]:
        """`l1_write_dtype` records since the last time, each cluster's in order."""
        found = records(self._library.j3dai_l1_writes, self._core, l1_write_dtype(self.platform))
        self._library.j3dai_clear_l1_writes(self._core)
        return found

    def changes(self) -> npt.NDArray[np.void]:
        """`CHANGE` records since reset, a copy."""
        return records(self._library.j3dai_changes, self._core, CHANGE)

    def log_seen(self) -> None:
        """From now on keep what passes the boundaries between the blocks (`seen`); to be asked for with `batch` off."""
        self._library.j3dai_log_seen(self._core)

    def seen(self) -> dict[str, npt.NDArray[np.void]]:
        """Records of each of `nncosim.tb.j3dai.taps.seen_layouts`, a copy."""
        return {
            name: records(lambda core, count, number=number: self._library.j3dai_seen(core, number, count), self._core,
                          layout)
            for number, (name, layout) in enumerate(seen_layouts(self.platform).items())
        }  # fmt: skip
