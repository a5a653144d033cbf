# SPDX-License-Identifier: Apache-2.0
"""The parts that a platform has in each layer (compiler back end, bench, ...), found by the platform's name.

The one way in which a layer reaches a platform's own code, and a lower layer one that stands above it: the compiler
asks the platform's cycle model, which is its simulator. What such a part can do is a Protocol of the layer that asks.
"""

from __future__ import annotations

import importlib
from typing import Generic, TypeVar

__all__ = ["Part"]

T = TypeVar("T")


class Part(Generic[T]):
    """One part of every platform.

    Args:
        module: its module, with {} for the platform's name. attribute: what it is called there.
    """

    def __init__(self, module: str, attribute: str):
        self._module, self._attribute = module, attribute
        self._known: dict[str, T] = {}

    def register(self, platform: str, part: T) -> None:
        """Add that of a platform which is defined outside the package (tests, plug-ins)."""
        self._known[platform] = part

    def forget(self, platform: str) -> None:
        """Take it back."""
        self._known.pop(platform, None)

    def find(self, platform: str) -> T | None:
        """The part of that platform; None where there is no such module."""
        if platform not in self._known:
            module = self._module.format(platform)
            try:
                self._known[platform] = getattr(importlib.import_module(module), self._attribute)
            except ModuleNotFoundError as error:
                if error.name and module.startswith(error.name):
                    return None
                raise
        return self._known[platform]

    def module(self, platform: str) -> str:
        """Where it is looked for."""
        return self._module.format(platform)
