# SPDX-License-Identifier: Apache-2.0
"""Blocks that are timed, for the terminal and as JSON, and what of them is too slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nncosim.platforms.plain import Json
from nncosim.tb.system.terminal import plain_table
from nncosim.tb.timing.library import Library
from nncosim.tb.timing.sta import SRAM, TimedPath, TimingReport
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["PATHS", "BlockTiming", "Clocking", "failures", "paths_table", "summary_table", "timing_header",
           "timing_json"]

PATHS = 10
"""How many paths of a block are shown, at least."""


@dataclass(frozen=True)
class BlockTiming:
    """A block by the name that the bench has for it, and what it is."""

    name: str
    what: str
    report: TimingReport

    @property
    def worst(self) -> TimedPath | None:
        """The longest path: what the period must hold."""
        return next(iter(self.report.paths), None)

    @property
    def inside(self) -> TimedPath | None:
        """The longest that neither begins nor ends at a port, so that no budget beyond ports counts."""
        return next((path for path in self.report.paths if "port" not in path.kinds), None)

    @property
    def shown(self) -> tuple[TimedPath, ...]:
        """The longest `PATHS`, and behind them the longest inside if it is none of these."""
        first = self.report.paths[:PATHS]
        return first if self.inside is None or self.inside in first else (*first, self.inside)

    def ns(self, path: TimedPath) -> float:
        return path.fo4 * self.report.fo4_ns

    def beyond(self, path: TimedPath) -> float:
        """What of a path is the budget beyond ports, in ns."""
        port = self.report.port
        budgets = ((path.kinds[0], port.clock_to_output), (path.kinds[1], port.setup))
        return sum(fo4 for kind, fo4 in budgets if kind == "port") * self.report.fo4_ns


@dataclass(frozen=True)
class Clocking:
    """What blocks are timed with. `fo4`: of the library, in ns. `period`: that is asked for, in ns, or None."""

    liberty: Path
    library: Library
    fo4: float
    period: float | None = None


def failures(blocks: Sequence[BlockTiming], clocking: Clocking) -> list[str]:
    """What does not hold at the period, a line each: a block's longest path, and its hold. [] without a period."""
    if clocking.period is None:
        return []
    found = []
    for block in blocks:
        worst, hold = block.worst, block.report.hold
        if worst is not None and block.ns(worst) > clocking.period:
            budget = f" ({block.beyond(worst):.3f} are budgeted beyond ports)" if "port" in worst.kinds else ""
            found.append(f"{block.name}: {worst.start} -> {worst.end} takes {block.ns(worst):.3f} ns{budget}, "
                         f"{block.ns(worst) - clocking.period:.3f} more than the period")
        if hold is not None and hold.slack < 0:
            found.append(f"{block.name}: {hold.start} -> {hold.end} does not hold: slack {hold.slack:.3f} ns")
    return found


def _corner(library: Library) -> str:
    corner = library.corner
    said = [corner.conditions and f"conditions {corner.conditions}",
            corner.process is not None and f"process {corner.process:g}",
            corner.voltage is not None and f"{corner.voltage:g} V",
            corner.temperature is not None and f"{corner.temperature:g} degrees C"]
    return ", ".join(text for text in said if text) or "the file says none"


def _assumptions(blocks: Sequence[BlockTiming], clocking: Clocking) -> dict[str, str]:
    library = clocking.library
    ports = {(block.report.port.clock_to_output, block.report.port.setup) for block in blocks}
    beyond = " or ".join(f"{before:g} FO4 are used beyond an input and {behind:g} beyond an output"
                         for before, behind in sorted(ports))  # fmt: skip
    unit = library.areas[library.nand2.name]
    return {
        "library": f"{library.name} ({clocking.liberty}); FO4 {clocking.fo4 * 1000:.1f} ps, of {library.inverter.name}",
        "corner": _corner(library),
        "wires": f"the library's wire load model {library.corner.wire_load}, of which the FO4 is free"
                 if library.corner.wire_load else "none: before placement",
        "clock": "ideal, without skew, jitter or a tree; reset is data",
        "ports": f"{beyond}; they have no hold",
        "SRAM": f"{SRAM.clock_to_output:g} FO4 from clock to output, set-up {SRAM.setup:g}, hold 0, whatever the size; "
                "no area",
        "area": f"of cells, in the library's unit, by convention um2; a NAND2 is a {library.nand2.name} of {unit:g}",
    }  # fmt: skip


def timing_header(blocks: Sequence[BlockTiming], clocking: Clocking) -> RenderableType:
    """What the figures hold for, a line each."""
    table = plain_table()
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in _assumptions(blocks, clocking).items():
        table.add_row(name, Text(text))
    table.show_header = False
    return table


