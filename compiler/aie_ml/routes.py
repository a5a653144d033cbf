# SPDX-License-Identifier: Apache-2.0
"""Circuits through the stream switches: from each source to all of its targets, no link taken twice.

Trees grow target by target, each by the shortest way from what there is; where none is left, the nets that stand in
its way are routed after it. `hdl/aie_ml/MANUAL.md` has the switch and its ports.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS, OPPOSITE, STEPS, TILE_PORTS, Ports

__all__ = ["EDGE", "Grid", "Net", "Port", "Routes", "problems", "routed"]

EDGE = 0
"""Row of the shim, below the array."""
SOUTH = "south"
_TRIES = 200

Tile = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Tiles with switches: so many columns; in each, above the shim, memory tiles, then core tiles."""

    columns: int
    memory_rows: int
    rows: int

    @property
    def height(self) -> int:
        """Of all tiles."""
        return self.memory_rows + self.rows

    def __contains__(self, tile: Tile) -> bool:
        return 0 <= tile[0] < self.columns and EDGE < tile[1] <= self.height

    def ports(self, tile: Tile) -> Ports:
        """Of a tile's switch."""
        return MEMORY_PORTS if tile[1] <= self.memory_rows else TILE_PORTS


@dataclass(frozen=True)
class Port:
    """A channel of a tile's DMA, or (row `EDGE`) a stream of the shim: of a source its number, as a target any."""

    column: int
    row: int
    channel: int = 0

    @property
    def tile(self) -> Tile:
        return self.column, self.row


@dataclass(frozen=True)
class Net:
    """One stream. A target at `EDGE` is the shim wherever it is reached; else its DMA channel. words: of an
    inference."""

    source: Port
    targets: tuple[Port, ...]
    name: str = ""
    words: int = 0


@dataclass
class Routes:
    """masters: of each tile, master to the slave that it listens to. exits: of each net that leaves, (column, stream)
    of the shim. links: of each net, (tile, direction, number) it takes."""

    masters: dict[Tile, dict[int, int]] = field(default_factory=dict)
    exits: dict[int, tuple[int, int]] = field(default_factory=dict)
    links: dict[int, list[tuple[Tile, str, int]]] = field(default_factory=dict)

    def ways(self, number: int, net: Net) -> tuple[tuple[Tile, ...], ...]:
        """To each target of a net, the tiles from its source on; the shim's row counts as tiles."""
        before = {(x + STEPS[side][0], y + STEPS[side][1]): (x, y) for (x, y), side, _ in self.links[number]}
        if net.source.row == EDGE:
            before[net.source.column, EDGE + 1] = net.source.tile
        found = []
        for target in net.targets:
            way = [(self.exits[number][0], EDGE) if target.row == EDGE else target.tile]
            while way[-1] != net.source.tile:
                way.append(before[way[-1]])
            found.append(tuple(way[::-1]))
        return tuple(found)


