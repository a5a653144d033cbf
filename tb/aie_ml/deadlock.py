# SPDX-License-Identifier: Apache-2.0
"""Why nothing goes on in an array: who waits for what, who would have to give it, and what that one waits for.

From results that are missing at the shim back, until the waits close a circle, or end where nothing will ever come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.notes import Notes
from nncosim.hdl.aie_ml.array import SHIM_IN, SHIM_OUT
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS, OPPOSITE, STEPS, TILE_PORTS, Ports

__all__ = ["BUFFER", "GIVER", "WAIT", "WAY", "Account", "explained"]

WAIT = np.dtype([(name, "<i4") for name in (
    "node", "agent", "kind", "lock", "code", "amount", "value", "fifo", "bd", "started",
    "holder")])  # fmt: skip
GIVER = np.dtype([(name, "<i4") for name in ("node", "agent", "bd", "lock", "delta", "holder")])
BUFFER = np.dtype([(name, "<i4") for name in ("role", "node", "number", "count")])
WAY = np.dtype([("source", "<i4"), ("target", "<i4")])
"""As of iss_waits.h."""
_CORE, _NOBODY = -1, -2
_FULL = 2
_MOST_LINES = 24


class _Kind(IntEnum):
    IDLES, GOES_ON, LOCK, WORDS, ROOM, CASCADE, CASCADE_ROOM = range(7)


class _Role(IntEnum):
    SHIM, SLAVE, HEAD, MASTER, LINK, MM2S = range(6)


class _Rank(IntEnum):
    """What explains most comes first."""

    NOTHING_COMES, CIRCLE, OVER, AT_WORK, NO_MORE_WORDS = range(5)


@dataclass(frozen=True, eq=False)
class Account:
    """Of the simulator, at one moment: `WAIT`, `GIVER`, `BUFFER`, `WAY`."""

    waits: npt.NDArray[np.void]
    givers: npt.NDArray[np.void]
    buffers: npt.NDArray[np.void]
    ways: npt.NDArray[np.void]


@dataclass(frozen=True)
class _Agent:
    """A core, or a channel by its number."""

    node: int
    number: int


@dataclass(frozen=True)
class _End:
    rank: _Rank
    text: str


_Next: TypeAlias = "tuple[str, _Agent | _End]"
"""How a line goes on, and who is next."""


@dataclass
class _Step:
    """agent: None at the shim. rest: what is not looked at yet."""

    agent: _Agent | None
    line: str
    rest: list[_Next] = field(default_factory=list)
    chosen: str = ""


class _Waits:
    def __init__(self, notes: Notes, account: Account):
        self._own = notes.own_as(AieMlNotes)
        self._height = self._own.memory_rows + self._own.rows
        self._layers = {(site.column, site.row): notes.steps[site.step].name for site in self._own.sites}
        self._waits = {_Agent(int(each["node"]), int(each["agent"])): each for each in account.waits}
        self._givers, self._buffers = account.givers, account.buffers
        self._source = {int(way["target"]): int(way["source"]) for way in account.ways}
        self._targets: dict[int, list[int]] = {}
        for way in account.ways:
            self._targets.setdefault(int(way["source"]), []).append(int(way["target"]))
        self._found = {(each["role"], each["node"], each["number"]): k for k, each in enumerate(account.buffers)}

    def starts(self, missing: Sequence[int]) -> Iterator[_Step]:
        """missing: streams of the shim."""
        for stream in missing:
            column, number = divmod(stream, SHIM_OUT)
            node = column * self._height
            port = self._ports(node).master_at["south"] + number
            line = f"the shim waits for words of stream {number} of column {column}"
            link = self._found.get((_Role.LINK, node, port))
            if link is None:
                text = f"master south {number} of {self._tile(node)} listens to nothing"
                yield _Step(None, line, [("", _End(_Rank.NOTHING_COMES, text))])
            else:
                yield _Step(None, line, [self._words(link)])

    def of(self, agent: _Agent) -> _Step:
        """What an agent waits for."""
        wait = self._waits.get(agent)
        if wait is None:
            end = f"nothing of {self._tile(agent.node)} is configured"
            return _Step(agent, self.name(agent), [(" does nothing", _End(_Rank.NOTHING_COMES, end))])
        kind = _Kind(wait["kind"])
        if kind == _Kind.IDLES:
            return self._idle(agent, bool(wait["started"]))
        if kind == _Kind.LOCK:
            return self._lock(agent, wait)
        if kind == _Kind.WORDS:
            return _Step(agent, f"{self.name(agent)} waits for words", [self._words_of(agent, int(wait["fifo"]))])
        if kind == _Kind.ROOM:
            return _Step(agent, f"{self.name(agent)} waits for room on its stream", [self._room(int(wait["fifo"]))])
        if kind in (_Kind.CASCADE, _Kind.CASCADE_ROOM):
            side = -1 if kind == _Kind.CASCADE else 1
            other = _Agent(agent.node + side * self._height, _CORE)
            what = "a word of the cascade from" if kind == _Kind.CASCADE else "room in the cascade to"
            return _Step(agent, f"{self.name(agent)} waits for {what}", [(f" {self.name(other)}", other)])
        return _Step(agent, self.name(agent), [(" is at work", _End(_Rank.AT_WORK, "so the array is not at rest"))])

    def name(self, agent: _Agent) -> str:
        ports, wait = self._ports(agent.node), self._waits.get(agent)
        kind, number = divmod(agent.number, ports.local)
        what = "the core" if agent.number == _CORE else f"{('S2MM', 'MM2S')[kind]} {number}"
        layer = self._layers.get(self._place(agent.node))
        bd = f", descriptor {wait['bd']}" if wait is not None and wait["bd"] >= 0 and wait["started"] else ""
        return f"{what} of {self._tile(agent.node)}{f' (layer {layer})' if layer else ''}{bd}"

    def _idle(self, agent: _Agent, started: bool) -> _Step:
        what = "program" if agent.number == _CORE else "last descriptor"
        if started:
            return _Step(agent, self.name(agent), [(f" has done its {what}", _End(_Rank.OVER, "nothing follows it"))])
        end = "the image does not start it"
        return _Step(agent, self.name(agent), [(" was never started", _End(_Rank.NOTHING_COMES, end))])

    def _lock(self, agent: _Agent, wait: np.void) -> _Step:
        lock, rises = int(wait["lock"]), wait["value"] < wait["amount"]
        amount = f"{'' if wait['code'] else 'at least '}{wait['amount']}"
        where = "" if wait["holder"] == agent.node else f" of {self._tile(int(wait['holder']))}"
        line = f"{self.name(agent)} waits for lock {lock}{where} to be {amount}, which is {wait['value']}"
        mine = self._givers[(self._givers["holder"] == wait["holder"]) & (self._givers["lock"] == lock)]
        mine = mine[mine["delta"] > 0] if rises else mine[mine["delta"] < 0]
        givers = dict.fromkeys(_Agent(int(each["node"]), int(each["agent"])) for each in mine)
        rest: list[_Next] = []
        for other in sorted(givers, key=lambda other: other == agent):
            if other.number != _NOBODY:
                rest.append((f"; {self.name(other)} would release it", other))
        if not rest:
            end = "nobody releases it" if rises else "nobody makes it less"
            if givers:
                bds = ", ".join(str(each["bd"]) for each in mine)
                end = f"descriptor {bds} would release it, which no channel comes to"
            rest = [("", _End(_Rank.NOTHING_COMES, end))]
        return _Step(agent, line, rest)

    def _words_of(self, agent: _Agent, buffer: int) -> _Next:
        if buffer >= 0:
            return self._words(buffer)
        text = f"master DMA {agent.number} of {self._tile(agent.node)} listens to nothing"
        return "", _End(_Rank.NOTHING_COMES, text)

    def _words(self, buffer: int) -> _Next:
        """Whom words would come from into an empty buffer."""
        while True:
            before, each = self._source.get(buffer), self._buffers[buffer]
            if before is None:
                return self._begin(each)
            if self._buffers[before]["count"]:
                full = [k for k in self._targets[before] if self._buffers[k]["count"] == _FULL]
                if not full:
                    return "", _End(_Rank.AT_WORK, "some are on the way, so the array is not at rest")
                text, after = self._room(full[0])
                where = f"{self._port(self._buffers[before])} of {self._tile(int(each['node']))}"
                return f"; they are at {where}, from which they go to others, too{text}", after
            buffer = before

    def _begin(self, buffer: np.void) -> _Next:
        """Where a stream begins."""
        node, number = int(buffer["node"]), int(buffer["number"])
        if buffer["role"] == _Role.SHIM:
            column, stream = divmod(number, SHIM_IN)
            return f" from stream {stream} of column {column}", _End(_Rank.NO_MORE_WORDS, "the shim has no more words")
        if buffer["role"] == _Role.MM2S:
            other = _Agent(node, self._ports(node).local + number)
            return f" from {self.name(other)}", other
        side, link = self._side(node, number)
        column, row = self._place(node)
        dx, dy = STEPS[side]
        there = f"tile ({column + dx},{row + dy})"
        text = f"master {OPPOSITE[side]} {link} of {there} listens to nothing"
        return f" from slave {side} {link} of {self._tile(node)}", _End(_Rank.NOTHING_COMES, text)

    def _room(self, buffer: int) -> _Next:
        """Who would make room in a full buffer."""
        while True:
            each, targets = self._buffers[buffer], self._targets.get(buffer)
            node = int(each["node"])
            if targets is None:
                break
            full = [k for k in targets if self._buffers[k]["count"] == _FULL]
            if not full:
                return "", _End(_Rank.AT_WORK, "there is some, so the array is not at rest")
            buffer = full[0]
        if each["role"] == _Role.MASTER:
            other = _Agent(node, int(each["number"]))
            return f"; {self.name(other)} takes nothing", other
        if each["role"] == _Role.HEAD:
            text = f"no master of {self._tile(node)} listens to {self._port(each)}"
            return "", _End(_Rank.NOTHING_COMES, text)
        return "", _End(_Rank.NOTHING_COMES, f"{self._port(each)} of {self._tile(node)} leads to nobody")

    def _ports(self, node: int) -> Ports:
        return MEMORY_PORTS if self._place(node)[1] < self._own.first_row else TILE_PORTS

    def _place(self, node: int) -> tuple[int, int]:
        return node // self._height, node % self._height + 1

    def _tile(self, node: int) -> str:
        column, row = self._place(node)
        return f"{'memory tile' if row < self._own.first_row else 'tile'} ({column},{row})"

    def _side(self, node: int, slave: int) -> tuple[str, int]:
        at = self._ports(node).slave_at
        side = max((side for side in at if at[side] <= slave), key=lambda side: at[side])
        return side, slave - at[side]

    def _port(self, buffer: np.void) -> str:
        node, number = int(buffer["node"]), int(buffer["number"])
        if buffer["role"] in (_Role.MASTER, _Role.LINK):
            at = self._ports(node).master_at
            side = max((side for side in at if at[side] <= number), key=lambda side: at[side])
            return f"master {side} {number - at[side]}"
        if number < self._ports(node).local:
            return f"slave DMA {number}"
        return "slave {} {}".format(*self._side(node, number))


def _best(waits: _Waits, starts: Iterator[_Step]) -> tuple[_Rank, list[str]] | None:
    """The chain that explains most, among all that begin so: depth first, each agent once."""
    found: list[tuple[_Rank, list[str]]] = []
    seen: set[_Agent] = set()
    for start in starts:
        path = [start]
        while path:
            if not path[-1].rest:
                path.pop()
                continue
            path[-1].chosen, after = path[-1].rest.pop(0)
            lines = [each.line + each.chosen for each in path]
            if isinstance(after, _End):
                found.append((after.rank, [*lines[:-1], f"{lines[-1]}: {after.text}"]))
            elif after in (open_ := [each.agent for each in path]):
                circle = len(open_) - open_.index(after)
                each_other = f"the last {circle} wait for each other, in a circle"
                text = "that one waits for itself" if circle == 1 else each_other
                found.append((_Rank.CIRCLE, [*lines, text]))
            elif after not in seen:
                seen.add(after)
                path.append(waits.of(after))
    return min(found, key=lambda each: (each[0], len(each[1]))) if found else None


def explained(notes: Notes, account: Account, missing: Sequence[int]) -> str:
    """The waits, a line each.

    Args:
        missing: streams of the shim, column * 4 + number, out of which not all words came.
    """
    waits = _Waits(notes, account)
    best = _best(waits, waits.starts(missing))
    if best is None:
        return ""
    lines = best[1]
    if len(lines) > _MOST_LINES:
        half = _MOST_LINES // 2
        lines = [*lines[:half], f"... {len(lines) - 2 * half} more ...", *lines[-half:]]
    return "\n".join(f"- {line}" for line in lines)
