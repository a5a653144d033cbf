# SPDX-License-Identifier: Apache-2.0
"""Energy of an access to an SRAM macro, by a model: no library has macros of the sizes that a design asks for.

An access costs so much a bit, and more of a larger macro: bit lines and the wires to the outputs are as long as a side
of the array, and so go with the root of its bits. The constants fit M. Horowitz, "Computing's energy problem (and what
we can do about it)", ISSCC 2014, figure 1.1.9: caches of 8 KiB, 32 KiB and 1 MiB take 10, 20 and 100 pJ for 64 bits, at
45 nm and 0.9 V; the root gives 10, 20 and 113. They are carried to another process by C V^2, with C as the feature
size. A write costs what a read does, however many of its bits are masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from nncosim.tb.netlist.counting import Memory

__all__ = ["MemoryModel", "scaling"]

_BITS = 8 * 1024 * 8  # of the macro that the energy of a bit is given for
_NODE, _VOLTAGE = 45.0, 0.9


@dataclass(frozen=True)
class MemoryModel:
    """`bit`: energy of a bit of an access to 8 KiB, in pJ, at `node` (nm) and `voltage` (V)."""

    bit: float = 10 / 64
    node: float = _NODE
    voltage: float = _VOLTAGE

    def access(self, memory: Memory, node: float, voltage: float) -> float:
        """Of one read or write, in pJ, in another process."""
        size = sqrt(memory.words * memory.bits / _BITS)
        return self.bit * memory.bits * size * scaling(self.node, self.voltage, node, voltage)


def scaling(node: float, voltage: float, to_node: float, to_voltage: float) -> float:
    """What an energy is multiplied with from one process to another: C V^2, with C as the feature size."""
    return to_node / node * (to_voltage / voltage) ** 2
