# SPDX-License-Identifier: Apache-2.0
"""Area of J3DAI's logic as a function of its parameters: fitted to mapped netlists, so that it is there at once.

``python -m nncosim.tb.j3dai.area`` maps the blocks at the points below and prints `COEFFICIENTS` anew;
``pytest regress/test_timing.py -k area`` holds the model against a fresh mapping of the default machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nncosim.platforms.area import LogicBlock

if TYPE_CHECKING:
    from nncosim.platforms.j3dai import J3dai

__all__ = ["COEFFICIENTS", "FEATURES", "logic_blocks"]

FEATURES: dict[str, Callable[[J3dai], tuple[float, ...]]] = {
    "PEs of an NCB": lambda p: (1, p.pes_per_ncb),
    "requantizer": lambda p: (1, p.ncbs_per_requantizer),
    "cluster without NCBs": lambda p: (1, p.line_bits, p.line_bits * p.bank_bits),
    "DMPA": lambda p: (1, p.line_bits, p.clusters * p.line_bits),
    "L2's logic": lambda p: (1, p.line_bits * (p.banks - 1), p.line_bits * (p.l2_macros - 1)),
    "control registers": lambda p: (1, p.clusters),
    "host": lambda p: (1,),
}
"""Block to what its area is linear in."""

COEFFICIENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "PEs of an NCB": ((-98.757, 1359.784), (32.0, 360.0)),
    "requantizer": ((6270.117, 1290.742), (808.0, 992.0)),
    "cluster without NCBs": ((21232.408, 8.064, 9.935), (11527.71, 12.463, 2.617)),
    "DMPA": ((8000.0, 67.52, 0.0), (3000.0, 25.39, 0.0)),
    "L2's logic": ((1546.0, 3.586, 2.664), (140.0, 0.0, 0.0)),
    "control registers": ((4812.0, 418.414), (1028.0, 0.0)),
    "host": ((35835.1,), (15492.0,)),
}
"""Block to NAND2 equivalents a feature: of gates, of flip-flops, fitted to two to four machines each; of the DMPA only
the default machine has been mapped, and how it divides into a constant and what grows with a line is an estimate. The
DMPA is measured with the entry port. L1's one port makes no difference that is worth a term."""


def _instances(platform: J3dai) -> dict[str, int]:
    ncbs = platform.clusters * platform.ncbs_per_cluster
    return {"PEs of an NCB": ncbs, "requantizer": ncbs // platform.ncbs_per_requantizer,
            "cluster without NCBs": platform.clusters}


def logic_blocks(platform: J3dai) -> tuple[LogicBlock, ...]:
    """The machine's logic by block."""
    instances = _instances(platform)
    blocks = []
    for name, (gates, flip_flops) in COEFFICIENTS.items():
        features = FEATURES[name](platform)
        sums = [sum(a * b for a, b in zip(features, row, strict=True)) for row in (gates, flip_flops)]
        blocks.append(LogicBlock(name, instances.get(name, 1), max(0.0, sums[0]), max(0.0, sums[1])))
    return tuple(blocks)
