# SPDX-License-Identifier: Apache-2.0
"""A routed block beside vectors of its RTL, in Icarus Verilog: every bit of every output at every edge.

A bit counts where the RTL says what it is. It does not of what a memory gives before it is written, or before it is
read: there it has 0 or 1 in one simulator, x in another, and the FPGA has what it starts with. So the RTL is replayed
as well, in four states; where it has x, nothing is compared, and these bits are counted. Where it has none, it has what
the vectors have, or they are of other RTL.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nncosim.tb.errors import BenchError
from nncosim.tb.fpga.netlist import simulation_sources
from nncosim.tb.fpga.ports import PortBit
from nncosim.tb.fpga.route import Routed
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.netlist.replay import PortTimes, Replay, Rows, bit_rows

__all__ = ["Difference", "Replayed", "port_of_column", "replayed"]

_PERIOD, _TIMES = 100.0, PortTimes(1.0, 1.0)
"""In ns; the netlist has no delays."""

Sources = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """A bit of an output that is not as in the vectors, at an edge counted from 0. `value`: "0", "1", "x" or "z"."""

    edge: int
    port: str
    index: int
    value: str
    expected: str

    def __str__(self) -> str:
        return f"edge {self.edge}: {self.port}[{self.index}] is {self.value} and not {self.expected}"


@dataclass(frozen=True)
class Replayed:
    """Where vectors are from, how many edges they have, and how many bits of outputs were compared; how many of these
    differ, and the first. `unknown`: bits that were not compared, for the RTL leaves them open. `seconds`: wall-clock
    time."""

    name: str
    edges: int
    bits: int
    differ: int
    unknown: int
    first: Difference | None
    seconds: float


def replayed(routed: Routed, bits: tuple[PortBit, ...], rtl: Sources, vectors: Vectors,
             change: Callable[[Sources], Sources] | None = None) -> Replayed:
    """Give the routed block the vectors' inputs and compare its outputs with theirs, from the first edge on.

    Args:
        rtl: the block's Verilog, with all it needs.
        bits: of the block's ports, as `nncosim.tb.fpga.ports.port_bits` of what was placed.
        change: of the Verilog that is simulated, for tests.

    Raises:
        BenchError: the vectors are of another module, or of other RTL; a cell that no model stands for.
        ToolError: Icarus Verilog or Yosys is missing.
    """
    begin = time.monotonic()
    ports: dict[str, tuple[int, str]] = {}
    for bit in bits:
        ports[bit.port] = (ports.get(bit.port, (0, ""))[0] + 1, bit.direction)
    vectors.expect(ports)
    if not vectors.outputs:
        raise BenchError(f"{routed.top!r} has no outputs to compare")
    sources = simulation_sources(routed.module, routed.top, bits)
    wanted = bit_rows(vectors.outputs, vectors.bits)
    known = _run(rtl, routed.top, vectors)
    open_bits = known == ord("x")
    if ((known != wanted) & ~open_bits).any():
        raise BenchError(f"the vectors of {vectors.name} are not what the RTL of {routed.top!r} does: "
                         f"{_first(known, wanted, (known != wanted) & ~open_bits, vectors)}")
    seen = _run(change(sources) if change else sources, routed.top, vectors)
    wrong = (seen != wanted) & ~open_bits
    return Replayed(vectors.name, len(vectors), int((~open_bits).sum()), int(wrong.sum()), int(open_bits.sum()),
                    _first(seen, wanted, wrong, vectors), time.monotonic() - begin)


def _run(sources: Sources, top: str, vectors: Vectors) -> Rows:
    """What comes out at each edge."""
    with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
        return Replay(Path(folder), sources.values(), top, vectors, standard="2012").run(_PERIOD, _TIMES).outputs


def _first(seen: Rows, wanted: Rows, wrong: np.ndarray, vectors: Vectors) -> Difference | None:
    places = np.argwhere(wrong)
    if not len(places):
        return None
    edge, column = (int(each) for each in places[0])
    port, index = port_of_column(vectors, column)
    return Difference(edge, port, index, chr(seen[edge, column]), chr(wanted[edge, column]))


def port_of_column(vectors: Vectors, column: int) -> tuple[str, int]:
    """The output and its bit that a column of rows has: of a port the highest bit is first."""
    for port in vectors.outputs:
        if column < vectors.bits[port]:
            return port, vectors.bits[port] - 1 - column
        column -= vectors.bits[port]
    raise BenchError("no output has so many bits")
