# SPDX-License-Identifier: Apache-2.0
"""Published figures of a platform beside a run: which of them are of the network that ran, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nncosim.platforms.base import Published

__all__ = ["SAME_SHARE", "measured", "published_json", "same_network"]

SAME_SHARE = 0.01
"""A run is of a published network if their multiply-accumulates differ by no more than this share."""


def same_network(figures: Sequence[Published], macs: int) -> str | None:
    """The published network that a model of `macs` multiply-accumulates is, the nearest of several; None: none is."""
    near = [figure for figure in figures if figure.macs and abs(macs - figure.macs) <= SAME_SHARE * figure.macs]
    return min(near, key=lambda figure: abs(macs - figure.macs)).network if near else None


def measured(figure: Published, cycles: int | None, mac_per_cycle: float | None) -> float | None:
    """What a run measured of the quantity of `figure`; None where a run does not measure it."""
    return {"cycles": cycles, "MAC/cycle": mac_per_cycle}.get(figure.unit)


def published_json(
    figures: Sequence[Published], macs: int, cycles: int | None, mac_per_cycle: float | None
) -> list[dict[str, Any]]:
    """The figures; those of the network that ran have `this_network` true, and in `measured` what the run took."""
    own = same_network(figures, macs)
    return [
        {
            **vars(figure), "this_network": figure.network == own,
            "measured": measured(figure, cycles, mac_per_cycle) if figure.network == own else None,
        }
        for figure in figures
    ]  # fmt: skip
