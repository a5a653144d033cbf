# SPDX-License-Identifier: Apache-2.0
"""What the benches of single blocks share: a simulation that can be reset, corners of operands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from importlib import import_module
from typing import Any

import numpy as np
from amaranth.hdl import ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator
from nncosim.regress import block_backend
from nncosim.tb.sim.model import Model

__all__ = ["ENDS", "VISIBLE", "clocked", "corner", "garbage", "simulate"]

ENDS = (0, (1 << 8) - 2, (1 << 10) - 2, (1 << 16) - 2, (1 << 20) - 2, (1 << 24) - 2, (1 << 31) - 2, (1 << 32) - 2)
"""Where carries begin that a run does not reach."""
VISIBLE = 'public_flat_rw -module "{top}" -var "{name}"'
"""For Verilator: a register that a bench may set."""


def corner(rng: np.random.Generator, bits: int, signed: bool = False, often: float = 0.5) -> int:
    """A number of so many bits: as `often` as said one of the extremes, a power of two or its neighbour."""
    low = -(1 << (bits - 1)) if signed else 0
    high = low + (1 << bits) - 1
    if rng.random() >= often:
        return int(rng.integers(low, high + 1))
    power = 1 << int(rng.integers(bits))
    value = int(rng.choice([0, 1, low, low + 1, high, high - 1, power, power + 1, power - 1, -power]))
    return min(max(value, low), high)


def garbage(ctx: Any, rng: np.random.Generator, *ports: Any) -> None:
    """Any value on ports that do not count in this cycle."""
    for port in ports:
        bits = len(port)
        ctx.set(port, int.from_bytes(rng.bytes((bits + 7) // 8), "little") & ((1 << bits) - 1))


def clocked(model: Model, steps: Generator[dict[str, int], Callable[[str], int], None]) -> None:
    """Drive a Verilated block. Each step gives the inputs of a cycle and is sent what reads ports in it."""
    inputs = next(steps, None)
    while inputs is not None:
        for name, value in inputs.items():
            model[name] = value
        try:
            inputs = steps.send(model.__getitem__)
        except StopIteration:
            inputs = None
        model.tick()


def simulate(dut: wiring.Component, bench: Callable[..., Coroutine[Any, Any, None]], reset: bool = False) -> None:
    """Run `bench(ctx)`, or with `reset` `bench(ctx, signal)`: the signal resets the block. With ``--backend netlist``
    on its gates."""
    signal = Signal(name="reset_block")
    if block_backend.GATES:
        # By a name that is put together: no bench depends on what its gates are made with (`nncosim.tb.affected`).
        import_module(f"{block_backend.__package__}.gate_context").simulate_gates(dut, bench, signal if reset else None)
        return
    simulator = Simulator(ResetInserter(signal)(dut) if reset else dut)
    simulator.add_clock(1e-6, if_exists=True)  # a block may be combinational
    if reset:
        async def with_reset(ctx: Any) -> None:
            await bench(ctx, signal)
        simulator.add_testbench(with_reset)
    else:
        simulator.add_testbench(bench)
    simulator.run()
