# SPDX-License-Identifier: Apache-2.0
"""What a bench gives whose machine's gates count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from nncosim.platforms.base import Published
from nncosim.tb.backend import PlatformT, RunResult
from nncosim.tb.power.account import EnergyAccount, Process

__all__ = ["EnergyRun", "Powered"]


@dataclass(frozen=True)
class EnergyRun:
    """One inference whose energy was counted.

    Attributes:
        account: of the run's spans of cycles. steps: of each of its spans, the schedule step that it is in; -1: none.
        missing: what is not in it, in a few words each. published: power of the machine, from the literature.
    """

    result: RunResult
    account: EnergyAccount
    steps: tuple[int, ...]
    missing: tuple[str, ...]
    published: tuple[Published, ...]


@runtime_checkable
class Powered(Protocol[PlatformT]):
    """A bench whose machine's gates can count what changes in them."""

    def energy(
        self, platform: PlatformT, image: bytes, inputs: Mapping[str, np.ndarray], process: Process, liberty: Path, *,
        limit_cycles: int | None = None, seed: int = 0, progress: Callable[[str], None] | None = None,
    ) -> EnergyRun:
        """One inference on all of the machine's gates, of the cell library that `process` has the energies of; the
        first time takes many minutes."""
        ...
