# SPDX-License-Identifier: Apache-2.0
"""What a fault can come to, how often, and how sure that is."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from nncosim.tb.faults.model import Flip, Place

__all__ = ["CONFIDENCE", "FAILURES", "BlockCounts", "Injection", "Outcome", "by_block", "weighted_avf",
           "weighted_interval", "wilson"]

CONFIDENCE = 0.95


class Outcome(enum.StrEnum):
    """How a run with a fault ended, as fault-injection studies have it."""

    MASKED = "masked"
    """Every bit of the outputs is right, and it took the same cycles."""
    TIMING = "timing"
    """Every bit of the outputs is right, and it took other cycles."""
    SDC = "sdc"
    """Silent data corruption: it ends as if nothing were, and an output is wrong."""
    HANG = "hang"
    """No end within the limit."""
    TRAP = "trap"
    """The machine noticed: a trap or an error code."""
    CHECK = "check"
    """The simulation stopped itself: it did not settle, or an assertion failed. What silicon would do is not known."""


FAILURES = (Outcome.SDC, Outcome.HANG, Outcome.TRAP, Outcome.CHECK)
"""What the architectural vulnerability factor (AVF) counts: the share of faults that a user of the machine notices."""


@dataclass(frozen=True)
class Injection:
    """A flip and what came of it.

    `cycles`: of the inference, 0 if it did not end. `counters`: whether what else software can read (performance
    counters) is other than without the fault. `text`: first wrong value, who waits for whom, or what was detected.
    """

    flip: Flip
    outcome: Outcome
    cycles: int
    counters: bool
    text: str = ""


@dataclass(frozen=True)
class BlockCounts:
    """Of one block: its bits, and how many flips of it came to what. `counters`: those that left outputs right and
    counters wrong."""

    block: str
    places: int
    bits: int
    counts: dict[Outcome, int]
    counters: int

    @property
    def flips(self) -> int:
        return sum(self.counts.values())

    @property
    def failures(self) -> int:
        return sum(self.counts[each] for each in FAILURES)

    @property
    def avf(self) -> float:
        """NaN without flips."""
        return self.failures / self.flips if self.flips else math.nan


def wilson(hits: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a proportion, of `hits` among `count` (E. B. Wilson, JASA 22, 1927): it stays within 0 to 1, and says
    something where none or all were hit. (0, 1) without any."""
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = hits / count, z * z / count
    centre = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    low, high = centre - half, centre + half
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)


def by_block(places: Iterable[Place], injections: Sequence[Injection]) -> list[BlockCounts]:
    """A row a block, in the order of `places`; blocks without flips are left out."""
    sizes: dict[str, tuple[int, int]] = {}
    for place in places:
        number, bits = sizes.get(place.block, (0, 0))
        sizes[place.block] = number + 1, bits + place.size
    rows = []
    for block, (number, bits) in sizes.items():
        mine = [each for each in injections if each.flip.block == block]
        if mine:
            counts = {outcome: sum(each.outcome == outcome for each in mine) for outcome in Outcome}
            wrong = sum(each.counters and each.outcome in (Outcome.MASKED, Outcome.TIMING) for each in mine)
            rows.append(BlockCounts(block, number, bits, counts, wrong))
    return rows


def weighted_avf(rows: Sequence[BlockCounts]) -> float:
    """Of a bit chosen evenly among those of all these blocks: each block has as many flips, however many bits."""
    bits = sum(row.bits for row in rows)
    return sum(row.bits * row.avf for row in rows) / bits if bits else math.nan


def weighted_interval(rows: Sequence[BlockCounts]) -> tuple[float, float]:
    """Interval of `weighted_avf`, from those of the blocks: squares of weighted distances add up (MOVER; G. Y. Zou and
    A. Donner, Statistics in Medicine 27, 2008). A large block with few flips makes it wide."""
    share, bits = weighted_avf(rows), sum(row.bits for row in rows)
    below = above = 0.0
    for row in rows:
        low, high = wilson(row.failures, row.flips)
        below += (row.bits / bits * (row.avf - low)) ** 2
        above += (row.bits / bits * (high - row.avf)) ** 2
    return max(0.0, share - math.sqrt(below)), min(1.0, share + math.sqrt(above))
