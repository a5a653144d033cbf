# SPDX-License-Identifier: Apache-2.0
"""Fields of the instruction register."""

from typing import Any

from amaranth.hdl import Shape, Value
from amaranth.lib import data

__all__ = ["view"]


def view(fmt: type[data.Struct], register: Value) -> Any:
    """The low bits of `register` as format `fmt`, which may be narrower."""
    return fmt(register[:Shape.cast(fmt).width])
