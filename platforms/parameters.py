# SPDX-License-Identifier: Apache-2.0
"""Parameters of a platform from text and as text: by the types of its fields."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, get_type_hints

from nncosim.platforms.errors import PlatformError

if TYPE_CHECKING:
    from nncosim.platforms.base import Platform

__all__ = ["Value", "check_names", "parameter", "parse_overrides", "plain_value", "value_text"]

Value = int | float | bool | str | Enum
_BOOLS = {"true": True, "false": False}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check_names(platform: Platform, names: Iterable[str]) -> None:
    """Raises PlatformError for a parameter that the platform has not, with the ones that it has."""
    known = [field.name for field in fields(platform)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            have = ", ".join(known)
            raise PlatformError(f"platform {platform.name!r} has no parameter {name!r}; it has {have}{hint}")


def parameter(platform: Platform, name: str, text: str) -> Value:
    """The value that `text` gives parameter `name`: int (0x... too), float, bool, str, or an enumeration's member by
    its value.

    Raises:
        PlatformError: no such parameter, or a text that its type does not take.
    """
    check_names(platform, [name])
    kind = get_type_hints(type(platform))[name]
    what = _KINDS.get(kind, "")
    try:
        if kind is str:
            return text
        if kind is int:
            return int(text, 0)
        if kind is float:
            return float(text)
        if kind is bool:
            return _BOOLS[text.lower()]
        if issubclass(kind, Enum):
            members = {value_text(member): member for member in kind}
            what = " or ".join(members)
            return members[text]
    except (ValueError, KeyError):
        raise PlatformError(
            f"parameter {name!r} of platform {platform.name!r} takes {what}, such as "
            f"{name}={value_text(getattr(platform, name))}, not {text!r}"
        ) from None
    raise PlatformError(f"parameter {name!r} of platform {platform.name!r} cannot be given as text")


def parse_overrides(platform: Platform, settings: Iterable[str]) -> dict[str, Value]:
    """Turn ("clusters=4", ...) into keyword arguments for `with_parameters`.

    Raises:
        PlatformError: no PARAMETER=VALUE, what `parameter` refuses, or one name twice.
    """
    out: dict[str, Value] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name or not text:
            raise PlatformError(f"--set must look like {_example(platform)}, not {setting!r}")
        value = parameter(platform, name, text)
        if name in out:
            raise PlatformError(
                f"--set {name} is given twice, as {value_text(out[name])} and as {value_text(value)}; leave one out"
            )
        out[name] = value
    return out


def _example(platform: Platform) -> str:
    return next((f"{f.name}={value_text(getattr(platform, f.name))}" for f in fields(platform)), "PARAMETER=VALUE")


def value_text(value: Value) -> str:
    """As `parameter` reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(plain_value(value))


def plain_value(value: Value) -> str | int | float:
    """As JSON holds it."""
    return value.value if isinstance(value, Enum) else value
