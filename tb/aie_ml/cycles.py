# SPDX-License-Identifier: Apache-2.0
"""The cycle model: the simulator on inputs of zeros, as cycles do not depend on data."""

from __future__ import annotations

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.frames import DEFAULT_LIMIT, layer_cycles
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.iss_backend import hang_of
from nncosim.tb.aie_ml.streaming import in_a_row, stream_iss
from nncosim.tb.errors import BenchError
from nncosim.tb.iss.elf import IssError

__all__ = ["CYCLE_MODEL", "Cycles"]

_IN_A_ROW = 24
"""Inferences until those in the array, and in buffers between layers, go on evenly."""


def _zeros(image: Image) -> dict[str, np.ndarray]:
    return {name: np.zeros(place.tensor.shape, np.int64) for name, place in read_tiles(image).items()
            if place.role == "input"}  # fmt: skip


class Cycles:
    """See `nncosim.compiler.aie_ml.cycle_model.CycleModel`."""

    def layers(self, image: bytes, platform: AieMl) -> tuple[int, ...]:
        """Raises IssError if the array comes to no end, or a program breaks a rule of the core or of locks."""
        whole = Image.from_bytes(image)
        array = Array(whole, platform, seed=1)
        records = array.infer(_zeros(whole), DEFAULT_LIMIT)
        if records.done is None or array.problems:
            why = "; ".join(map(str, array.problems[:3])) or hang_of(whole, array, records, DEFAULT_LIMIT)
            raise IssError(f"the array does not run: {why}")
        return layer_cycles(whole.notes.own_as(AieMlNotes), records)

    def interval(self, image: bytes, platform: AieMl) -> int:
        """Raises IssError if the array comes to no end."""
        try:
            return stream_iss(platform, image, [_zeros(Image.from_bytes(image))] * _IN_A_ROW).interval
        except BenchError as error:
            raise IssError(f"the array does not run: {error}") from None

    def steady(self, image: bytes, platform: AieMl) -> float:
        """The mean interval in a long stream, see `nncosim.tb.aie_ml.streaming.Streamed.steady`.

        Raises:
            IssError: the array comes to no end.
        """
        whole = Image.from_bytes(image)
        layers = len(whole.notes.steps)
        try:
            return stream_iss(platform, image, [_zeros(whole)] * in_a_row(layers)).steady(layers)
        except BenchError as error:
            raise IssError(f"the array does not run: {error}") from None


CYCLE_MODEL = Cycles()
