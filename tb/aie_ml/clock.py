# SPDX-License-Identifier: Apache-2.0
"""When things begin in a simulation of the RTL (aie_ml_array_tb.sv, `nncosim.tb.run.drive`), in cycles since reset, so
that an observed run of the simulator has the same cycles."""

from __future__ import annotations

__all__ = ["FIRST_START", "GAP_CYCLES", "SETTLE_CYCLES", "first_inference"]

SETTLE_CYCLES = 500
"""After the configuration, before the first inference: then all wait for words."""
GAP_CYCLES = 4
"""Between the last cycle of an inference and the first one of the next: the end is seen in the second cycle behind it,
when the monitors are done, and the next one asked for then, which two registers delay."""
FIRST_START = 5
"""In which a core or a channel of the first column's lowest tile is started, if the configuration's first word does it:
behind the begin of the configuration, the memory that holds it, the register at the shim, the tile's port."""


def first_inference(words: int) -> int:
    """The first cycle of the first inference. words: of the configuration."""
    return words + SETTLE_CYCLES + 3
