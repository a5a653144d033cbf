# SPDX-License-Identifier: Apache-2.0
"""Whether tiles take turns at the buffers that they share: read back from what an image loads, program by program.

It knows the machine by its manual, and nothing of plans and places. A core that loads from its west neighbour acquires
one lock there and releases another: `full` and `free`. The neighbour has to acquire `free` and to release `full` around
the stores of what is loaded then, buffer for buffer; as many buffers as `free` begins with must be different ones; and
nobody else may use the two locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from nncosim.compiler.aie_ml.named_core import Event, NamedCore, decoded, end_of, following
from nncosim.compiler.aie_ml.notes import tile_of
from nncosim.compiler.image.image import Segment
from nncosim.hdl.aie_ml import dma
from nncosim.hdl.aie_ml.config import BDS_AT, LOCKS_AT, PROGRAM_AT
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES
from nncosim.hdl.formats import decode
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["problems"]

_LIMIT = 1_000_000
_BD_BYTES = 32
_OF_LOCKS = ("acquire", "release")
Tile = tuple[int, int]


@dataclass
class _Loaded:
    """Of a tile: its program, values that locks begin with, locks that descriptors use."""

    program: bytes = b""
    locks: tuple[int, ...] = ()
    used: set[int] = field(default_factory=set)


def _loaded(segments: Iterable[Segment]) -> dict[Tile, _Loaded]:
    out: dict[Tile, _Loaded] = {}
    for segment in segments:
        column, row, at = tile_of(segment.address)
        tile = out.setdefault((column, row), _Loaded())
        if segment.memory == "program" and at == PROGRAM_AT:
            tile.program = segment.data
        elif segment.memory == "config" and at == LOCKS_AT:
            tile.locks = tuple(np.frombuffer(segment.data, "<u4").tolist())
        elif segment.memory == "config" and 0 <= (at - BDS_AT) // _BD_BYTES < dma.DESCRIPTORS:
            descriptor = decode(dma.Descriptor, int.from_bytes(segment.data, "little"))
            tile.used |= {descriptor[f"{what}_lock"] for what in _OF_LOCKS if descriptor[what]}
    return out


@lru_cache(maxsize=256)
def _events(program: bytes, generation: Generation) -> tuple[Event, ...]:
    """Up to its end, or to the return to the begin of its endless loop."""
    words = [int.from_bytes(program[k : k + INSTRUCTION_BYTES], "little")
             for k in range(0, len(program), INSTRUCTION_BYTES)]  # fmt: skip
    core, loops, last = NamedCore(generation, ()), list[list[int]](), _LIMIT
    while core.cycle < last:
        for beat, _ in core.land():
            core.memory[beat] = ("stored", beat)
        if last == _LIMIT:
            if core.pc >= len(words):
                break
            slots = decoded(words[core.pc])
            core.issue(slots)
            core.release(slots)
            last = end_of(core, loops, slots, _LIMIT)
            core.pc = following(core, loops, slots)
        core.cycle += 1
    return tuple(core.events)


def problems(segments: Iterable[Segment], generation: Generation) -> list[str]:
    """What is wrong, one line each; none if nothing is, or nothing is shared."""
    tiles, found = _loaded(segments), []
    for (column, row), taker in tiles.items():
        events = _events(taker.program, generation)
        if any(event.west for event in events):
            maker = tiles.get((column - 1, row), _Loaded())
            texts = _wrong(events, _events(maker.program, generation), maker)
            found += [f"tile ({column},{row}) and its west neighbour: {text}" for text in texts]
    return found


def _wrong(taker: Sequence[Event], maker: Sequence[Event], tile: _Loaded) -> list[str]:
    """tile: the maker's."""
    west = [event for event in taker if event.west]
    acquired, released = ({e.number for e in west if e.what == what} for what in ("acquire", "release"))
    if len(acquired) != 1 or len(released) != 1 or acquired == released:
        return [f"locks {sorted(acquired)} are acquired there, and {sorted(released)} released, not one of each"]
    (full,), (free,) = acquired, released
    locks = {full, free}
    own = [event for event in maker if not event.west and (
        event.what == "store" or (event.what in _OF_LOCKS and event.number in locks))]  # fmt: skip
    (taken, odd), (made, others) = _turns(west, full, free), _turns(own, free, full)
    beats = set().union(*taken)
    found = [f"the core uses lock {event.number} of its neighbour out of turn: {event.what} {event.value}"
             for event in odd if event.what in _OF_LOCKS]  # fmt: skip
    found += [f"the neighbour uses lock {event.number} out of turn: {event.what} {event.value}"
              for event in others if event.what in _OF_LOCKS]  # fmt: skip
    found += [f"beat {event.number} is loaded before lock {full} is acquired, or after lock {free} is released"
              for event in odd if event.what == "load"]  # fmt: skip
    found += [f"beat {event.number} is stored by the core" for event in west if event.what == "store"]
    found += [f"beat {event.number} is stored by the neighbour without lock {free}"
              for event in others if event.what == "store" and event.number in beats]  # fmt: skip
    found += [f"a descriptor uses lock {lock}" for lock in sorted(tile.used & locks)]
    begin = [tile.locks[lock] if lock < len(tile.locks) else 0 for lock in (free, full)]
    if begin[1] or not 1 <= begin[0] <= len(made) or len(taken) != len(made):
        return [*found, f"{len(made)} buffers are made in turn, {len(taken)} taken, and locks {free} and {full} begin "
                        f"with {begin[0]} and {begin[1]}"]  # fmt: skip
    return found + _mixed(taken, made, begin[0])


def _turns(events: Sequence[Event], begins: int, ends: int) -> tuple[list[set[int]], list[Event]]:
    """Beats accessed from each acquire of the one lock to the next release of the other; and events out of turn: locks
    used when they should not be, or by another value than 1, and accesses while no lock is held."""
    turns: list[set[int]] = []
    outside, held = [], False
    for event in events:
        if event.what not in _OF_LOCKS:
            if held:
                turns[-1].add(event.number)
            else:
                outside.append(event)
        elif (event.what, event.number, event.value) != (("release", ends, 1) if held else ("acquire", begins, 1)):
            outside.append(event)
        else:
            held = not held
            turns += [set()] if held else []
    return turns, [*outside, *([Event("release", False, ends)] if held else [])]


def _mixed(taken: Sequence[set[int]], made: Sequence[set[int]], copies: int) -> list[str]:
    """The k-th buffer that is taken is the k-th that is made, and none that may be made meanwhile has a beat of it."""
    found = []
    for k, beats in enumerate(taken):
        if missing := beats - made[k]:
            found.append(f"beat {min(missing)} is taken with buffer {k}, and not made with it")
        for ahead in range(1, copies):
            if both := beats & made[(k + ahead) % len(made)]:
                found.append(f"beat {min(both)} of buffer {k} may be made anew while it is taken")
    return found
