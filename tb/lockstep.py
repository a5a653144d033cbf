# SPDX-License-Identifier: Apache-2.0
"""Two runs of one image laid beside each other, event by event: where they part first in time.

A machine shows itself at some of its boundaries: a *channel* is what passes one of them, event after event, each with
its cycle. RTL and simulator of a machine have the same channels and, where the RTL is right, the same events in the
same cycles. The first that differs in time names the block: what came in at its other boundaries was the same up to
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.tb.errors import BenchError

__all__ = ["SLACK", "Channel", "Difference", "Event", "differences", "event_of", "last_cycle"]

SLACK = 64

Event = Mapping[str, Any]
"""An event's fields by name: integers, bytes or arrays."""


@dataclass(frozen=True, eq=False)
class Channel:
    """What passed one boundary of a machine.

    Attributes:
        name: of the boundary, alike in both runs.
        events: structured (n,), in the order in which they happened; field ``cycle``: since reset. What means nothing
            in an event, such as words that a mask leaves out, is 0 in both runs.
        block: the part of the machine to blame for an event, of what it should have been and what it was; one of them
            is None where only the other run has an event.
        text: an event in words, without its cycle.
        accounting: it only counts what the others do, and is to blame only where they do nothing wrong.
        late: cycles until an event is recorded at the latest: those of a run's last ones may be lacking where it was
            stopped.
    """

    name: str
    events: npt.NDArray[np.void]
    block: Callable[[Event | None, Event | None], str]
    text: Callable[[Event], str]
    accounting: bool = False
    late: int = 0


@dataclass(frozen=True)
class Difference:
    """Where a channel differs first.

    Attributes:
        channel: its name.
        cycle: of the earlier of the two events.
        number: of the event in its channel, from 0.
        block: that holds the cause, as far as the channel tells.
        wanted, found: the event of the reference, and of the run in question, in words; "" where there is none.
        wanted_cycle, found_cycle: when; None where there is none.
        fields: that differ, with both values; empty where only one run has the event.
    """

    channel: str
    cycle: int
    number: int
    block: str
    wanted: str
    found: str
    wanted_cycle: int | None
    found_cycle: int | None
    fields: Mapping[str, tuple[str, str]]
    accounting: bool = False

    def lines(self) -> list[str]:
        """In words, two lines; and one for each field that differs, where there are several."""
        sides = (("expected", self.wanted, self.wanted_cycle), ("got", self.found, self.found_cycle))
        out = [f"{label}: " + (f"cycle {cycle:,}: {text}" if cycle is not None else "nothing more")
               for label, text, cycle in sides]  # fmt: skip
        several = self.fields if len(self.fields) > 1 else {}
        return out + [f"{name}: expected {wanted}, got {found}" for name, (wanted, found) in several.items()]


def last_cycle(channels: Iterable[Channel]) -> int:
    """The cycle of the last event of a run; 0 where nothing happened."""
    return max((int(each.events["cycle"][-1]) for each in channels if len(each.events)), default=0)


def differences(
    found: Sequence[Channel], wanted: Sequence[Channel], until: int | None = None, stopped: bool = False
) -> list[Difference]:
    """The first difference of each channel that has one, the earliest first; of one cycle, in the channels' order. One
    in accounting comes behind those of the `SLACK` cycles that follow: it shows at once what reaches a boundary later.

    Args:
        found: the run in question. wanted: the reference.
        until: cycles from this one on are left out. stopped: there the run in question was stopped.

    Raises:
        BenchError: the runs have not the same channels.
    """
    names, others = [each.name for each in found], [each.name for each in wanted]
    if names != others:
        raise BenchError(f"two runs cannot be compared: one has the channels {names}, the other {others}")
    pairs = zip(found, wanted, strict=True)
    out = [each for one, other in pairs if (each := _first(one, other, until, stopped)) is not None]
    return sorted(out, key=lambda each: each.cycle + (SLACK if each.accounting else 0))


def _first(found: Channel, wanted: Channel, until: int | None, stopped: bool) -> Difference | None:
    a, b = (_before(each.events, until) for each in (found, wanted))
    if stopped and until is not None and found.late:
        recorded = b["cycle"] + found.late < until
        recorded[:len(a)] = True
        b = b[recorded]
    shorter = min(len(a), len(b))
    unequal = np.flatnonzero((_bytes(a[:shorter]) != _bytes(b[:shorter])).any(axis=1))
    if not len(unequal) and len(a) == len(b):
        return None
    number = int(unequal[0]) if len(unequal) else shorter
    got, want = (event_of(each, number) if number < len(each) else None for each in (a, b))
    cycles = [int(a["cycle"][number]) if got else None, int(b["cycle"][number]) if want else None]
    both = {name: (_shown(want[name]), _shown(got[name])) for name in got} if got and want else {}
    fields = {name: values for name, values in both.items() if values[0] != values[1]}
    return Difference(
        found.name, min(each for each in cycles if each is not None), number, found.block(want, got),
        found.text(want) if want else "", found.text(got) if got else "", cycles[1], cycles[0], fields,
        found.accounting,
    )  # fmt: skip


def _before(events: npt.NDArray[np.void], until: int | None) -> npt.NDArray[np.void]:
    return events if until is None else events[events["cycle"] < until]


def _bytes(events: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """Shape (events, bytes of one)."""
    return np.ascontiguousarray(events).view(np.uint8).reshape(len(events), events.dtype.itemsize)


def event_of(events: npt.NDArray[np.void], number: int) -> Event:
    """One of a channel's events, by the names of its fields."""
    return {name: events[name][number] for name in events.dtype.names or ()}


def _shown(value: object) -> str:
    if isinstance(value, np.ndarray):
        return value.astype(np.uint8).tobytes().hex(" ") if value.dtype == np.uint8 else str(value.tolist())
    return str(value)
