# SPDX-License-Identifier: Apache-2.0
"""What engines did when: from records of changes to spans without gaps that add up to the engines' counters.

A record says that an engine does something else from a cycle on: what, as a key, which is the platform's, and the
engine's counters up to that cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nncosim.tb.backend import Activity

__all__ = ["Cut", "Said", "Spans", "activity", "change_dtype", "spans_of"]

_Ints = npt.NDArray[np.int64]


def change_dtype(counters: int) -> np.dtype[np.void]:
    """A record of a change: so many counters, of all cycles before `cycle`."""
    return np.dtype([("cycle", "<u8"), ("engine", "<u4"), ("key", "<u4"), ("counters", "<u4", (counters,))])


@dataclass(frozen=True)
class Cut:
    """The counters of all engines, of all cycles before `cycle`: (engines, counters) in the order of the records."""

    cycle: int
    counters: _Ints


@dataclass(frozen=True)
class Said:
    """What a key says of a span: see `nncosim.tb.backend.Activity`. `step`: -1 where it does not tell. `bytes`: what it
    moves on a memory's port; a broadcast counts once."""

    step: int
    kind: str
    text: str
    buffer: str = ""
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class Spans:
    """An engine's spans, n of them. `cycles`: (n, counters). `first`: it begins with a change, not with a cut. `step`:
    of the schedule, in whose interval the span lies."""

    engine: str
    start: _Ints
    end: _Ints
    key: _Ints
    cycles: _Ints
    first: npt.NDArray[np.bool_]
    step: _Ints


def spans_of(
    changes: npt.NDArray[np.void], cuts: Sequence[Cut], engines: Sequence[tuple[str, int]], steps: int, idle: int
) -> Iterator[Spans]:
    """Spans of the first inference after reset.

    Args:
        changes: `change_dtype` records since reset.
        cuts: the completion of each step, and the end of the inference, or of a run that stopped in it. No span reaches
            over one, so that the spans between two completions add up to the counters between them.
        engines: name of each engine, its number in the records and its row in the cuts.
        steps: of the schedule. idle: the key of an engine before its first change.
    """
    ends = np.array([cut.cycle for cut in cuts], np.int64)
    for name, number in engines:
        records = changes[(changes["engine"] == number) & (changes["cycle"] < ends[-1])]
        start, end, keys, cycles, first = _cut(records, [(cut.cycle, cut.counters[number]) for cut in cuts], idle)
        # The last step lasts until the inference ends; what runs at a stop comes behind the completed ones.
        interval = np.minimum(np.searchsorted(ends[:-1], start, side="right"), max(steps - 1, 0))
        yield Spans(name, start, end, keys, cycles, first, interval.astype(np.int64))


def _cut(
    records: npt.NDArray[np.void], cuts: Sequence[tuple[int, _Ints]], idle: int
) -> tuple[_Ints, _Ints, _Ints, _Ints, npt.NDArray[np.bool_]]:
    """Spans between changes and cuts: start, end, key, cycles of each counter, whether it begins with a change."""
    before = np.zeros(records.dtype["counters"].shape[0], np.int64)
    times = np.concatenate(([0], [cycle for cycle, _ in cuts], records["cycle"].astype(np.int64)))
    counters = np.concatenate((before[None], [c for _, c in cuts], records["counters"].astype(np.int64)))
    keys = np.concatenate(([idle], np.full(len(cuts), -1), records["key"].astype(np.int64)))
    order = np.argsort(times, kind="stable")
    times, counters, keys = times[order], counters[order], keys[order]
    last = np.maximum.accumulate(np.where(keys >= 0, np.arange(len(keys)), 0))
    kept = np.diff(times) > 0
    cycles, first = np.diff(counters, axis=0), keys[:-1] >= 0
    return times[:-1][kept], times[1:][kept], keys[last][:-1][kept], cycles[kept], first[kept]


def activity(spans: Spans, say: Callable[[int], Said], categories: Sequence[str]) -> Activity:
    """Spans in words: those of each key, by `say`; its step goes before the spans' own.

    categories: names of the counters.
    """
    unique, what = np.unique(spans.key, return_inverse=True)
    described = [say(int(key)) for key in unique]
    kinds = tuple(dict.fromkeys(d.kind for d in described))
    texts = tuple(dict.fromkeys(d.text for d in described))
    buffers = tuple(dict.fromkeys(d.buffer for d in described if d.buffer))
    own = np.array([d.step for d in described])[what]
    return Activity(
        spans.engine, spans.start, spans.end,
        kinds, np.array([kinds.index(d.kind) for d in described])[what],
        texts, np.array([texts.index(d.text) for d in described])[what],
        buffers, np.array([buffers.index(d.buffer) if d.buffer else -1 for d in described])[what],
        np.where(own >= 0, own, spans.step),
        np.where(spans.first, np.array([d.bytes for d in described])[what], 0),
        {name: spans.cycles[:, k] for k, name in enumerate(categories)},
    )  # fmt: skip
