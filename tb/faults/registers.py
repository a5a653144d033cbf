# SPDX-License-Identifier: Apache-2.0
"""Which variables of a design are registers, by Verilator's own reading of it.

Registers are what a nonblocking assignment (``<=``) writes in a process that waits for an edge; so says the tree that
Verilator gives as JSON, after parameters are put in and generate loops unrolled. Wires are not among them, nor are
latches (J3DAI has one, in the simulation's model of its host's clock gate), nor the storage of SRAM macros, which is
visible anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nncosim.tb.errors import BenchError
from nncosim.tb.sim.toolchain import CommandFailed, Log, tool_versions, verilator_command
from nncosim.tb.system.cache import cache_root, content_key, obtain

__all__ = ["SETTLE", "registers_of", "visibility"]

SETTLE = Path(__file__).parent / "settle.cpp"
"""Linked into a simulation whose registers are to be changed; `nncosim.tb.faults.model.FaultModel` calls it."""

_CPP = Path(__file__).parents[1] / "sim" / "cpp"  # eventlog.svh
_EDGES = ("POS", "NEG", "BOTH")
Node = dict[str, Any]


def registers_of(
    sources: Mapping[str, str], top: str, files: Sequence[Path] = (), include_dirs: Sequence[Path] = (),
    parameters: Mapping[str, int] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Module, as Verilog names it, to its registers. Kept in the cache.

    Args: as of `nncosim.tb.sim.verilate.build`.

    Raises:
        BuildError: Verilator refuses the design.
    """
    parts: list[str | bytes] = [top, json.dumps(dict(parameters or {}), sort_keys=True), tool_versions()["verilator"],
                                Path(__file__).read_bytes()]  # fmt: skip
    for name, text in sources.items():
        parts += [name, text]
    for path in (*files, *(path for folder in include_dirs for path in sorted(folder.iterdir()) if path.is_file())):
        parts += [path.name, path.read_bytes()]
    key = content_key(parts)

    def fill(folder: Path) -> None:
        log = Log(folder / "verilator.log")
        for name, text in sources.items():
            (folder / name).write_text(text)
        command = [*verilator_command(), "--json-only", "--top-module", top, "--Mdir", "tree", "--no-timing", "--quiet",
                   "-Wno-fatal", "-Wno-lint", "-Wno-style",
                   *(f"-G{name}={value}" for name, value in (parameters or {}).items()),
                   f"-I{_CPP}", *(f"-I{path.resolve()}" for path in include_dirs),
                   *(str(path.resolve()) for path in files), *sources]
        try:
            log.run(command, folder)
        except CommandFailed:
            raise log.failure(f"the tree of {top!r}", cache_root() / "logs" / f"tree-{key[:16]}.log") from None
        tree = folder / "tree" / f"V{top}.tree.json"
        (folder / "registers.json").write_text(json.dumps(_registers(json.loads(tree.read_text())), indent=1))
        tree.unlink()  # large, and of no more use

    kept = json.loads((obtain(key, fill, "registers") / "registers.json").read_text())
    return {module: tuple(names) for module, names in kept.items()}


def visibility(registers: Mapping[str, Sequence[str]]) -> str:
    """Verilator control text that leaves them visible. Readable only: what is written from outside then costs nothing
    in each evaluation, and `SETTLE` is called after it."""
    lines = [f'public_flat_rd -module "{module}" -var "{name}"'
             for module, names in registers.items() for name in names]  # fmt: skip
    # Where a module is inlined, an output register becomes the parent's wire, and what is visible is a copy of it.
    return "\n".join([*lines, *(f'no_inline -module "{module}"' for module in registers)])


def _registers(tree: Node) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for module in tree["modulesp"]:
        names = {name for process in _nodes(module["stmtsp"]) if process["type"] == "ALWAYS" and _is_clocked(process)
                 for name in _written(process)}  # fmt: skip
        if names:
            # An escaped name, as Verilog has it, begins with a backslash and ends with a blank.
            found.setdefault(module["verilogName"].strip().removeprefix("\\"), set()).update(names)
    if not found:
        raise BenchError("the design has no registers")
    return {module: sorted(names) for module, names in sorted(found.items())}


def _is_clocked(process: Node) -> bool:
    items = [node for node in _nodes(process["sentreep"]) if node["type"] == "SENITEM"]
    return any(item.get("edgeType") in _EDGES for item in items)


def _written(process: Node) -> Iterator[str]:
    for node in _nodes(process["stmtsp"]):
        if node["type"] == "ASSIGNDLY":
            yield from (each["name"] for each in _nodes(node["lhsp"])
                        if each["type"] == "VARREF" and each["access"] != "RD")  # fmt: skip


def _nodes(part: Any) -> Iterator[Node]:
    """All nodes of a part of the tree, without recursion: expressions nest deeply."""
    stack = [part]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if "type" in node:
                yield node
            stack.extend(value for value in node.values() if isinstance(value, (list, dict)))
        else:
            stack.extend(node)
