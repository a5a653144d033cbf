# SPDX-License-Identifier: Apache-2.0
"""The order of transfers, by engines and tokens of no machine in particular."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pytest
from nncosim.compiler.transfers.order import Names, Timing, TransferError, in_order

FULL, FREE, DONE = 0, 1, 2
TIMING = Timing(lambda transfer: transfer.cost, turn=3, landed=2, seen=1)
RUN = [("wait", FULL), ("run", 10), ("signal", FREE), ("signal", DONE)]


@dataclass(frozen=True)
class Move:
    """A DMA transfer that takes and gives locks."""

    name: str
    op: str
    wait: int | None
    signal: int | None
    urgency: float
    members: tuple[int, ...] = (0,)
    cost: int = 4


def loads(count):
    """Into one buffer: each but the first waits for it to be free."""
    return deque(Move(f"in{i}", "in", FREE if i else None, FULL, i - 1) for i in range(count))


def stores(count):
    return deque(Move(f"out{i}", "out", DONE, None, i + 0.9) for i in range(count))


def test_the_order_and_its_time():
    """By hand: in0 lands at 4 + 2, the engine ends at 16, seen at 17; then by urgency the load, and the turn to stores.

    in1 17..21, out0 waits for the turn: 21 + 3 + 4 = 28. The engine runs 23..33, frees nothing that anybody takes."""
    order, cycles = in_order([], [loads(2), stores(2)], {0: [*RUN, *RUN[:2], RUN[3]]}, TIMING)
    assert [move.name for move in order] == ["in0", "in1", "out0", "out1"]
    assert cycles == 34 + 4


def test_a_transfer_to_two_engines_waits_for_the_slower_one():
    both = (0, 1)
    moves = deque([Move("a", "in", None, FULL, 0, both), Move("b", "in", FREE, FULL, 1, both)])
    slow = [("wait", FULL), ("run", 50), ("signal", FREE), ("wait", FULL)]
    _, cycles = in_order([], [moves], {0: [("wait", FULL), ("signal", FREE), ("wait", FULL)], 1: slow}, TIMING)
    assert cycles == 4 + 2 + 50 + 1 + 4


def test_a_lock_that_nobody_gives_is_a_hang():
    with pytest.raises(TransferError, match="would hang"):
        in_order([], [loads(2), stores(2)], {0: [RUN[0], RUN[1], RUN[3]] * 2}, TIMING)


def test_a_lock_left_over_is_named():
    names = Names("tile", "locks", "taken {}".format, "given {}".format)
    with pytest.raises(TransferError, match=r"tile 0 would stop at event 8 of 8, with locks \['given 1'\] left over"):
        in_order([], [loads(2), stores(2)], {0: RUN * 2}, TIMING, names)


def test_an_engine_that_waits_for_ever_is_seen():
    with pytest.raises(TransferError, match="engine 0 would stop at event 4 of 5"):
        in_order([], [loads(1), stores(1)], {0: [RUN[0], RUN[1], RUN[3], ("run", 1), ("wait", FULL)]}, TIMING)
