# SPDX-License-Identifier: Apache-2.0
"""Mutants: designs with one mistake. All of some blocks, and a sample of them."""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.mutation.hardware import enums
from nncosim.tb.mutation.mutators import Edit, edits

__all__ = ["Mutant", "mutants_of", "sampled"]


@dataclass(frozen=True)
class Mutant:
    """One mistake. `block`: the module's short name. `file`: relative to the package of hardware. `before`, `after`:
    the line, without its indentation; `nth`: how many lines of the file before it read the same."""

    block: str
    file: str
    edit: Edit
    before: str
    after: str
    nth: int = 0

    @property
    def kind(self) -> str:
        return self.edit.kind

    @property
    def place(self) -> str:
        return f"{self.file}:{self.edit.line}"

    @property
    def key(self) -> str:
        """Tells it apart from all others, wherever in the file its line has moved."""
        text = "\n".join((self.file, self.before, self.after, str(self.nth)))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def source(self, original: str) -> str:
        """The file with the mistake."""
        return self.edit.applied(original)


def mutants_of(package: Path, blocks: Mapping[str, Path]) -> list[Mutant]:
    """All mutants of modules, by block and line.

    Args:
        package: folder of the package of hardware. blocks: name to module, in it.
    """
    known = enums({str(path): ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))})
    out: list[Mutant] = []
    for block, path in blocks.items():
        source, file = path.read_text(), path.relative_to(package).as_posix()
        lines = source.splitlines()
        seen: set[str] = set()
        for edit in edits(source, known):
            line = lines[edit.line - 1]
            before, after = line.strip(), edit.in_line(line).strip()
            nth = sum(line.strip() == before for line in lines[:edit.line - 1])
            mutant = Mutant(block, file, edit, before, after, nth)
            if mutant.key not in seen:
                seen.add(mutant.key)
                out.append(mutant)
    return out


def sampled(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them, blocks in turn and within a block kinds in turn. A larger sample of the same seed begins with
    the smaller one."""
    rng = random.Random(seed)
    blocks: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        blocks.setdefault(mutant.block, []).append(mutant)
    turns = [_by_kind(each, rng) for each in blocks.values()]
    rng.shuffle(turns)
    return _in_turn(turns)[:count]


def _by_kind(mutants: Iterable[Mutant], rng: random.Random) -> list[Mutant]:
    kinds: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        kinds.setdefault(mutant.kind, []).append(mutant)
    turns = list(kinds.values())
    for each in turns:
        rng.shuffle(each)
    rng.shuffle(turns)
    return _in_turn(turns)


def _in_turn(lists: Sequence[list[Mutant]]) -> list[Mutant]:
    return [each[turn] for turn in range(max(map(len, lists), default=0)) for each in lists if turn < len(each)]
