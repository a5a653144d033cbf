# SPDX-License-Identifier: Apache-2.0
"""Names that are not taken."""

from __future__ import annotations

from collections.abc import Container

__all__ = ["unique_name"]


def unique_name(wanted: str, taken: Container[str]) -> str:
    """The name itself, or with the first number that makes it one of its own."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}#{count}"
    return name
