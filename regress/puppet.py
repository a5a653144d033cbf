# SPDX-License-Identifier: Apache-2.0
"""Verilog modules without logic, in place of a core or a cluster: a bench sets their outputs and reads their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from nncosim.tb.sim.model import Model

__all__ = ["Puppet", "puppet_verilog"]

Ports = Mapping[str, tuple[str, int]]
"""Name to ("in" or "out", bits)."""


def puppet_verilog(module: str, ports: Ports, parameters: tuple[str, ...] = ()) -> str:
    """The module's text. Its outputs are registers `set_<name>` that nothing drives, its inputs wires `get_<name>`."""
    head = ", ".join(f"parameter {name} = 0" for name in parameters)
    lines = [f"module {module} {f'#({head}) ' if head else ''}("]
    lines.append(",\n".join(f"    {direction}put [{bits - 1}:0] {name}" for name, (direction, bits) in ports.items()))
    lines.append(");")
    for name, (direction, bits) in ports.items():
        if direction == "out":
            lines += [f"    reg [{bits - 1}:0] set_{name} /*verilator public_flat_rw*/;",
                      f"    assign {name} = set_{name};"]
        else:
            lines += [f"    wire [{bits - 1}:0] get_{name} /*verilator public_flat_rd*/;",
                      f"    assign get_{name} = {name};"]
    return "\n".join([*lines, "endmodule", ""])


class Puppet:
    """One instance of such a module: ports as items, whole numbers of any width."""

    def __init__(self, model: Model, path: str, ports: Ports):
        self.model, self.ports = model, ports
        self.cells = {name: model.register(f"{path}.{'set' if direction == 'out' else 'get'}_{name}")
                      for name, (direction, _) in ports.items()}

    def __getitem__(self, name: str) -> int:
        """An input, in this cycle."""
        return int.from_bytes(self.cells[name].tobytes(), "little")

    def __setitem__(self, name: str, value: int) -> None:
        """An output, for this cycle; the design sees it after the model's `eval`."""
        direction, bits = self.ports[name]
        assert direction == "out" and 0 <= value < 1 << bits, name
        cell: np.ndarray[Any, Any] = self.cells[name]
        cell.reshape(-1)[:] = np.frombuffer(value.to_bytes(cell.nbytes, "little"), cell.dtype)
