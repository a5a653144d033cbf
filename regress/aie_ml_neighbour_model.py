# SPDX-License-Identifier: Apache-2.0
"""What a core's way to its west neighbour's memory and locks does by the manual, told by cycles: when each access was
asked for, when it was served."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.regress import aie_ml_lock_model as lock_model
from nncosim.regress.aie_ml_data_memory_model import Port, Reference, Request

__all__ = ["NONE", "SLOTS", "WEST", "Expected", "Issued", "beat_of"]

SLOTS = ("lda", "ldb", "store")
WEST, GROUPS = 1 << 11, 2
NONE = -100
"""A cycle that never was."""


def beat_of(addr: int) -> int:
    """In the small memory: pair and row of an address in the west."""
    return (addr >> 9 & 3) << 2 | addr & 3


@dataclass
class Issued:
    """An instruction. loads: address and register of each slot; lock: an ACQUIRE or RELEASE in the west."""

    loads: list[tuple[int, int] | None]
    store: tuple[int, int] | None
    lock: lock_model.Request | None


@dataclass
class Group:
    """since: the cycle in which it is asked for. left: what was not served."""

    since: int
    left: dict[Port, Request]
    numbers: dict[Port, int]
    last: int | None = None


@dataclass
class LockUse:
    """request: asked for at the west end in this cycle. behind: groups that come before it."""

    request: lock_model.Request
    since: int
    behind: list[Group]
    served: int | None = None


@dataclass
class Expected:
    """By the manual; `now` counts cycles without stalls, `cycle` all."""

    memory: Reference
    locks: lock_model.Reference
    seen: Counter[str]
    now: int = 0
    cycle: int = 0
    issued: dict[int, Issued] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    came: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)  # load and slot: when, and what
    own_left: set[int] = field(default_factory=set)
    lock: LockUse | None = None
    asked: LockUse | None = None  # of the ACQUIRE that is next

    def slot(self, number: int, before: int) -> tuple[int, int] | None:
        """What a slot has in a stage, by the cycles since it was issued."""
        each = self.issued.get(self.now - before)
        return None if each is None else each.store if number == 2 else each.loads[number]

    def west(self, number: int, before: int) -> bool:
        found = self.slot(number, before)
        return found is not None and found[0] >= WEST

    def under_way(self) -> int:
        return sum(each.last is None or each.last >= self.cycle for each in self.groups)

    def head(self) -> Group | None:
        return next((each for each in self.groups if each.last is None), None)

    def goes(self) -> bool:
        return any(self.west(number, 5 if number == 2 else 3) for number in range(3))

    def late(self, number: int) -> bool:
        return self.west(number, 6) and self.came.get((self.now - 6, number), (self.cycle + 1, 0))[0] > self.cycle

    def lock_free(self) -> bool:
        return self.lock is None or (self.lock.served is not None and self.lock.served < self.cycle)

    def waits(self, word: Issued, granted: bool) -> set[str]:
        """What the core waits for, of what it issues next. granted: its ACQUIRE was, before."""
        out = {f"own {number}" for number in self.own_left}
        out |= {f"late {number}" for number in range(2) if self.late(number)}
        if self.goes() and self.under_way() == GROUPS:
            out.add("no room")
        if word.lock and word.lock.op == LockOp.RELEASE and not self.lock_free():
            out.add("release")
        if word.lock and word.lock.op != LockOp.RELEASE and not granted and not self.acquired():
            out.add("acquire")
        return out

    def acquired(self) -> bool:
        return self.asked is not None and self.asked.served is not None and self.asked.served < self.cycle

    def ask_lock(self, word: Issued, advance: bool) -> None:
        """At the end of a cycle: what goes to the locks."""
        if word.lock is None:
            return
        release = word.lock.op == LockOp.RELEASE
        if not (advance if release else self.asked is None and self.lock_free()):
            return
        self.seen["asked as soon as it is free"] += self.lock is not None and self.lock.served == self.cycle - 1
        behind = [each for each in self.groups if each.since <= self.cycle and each.last is None] if release else []
        self.lock = LockUse(word.lock, self.cycle + 1, behind)
        self.seen[f"a release behind {len(behind)}"] += release
        if not release:
            self.asked = self.lock

    def go_on(self, word: Issued) -> None:
        """To the next instruction; the group that is asked for then."""
        self.issued[self.now] = word
        self.now += 1
        self.asked = None
        group = Group(self.cycle + 1, {}, {})
        for number, name in enumerate(SLOTS):
            before = 6 if number == 2 else 4
            found = self.slot(number, before)
            if found is None:
                continue
            if found[0] < WEST:
                self.own_left.add(number)
            else:
                group.left["east", name] = Request(beat_of(found[0]), number == 2, found[1])
                group.numbers["east", name] = self.now - before
        if group.left:
            self.groups.append(group)
            self.seen[f"a group of {' '.join(name for _, name in group.left)}"] += 1
        self.groups = [each for each in self.groups if each.last is None or each.last >= self.cycle]

    def served(self, granted: set[Port], read: dict[Port, int]) -> None:
        """What the memory gave in this cycle."""
        group = self.head()
        if group is None or group.since > self.cycle:
            return
        self.seen["a group is late"] += group.since < self.cycle
        for port in list(group.left):
            if port in granted:
                del group.left[port]
                if port in read:
                    self.came[group.numbers[port], SLOTS.index(port[1])] = self.cycle + 2, read[port]
        if not group.left:
            group.last = self.cycle

    def east(self) -> dict[Port, Request]:
        group = self.head()
        return dict(group.left) if group is not None and group.since <= self.cycle else {}

    def lock_asked(self) -> lock_model.Request | None:
        """What the east neighbour's core asks of the locks in this cycle."""
        use = self.lock
        if use is None or use.served is not None or use.since > self.cycle:
            return None
        return use.request if all(each.last is not None and each.last < self.cycle for each in use.behind) else None
