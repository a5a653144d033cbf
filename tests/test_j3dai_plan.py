# SPDX-License-Identifier: Apache-2.0
"""Buffers in turn: where each load lies, and that as many slots are given back as are waited for."""

import pytest
from nncosim.compiler.tiling.slots import Slots


def test_addresses_by_hand():
    slots = Slots(100, 3, 8)
    assert [slots.at(i) for i in range(7)] == [100, 108, 116, 100, 108, 116, 100]
    assert slots.end == 124 and str(slots) == "3 x 8"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("uses", [1, 2, 3, 4, 9])
def test_a_slot_is_waited_for_exactly_as_often_as_it_is_given_back(count, uses):
    """Play it: who fills a slot anew waits for who used it last, and every signal is taken."""
    slots = Slots(0, count, 8)
    holds, signals = {}, 0
    for i in range(uses):
        before = holds.get(slots.at(i))
        assert slots.used_before(i) == (before is not None)
        if before is not None:
            assert slots.used_again(before, uses)
            signals += 1
        holds[slots.at(i)] = i
    assert sum(slots.used_again(i, uses) for i in range(uses)) == signals
    assert len(holds) == min(count, uses)
