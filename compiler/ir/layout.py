# SPDX-License-Identifier: Apache-2.0
"""Layouts: how the elements of a tensor (activations, weights, biases) become the bytes of a memory, and back.

The only place where that happens. A layout's order is a text of terms, the outermost first. Each is a digit of an
axis' index in a mixed radix, as nested loops over a tensor in pieces would count:

    C/16 H W C%16        blocks of 16 channels, each pixel after pixel
    C/12 H W C%12:16     likewise, but a block holds 12 channels in a room of 16
    H W C                what a camera gives
    M/4 K/8 M%4 K%8      tiles of 4 x 8, row after row of tiles
    O/16 I/4 O%16 I%4    weights: blocks of 16 outputs, in them groups of 4 inputs
    bit/8 C/16 H W C%16  the lowest bytes of all elements, then all second bytes, ...

`AXIS/step%size:room`, of which `AXIS` alone is needed: the index divided by `step`; of that the remainder by `size`;
digits lie in a room of so many, what it has more than them is filling. `1:N` is filling alone: one of N is used. The
axis `bit` counts an element's bits; those that no term speaks of lie together, innermost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from nncosim.compiler.errors import CompileError

__all__ = ["Layout", "LayoutError", "Term", "from_bytes", "size_bytes", "to_bytes"]

_BIT = "bit"
_FILLING = "1"
_TERM = re.compile(r"(?:(1)(?=:)|([A-Za-z]\w*)(?:/([1-9]\d*))?(?:%([1-9]\d*))?)(?::([1-9]\d*))?")


class LayoutError(CompileError):
    """A layout that contradicts itself, or data that does not fit it."""


@dataclass(frozen=True)
class Term:
    """One digit of an index: index // step % size, in a room. axis: "1" for filling alone.

    size: 0 for no remainder; there are as many digits as the axis' extent takes then. room: 0 for no filling.
    """

    axis: str
    step: int = 1
    size: int = 0
    room: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises LayoutError for what is no term."""
        found = _TERM.fullmatch(text)
        if found is None:
            forms = "AXIS, AXIS/step, AXIS%size or AXIS/step%size, each with :room where there is filling, or 1:room"
            raise LayoutError(f"no term of a layout's order: {text!r}; expected {forms}")
        filling, axis, step, size, room = found.groups()
        term = cls(filling or axis, int(step or 1), int(size or filling or 0), int(room or 0))
        if 0 < term.room < term.size:
            raise LayoutError(f"term {text!r} of a layout's order: {term.size} do not fit a room of {term.room}")
        return replace(term, room=0) if term.room == term.size else term

    def __str__(self) -> str:
        step, size = f"/{self.step}" * (self.step > 1), f"%{self.size}" * (self.size > 0 and self.axis != _FILLING)
        return f"{self.axis}{step}{size}" + f":{self.room}" * (self.room != 0)

    def digit(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        quotient = index // self.step
        return quotient % self.size if self.size else quotient

    def count(self, extent: int) -> int:
        """Digits that an axis of this extent has here, filling included."""
        held = self.size or -(-extent // self.step)
        if 0 < self.room < held:
            raise LayoutError(f"term {str(self)!r}: axis {self.axis} of {extent} does not fit a room of {self.room}")
        return self.room or held


@dataclass(frozen=True)
class Layout:
    """The order of a tensor's elements, and how they are packed.

    order: see above. Each index of an axis has a place of its own: the axis' terms leave no gap between their digits.
        Kept in its shortest form, so that equal orders are equal texts.
    bits: of an element, 1 to 64; negative ones are two's complement. Elements follow each other without gaps.
    word_bits: of the words that elements are packed in, whole bytes; the last word is filled up. What does not end in
        the word where it begins goes on in the next.
    first: the end of a word at which it begins to be filled, "low" or "high"; there an element's own low or high bits
        come first.
    byte_order: of a word, "little" or "big" endian.
    """

    order: str
    bits: int = 8
    word_bits: int = 8
    first: str = "low"
    byte_order: str = "little"

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", " ".join(map(str, self.terms)))
        if not 1 <= self.bits <= 64:
            raise LayoutError(f"layout {self.order!r}: an element has 1 to 64 bits, not {self.bits}")
        if self.word_bits < 8 or self.word_bits % 8:
            raise LayoutError(f"layout {self.order!r}: a word has 8, 16, 24, ... bits, not {self.word_bits}")
        if self.first not in ("low", "high") or self.byte_order not in ("little", "big"):
            found = f"{self.first!r} and {self.byte_order!r}"
            raise LayoutError(f"layout {self.order!r}: first is low or high, byte_order little or big, not {found}")
        if self.byte_order == "big" and self.word_bits == 8:
            raise LayoutError(f"layout {self.order!r}: words of one byte have no byte order; give word_bits")
        if self.bits % self.unit_bits:
            raise LayoutError(f"layout {self.order!r}: {self.bits} bits are not whole parts of {self.unit_bits}")
        for axis in {term.axis for term in self.terms} - {_FILLING}:
            self._check_digits(axis)

    def _check_digits(self, axis: str) -> None:
        terms = sorted((t for t in self.terms if t.axis == axis), key=lambda term: (term.step, term.size or math.inf))
        steps = [self.unit_bits if axis == _BIT else 1, *(term.step * term.size for term in terms)]
        if steps != [*(term.step for term in terms), 0]:
            raise LayoutError(
                f"layout {self.order!r}: the terms of {axis} leave indices without a place, or give them two; expected "
                f"{axis}, or {axis}/N and {axis}%N, or {axis}/(N*M), {axis}/N%M and {axis}%N, and so on"
            )

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """Of the order, outermost first; without those that are always 0 and have no filling."""
        terms = map(Term.parse, self.order.split())
        return tuple(term for term in terms if term.size != 1 or term.room)

    @cached_property
    def unit_bits(self) -> int:
        """Bits of an element that lie together: all, where no term speaks of them."""
        return min((term.step for term in self.terms if term.axis == _BIT), default=self.bits)

    @property
    def _atom(self) -> int:
        """Bits that neither packing nor byte order ever separates."""
        return math.gcd(self.unit_bits, 8)

    def __str__(self) -> str:
        """The order, and what is not usual."""
        others = [f for f in fields(self)[1:] if getattr(self, f.name) != f.default]
        return ", ".join([self.order, *(f"{f.name} {getattr(self, f.name)}" for f in others)])

    def place(self, index: Sequence[int], shape: Sequence[int], axes: Sequence[str]) -> tuple[int, int]:
        """(byte, bit in it) of the lowest bit of one element of a tensor of this shape."""
        if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
            raise LayoutError(f"a tensor of shape {tuple(shape)} has no element {tuple(index)}")
        at, _ = self._atoms([np.array(i) for i in (*index, 0)], shape, axes)
        byte, part = divmod(int(at), 8 // self._atom)
        return byte, part * self._atom

    def _atoms(
        self, indices: Sequence[npt.NDArray[np.int64]], shape: Sequence[int], axes: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], int]:
        """Where atoms lie, in atoms from the first; and how many bytes the whole tensor takes.

        indices: of the axes in turn, at last the number of the atom in its element; broadcast against each other.
        """
        atom, extents = self._atom, self._extents(shape, axes)
        digits = dict(zip((*axes, _BIT), (*indices[:-1], indices[-1] * atom), strict=True))
        inner = self.unit_bits // atom
        at = indices[-1] % inner
        at, count = inner - 1 - at if self.first == "high" else at, inner
        for term in reversed(self.terms):
            if term.axis in digits:
                at = at + term.digit(digits[term.axis]) * count
            count *= term.count(extents.get(term.axis, 1))
        return self._packed(at), -(-count * atom // self.word_bits) * self.word_bits // 8

    def _packed(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """From the numbers of atoms in their order to where in memory they lie, in atoms."""
        if self.first == "low" and self.byte_order == "little":
            return at
        per_byte, per_word = 8 // self._atom, self.word_bits // self._atom
        word, part = np.divmod(at, per_word)
        part = per_word - 1 - part if self.first == "high" else part
        byte, part = np.divmod(part, per_byte)
        byte = self.word_bits // 8 - 1 - byte if self.byte_order == "big" else byte
        return word * per_word + byte * per_byte + part

    def _extents(self, shape: Sequence[int], axes: Sequence[str]) -> dict[str, int]:
        if len(axes) != len(shape) or len({*axes, _BIT, _FILLING}) != len(axes) + 2:
            raise LayoutError(f"a tensor of shape {tuple(shape)} needs as many axes of different names, not {axes!r}")
        extents = dict(zip(axes, shape, strict=True))
        lost = [axis for axis, n in extents.items() if n > 1 and all(term.axis != axis for term in self.terms)]
        if lost:
            raise LayoutError(f"layout {self.order!r} says nothing of axis {lost[0]} of {extents[lost[0]]}")
        return {**extents, _BIT: self.bits}


def size_bytes(shape: Sequence[int], layout: Layout, axes: Sequence[str]) -> int:
    """Bytes that a tensor takes, filling included.

    axes: names of the tensor's axes. An axis that only one of tensor and layout knows has an extent of 1.
    """
    return layout._atoms([np.array(0)] * (len(shape) + 1), shape, axes)[1]


def _places(shape: Sequence[int], layout: Layout, axes: Sequence[str]) -> tuple[npt.NDArray[np.int64], int]:
    """Where all atoms of all elements lie: (*shape, atoms of an element), and the bytes of the whole."""
    return layout._atoms(np.indices((*shape, layout.bits // layout._atom), sparse=True), shape, axes)


def _shifts(atom: int) -> npt.NDArray[np.uint8]:
    return np.arange(0, 8, atom, dtype=np.uint8)


def to_bytes(array: npt.NDArray[np.integer], layout: Layout, axes: Sequence[str]) -> bytes:
    """Bytes of an integer array; filling is 0. axes: as for `size_bytes`.

    Raises:
        LayoutError: values that `layout.bits` cannot hold, signed or unsigned; no integers; axes that do not fit.
    """
    if array.dtype.kind not in "iub":
        raise LayoutError(f"layouts are of integers, not of {array.dtype}")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < -(1 << layout.bits - 1) or high >= 1 << layout.bits - (low < 0):
        raise LayoutError(f"values {low}..{high} do not fit {layout.bits} bits")
    at, size = _places(array.shape, layout, axes)
    atom = layout._atom
    stored, values = np.zeros(size * 8 // atom, np.uint8), array.astype(np.int64)
    for part in range(layout.bits // atom):
        stored[at[..., part]] = values >> part * atom & (1 << atom) - 1
    return np.bitwise_or.reduce(stored.reshape(-1, 8 // atom) << _shifts(atom), axis=1).tobytes()


def from_bytes(
    data: bytes, shape: Sequence[int], layout: Layout, signed: bool, axes: Sequence[str]
) -> npt.NDArray[np.int64]:
    """The int64 array of this shape that is stored in `data`; filling is skipped. axes: as for `size_bytes`.

    Raises:
        LayoutError: `data` is too short; unsigned elements of 64 bits; axes that do not fit.
    """
    at, size = _places(shape, layout, axes)
    if len(data) < size:
        raise LayoutError(f"a tensor of shape {tuple(shape)} takes {size} bytes in this layout, not {len(data)}")
    if layout.bits == 64 and not signed:
        raise LayoutError("elements of 64 bits are read as signed ones only")
    atom = layout._atom
    stored = (np.frombuffer(data, np.uint8, size)[:, None] >> _shifts(atom) & (1 << atom) - 1).reshape(-1)
    total = np.zeros(at.shape[:-1], np.int64)
    for part in range(layout.bits // atom):
        total |= stored[at[..., part]].astype(np.int64) << part * atom
    half = 1 << layout.bits - 1
    return (total ^ half) - half if signed and layout.bits < 64 else total
