# SPDX-License-Identifier: Apache-2.0
"""What a platform shows of its machine to fault injection (`nncosim.tb.faults`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["FaultTarget", "Observed"]


@dataclass(frozen=True)
class Observed:
    """What one inference left.

    `outputs`: graph outputs, as a host would read them. `counters`: what else software can read of the machine, such as
    performance counters. `detected`: what the machine itself reports (a trap, an error code), or "". `standing`: who
    waits for whom.
    """

    outputs: Mapping[str, np.ndarray]
    counters: Mapping[str, int]
    detected: str
    standing: str


class FaultTarget(Protocol):
    """A machine with a program and the inputs of one inference; it can be pickled.

    `built`: its simulation, with the registers visible and `nncosim.tb.faults.registers.SETTLE` in it. `chip`: a
    `nncosim.tb.run.drive.Chip` of one inference. `late`: cycles from the machine's completion to the top's `stopped`.
    """

    late: ClassVar[int]

    @property
    def built(self) -> BuiltModel: ...

    @property
    def chip(self) -> Any: ...

    def block(self, path: str) -> str:
        """The block that a memory or register (hierarchical name without the top's) belongs to; "" of what is there
        for the bench only, which has no faults."""
        ...

    def observed(self, taken: Any, probes: Mapping[str, int]) -> Observed:
        """taken: what the chip's session took of the inference. probes: the chip's, at its end."""
        ...
