# SPDX-License-Identifier: Apache-2.0
"""What went into one instance of a module in a simulation of the RTL, and what came out of it, at each edge of its
clock: for the module's gates, to be given the same.

    vectors = record(Path("run.fst"), "top.clk", "top.soc.counter", ports_of(EngineCounters(Counter)))
    vectors.inputs["state"], vectors.outputs["counters"]       # a value an edge
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nncosim.tb.errors import BenchError
from nncosim.tb.waves.wave import Wave

__all__ = ["CLOCK", "RESET", "Vectors", "random_values", "record"]

CLOCK, RESET = "clk", "rst"
"""Ports of every module that is emitted: the clock is in no `Vectors`, reset is an input like others."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Values of a module's ports just before each rising edge of its clock, the first edges under reset.

    Attributes:
        name: where they are from.
        bits: port to its bits, all but the clock.
        inputs, outputs: port to its values, one an edge: numpy's uint64, or Python's integers (dtype object) if the
            port has more than 64 bits. An output's value is the one that the edge's inputs go with: what an edge
            changes is in the next row.
        loads: edge to bits of registers, ``path.register[index]``, that take these values at that edge, whatever the
            edge would give them: a state that inputs reach only after very long, or never.
    """

    name: str
    bits: Mapping[str, int]
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    loads: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def first(self, count: int) -> Vectors:
        """Only the first so many edges."""
        inputs, outputs = ({port: values[:count] for port, values in each.items()}
                           for each in (self.inputs, self.outputs))  # fmt: skip
        return Vectors(self.name, self.bits, inputs, outputs,
                       {edge: bits for edge, bits in self.loads.items() if edge < count})  # fmt: skip

    def expect(self, ports: Mapping[str, tuple[int, str]]) -> None:
        """Check that they are of a module with these ports: name to bits and direction, "input" or "output"; with or
        without the clock.

        Raises:
            BenchError: they are not; with all that differs.
        """
        mine = {port: (bits, "input" if port in self.inputs else "output") for port, bits in self.bits.items()}
        theirs = {port: each for port, each in ports.items() if port != CLOCK}
        wrong = [f"{port} is {_port(mine.get(port))} here and {_port(theirs.get(port))} there"
                 for port in dict.fromkeys((*mine, *theirs)) if mine.get(port) != theirs.get(port)]  # fmt: skip
        if wrong:
            raise BenchError(f"the vectors of {self.name} are of another module: {'; '.join(wrong)}")


def _port(found: tuple[int, str] | None) -> str:
    return "absent" if found is None else f"an {found[1]} of {found[0]} bits"


def random_values(random: np.random.Generator, bits: int, edges: int) -> np.ndarray:
    """Of a port of so many bits, one an edge, as in `Vectors`."""
    drawn = [int.from_bytes(random.bytes(-(-bits // 8)), "little") & (1 << bits) - 1 for _ in range(edges)]
    return np.array(drawn, np.uint64 if bits <= 64 else object)


def record(waveform: Path, clock: str, scope: str, ports: Iterable[tuple[str, int, str]],
           elsewhere: Mapping[str, str] | None = None, late: Sequence[str] = ()) -> Vectors:
    """The vectors of an instance, from a waveform of all of a run.

    Args:
        clock: name of the clock, in full. scope: of the instance, in full.
        ports: of the module but clock and reset: name, bits, and "Input" or "Output", as
            `nncosim.hdl.emit.ports_of` gives them.
        elsewhere: port to the full name of the signal that is on it, of ports that have no name of their own in the
            instance, as Amaranth gives none to an input that is not used or is a part of something.
        late: names of signals that the simulation is given at an edge for that edge; see `Wave.clocked`.

    Raises:
        BenchError: a port is not in the waveform, or has other bits; with all such ports.
        UnknownValueError: a value is x or z.
    """
    wave = Wave.open(waveform)
    edges = wave.clocked(clock, inputs=late)
    known = set(wave.names)
    found: dict[str, dict[str, np.ndarray]] = {"Input": {}, "Output": {}}
    bits, wrong = {}, []
    for port, width, direction in ((RESET, 1, "Input"), *ports):
        name = (elsewhere or {}).get(port, f"{scope}.{port}")
        if name not in known:
            wrong.append(f"{port} ({name}) is not in it")
            continue
        samples = edges[name]
        if samples.bits != width:
            wrong.append(f"{port} ({name}) has {samples.bits} bits and not {width}")
            continue
        bits[port] = width
        found[direction][port] = samples.values.astype(np.uint64 if width <= 64 else object)
    if wrong:
        raise BenchError(f"waveform {waveform} has not the ports of {scope}: {'; '.join(wrong)}")
    return Vectors(scope, bits, found["Input"], found["Output"])
