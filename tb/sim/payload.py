# SPDX-License-Identifier: Apache-2.0
"""Python values to and from the bits of a port, by the port's Amaranth shape."""

from collections.abc import Mapping, Sequence
from enum import Enum, EnumMeta
from typing import TypeAlias

from amaranth.hdl import Const, Shape, ShapeLike
from amaranth.lib import data
from nncosim.tb.errors import BenchError

__all__ = ["Payload", "decode_payload", "encode_payload", "layout_of", "member_of"]

Payload: TypeAlias = "int | Enum | Mapping[str, Payload] | Sequence[Payload]"
"""What a port holds: a number, or for a layout such by field, in their order for an array."""


def encode_payload(shape: ShapeLike, value: Payload, where: str = "payload") -> int:
    """Bits of `value` as an unsigned integer.

    Args:
        shape: Amaranth shape: a width, `signed(n)`, an enumeration, a `data.Struct` or another layout.
        value: An integer for a plain shape; a mapping (struct) or sequence (array) of such, by field, for a
            layout, fields left out being 0; for a layout also an integer, its raw bits.
        where: Name for messages.

    Raises:
        BenchError: If a value does not fit its field, or a field does not exist.
    """
    layout = layout_of(shape)
    if layout is None or isinstance(value, int):
        plain = Shape.cast(shape)
        number = _number(value, where)
        signed = plain.signed and layout is None
        low, high = (-(1 << plain.width >> 1), (1 << plain.width >> 1) - 1) if signed else (0, (1 << plain.width) - 1)
        if not low <= number <= high:
            raise BenchError(f"{where} holds {low} to {high}, not {number}")
        return number & ((1 << plain.width) - 1)
    if isinstance(value, Enum):
        raise BenchError(f"{where} holds the fields {', '.join(str(name) for name, _ in layout)}, not {value!r}")
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    fields = dict(iter(layout))
    bits = 0
    for name, item in items:
        if name not in fields:
            raise BenchError(f"{where} has no field {name!r}; its fields are {', '.join(map(str, fields))}")
        bits |= encode_payload(fields[name].shape, item, f"{where}.{name}") << fields[name].offset
    return bits


def _number(value: Payload, where: str) -> int:
    if isinstance(value, (Enum, Const)):
        return int(value.value)
    if isinstance(value, (Mapping, Sequence)):
        raise BenchError(f"{where} holds a number, not {value!r}")
    return int(value)


def decode_payload(shape: ShapeLike, bits: int, *, members: bool = False) -> Payload:
    """The value of `bits`: an integer, signed where the shape is; a dict or list for a layout.

    `members`: an enumeration's value is its member, if it is one's.
    """
    layout = layout_of(shape)
    if layout is None:
        plain = Shape.cast(shape)
        bits &= (1 << plain.width) - 1
        number = bits - (1 << plain.width) if plain.signed and bits >> (plain.width - 1) else bits
        return member_of(shape, number) if members and isinstance(shape, EnumMeta) else number
    values = {name: decode_payload(field.shape, bits >> field.offset, members=members) for name, field in iter(layout)}
    return list(values.values()) if isinstance(layout, data.ArrayLayout) else values


def member_of(kind: EnumMeta, number: int) -> Enum | int:
    """The member of an enumeration with this value; the number if there is none."""
    members: Mapping[str, Enum] = kind.__members__
    return next((member for member in members.values() if member.value == number), number)


def layout_of(shape: ShapeLike) -> data.Layout | None:
    """The layout that a shape is; None for a plain one."""
    if isinstance(shape, type) and issubclass(shape, (data.Struct, data.Union)):
        return data.Layout.cast(shape)
    return shape if isinstance(shape, data.Layout) else None
