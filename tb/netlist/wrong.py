# SPDX-License-Identifier: Apache-2.0
"""Wrong gates for those who judge a check: cells that compute what another cell does, one at a time and of one instance
only, chosen when a simulation of the netlist begins (plusargs ``wrong_gate=K`` and ``wrong_lane=N``; which instance has
which lane is the simulator's choice)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.netlist.gates import Cell, Gates

__all__ = ["WrongGate", "made_wrong", "other_kinds", "plant", "random_gates"]


@dataclass(frozen=True)
class WrongGate:
    """A cell of a module, by its name in the netlist, that computes as a cell of another `kind`; "": the inverse."""

    module: str
    cell: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.module}: {self.cell} {f'as a {self.kind}' if self.kind else 'inverted'}"


def random_gates(modules: Mapping[str, Gates], models: Mapping[str, CellModel], names: Sequence[str], count: int,
                 seed: int) -> list[WrongGate]:
    """So many of some modules, in turn; each cell as likely as another of its module."""
    rng = np.random.default_rng(seed)
    found: list[WrongGate] = []
    taken: set[str] = set()
    for number in range(count):
        gates = modules[names[number % len(names)]]
        cells = [cell for cell in gates.cells if not cell.model.inside]
        cell = cells[int(rng.integers(len(cells)))]
        if cell.name in taken:
            continue
        taken.add(cell.name)
        others = other_kinds(cell, models)
        found.append(WrongGate(gates.name, cell.name, others[int(rng.integers(len(others)))] if others else ""))
    return found


def plant(modules: Mapping[str, Gates], models: Mapping[str, CellModel], wrong: Sequence[WrongGate]
          ) -> dict[str, Gates]:
    """The modules with the gates that can be wrong: number K is the K-th of `wrong`.

    Raises:
        BenchError: there is no such module or cell, or the other kind has other pins, or a cell is there twice.
    """
    out = dict(modules)
    for number, each in enumerate(wrong):
        gates, at = _place(out, each)
        cells = list(gates.cells)
        if cells[at].wrong is not None:
            raise BenchError(f"gate {each.cell!r} of module {each.module!r} is to be wrong in two ways; a simulation "
                             "has one")
        cells[at] = replace(cells[at], wrong=(number, _functions(cells[at], models, each.kind)))
        out[each.module] = replace(gates, cells=cells)
    return out


def made_wrong(modules: Mapping[str, Gates], models: Mapping[str, CellModel], wrong: WrongGate) -> Gates:
    """The module of a gate, with the gate wrong in every run.

    Raises:
        BenchError: as `plant`.
    """
    gates, at = _place(modules, wrong)
    cells = list(gates.cells)
    cells[at] = replace(cells[at], model=replace(cells[at].model, outputs=_functions(cells[at], models, wrong.kind)))
    return replace(gates, cells=cells)


def _place(modules: Mapping[str, Gates], wrong: WrongGate) -> tuple[Gates, int]:
    gates = modules.get(wrong.module)
    at = next((k for k, cell in enumerate(gates.cells) if cell.name == wrong.cell), None) if gates else None
    if gates is None or at is None:
        raise BenchError(f"the netlist has no gate {wrong.cell!r} in a module {wrong.module!r}")
    return gates, at


def _functions(cell: Cell, models: Mapping[str, CellModel], kind: str) -> dict[str, str]:
    if not kind:
        return {pin: f"(~{function})" for pin, function in cell.model.outputs.items()}
    if kind not in other_kinds(cell, models):
        raise BenchError(f"cell {cell.name!r} is a {cell.model.name}, and cannot compute as a {kind!r}")
    return dict(models[kind].outputs)


def other_kinds(cell: Cell, models: Mapping[str, CellModel]) -> list[str]:
    """Kinds of cells with the same pins and other functions: what a cell can be wrong as."""
    own = cell.model
    return sorted(name for name, model in models.items() if model.outputs.keys() == own.outputs.keys()
                  and model.outputs != own.outputs and model.inputs == own.inputs and not model.refused)  # fmt: skip
