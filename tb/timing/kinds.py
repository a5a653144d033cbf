# SPDX-License-Identifier: Apache-2.0
"""Paths by what they start and end at, as long as they are with SRAMs by their size, wires and skew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nncosim.tb.timing.allowances import SKEW, SRAM_SETUP, WIRES, sram_access
from nncosim.tb.timing.sta import SRAM, TimedPath, TimingReport

__all__ = ["PORT", "REGISTER", "KindOfPath", "sized", "worst_of_each_kind"]

REGISTER, PORT = "register to register", "port, by its budget"


@dataclass(frozen=True)
class KindOfPath:
    """The longest path of a kind. `fo4`: as mapped, with SRAMs by their size; `gates`: the part of it that is gates."""

    kind: str
    block: str
    path: str
    fo4: float
    gates: float

    @property
    def total(self) -> float:
        """With wires, skew and the margin of set-up."""
        return self.fo4 + WIRES * self.gates + SKEW

    def __str__(self) -> str:
        return f"{self.total:6.1f} {self.fo4:6.1f}  {self.kind:22} {self.block:18} {self.path}"


def _outermost(name: str) -> str:
    return name.split(".")[0]


def sized(
    block: str, report: TimingReport, path: TimedPath, memory: Callable[[str], str] = _outermost
) -> KindOfPath:
    """A path with the access time that its SRAM's size asks for; the netlists are timed with one for all.

    Args:
        memory: what a macro's name stands for in the name of the kind.
    """
    bits = {each.name: each.bits for each in report.storage if each.module != "flip-flops"}
    fo4, gates, kinds = path.fo4, path.fo4, []
    if path.start in bits:
        fo4, gates = fo4 + sram_access(bits[path.start]) - SRAM.clock_to_output, gates - SRAM.clock_to_output
        kinds.append(f"read of {memory(path.start)}")
    if path.end in bits:
        fo4, gates = fo4 + SRAM_SETUP - SRAM.setup, gates - SRAM.setup
        kinds.append(f"to {memory(path.end)}")
    for place, budget in ((path.start, report.port.clock_to_output), (path.end, report.port.setup)):
        if place.startswith("port "):
            kinds, gates = [PORT], gates - budget
    return KindOfPath(", ".join(kinds) or REGISTER, block, f"{path.start} -> {path.end}", fo4, gates)


def worst_of_each_kind(paths: Iterable[KindOfPath]) -> dict[str, KindOfPath]:
    """By kind."""
    worst: dict[str, KindOfPath] = {}
    for found in paths:
        if found.kind not in worst or found.total > worst[found.kind].total:
            worst[found.kind] = found
    return worst