def _row(block: BlockTiming, period: float | None) -> list[str]:
    report = block.report
    row = [block.name]
    for path in (block.worst, block.inside):
        row += ["-", "-"] if path is None else [f"{block.ns(path):.3f}", f"{path.fo4:.1f}"]
    row.append("-" if report.hold is None else f"{report.hold.slack:.3f}")
    row += [f"{report.cells - report.macros:,}", f"{report.flip_flop_bits():,}", f"{_area(block):,.0f}",
            f"{report.area.total:,.0f}"]
    if period is not None:
        late = block.worst is not None and block.ns(block.worst) > period
        held = report.hold is None or report.hold.slack >= 0
        row.append("no" if late or not held else "yes")
    return row


def _area(block: BlockTiming) -> float:
    """In the library's unit."""
    return block.report.area.total * block.report.nand2


def summary_table(blocks: Sequence[BlockTiming], clocking: Clocking) -> Table:
    """A row a block: its best period with and without paths at ports, hold, and area."""
    table = plain_table("best period by block: set-up, and least slack of hold; area")
    table.add_column("block")
    for heading in ("period, ns", "FO4", "without ports, ns", "FO4", "hold, ns", "cells", "flip-flops", "um2", "NAND2"):
        table.add_column(heading, justify="right")
    if clocking.period is not None:
        table.add_column(f"holds {clocking.period:g} ns")
    for block in blocks:
        table.add_row(*_row(block, clocking.period))
    return table


def paths_table(block: BlockTiming, clocking: Clocking) -> RenderableType:
    """The longest paths of a block, one of each pair of registers; the longest without ports, if it is none of these;
    and the one with the least slack of hold."""
    table = plain_table(f"{block.name} ({block.what}): the longest paths, each the worst between two registers")
    for heading in ("ns", "FO4", *(["slack, ns"] if clocking.period is not None else []), "gates"):
        table.add_column(heading, justify="right")
    table.add_column("kind")
    for heading in ("start", "declared in", "end", "declared in"):
        table.add_column(heading, overflow="fold")
    for path in block.shown:
        slack = [] if clocking.period is None else [f"{clocking.period - block.ns(path):.3f}"]
        ends = [Text(part or "-") for end in ((path.start, path.declared[0]), (path.end, path.declared[1]))
                for part in end]
        table.add_row(f"{block.ns(path):.3f}", f"{path.fo4:.1f}", *slack, str(path.gates), " -> ".join(path.kinds),
                      *ends)  # fmt: skip
    hold = block.report.hold
    told = "no register feeds another: there is no hold to check" if hold is None else (
        f"least slack of hold: {hold.slack:.3f} ns, {hold.start} -> {hold.end}")
    return Group(table, Text(told))


def _path_json(block: BlockTiming, path: TimedPath, period: float | None) -> dict[str, Json]:
    ends: dict[str, Json] = {
        side: {"name": name, "kind": kind, "declared": declared or None}
        for side, name, kind, declared in zip(("start", "end"), (path.start, path.end), path.kinds, path.declared,
                                              strict=True)}  # fmt: skip
    slack: dict[str, Json] = {} if period is None else {"slack_ns": period - block.ns(path)}
    steps: list[Json] = [{"fo4": fo4, "pin": pin, "cell": cell} for fo4, cell, pin in path.steps]
    return {"ns": block.ns(path), "fo4": path.fo4, **slack, "gates": path.gates, **ends, "steps": steps}


def _block_json(block: BlockTiming, period: float | None) -> dict[str, Json]:
    report = block.report
    best: dict[str, Json] = {
        name: None if path is None else {"ns": block.ns(path), "fo4": path.fo4}
        for name, path in (("period", block.worst), ("period_without_ports", block.inside))}
    return {
        "name": block.name, "what": block.what, "top": report.top, **best,
        "hold": None if report.hold is None else {
            "slack_ns": report.hold.slack, "start": report.hold.start, "end": report.hold.end},
        "paths": [_path_json(block, path, period) for path in block.shown],
        "area": {"cells": report.cells - report.macros, "cut_out": report.macros,
                 "flip_flops": report.flip_flop_bits(), "library_units": _area(block),
                 "nand2": report.area.total, "nand2_gates": report.area.gates,
                 "nand2_flip_flops": report.area.flip_flops},
        "port_fo4": {"input": report.port.clock_to_output, "output": report.port.setup},
    }  # fmt: skip


def timing_json(blocks: Sequence[BlockTiming], clocking: Clocking, about: Mapping[str, Json]) -> dict[str, Json]:
    """Everything that the tables show, unrounded, and the cells along each path. `about`: what comes first."""
    library = clocking.library
    cells = {name: getattr(library, name).name for name in ("inverter", "nand2", "driver", "buffer")}
    return {
        **about,
        "library": {"name": library.name, "file": str(clocking.liberty), "fo4_ns": clocking.fo4,
                    "corner": asdict(library.corner), "cells": cells, "load_pf": library.load,
                    "nand2_area": library.areas[library.nand2.name]},
        "assumed": dict(_assumptions(blocks, clocking)),
        "sram_fo4": {"clock_to_output": SRAM.clock_to_output, "setup": SRAM.setup},
        "period_ns": clocking.period,
        "blocks": [_block_json(block, clocking.period) for block in blocks],
        "failed": list(failures(blocks, clocking)),
    }  # fmt: skip
