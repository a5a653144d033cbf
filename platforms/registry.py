# SPDX-License-Identifier: Apache-2.0
"""Finding platforms: every module of this folder that defines `PLATFORM`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

import nncosim.platforms as package
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import PlatformError

__all__ = ["get_platform", "platforms", "register"]

_EXTRA: dict[str, Platform] = {}


@cache
def _built_in() -> dict[str, Platform]:
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        platform = getattr(module, "PLATFORM", None)
        if platform is not None:
            found[platform.name] = platform
    return found


def register(platform: Platform) -> None:
    """Add a platform defined outside the package (tests, plug-ins)."""
    _EXTRA[platform.name] = platform


def platforms() -> dict[str, Platform]:
    """All known platforms by name."""
    return {**_built_in(), **_EXTRA}


def get_platform(name: str) -> Platform:
    """Raises PlatformError with the nearest known name when there is none called `name`."""
    known = platforms()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PlatformError(f"there is no platform {name!r}; known: {', '.join(sorted(known))}{hint}")
    return known[name]
