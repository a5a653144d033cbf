# SPDX-License-Identifier: Apache-2.0
"""The order of transfers: found by playing a layer through, which also proves that it cannot deadlock.

Engines run programs and exchange tokens with a mover of data: a transfer may wait for tokens that its engines give
("this buffer is free"), and gives them tokens when it has landed ("this buffer is full"). Counting semaphores are such
tokens, and so are locks that are acquired and released, and the entries of a DMA's queue.

The mover works strictly in order, so a transfer that waits holds up all behind it. The order is therefore found by
playing: engines run their events until they wait, and whenever the mover is free it takes the most urgent transfer
that is ready. What was played to its end, with no token left over, cannot hang in that order whatever its times are:
each wait is met by tokens that come earlier in the order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from nncosim.compiler.errors import CompileError
from nncosim.compiler.transfers.urgency import SAME_KIND

__all__ = ["Event", "Names", "Ordered", "Synchronised", "Timing", "TransferError", "in_order"]

Event = tuple[str, int]
"""Of a program: ("wait", token) takes a token that transfers give, ("signal", token) gives one that transfers take,
("run", cycles) takes time."""


class TransferError(CompileError):
    """A layer that would hang: an internal error of the tiling."""


class Synchronised(Protocol):
    """A transfer. members: the engines that it serves, by number.

    wait: it takes such a token of each member before it begins; signal: it gives each one when it has landed.
    """

    @property
    def members(self) -> tuple[int, ...]: ...

    @property
    def wait(self) -> int | None: ...

    @property
    def signal(self) -> int | None: ...


class Ordered(Synchronised, Protocol):
    """A transfer that is to be put in order. op: its kind. urgency: see `urgency`."""

    @property
    def op(self) -> Hashable: ...

    @property
    def urgency(self) -> float: ...


T = TypeVar("T", bound=Ordered)


@dataclass(frozen=True)
class Timing(Generic[T]):
    """About how long things take, in cycles.

    cycles: of a transfer. turn: between transfers of two kinds. landed: from a transfer's end until engines see its
    token. seen: from an engine's signal until the mover sees it.
    """

    cycles: Callable[[T], int]
    turn: int = 0
    landed: int = 0
    seen: int = 0


@dataclass(frozen=True)
class Names:
    """For messages: what engines and tokens are called, and the tokens that engines take and give."""

    engine: str = "engine"
    tokens: str = "tokens"
    taken: Callable[[int], str] = str
    given: Callable[[int], str] = str


@dataclass
class _Engine:
    """An engine being played: its position in its events, its time, and the tokens it has got and given."""

    events: Sequence[Event]
    seen: int
    at: int = 0
    time: int = 0
    got: dict[int, deque[int]] = field(default_factory=dict)
    given: dict[int, deque[int]] = field(default_factory=dict)

    def advance(self) -> None:
        while self.at < len(self.events):
            kind, value = self.events[self.at]
            if kind == "run":
                self.time += value
            elif kind == "signal":
                self.given.setdefault(value, deque()).append(self.time + self.seen)
            else:
                tokens = self.got.get(value)
                if not tokens:
                    return
                self.time = max(self.time, tokens.popleft())
            self.at += 1


class _Player(Generic[T]):
    def __init__(self, programs: Mapping[int, Sequence[Event]], timing: Timing[T]):
        self.engines = {number: _Engine(events, timing.seen) for number, events in programs.items()}
        self.time, self.timing = 0, timing
        self.last: Hashable = None

    def ready(self, transfer: T) -> float:
        """When it may begin; infinite if nothing that was played so far lets it."""
        if transfer.wait is None:
            return 0
        times = [self.engines[c].given.get(transfer.wait) for c in transfer.members]
        return max((t[0] if t else math.inf) for t in times)

    def take(self, transfer: T) -> None:
        self.time = max(self.time, int(self.ready(transfer)))
        if transfer.wait is not None:
            for c in transfer.members:
                self.engines[c].given[transfer.wait].popleft()
        self.time += self.timing.cycles(transfer) + (self.timing.turn if self.last not in (None, transfer.op) else 0)
        self.last = transfer.op
        if transfer.signal is not None:
            for c in transfer.members:
                self.engines[c].got.setdefault(transfer.signal, deque()).append(self.time + self.timing.landed)
                self.engines[c].advance()

    def choose(self, waiting: list[deque[T]]) -> deque[T]:
        """The most urgent of the ready transfers; if none is, the one that will be first."""
        # Not the most urgent of all: one that is not ready would hold up those that are, as the mover works in order.
        best, best_key = None, (math.inf, math.inf, math.inf)
        for number, queue in enumerate(waiting):
            when = self.ready(queue[0])
            urgency = queue[0].urgency - (SAME_KIND if queue[0].op is self.last else 0)
            key = (max(when, self.time), urgency, number)
            if key < best_key and when < math.inf:
                best, best_key = queue, key
        if best is None:
            raise TransferError("no transfer can become ready: the layer's tiling would hang")
        return best


def in_order(
    first: Sequence[T], waiting: Sequence[deque[T]], programs: Mapping[int, Sequence[Event]], timing: Timing[T],
    names: Names = Names(),
) -> tuple[list[T], int]:
    """All transfers in the order of execution, and the cycles when the last is done, about.

    Args:
        first: those at the beginning, in order. waiting: queues of the others, each in its own order.
        programs: the events of each engine.

    Raises:
        TransferError: it would hang, or leave a token over, which the next layer would take for its own.
    """
    player = _Player(programs, timing)
    out = list(first)
    for transfer in first:
        player.take(transfer)
    waiting = [queue for queue in waiting if queue]
    while waiting:
        queue = player.choose(waiting)
        transfer = queue.popleft()
        player.take(transfer)
        out.append(transfer)
        waiting = [q for q in waiting if q]
    for number, engine in player.engines.items():
        left = [names.taken(s) for s, tokens in engine.got.items() if tokens]
        left += [names.given(s) for s, tokens in engine.given.items() if tokens]
        if engine.at != len(engine.events) or left:
            where = f"{names.engine} {number} would stop at event {engine.at} of {len(engine.events)}"
            raise TransferError(f"{where}, with {names.tokens} {sorted(left)} left over")
    return out, player.time
