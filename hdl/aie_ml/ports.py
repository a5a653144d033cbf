# SPDX-License-Identifier: Apache-2.0
"""Numbers of the ports of the stream switches, of core tiles and of memory tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["MEMORY_PORTS", "OPPOSITE", "STEPS", "TILE_PORTS", "Ports"]

OPPOSITE = {"north": "south", "south": "north", "west": "east", "east": "west"}
STEPS = {"north": (0, 1), "south": (0, -1), "west": (-1, 0), "east": (1, 0)}
"""Columns and rows from a tile to its neighbour on each side."""


@dataclass(frozen=True)
class Ports:
    """Of a switch: first those of the tile's own DMA, then those to each side, in the order of `go`.

    local: masters to the DMA, and slaves from it. go: masters to the neighbour on each side; come: slaves from it.
    """

    local: int
    go: Mapping[str, int]
    come: Mapping[str, int]

    @property
    def masters(self) -> int:
        return self.local + sum(self.go.values())

    @property
    def slaves(self) -> int:
        return self.local + sum(self.come.values())

    @property
    def master_at(self) -> dict[str, int]:
        """Numbers of the first masters to each side."""
        return dict(zip(self.go, accumulate(self.go.values(), initial=self.local), strict=False))

    @property
    def slave_at(self) -> dict[str, int]:
        """Numbers of the first slaves from each side."""
        return dict(zip(self.come, accumulate(self.come.values(), initial=self.local), strict=False))


TILE_PORTS = Ports(2, {"north": 6, "south": 4, "west": 4, "east": 4}, {"north": 4, "south": 6, "west": 4, "east": 4})
MEMORY_PORTS = Ports(6, {"north": 6, "south": 4}, {"north": 4, "south": 6})
"""AM020's, without those for control packets and trace."""
