# SPDX-License-Identifier: Apache-2.0
"""What JSON holds, as a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

__all__ = ["Json"]

if TYPE_CHECKING:
    Json: TypeAlias = str | int | float | bool | Sequence["Json"] | Mapping[str, "Json"] | None
else:
    Json = Any  # who reads annotations when the program runs sees that anything goes
