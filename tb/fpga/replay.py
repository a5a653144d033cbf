# SPDX-License-Identifier: Apache-2.0
"""A routed block beside its RTL, both given the same vectors, in Icarus Verilog: each bit of each output at each edge.

What is held against the routed block is what its RTL gives there and then. Of a block without memories that must be
what the vectors have too, or they are of other RTL. An FPGA's memories begin with zeros, those of the run that was
recorded with anything; so the RTL's begin with zeros here, and what is otherwise in the vectors for that reason is
counted. Where the RTL has x, the bit is not compared, and counted too: Icarus evaluates a process only once one of its
inputs changes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.errors import BenchError
from nncosim.tb.fpga.netlist import simulation_sources
from nncosim.tb.fpga.ports import PortBit
from nncosim.tb.fpga.route import Routed
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.netlist.replay import PortTimes, Replay, Rows, bit_rows

__all__ = ["Difference", "Replayed", "port_of_column", "replayed"]

_PERIOD, _TIMES = 100.0, PortTimes(1.0, 1.0)
"""In ns; the netlist has no delays."""

_SRAM = f"{SRAM_MODULE}.v"

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
    differ from the RTL's, and the first. `unknown`: bits that were not compared. `memories`: those in which the RTL is
    not as in the vectors, for memories began with something else there. `seconds`: wall-clock time."""

    name: str
    edges: int
    bits: int
    differ: int
    unknown: int
    memories: int
    first: Difference | None
    seconds: float


def replayed(routed: Routed, bits: tuple[PortBit, ...], rtl: Sources, vectors: Vectors,
             change: Callable[[Sources], Sources] | None = None) -> Replayed:
    """Give the routed block and its RTL the vectors' inputs and compare their outputs, from the first edge on.

    Args:
        rtl: the block's Verilog, with `hdl/sram.v` where it has memories.
        bits: of the block's ports, as `nncosim.tb.fpga.ports.port_bits` of what was placed.
        change: of the Verilog that is simulated, for tests.

    Raises:
        BenchError: the vectors are of another module, or of other RTL; a cell that no model stands for; all outputs of
            the RTL are x.
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
    wanted = _run(_from_zeros(rtl), routed.top, vectors)
    known = wanted != ord("x")
    if not known.any():
        raise BenchError(f"no output of the RTL of {routed.top!r} is known at any of {len(vectors)} edges of "
                         f"{vectors.name}: there is nothing to compare")
    told = bit_rows(vectors.outputs, vectors.bits)
    other = (told != wanted) & known
    if _SRAM not in rtl and other.any():
        raise BenchError(f"the vectors of {vectors.name} are not what the RTL of {routed.top!r} does: "
                         f"{_first(told, wanted, other, vectors)}")
    seen = _run(change(sources) if change else sources, routed.top, vectors)
    wrong = (seen != wanted) & known
    return Replayed(vectors.name, len(vectors), int(known.sum()), int(wrong.sum()), int((~known).sum()),
                    int(other.sum()), _first(seen, wanted, wrong, vectors), time.monotonic() - begin)


def _from_zeros(rtl: Sources) -> Sources:
    """The RTL with memories that begin, and are read first, as zeros."""
    if _SRAM not in rtl:
        return rtl
    declared = "reg [WIDTH-1:0] mem [0:DEPTH-1];"
    before, found, behind = rtl[_SRAM].partition(declared)
    if not found:
        raise BenchError(f"{_SRAM} has no {declared!r} to begin with zeros")
    zeros = "integer word; initial begin r_data = 0; for (word = 0; word < DEPTH; word = word + 1) mem[word] = 0; end"
    return {**rtl, _SRAM: f"{before}{found}\n    {zeros}{behind}"}


def _run(sources: Sources, top: str, vectors: Vectors) -> Rows:
    """What comes out at each edge."""
    with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
        return Replay(Path(folder), sources.values(), top, vectors, standard="2012").run(_PERIOD, _TIMES).outputs


def _first(seen: Rows, wanted: Rows, wrong: npt.NDArray[np.bool_], vectors: Vectors) -> Difference | None:
    """The first of the bits that are wrong."""
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
