# SPDX-License-Identifier: Apache-2.0
"""A J3DAI platform as a simulation: the whole SoC with its monitors, and how to reach its memories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from nncosim.hdl.cv32e40p import core_files, core_include_dirs
from nncosim.hdl.j3dai.regs import Counter, EntryCounter, TransferCounter, TransferKind
from nncosim.hdl.j3dai.soc import ClusterFactory, emit_soc
from nncosim.hdl.j3dai.timing import LOAD_TO_CLUSTER
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.tb.errors import BuildError
from nncosim.tb.j3dai.l1_taps import l1_taps
from nncosim.tb.sim.backdoor import Backdoor, Stack
from nncosim.tb.sim.emitted import emitted
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.verilate import BuildProgress, BuiltModel, build

__all__ = [
    "CHANGE_STREAM",
    "COUNTERS_STREAM",
    "ENTRY",
    "ENTRY_STREAM",
    "ENTRY_WRITE",
    "ENTRY_WRITE_STREAM",
    "FRAME_ASKED",
    "FRAME_DONE",
    "FRAME_DONE_STREAM",
    "FRAME_ENDS",
    "HOST_BEGINS",
    "L2_READ",
    "L2_READ_STREAM",
    "L2_WRITE_STREAM",
    "LIST_DONE",
    "LIST_DONE_STREAM",
    "SOC",
    "TOP",
    "TRANSFERS_STREAM",
    "SocDesign",
    "build_soc",
    "counters_dtype",
    "engine_names",
    "host_memory",
    "l2_rows",
    "l2_write_dtype",
    "read_host",
    "read_l2",
    "sensor_beats",
    "soc_design",
    "soc_verilog",
    "split_counters",
    "transfers_dtype",
    "write_host",
    "write_l2",
]  # fmt: skip

TOP = "j3dai_tb"
SOC = "soc"
"""Instance of the SoC in the top: memories are ``soc.l2.bank0`` and ``soc.host.imem`` (each a `Stack`)..."""

_HERE = Path(__file__).parent
_ABSENT = re.compile(r"Can't find definition of '\S+' in dotted variable/method: '(\S+)'")  # Verilator's

L2_WRITE_STREAM, LIST_DONE_STREAM, FRAME_DONE_STREAM, COUNTERS_STREAM, CHANGE_STREAM = 1, 2, 3, 4, 5
"""Event-log streams of the monitors. `COUNTERS_STREAM` has a record of each list done, frame done and frame request,
of all cycles before it;
`CHANGE_STREAM` has `activity.CHANGE` records."""

L2_WRITE_BYTES = 128
"""Data of a record of `L2_WRITE_STREAM`: a line, or the part of a longer one (each that is written has a record)."""

TRANSFERS_STREAM = 7
ENTRY_STREAM, ENTRY_WRITE_STREAM = 9, 10
ENTRY = np.dtype([("cycle", "<u8"), ("counters", "<u4", (len(EntryCounter),)), ("events", "<u4")])
"""The entry port's counters (`EntryCounter`) when something happened: bits of ``events`` as below."""
HOST_BEGINS, FRAME_ASKED, FRAME_ENDS = 1, 2, 4
ENTRY_WRITE = np.dtype([("cycle", "<u8"), ("address", "<u8"), ("unused", "<u8", (2,))])
"""A word that the entry port wrote to L2 while the host runs."""
L2_READ_STREAM = 6
L2_READ = np.dtype([("cycle", "<u8"), ("address", "<u8"), ("mask", "<u8"), ("unused", "<u8")])
"""One read of L2 by a LOAD: word address + i was read if bit i of ``mask`` is set."""

LIST_DONE = np.dtype([("cycle", "<u8"), ("list", "<u8"), ("unused", "<u8", (2,))])
"""All writes of list number ``list`` (from 0, since reset) are in L2."""

FRAME_DONE = np.dtype([("cycle", "<u8"), ("frames", "<u8"), ("unused", "<u8", (2,))])
"""The host wrote FRAMES_DONE = ``frames``."""


