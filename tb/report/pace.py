# SPDX-License-Identifier: Apache-2.0
"""The verdict on a run, and whether it took the cycles that were predicted for its image.

`nncosim run` and `pytest regress/` both ask `verdict`. Where a platform has a simulator (ISS), that predicts; it shares
the RTL's table of latencies, so this shows that the RTL has no cycles that its description leaves out. What a planner
knew before is the estimate, which nobody judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nncosim.kernels.base import Cost
from nncosim.platforms.base import Limits, Platform
from nncosim.tb.backend import Diagnosis
from nncosim.tb.reference.compare import Comparison

__all__ = ["Late", "Pace", "deviation", "late", "verdict", "verdict_text"]

_VERDICTS = {
    "pass": "every bit is right, and the cycles are those of the {cycle_model}",
    "mismatch": "the machine computed something else than the network",
    "cycles": "every bit is right, but the cycles are not those of the {cycle_model}",
    "hang": "the run did not end within its limit of cycles",
    "trap": "the machine stopped on an error",
    "check": "a protocol check failed",
}


def verdict_text(verdict: str, platform: Platform) -> str | None:
    """What a verdict says; None of one that is not known."""
    said = _VERDICTS.get(verdict)
    return said.format(cycle_model=platform.cycle_model) if said else None


@dataclass(frozen=True)
class Pace:
    """What something took in one inference, and what was predicted. `cycles` None: it did not end."""

    cycles: int | None
    expected: Cost

    def holds(self, share: float, cycles: int) -> bool:
        """Whether it lies within the bounds of what was predicted, or beyond one by no more than `share` of that bound
        or so many cycles."""
        if self.cycles is None:
            return False
        lower, upper = self.expected.bounds
        early, behind = lower - self.cycles, self.cycles - upper
        return early <= max(share * lower, cycles) and behind <= max(share * upper, cycles)


@dataclass(frozen=True)
class Late:
    """What did not take its cycles. `what`: "total", "interval" (since the inference before), or the layer.
    `frame`: the inference, from 0."""

    what: str
    frame: int
    pace: Pace

    def __str__(self) -> str:
        where = f" in inference {self.frame + 1}" if self.frame else ""
        took = "-" if self.pace.cycles is None else f"{self.pace.cycles:,}"
        return f"{self.what}{where}: {took} cycles measured, {self.pace.expected} predicted"


def late(
    limits: Limits, totals: Sequence[Pace], layers: Iterable[tuple[str, Sequence[Pace]]] = (),
    intervals: Sequence[Pace] = (),
) -> tuple[Late, ...]:
    """Layers, then totals and intervals, that are outside their limits in some inference.

    Args:
        totals: of each inference. layers: by name, the same of each layer. intervals: from the end of each inference
            to that of the next, judged as totals are.
    """
    found = [Late(f"layer {name}", frame, pace) for name, paces in layers for frame, pace in enumerate(paces)
             if not pace.holds(limits.layer_share, limits.layer_cycles)]  # fmt: skip
    whole = [*(("total", frame, pace) for frame, pace in enumerate(totals)),
             *(("interval", frame, pace) for frame, pace in enumerate(intervals, 1))]  # fmt: skip
    return (*found, *(Late(what, frame, pace) for what, frame, pace in whole
                      if not pace.holds(limits.total_share, limits.total_cycles)))  # fmt: skip


def verdict(diagnosis: Diagnosis | None, comparison: Comparison, inferences: int, found: Sequence[Late]) -> str:
    """ "pass", "mismatch", "cycles" (all bits right, cycles outside their limits), or the diagnosis' kind.

    Args:
        inferences: that ended; a run in which none did has not taken its cycles.
        found: what `late` says.
    """
    if diagnosis is not None:
        return diagnosis.kind
    if not comparison.bit_exact:
        return "mismatch"
    return "pass" if inferences and not found else "cycles"


def deviation(expected: int | None, measured: int | None) -> float | None:
    """`expected` against `measured`, as a share of that; None if one is not known."""
    return expected / measured - 1 if expected is not None and measured else None
