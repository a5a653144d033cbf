# SPDX-License-Identifier: Apache-2.0
"""AIE-MLv2: the second generation of AMD's array (AM027, AIE-ML v2 Architecture Manual), as `nncosim.platforms.aie_ml`
with other widths.

Published: loads and a store of 512 bits, 512 int8 multiply-accumulates a cycle, 12 vectors of 512 bits, 8 accumulators
of 2048, cascades of 512, streams of 64 bits, memory tiles of 8 banks of 256 bits; data memory of 64 KB in 8 banks; 36 x
4 tiles on 2VE3858, and benchmarks at 1.05 GHz. How many rows of memory tiles that part has is not published where we
looked: one here. What else is ours is marked in `nncosim/hdl/aie_ml/MANUAL.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML_V2, Generation
from nncosim.platforms.base import Published

__all__ = ["PLATFORM", "AieMlV2"]


@dataclass(frozen=True)
class AieMlV2(AieMl):
    """Parameters of the array.

    columns, rows: of core tiles. memory_rows: of memory tiles below them. program_bytes: 16 bytes an instruction;
    published 16 KB, at most what LOOP's fields reach.
    """

    name: ClassVar[str] = "aie_ml_v2"
    title: ClassVar[str] = "AIE-MLv2 (AMD): an array of tiles, each a 512 MAC/cycle VLIW core with exposed pipeline"
    like: ClassVar[str] = AieMl.name
    generation: ClassVar[Generation] = AIE_ML_V2
    most: ClassVar[tuple[int, int]] = (36, 4)
    published: ClassVar[tuple[Published, ...]] = ()

    clock_hz: int = 1_050_000_000
    columns: int = 36
    rows: int = 4
    memory_rows: int = 1


PLATFORM = AieMlV2()
