# SPDX-License-Identifier: Apache-2.0
"""What each cell of a library computes, from the functions in its liberty file, read by Yosys.

A vendor's Verilog models are not used: theirs are user-defined primitives with delays, of which Verilator computes
wrong results without a word.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nncosim.tb.errors import BenchError
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.system.processes import run_retried
from nncosim.tb.timing.synthesis import YOSYS, yosys_version

__all__ = ["CellModel", "FlipFlop", "cell_models"]

_OPERATORS = {
    "$_AND_": "({A}&{B})", "$_OR_": "({A}|{B})", "$_XOR_": "({A}^{B})", "$_NOT_": "(~{A})", "$_BUF_": "{A}",
    "$_NAND_": "(~({A}&{B}))", "$_NOR_": "(~({A}|{B}))", "$_XNOR_": "(~({A}^{B}))", "$_ANDNOT_": "({A}&(~{B}))",
    "$_ORNOT_": "({A}|(~{B}))", "$_MUX_": "(({S}&{B})|((~{S})&{A}))",
}  # fmt: skip


@dataclass(frozen=True)
class FlipFlop:
    """A cell that takes the value of `data` over to `output` when `clock` rises. Names of its pins.

    next: what it takes over, as `CellModel.outputs`, where it has clear and preset; "" where that is `data`. They act
    at once in the cell, and here when the clock rises.
    """

    clock: str
    data: str
    output: str
    next: str = ""


@dataclass(frozen=True)
class CellModel:
    """A cell.

    Attributes:
        inputs: pins, sorted.
        outputs: of a combinational cell, pin to its function: a text with ``{PIN}`` for each input and the operators
            ``& | ^ ~``, which Verilog and C++ share.
        flip_flop: of a flip-flop on a rising edge.
        inside: that it is no cell of its own, but what a flip-flop has before its data.
        refused: why a netlist with this cell cannot be simulated; empty if it can.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    flip_flop: FlipFlop | None = None
    refused: str = ""
    inside: bool = False


def cell_models(liberty: Path) -> dict[str, CellModel]:
    """The cells of a liberty file, by name.

    Raises:
        BenchError: Yosys cannot read the file.
    """
    text = liberty.read_bytes()

    def fill(folder: Path) -> None:
        shutil.copyfile(liberty, folder / "cells.lib")
        (folder / "cells.ys").write_text("read_liberty -ignore_miss_func cells.lib\nwrite_json cells.json\n")
        done = run_retried([sys.executable, "-c", YOSYS, "-q", "cells.ys"], cwd=folder, name="Yosys",
                           what=f"read the cell library {liberty}")  # fmt: skip
        if done.returncode or not (folder / "cells.json").is_file():
            raise BenchError(f"Yosys cannot read the cell library {liberty}:\n{done.stdout[-2000:]}")

    entry = obtain(content_key(["cells", yosys_version(), text]), fill, "netlists")
    modules = json.loads((entry / "cells.json").read_text())["modules"]
    return {name: _model(name, module) for name, module in modules.items()}


def _model(name: str, module: Mapping[str, Any]) -> CellModel:
    inputs, outputs = ({pin: port["bits"][0] for pin, port in module["ports"].items() if port["direction"] == direction}
                       for direction in ("input", "output"))  # fmt: skip
    pins = {bit: pin for pin, bit in inputs.items()}
    cells = list(module["cells"].values())
    state = [cell for cell in cells if "Y" not in cell["connections"]]
    if not state:
        drivers = {cell["connections"]["Y"][0]: cell for cell in cells}
        functions = {pin: _function(bit, pins, drivers) for pin, bit in outputs.items()}
        missing = [pin for pin, text in functions.items() if text is None]
        refused = f"the library gives no function of its pin {missing[0]} that can be evaluated" if missing else ""
        known = {pin: text for pin, text in functions.items() if text is not None}
        return CellModel(name, tuple(sorted(inputs)), known, refused=refused)
    found = [cell for cell in state if cell["connections"].get("Q", [None])[0] in outputs.values()]
    if len(found) == len(outputs) == 1 and found[0]["type"] in ("$_DFF_P_", "$_DFFSR_PPP_"):
        nets = {pin: bits[0] for pin, bits in found[0]["connections"].items()}
        drivers = {cell["connections"]["Y"][0]: cell for cell in cells if "Y" in cell["connections"]}
        clock, data = pins.get(nets["C"]), pins.get(nets["D"])
        clear, preset = (_function(nets[pin], pins, drivers) if pin in nets else "" for pin in ("R", "S"))
        if clock and data and clear is not None and preset is not None:
            next_ = f"((~{clear})&({preset}|{{{data}}}))" if clear and preset else ""
            return CellModel(name, tuple(sorted(inputs)), {}, FlipFlop(clock, data, next(iter(outputs)), next_))
    kinds = ", ".join(sorted({cell["type"] for cell in cells}))
    return CellModel(name, tuple(sorted(inputs)), {}, refused=f"it is no plain flip-flop on a rising edge, but {kinds}")


def _function(bit: int | str, pins: Mapping[int, str], drivers: Mapping[int, Any]) -> str | None:
    """Of a net of a cell."""
    if isinstance(bit, str):
        return None  # a tie: nothing is mapped to it
    if bit in pins:
        return f"{{{pins[bit]}}}"
    cell = drivers.get(bit)
    if cell is None or cell["type"] not in _OPERATORS:
        return None
    operands = {pin: _function(bits[0], pins, drivers) for pin, bits in cell["connections"].items() if pin != "Y"}
    if any(text is None for text in operands.values()):
        return None
    return _OPERATORS[cell["type"]].format(**operands)
