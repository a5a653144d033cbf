# SPDX-License-Identifier: Apache-2.0
"""How fast a built simulation runs under each driver, against a bare C++ loop over the same model.

    python -m nncosim.tb.benchmark [--cycles N] [--repeats R] [MODULE:FUNCTION]

FUNCTION returns the `BuiltModel`, or the `BuiltModel` and a function `prepare(memories, drive)` that sets memories
(``memories.memory("l2")[:] = ...``, a `Backdoor`) and inputs (``drive("start", 1)``) before the reset. Without it a MAC
array with SRAMs is measured. Times are the process's CPU time; of the repeats, interleaved, the fastest counts.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cocotb
import numpy as np
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.handle import HierarchyObject
from cocotb.triggers import Timer
from nncosim.hdl.emit import Block, emit_design
from nncosim.hdl.sram import Sram
from nncosim.platforms.errors import NncosimError
from nncosim.tb.cocotb_bench import FreeClock, arguments, port_of, reset, start_clock
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.backdoor import Backdoor, attach
from nncosim.tb.sim.cocotb_runner import run_cocotb
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

__all__ = ["MacArray", "Prepare", "measure"]

PERIOD_NS = 10
DRIVERS = ("bare C++ loop", "direct driver", "cocotb, FreeClock", "cocotb, its own Clock")


Prepare = Callable[[Backdoor, Callable[[str, int], None]], None]


def measure(reference: str | None, cycles: int, repeats: int) -> dict[str, float]:
    """Cycles per second of CPU time by driver, for the design that `reference` ("module:function") names."""
    built, prepare = _design(reference)
    best = dict.fromkeys(DRIVERS, 0.0)
    with Model(built) as model, tempfile.TemporaryDirectory() as folder:
        prepare(model, model.__setitem__)
        model.reset()
        for _ in range(repeats):
            for name, run in (("bare C++ loop", _bare(model)), ("direct driver", model.tick)):
                start = time.process_time()
                run(cycles)
                best[name] = max(best[name], cycles / (time.process_time() - start))
            for name, free in (("cocotb, FreeClock", True), ("cocotb, its own Clock", False)):
                results = Path(folder) / "seconds"
                run_cocotb(built, __spec__.name if __spec__ else __name__, Path(folder), arguments={
                    "reference": reference, "cycles": cycles, "free": free, "results": str(results)})
                best[name] = max(best[name], cycles / float(results.read_text()))
    return best


def _bare(model: Model) -> Callable[[int], None]:
    return lambda cycles: model.handle.library.nncosim_bare_loop(model.handle.address, cycles)


@cocotb.test()
async def timed(dut: HierarchyObject) -> None:
    """Run inside the simulator: the cycles asked for, with nothing for Python to do."""
    given = arguments()
    _, prepare = _design(given["reference"])
    prepare(attach(), lambda port, value: setattr(getattr(dut, port), "value", value))
    if given["free"]:
        FreeClock(port_of(dut, "clk"), PERIOD_NS).start()
    else:
        start_clock(dut, PERIOD_NS)
    await reset(dut)
    start = time.process_time()
    await Timer(given["cycles"] * PERIOD_NS, "ns")
    Path(given["results"]).write_text(str(time.process_time() - start))


def _design(reference: str | None) -> tuple[BuiltModel, Prepare]:
    if reference is None:
        return build(emit_design(MacArray(), "mac_array"), "mac_array", progress=_show_progress), _prepare_mac_array
    module, _, name = reference.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise BenchError(f"benchmark design {reference!r} must be MODULE:FUNCTION: {problem}") from problem
    result = function()
    return result if isinstance(result, tuple) else (result, lambda memories, drive: None)


class MacArray(wiring.Component):
    """96 blocks of 8 multiply-accumulators, each block reading activations and weights from SRAMs of its own."""

    def __init__(self, blocks: int = 96, macs: int = 8, depth: int = 256):
        self.blocks, self.macs, self.depth = blocks, macs, depth
        super().__init__({"run": In(1), "total": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address = Signal(range(self.depth))
        m.d.sync += address.eq(address + self.run)
        total = 0
        for index in range(self.blocks):
            m.submodules[f"block_{index}"] = block = Block(_MacBlock(self.macs, self.depth), "mac_block")
            m.d.comb += [block.run.eq(self.run), block.address.eq(address)]
            total = total ^ block.total
        m.d.sync += self.total.eq(total)
        return m


class _MacBlock(wiring.Component):
    def __init__(self, macs: int, depth: int):
        self.macs, self.depth = macs, depth
        super().__init__({"run": In(1), "address": In(range(depth)), "total": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.activations = activations = Sram(self.depth, 8)
        m.submodules.weights = weights = Sram(self.depth, 8 * self.macs)
        valid, checksum = Signal(), 0
        m.d.sync += valid.eq(self.run)
        for memory in (activations, weights):
            m.d.comb += [memory.r_en.eq(self.run), memory.r_addr.eq(self.address)]
        for index in range(self.macs):
            product, accumulator = Signal(signed(16), name=f"product_{index}"), Signal(signed(32), name=f"acc_{index}")
            weight = weights.r_data.word_select(index, 8).as_signed()
            m.d.sync += product.eq(activations.r_data.as_signed() * weight)
            with m.If(valid):
                m.d.sync += accumulator.eq(accumulator + product)
            checksum = checksum ^ accumulator
        m.d.comb += self.total.eq(checksum)
        return m


def _prepare_mac_array(memories: Backdoor, drive: Callable[[str, int], None]) -> None:
    rng = np.random.default_rng(1)
    for index in range(96):
        for name in ("activations", "weights"):
            array = memories.memory(f"block_{index}.{name}", np.uint8)
            array[:] = rng.integers(0, 256, array.shape, dtype=np.uint8)
    drive("run", 1)


def _show_progress(step: str, done: int, total: int) -> None:
    print(f"\r{step} {done}/{total}   ", end="", file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m nncosim.tb.benchmark", description="Speed of each driver.")
    parser.add_argument("design", nargs="?", metavar="MODULE:FUNCTION")
    parser.add_argument("--cycles", type=int, default=300_000, help="cycles a measurement (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements a driver (default %(default)s)")
    chosen = parser.parse_args()
    try:
        speeds = measure(chosen.design, chosen.cycles, chosen.repeats)
    except NncosimError as problem:
        print(problem, file=sys.stderr)
        return 2
    print()
    for name, speed in speeds.items():
        print(f"{name:24} {speed:14,.0f} cycles/s  {speed / speeds[DRIVERS[0]]:7.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
