# SPDX-License-Identifier: Apache-2.0
"""Blocks that are laid out, for the terminal and as JSON: sizes, wires, and timing with them beside timing without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nncosim.platforms.plain import Json
from nncosim.tb.layout.flow import RoutedTiming
from nncosim.tb.layout.lef import Lef
from nncosim.tb.layout.parasitics import VIA_OHM
from nncosim.tb.layout.placement import SEED
from nncosim.tb.system.terminal import plain_table
from nncosim.tb.timing.sta import TimedPath, TimingReport
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["assumed", "layout_header", "layout_json", "layouts_table", "slow_down", "wires_table"]

_ASSUMED = {
    "wire": "resistance and capacitance by layer from the LEF file: RPERSQ L/W; CPERSQDIST W L + 2 EDGECAPACITANCE L",
    "via": "",
    "coupling": "none: each wire alone over substrate; C x 2 is a rule of thumb for neighbours on both sides that "
                "switch against it",
    "clock": "ideal, on one net without a tree; its wires are laid and extracted, and delay nothing",
    "supply": "rails that rows of cells share, without a grid",
    "checked": "each net's metal joins its pins and nothing else; OpenSTA has every net's capacitance and all its pins",
    "not checked": "rules of spacing and density, antennas, wells",
    "seed": f"{SEED}, of the placement",
}
"""What the figures hold for; `assumed` says of vias what is so in a LEF file."""


def _vias(lef: Lef) -> str:
    silent = [via for via in lef.vias if via not in lef.ohms]
    ohms = [f"{ohm:g}" for ohm in sorted({*lef.ohms.values()})]
    stated = f"{' to '.join(dict.fromkeys((ohms[0], ohms[-1])))} ohms, from the LEF file" if ohms else ""
    guess = f"{VIA_OHM:g} ohms a cut, of OSU018's process: the LEF file has no resistance of "
    if not stated:
        return f"{guess}vias"
    return f"{stated}; {guess}{', '.join(silent)}" if silent else stated


def assumed(lef: Lef) -> dict[str, str]:
    """What the figures hold for, of layouts with a technology."""
    return {**_ASSUMED, "via": _vias(lef)}


def _inside(report: TimingReport) -> TimedPath | None:
    """The longest path that neither begins nor ends at a port."""
    return next((path for path in report.paths if "port" not in path.kinds), None)


def _periods(report: TimingReport) -> tuple[float | None, ...]:
    """In ns: of all paths, and of those without ports."""
    longest, inside = next(iter(report.paths), None), _inside(report)
    return tuple(None if path is None else path.fo4 * report.fo4_ns for path in (longest, inside))


def slow_down(before: float | None, after: float | None) -> float | None:
    """By which part a period is longer with wires; None where there is none."""
    return None if before is None or after is None or before <= 0 else after / before - 1


def layout_header(lef: Lef) -> RenderableType:
    """What the figures hold for, a line each."""
    table = plain_table()
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in assumed(lef).items():
        table.add_row(name, Text(text))
    table.show_header = False
    return table


def wires_table(blocks: Sequence[RoutedTiming]) -> Table:
    """A row a block: what it is made of."""
    table = plain_table("layouts: size and wires")
    table.add_column("block")
    for heading in ("cells", "nets", "pins", "die, um", "wire, mm", "vias", "fF", "fF/um", "placed, s", "routed, s"):
        table.add_column(heading, justify="right")
    for block in blocks:
        made, (x0, y0, x1, y1) = block.routed, block.routed.die
        table.add_row(
            block.name, f"{made.cells:,}", f"{made.nets:,}", f"{made.pins:,}",
            f"{(x1 - x0) / 1000:.0f} x {(y1 - y0) / 1000:.0f}", f"{made.length / 1000:.2f}", f"{made.vias:,}",
            f"{made.capacitance:,.0f}", f"{made.per_um:.3f}",
            *(f"{seconds:.0f}" for seconds in made.seconds))
    return table


def layouts_table(blocks: Sequence[RoutedTiming]) -> Table:
    """A row a block: its best period and its hold, without wires and with them."""
    table = plain_table("best period in ns: without wires, with them, with their capacitance twice; hold")
    table.add_column("block")
    for heading in ("period", "wired", "", "C x 2", "", "without ports", "wired", "", "C x 2", "", "hold", "wired"):
        table.add_column(heading, justify="right")
    for block in blocks:
        table.add_row(block.name, *_timing_cells(block))
    return table


def _timing_cells(block: RoutedTiming) -> Iterator[str]:
    for before, *later in zip(*map(_periods, (block.without, block.wired, block.doubled)), strict=True):
        yield "-" if before is None else f"{before:.3f}"
        for after in later:
            longer = slow_down(before, after)
            yield "-" if after is None else f"{after:.3f}"
            yield "-" if longer is None else f"{longer:+.1%}"
    for report in (block.without, block.wired):
        yield "-" if report.hold is None else f"{report.hold.slack:.3f}"


def _report_json(report: TimingReport) -> dict[str, Json]:
    longest, inside = _periods(report)
    worst = _inside(report)
    path: Json = None if worst is None else {
        "start": worst.start, "end": worst.end, "gates": worst.gates,
        "steps": [{"fo4": fo4, "cell": cell, "pin": pin} for fo4, cell, pin in worst.steps]}
    return {"period_ns": longest, "period_without_ports_ns": inside, "fo4_ns": report.fo4_ns, "path": path,
            "hold_slack_ns": None if report.hold is None else report.hold.slack}  # fmt: skip


def layout_json(blocks: Sequence[RoutedTiming], lef: Lef, about: dict[str, Json]) -> dict[str, Json]:
    """Everything that the tables show, unrounded; the longest path without ports, and wires by layer. `lef`: what the
    blocks were laid out with. `about`: what comes first."""
    rows: list[Json] = []
    for block in blocks:
        made = block.routed
        rows.append({
            "name": block.name, "top": made.top, "cells": made.cells, "nets": made.nets, "pins": made.pins,
            "die_um": [number / 1000 for number in made.die],
            "wire_um": dict(made.lengths), "vias": made.vias, "capacitance_ff": made.capacitance,
            "ff_per_um": made.per_um, "loops": made.loops,
            "seconds": {"placement": made.seconds[0], "routing": made.seconds[1]},
            "without_wires": _report_json(block.without), "with_wires": _report_json(block.wired),
            "with_twice_the_capacitance": _report_json(block.doubled),
            "slow_down": slow_down(_periods(block.without)[0], _periods(block.wired)[0]),
            "slow_down_without_ports": slow_down(_periods(block.without)[1], _periods(block.wired)[1])})
    return {**about, "assumed": dict(assumed(lef)), "blocks": rows}
