# SPDX-License-Identifier: Apache-2.0
"""The cocotb test that runs a chip's inferences; `nncosim.tb.run.drive` starts it.

The clocks are the simulator's own, and Python sleeps until `stopped` rises, so they cost nothing a cycle.
"""

import pickle
from pathlib import Path

import cocotb
from cocotb.simtime import get_sim_time
from cocotb.triggers import First, ReadWrite, RisingEdge, Timer
from nncosim.tb.cocotb_bench import FreeClock, arguments
from nncosim.tb.run.drive import RESET_CYCLES, Driven, at_reset
from nncosim.tb.sim.backdoor import attach
from nncosim.tb.sim.model import periods_and_phases, reset_port
from nncosim.tb.system.progress import leave_cycles

__all__ = ["run_image"]


LOOK_CYCLES = 20_000
"""From one sign of progress to the next: some tenths of a second."""


class _Clocks:
    """All clocks of a chip, which first rise as under the direct driver, half a cycle after they are started.

    A cycle of `clk` ends in the last step of time before its next rising edge. What is set then, every clock shows the
    design at the same edge as under the direct driver, which sets ports between two cycles.
    """

    def __init__(self, dut, chip):
        half = chip.period_ps // 2
        others = periods_and_phases(chip.other_clocks).items()
        self.period = 2 * half
        self._running = [FreeClock(dut.clk, self.period, "ps")]
        self._running += [FreeClock(getattr(dut, port), period, "ps", phase=half + phase)
                          for port, (period, phase) in others]  # fmt: skip
        self._last = int(get_sim_time("step")) + half - 1
        for clock in self._running:  # that of `clk` first, whose cycles count
            clock.start()

    async def cycle_ends(self, further=0):
        """Wait for the end of the cycle that runs, which may be now, and of `further` ones behind it.

        Then edges in this step of time have been evaluated.
        """
        left = (self._last - int(get_sim_time("step"))) % self.period + further * self.period
        if left:
            await Timer(left, "step")
        await ReadWrite()

    def stop(self):
        for clock in self._running:
            clock.stop()


async def _stops(dut, model, limit, period):
    """Wait for `stopped`, at most `limit` cycles, and leave the cycle count in a file for who waits outside."""
    for _ in range(0, limit, LOOK_CYCLES):
        if int(dut.stopped.value):
            return
        await First(RisingEdge(dut.stopped), Timer(min(limit, LOOK_CYCLES) * period, "ps"))
        leave_cycles(model.cycles)
        limit -= LOOK_CYCLES


async def _set_up(dut, chip, session):
    """Start the clocks, and hold all resets for some cycles."""
    resets = ["rst", *(port for port in map(reset_port, chip.other_clocks) if hasattr(dut, port))]
    for port, value in (*session.held.items(), *((port, 1) for port in resets)):
        getattr(dut, port).value = value
    clocks = _Clocks(dut, chip)
    await clocks.cycle_ends(RESET_CYCLES)  # behind the half before the first rising edge
    for port in resets:
        getattr(dut, port).value = 0
    return clocks


@cocotb.test()
async def run_image(dut):
    """Run the inferences of ``job.pickle``; leaves ``result.pickle``."""
    folder = Path(arguments()["folder"])
    job = pickle.loads((folder / "job.pickle").read_bytes())
    chip, seed = job["chip"], arguments()["seed"]
    model = attach()
    model.poison(seed)
    session = chip.attach(model, seed)

    def read(port):
        return int(getattr(dut, port).value)

    clocks = await _set_up(dut, chip, session)
    raw: list[object] = []
    for number in range(chip.inferences):
        begun = session.begin(number, read if raw else at_reset)
        for port, value in begun.first.items():
            getattr(dut, port).value = value
        await clocks.cycle_ends(1)
        for port in begun.pulsed:
            getattr(dut, port).value = 0
        await _stops(dut, model, job["limit"], clocks.period)
        await clocks.cycle_ends()
        raw.append(session.take(begun))
        if not int(dut.stopped.value) or any(map(read, chip.failed)):
            break
    clocks.stop()
    probes = {name: read(name) for name in chip.probes}
    (folder / "result.pickle").write_bytes(pickle.dumps(Driven(raw, probes, "")))