def l2_write_dtype(platform: J3dai = PLATFORM) -> np.dtype[np.void]:
    """Record of `L2_WRITE_STREAM`: word i of ``data`` went to word address + i of L2 if bit i of ``mask`` is set."""
    words = min(platform.banks, L2_WRITE_BYTES // platform.word_bytes)
    return np.dtype([
        ("cycle", "<u8"), ("list", "<u4"), ("address", "<u4"), ("mask", "<u4"),
        ("data", "u1", (words, platform.word_bytes)),
    ])  # fmt: skip


def counters_dtype(platform: J3dai) -> np.dtype[np.void]:
    """Record of `COUNTERS_STREAM`: (engine, counter) in the order of `engine_names` and `Counter`."""
    return np.dtype([("cycle", "<u8"), ("counters", "<u4", (platform.clusters + 2, len(Counter)))])


def transfers_dtype() -> np.dtype[np.void]:
    """Record of `TRANSFERS_STREAM`, in the same cycles: (`TransferKind`, `TransferCounter`) of the DMPA."""
    return np.dtype([("cycle", "<u8"), ("transfers", "<u4", (len(TransferKind), len(TransferCounter)))])


def engine_names(platform: J3dai) -> tuple[str, ...]:
    """Engines in the order of the counters: the clusters, the DMPA, the host."""
    return (*(f"cluster{k}" for k in range(platform.clusters)), "dmpa", "host")


def split_counters(platform: J3dai, value: int) -> dict[str, dict[str, int]]:
    """The port ``probe_counters`` as engine -> lower-case name of the `Counter` -> cycles."""
    names = [(engine, counter.name.lower()) for engine in engine_names(platform) for counter in Counter]
    out: dict[str, dict[str, int]] = {}
    for index, (engine, counter) in enumerate(names):
        out.setdefault(engine, {})[counter] = value >> (32 * index) & 0xFFFFFFFF
    return out


def soc_verilog(platform: J3dai) -> dict[str, str]:
    """The SoC as Verilog, file name to text, without the host core."""
    return emitted("j3dai_soc", platform, lambda: emit_soc(platform))


def build_soc(
    platform: J3dai,
    *,
    cluster: ClusterFactory | None = None,
    patch: RtlPatch | None = None,
    inside: bool = False,
    trace: str | None = None,
    jobs: int = 2,
    progress: BuildProgress | None = None,
    **options: Any,
) -> BuiltModel:
    """The platform's SoC under `TOP`, built once for each content.

    Args:
        cluster: Another cluster than the real one, for benches of the rest.
        patch: Of the Verilog that the SoC is emitted as (`soc_verilog`).
        inside: With records of what passes the boundaries between the blocks (`nncosim.tb.j3dai.taps`). A signal that
            the RTL does not have any more, as one that nothing drives, is 0 there.
        trace: "vcd" or "fst" for a build with waveforms.
        options: Further fields of `nncosim.tb.sim.verilate.BuildOptions`.

    Raises:
        BuildError, ToolError: as `nncosim.tb.sim.verilate.build`.
        BenchError: the patch does not fit.
    """
    # Against -O3: about half of the compiler's work, and 11 to 16 % slower (three networks). Most simulations of an RTL
    # that is being worked on run shorter than they are built.
    options = {"optimize": "-O1", "optimize_rest": "-O0", **options}
    absent: set[str] = set()
    while True:
        design = soc_design(platform, cluster=cluster, patch=patch, inside=inside, absent=absent)
        try:
            return build(
                design.sources, TOP, files=design.files, include_dirs=design.include_dirs,
                parameters=design.parameters, trace=trace, jobs=jobs, progress=progress, **options,
            )  # fmt: skip
        except BuildError as problem:
            missing = _ABSENT.search(problem.log.read_text()) if inside else None
            if missing is None or missing[1] in absent:
                raise
            absent.add(missing[1])


class SocDesign(NamedTuple):
    """What a simulation of the SoC is built from, but for its options; as of `nncosim.tb.sim.verilate.build`."""

    sources: dict[str, str]
    files: tuple[Path, ...]
    include_dirs: list[Path]
    parameters: dict[str, int]


def soc_design(
    platform: J3dai, *, cluster: ClusterFactory | None = None, patch: RtlPatch | None = None, inside: bool = False,
    absent: Iterable[str] = (),
) -> SocDesign:
    """See `build_soc`. absent: names of watched signals that the RTL does not have."""
    sources = soc_verilog(platform) if cluster is None else emit_soc(platform, cluster)
    if patch is not None:
        sources = patch.applied(sources)
    taps = l1_taps(platform, f"{TOP}.{SOC}" if cluster is None else None, inside, absent)
    sources = {**sources, "j3dai_l1_taps.sv": taps}
    parameters = {
        "CLUSTERS": platform.clusters, "WORD_BITS": platform.word_bits, "BANKS": platform.banks,
        "LOAD_TO_CLUSTER": LOAD_TO_CLUSTER, "SENSOR_BEATS": sensor_beats(platform),
    }
    files = (*core_files(), _HERE / "monitors.sv", _HERE / "sensor.sv", _HERE / "j3dai_tb.sv")
    return SocDesign(sources, files, core_include_dirs(), parameters)


def sensor_beats(platform: J3dai) -> int:
    """Beats that the sensor of the top holds at a time: more than fill all memories behind the entry port."""
    memories = platform.l2_bytes + platform.host_imem_bytes + platform.host_dmem_bytes
    return 1 << (memories // platform.word_bytes + 1024).bit_length()


def host_memory(model: Backdoor, name: str) -> Stack:
    """The host's "imem" or "dmem", of shape (words, 4 bytes). Writes reach the model."""
    return model.stack(f"{SOC}.host.{name}", np.uint8)


def write_host(model: Backdoor, name: str, offset: int, data: bytes) -> None:
    """Put bytes into the host's "imem" or "dmem", from byte `offset` on."""
    memory, first, end = host_memory(model, name), offset // 4, -(-(offset + len(data)) // 4)
    words = memory[first:end].copy()
    words.reshape(-1)[offset - 4 * first :][: len(data)] = np.frombuffer(data, np.uint8)
    memory[first:end] = words


def read_host(model: Backdoor, name: str) -> npt.NDArray[np.uint8]:
    """All bytes of the host's "imem" or "dmem", as a copy."""
    return host_memory(model, name).copy().reshape(-1)


def l2_rows(model: Backdoor, platform: J3dai = PLATFORM) -> list[Stack]:
    """L2's banks, of shape (rows, word bytes): word a is row a // banks of bank a % banks. Writes reach the model."""
    return [model.stack(f"{SOC}.l2.bank{k}", np.uint8) for k in range(platform.banks)]


def write_l2(
    model: Backdoor, address: int, data: bytes | npt.NDArray[np.uint8], platform: J3dai = PLATFORM
) -> None:
    """Put whole words into L2 from word `address` on."""
    words = np.frombuffer(bytes(data), np.uint8).reshape(-1, platform.word_bytes)
    for bank, rows, chosen in _spread(model, platform, address, len(words)):
        bank[rows] = words[chosen]


def read_l2(model: Backdoor, address: int, count: int, platform: J3dai = PLATFORM) -> npt.NDArray[np.uint8]:
    """`count` words of L2 from word `address` on; shape (count, word bytes)."""
    out = np.empty((count, platform.word_bytes), np.uint8)
    for bank, rows, chosen in _spread(model, platform, address, count):
        out[chosen] = bank[rows]
    return out


def _spread(
    model: Backdoor, platform: J3dai, address: int, count: int
) -> Iterator[tuple[Stack, slice, slice]]:
    """Per bank: its storage, its rows, and which of the words they are."""
    banks = platform.banks
    for k, bank in enumerate(l2_rows(model, platform)):
        first = (k - address) % banks
        number = len(range(first, count, banks))
        row = (address + first) // banks
        yield bank, slice(row, row + number), slice(first, None, banks)
