# SPDX-License-Identifier: Apache-2.0
"""Which operators should run as one layer: chains cut into groups by measured costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nncosim.compiler.ir.network import Op
from nncosim.compiler.tiling.search import Measured

__all__ = ["Choice", "Fuser"]

C = TypeVar("C", bound=Measured)


@dataclass(frozen=True, eq=False)
class Choice(Generic[C]):
    """Operators that are run as one layer. `ops`: indices, in order."""

    ops: tuple[int, ...]
    code: C


class Fuser(ABC, Generic[C]):
    """A network's operators with what each, and each group of them, costs; remembers what was measured.

    Args:
        ops, alone: the operators that do something, and the code of each on its own.
        paths: of `chains`.
    """

    most_members = 5
    """Operators of a group at most."""
    most_for_speed = 4
    """Of a group that is only there to save cycles."""
    least_gain = 0.01
    """Share of its members' cycles that a group has to save by estimate to be looked at, which takes time."""

    def __init__(self, ops: Sequence[Op], alone: Sequence[C], paths: Sequence[tuple[int, ...]]):
        self.ops, self.alone, self.paths = ops, alone, paths
        self._codes: dict[tuple[tuple[int, ...], bool], C | None] = {}

    @abstractmethod
    def fuse(self, members: tuple[int, ...], limit: float | None) -> C | None:
        """The best code for a group; None if it fits no memory, or surely takes more than `limit` cycles."""

    def separate(self) -> list[Choice[C]]:
        """Nothing fused."""
        return [Choice((i,), code) for i, code in enumerate(self.alone)]

    def layers(self, avoid: frozenset[str] = frozenset()) -> list[Choice[C]]:
        """Operators and groups in an order in which each reads what is there, with the fewest cycles in sum.

        Args:
            avoid: tensors that are to stay inside where that is possible at all, whatever it costs.
        """
        out = [choice for path in self.paths for choice in self._cut(path, avoid)]
        return sorted(out, key=lambda choice: choice.ops[-1])

    def could_stay(self, tensors: Sequence[str]) -> list[str]:
        """Those of the tensors that a group could keep inside."""
        within = {self.ops[i].output for path in self.paths for i in path[:-1]}
        return [name for name in tensors if name in within]

    def looked_at(self) -> list[tuple[tuple[int, ...], C | None]]:
        """Groups that were tried: operators, and the best code; None if there was none."""
        found = {members: code for (members, _), code in self._codes.items()}
        return sorted(found.items(), key=lambda item: item[0])

    def _cut(self, path: tuple[int, ...], avoid: frozenset[str]) -> list[Choice[C]]:
        """The cheapest way to cut a path into groups, by dynamic programming: best[k] is for its first k operators, and
        is the best over all sizes of the group that ends there. The cost: (tensors of `avoid` left outside, cycles)."""
        best: list[tuple[tuple[int, int], list[Choice[C]]]] = [((0, 0), [])]
        for end in range(1, len(path) + 1):
            found = []
            for start in range(max(0, end - self.most_members), end):
                members = path[start:end]
                code = self._code(members, any(self.ops[i].output in avoid for i in members[:-1]))
                if code is not None:
                    (stored, cycles), before = best[start]
                    stored += self.ops[members[-1]].output in avoid
                    found.append(((stored, cycles + code.cycles), [*before, Choice(members, code)]))
            best.append(min(found, key=lambda item: item[0]))
        return best[-1][1]

    def _code(self, members: tuple[int, ...], wanted: bool) -> C | None:
        """`wanted`: even if it is slower than its members are alone."""
        if len(members) == 1:
            return self.alone[members[0]]
        if len(members) > self.most_for_speed and not wanted:
            return None
        key = (members, wanted)
        if key not in self._codes:
            limit = None if wanted else (1 - self.least_gain) * sum(self.alone[i].cycles for i in members)
            self._codes[key] = self.fuse(members, limit)
        return self._codes[key]
