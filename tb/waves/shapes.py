# SPDX-License-Identifier: Apache-2.0
"""Values of a waveform as the design's own types: Amaranth's layouts, enumerations and signed numbers."""

from __future__ import annotations

from enum import EnumMeta
from typing import overload

from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.payload import Payload, decode_payload, layout_of, member_of

__all__ = ["decode", "field_of", "fitting", "shown", "unknown_text"]


def unknown_text(bits: int | None) -> str:
    """What nothing is known of."""
    return "x" * (bits or 1)


def fitting(shape: ShapeLike, bits: int | None, name: str) -> ShapeLike:
    """`shape`, if a signal of so many bits has it. An enumeration of Python's own may have fewer.

    Raises:
        BenchError: It has not, or `shape` is none.
    """
    try:
        width = Shape.cast(shape).width
    except TypeError as problem:
        raise BenchError(f"{name}: {shape!r} is no shape of Amaranth's: {problem}") from problem
    loose = isinstance(shape, EnumMeta) and bits is not None and width <= bits
    if width != bits and not loose:
        raise BenchError(f"{name} has {'no' if bits is None else bits} bits, and {_named(shape)} has {width}")
    return shape


def _named(shape: ShapeLike) -> str:
    return shape.__name__ if isinstance(shape, type) else repr(shape)


@overload
def decode(shape: ShapeLike | None, value: int | str) -> Payload | str: ...
@overload
def decode(shape: ShapeLike | None, value: int | float | str) -> Payload | float | str: ...
def decode(shape: ShapeLike | None, value: int | float | str) -> Payload | float | str:
    """A value by its shape, enumerations as their members; what is no integer stays as it is."""
    if shape is None or not isinstance(value, int):
        return value
    if isinstance(shape, EnumMeta):  # of a signal that may have more bits than the enumeration needs
        return member_of(shape, value)
    return decode_payload(shape, value, members=True)


def field_of(shape: ShapeLike | None, name: str | int, where: str, width: int) -> tuple[ShapeLike, int, int]:
    """Shape, first bit and bits of a field; of a shape of `width` bits that is no layout, of a bit.

    Raises:
        BenchError: There is no such field.
    """
    layout = None if shape is None else layout_of(shape)
    if layout is None and isinstance(name, int):
        if not 0 <= name < width:
            raise BenchError(f"{where} has no bit {name}; it has {width}")
        return 1, name, 1
    if layout is None:
        raise BenchError(f"{where} has no field {name!r}: give it a layout with typed()")
    fields: dict[str | int, data.Field] = dict(iter(layout))
    if name not in fields:
        raise BenchError(f"{where} has no field {name!r}; its fields are {', '.join(map(str, fields))}")
    found = fields[name]
    return found.shape, found.offset, found.width


def shown(value: Payload | float | str) -> str:
    """A value in a message: numbers in hexadecimal, members by their names, unknown bits in binary."""
    if hasattr(value, "name"):
        return str(value.name)
    if isinstance(value, int):
        return f"{value:#x}" if abs(value) > 9 else str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {shown(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)
