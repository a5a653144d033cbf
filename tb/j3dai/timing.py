# SPDX-License-Identifier: Apache-2.0
"""J3DAI's longest path by kind, for the whole chip in one table.

    python -m nncosim.tb.j3dai.timing      # the first time it maps and times the blocks, which takes minutes

A path between registers says what the logic needs. One that starts or ends in an SRAM is as long as the SRAM is slow
(`nncosim.tb.timing.allowances`). One that starts or ends at a block's port is mostly the budget for what lies beyond;
how long it really is, is said by the connections: when the one block's output is there, and what the other still needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nncosim.tb.j3dai.blocks import cluster, control, dmpa, host, ncb
from nncosim.tb.timing.allowances import FO4_PS, SKEW, WIRES
from nncosim.tb.timing.kinds import PORT, KindOfPath, sized, worst_of_each_kind
from nncosim.tb.timing.sta import LIMIT, TimingReport

__all__ = ["BLOCKS", "CONNECTIONS", "Connection", "connections", "kinds", "table"]

Design = Callable[[], TimingReport]

BLOCKS: dict[str, Design] = {
    "NCB": ncb, "cluster": cluster, "DMPA and L2": dmpa, "control registers": control, "host": host}

CLOSED = "port, as it closes"


@dataclass(frozen=True)
class Connection:
    """Block that drives and its port; block that is driven and its port; and between them, where there is one, a block
    through which the signal passes without a register, with the port at which it leaves that."""

    source: Design
    output: str
    target: Design
    port: str
    through: tuple[Design, str] | None = None

    def __str__(self) -> str:
        between = f" -> {self.through[0].__name__}.{self.through[1]}" if self.through else ""
        return f"{self.source.__name__}.{self.output}{between} -> {self.target.__name__}.{self.port}"

    @property
    def fo4(self) -> float:
        passing = 0.0
        if self.through is not None:
            report = self.through[0]()
            passing = report.outputs[self.through[1]] - report.port.clock_to_output
        return _gives(self.source(), self.output) + max(passing, 0.0) + _needs(self.target(), self.port)


def _gives(report: TimingReport, port: str) -> float:
    """When an output is there, from what is inside the block. What passes through it is a connection of its own."""
    inside = [path.fo4 - report.port.setup for path in report.between(ends=f"port {port}_")
              if not path.start.startswith("port ")]
    return max(inside, default=report.outputs[port])


def _needs(report: TimingReport, port: str) -> float:
    """What an input needs until the block's registers, or a bound: no input needs more than the slowest of all, for all
    are timed with the same budget."""
    inside = [path.fo4 - report.port.clock_to_output for path in report.between("port ")
              if not path.end.startswith("port ")]
    return min(report.inputs[port], max(inside, default=report.inputs[port]))


CONNECTIONS: list[Connection] = [
    *(Connection(dmpa, port, cluster, port) for port in (
        "wr_valid", "wr_space", "wr_addr", "wr_mask", "wr_data", "rd_valid", "rd_addr", "signal_in")),
    Connection(dmpa, "idle", cluster, "dmpa_idle"),
    *(Connection(cluster, port, dmpa, port) for port in ("rd_data", "drain_ahead", "signal_out")),
    *(Connection(control, "in_frame", block, "in_frame") for block in (dmpa, cluster, host)),
    *(Connection(host, written, dmpa, port, (control, port)) for written, port in (
        ("mmio_w_en", "push"), ("mmio_addr", "push"), ("mmio_w_data", "push_addr"))),
    *(Connection(host, written, cluster, port, (control, port)) for written, port in (
        ("mmio_w_en", "start"), ("mmio_addr", "start"), ("mmio_w_data", "start_pc"))),
    *(Connection(dmpa, port, control, f"dmpa_{port}") for port in ("free", "busy", "trap")),
    *(Connection(dmpa, port, control, port) for port in ("lists_done", "counters", "transfers")),
    *(Connection(cluster, port, control, port) for port in ("counters", "running", "armed")),
    Connection(cluster, "trap", control, "cluster_trap"),
    *(Connection(dmpa, f"entry_{port}", control, f"entry_{port}") for port in ("status", "counters", "frame")),
    Connection(control, "input_free", dmpa, "entry_input_free"),
    Connection(host, "load_ready", dmpa, "entry_host_ready"),
    *(Connection(dmpa, f"entry_host_{port}", host, f"load_{port}") for port in ("valid", "imem", "addr", "data")),
    *(Connection(host, f"mmio_{port}", control, port) for port in ("addr", "r_en", "w_en", "w_data")),
    Connection(host, "counters", control, "counters"),
    Connection(dmpa, "lists_done", host, "irq", (control, "irq")),
    Connection(control, "r_data", host, "mmio_r_data"), Connection(control, "irq", host, "irq"),
]
"""From block to block. The host's writes pass through the control registers to the DMPA and the clusters."""


def connections() -> Iterator[KindOfPath]:
    """Each connection as a path; all of its length counts as gates."""
    for connection in CONNECTIONS:
        fo4 = connection.fo4
        yield KindOfPath(CLOSED, "between blocks", str(connection), fo4, fo4)


def kinds(block: str) -> dict[str, KindOfPath]:
    """Kind to the longest path of a block."""
    report = BLOCKS[block]()
    return worst_of_each_kind(sized(block, report, path) for path in report.paths)


def table() -> str:
    """The longest path of each kind of each block, and between blocks; above it, what adds up."""
    rows = [row for block in BLOCKS for row in kinds(block).values()]
    rows = sorted(rows, key=lambda row: (row.kind == PORT, -row.total))
    closed = sorted(connections(), key=lambda row: -row.total)[:3]
    head = [
        f"limit {LIMIT:.0f} FO4 = {LIMIT * FO4_PS / 1000:.0f} ns if one is {FO4_PS:.0f} ps at 28 nm, an assumption",
        f"total = mapped, SRAM by size, + {WIRES:.0%} of gates for wires + {SKEW} for skew and margin of set-up",
        " total mapped  kind                   block              path",
    ]
    return "\n".join([*head, *map(str, [*closed, *rows])])


def main() -> None:
    print(table())


if __name__ == "__main__":
    main()
