# SPDX-License-Identifier: Apache-2.0
"""What the benches of single blocks share: a simulation that can be reset, corners of operands, pairs of events."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from amaranth.hdl import ResetInserter, Shape, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Opcode
from nncosim.platforms.j3dai import PLATFORM, J3dai

__all__ = ["MACHINES", "any_word", "corner", "corners", "garbage", "machine", "simulate", "word"]

MACHINES = ((16, 8), (8, 4), (32, 16))
"""NCBs and PEs: the default machine, and two that differ from it in all that its 16 x 8 could hide."""


def machine(ncbs: int, pes: int) -> J3dai:
    """The default machine with clusters of this size, and with the memories that such a cluster can have."""
    size = ncbs // 16 or 1
    return PLATFORM.with_parameters(ncbs_per_cluster=ncbs, pes_per_ncb=pes, l1_bytes=64 * 1024 * size,
                                    dmpa_bits=min(1024, 8 * ncbs * pes))


def corner(rng: np.random.Generator, bits: int, signed: bool = False, often: float = 0.5) -> int:
    """A number of so many bits: as `often` as said one of the extremes, a power of two or its neighbour."""
    low = -(1 << (bits - 1)) if signed else 0
    high = low + (1 << bits) - 1
    if rng.random() >= often:
        return int(rng.integers(low, high + 1))
    power = 1 << int(rng.integers(bits))
    value = int(rng.choice([0, 1, low, low + 1, high, high - 1, power, power + 1, power - 1, -power]))
    return min(max(value, low), high)


def corners(rng: np.random.Generator, opcode: Opcode, often: float = 0.5, **fixed: int) -> dict[str, int]:
    """Fields of an instruction, each a `corner` of its width but for the `fixed` ones."""
    out = {}
    for name, field in INSTRUCTIONS[opcode].as_shape():
        shape = Shape.cast(field.shape)
        if name != "opcode":
            out[name] = fixed[name] if name in fixed else corner(rng, shape.width, shape.signed, often)
    return out


def word(opcode: Opcode, fields: dict[str, int]) -> int:
    return encode(INSTRUCTIONS[opcode], opcode=int(opcode), **fields)


def any_word(rng: np.random.Generator) -> int:
    """64 bits that look like an instruction: what stands in the instruction register while nothing executes."""
    return int(rng.choice([int(o) for o in Opcode])) | int(rng.integers(1 << 58)) << 6


def garbage(ctx: Any, rng: np.random.Generator, *ports: Any) -> None:
    """Any value on ports that do not count in this cycle."""
    for port in ports:
        bits = len(port)
        ctx.set(port, int.from_bytes(rng.bytes((bits + 7) // 8), "little") & ((1 << bits) - 1))


def simulate(dut: wiring.Component, bench: Callable[..., Coroutine[Any, Any, None]], reset: bool = False) -> None:
    """Run `bench(ctx)`, or with `reset` `bench(ctx, signal)`: the signal resets the block."""
    signal = Signal(name="reset_block")
    simulator = Simulator(ResetInserter(signal)(dut) if reset else dut)
    simulator.add_clock(1e-6, if_exists=True)  # a block may be combinational
    if reset:
        async def with_reset(ctx: Any) -> None:
            await bench(ctx, signal)
        simulator.add_testbench(with_reset)
    else:
        simulator.add_testbench(bench)
    simulator.run()
