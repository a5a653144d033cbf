# SPDX-License-Identifier: Apache-2.0
"""Records as channels of `nncosim.tb.lockstep`: how an event is told, and which block is to blame for it.

A block is to blame for what leaves it, as everything that entered it was right up to there: channels are in the order
in which data flows, and of one event the fields are looked at in this order, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from nncosim.tb.lockstep import Event

__all__ = ["Kind", "Owner", "Records", "by_cycle", "earlier", "judged"]

Records = npt.NDArray[np.void]


Owner: TypeAlias = str | Callable[[Event], str]
"""A block, or which one it is of an event."""


@dataclass(frozen=True)
class Kind:
    """How a layout is told and judged. `name`: of the channel. `moment`: the block that decides when it happens.
    `fields`: the block of each field, in the order of the data's way. `text`: an event in words. `accounting`: as of
    `nncosim.tb.lockstep.Channel`."""

    layout: str
    name: str
    moment: Owner
    fields: Mapping[str, Owner]
    text: Callable[[Event], str]
    judge: Callable[[Event, Event], str] | None = None  # for what two events of one cycle have in their fields
    accounting: bool = False


def judged(kind: Kind, want: Event | None, got: Event | None) -> str:
    """The block to blame for an event, of what it should have been and what it was."""
    owner, event = kind.moment, earlier(want, got)
    if want is not None and got is not None and want["cycle"] == got["cycle"]:
        if kind.judge is not None:
            return kind.judge(want, got)
        wrong = (block for name, block in kind.fields.items() if not np.array_equal(want[name], got[name]))
        owner, event = next(wrong, kind.moment), want
    return owner if isinstance(owner, str) else owner(event)


def earlier(want: Event | None, got: Event | None) -> Event:
    """The earlier of two events, of which there is one at least."""
    return min((each for each in (want, got) if each is not None), key=lambda each: int(each["cycle"]))


def by_cycle(records: Records) -> Records:
    """In the order of cycles, and of those of one cycle in that of the fields behind it, the first one first."""
    names = records.dtype.names or ()
    keys = [records[name] for name in names if records.dtype[name].shape == ()]
    return records[np.lexsort(keys[::-1])] if len(records) else records
