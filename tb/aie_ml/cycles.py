# SPDX-License-Identifier: Apache-2.0
"""The cycle model: the instruction-set simulator on whatever its memories hold, as cycles do not depend on data."""

from __future__ import annotations

from nncosim.compiler.image.image import Image
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.frames import DEFAULT_LIMIT, layer_cycles
from nncosim.tb.aie_ml.iss_backend import loaded_tile, run_once
from nncosim.tb.iss.elf import IssError

__all__ = ["CYCLE_MODEL", "Cycles"]


class Cycles:
    """See `nncosim.compiler.aie_ml.cycle_model.CycleModel`."""

    def layers(self, image: bytes, platform: AieMl) -> tuple[int, ...]:
        """Raises IssError if the program does not end, or breaks a rule of the core."""
        whole = Image.from_bytes(image)
        tile = loaded_tile(whole, platform, 1)
        stores, done = run_once(tile, DEFAULT_LIMIT)
        if done is None or tile.problems:
            raise IssError(f"the program does not run: {tile.problems[:3] or 'it has no end'}")
        return layer_cycles(whole, stores, done)


CYCLE_MODEL = Cycles()
