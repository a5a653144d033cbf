# SPDX-License-Identifier: Apache-2.0
"""Instruction words, descriptors and registers as Amaranth structs: one definition for everybody.

A format is a `data.Struct`. The RTL views a signal through it; the assembler calls `encode`, the
instruction-set simulator and the disassembler call `decode`, the manual is printed from `rows`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

from amaranth.hdl import Const, Shape, ShapeLike
from amaranth.lib import data
from nncosim.platforms.errors import NncosimError

__all__ = ["EncodingError", "decode", "encode", "rows", "width"]


class EncodingError(NncosimError):
    """A field value that its format cannot hold."""


def _bounds(shape: Shape) -> tuple[int, int]:
    if shape.signed:
        return -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1
    return 0, (1 << shape.width) - 1


_known: dict[type[data.Struct], Mapping[str, tuple[int, int, int, int]]] = {}


def _fields(fmt: type[data.Struct]) -> Mapping[str, tuple[int, int, int, int]]:
    """(offset, width, least, greatest value) by field, kept: to cast the shapes anew for each word costs the most."""
    if fmt not in _known:
        shapes = {name: (field.offset, Shape.cast(field.shape)) for name, field in fmt.as_shape()}
        _known[fmt] = {name: (offset, shape.width, *_bounds(shape)) for name, (offset, shape) in shapes.items()}
    return _known[fmt]


def encode(fmt: type[data.Struct], **fields: int) -> int:
    """The word of format `fmt` with `fields` set and all others zero.

    Raises:
        EncodingError: an unknown field, or a value out of the field's range.
    """
    known = _fields(fmt)
    word = 0
    for name, value in fields.items():
        if name not in known:
            raise EncodingError(f"{fmt.__name__} has no field {name!r}; it has {', '.join(known)}")
        offset, bits, low, high = known[name]
        number = int(value)
        if not low <= number <= high:
            raise EncodingError(f"{fmt.__name__}.{name} must be within {low}..{high}, not {number}")
        word |= (number & ((1 << bits) - 1)) << offset
    return word


def decode(fmt: type[data.Struct], word: int) -> dict[str, int]:
    """All fields of `word` as plain integers, sign-extended where the field is signed."""
    out = {}
    for name, (offset, bits, low, _) in _fields(fmt).items():
        raw = (word >> offset) & ((1 << bits) - 1)
        out[name] = raw - (1 << bits) if low < 0 and raw >> (bits - 1) else raw
    return out


def width(fmt: type[data.Struct]) -> int:
    """Bits in a word of the format."""
    return int(Const.cast(fmt.const({})).shape().width)


def rows(fmt: type[data.Struct]) -> Iterator[tuple[str, int, int, str]]:
    """For manuals: (field, high bit, low bit, "unsigned"/"signed"/enum name), from bit 0 up."""
    for name, field in fmt.as_shape():
        shape = Shape.cast(field.shape)
        original: ShapeLike = field.shape
        kind = "signed" if shape.signed else "unsigned"
        if isinstance(original, type) and issubclass(original, enum.Enum):
            kind = original.__name__
        yield name, field.offset + shape.width - 1, field.offset, kind
