# SPDX-License-Identifier: Apache-2.0
"""What a change of files can reach: which modules and tests import them, directly or through others.

    graph = ImportGraph(project_tree())
    chosen = affected(graph, changed_files(root, "HEAD"), tests)

The sources are read, not run. A module depends on what it imports anywhere in it (not for type checking only), on the
packages around that, and on modules that a string names (``"nncosim.tb.cli.run"``, or something in such a module).
A string with ``{}`` in place of a platform's name, as `nncosim.platforms.parts.Part` takes it, stands for the modules
of those platforms that the test names, in itself or else in the nearest of the modules of tests that it uses, and of
all platforms where none does. A test that takes a fixture depends on where its `conftest.py` has it from.

What this cannot see is a module that is found by a name which is put together from pieces.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.tb.errors import BenchError

__all__ = ["Affected", "ImportGraph", "Tree", "affected", "changed_files", "is_bench_of", "project_tree"]

NAMESPACE = "nncosim"
TEST = re.compile(r"test_\w+\.py")
CONFTEST = "conftest.py"


@dataclass(frozen=True)
class Tree:
    """Folders with modules: by the name that they are imported by; "" for a folder that lies in the search path itself.

    `tests`: those of the names whose modules serve tests. `hdl`: that whose modules describe hardware; tests are
    ordered by how many of these they reach.
    """

    packages: Mapping[str, Path]
    tests: tuple[str, ...]
    hdl: str = "nncosim.hdl"


def project_tree() -> Tree:
    """That of the nncosim which runs."""
    import nncosim.tb

    root = Path(nncosim.tb.__path__[0]).resolve().parent
    parts = ("platforms", "hdl", "kernels", "compiler", "tb", "regress")
    packages = {f"{NAMESPACE}.{part}": root / part for part in parts if (root / part).is_dir()}
    if (root / "tests").is_dir():
        packages[""] = root / "tests"
    return Tree(packages, (f"{NAMESPACE}.regress", ""))


@dataclass
class _Module:
    """What a source says: names of modules it may mean, patterns with {}, all strings, arguments of its functions, and
    by name what it imports from where (for fixtures)."""

    names: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    arguments: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    taken: dict[str, str] = field(default_factory=dict)


_TEXTS = (".cpp", ".h", ".sv", ".svh", ".v", ".vlt", ".j2")
"""Files that include others by their names."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(:\w+)?")
_PATTERN = re.compile(r"[A-Za-z_]\w*(\.(\{\}|\w+))+")


class _Reader(ast.NodeVisitor):
    def __init__(self, package: str):
        self.found, self._package = _Module(), package.split(".")

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.names |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = ".".join(self._package[:len(self._package) + 1 - node.level]) if node.level else ""
        module = ".".join(filter(None, (above, node.module)))
        self.found.names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        self.found.taken |= {alias.asname or alias.name: module for alias in node.names}

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.strings.add(node.value)
            if _DOTTED.fullmatch(node.value):
                self.found.names.add(node.value.partition(":")[0])
            elif "{}" in node.value and _PATTERN.fullmatch(node.value):
                self.found.patterns.add(node.value)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.found.arguments |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
        self.found.defined.add(node.name)
        self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _function


