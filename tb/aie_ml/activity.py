# SPDX-License-Identifier: Apache-2.0
"""What each core did when, from its states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.backend import Activity

__all__ = ["CATEGORIES", "Times", "activities", "times_of"]

CATEGORIES = ("idle", "busy", "wait_port", "wait_data", "wait_data", "control")
"""Of each state: idle; issues; waits for memory, a lock, a cascade; busy without an instruction."""
_KINDS = ("idle", "compute", "wait: memory", "wait: lock", "wait: cascade", "control")
_TEXTS = ("idle", "issues", "waits for a bank that others have", "waits for a buffer", "waits for the cascade",
          "runs, and issues nothing")  # fmt: skip


class Times:
    """A core's states, as spans."""

    def __init__(self, states: npt.NDArray[np.void], end: int):
        self._begin = states["cycle"].astype(np.int64)
        self._begin[:1] = 0
        self._end = np.append(self._begin[1:], end)
        self._state = states["state"].astype(np.int64)

    def counts(self, start: int, end: int) -> dict[str, int]:
        """Cycles in each category."""
        cycles = np.clip(np.minimum(self._end, end) - np.maximum(self._begin, start), 0, None)
        out: dict[str, int] = {}
        for state, count in enumerate(np.bincount(self._state, cycles, len(CATEGORIES)).astype(np.int64)):
            if count:
                out[CATEGORIES[state]] = out.get(CATEGORIES[state], 0) + int(count)
        return out

    def spans(self, cuts: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Begins, ends, states, of spans that reach over none of these cycles, up to the last of them."""
        last = cuts[-1]
        begin = np.unique(np.concatenate([self._begin, np.array([0, *cuts], np.int64)]))
        begin = begin[begin < last]
        state = self._state[np.searchsorted(self._begin, begin, side="right") - 1]
        return begin, np.append(begin[1:], last), state


def times_of(
    notes: AieMlNotes, platform: AieMl, states: npt.NDArray[np.void], end: int
) -> dict[str, tuple[int, Times]]:
    """Of each core that is used, by its instance's name, its step of the schedule and its states."""
    return {
        f"core{platform.number(site.column, site.row)}":
            (site.step, Times(states[states["tile"] == notes.number(site.column, site.row)], end))
        for site in notes.sites
    }  # fmt: skip


def activities(times: dict[str, tuple[int, Times]], ends: Sequence[int]) -> tuple[Activity, ...]:
    """For pictures. `ends`: of the steps."""
    out = []
    for name, (step, each) in times.items() if ends else ():
        begin, end, state = each.spans(ends)
        nothing = np.full(len(begin), -1, np.int64)
        cycles = {
            category: np.where([CATEGORIES[k] == category for k in state], end - begin, 0).astype(np.int64)
            for category in dict.fromkeys(CATEGORIES[k] for k in state)
        }  # fmt: skip
        out.append(Activity(name, begin, end, _KINDS, state, _TEXTS, state, (), nothing,
                            np.where(state == 1, step, -1).astype(np.int64), np.zeros(len(begin), np.int64), cycles))
    return tuple(out)
