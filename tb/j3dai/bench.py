# SPDX-License-Identifier: Apache-2.0
"""The test bench of J3DAI: its backends behind the interface of `nncosim.tb.backend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Entering, GateChoice, MutationPlan, RunResult
from nncosim.tb.errors import BenchError
from nncosim.tb.fpga.block import FpgaBlock
from nncosim.tb.j3dai.blocks import TIMING_BLOCKS, time_block
from nncosim.tb.j3dai.build import soc_verilog
from nncosim.tb.j3dai.faults import J3daiFaults, build_faulty_soc
from nncosim.tb.j3dai.fpga import FPGA_BLOCKS, fpga_block, fpga_vectors
from nncosim.tb.j3dai.inside import module_of
from nncosim.tb.j3dai.iss_backend import run_iss, standing
from nncosim.tb.j3dai.netlist import BLOCKS
from nncosim.tb.j3dai.power import energy_run
from nncosim.tb.j3dai.rtl import run_netlist, run_rtl
from nncosim.tb.j3dai.units import UNITS, unit_part
from nncosim.tb.lockstep import Difference
from nncosim.tb.netlist.mapping import Part
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.power.account import Process
from nncosim.tb.power.run import EnergyRun
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.waves import Trace
from nncosim.tb.system.progress import building
from nncosim.tb.timing.sta import OSU018, TimingReport

__all__ = ["BENCH", "J3daiBench"]


class J3daiBench:
    """Backends: rtl (the Verilated SoC; drivers cocotb and direct), netlist (the same with blocks of it as gates; see
    `nncosim.tb.j3dai.netlist`) and iss (the instruction-set simulator)."""

    backends: ClassVar[tuple[str, ...]] = ("rtl", "iss", "netlist")
    waveforms: ClassVar[tuple[str, ...]] = ("rtl",)
    entries: ClassVar[tuple[str, ...]] = ("rtl", "netlist")
    observable: ClassVar[tuple[str, ...]] = ("rtl", "iss")
    patchable: ClassVar[tuple[str, ...]] = ("rtl",)
    injectable: ClassVar[tuple[str, ...]] = ("rtl",)
    drivers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rtl": ("cocotb", "direct"), "iss": (), "netlist": ("direct", "cocotb")}
    gates: ClassVar[tuple[str, ...]] = ("netlist",)
    gate_blocks: ClassVar[tuple[str, ...]] = tuple(BLOCKS)
    timing_blocks: ClassVar[Mapping[str, str]] = {name: what for name, (what, _) in TIMING_BLOCKS.items()}
    fpga_blocks: ClassVar[Mapping[str, str]] = {name: what for name, (_, what) in FPGA_BLOCKS.items()}
    layout_blocks: ClassVar[tuple[str, ...]] = tuple(UNITS)
    mutation: ClassVar[MutationPlan] = MutationPlan(
        "nncosim.hdl.j3dai.soc",
        # A port of its own and a multicast need two clusters; few PEs need several cycles for a record of parameters,
        # and narrow words fill the largest address range.
        ({"clusters": 2}, {"clusters": 1, "ncbs_per_cluster": 8, "pes_per_ncb": 4, "dmpa_bits": 256,
                           "l1_bytes": 1 << 17, "wmem_bytes": 1 << 17}),
        "regress/networks/digits.onnx", "nncosim.regress.j3dai_first_difference")

    def run(
        self,
        platform: J3dai,
        image: bytes,
        inputs: Sequence[Mapping[str, np.ndarray]],
        *,
        backend: str,
        driver: str | None = None,
        limit_cycles: int | None = None,
        seed: int = 0,
        trace: Trace | None = None,
        progress: Callable[[str], None] | None = None,
        entering: Entering | None = None,
        observe: bool = False,
        patch: RtlPatch | None = None,
        gates: GateChoice | None = None,
    ) -> RunResult:
        """See `nncosim.tb.backend.Bench.run`. entering: how image and inputs come in, where not by back doors.
        observe: record what passes the machine's boundaries (`nncosim.tb.backend.RunResult.channels`). patch: of the
        RTL. gates: what of the machine, on the backend netlist.

        Raises:
            BenchError: no such backend, a waveform asked of the iss, a build that failed.
            ImageError: an image that does not fit the platform.
        """
        if not isinstance(platform, J3dai):
            raise BenchError(f"the bench of J3DAI runs the platform 'j3dai', not {platform.name!r}")
        if backend == "iss":
            if trace is not None:
                raise BenchError("the iss has no signals to trace; use the backend rtl for a waveform")
            if patch is not None:
                raise BenchError("the iss has no RTL to patch; use the backend rtl")
            if entering:
                raise BenchError("the iss has no entry port; use the backend rtl to boot or stream over it")
            return run_iss(platform, image, inputs, limit_cycles=limit_cycles, seed=seed, observe=observe)
        if backend not in self.backends:
            raise BenchError(f"J3DAI has no backend {backend!r}; it has {', '.join(self.backends)}")
        if backend == "netlist":
            if trace is not None or observe or patch is not None:
                raise BenchError("a waveform, records of what passes the boundaries between blocks and a patch are of "
                                 "the RTL; use the backend rtl")
            gates = gates or GateChoice()
            blocks = tuple(block for block in BLOCKS if block in gates.blocks or "all" in gates.blocks)
            return run_netlist(
                platform, image, inputs, blocks, gates.liberty or OSU018, gates.beside_rtl, driver=driver or "direct",
                limit_cycles=limit_cycles, seed=seed, progress=progress, entering=entering or Entering(),
            )  # fmt: skip
        return run_rtl(
            platform, image, inputs, driver=driver or "cocotb", limit_cycles=limit_cycles, seed=seed, trace=trace,
            progress=progress, entering=entering or Entering(), observe=observe, patch=patch,
        )  # fmt: skip

    def verilog(self, platform: J3dai) -> Mapping[str, str]:
        """See `nncosim.tb.backend.Patchable`."""
        return soc_verilog(platform)

    def time_block(self, platform: J3dai, block: str, liberty: Path) -> TimingReport:
        """See `nncosim.tb.backend.Timed`, and `nncosim.tb.j3dai.blocks`."""
        return time_block(platform, block, liberty)

    def fpga_block(self, platform: J3dai, block: str) -> FpgaBlock:
        """See `nncosim.tb.fpga.bench.OnFpga`, and `nncosim.tb.j3dai.fpga`."""
        return fpga_block(platform, block)

    def fpga_vectors(self, platform: J3dai, block: str, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]]
                     ) -> Vectors:
        """See `nncosim.tb.fpga.bench.OnFpga`, and `nncosim.tb.j3dai.fpga`."""
        return fpga_vectors(platform, block, image, inputs)

    def layout_part(self, platform: J3dai, block: str) -> Part:
        """See `nncosim.tb.layout.bench.LaidOut`, and `nncosim.tb.j3dai.units`."""
        return unit_part(platform, block)

    def energy(
        self, platform: J3dai, image: bytes, inputs: Mapping[str, np.ndarray], process: Process, liberty: Path, *,
        limit_cycles: int | None = None, seed: int = 0, progress: Callable[[str], None] | None = None,
    ) -> EnergyRun:
        """See `nncosim.tb.power.run.Powered`, and `nncosim.tb.j3dai.power.energy_run`."""
        return energy_run(platform, image, inputs, process, liberty, limit_cycles=limit_cycles, seed=seed,
                          progress=progress)  # fmt: skip

    def fault_target(
        self, platform: J3dai, image: bytes, inputs: Mapping[str, np.ndarray],
        progress: Callable[[str], None] | None = None,
    ) -> J3daiFaults:
        """See `nncosim.tb.backend.Injectable`."""
        return J3daiFaults(build_faulty_soc(platform, building(progress)), platform, image, inputs)

    def standing(
        self, platform: J3dai, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]], seed: int,
        first: Difference,
    ) -> list[str]:
        """See `nncosim.tb.backend.Observable`, and `nncosim.tb.j3dai.iss_backend.standing`."""
        return standing(platform, image, inputs, seed, first.cycle)

    def module_of(self, platform: J3dai, block: str) -> str:
        """See `nncosim.tb.j3dai.inside.module_of`."""
        return module_of(platform, block)


BENCH = J3daiBench()
