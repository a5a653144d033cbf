# SPDX-License-Identifier: Apache-2.0
"""Whether a SPEF file says something of every pin of a netlist, and OpenSTA takes it: of what it does not find it warns
at best, and a net without parasitics only looks faster.

Two looks, neither of which shares anything with what wrote the file: its text is read again, and OpenSTA is asked what
it has of each net.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.layout.nets import PORT, Nets
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.opensta import UNITS, run_opensta

__all__ = ["check_annotation", "faults_of_spef"]

_MOST = 5  # faults in a message
_NET = re.compile(r"^Net (\S+)\n(.*?)(?=^Net |\Z)", re.MULTILINE | re.DOTALL)


def check_annotation(folder: Path, spef: Path, netlist: Netlist, nets: Nets, liberty: Path) -> None:
    """Hold parasitics against a netlist: every pin has some. OpenSTA works in `folder`.

    Raises:
        BenchError: a pin or a net has none, or OpenSTA has others than the file; names some.
    """
    text = spef.read_text()
    faults = [*faults_of_spef(text, nets), *_faults_of_opensta(folder, spef, text, netlist, nets, liberty)]
    if faults:
        more = f", and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
        raise BenchError(f"parasitics of {netlist.top!r} are not complete: {'; '.join(faults[:_MOST])}{more}")


def _node(pin: tuple[str, str]) -> str:
    return pin[1] if pin[0] == PORT else f"{pin[0]}:{pin[1]}"


def _sections(text: str) -> Iterator[tuple[str, float, dict[str, list[list[str]]]]]:
    """Name, capacitance, and the lines of each part (CONN, CAP, RES) of each net of a SPEF file."""
    for block in text.split("*D_NET ")[1:]:
        head, *lines = block.splitlines()
        parts: dict[str, list[list[str]]] = {"CONN": [], "CAP": [], "RES": []}
        part = ""
        for line in lines:
            if line.startswith("*END"):
                break
            if line[1:] in parts:
                part = line[1:]
            elif line.strip():
                parts[part].append(line.split())
        name, load = head.split()
        yield name, float(load), parts


def faults_of_spef(text: str, nets: Nets) -> Iterator[str]:
    """What of a SPEF file does not agree with a netlist, a few words each: nets and pins that are missing or too many,
    pins that no resistors join to the others, capacitances that do not add up."""
    seen = set()
    for name, load, parts in _sections(text):
        seen.add(name)
        if name not in nets:
            yield f"net {name} is none of the netlist"
            continue
        pins, wanted = {words[1] for words in parts["CONN"]}, {_node(pin) for pin in nets[name]}
        yield from (f"net {name} has no pin {pin}" for pin in sorted(wanted - pins))
        yield from (f"net {name} has a pin {pin} too many" for pin in sorted(pins - wanted))
        if abs(sum(float(words[-1]) for words in parts["CAP"]) - load) > 1e-5 * len(parts["CAP"]) + 1e-5:
            yield f"the capacitances of net {name} do not add up to {load}"
        reached = _reached(min(pins, default=""), parts["RES"])
        yield from (f"no resistors join pin {pin} to net {name}" for pin in sorted(pins - reached))
        apart = {words[1] for words in parts["CAP"]} - reached
        yield from (f"no resistors join node {node} to net {name}" for node in sorted(apart))
    yield from (f"net {name} is missing" for name in nets if name not in seen)


def _reached(start: str, resistors: list[list[str]]) -> set[str]:
    branches: dict[str, list[str]] = {}
    for _, one, other, _ in resistors:
        branches.setdefault(one, []).append(other)
        branches.setdefault(other, []).append(one)
    reached, todo = {start}, [start]
    while todo:
        for node in branches.get(todo.pop(), ()):
            if node not in reached:
                reached.add(node)
                todo.append(node)
    return reached


def _faults_of_opensta(folder: Path, spef: Path, text: str, netlist: Netlist, nets: Nets,
                       liberty: Path) -> Iterator[str]:
    shutil.copyfile(liberty, folder / "cells.lib")
    (folder / "annotated.v").write_text("\n".join(netlist.verilog()) + "\n")
    (folder / "annotated.tcl").write_text("\n".join([
        "read_liberty cells.lib", UNITS, "read_verilog annotated.v", f"link_design {netlist.top}",
        f"read_spef {spef.name}", *(f"report_net -connections -verbose -digits 8 {net}" for net in nets), ""]))
    try:
        said = run_opensta(folder / "annotated.tcl")
    except BenchError as error:
        yield str(error)
        return
    loads = {name: load for name, load, _ in _sections(text)}
    reports: Mapping[str, str] = {found[1]: found[2] for found in _NET.finditer(said)}
    for net, pins in nets.items():
        wire = re.search(r"Wire capacitance:(?: r)? ([\d.]+)", reports.get(net, ""))
        count = re.search(r"Number of pins: (\d+)", reports.get(net, ""))
        if wire is None or count is None:
            yield f"OpenSTA has no net {net}"
        elif int(count[1]) != len(pins):
            yield f"OpenSTA has {count[1]} pins on net {net} instead of {len(pins)}"
        elif abs(float(wire[1]) * 1000 - loads.get(net, 0.0)) > 1e-3 + 1e-4 * loads.get(net, 0.0):
            yield f"OpenSTA has {float(wire[1]) * 1000:.4f} fF on net {net} instead of {loads.get(net, 0.0):.4f}"
    for name in ("cells.lib", "annotated.v"):
        (folder / name).unlink()
