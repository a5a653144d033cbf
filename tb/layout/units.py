# SPDX-License-Identifier: Apache-2.0
"""What a bench gives whose machine has units to lay out; as the protocols of `nncosim.tb.backend`."""

from __future__ import annotations

from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from nncosim.platforms.base import Platform
from nncosim.tb.netlist.mapping import Part

__all__ = ["LaidOut"]

PlatformT = TypeVar("PlatformT", bound=Platform, contravariant=True)


@runtime_checkable
class LaidOut(Protocol[PlatformT]):
    """A bench whose machine's units can be placed and routed. `layout_blocks`: names of those that stand alone, without
    memories in them."""

    layout_blocks: ClassVar[tuple[str, ...]]

    def layout_part(self, platform: PlatformT, block: str) -> Part:
        """A unit of `layout_blocks`, as it is mapped."""
        ...
