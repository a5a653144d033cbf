# SPDX-License-Identifier: Apache-2.0
"""Cells of an ECP5 by themselves, under a wrapper with vectors for ports; what they are to do, in Python's integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nncosim.tb.fpga.netlist import CELLS, package_models
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.netlist.replay import PortTimes, Replay, Rows

__all__ = ["WIDTHS", "cell_vectors", "memory_cell", "memory_outputs", "multiplier_cell", "product", "run_cells"]

WIDTHS = (1, 2, 4, 9, 18, 36)
_EDGES = PortTimes(1.0, 1.0)


def run_cells(folder: Path, wrapper: str, vectors: Vectors, change: tuple[str, str] | None = None, *,
              clocked: bool = True) -> Rows:
    """What a module `wrapper` gives. change: a text of our models, and by what it is replaced."""
    models = CELLS.read_text()
    if change is not None:
        assert models.count(change[0]) == 1
        models = models.replace(*change)
    sources = [wrapper, models, *package_models().values()]
    return Replay(folder, sources, "wrapper", vectors, clocked=clocked).run(100.0, _EDGES).outputs


def cell_vectors(inputs: Mapping[str, tuple[int, Sequence[int]]], outputs: Mapping[str, tuple[int, Sequence[int]]]
                 ) -> Vectors:
    """Ports of a wrapper to their bits and values."""
    both = {**inputs, **outputs}
    arrays = {port: np.array(values, np.uint64) for port, (_, values) in both.items()}
    return Vectors("cells", {port: bits for port, (bits, _) in both.items()},
                   {port: arrays[port] for port in inputs}, {port: arrays[port] for port in outputs})


def _pins(*buses: tuple[str, str, int]) -> str:
    """Connections of one-bit pins, of each bus its pins' name, the vector, and how many."""
    return ", ".join(f".{pin}{k}({vector}[{k}])" for pin, vector, bits in buses for k in range(bits))


def multiplier_cell() -> str:
    """A MULT18X18D; ports a, b (18), signed_a, signed_b, p (36)."""
    pins = _pins(("A", "a", 18), ("B", "b", 18), ("P", "p", 36))
    return ("module wrapper (input [17:0] a, b, input signed_a, signed_b, output [35:0] p);\n"
            f"  MULT18X18D cell_ ({pins}, .SIGNEDA(signed_a), .SIGNEDB(signed_b));\nendmodule")


def product(a: int, b: int, signed_a: int, signed_b: int) -> int:
    """Of two operands of 18 bits; its 36 bits."""
    left = a - (a >> 17 << 18) * signed_a
    right = b - (b >> 17 << 18) * signed_b
    return left * right % (1 << 36)


def memory_cell(width: int) -> str:
    """A DP16KD of so wide words; ports w_addr, r_addr, bytes (4), w_data (36), w_en, r_en, r_data (36)."""
    low = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
    address = f"{{w_addr[13:{low}]" + (f", {{{low}{{1'b0}}}} | bytes[{min(3, low - 1)}:0]" if width >= 18 else
                                       f", {{{low}{{1'b0}}}}" if low else "") + "}"  # fmt: skip
    pins = _pins(("ADA", "ada", 14), ("ADB", "r_addr", 14))
    data = ", ".join(f".DI{port}{k}(w_data[{18 * (port == 'B') + k}])" for port in "AB" for k in range(18))
    read = ", ".join(f".DO{port}{k}(do[{18 * (port == 'B') + k}])" for port in "AB" for k in range(18))
    shown = "do" if width == 36 else f"{{{{{36 - width}{{1'b0}}}}, do[{18 + width - 1}:18]}}"
    return (
        "module wrapper (input clk, input [13:0] w_addr, r_addr, input [3:0] bytes, input [35:0] w_data,\n"
        f"  input w_en, r_en, output [35:0] r_data);\n  wire [13:0] ada = {address};\n  wire [35:0] do;\n"
        f"  assign r_data = {shown};\n"
        f"  DP16KD #(.DATA_WIDTH_A({width}), .DATA_WIDTH_B({width})) cell_ ({pins}, {data}, {read},\n"
        "    .CLKA(clk), .CEA(1'b1), .WEA(w_en), .CSA0(1'b0), .CSA1(1'b0), .CSA2(1'b0),\n"
        "    .CLKB(clk), .CEB(r_en), .CSB0(1'b0), .CSB1(1'b0), .CSB2(1'b0));\nendmodule")


def memory_outputs(width: int, inputs: Mapping[str, Sequence[int]]) -> list[int]:
    """What such a memory gives at each edge; 0 before the first read."""
    shift = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
    words: dict[int, int] = {}
    word, out = 0, []
    for w_addr, r_addr, enables, data, w_en, r_en in zip(*(inputs[name] for name in (
            "w_addr", "r_addr", "bytes", "w_data", "w_en", "r_en")), strict=True):  # fmt: skip
        out.append(word)
        at, written = w_addr >> shift, [lane for lane in range(max(1, width // 9)) if w_en and (
            width < 18 or enables >> lane & 1)]  # fmt: skip
        if r_en:
            old = words.get(r_addr >> shift, 0)
            word = old ^ ((1 << width) - 1) if written and r_addr >> shift == at else old
        for lane in written:
            mask = (511 << 9 * lane) if width >= 9 else (1 << width) - 1
            words[at] = words.get(at, 0) & ~mask | data & mask
    return out
