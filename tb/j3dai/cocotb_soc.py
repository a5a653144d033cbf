# SPDX-License-Identifier: Apache-2.0
"""The cocotb test that runs an image on the J3DAI SoC; `nncosim.tb.j3dai.rtl` starts it.

The clock is the simulator's own, and Python sleeps until `stopped` rises, so it costs nothing a cycle.
"""

import pickle
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, First, ReadWrite, RisingEdge, Timer
from nncosim.compiler.image.image import Image
from nncosim.tb.cocotb_bench import FreeClock, arguments
from nncosim.tb.j3dai.l1_capture import inside_places
from nncosim.tb.j3dai.rtl import PROBES, RawFrame, load_image, take_records, write_inputs
from nncosim.tb.j3dai.sensor import Sensor
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
    """Run the frames of ``job.pickle``; leaves ``result.pickle``."""
    folder = Path(arguments()["folder"])
    job = pickle.loads((folder / "job.pickle").read_bytes())
    platform, image = job["platform"], Image.from_bytes(job["image"])
    model = attach()
    model.poison(arguments()["seed"])
    entering = job["entering"]
    sensor = Sensor(model, platform, image, job["inputs"], entering) if entering else None
    if not entering.bus:
        load_image(model, platform, image)
    period = 10**12 // platform.clock_hz
    dut.frame.value = 0
    dut.boot.value = int(entering.bus)
    dut.sensor_limit.value = 0
    dut.stop_at.value = 0
    dut.monitor_enable.value = 1
    dut.monitor_l1.value = int(bool(inside_places(image)))
    dut.rst.value = 1
    clock = FreeClock(dut.clk, period, "ps")
    clock.start()
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    raw: list[RawFrame] = []
    for number, values in enumerate(job["inputs"]):
        loaded = {}  # nothing is loaded by back doors where it comes in by the port
        start = int(dut.probe_cycle.value) if raw else 0
        if sensor is None:
            loaded = write_inputs(model, image, values, platform, arguments()["seed"] + number)
            dut.frame.value = 1
        else:
            dut.sensor_limit.value = sensor.limit(number, int(dut.sensor_sent.value) if raw else 0)
            dut.stop_at.value = number + 1
        await RisingEdge(dut.clk)
        dut.frame.value = 0
        await _stops(dut, model, job["limit"], period)
        if int(dut.stopped.value):
            # The monitors read the counters at that edge, before which cocotb wakes.
            await FallingEdge(dut.clk)
            await ReadWrite()
        raw.append(take_records(model, platform, image, start, loaded))
        if not int(dut.stopped.value) or int(dut.trap.value) or int(dut.error.value):
            break
    clock.stop()
    probes = {name: int(getattr(dut, name).value) for name in PROBES}
    (folder / "result.pickle").write_bytes(pickle.dumps({"raw": raw, "probes": probes, "stopped": ""}))
