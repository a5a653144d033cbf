# SPDX-License-Identifier: Apache-2.0
"""Spans of activity from records of changes: no gaps, cut at completions, adding up to the counters."""

from __future__ import annotations

import numpy as np
from nncosim.tb.run.spans import Cut, Said, activity, change_dtype, spans_of

IDLE, BUSY, STALL = 0, 1, 2
SAYS = {IDLE: Said(-1, "idle", "idle"), BUSY: Said(-1, "compute", "multiplies", "weights", 64),
        STALL: Said(1, "wait: lock", "waits for lock 3")}  # fmt: skip


def recorded():
    """Engine 7 idles up to cycle 4, is busy up to 15, waits for the step behind; steps end at 10 and 20."""
    changes = np.zeros(3, change_dtype(3))
    for record, values in zip(changes, ((4, 7, BUSY, (4, 0, 0)), (15, 7, STALL, (4, 11, 0)), (2, 8, BUSY, (2, 0, 0))),
                              strict=True):
        record["cycle"], record["engine"], record["key"], record["counters"] = values
    cuts = [Cut(10, np.zeros((9, 3), np.int64)), Cut(20, np.zeros((9, 3), np.int64))]
    cuts[0].counters[7], cuts[1].counters[7] = (4, 6, 0), (4, 11, 5)
    return changes, cuts


def test_spans_are_cut_at_completions_and_add_up():
    changes, cuts = recorded()
    (spans,) = spans_of(changes, cuts, [("core", 7)], steps=2, idle=IDLE)
    assert spans.start.tolist() == [0, 4, 10, 15] and spans.end.tolist() == [4, 10, 15, 20]
    assert spans.key.tolist() == [IDLE, BUSY, BUSY, STALL] and spans.step.tolist() == [0, 0, 1, 1]
    assert spans.cycles.tolist() == [[4, 0, 0], [0, 6, 0], [0, 5, 0], [0, 0, 5]]
    assert (spans.cycles.sum(axis=1) == spans.end - spans.start).all()


def test_bytes_count_in_the_first_part_of_what_was_cut():
    changes, cuts = recorded()
    (spans,) = spans_of(changes, cuts, [("core", 7)], steps=2, idle=IDLE)
    shown = activity(spans, SAYS.__getitem__, ("idle", "busy", "stall"))
    assert shown.bytes.tolist() == [0, 64, 0, 0]
    assert [shown.kinds[k] for k in shown.kind] == ["idle", "compute", "compute", "wait: lock"]
    assert [shown.buffers[k] if k >= 0 else "" for k in shown.buffer] == ["", "weights", "weights", ""]
    assert shown.step.tolist() == [0, 0, 1, 1] and shown.cycles["busy"].tolist() == [0, 6, 5, 0]


def test_a_step_that_the_key_tells_goes_before_that_of_the_time():
    changes, cuts = recorded()
    changes["cycle"][1], changes["counters"][1] = 8, (4, 4, 0)
    cuts[0].counters[7], cuts[1].counters[7] = (4, 4, 2), (4, 4, 12)
    (spans,) = spans_of(changes, cuts, [("core", 7)], steps=2, idle=IDLE)
    assert spans.step.tolist() == [0, 0, 0, 1]
    assert activity(spans, SAYS.__getitem__, ("idle", "busy", "stall")).step.tolist() == [0, 0, 1, 1]


def test_what_begins_behind_a_stop_is_no_span():
    changes, cuts = recorded()
    (spans,) = spans_of(changes, [Cut(12, cuts[1].counters)], [("core", 7)], steps=2, idle=IDLE)
    assert spans.end.tolist() == [4, 12] and spans.step.tolist() == [0, 0]
