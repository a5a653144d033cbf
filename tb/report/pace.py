# SPDX-License-Identifier: Apache-2.0
"""Whether a run took the cycles that the simulator (ISS) gives its image: the limits, and what judges by them.

`nncosim run` and `pytest regress/` both ask `late`. The ISS shares the RTL's table of latencies, so this shows that
the RTL has no cycles that its description leaves out; what a planner knew before is the estimate, which nobody judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["LAYER_CYCLES", "LAYER_SHARE", "TOTAL_SHARE", "Late", "Pace", "deviation", "late"]

TOTAL_SHARE = 0.02
"""An inference's cycles lie within this share of the ISS's, or the verdict is "cycles"."""
LAYER_SHARE = 0.05
LAYER_CYCLES = 100
"""A layer's cycles lie within `LAYER_SHARE` of the ISS's, or within `LAYER_CYCLES` of them."""


@dataclass(frozen=True)
class Pace:
    """What something took in one inference, and what it takes on the ISS. `cycles` None: it did not end."""

    cycles: int | None
    iss_cycles: int

    def holds(self, share: float, cycles: int = 0) -> bool:
        """Whether the two lie within `share` of the ISS's cycles, or within so many cycles, of each other."""
        return self.cycles is not None and abs(self.cycles - self.iss_cycles) <= max(share * self.iss_cycles, cycles)


@dataclass(frozen=True)
class Late:
    """What did not take its cycles. `what`: "total", or the layer. `frame`: the inference, from 0."""

    what: str
    frame: int
    pace: Pace

    def __str__(self) -> str:
        where = f" in inference {self.frame + 1}" if self.frame else ""
        took = "-" if self.pace.cycles is None else f"{self.pace.cycles:,}"
        return f"{self.what}{where}: {took} cycles measured, {self.pace.iss_cycles:,} on the ISS"


def late(totals: Sequence[Pace], layers: Iterable[tuple[str, Sequence[Pace]]] = ()) -> tuple[Late, ...]:
    """Layers, then totals, that are outside their limits in some inference.

    Args:
        totals: of each inference. layers: by name, the same of each layer.
    """
    found = [Late(f"layer {name}", frame, pace) for name, paces in layers for frame, pace in enumerate(paces)
             if not pace.holds(LAYER_SHARE, LAYER_CYCLES)]  # fmt: skip
    return (*found, *(Late("total", frame, pace) for frame, pace in enumerate(totals) if not pace.holds(TOTAL_SHARE)))


def deviation(expected: int | None, measured: int | None) -> float | None:
    """`expected` against `measured`, as a share of that; None if one is not known."""
    return expected / measured - 1 if expected is not None and measured else None
