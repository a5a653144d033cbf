# SPDX-License-Identifier: Apache-2.0
"""The layers: what may import what. A lower layer never imports one above it, and no two packages import each other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("platforms", "hdl", "compiler.ir", "kernels", "compiler", "tb", "regress")
"""From the lowest on. `compiler.errors` is part of `compiler.ir`."""
Imports = Mapping[str, set[str]]


@functools.cache
def imports() -> Imports:
    """Module to modules of the project that it imports, both without "nncosim."."""
    paths = {path for layer in LAYERS if "." not in layer for path in (ROOT / layer).rglob("*.py")}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            members = [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            chosen = [m for m in members if m.removeprefix("nncosim.") in names] or modules
            found[name] |= {m.removeprefix("nncosim.") for m in chosen if m.startswith("nncosim.")}
    return found


def layer_of(module: str) -> int:
    name = "compiler.ir" if module == "compiler.errors" else module
    return LAYERS.index(max((x for x in LAYERS if name == x or name.startswith(f"{x}.")), key=len))


def package_of(module: str, packages: Iterable[str]) -> str:
    """The folder of a module; a module that lies beside the folders of a layer stands for itself."""
    parent = module.rpartition(".")[0]
    return module if parent in ("compiler", "tb") or module in packages else parent


def upward(found: Imports) -> list[str]:
    return [f"{a} imports {b}" for a, used in sorted(found.items()) for b in sorted(used) if layer_of(b) > layer_of(a)]


def cycle(found: Imports) -> list[str]:
    """Packages that import each other in a circle; [] if there are none."""
    packages = {module.rpartition(".")[0] for module in found}
    graph: dict[str, set[str]] = {}
    for a, used in found.items():
        here = package_of(a, packages)
        graph.setdefault(here, set()).update(package_of(b, packages) for b in used)
    try:
        TopologicalSorter({a: used - {a} for a, used in graph.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_layer_imports_one_above_it() -> None:
    assert upward(imports()) == []


def test_no_two_packages_import_each_other() -> None:
    assert cycle(imports()) == []


@pytest.mark.parametrize(("module", "other"), [
    ("hdl.j3dai.requantizer", "compiler.ir.arithmetic"), ("compiler.ir.network", "kernels.base"),
    ("compiler.j3dai.tiling", "tb.j3dai.cycles"), ("platforms.base", "hdl.sram"),
])  # fmt: skip
def test_an_import_upward_is_seen(module: str, other: str) -> None:
    found = imports()
    assert upward({**found, module: found[module] | {other}}) == [f"{module} imports {other}"]


def test_a_circle_is_seen() -> None:
    found = imports()
    assert cycle({**found, "tb.sim.model": found["tb.sim.model"] | {"tb.report.report"}})
