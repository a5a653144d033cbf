# SPDX-License-Identifier: Apache-2.0
"""J3DAI for fault injection: its SoC with all registers visible, its blocks, and what an inference leaves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Entering
from nncosim.tb.fault_target import Observed
from nncosim.tb.faults.registers import SETTLE, registers_of, visibility
from nncosim.tb.j3dai.build import SOC, TOP, build_soc, soc_design
from nncosim.tb.j3dai.diagnosis import describe
from nncosim.tb.j3dai.records import RawFrame
from nncosim.tb.j3dai.rtl import PROBES, SocRun
from nncosim.tb.sim.verilate import BuildProgress, BuiltModel

__all__ = ["J3daiFaults", "block_of", "build_faulty_soc"]

_BENCH = ("j3dai_tb", "j3dai_monitors", "j3dai_l1_taps", "j3dai_sensor")
"""Modules of the bench, which take no faults."""
_BENCH_REGISTER = re.compile(r"(^|\.)probe_\w+$")
"""Registers of the SoC that are there for the bench: what they feed is no output of the chip."""
_COUNTERS = ("probe_counters", "probe_transfers")
"""Ports with what software reads as performance counters."""


def build_faulty_soc(platform: J3dai, progress: BuildProgress | None = None) -> BuiltModel:
    """The SoC as `nncosim.tb.j3dai.build.build_soc` has it, its registers visible: an entry of its own in the cache.

    Raises:
        BuildError, ToolError: as `nncosim.tb.sim.verilate.build`.
    """
    design = soc_design(platform)
    found = registers_of(design.sources, TOP, design.files, design.include_dirs, design.parameters)
    chosen = {module: names for module, names in found.items() if module not in _BENCH}
    return build_soc(platform, vlt=visibility(chosen), cpp_sources=(SETTLE,), progress=progress)


def block_of(path: str) -> str:
    """The block of a memory or register: ``cluster.`` and a part of the cluster; SRAM macros count with their output
    registers. "" of what is there for the bench."""
    first, *rest = path.split(".")
    if first != SOC or not rest or _BENCH_REGISTER.search(path):
        return ""
    if re.fullmatch(r"cluster\d+", rest[0]):
        return f"cluster.{_part_of_cluster(rest[1:])}"
    if rest[0] == "host" and len(rest) > 2 and rest[1] in ("imem", "dmem"):
        return f"host.{rest[1]}"
    return rest[0]


def _part_of_cluster(path: list[str]) -> str:
    if len(path) == 1:
        return "top"  # registers between its parts
    if re.fullmatch(r"group\d+", path[0]):
        return "requantizer" if path[1] == "requantizer" else "ncb"
    return re.sub(r"_\d+$", "", path[0])  # counters_2


@dataclass(frozen=True)
class _Run(SocRun):
    """All of its counters are looked at."""

    probes: ClassVar[Sequence[str]] = (*PROBES, "probe_transfers")


@dataclass(frozen=True)
class J3daiFaults:
    """See `nncosim.tb.fault_target.FaultTarget`."""

    late: ClassVar[int] = 2  # the monitors get a cycle to record the end

    built: BuiltModel
    platform: J3dai
    image: bytes
    inputs: Mapping[str, np.ndarray]

    @property
    def chip(self) -> SocRun:
        """Without monitors: what they would complain of, no silicon notices, and a fault may make them complain."""
        return _Run(self.platform, self.image, [self.inputs], Entering(), monitors=False)

    def block(self, path: str) -> str:
        return block_of(path)

    def observed(self, taken: RawFrame, probes: Mapping[str, int]) -> Observed:
        outputs = {name: taken.memory[name] for name in Image.from_bytes(self.image).notes.outputs}
        standing = describe(self.platform, probes)
        detected = standing if probes["trap"] or probes["error"] else ""
        counters = {name: probes[name] for name in _COUNTERS}
        return Observed(outputs, counters, detected, standing)
