# SPDX-License-Identifier: Apache-2.0
"""What several subcommands say first in their JSON, and write last to their folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value, value_text
from nncosim.platforms.plain import Json
from nncosim.tb.system.files import write_files
from nncosim.tb.system.terminal import Terminal
from nncosim.tb.timing.library import read_library

__all__ = ["library_json", "machine_json", "write_results"]


def machine_json(platform: Platform, overrides: Mapping[str, Value]) -> dict[str, Json]:
    """The machine, and what of it the user set."""
    return {"platform": platform.name, "settings": {name: value_text(value) for name, value in overrides.items()}}


def library_json(liberty: Path) -> dict[str, Json]:
    """A cell library, under the key `library`.

    Raises:
        BenchError: as `nncosim.tb.timing.library.read_library`.
    """
    library = read_library(liberty)
    return {"name": library.name, "file": str(liberty), "corner": asdict(library.corner)}


def write_results(out: Path, name: str, show: Callable[[Terminal], None], data: Mapping[str, object],
                  more: Mapping[str, bytes]) -> None:
    """``NAME.txt`` with what is shown, ``NAME.json`` with the data, and more files."""
    text = io.StringIO()
    show(Terminal(file=text, width=200))
    files = {f"{name}.txt": text.getvalue().encode(), f"{name}.json": (json.dumps(data, indent=2) + "\n").encode()}
    write_files(out, {**files, **more})
