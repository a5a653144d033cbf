# SPDX-License-Identifier: Apache-2.0
"""Figures by which machines are weighed against each other. A platform says which ones it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nncosim.platforms.base import Platform

__all__ = ["METRICS", "Figures", "Metric", "sram_bytes"]


@dataclass(frozen=True)
class Figures:
    """What a metric may compute from: one inference of a network on the machine.

    `in_use_bytes`: the most that ever lies in the memories that the compiler places things in (J3DAI: L2).
    `counters`: instance -> category -> cycles, over all layers. `transfers`: kind -> what is counted of it.
    """

    cycles: int
    macs: int
    in_use_bytes: int
    counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    transfers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """`name`: in CSV, JSON and `--front`. `title`: of its column. `unit`, `about`: for the line under the table.

    `value`: of a machine and a run on it; None where that is not known. `more_is_better`: else less is.
    `digits`, `scale`, `suffix`: a table shows `value * scale` with so many digits, and the suffix.
    """

    name: str
    title: str
    unit: str
    value: Callable[[Platform, Figures], float | None]
    more_is_better: bool = False
    about: str = ""
    digits: int = 0
    scale: float = 1
    suffix: str = ""

    def text(self, value: float | None) -> str:
        return "-" if value is None else f"{value * self.scale:,.{self.digits}f}{self.suffix}"

    def rank(self, value: float) -> float:
        """The less, the better."""
        return -value if self.more_is_better else value


def sram_bytes(platform: Platform) -> int:
    """All memories of a machine, every instance of each."""
    return sum(memory.size_bytes * memory.instances for memory in platform.memories)


def _rate(platform: Platform, run: Figures) -> float | None:
    return run.macs / run.cycles if run.cycles else None


def _utilization(platform: Platform, run: Figures) -> float | None:
    rate, peak = _rate(platform, run), platform.peak_macs_per_cycle
    return rate / peak if rate is not None and peak else None


def _area(platform: Platform, run: Figures) -> float | None:
    return None if platform.area is None else round(platform.area.total)


METRICS = (
    Metric("cycles", "cycles", "cycles", lambda platform, run: run.cycles),
    Metric("mac_per_cycle", "MAC/cycle", "MAC/cycle", _rate, True, digits=1),
    Metric("utilization", "of peak", "share", _utilization, True, digits=1, scale=100, suffix="%"),
    Metric("in_use_bytes", "in use", "bytes", lambda platform, run: run.in_use_bytes,
           about="the most that the compiler has in place at a time"),
    Metric("sram_bytes", "SRAM", "bytes", lambda platform, run: sram_bytes(platform),
           about="bytes of all memories of the machine, every instance"),
    Metric("area_nand2", "area", "NAND2 equivalents", _area, scale=1e-3, suffix="k",
           about="thousands of NAND2 equivalents, logic and SRAM"),
)  # fmt: skip
"""What every platform has; the last is known where its area has been measured."""
