# SPDX-License-Identifier: Apache-2.0
"""The gates of a design's parts as what a simulation is built from, cached by content."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel, cell_models
from nncosim.tb.netlist.counting import COUNT_STREAM, Counter, counted_module, counted_slice, counter_of
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.netlist.mapping import Part, mapped
from nncosim.tb.netlist.sliced import Slice, prefix, shell_verilog, slice_cpp
from nncosim.tb.netlist.twin import twin_cpp, twin_of, twin_shell, twin_sources
from nncosim.tb.netlist.verilog import module_verilog, modules_of
from nncosim.tb.netlist.wrong import WrongGate, plant
from nncosim.tb.sim.toolchain import run_parallel
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.timing.liberty import require_liberty

__all__ = ["GateDesign", "SliceOf", "gate_design", "with_gates"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class SliceOf:
    """A module to be simulated all instances at a time. instances: in the design. inner: modules in it likewise."""

    module: str
    instances: int
    inner: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateDesign:
    """Attributes:
        sources: file name to Verilog: a module of the netlist each, of the same name as in the RTL.
        cpp: files of C++, of the slices.
        cells: library cells by module, of one instance of it; of them flip-flops.
        counters: what is counted, where gates count (`nncosim.tb.netlist.counting`).
        twins: of each slice whose RTL is beside it, names of registers and outputs by their number
            (`nncosim.tb.netlist.twin`).
    """

    sources: Mapping[str, str]
    cpp: tuple[Path, ...]
    cells: Mapping[str, tuple[int, int]]
    twins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counters: tuple[Counter, ...] = ()


def gate_design(parts: Sequence[Part], liberty: Path, slices: Sequence[SliceOf] = (), *,
                models: Mapping[str, CellModel] | None = None, wrong: Sequence[WrongGate] = (),
                beside: Mapping[str, str] | None = None, marks: int | None = None, jobs: int = 2,
                progress: Callable[[str, int, int], None] | None = None) -> GateDesign:
    """Map what is not mapped yet, and write it.

    Args:
        models: what cells compute, if it is not what the library says, and `wrong`: gates that can be wrong; to show
            that a check notices.
        beside: the design's RTL, file name to Verilog, if it is to run beside the slices (`nncosim.tb.netlist.twin`);
            of slices that it does not have, nothing does.
        marks: the gates count (`nncosim.tb.netlist.counting`), and this is the stream whose records end spans; not with
            `beside`.
        jobs: processes of Yosys at a time. progress: told how many parts of how many are mapped.

    Raises:
        BenchError, ToolCrash: as `nncosim.tb.netlist.mapping.mapped` and `nncosim.tb.netlist.sliced.Slice`.
        ToolError: no such cell library.
    """
    if marks is not None and beside is not None:
        raise BenchError("gates that count have no RTL beside them")
    require_liberty(liberty)
    cells = cell_models(liberty) if models is None else models

    def fill(folder: Path) -> None:
        found: dict[str, Mapping[str, Gates]] = {}

        def job(part: Part) -> Callable[[], None]:
            return lambda: found.update({part.top: mapped(part, liberty, cells)})

        told = progress or (lambda *_: None)
        run_parallel([job(part) for part in parts], jobs, lambda count: told("map", count, len(parts)))
        modules = {name: gates for part in parts for name, gates in found[part.top].items()}
        _write(folder, plant(modules, cells, wrong), slices, beside, marks)

    text = [part for each in parts for part in (each.top, *each.cut, *each.kept, *each.sources, *each.sources.values())]
    key = content_key([liberty.read_bytes(), repr((slices, wrong, models, marks)), *text,
                       *(part for pair in (beside or {}).items() for part in pair), *_own_sources()])
    entry = obtain(key, fill, "netlists")
    about = json.loads((entry / "design.json").read_text())
    sources = {name: (entry / name).read_text() for name in about["sources"]}
    return GateDesign(sources, tuple(entry / name for name in about["cpp"]),
                      {name: (cells, registers) for name, (cells, registers) in about["cells"].items()},
                      about["twins"], tuple(map(counter_of, about["counters"])))  # fmt: skip


def with_gates(rtl: Mapping[str, str], gates: GateDesign, modules: Collection[str], others: Collection[str] = ()
               ) -> dict[str, str]:
    """Verilog of a design with gates in place of some of its modules.

    Args:
        rtl: file name to Verilog. modules: that are gates, each with all below it in the hierarchy of names (``a.b``
            is in ``a``). others: modules that stay RTL, each likewise; the longer name decides.
    """
    def chosen(name: str) -> bool:
        above = [each for each in (*modules, *others) if name == each or name.startswith(f"{each}.")]
        return bool(above) and max(above, key=len) in modules

    out = {}
    for file, text in rtl.items():
        kept = [body for name, body in modules_of(text) if not chosen(name)]
        if kept:
            out[file] = "\n".join(kept) + "\n"
    made = {file: text for file, text in gates.sources.items()
            if chosen(re.sub(r"\.(gates\.v|shell\.sv|twin\.v)$", "", file))}  # fmt: skip
    return out | made


def _write(folder: Path, modules: Mapping[str, Gates], slices: Sequence[SliceOf], beside: Mapping[str, str] | None,
           marks: int | None) -> None:
    sliced = {name for each in slices for name in (each.module, *each.inner)}
    sources: dict[str, Iterable[str]] = {}
    known = {name for text in (beside or {}).values() for name, _ in modules_of(text)}
    cpp, twins = {}, {}
    counters: list[Counter] = []
    for name, gates in modules.items():
        if name in sliced:
            continue
        sources[f"{name}.gates.v"] = module_verilog(gates)
        if marks is not None:
            above = next((each for each in modules.values()
                          if any(child.module == name for child in each.children)), None)  # fmt: skip
            stream = COUNT_STREAM + len(counters)
            sources[f"{name}.gates.v"], counts, found = counted_module(gates, stream, marks, above)
            counters += found
            if counts:
                cpp[f"{prefix(name)}.counts.cpp"] = counts
    for number, each in enumerate(slices):
        whole = Slice(modules[each.module], {name: Slice(modules[name]) for name in each.inner})
        shell, source = f"{each.module}.shell.sv", f"{prefix(each.module)}.cpp"
        if marks is not None:
            stream = COUNT_STREAM + len(counters)
            sources[shell], cpp[source], found = counted_slice(whole, each.instances, stream, marks)
            counters += found
        elif beside is None or each.module not in known:
            sources[shell], cpp[source] = shell_verilog(whole), slice_cpp(whole, each.instances)
        else:
            twin = twin_of(whole, beside)
            twins[each.module] = [*twin.names, *twin.outputs]
            sources[shell], cpp[source] = twin_shell(twin, whole), twin_cpp(twin, whole, each.instances, number)
            sources[f"{each.module}.twin.v"] = iter([twin_sources(twin, beside)])
    for name, lines in sources.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    for name, text in cpp.items():
        (folder / name).write_text(text)
    cells = {name: (gates.count(), len(gates.registers)) for name, gates in modules.items()}
    about = {"sources": list(sources), "cpp": list(cpp), "cells": cells, "twins": twins,
             "counters": [each.to_json() for each in counters]}
    (folder / "design.json").write_text(json.dumps(about))


@functools.cache
def _own_sources() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(_HERE.iterdir()) if path.suffix in (".py", ".h"))


