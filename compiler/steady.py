# SPDX-License-Identifier: Apache-2.0
"""The rate at which tasks that wait for each other repeat: the largest mean of a cycle of waits.

Task j of inference k starts when task i of inference k - distance has ended, for each edge. However the first
inferences go, in the long run an inference ends every so many cycles as the slowest cycle of edges says: the sum of the
costs of its tasks over the sum of its distances (Baccelli et al., Synchronization and Linearity, theorem 3.23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

__all__ = ["Edge", "longest_mean"]


@dataclass(frozen=True)
class Edge:
    """Task number `then` of an inference waits for task number `first` of the inference `distance` before it."""

    first: int
    then: int
    distance: int


def longest_mean(costs: Sequence[int], edges: Sequence[Edge]) -> Fraction:
    """The largest sum of costs over sum of distances of all cycles; 0 where there are none.

    From below: as long as a cycle is longer than the mean found so far, its own mean is the next. Each is larger than
    the one before, and there are finitely many. Exact: integers only.

    Args:
        costs: of the tasks. edges: no cycle of distance 0 among them.
    """
    mean = Fraction(0)
    while cycle := _longer_cycle(costs, edges, mean):
        mean = Fraction(sum(costs[e.first] for e in cycle), sum(e.distance for e in cycle))
    return mean


def _longer_cycle(costs: Sequence[int], edges: Sequence[Edge], mean: Fraction) -> list[Edge]:
    """A cycle whose mean is larger than `mean`; [] if there is none (Bellman and Ford, longest paths)."""
    if not edges:
        return []
    first = np.array([e.first for e in edges])
    then = np.array([e.then for e in edges])
    weight = np.array([costs[e.first] * mean.denominator - mean.numerator * e.distance for e in edges], np.int64)
    reached = np.zeros(len(costs), np.int64)
    by = np.full(len(costs), -1)
    for _ in range(len(costs) + 1):
        found = reached[first] + weight
        better = np.flatnonzero(found > reached[then])
        if not len(better):
            return []
        order = better[np.argsort(found[better], kind="stable")]  # of several to one task the longest is last
        reached[then[order]] = found[order]
        by[then[order]] = order
    return _backwards(edges, by)


def _backwards(edges: Sequence[Edge], by: np.ndarray) -> list[Edge]:
    """The cycle that the edges by which tasks were reached last run into; there is one after so many rounds."""
    for start in range(len(by)):
        seen: dict[int, int] = {}
        path: list[Edge] = []
        at = start
        while at not in seen and by[at] >= 0:
            seen[at] = len(path)
            path.append(edges[int(by[at])])
            at = path[-1].first
        if at in seen:
            return path[seen[at]:]
    return []