class _Router:
    def __init__(self, grid: Grid, nets: Sequence[Net]):
        self.grid, self.nets = grid, nets
        self.used: dict[tuple[Tile, str], set[int]] = {}
        self.routes = Routes()

    def route(self, number: int) -> bool:
        """Whether there was a way."""
        net, masters = self.nets[number], self.routes.masters
        source = net.source
        if source.row == EDGE:
            start = source.column, EDGE + 1
            slave = self.grid.ports(start).slave_at[SOUTH] + source.channel
        else:
            start, slave = source.tile, source.channel
        slaves = {start: slave}
        links: list[tuple[Tile, str, int]] = []
        for target in sorted(net.targets, key=lambda t: abs(t.column - start[0]) + abs(t.row - start[1])):
            way = self._shortest(slaves, target)
            if way is None:
                return False
            at = way[0]
            for tile, direction in zip(way, self._directions(way), strict=False):
                at = self._step(tile, direction, slaves, links)
            if target.row == EDGE:
                _, _, link = links[-1]
                self.routes.exits[number] = at[0], link
            else:
                masters.setdefault(at, {})[target.channel] = slaves[at]
        self.routes.links[number] = links
        return True

    def _step(self, tile: Tile, direction: str, slaves: dict[Tile, int], links: list[tuple[Tile, str, int]]) -> Tile:
        """Take a free link."""
        taken = self.used.setdefault((tile, direction), set())
        ports = self.grid.ports(tile)
        link = next(k for k in range(ports.go[direction]) if k not in taken)
        taken.add(link)
        self.routes.masters.setdefault(tile, {})[ports.master_at[direction] + link] = slaves[tile]
        links.append((tile, direction, link))
        there = tile[0] + STEPS[direction][0], tile[1] + STEPS[direction][1]
        if there in self.grid:
            slaves[there] = self.grid.ports(there).slave_at[OPPOSITE[direction]] + link
        return there

    @staticmethod
    def _directions(way: Sequence[Tile]) -> list[str]:
        named = {step: direction for direction, step in STEPS.items()}
        return [named[b[0] - a[0], b[1] - a[1]] for a, b in pairwise(way)]

    def _shortest(self, begins: Iterable[Tile], target: Port) -> list[Tile] | None:
        """Tiles from one of those that have the stream to the target's; the shim's row counts as one."""
        before: dict[Tile, Tile | None] = dict.fromkeys(begins)
        queue = deque(before)
        while queue:
            at = queue.popleft()
            if at[1] == EDGE or (target.row != EDGE and at == target.tile):
                way: list[Tile] = []
                step: Tile | None = at
                while step is not None:
                    way.append(step)
                    step = before[step]
                return way[::-1]
            for direction, links in self.grid.ports(at).go.items():
                dx, dy = STEPS[direction]
                there = at[0] + dx, at[1] + dy
                leaves = there[1] == EDGE and target.row == EDGE
                full = len(self.used.get((at, direction), ())) >= links
                if (leaves or there in self.grid) and there not in before and not full:
                    before[there] = at
                    queue.append(there)
        return None


def routed(grid: Grid, nets: Sequence[Net]) -> Routes:
    """Circuits for all nets.

    Raises:
        CompileError: none was found; names the stream that is left without one.
    """
    order = list(range(len(nets)))
    for _ in range(_TRIES):
        router = _Router(grid, nets)
        failed = next((number for number in order if not router.route(number)), None)
        if failed is None:
            return router.routes
        order.remove(failed)
        order.insert(0, failed)
    net = nets[order[0]]
    raise CompileError(f"no way through the stream switches was found for {net.name} from tile {net.source.tile}: all "
                       "links there are taken; use fewer rows or other splits")


def problems(grid: Grid, nets: Sequence[Net], masters: Mapping[Tile, Mapping[int, int]]) -> list[str]:
    """What is wrong with circuits, by following them: each target has its source and no other, and nothing else is
    connected. Shares nothing with the router but the numbers of ports."""
    found = []
    wanted = {(t.tile if t.row != EDGE else None, t.channel, net.source)
              for net in nets for t in net.targets}  # fmt: skip
    seen: set[tuple[Tile | None, int, Port]] = set()
    for tile, settings in masters.items():
        for master in settings:
            source, ports = _origin(grid, masters, tile, master), grid.ports(tile)
            if isinstance(source, str):
                found.append(source)
            elif master < ports.local:
                seen.add((tile, master, source))
            elif tile[1] == EDGE + 1 and 0 <= master - ports.master_at[SOUTH] < ports.go[SOUTH]:
                seen.add((None, 0, source))
    found += [f"target {target} has no circuit from {source}" for target, _, source in wanted - seen]
    found += [f"circuit from {source} to {target}, which nobody asked for" for target, _, source in seen - wanted]
    return found


def _origin(grid: Grid, masters: Mapping[Tile, Mapping[int, int]], tile: Tile, master: int) -> Port | str:
    """Where what a master gives comes from; or what is wrong on the way back."""
    for _ in range(4 * grid.columns * grid.height):
        slave = masters.get(tile, {}).get(master)
        if slave is None:
            return f"master {master} of tile {tile} is listened to and has no source"
        ports = grid.ports(tile)
        if slave < ports.local:
            return Port(*tile, slave)
        side = next((side for side, at in ports.slave_at.items() if 0 <= slave - at < ports.come[side]), None)
        if side is None:
            return f"master {master} of tile {tile} listens to slave {slave}, which there is not"
        link = slave - ports.slave_at[side]
        if side == SOUTH and tile[1] == EDGE + 1:
            return Port(tile[0], EDGE, link)
        tile = tile[0] + STEPS[side][0], tile[1] + STEPS[side][1]
        if tile not in grid:
            return f"tile {tile} is not in the array"
        master = grid.ports(tile).master_at[OPPOSITE[side]] + link
    return f"the circuit to tile {tile} is a ring"
