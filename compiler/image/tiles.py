# SPDX-License-Identifier: Apache-2.0
"""The tile table of an image: each tensor's place, type and layout, as plain data that survives without the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nncosim.compiler.image.image import Image, ImageError
from nncosim.compiler.ir.layout import Layout, size_bytes
from nncosim.compiler.ir.network import Tensor, TensorType

__all__ = ["TensorPlace", "read_tiles", "tile_table"]


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
        return size_bytes(self.tensor.shape, self.layout)

    def as_dict(self) -> dict[str, Any]:
        t = self.tensor.type
        return {
            "memory": self.memory, "address": self.address, "bytes": self.size,
            "shape": list(self.tensor.shape), "axes": list(self.tensor.axes),
            "layout": self.layout.as_dict(), "role": self.role, "lists": list(self.written_by), "signed": t.signed,
            "kept": self.kept,
            "type": {
                "bits": t.bits, "signed": t.signed, "scale": [str(s) for s in t.scale], "zero_point": t.zero_point,
                "lo": t.lo, "hi": t.hi,
            },
            **({"pieces": [list(piece) for piece in self.pieces]} if self.pieces else {}),
        }  # fmt: skip


def tile_table(places: Iterable[TensorPlace]) -> dict[str, Any]:
    """The tile section's contents."""
    return {"tensors": {place.tensor.name: place.as_dict() for place in places}}


def _places(tiles: Mapping[str, Any]) -> dict[str, TensorPlace]:
    """The places in a tile table, by tensor name.

    Raises:
        ImageError: an entry that lacks something.
    """
    out = {}
    for name, entry in tiles["tensors"].items():
        try:
            t = entry["type"]
            kind = TensorType(
                t["bits"], t["signed"], tuple(Fraction(s) for s in t["scale"]), t["zero_point"], t["lo"], t["hi"]
            )
            out[name] = TensorPlace(
                Tensor(name, tuple(entry["shape"]), kind, tuple(entry["axes"])),
                entry["memory"], entry["address"], Layout.from_dict(entry["layout"]),
                entry["role"], tuple(entry["lists"]), bool(entry["kept"]),
                tuple(tuple(p) for p in entry.get("pieces", ())),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ImageError(f"the tile table's entry of tensor {name!r} is damaged ({error!r})") from error
    return out


def read_tiles(image: Image) -> dict[str, TensorPlace]:
    """Raises ImageError if the image has no tile table."""
    if "tensors" not in image.tiles:
        raise ImageError("the image has no tile table (it was stripped); compile it again")
    return _places(image.tiles)
