# SPDX-License-Identifier: Apache-2.0
"""What the compiler asks of the machine's cycle model, which is its instruction-set simulator and stands above it."""

from __future__ import annotations

from typing import Protocol

from nncosim.compiler.backends import BackendError
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.parts import Part

__all__ = ["CycleModel", "cycle_model"]


class CycleModel(Protocol):
    """Cycles, exact with respect to the RTL."""

    def layers(self, image: bytes, platform: AieMl) -> tuple[int, ...]:
        """Cycles of each layer of an inference, from the completion of the one before it; together the inference's."""

    def interval(self, image: bytes, platform: AieMl) -> int:
        """Cycles from an inference's end to the next one's, of the last two of some that follow without gaps:
        by which a search compares. In a long stream it is a little more, as the next words come in meanwhile."""


_MODELS: Part[CycleModel] = Part("nncosim.tb.{}.cycles", "CYCLE_MODEL")


def cycle_model() -> CycleModel:
    """The machine's.

    Raises:
        BackendError: it is not installed.
    """
    model = _MODELS.find(AieMl.name)
    if model is None:
        raise BackendError(f"platform {AieMl.name!r} has no cycle model (no module {_MODELS.module(AieMl.name)})")
    return model
