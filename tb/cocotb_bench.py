# SPDX-License-Identifier: Apache-2.0
"""What a cocotb test module uses: its arguments, its random numbers, a fast clock, reset.

Import it in modules that run inside the simulator only.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

from cocotb.clock import Clock
from cocotb.handle import HierarchyObject, LogicObject
from cocotb.simtime import TimeUnit, convert
from cocotb.triggers import ClockCycles
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.backdoor import load_library
from nncosim.tb.sim.cocotb_limit import arm
from nncosim.tb.sim.cocotb_runner import ARGUMENTS_VARIABLE

__all__ = ["FreeClock", "arguments", "port_of", "reset", "rng", "seed", "start_clock"]


def arguments() -> dict[str, Any]:
    """The `arguments` given to `run_cocotb`."""
    return dict(json.loads(Path(os.environ[ARGUMENTS_VARIABLE]).read_text()))


def seed() -> int:
    """The seed of this run."""
    return int(os.environ["COCOTB_RANDOM_SEED"])


def rng(name: str = "") -> random.Random:
    """A random generator of its own for each `name`, so that adding a stimulus does not disturb the others."""
    return random.Random(f"{seed()}/{name}")


class FreeClock:
    """A clock made by the simulator's own loop, without a callback for each edge.

    While nothing waits on a signal that changes, the simulation runs at the speed of a plain C++ loop. Edges are
    ordinary value changes: `RisingEdge(dut.clk)` works, at the usual cost. Do not drive the port otherwise.

    Args:
        handle: A one-bit input port of the top.
        period: Clock period, in `unit`.
    """

    def __init__(self, handle: LogicObject, period: float, unit: TimeUnit = "ns"):
        self.handle = handle
        self.half_steps = convert(period, unit, to="step") // 2
        self._library = load_library(None)

    def start(self) -> None:
        """Start with the low phase; the first rising edge comes half a period from now.

        Raises:
            BenchError: If the handle is no port of the top.
        """
        if not self._library.nncosim_free_clock(self.handle._name.encode(), self.half_steps):
            raise BenchError(f"{self.handle._name!r} is no one-bit port of the top: a FreeClock cannot drive it")
        arm(2 * self.half_steps)

    def stop(self) -> None:
        """Stop; the port keeps its value."""
        self._library.nncosim_free_clock(self.handle._name.encode(), 0)


def port_of(dut: HierarchyObject, name: str) -> LogicObject:
    """The handle of a port of the top. That of several bits is a `LogicArrayObject`, to be used in the same way.

    Raises:
        BenchError: It has none of that name; lists those it has.
    """
    try:
        port: LogicObject = getattr(dut, name)
        return port
    except AttributeError:
        found = ", ".join(sorted(handle._name for handle in dut)) or "none"
        why = "was it built from another component?"
        raise BenchError(f"{dut._name!r} has no port {name!r}; ports: {found}; {why}") from None


def start_clock(dut: HierarchyObject, period: float = 10, unit: TimeUnit = "ns") -> None:
    """Start cocotb's own clock (generated in C++) on ``dut.clk``."""
    Clock(port_of(dut, "clk"), period, unit=unit).start()


async def reset(dut: HierarchyObject, cycles: int = 2) -> None:
    """Hold the synchronous reset ``dut.rst`` for `cycles` cycles of ``dut.clk``."""
    clock, signal = port_of(dut, "clk"), port_of(dut, "rst")
    signal.value = 1
    await ClockCycles(clock, cycles)
    signal.value = 0
