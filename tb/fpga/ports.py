# SPDX-License-Identifier: Apache-2.0
"""Registers at a block's ports, so that it can be placed and timed where it has more ports than the FPGA has pins.

At each bit of each port, but the clock, stands a flip-flop that belongs to no other logic: it drives the bit of an
input, or takes that of an output. Its other side hangs in the air. So a path from an input to a register of the block,
or from one to an output, counts as it would if the neighbour's register stood as near as nextpnr could put it, with
real wires and set-up; none is left out, as `nextpnr --out-of-context` would, and none goes through an IO buffer at
the edge of the chip. They are put into the netlist after synthesis, so that nothing of the block is optimized with
them, and are taken out again before it is simulated (`nncosim.tb.fpga.netlist`): their nets are the ports then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.recorded import CLOCK

__all__ = ["PortBit", "port_bits", "with_port_registers"]

_REGISTER = {"GSR": "DISABLED", "CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET",
             "SRMODE": "LSR_OVER_CE"}  # fmt: skip
"""Of TRELLIS_FF. A parameter of digits is a number in such a file, unless a blank follows."""


@dataclass(frozen=True)
class PortBit:
    """One bit of a port. `net`: number of its net, or "0", "1", "x" of an output that never changes."""

    port: str
    index: int
    direction: str
    net: int | str

    @property
    def register(self) -> str:
        """Name of the flip-flop that stands there."""
        return f"port {self.port}[{self.index}]"


def port_bits(module: Mapping[str, Any]) -> Iterator[PortBit]:
    """All of a module's but the clock."""
    for name, port in module["ports"].items():
        if name != CLOCK:
            for index, net in enumerate(port["bits"]):
                yield PortBit(name, index, port["direction"], net)


def with_port_registers(module: Mapping[str, Any]) -> dict[str, Any]:
    """The module with a register at each bit of its ports but the clock, which alone stays a port.

    Raises:
        BenchError: it has no clock `clk`, or one that drives nothing.
    """
    if CLOCK not in module["ports"] or not any(
            module["ports"][CLOCK]["bits"][0] in bits for cell in module["cells"].values()
            for bits in cell["connections"].values()):
        raise BenchError(f"a block without a register on a clock {CLOCK!r} cannot be timed on an FPGA")
    clock = module["ports"][CLOCK]["bits"][0]
    free = 1 + max(bit for net in module["netnames"].values() for bit in net["bits"] if isinstance(bit, int))
    cells = dict(module["cells"])
    for number, bit in enumerate(port_bits(module)):
        if isinstance(bit.net, str):
            continue
        data = {"Q": [bit.net]} if bit.direction == "input" else {"DI": [bit.net], "Q": [free + number]}
        cells[bit.register] = {
            "hide_name": 0, "type": "TRELLIS_FF", "parameters": _REGISTER, "attributes": {"keep": "1 "},
            "port_directions": {pin: "output" if pin == "Q" else "input" for pin in ("CLK", *data)},
            "connections": {"CLK": [clock], **data},
        }  # fmt: skip
    return {**module, "ports": {CLOCK: module["ports"][CLOCK]}, "cells": cells}
