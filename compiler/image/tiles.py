# SPDX-License-Identifier: Apache-2.0
"""The tile table of an image: each tensor's place, type and layout, as plain data that survives without the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nncosim.compiler.ir.layout import Layout, size_bytes
from nncosim.compiler.ir.network import Tensor

__all__ = ["TensorPlace", "tile_table"]


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies.

    address: physical, of its first byte. role: "input", "output" or "internal".
    written_by: indices of the schedule's steps that write it; empty for what comes from outside.
    kept: whether it still lies there, whole, when an inference has ended (see `nncosim.compiler.placement.kept`).
    pieces: of a tensor that never lies in one place as a whole, where its tiles are written (the platform's bench
        knows what the numbers mean); `address` is 0 then.
    """

    tensor: Tensor
    memory: str
    address: int
    layout: Layout
    role: str
    written_by: tuple[int, ...]
    kept: bool = False
    pieces: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        return size_bytes(self.tensor.shape, self.layout, self.tensor.axes)


def tile_table(places: Iterable[TensorPlace]) -> dict[str, TensorPlace]:
    """By tensor's name."""
    return {place.tensor.name: place for place in places}
