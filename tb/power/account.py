# SPDX-License-Identifier: Apache-2.0
"""Counts and energies put together: what a run took, by span of cycles and by block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.netlist.counting import Counter
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.power.gates import Wiring, module_energy
from nncosim.tb.power.memories import MemoryModel
from nncosim.tb.power.tables import PowerLibrary

__all__ = ["KINDS", "BlockEnergy", "EnergyAccount", "Process", "account", "counts_of"]

KINDS = ("data", "clock", "memory", "leakage")
"""What energy goes to: changes of nets; clock pins of flip-flops; accesses to memories; leakage of gates."""


@dataclass(frozen=True)
class Process:
    """What energies are of: the library, its feature size in nm, and what is assumed besides. `clock_hz`: tells how
    long leakage lasts."""

    library: PowerLibrary
    node: float
    clock_hz: float
    wiring: Wiring = field(default_factory=Wiring)
    memories: MemoryModel = field(default_factory=MemoryModel)


@dataclass(frozen=True)
class BlockEnergy:
    """Of one block, over the whole run.

    Attributes:
        energy: by span and kind (`KINDS`), in pJ.
        cells, flip_flops: of all its instances.
        bit_cycles: cycles of flip-flops: in all, in which the flip-flop changes, in which any of its register does.
        accesses: reads and writes of memories.
    """

    name: str
    energy: np.ndarray
    cells: int
    flip_flops: int
    bit_cycles: tuple[int, int, int]
    accesses: tuple[int, int]


@dataclass(frozen=True)
class EnergyAccount:
    """Attributes:
        ends: of each span, in cycles since counting began.
        blocks: in the order in which they were named.
    """

    ends: tuple[int, ...]
    blocks: tuple[BlockEnergy, ...]

    @property
    def energy(self) -> np.ndarray:
        """By span and kind, in pJ."""
        return np.sum([block.energy for block in self.blocks], axis=0)

    @property
    def bit_cycles(self) -> tuple[int, int, int]:
        """As of a block."""
        total, bits, registers = np.sum([block.bit_cycles for block in self.blocks], axis=0, dtype=object)
        return int(total), int(bits), int(registers)


def counts_of(counter: Counter, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Ends of spans, counts of each (of all instances together, `uint64`), and the instances.

    Raises:
        BenchError: there are no records, or not as many of each instance.
    """
    if not len(records):
        raise BenchError(f"nothing was counted of {counter.module}")
    instances = counter.instances or int(np.sum(records[:, 0] == records[0, 0]))
    rows = 1 if counter.instances else instances
    if len(records) % rows:
        raise BenchError(f"the instances of {counter.module} did not count as often as each other")
    shape = len(records) // rows, rows, records.shape[1] - 1
    counts = records[:, 1:].astype(np.uint64).reshape(shape).sum(axis=1)
    return records[::rows, 0].astype(np.int64), counts, instances


def account(modules: Mapping[str, Gates], models: Mapping[str, CellModel], counters: Sequence[Counter],
            records: Mapping[int, np.ndarray], process: Process, block_of: Callable[[str], str],
            names: Sequence[str]) -> EnergyAccount:
    """What the counted changes cost.

    Args:
        modules: of the netlist. records: of each counter, by its stream. block_of: of a module. names: of blocks.

    Raises:
        BenchError: counters do not have the same spans; what a library lacks.
    """
    totals = {name: _Sum() for name in names}
    sliced = {counter.module for counter in counters if counter.instances}
    ends: np.ndarray | None = None
    for counter in counters:
        found, counts, instances = counts_of(counter, records[counter.stream])
        if ends is None:
            ends = found
        elif len(found) != len(ends) or np.abs(found - ends).max() > 1:
            raise BenchError(f"{counter.module} counted other spans than the others")
        shell = not counter.instances and counter.module in sliced
        block = totals[block_of(counter.module)]
        block.add(modules[counter.module], models, counter, found, counts, instances, process, shell)
    assert ends is not None
    return EnergyAccount(tuple(map(int, ends)), tuple(
        BlockEnergy(name, each.energy if each.energy is not None else np.zeros((len(ends), len(KINDS))), each.cells,
                    each.flip_flops, each.bits, each.accesses) for name, each in totals.items()))


class _Sum:
    """Of a block."""

    def __init__(self) -> None:
        self.energy: np.ndarray | None = None
        self.cells = self.flip_flops = 0
        self.bits: tuple[int, int, int] = (0, 0, 0)
        self.accesses: tuple[int, int] = (0, 0)

    def add(self, gates: Gates, models: Mapping[str, CellModel], counter: Counter, ends: np.ndarray,
            counts: np.ndarray, instances: int, process: Process, shell: bool) -> None:
        """shell: the counter is of a slice's shells; what clocks, cells and leakage are counted beside it."""
        if self.energy is None:
            self.energy = np.zeros((len(ends), len(KINDS)))
        energy = module_energy(gates, models, process.library, process.wiring)
        nets, groups = len(counter.nets), len(counter.groups)
        each = np.array([energy.nets[net].total if net in energy.nets else 0.0 for net in counter.nets])
        self.energy[:, 0] += counts[:, :nets] @ each
        accesses = counts[:, nets + groups:].reshape(len(ends), len(counter.memories), 2)
        costs = np.array([process.memories.access(memory, process.node, process.library.voltage)
                          for memory in counter.memories])  # fmt: skip
        self.energy[:, 2] += accesses.sum(axis=2) @ costs if len(costs) else 0.0
        reads, writes = map(int, accesses.sum(axis=(0, 1)))
        self.accesses = self.accesses[0] + reads, self.accesses[1] + writes
        if shell:
            return
        cycles = np.diff(ends, prepend=0)
        self.energy[:, 1] += cycles * instances * energy.clock
        self.energy[:, 3] += cycles * instances * energy.leakage / process.clock_hz * 1e12
        self.cells += gates.count() * instances
        self.flip_flops += len(gates.registers) * instances
        changed = counts[:, nets:nets + groups].sum(axis=0)
        of = [re.sub(r"\[\d+\]$", "", register.name) for register in gates.registers]
        index = {name: number for number, name in enumerate(counter.groups)}
        at = {net: number for number, net in enumerate(counter.nets)}
        toggles = counts[:, :nets].sum(axis=0)
        total, bits, registers = self.bits
        self.bits = (total + int(cycles.sum()) * instances * len(gates.registers),
                     bits + int(sum(toggles[at[register.output]] for register in gates.registers)),
                     registers + int(sum(changed[index[name]] for name in of)))
