# SPDX-License-Identifier: Apache-2.0
"""What a cocotb test module uses: its arguments, its random numbers, fast clocks, reset.

Import it in modules that run inside the simulator only.
"""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cocotb.clock import Clock
from cocotb.handle import HierarchyObject, LogicObject
from cocotb.simtime import TimeUnit, convert
from cocotb.triggers import ClockCycles, ReadOnly, current_gpi_trigger
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.backdoor import load_clocks
from nncosim.tb.sim.cocotb_limit import arm, at_end_of_test
from nncosim.tb.sim.cocotb_runner import ARGUMENTS_VARIABLE
from nncosim.tb.sim.model import reset_port

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

    Any number may run, each on a port of its own. Edges at the same time are one time step: all the ports change, who
    waits for one of them wakes, then the design is evaluated once, so that every register samples what was before all
    of them. (Clocks of cocotb's own come later in the step: a register of theirs sees what an edge of a `FreeClock` at
    the same time did. Where that matters, let all be of one kind.) A clock ends with the test that started it.

    What counts cycles (`Backdoor.cycles`, a waveform's window) counts those of the `FreeClock` that was started while
    no other ran; the limit of a test, those of the first clock that it starts, of either kind.

    Args:
        handle: A one-bit input port of the top.
        period: Clock period, in `unit`; an even number of the simulation's steps of time.
        phase: From `start` to the first rising edge, in `unit`; half a period where it is not given. 0: rises at once.

    Raises:
        BenchError: If there is no such period or phase.
    """

    def __init__(self, handle: LogicObject, period: float, unit: TimeUnit = "ns", *, phase: float | None = None):
        self.handle = handle
        self._name = str(handle._name)
        steps, self._running = self._steps("period", period, unit), False
        if steps < 2 or steps % 2:
            raise BenchError(f"FreeClock of {self._name!r}: a period of {period} {unit} has no two equal halves: it is "
                             f"{steps} steps of time, and an even number from 2 on is expected")
        self.half_steps = steps // 2
        self.phase_steps = self.half_steps if phase is None else self._steps("phase", phase, unit)
        self._library = load_clocks()

    def _steps(self, what: str, time: float, unit: TimeUnit) -> int:
        try:
            steps = convert(time, unit, to="step")
        except ValueError as problem:
            raise BenchError(f"FreeClock of {self._name!r}: a {what} of {time} {unit}: {problem}") from None
        if steps < 0 or steps != int(steps):
            raise BenchError(f"FreeClock of {self._name!r}: a {what} of {time} {unit} is {steps} steps of time, and a "
                             "whole number from 0 on is expected")
        return int(steps)

    def start(self) -> None:
        """Start with the low phase; the first rising edge comes `phase` from now.

        Raises:
            BenchError: If the handle is no input of the top, has a `FreeClock` that runs, or cannot be set now.
        """
        if isinstance(current_gpi_trigger(), ReadOnly):
            raise BenchError(f"FreeClock of {self._name!r}: a clock cannot be started in the ReadOnly phase")
        started = self._library.nncosim_start_clock(self._name.encode(), self.half_steps, self.phase_steps)
        if not started:
            raise BenchError(f"{self._name!r} is no one-bit input of the top: a FreeClock cannot drive it")
        if started < 0:
            raise BenchError(f"{self._name!r} has a FreeClock that runs; stop that one before another is started")
        self._running = True
        self.handle.value = int(not self.phase_steps)
        at_end_of_test(self.stop)
        arm(2 * self.half_steps)

    def stop(self) -> None:
        """Stop, if it runs; the port keeps its value."""
        if self._running:
            self._library.nncosim_stop_clock(self._name.encode())
        self._running = False


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


def start_clock(dut: HierarchyObject, period: float = 10, unit: TimeUnit = "ns", port: str = "clk") -> None:
    """Start cocotb's own clock (generated in C++) on a port of the top, ``dut.clk``."""
    Clock(port_of(dut, port), period, unit=unit).start()


async def reset(dut: HierarchyObject, cycles: int = 2, clocks: Sequence[str] = ("clk",)) -> None:
    """Hold the synchronous resets of these clock ports (`rst` of `clk`, `X_rst` of `X_clk`), together, for `cycles`
    cycles of the first of them."""
    clock, *signals = (port_of(dut, name) for name in (clocks[0], *map(reset_port, clocks)))
    for signal in signals:
        signal.value = 1
    await ClockCycles(clock, cycles)
    for signal in signals:
        signal.value = 0
