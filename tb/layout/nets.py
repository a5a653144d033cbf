# SPDX-License-Identifier: Apache-2.0
"""A mapped netlist as what is laid out: which pins each wire joins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nncosim.tb.errors import BenchError
from nncosim.tb.timing.library import Library
from nncosim.tb.timing.netlist import Netlist

__all__ = ["PORT", "Nets", "nets_of", "with_buffered_ports"]

PORT = "PIN"
"""Stands for the instance of a pin that is a port of the block, as in DEF."""

Nets = Mapping[str, tuple[tuple[str, str], ...]]
"""Net, by its name in `Netlist.verilog`, to the pins on it: instance and pin, or `PORT` and port."""


def with_buffered_ports(netlist: Netlist, library: Library) -> Netlist:
    """The netlist with a buffer before each output port that shares its net with another port: one wire then has one
    port's name. Output ports that are constant stay so: nothing in the block drives them."""
    drives = {net for direction, net in netlist.ports.values() if direction == "input"}
    ports, cells = dict(netlist.ports), dict(netlist.cells)
    (data,) = library.buffer.inputs
    for port, (direction, net) in netlist.ports.items():
        if direction != "output" or not net.startswith("n"):
            continue
        if net in drives:
            buffer = f"p{len(cells)}"
            cells[buffer] = (library.buffer.name, {data: net, library.buffer.output: f"n{buffer}"})
            ports[port] = (direction, f"n{buffer}")
        drives.add(net)
    return replace(netlist, ports=ports, cells=cells)


def nets_of(netlist: Netlist) -> Nets:
    """Each net of two pins and more; what has one pin needs no wire.

    Raises:
        BenchError: the netlist has something that no cell of the library is, or a pin that is constant: it has no
            place, or nothing to be wired to.
    """
    if netlist.macros:
        kinds = ", ".join(sorted({macro.module for macro in netlist.macros.values()}))
        raise BenchError(f"{netlist.top} cannot be laid out: there is no layout of {kinds} in it")
    names: dict[str, str] = {}
    pins: dict[str, list[tuple[str, str]]] = {}
    for port, (_, net) in netlist.ports.items():
        if net.startswith("n"):
            pins.setdefault(names.setdefault(net, port), []).append((PORT, port))
    for instance, (kind, wired) in netlist.cells.items():
        for pin, net in wired.items():
            if not net.startswith("n"):
                raise BenchError(f"{netlist.top} cannot be laid out: pin {pin} of {instance} ({kind}) is constant, and "
                                 "the library has no cell that ties it")
            pins.setdefault(names.setdefault(net, net), []).append((instance, pin))
    return {name: tuple(found) for name, found in pins.items() if len(found) > 1}
