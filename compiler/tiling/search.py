# SPDX-License-Identifier: Apache-2.0
"""Choosing a plan: candidates by a quick estimate, the best few measured, the fastest taken; and what lost, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["Alternative", "Measured", "Recent", "fastest", "ranking"]

_MOST_UNTRIED = 3  # plans that are listed although they were not measured


class Measured(Protocol):
    """A plan that was made. cycles: measured."""

    @property
    def cycles(self) -> int: ...


P = TypeVar("P")
M = TypeVar("M", bound=Measured)
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Alternative:
    """A plan that was looked at. estimate: quick; cycles: by the cycle model; None: not made.

    verdict: "chosen", or why it was not.
    """

    plan: str
    estimate: int | None
    cycles: int | None
    verdict: str


class Recent(dict[K, V], Generic[K, V]):
    """What was found last, by what it was found for, at most so many: networks repeat their layers."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def keep(self, key: K, value: V) -> V:
        """Forgets the oldest if need be, and gives the value."""
        while len(self) >= self.most:
            del self[next(iter(self))]
        self[key] = value
        return value


def ranking(plans: Iterable[P], estimate: Callable[[P], float]) -> list[tuple[float, P]]:
    """Plans with their estimated cycles, the most promising first; of equals the one that came first."""
    return sorted(((estimate(plan), plan) for plan in plans), key=lambda pair: pair[0])


def fastest(
    plans: Iterable[tuple[float, P]], finalists: int, share: float, measure: Callable[[P], M | str],
    describe: Callable[[P], str],
) -> tuple[M | None, list[Alternative]]:
    """The fastest of the most promising plans, and what became of them.

    Args:
        plans: (estimated cycles, plan), see `ranking`.
        finalists: how many to measure at most. share: estimates beyond so many times the best are not measured.
        measure: a plan made and measured; if it cannot be made, why. describe: for people.
    """
    best: M | None = None
    looked: list[tuple[float, M | None, P, str]] = []
    tried = untried = 0
    for estimate, plan in plans:
        if tried >= finalists or (best is not None and estimate > share * best.cycles):
            looked.append((estimate, None, plan, "not measured: others are faster by estimate"))
            untried += 1
            if untried == _MOST_UNTRIED:
                break
            continue
        made = measure(plan)
        if isinstance(made, str):
            looked.append((estimate, None, plan, made))
            continue
        tried += 1
        looked.append((estimate, made, plan, ""))
        if best is None or made.cycles < best.cycles:
            best = made
    return best, [_alternative(describe(plan), estimate, made, why, best) for estimate, made, plan, why in looked]


def _alternative(text: str, estimate: float, made: M | None, verdict: str, best: M | None) -> Alternative:
    if made is None or best is None:
        return Alternative(text, round(estimate), None, verdict)
    verdict = "chosen" if made is best else f"slower by {made.cycles - best.cycles} cycles"
    return Alternative(text, round(estimate), made.cycles, verdict)