class ImportGraph:
    """Which module of a tree uses which, by their files.

    Raises:
        BenchError: a source that is no Python.
    """

    def __init__(self, tree: Tree):
        self.tree = tree
        self.names: dict[str, Path] = {}
        for package, folder in tree.packages.items():
            for path in sorted(folder.rglob("*.py")):
                self.names[_dotted(package, path.relative_to(folder))] = path
        self._dotted = {path: name for name, path in self.names.items()}
        self._read = {path: _read(path, name) for name, path in self.names.items()}
        self._edges = {path: self._targets(path) for path in self._read}
        self._roots = tuple(tree.packages[name] for name in tree.tests if name in tree.packages)
        self._hdl = tree.packages.get(tree.hdl)

    def _targets(self, path: Path) -> frozenset[Path]:
        found = {target for name in self._read[path].names for target in self._named(name)}
        found |= self._fixtures(path)
        return frozenset(found - {path})

    def _named(self, name: str) -> list[Path]:
        """A module and the packages around it, of a name that may go on with what is in it."""
        pieces = name.split(".")
        steps = [".".join(pieces[:count]) for count in range(1, len(pieces) + 1)]
        return [self.names[step] for step in steps if step in self.names]

    def _fixtures(self, path: Path) -> set[Path]:
        """Where fixtures come from that a module's functions take, by way of a conftest.py beside it or above."""
        out: set[Path] = set()
        if path.name == CONFTEST or not TEST.fullmatch(path.name):
            return out
        for folder in path.parents:
            conftest = folder / CONFTEST
            read = self._read.get(conftest)
            if read is not None:
                for argument in self._read[path].arguments:
                    out.update(self._named(read.taken[argument]) if argument in read.taken else ())
                    if argument in read.defined:  # its own, which may use anything there
                        out.update(target for name in read.names for target in self._named(name))
        return out

    def is_of_tests(self, path: Path) -> bool:
        return any(root in path.parents for root in self._roots)

    @functools.cached_property
    def _platforms(self) -> frozenset[str]:
        """What a {} can stand for."""
        found = set()
        for read in self._read.values():
            for pattern in read.patterns:
                shape = re.compile(re.escape(pattern).replace(r"\{\}", r"(\w+)"))
                found |= {match[1] for name in self.names if (match := shape.fullmatch(name))}
        return frozenset(found)

    def _platforms_of(self, start: Path) -> frozenset[str]:
        """Platforms that a test names, or the nearest of the modules that serve it; all, where none does."""
        seen, level = {start}, {start}
        while level:
            named = {name for path in level for name in self._platforms if self._names_platform(path, name)}
            if named:
                return frozenset(named)
            level = {target for path in level for target in self._edges[path] if self.is_of_tests(target)} - seen
            seen |= level
        return self._platforms

    def _names_platform(self, path: Path, platform: str) -> bool:
        read = self._read[path]
        dotted = platform in self._dotted[path].split(".")
        return dotted or platform in read.strings or any(platform in name.split(".") for name in read.names)

    @functools.cache  # noqa: B019 (a graph lives as long as its process)
    def reached(self, start: Path) -> frozenset[Path]:
        """All files of modules that one uses, itself among them."""
        platforms = self._platforms_of(start) if self.is_of_tests(start) else self._platforms
        seen, todo = {start}, [start]
        while todo:
            path = todo.pop()
            targets = set(self._edges[path])
            for pattern in self._read[path].patterns:
                targets |= {t for name in platforms for t in self._named(pattern.format(*[name] * pattern.count("{}")))}
            todo += targets - seen
            seen |= targets
        return frozenset(seen)

    def hdl_reached(self, start: Path) -> int:
        """How many modules of hardware a file reaches."""
        return sum(self._hdl is not None and self._hdl in path.parents for path in self.reached(start))

    def direct(self, start: Path) -> frozenset[Path]:
        """What a file imports itself."""
        return self._edges[start]

    def folder_of(self, path: Path) -> Path | None:
        """The package that a file lies in."""
        return next((folder for folder in self.tree.packages.values() if folder in path.parents), None)

    def importing(self, gone: Path) -> set[Path]:
        """Modules that import one which is not there any more."""
        package, folder = next((name, f) for name, f in self.tree.packages.items() if f in gone.parents)
        dotted = _dotted(package, gone.relative_to(folder))
        return {path for path, read in self._read.items() if dotted in read.names}

    def naming(self, data: Path) -> set[Path]:
        """Modules that name a file which is none, in a string."""
        return {path for path, read in self._read.items() if any(_names(text, data.name) for text in read.strings)}

    def naming_all(self, data: Path) -> set[Path]:
        """Also those that name a file beside it which names it (as C++ a header). Of what the project is set up
        by, none, whoever reads it."""
        if self.folder_of(data) is None:
            return self.naming(data) if _is_prose(data) else set()
        found, seen, todo = set(), {data}, [data]
        while todo:
            path = todo.pop()
            found |= self.naming(path)
            for other in path.parent.iterdir() if path.parent.is_dir() else ():
                new = other not in seen and other.suffix in _TEXTS
                if new and _names(other.read_text(errors="replace"), path.name):
                    seen.add(other)
                    todo.append(other)
        return found

    def __contains__(self, path: Path) -> bool:
        return path in self._read


