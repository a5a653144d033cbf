# SPDX-License-Identifier: Apache-2.0
"""What the compiler asks of the machine's cycle model, which is its instruction-set simulator and stands above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nncosim.compiler.backends import BackendError
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import J3dai
from nncosim.platforms.parts import Part

__all__ = ["CycleModel", "LayerCycles", "LayerRun", "Timeline", "cycle_model"]

Counters = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class LayerCycles:
    """One descriptor list. `start`, `end`: cycles since the frame began; a list starts when the one before it is done.

    `counters`: engine ("cluster0"..., "dmpa", "host") -> "busy", "wait_data", "wait_port", "wait_host", "control",
    "idle" -> cycles, adding up to `cycles`.
    """

    start: int
    end: int
    counters: Counters

    @property
    def cycles(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Timeline:
    """One inference. `cycles`: until the host reports it done; `layers`: its lists; `counters`: of the whole."""

    cycles: int
    layers: tuple[LayerCycles, ...]
    counters: Counters


@dataclass(frozen=True)
class LayerRun:
    """What the host does for a layer: push `list` (word address in L2), arm `clusters` (mask) at `pc`."""

    list: int
    clusters: int
    pc: int = 0


class CycleModel(Protocol):
    """Cycles, exact with respect to the RTL, and what an image's transfers find."""

    def frames(self, image: bytes, platform: J3dai, frames: int) -> tuple[Timeline, ...]:
        """The timelines of an image's first inferences since reset, back to back."""

    def layers(self, l2: Mapping[int, bytes], layers: Sequence[LayerRun], platform: J3dai) -> Timeline:
        """The timeline of layers without firmware. `l2`: word address to contents: lists, the programs they load."""

    def audit(self, image: Image, platform: J3dai) -> str:
        """The first transfers of the image that find what they do not mean; "" if there are none."""


_MODELS: Part[CycleModel] = Part("nncosim.tb.{}.cycles", "CYCLE_MODEL")


def cycle_model() -> CycleModel:
    """The machine's.

    Raises:
        BackendError: it is not installed.
    """
    model = _MODELS.find(J3dai.name)
    if model is None:
        raise BackendError(f"platform {J3dai.name!r} has no cycle model (no module {_MODELS.module(J3dai.name)})")
    return model
