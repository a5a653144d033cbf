# SPDX-License-Identifier: Apache-2.0
"""A netlist with the delays that static timing is of, simulated with vectors: right at the period that static timing
calls safe, and wrong below."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.netlist.delays import STATE, annotated, delay_models
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.netlist.replay import PortTimes, Replay, Rows, Seen, bit_rows
from nncosim.tb.netlist.timed import TimedNetlist
from nncosim.tb.timing.netlist import Netlist

__all__ = ["FAST", "STEP", "Outcome", "Simulated", "simulate"]

FAST = 0.7
"""Of the period of static timing: what is simulated to see it fail."""

STEP = 0.01
"""Of the period of static timing: how near the lowest period that passes is found."""

_SLOW = 200.0  # ns: the period of gates without delays


@dataclass(frozen=True)
class Outcome:
    """At a period, in ns.

    Attributes:
        wrong: bits of outputs that are not the RTL's, over all edges; of them `unknown` x.
        registers: bits of registers, over all edges, that are not what gates without delays have.
        edge: the first with a wrong bit of either; -1 without.
    """

    period: float
    wrong: int
    unknown: int
    registers: int
    edge: int

    @property
    def passes(self) -> bool:
        return not self.wrong and not self.registers


@dataclass(frozen=True)
class Simulated:
    """A netlist's simulation with some vectors.

    Attributes:
        vectors: edges. arcs, checks, wires: as `nncosim.tb.netlist.delays.Annotated` counts them.
        static: the period of static timing, in ns. worst: its path, from where to where.
        safe, fast: at that period, rounded up to a picosecond, and at `FAST` of it. unchecked: at `FAST` of it, with
            flip-flops that take what is there at the edge, however late it came.
        lowest: in ns, the lowest period that passes, as bisection finds it, to `STEP` of `static` and that of `safe` at
            the most; 0 if it was not looked for.
    """

    vectors: int
    arcs: int
    checks: int
    wires: int
    static: float
    worst: str
    safe: Outcome
    fast: Outcome
    unchecked: Outcome
    lowest: float

    @property
    def holds(self) -> bool:
        """Whether it is right where static timing says so, and wrong at `FAST` of that."""
        return self.safe.passes and not self.fast.passes


def simulate(timed: TimedNetlist, vectors: Vectors, models: Mapping[str, CellModel], *, step: float = STEP
             ) -> Simulated:
    """Replay vectors at some periods.

    Args:
        step: see `STEP`; 0: `lowest` is not looked for, and 0.

    Raises:
        BenchError: gates without delays do not do what the vectors say, so that nothing can be said of delays; or the
            SDF file does not fit.
    """
    netlist = timed.netlist
    vectors.expect(_ports(netlist))
    with_delays, unchecked = (annotated(timed.verilog, netlist, models, timed.sdf, checked=each)
                              for each in (True, False))  # fmt: skip
    used = {kind for kind, _ in netlist.cells.values()}
    cells = [models[kind] for kind in sorted(used)]
    probes = [f"{instance}.{STATE}" for instance in netlist.registers]
    registers = {name: f"{instance}.{STATE}" for instance, name in netlist.registers.items()}
    clocked = "clk_0" in netlist.ports
    wires = {port: edges for (owner, port), edges in timed.sdf.wires.items() if not owner}
    with tempfile.TemporaryDirectory(prefix="nncosim-") as name:
        benches = []
        for kind, text in (("plain", timed.verilog), ("delays", with_delays.verilog),
                           ("unchecked", unchecked.verilog)):
            folder = Path(name) / kind
            folder.mkdir()
            benches.append(Replay(folder, [*delay_models(cells), text], netlist.top, vectors, split=True,
                                  probes=probes, clocked=clocked, registers=registers,
                                  wires={} if kind == "plain" else wires))  # fmt: skip
        want = benches[0].run(_SLOW, PortTimes(1.0, 1.0))
        wrong = np.flatnonzero((want.outputs != bit_rows(vectors.outputs, vectors.bits)).any(axis=1))
        if len(wrong):
            raise BenchError(f"gates of {netlist.top} without delays do not do what the vectors of {vectors.name} say, "
                             f"from edge {wrong[0]} on")

        def at(period: float, bench: Replay = benches[1]) -> Outcome:
            return _judged(period, bench.run(period, timed.times), want)

        safe, fast = at(round(timed.period + 1e-3, 3)), at(round(FAST * timed.period, 3))
        loose = at(fast.period, benches[2])
        low, high = (0.0, fast.period) if fast.passes else (fast.period, safe.period)
        while step and safe.passes and high - low > step * timed.period:
            middle = round((low + high) / 2, 3)
            low, high = (low, middle) if at(middle).passes else (middle, high)
    worst = f"{timed.place(timed.worst.start)} -> {timed.place(timed.worst.end)}"
    return Simulated(len(vectors), with_delays.arcs, with_delays.checks, with_delays.wires, timed.period, worst, safe,
                     fast, loose, high if step and safe.passes else 0.0)


def _ports(netlist: Netlist) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for bit, (direction, _) in netlist.ports.items():
        port = bit.rpartition("_")[0]
        found[port] = found.get(port, (0, ""))[0] + 1, direction
    return found


def _judged(period: float, seen: Seen, want: Seen) -> Outcome:
    outputs, registers = seen.outputs != want.outputs, seen.probes != want.probes
    edges = np.flatnonzero(outputs.any(axis=1) | registers.any(axis=1))
    return Outcome(period, int(outputs.sum()), _unknown(seen.outputs), int(registers.sum()),
                   int(edges[0]) if len(edges) else -1)


def _unknown(rows: Rows) -> int:
    return int((~np.isin(rows, np.frombuffer(b"01", np.uint8))).sum())
