# SPDX-License-Identifier: Apache-2.0
"""Transactions of ready/valid streams in a waveform.

    o = stream_of(clock, "adder.o", Sum)              # adder.o__valid, adder.o__ready, adder.o__payload
    for each in o.transactions():
        print(each.begin, each.end, each.stalls, each.payload["sum"])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import ShapeLike
from nncosim.tb.errors import UnknownValueError
from nncosim.tb.sim.payload import Payload
from nncosim.tb.waves.samples import Clock, Condition, Samples

__all__ = ["Stream", "Transaction", "stream_of"]


@dataclass(frozen=True)
class Transaction:
    """A value that was transferred: offered from cycle `begin` on, accepted in cycle `end`, not in `stalls` of them.

    `payload`: by the stream's shape; None of a stream without.
    """

    begin: int
    end: int
    payload: Payload | str | None
    stalls: int


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream's signals. `ready`: None if it is always so. `payload`: None if there is none."""

    name: str
    valid: Condition
    ready: Condition | None
    payload: Samples | None

    @property
    def clock(self) -> Clock:
        return self.valid.clock

    @property
    def transferred(self) -> Condition:
        return self.valid if self.ready is None else self.valid & self.ready

    @property
    def stalled(self) -> Condition:
        """Where a value is offered and not accepted."""
        return self.valid & ~self.valid if self.ready is None else self.valid & ~self.ready

    def transactions(self) -> list[Transaction]:
        """All that begin and end within the clock's cycles, in order. See `rules.payload_stable` for those that break
        the rules: a value that is withdrawn is none, and a payload is that of the cycle that accepts it.

        Raises:
            UnknownValueError: valid is x or z in some cycle, or ready is while valid.
        """
        done, stalled = self.transferred, self.stalled
        unknown = np.flatnonzero(self.valid.unknown | done.unknown)
        if len(unknown):
            cycle = self.clock.cycles[unknown[0]]
            raise UnknownValueError(f"stream {self.name}, cycle {cycle}: valid or ready is x or z")
        found: list[Transaction] = []
        begin: int | None = None
        for index, cycle in enumerate(map(int, self.clock.cycles)):
            if not self.valid.true[index]:
                begin = None
                continue
            if begin is None:
                begin = index
            if done.true[index]:
                payload = None if self.payload is None else self.payload.decoded(index)
                stalls = int(np.count_nonzero(stalled.true[begin:index]))
                found.append(Transaction(int(self.clock.cycles[begin]), cycle, payload, stalls))
                begin = None
        return found


def stream_of(clock: Clock, name: str, shape: ShapeLike | None = None, *, valid: Condition | Samples | None = None,
              ready: Condition | Samples | None = None, payload: Samples | None = None) -> Stream:
    """A stream of a waveform.

    Args:
        clock: Its clock, of the cycles that count.
        name: Before ``__valid``, ``__ready`` and ``__payload``, as Amaranth names a stream's ports. With `valid`,
            only a name for messages.
        shape: The payload's.
        valid: One bit, or any condition; then `ready` and `payload` are those given, or there are none.

    Raises:
        BenchError: No such signal, one of the wrong width, or a payload that has not the bits of the shape.
    """
    if valid is None:
        valid, ready, payload = (clock[f"{name}__{part}"] for part in ("valid", "ready", "payload"))
    if payload is not None and shape is not None:
        payload = payload.typed(shape)
    return Stream(name, Condition.of(valid), None if ready is None else Condition.of(ready), payload)
