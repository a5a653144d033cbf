# SPDX-License-Identifier: Apache-2.0
"""Energy of a run, for the terminal and as JSON: per MAC, layer and block, with the clock apart, and beside what is
published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nncosim.platforms.base import Published
from nncosim.platforms.plain import Json
from nncosim.tb.power.account import KINDS, EnergyAccount, Process
from nncosim.tb.power.memories import scaling
from nncosim.tb.system.terminal import plain_table
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["EnergyReport", "Layer", "Target", "energy_json", "energy_tables"]

_CLOCK, _LEAKAGE = KINDS.index("clock"), KINDS.index("leakage")


@dataclass(frozen=True)
class Target:
    """What energies are carried to, to stand beside published power. `factor`: of energies, or None: C V^2."""

    node: float = 28.0
    voltage: float = 0.9
    factor: float | None = None
    frames_per_second: float = 30.0


@dataclass(frozen=True)
class Layer:
    """A step of the schedule. `spans`: those of the account that are its."""

    name: str
    op: str
    macs: int
    cycles: int
    spans: tuple[int, ...]


@dataclass(frozen=True)
class EnergyReport:
    """Attributes:
        about: what ran, for the JSON. topology: of the network (`nncosim.platforms.base.Published`).
        exact: whether every bit of the run was right.
    """

    about: Mapping[str, Json]
    topology: str
    exact: bool
    account: EnergyAccount
    process: Process
    target: Target
    layers: Sequence[Layer]
    missing: Sequence[str]
    published: Sequence[Published]

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def layer_energy(self, layer: Layer) -> np.ndarray:
        """By kind, in pJ."""
        return self.account.energy[list(layer.spans)].sum(axis=0)

    @property
    def energy(self) -> np.ndarray:
        """Of the inference, by kind, in pJ."""
        return np.sum([self.layer_energy(layer) for layer in self.layers], axis=0)

    @property
    def factor(self) -> float:
        process, target = self.process, self.target
        if target.factor is not None:
            return target.factor
        return scaling(process.node, process.library.voltage, target.node, target.voltage)

    def milliwatts(self, always: bool) -> float:
        """At the target, with leakage as long as an inference takes. always: the clock runs between inferences too."""
        energy = self.energy
        each = energy.sum()
        if always:
            free = self.process.clock_hz / self.target.frames_per_second - self.cycles
            each += energy[_CLOCK] / self.cycles * max(free, 0.0)
        return float(each * self.factor * self.target.frames_per_second * 1e-9)

    @property
    def fastest(self) -> float:
        """Frames per second at the clock, one inference after the other."""
        return self.process.clock_hz / self.cycles

    @property
    def gating(self) -> dict[str, float]:
        """Shares: of the energy that is the clock's; of flip-flops' cycles without a change of the bit, and without one
        of any bit of its register, which is what an enable of a register could at most save of the clock."""
        total, changes, registers = self.account.bit_cycles
        return {"clock_of_energy": float(self.energy[_CLOCK] / self.energy.sum()), "bit_keeps": 1 - changes / total,
                "register_keeps": 1 - registers / total}  # fmt: skip


def _kinds(energy: np.ndarray) -> dict[str, Json]:
    return {**{kind: float(value) for kind, value in zip(KINDS, energy, strict=True)}, "total": float(energy.sum())}


def _per_mac(energy: np.ndarray, macs: int) -> dict[str, Json]:
    if not macs:
        return {"pj_per_mac": None, "pj_per_mac_without_clock": None}
    return {"pj_per_mac": float(energy.sum() / macs),
            "pj_per_mac_without_clock": float((energy.sum() - energy[_CLOCK]) / macs)}


def energy_json(report: EnergyReport) -> dict[str, Json]:
    """Energies in pJ."""
    process, target, wiring = report.process, report.target, report.process.wiring
    blocks: list[Json] = [
        {"name": block.name, "cells": block.cells, "flip_flops": block.flip_flops,
         "energy_pj": _kinds(block.energy.sum(axis=0)), "accesses": sum(block.accesses)}
        for block in report.account.blocks]  # fmt: skip
    layers: list[Json] = [
        {"name": layer.name, "op": layer.op, "cycles": layer.cycles, "macs": layer.macs,
         "energy_pj": _kinds(energy), **_per_mac(energy, layer.macs)}
        for layer in report.layers for energy in (report.layer_energy(layer),)]  # fmt: skip
    return {
        **report.about, "bit_exact": report.exact, "cycles": report.cycles, "macs": report.macs,
        "process": {"node_nm": process.node, "voltage": process.library.voltage},
        "assumptions": {
            "clock_mhz": process.clock_hz / 1e6, "clock_slew_ns": wiring.clock_slew, "input_slew_ns": wiring.input_slew,
            "wire_ff_per_pin": wiring.wire_ff, "sram_pj_per_bit": process.memories.bit,
            "sram_node_nm": process.memories.node, "sram_voltage": process.memories.voltage},
        "missing": list(report.missing), "energy_pj": _kinds(report.energy), **_per_mac(report.energy, report.macs),
        "layers": layers, "blocks": blocks, "clock_gating": dict(report.gating),
        "scaled": {
            "factor": report.factor, "node_nm": target.node, "voltage": target.voltage,
            "frames_per_second": target.frames_per_second, "frames_per_second_at_most": report.fastest,
            "energy_uj": float(report.energy.sum() * report.factor / 1e6),
            "mw": report.milliwatts(False), "mw_if_the_clock_always_runs": report.milliwatts(True),
            "published": [{"network": each.network, "quantity": each.quantity, "value": each.value, "unit": each.unit,
                           "source": each.source, "this_network": _is_this(report, each)}
                          for each in report.published]},
    }  # fmt: skip


def _is_this(report: EnergyReport, figure: Published) -> bool:
    return bool(figure.topology) and figure.topology == report.topology


def energy_tables(report: EnergyReport) -> RenderableType:
    """What `energy_json` says."""
    return Group(_header(report), "", _layers(report), "", _blocks(report), "", *_closing(report))


def _header(report: EnergyReport) -> RenderableType:
    process, wiring, memories = report.process, report.process.wiring, report.process.memories
    table = plain_table()
    table.add_column()
    table.add_column(overflow="fold")
    table.show_header = False
    for name, text in {
        "energies": f"of {process.library.name}, {process.node:g} nm, {process.library.voltage:g} V; an estimate "
                    "before placement",
        "wires": f"{wiring.wire_ff:g} fF for each pin" if wiring.wire_ff else "none",
        "clock": f"{process.clock_hz / 1e6:g} MHz; every flip-flop in every cycle, edges of {wiring.clock_slew:g} ns; "
                 "no tree",
        "SRAM": f"{memories.bit:g} pJ a bit of 8 KiB at {memories.node:g} nm and {memories.voltage:g} V, with the root "
                "of the size, by C V^2",
        "not counted": "; ".join(report.missing),
    }.items():  # fmt: skip
        table.add_row(name, Text(text))
    return table


def _table(*names: str) -> Table:
    table = plain_table()
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    return table


def _columns(energy: np.ndarray, per: float) -> list[str]:
    """Total and kinds; leakage is left to the JSON where it is nothing."""
    return [f"{value / per:,.1f}" for value in (energy.sum(), *energy[:_LEAKAGE])]


def _layers(report: EnergyReport) -> RenderableType:
    names = ("layer", "op", "cycles", "MACs", "nJ", *KINDS[:_LEAKAGE], "pJ/MAC", "without clock")
    table = _table(*names)
    rows = [(layer.name, layer.op, layer.cycles, layer.macs, report.layer_energy(layer)) for layer in report.layers]
    for name, op, cycles, macs, energy in [*rows, ("inference", "", report.cycles, report.macs, report.energy)]:
        each = _per_mac(energy, macs).values()
        table.add_row(name, op, f"{cycles:,}", f"{macs:,}", *_columns(energy, 1000),
                      *("-" if value is None else f"{value:,.1f}" for value in each))  # fmt: skip
    return table


def _blocks(report: EnergyReport) -> RenderableType:
    table = _table("block", "cells", "flip-flops", "pJ/cycle", *KINDS[:_LEAKAGE], "share", "register keeps")
    total = report.account.energy.sum()
    for block in report.account.blocks:
        energy = block.energy.sum(axis=0)
        all_, _, changed = block.bit_cycles
        keeps = f"{1 - changed / all_:.1%}" if all_ else "-"
        table.add_row(block.name, f"{block.cells:,}", f"{block.flip_flops:,}",
                      *_columns(energy, report.account.ends[-1]), f"{energy.sum() / total:.1%}", keeps)
    return table


def _closing(report: EnergyReport) -> list[RenderableType]:
    gating, target = report.gating, report.target
    leakage = report.account.energy[:, _LEAKAGE].sum() / report.account.energy.sum()
    saved = gating["register_keeps"] * gating["clock_of_energy"]
    lines = [
        f"Clock pins take {gating['clock_of_energy']:.1%} of the energy, leakage {leakage:.2%}. A flip-flop keeps its "
        f"bit in {gating['bit_keeps']:.1%} of its cycles, its whole register in {gating['register_keeps']:.1%}: "
        f"enables could save up to {saved:.1%} of the energy. Nothing gates the clock today.",
        f"Times {report.factor:.4g}, for {target.node:g} nm and {target.voltage:g} V by C V^2 (an assumption):"
        if target.factor is None else f"Times {report.factor:.4g}, as given:",
        f"  {report.energy.sum() * report.factor / 1e6:,.2f} uJ an inference; {report.milliwatts(False):,.2f} mW at "
        f"{target.frames_per_second:g} frames/s with the clock stopped between them, {report.milliwatts(True):,.2f} mW "
        "with the clock always running",
    ]
    if report.fastest < target.frames_per_second:
        lines.append(f"  but this machine does not reach {target.frames_per_second:g} frames/s: at "
                     f"{report.process.clock_hz / 1e6:g} MHz an inference of {report.cycles:,} cycles allows "
                     f"{report.fastest:.3g}")
    for figure in report.published:
        mark = " (this network)" if _is_this(report, figure) else ""
        lines.append(f"  published: {figure.value:g} {figure.unit}, {figure.quantity}, {figure.network}{mark}")
    if report.published:
        lines.append(f"  from {report.published[0].source}")
    return [Text(line) for line in lines]
