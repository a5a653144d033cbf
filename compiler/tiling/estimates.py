# SPDX-License-Identifier: Apache-2.0
"""Quick estimates of a layer's cycles: by them plans are ranked, and only the best few are made and measured."""

from __future__ import annotations

__all__ = ["STEP_TRANSFERS", "slower_side"]

STEP_TRANSFERS = 8
"""Cycles that a mover spends on a step beyond moving words: descriptors of a load and a store, and turning around."""

_UNHIDDEN_PART = 8
_MOST_UNHIDDEN = 500
"""Where the mover is the bottleneck, engines still work alone at the beginning and at the end: about an eighth of their
work for layers of few steps, but not more than some hundred cycles for those of many, of which a step is short."""


def slower_side(busiest: float, first: float, last: float, mover: float) -> float:
    """Cycles of a layer whose engines compute while a mover brings and takes data: those of the slower side, and what
    cannot overlap with them.

    Args:
        busiest: of the engine with most work. first, last: that it waits for its first input, and for its last result
            to be taken. mover: of all transfers.
    """
    return max(busiest + first + last, mover + min(busiest / _UNHIDDEN_PART, _MOST_UNHIDDEN))
