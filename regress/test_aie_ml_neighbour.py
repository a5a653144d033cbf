# SPDX-License-Identifier: Apache-2.0
"""A core's way to its west neighbour's memory and locks, cycle by cycle against the manual."""

from __future__ import annotations

from collections import Counter
from types import ModuleType

from nncosim.hdl.aie_ml import access, locks, memory, neighbour
from nncosim.regress.aie_ml_neighbour_bench import differences
from nncosim.regress.aie_ml_neighbour_model import SLOTS
from nncosim.regress.planted import planted

MODULES = {"access": access, "locks": locks, "memory": memory, "neighbour": neighbour}


def copies(name: str = "", right: str = "", wrong: str = "") -> dict[str, ModuleType]:
    """Of the modules; one of them with a bug."""
    same = "# SPDX"
    return {each: planted(module, right, wrong) if each == name else planted(module, same, same)
            for each, module in MODULES.items()}  # fmt: skip


NEEDED = {
    *(f"{slot} behind {who}" for slot in SLOTS for who in ("own", "dma")), "lda behind east", "ldb behind east",
    *(f"{slot} comes in t+{before}" for slot in ("lda", "ldb") for before in (4, 5, 6)), "both slots come",
    *(f"{slot} {where}" for slot in ("lda", "ldb") for where in ("own", "west")), "no room", "late 0", "late 1",
    "release", "acquire",
    "a group is late", "a group of lda ldb store", "a group of store", "asked as soon as it is free",
    *(f"a release behind {count}" for count in range(3)), "a lock waits for others",
    *(f"{op} {when}" for op in ("ACQUIRE_AT_LEAST", "ACQUIRE_EQUAL", "RELEASE") for when in ("at once", "late")),
}


def test_random_accesses() -> None:
    seen: Counter[str] = Counter()
    for seed in range(4):
        assert differences(copies(), seed, 1000, seen) == [], f"seed {seed}"
    assert {name for name in NEEDED if not seen[name]} == set()


