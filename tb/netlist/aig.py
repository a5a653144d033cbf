# SPDX-License-Identifier: Apache-2.0
"""And-inverter graphs: the form in which two descriptions of logic are compared.

A literal is twice the number of a node, plus one where it is inverted; node 0 is false. Equal nodes exist once
(structural hashing), so that what is built alike needs no proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nncosim.tb.errors import BenchError

__all__ = ["FALSE", "TRUE", "Aig", "read_outputs"]

FALSE, TRUE = 0, 1
_INPUT = -1


class Aig:
    """A graph that grows. A node's fan-ins have smaller numbers than it has itself."""

    def __init__(self) -> None:
        self._left = [_INPUT]
        self._right = [_INPUT]
        self._known: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._left)

    def input(self) -> int:
        """A new variable."""
        self._left.append(_INPUT)
        self._right.append(_INPUT)
        return 2 * (len(self._left) - 1)

    def land(self, a: int, b: int) -> int:
        """Conjunction."""
        if a > b:
            a, b = b, a
        if a == FALSE or a ^ 1 == b:
            return FALSE
        if a in (TRUE, b):
            return b
        node = self._known.get((a, b))
        if node is None:
            node = self._known[a, b] = len(self._left)
            self._left.append(a)
            self._right.append(b)
        return 2 * node

    def lor(self, a: int, b: int) -> int:
        """Disjunction."""
        return self.land(a ^ 1, b ^ 1) ^ 1

    def lxor(self, a: int, b: int) -> int:
        """Difference."""
        inverted = (a ^ b) & 1
        a, b = a & ~1, b & ~1
        if a == b:
            return inverted
        if FALSE in (a, b):
            return a ^ b ^ inverted
        return self.lor(self.land(a, b ^ 1), self.land(a ^ 1, b)) ^ inverted

    def mux(self, select: int, one: int, zero: int) -> int:
        """`one` where `select` is set, else `zero`."""
        return self.lor(self.land(select, one), self.land(select ^ 1, zero))

    def cone(self, literals: Sequence[int]) -> tuple[list[int], list[int]]:
        """The nodes that literals depend on, ascending: variables, and conjunctions."""
        left, right, seen = self._left, self._right, {literal >> 1 for literal in literals} - {0}
        pending = list(seen)
        while pending:
            node = pending.pop()
            for below in (left[node] >> 1, right[node] >> 1) if left[node] != _INPUT else ():
                if below not in seen and below:
                    seen.add(below)
                    pending.append(below)
        found = sorted(seen)
        return ([node for node in found if left[node] == _INPUT], [node for node in found if left[node] != _INPUT])

    def reached(self, variables: Sequence[int]) -> bytearray:
        """Of each node, whether it depends on one of these nodes."""
        found = bytearray(len(self._left))
        for node in variables:
            found[node] = 1
        for node in range(1, len(found)):
            if self._left[node] != _INPUT:
                found[node] = found[self._left[node] >> 1] | found[self._right[node] >> 1]
        return found

    def supports(self, literals: Sequence[int], most: int) -> dict[int, frozenset[int] | None]:
        """Of nodes of literals, and of all below them: the variables they depend on, None where these are more."""
        variables, nodes = self.cone(literals)
        found: dict[int, frozenset[int] | None] = {0: frozenset()}
        found |= {node: frozenset((node,)) for node in variables}
        for node in nodes:
            one, two = found[self._left[node] >> 1], found[self._right[node] >> 1]
            both = None if one is None or two is None else one if two <= one else one | two
            found[node] = both if both is not None and len(both) <= most else None
        return found

    def evaluate(self, values: Mapping[int, int], literals: Sequence[int], bits: int) -> list[int]:
        """Of literals, for `bits` assignments at a time.

        Args:
            values: node of a variable to its values, an assignment a bit; missing ones are 0.
        """
        ones = (1 << bits) - 1
        at = {0: 0}
        variables, nodes = self.cone(literals)
        at |= {node: values.get(node, 0) & ones for node in variables}
        left, right = self._left, self._right
        for node in nodes:
            a, b = left[node], right[node]
            one, two = at[a >> 1], at[b >> 1]
            at[node] = (one ^ ones if a & 1 else one) & (two ^ ones if b & 1 else two)
        return [at[literal >> 1] ^ (ones if literal & 1 else 0) for literal in literals]

    def write(self, path: Path, literals: Sequence[int]) -> list[int]:
        """A binary AIGER file with these outputs and what they depend on; returns its variables' nodes, in order.

        Format: Biere, The AIGER And-Inverter Graph (AIG) Format (2007).
        """
        variables, nodes = self.cone(literals)
        number = {0: 0} | {node: place for place, node in enumerate((*variables, *nodes), 1)}

        def renamed(literal: int) -> int:
            return 2 * number[literal >> 1] | literal & 1

        with path.open("wb") as file:
            total = len(variables) + len(nodes)
            file.write(f"aig {total} {len(variables)} 0 {len(literals)} {len(nodes)}\n".encode())
            file.write("".join(f"{renamed(literal)}\n" for literal in literals).encode())
            body = bytearray()
            for node in nodes:
                low, high = sorted((renamed(self._left[node]), renamed(self._right[node])))
                body.extend(_encoded(2 * number[node] - high))
                body.extend(_encoded(high - low))
            file.write(body)
        return variables


def _encoded(delta: int) -> Iterator[int]:
    while delta > 0x7F:
        yield delta & 0x7F | 0x80
        delta >>= 7
    yield delta


def read_outputs(path: Path, count: int) -> list[int]:
    """The literals of so many outputs of a binary AIGER file: `FALSE` and `TRUE` are what they are in an `Aig`. One
    that its writer did not end has none.

    Raises:
        BenchError: it is no such file.
    """
    lines = path.read_bytes().split(b"\n", count + 1)
    if len(lines) < count + 2:
        return [-1] * count
    header = lines[0].split()
    if len(header) < 6 or header[0] != b"aig" or header[3:5] != [b"0", b"%d" % count]:
        raise BenchError(f"{path} is no binary AIGER file of {count} functions")
    return [int(line) for line in lines[1:1 + count]]
