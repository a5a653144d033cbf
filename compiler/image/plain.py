# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses as plain data (what JSON holds), and back, checked against the types of their fields."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from nncosim.platforms.errors import NncosimError
from nncosim.platforms.plain import Json

__all__ = ["PlainError", "from_plain", "to_plain"]


T = TypeVar("T")

Hint: TypeAlias = Any
"""What `get_type_hints` gives: a type, or what typing makes of several."""


class PlainError(ValueError):
    """Plain data that is not what a type asks for; the text begins with the place in it."""


def to_plain(value: Any) -> Json:
    """Dataclasses and mappings as objects, sequences as lists, fractions as text, enumerations by value."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Fraction) else value


def from_plain(kind: type[T], data: Json, where: str = "") -> T:
    """The `kind` that `to_plain` made `data` of: dataclasses of scalars, `tuple`, `Mapping[str, ...]`, `... | None`.

    Raises:
        PlainError: a missing or unknown field, or a value of another type.
    """
    read: T = _read(kind, data, where)
    return read


@cache
def _hints(kind: type) -> dict[str, Hint]:
    return {name: hint for name, hint in get_type_hints(kind).items() if name in {f.name for f in fields(kind)}}


def _read(kind: Hint, data: Json, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return data
    if origin in (Union, types.UnionType):
        return _read_union(inner, data, where)
    if origin is tuple:
        return _read_tuple(inner, _typed(list, data, where), where)
    if origin is not None:  # a mapping
        return {key: _read(inner[1], each, f"{where}.{key}") for key, each in _typed(dict, data, where).items()}
    if is_dataclass(kind):
        return _read_dataclass(kind, _typed(dict, data, where), where)
    if kind is Fraction or issubclass(kind, Enum):
        try:
            return kind(_typed(str, data, where) if kind is Fraction else data)
        except (PlainError, ZeroDivisionError, ValueError):
            raise PlainError(f"{where}: {data!r:.40} is no {kind.__name__}") from None
    return float(data) if kind is float and type(data) is int else _typed(kind, data, where)


def _typed(kind: type[T], data: Json, where: str) -> T:
    if type(data) is not kind or not isinstance(data, kind):
        raise PlainError(f"{where}: expected {kind.__name__}, got {data!r:.40}")
    return data


def _read_union(inner: tuple[Hint, ...], data: Json, where: str) -> object:
    """The first of the types that fits."""
    reason = None
    for kind in inner:
        if kind is type(None):
            if data is None:
                return None
            continue
        try:
            return _read(kind, data, where)
        except PlainError as error:
            reason = reason or error
    raise reason or PlainError(f"{where}: got {data!r:.40}")


def _read_tuple(inner: tuple[Hint, ...], data: list[Json], where: str) -> tuple[object, ...]:
    if inner[1:] == (...,):
        if inner[0] is int and all(type(each) is int for each in data):  # tables of many thousands
            return tuple(data)
        return tuple(_read(inner[0], each, f"{where}[{i}]") for i, each in enumerate(data))
    if len(data) != len(inner):
        raise PlainError(f"{where}: expected {len(inner)} values, got {len(data)}")
    return tuple(_read(kind, each, f"{where}[{i}]") for i, (kind, each) in enumerate(zip(inner, data, strict=True)))


def _read_dataclass(kind: type, data: dict[str, Json], where: str) -> object:
    hints = _hints(kind)
    for text, names in (("lacks", hints.keys() - data.keys()), ("has an unknown", data.keys() - hints.keys())):
        if names:
            raise PlainError(f"{where or 'it'} {text} {', '.join(sorted(names))}")
    values = {name: _read(hint, data[name], f"{where}.{name}".lstrip(".")) for name, hint in hints.items()}
    try:
        return kind(**values)
    except NncosimError as error:
        raise PlainError(f"{where}: {error}") from error
