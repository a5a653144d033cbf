# SPDX-License-Identifier: Apache-2.0
"""Where a mutant runs: a folder that hides the package of hardware behind a copy with one line changed.

The other packages are links. The folder is put first into the search path: as the packages' common name has no
`__init__.py`, each of them is found where it comes first. Caches go by content, so nothing of a mutant can be taken for
the design's own; yet they are thrown away with the folder, and what is there already is linked, not built anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nncosim.tb.affected import Tree
from nncosim.tb.mutation import MUTANT
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.system.cache import cache_root

__all__ = ["OVERLAY", "Overlay", "overlaid"]

OVERLAY = "mutant-"
"""What the names of their folders begin with."""

_ALIKE = ("iss", "runtimes", "networks", "objects", "registers")
"""Kinds of the cache that do not depend on hardware, or go by its compiled content: used as they are."""
_BY_ENTRY = ("simulations", "verilog", "netlists", "timing")
"""Kinds in which what a mutant adds is not kept."""


@dataclass(frozen=True)
class Overlay:
    """`folder`: goes first into the search path. `cache`: that of its processes."""

    folder: Path
    cache: Path
    key: str

    def environment(self) -> dict[str, str]:
        """Of a process that sees it."""
        before = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(self.folder), *([before] if before else [])])
        return {**os.environ, "PYTHONPATH": path, "NNCOSIM_CACHE": str(self.cache), "PYTHONDONTWRITEBYTECODE": "1",
                **({MUTANT: self.key} if self.key else {})}  # fmt: skip


@contextlib.contextmanager
def overlaid(tree: Tree, mutant: Mutant | None, parent: Path) -> Iterator[Overlay]:
    """An overlay of the packages of `tree`; the plain design without a mutant. It is gone when the block ends.

    Args:
        parent: folder that it is made in.
    """
    with tempfile.TemporaryDirectory(prefix=OVERLAY, dir=parent, ignore_cleanup_errors=True) as name:
        folder, cache = Path(name) / "packages", Path(name) / "cache"
        for package, place in tree.packages.items():
            if not package:
                continue
            target = folder.joinpath(*package.split("."))
            target.parent.mkdir(parents=True, exist_ok=True)
            if package != tree.hdl:
                target.symlink_to(place.resolve(), target_is_directory=True)
                continue
            shutil.copytree(place, target, ignore=shutil.ignore_patterns("__pycache__"))
            if mutant is not None:
                (target / mutant.file).write_text(mutant.source((place / mutant.file).read_text()))
        _link_cache(cache_root(), cache)
        yield Overlay(folder, cache, mutant.key if mutant is not None else "")


def _link_cache(shared: Path, own: Path) -> None:
    own.mkdir()
    for kind in _ALIKE:
        (shared / kind).mkdir(parents=True, exist_ok=True)
        (own / kind).symlink_to((shared / kind).resolve(), target_is_directory=True)
    for kind in _BY_ENTRY:
        (own / kind).mkdir()
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(shared / kind):
                if entry.is_dir() and "." not in entry.name:
                    (own / kind / entry.name).symlink_to(Path(entry.path).resolve(), target_is_directory=True)
