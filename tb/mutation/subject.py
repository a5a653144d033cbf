# SPDX-License-Identifier: Apache-2.0
"""What mutants are made of and judged by: a platform's blocks, how its RTL is emitted, its tests, a network to run."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value, value_text
from nncosim.tb.affected import TEST, ImportGraph, Tree, is_bench_of, project_tree
from nncosim.tb.backend import Mutable, get_bench
from nncosim.tb.errors import BenchError
from nncosim.tb.mutation.mutant import Mutant, mutants_of

__all__ = ["Benches", "Subject", "subject_of"]

AROUND = 3
"""Files of tests that run after a block's own."""
EQUIVALENT = "mutants_equivalent.json"


_TEXT = re.compile(r"^pytestmark = pytest\.mark\.text$", re.MULTILINE)
"""A file of tests of which none is of what hardware does."""


@dataclass(frozen=True)
class Benches:
    """Files of tests that can notice a mutant of a module, in the order in which they run.

    `own`: those that import the module and do not reach the whole design, or else the one that reaches the fewest
    modules besides it; where all reach the whole, those that import the module. `around`: the next ones.
    """

    own: tuple[Path, ...]
    around: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """A design.

    name: what it is called. tree: its packages and tests. root: folder that tests run in. blocks: name to module.
    emit: command that writes all of the RTL to the file that is its last argument. run: command that runs a network on
    the RTL and judges it, with status 0 if all is right; () for none. equivalent: file of reviewed mutants, or None.
    debug: commands that take ``--json FILE`` and say there what a run does wrong `first`, as `nncosim debug` does; the
    next one where one sees nothing or cannot be run.
    """

    name: str
    tree: Tree
    root: Path
    blocks: Mapping[str, Path]
    emit: tuple[str, ...]
    run: tuple[str, ...] = ()
    equivalent: Path | None = None
    debug: tuple[tuple[str, ...], ...] = ()

    @property
    def package(self) -> Path:
        return self.tree.packages[self.tree.hdl]

    @functools.cached_property
    def graph(self) -> ImportGraph:
        return ImportGraph(self.tree)

    def sources(self) -> str:
        """A hash of the package of hardware."""
        digest = hashlib.sha256()
        for file in sorted(self.package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(self.package).as_posix().encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()

    @functools.cached_property
    def mutants(self) -> list[Mutant]:
        """All of all blocks."""
        return mutants_of(self.package, self.blocks)

    @functools.cache  # noqa: B019
    def benches(self, block: str) -> Benches:
        """Of a block. Tests that reach the whole design are left to `run`, where there is one."""
        module, graph = self.blocks[block], self.graph
        whole = len(self.blocks) if self.run else sys.maxsize
        tests = (path for path in graph.names.values() if TEST.fullmatch(path.name))
        reaching = [path for path in tests if module in graph.reached(path) and not _TEXT.search(path.read_text())]
        order = sorted(reaching, key=lambda path: (not is_bench_of(path, module), graph.hdl_reached(path),
                                                   path.as_posix()))
        partly = [path for path in order if self._blocks_reached(path) < whole]
        direct = [path for path in order if module in graph.direct(path)]
        own = [path for path in direct if path in partly][:AROUND] or partly[:1] or direct[:AROUND] or order[:1]
        return Benches(tuple(own), tuple([path for path in partly if path not in own][:AROUND]))

    def unit(self, module: Path) -> str:
        """What a module is a part of: of ``dmpa`` and ``dmpa_walk``, the first; others of themselves."""
        names = {path.stem for path in self.blocks.values() if path.parent == module.parent}
        words = module.stem.split("_")
        parts = ("_".join(words[:n]) for n in range(1, len(words)))
        return next((part for part in parts if part in names), module.stem)

    def describes(self, named: Path, block: str) -> bool:
        """Whether whoever is told to look into a module finds a bug in a block: it is that one, of the same unit, or
        a part that many designs share, or a function, which that one uses itself, or by way of modules that are fewer
        than half of all. What stands beside the designs' folders is shared, by each other too: a memory is a part of
        the host that has it, as it is of a design's cluster."""
        module, everything = self.blocks[block], set(self.blocks.values())
        if named.parent == module.parent:
            if self.unit(named) == self.unit(module):
                return True
            if module.parent != self.package and "def elaborate" in module.read_text():
                return False
        within = self.graph.reached(named) & everything
        return module in self.graph.direct(named) or (module in within and 2 * len(within) < len(everything))

    def _blocks_reached(self, path: Path) -> int:
        return len(self.graph.reached(path) & set(self.blocks.values()))


def subject_of(platform: Platform) -> Subject:
    """That of a platform whose bench is `Mutable`.

    Raises:
        BenchError: it is not, or these are not the sources (an installation without tests).
    """
    bench = get_bench(platform)
    if not isinstance(bench, Mutable):
        raise BenchError(f"the bench of {platform.name!r} does not say how mutants of its RTL are made")
    plan, tree = bench.mutation, project_tree()
    graph = ImportGraph(tree)
    hdl = tree.packages[tree.hdl]
    top = graph.names.get(plan.top)
    if top is None or not (hdl.parent / "pyproject.toml").is_file():
        raise BenchError("mutants need the project's sources with their tests; this is an installation without")
    tools = {graph.names[name] for name in plan.tools if name in graph.names}
    reached = sorted(path for path in graph.reached(top) - tools if hdl in path.parents)
    mutants = mutants_of(hdl, {path.as_posix(): path for path in reached})
    blocks = _named([path for path in reached if path.as_posix() in {each.block for each in mutants}])
    names = {path.as_posix(): name for name, path in blocks.items()}
    run = [sys.executable, "-m", "nncosim.tb.cli", "run", plan.network, *_machine(platform, plan.machines[0])]
    # The smaller machines first: they are built sooner.
    debug = tuple((sys.executable, "-m", plan.debug, *_machine(platform, machine))
                  for machine in reversed(plan.machines)) if plan.debug else ()
    emit = (sys.executable, "-m", "nncosim.tb.mutation.emit", platform.name)
    subject = Subject(platform.name, tree, hdl.parent, blocks, emit, (*run, "--backend", "rtl", "--driver", "direct"),
                      tree.packages["nncosim.regress"] / EQUIVALENT, debug)
    # What is known already.
    vars(subject).update(graph=graph, mutants=[replace(each, block=names[each.block]) for each in mutants])
    return subject


def _machine(platform: Platform, settings: Mapping[str, Value]) -> tuple[str, ...]:
    texts = [f"{name}={value_text(value)}" for name, value in settings.items()]
    return ("--platform", platform.name, *(word for text in texts for word in ("--set", text)))


def _named(modules: list[Path]) -> dict[str, Path]:
    """By their short names; of two that are called alike, by that of their folder too."""
    short = [path.stem for path in modules]
    return {path.stem if short.count(path.stem) == 1 else f"{path.parent.name}.{path.stem}": path for path in modules}
