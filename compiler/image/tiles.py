# SPDX-License-Identifier: Apache-2.0
"""The tile table of an image: each tensor's place, type and layout, as plain data that survives without the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.layout import Layout, from_bytes, size_bytes, to_bytes
from nncosim.compiler.ir.network import Tensor

__all__ = ["Fragment", "TensorPlace", "TilesError", "tensor_from_bytes", "tensor_to_bytes", "tile_table", "whole"]


class TilesError(CompileError):
    """A tile table that does not say what it is asked for, or contradicts itself."""


@dataclass(frozen=True)
class Fragment:
    """A part of a tensor, or all of it, in one instance of a memory.

    address: physical, of its first byte; of a memory that each engine has for itself, from that memory's begin.
    box: (start, stop) on each axis of the tensor. layout: of the box.
    written_by: indices of the schedule's steps that write it, or of its tasks where the notes have a schedule; empty
        for what comes from outside.
    copies: inference k uses number k modulo `copies` of so many places, one behind the other, `stride` bytes apart.
    """

    memory: str
    address: int
    box: tuple[tuple[int, int], ...]
    layout: Layout
    written_by: tuple[int, ...] = ()
    instance: int = 0
    copies: int = 1
    stride: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in self.box)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Of the tensor's array."""
        return tuple(slice(start, stop) for start, stop in self.box)

    def at(self, inference: int) -> int:
        """Address of the copy that an inference uses."""
        return self.address + inference % self.copies * self.stride


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies: in one fragment or in several, each of whose elements may be in more than one of them.

    role: "input", "output" or "internal".
    kept: whether it still lies there, whole, when an inference has ended (see `nncosim.compiler.placement.kept`).
    """

    tensor: Tensor
    role: str
    fragments: tuple[Fragment, ...]
    kept: bool = False

    def size_of(self, fragment: Fragment) -> int:
        """Bytes of one of its fragments."""
        return size_bytes(fragment.shape, fragment.layout, self.tensor.axes)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(map(self.size_of, self.fragments))

    @property
    def written_by(self) -> tuple[int, ...]:
        """Steps (or tasks) that write any of it."""
        return tuple(sorted({step for fragment in self.fragments for step in fragment.written_by}))

    @property
    def only(self) -> Fragment:
        """The fragment of a tensor that lies in one.

        Raises:
            TilesError: it lies in several, or in none.
        """
        if len(self.fragments) != 1:
            raise TilesError(f"tensor {self.tensor} lies in {len(self.fragments)} fragments, not in one")
        return self.fragments[0]


def whole(tensor: Tensor, memory: str, address: int, layout: Layout, written_by: tuple[int, ...] = ()) -> Fragment:
    """The fragment of a tensor that lies in one place."""
    return Fragment(memory, address, tuple((0, size) for size in tensor.shape), layout, written_by)


def tile_table(places: Iterable[TensorPlace]) -> dict[str, TensorPlace]:
    """By tensor's name."""
    return {place.tensor.name: place for place in places}


def tensor_from_bytes(place: TensorPlace, read: Callable[[Fragment, int], bytes]) -> np.ndarray:
    """A tensor put together from memory: int64 of the tensor's shape. `read`: a fragment's bytes, so many.

    Raises:
        TilesError: fragments that leave elements out. (Where two have the same element, the later one counts.)
    """
    tensor = place.tensor
    out, there = np.zeros(tensor.shape, np.int64), np.zeros(tensor.shape, bool)
    for fragment in place.fragments:
        data = read(fragment, place.size_of(fragment))
        out[fragment.slices] = from_bytes(data, fragment.shape, fragment.layout, tensor.type.signed, tensor.axes)
        there[fragment.slices] = True
    if not there.all():
        missing = prod(tensor.shape) - int(there.sum())
        raise TilesError(f"{missing} elements of tensor {tensor} lie in none of its {len(place.fragments)} fragments")
    return out


def tensor_to_bytes(place: TensorPlace, values: np.ndarray) -> list[tuple[Fragment, bytes]]:
    """The bytes of each fragment of a tensor with these values, of its shape."""
    axes = place.tensor.axes
    return [(each, to_bytes(values[each.slices], each.layout, axes)) for each in place.fragments]
