# SPDX-License-Identifier: Apache-2.0
"""``pytest --affected[=COMMIT]``: only the files of tests that a change can reach, the cheapest first; of all of them,
tests whose names say that they plant bugs come last.

A conftest.py calls `add_option` in its `pytest_addoption` and `use_option` in its `pytest_configure`; several may.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from nncosim.tb.affected import TEST, Affected, ImportGraph, affected, changed_files, project_tree
from nncosim.tb.errors import BenchError

__all__ = ["add_option", "use_option"]

_NAME = "nncosim-affected"
SHOWN = 8
"""Changed files that the header names."""


def add_option(parser: pytest.Parser) -> None:
    """Register ``--affected``, once."""
    group = parser.getgroup("nncosim")
    if not any("--affected" in option.names() for option in group.options):
        group.addoption("--affected", nargs="?", const="HEAD", metavar="COMMIT",
                        help="only tests that what differs from this commit can reach, those first that reach the "
                        "fewest modules of hardware (default HEAD: what is not committed)")  # fmt: skip


def use_option(config: pytest.Config) -> None:
    """Act on it, once.

    Raises:
        pytest.UsageError: what has changed cannot be told.
    """
    reference = config.getoption("--affected", None)
    if reference is None or config.pluginmanager.has_plugin(_NAME):
        return
    try:
        config.pluginmanager.register(_Affected(config, reference), _NAME)
    except BenchError as error:
        raise pytest.UsageError(f"--affected: {error}") from error


class _Affected:
    """Leaves out files, and says so."""

    def __init__(self, config: pytest.Config, reference: str):
        tree = project_tree()
        self.root = tree.packages[tree.hdl].parent
        self.reference = reference
        self.changed = changed_files(self.root, reference)
        self.found: Affected = affected(ImportGraph(tree), self.changed, _asked(config)) if self.changed else Affected(
            (), tuple(_asked(config)))  # fmt: skip

    def pytest_report_header(self) -> list[str]:
        names = [self._short(path) for path in self.changed]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines = [f"changed since {self.reference}: {', '.join(names[:SHOWN]) or 'nothing'}{more}"]
        if self.found.everything:
            told = ", ".join(map(self._short, self.found.everything[:SHOWN]))
            lines.append(f"nothing tells what reads {told}: all tests run")
        chosen, left_out = len(self.found.chosen), len(self.found.left_out)
        first = f", the first {self.found.chosen[0].name}" if chosen else ""
        lines.append(f"affected: {chosen} files of tests run{first}; {left_out} are left out")
        return lines

    def _short(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if self.root in path.parents else path.as_posix()

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path.resolve() in self.found.left_out else None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {path: number for number, path in enumerate(self.found.chosen)}
        # Tests that plant bugs of their own judge the benches, not what has changed.
        items.sort(key=lambda item: ("planted" in item.name, order.get(item.path.resolve(), len(order))))


def _asked(config: pytest.Config) -> list[Path]:
    """Files of tests that the command line names, or that lie in folders which it names."""
    files: dict[Path, None] = {}
    for word in config.args:
        path = (config.invocation_params.dir / word.partition("::")[0]).resolve()
        inside = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
        files |= dict.fromkeys(file for file in inside if TEST.fullmatch(file.name))
    return list(files)