AHEAD = "ahead.eq(sum(each.any() for each in wanted) - over)"
ROOM = "(under_way == WEST_GROUPS)"
WEST = "self.goes_west.eq(valid & addr[self.west_bit]), self.west_addr.eq(addr)"
OWN = "self.request.eq(wanted & ~request_addr[self.west_bit] & ~done)"
BOTH = "self.request.eq(wanted & ~done)"
BUGS = {
    "asked again while the core stands": ("neighbour", "self.goes[port] & self.advance", "self.goes[port]"),
    "room for any number": ("neighbour", "self.waiting.eq(group &", "self.waiting.eq(0 & group &"),
    "room for three": ("neighbour", ROOM, "(under_way == WEST_GROUPS + 1)"),
    "room is seen a cycle late": ("neighbour", f"{ROOM} & ~done", ROOM),
    "what is done is not counted": ("neighbour", "(group & self.advance) - done", "(group & self.advance)"),
    "a group that waits counts twice": ("neighbour", "(group & self.advance) - done", "group - done"),
    "data of the cycle after": ("neighbour", "with m.If(came):", "with m.If(self.came[slot]):"),
    "an acquire is asked for twice": ("neighbour", "self.acquire & ~asked & self", "self.acquire & self"),
    "an acquire before the release is done": ("neighbour", "~asked & self.lock_free)", "~asked)"),
    "a release before it is issued": ("neighbour", "(self.release & self.advance)", "self.release"),
    "a release while another is under way": ("neighbour", "self.lock_free.eq(~busy | done)",
                                             "self.lock_free.eq(self.release | ~busy | done)"),
    "what a release gets is the acquire's": ("neighbour", "self.lock_grant.eq(asked & ", "self.lock_grant.eq("),
    "asked for ever": ("neighbour", "m.d.sync += asked.eq(0)", "m.d.sync += asked.eq(asked)"),
    "a release overtakes": ("neighbour", AHEAD, "ahead.eq(0)"),
    "a release overtakes the second": ("neighbour", AHEAD, "ahead.eq((wanted[0].any() | wanted[1].any()) - over)"),
    "a release behind what comes with it": ("neighbour", AHEAD, AHEAD[:-1] + " + link.ask[0])"),
    "a release behind what is over": ("neighbour", AHEAD, AHEAD.replace(" - over", "")),
    "a release waits for ever": ("neighbour", "ahead.eq(ahead - over)", "ahead.eq(ahead)"),
    "an acquire is behind them, too": ("neighbour", "m.If(link.lock_op == LockOp.RELEASE):", "m.If(1):"),
    "a request is kept when it is granted": ("neighbour", "(pending & ~request.grant)", "pending"),
    "a request is not kept": ("neighbour", "link.lock_ask | (pending & ~request.grant)", "link.lock_ask"),
    "done when it is asked for": ("neighbour", "link.lock_done.eq(request.grant)", "link.lock_done.eq(request.valid)"),
    "another request is kept": ("neighbour", "with m.If(link.lock_ask):\n                m.d.sync += kept",
                                "with m.If(1):\n                m.d.sync += kept"),
    "over when one access is": ("neighbour", "now.any() & (left == 0)", "now.any() & (left != now)"),
    "what was served is served again": ("neighbour", "m.d.sync += each.eq(left)", "m.d.sync += each.eq(now)"),
    "the next one is not served": ("neighbour", "oldest.eq(oldest ^ over)", "oldest.eq(oldest)"),
    "the next one in its place": ("neighbour", "newest.eq(newest ^ comes)", "newest.eq(newest)"),
    "the younger one first": ("neighbour", "Mux(oldest, wanted[1], wanted[0])", "Mux(oldest, wanted[0], wanted[1])"),
    "the other one's address": ("neighbour", "Mux(oldest, places[1], places[0])", "Mux(oldest, places[0], places[1])"),
    "an address a bit short": ("neighbour", "m.d.comb += go.eq(", "m.d.comb += go[1:].eq("),
    "slots answer for each other": ("neighbour", "now[slot] & self.grant[slot]", "now[slot] & self.grant[1 - slot]"),
    "an answer for what was not granted": ("neighbour", "now[slot] & self.grant[slot]", "now[slot]"),
    "what the other slot read": ("neighbour", "data.eq(self.r_data[slot])", "data.eq(self.r_data[1 - slot])"),
    "to the youngest load": ("access", "for stage in (2, 1, 0):", "for stage in (0, 1, 2):"),
    "to all loads": ("access", "missing & ~older)", "missing)"),
    "lost when the core goes on": ("access", "has[1].eq(now[0])", "has[1].eq(has[0])"),
    "lost when it goes on from t+5": ("access", "has[2].eq(now[1])", "has[2].eq(has[1])"),
    "lost while it stands in t+4": ("access", "self._data(m, done | has, comes)", "self._data(m, done, comes)"),
    "lost while it stands in t+6": ("access", "m.d.sync += out.eq(self.came_data)", "m.d.sync += out.eq(out)"),
    "not waited for": ("access", "(self.request & ~self.grant) | late", "self.request & ~self.grant"),
    "waited for a cycle longer": ("access", "waits[2] & ~now[2]", "waits[2] & ~has[2]"),
    "own data in place of the west's": ("access", "Mux(comes[1], self.came_data, self.data)", "self.data"),
    "the west's in place of own data": ("access", "now.eq(Mux(comes[0], self.came_data, self.data))",
                                        "now.eq(self.came_data)"),
    "loads of the west from 1024 on": ("access", WEST + ",\n", WEST.replace("west_bit", "west_bit - 1") + ",\n"),
    "stores to the west from 1024 on": ("access", WEST + ", self.west_data",
                                        WEST.replace("west_bit", "west_bit - 1") + ", self.west_data"),
    "a store of the one before": ("access", "self.west_data.eq(data)", "self.west_data.eq(self.request_data)"),
    "a store to both": ("access", OWN + ",\n            self.waiting", BOTH + ",\n            self.waiting"),
    "a load of both": ("access", OWN + ", self.request_addr", BOTH + ", self.request_addr"),
}
"""Module, what it says, what it says with the bug."""


def test_planted_bugs_are_noticed() -> None:
    assert differences(copies("access", "# SPDX", "# SPDX"), 1, 200, Counter()) == []
    assert [name for name, bug in BUGS.items()
            if not any(differences(copies(*bug), seed, 400, Counter()) for seed in range(1, 9))] == []