def _names(text: str, name: str) -> bool:
    return name in text and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) is not None


def _dotted(package: str, relative: Path) -> str:
    pieces = [*relative.parts[:-1], *([] if relative.stem == "__init__" else [relative.stem])]
    return ".".join(filter(None, (package, *pieces)))


def _read(path: Path, name: str) -> _Module:
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError) as error:
        raise BenchError(f"{path} cannot be read as Python: {error}") from error
    reader = _Reader(name if path.stem == "__init__" else name.rpartition(".")[0])
    reader.visit(tree)
    return reader.found


# ---- what has changed, and what that reaches

def changed_files(root: Path, reference: str) -> list[Path]:
    """Files of a checkout that differ from a commit, those not under version control among them; some are gone.

    Args:
        root: folder of the project in it.

    Raises:
        BenchError: there is no git, this is no checkout of it, or there is no such commit.
    """
    if not (root / "pyproject.toml").is_file():
        raise BenchError(f"what has changed is told by git, and {root} is an installation, not a checkout")
    top = Path(_git(root, "rev-parse", "--show-toplevel").strip())
    if reference.startswith("-"):
        raise BenchError(f"{reference!r} is no commit")
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}", missing=reference).strip()
    names = _git(root, "diff", "--name-only", "--no-renames", "-z", commit, "--").split("\0")
    others = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--full-name", ".").split("\0")
    return sorted({top / name for name in (*names, *others) if name})


def _git(root: Path, *words: str, missing: str = "") -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise BenchError(f"what has changed is told by git, which cannot be started: {error.strerror}") from error
    if done.returncode and missing:
        hint = "; it is the name of a file: put --affected last, or write --affected=HEAD" * Path(missing).exists()
        raise BenchError(f"git knows no commit {missing!r}{hint}")
    if done.returncode:
        raise BenchError(f"what has changed is told by git, which says: {done.stderr.strip() or done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Affected:
    """Files of tests that a change reaches, those first that reach the fewest modules of hardware; and the others.

    `everything`: changed files of which nothing tells what they reach: then all tests are among `chosen`.
    """

    chosen: tuple[Path, ...]
    left_out: tuple[Path, ...]
    everything: tuple[Path, ...] = ()


def _is_prose(path: Path) -> bool:
    """Outside of packages, this is for people; who checks it names it."""
    return path.suffix == ".md" or path.name == "LICENSE"


def is_bench_of(test: Path, module: Path) -> bool:
    """Whether a file of tests is called like a module, as ``test_j3dai_drain.py`` is like ``drain.py``."""
    return f"_{module.stem}_" in f"{test.stem}_"


def affected(graph: ImportGraph, changed: Iterable[Path], tests: Sequence[Path]) -> Affected:
    """What a change reaches of some files of tests.

    A file that is no Python reaches the modules that name it, by way of files beside it that do; what nothing names
    reaches everything, and so does what lies outside of all packages. A `conftest.py` reaches the tests below it.
    Of the tests those come first that are called like what has changed, then those that reach the least hardware.
    """
    sources: set[Path] = set()
    chosen: set[Path] = set()
    everything = []
    for path in changed:
        if path.name == CONFTEST:
            chosen |= {test for test in tests if path.parent in test.parents}
        elif path in graph:
            sources.add(path)
        elif path.suffix == ".py" and graph.folder_of(path) is not None:  # gone
            sources |= graph.importing(path)
        else:
            named = graph.naming_all(path)
            sources |= named
            if not named and (graph.folder_of(path) is not None or not _is_prose(path)):
                everything.append(path)
    for test in tests:
        if everything or test not in graph or graph.reached(test) & sources:
            chosen.add(test)
    order = sorted(tests, key=lambda path: (not any(is_bench_of(path, source) for source in sources),
                                            graph.hdl_reached(path) if path in graph else 0, path.as_posix()))
    return Affected(tuple(test for test in order if test in chosen), tuple(t for t in order if t not in chosen),
                    tuple(everything))  # fmt: skip
