# SPDX-License-Identifier: Apache-2.0
"""A block of a machine, from Verilog to where it stands on an FPGA and what it does there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nncosim.tb.fpga.device import Device
from nncosim.tb.fpga.ports import PortBit, port_bits
from nncosim.tb.fpga.replay import Replayed, replayed
from nncosim.tb.fpga.route import Routed, nextpnr_version, route
from nncosim.tb.fpga.synthesis import synthesized
from nncosim.tb.netlist.icarus import icarus_command
from nncosim.tb.netlist.recorded import CLOCK, RESET, Vectors, random_values
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build
from nncosim.tb.system.progress import PLACING, Progress
from nncosim.tb.timing.synthesis import yosys_version

__all__ = ["BlockOnFpga", "FpgaBlock", "check_tools", "place_block", "random_vectors"]

RESET_EDGES = 4


@dataclass(frozen=True)
class FpgaBlock:
    """A block by the name that the bench has for it. `sources`: its Verilog, file name to text, of the module `top`,
    with `hdl/sram.v` where it has memories."""

    name: str
    what: str
    top: str
    sources: Mapping[str, str]


@dataclass(frozen=True)
class BlockOnFpga:
    """A block that is placed and routed. `bits`: of its ports."""

    block: FpgaBlock
    routed: Routed
    bits: tuple[PortBit, ...]

    def replay(self, vectors: Vectors) -> Replayed:
        """As `nncosim.tb.fpga.replay.replayed`."""
        return replayed(self.routed, self.bits, self.block.sources, vectors)


def check_tools() -> None:
    """For what takes minutes before the last of them is needed.

    Raises:
        ToolError: Yosys, nextpnr or Icarus Verilog is not installed.
    """
    yosys_version()
    nextpnr_version()
    icarus_command()


def place_block(block: FpgaBlock, device: Device, seed: int, say: Progress = lambda text: None) -> BlockOnFpga:
    """Synthesize, place and route a block, or find that done.

    Raises:
        ToolError, BenchError, ToolCrash: as `nncosim.tb.fpga.synthesis.synthesized` and `nncosim.tb.fpga.route.route`.
    """
    nextpnr_version()  # rather than after the minutes that synthesis may take
    say(f"{block.name}: synthesizing")
    module = synthesized(block.sources, block.top)
    say(f"{block.name}: {PLACING}")
    return BlockOnFpga(block, route(module, block.top, device, seed), tuple(port_bits(module)))


def random_vectors(block: FpgaBlock, bits: tuple[PortBit, ...], edges: int, seed: int) -> Vectors:
    """Random inputs at each edge, the first under reset, and what the block's RTL gives, in Verilator; its memories are
    0 at first.

    Raises:
        BuildError, ToolError: the RTL does not build.
    """
    rng = np.random.default_rng(seed)
    with Model(build(block.sources, block.top)) as model:
        for memory in model.memories:
            model.memory(memory)[:] = 0
        ports = {port: width for port, (_, width) in model.ports.items() if port != CLOCK}
        inputs = [port for port in ports if model.ports[port][0] == "in"]
        given = {port: random_values(rng, ports[port], edges) for port in inputs if port != RESET}
        if RESET in inputs:
            given[RESET] = (np.arange(edges) < RESET_EDGES).astype(np.uint64)
        found: dict[str, list[int]] = {port: [] for port in ports if port not in inputs}
        for edge in range(edges):
            for port, values in given.items():
                model[port] = int(values[edge])
            for port, seen in found.items():
                seen.append(model[port])
            model.tick()
    return Vectors(f"random inputs, seed {seed}", ports, given,
                   {port: np.array(seen, np.uint64 if ports[port] <= 64 else object) for port, seen in found.items()})
