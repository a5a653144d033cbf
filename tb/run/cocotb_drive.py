# SPDX-License-Identifier: Apache-2.0
"""The cocotb test that runs a chip's inferences; `nncosim.tb.run.drive` starts it.

The clock is the simulator's own, and Python sleeps until `stopped` rises, so it costs nothing a cycle.
"""

import pickle
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, First, ReadWrite, RisingEdge, Timer
from nncosim.tb.cocotb_bench import FreeClock, arguments
from nncosim.tb.run.drive import RESET_CYCLES, Driven, at_reset
from nncosim.tb.sim.backdoor import attach
from nncosim.tb.system.progress import leave_cycles

__all__ = ["run_image"]


LOOK_CYCLES = 20_000
"""From one sign of progress to the next: some tenths of a second."""


async def _stops(dut, model, limit, period):
    """Wait for `stopped`, at most `limit` cycles, and leave the cycle count in a file for who waits outside."""
    for _ in range(0, limit, LOOK_CYCLES):
        await First(RisingEdge(dut.stopped), Timer(min(limit, LOOK_CYCLES) * period, "ps"))
        leave_cycles(model.cycles)
        if int(dut.stopped.value):
            return
        limit -= LOOK_CYCLES


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

    for port, value in session.held.items():
        getattr(dut, port).value = value
    dut.rst.value = 1
    clock = FreeClock(dut.clk, chip.period_ps, "ps")
    clock.start()
    await ClockCycles(dut.clk, RESET_CYCLES)
    dut.rst.value = 0
    raw: list[object] = []
    for number in range(chip.inferences):
        begun = session.begin(number, read if raw else at_reset)
        for port, value in begun.first.items():
            getattr(dut, port).value = value
        await RisingEdge(dut.clk)
        for port in begun.pulsed:
            getattr(dut, port).value = 0
        await _stops(dut, model, job["limit"], chip.period_ps)
        if int(dut.stopped.value):
            # The monitors read the counters at that edge, before which cocotb wakes.
            await FallingEdge(dut.clk)
            await ReadWrite()
        raw.append(session.take(begun))
        if not int(dut.stopped.value) or any(map(read, chip.failed)):
            break
    clock.stop()
    probes = {name: read(name) for name in chip.probes}
    (folder / "result.pickle").write_bytes(pickle.dumps(Driven(raw, probes, "")))
