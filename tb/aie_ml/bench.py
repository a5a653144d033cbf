# SPDX-License-Identifier: Apache-2.0
"""The test bench of the AIE-ML-like tile: its backends behind the interface of `nncosim.tb.backend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.build import small_array
from nncosim.tb.aie_ml.cycles import CYCLE_MODEL
from nncosim.tb.aie_ml.iss_backend import run_iss
from nncosim.tb.aie_ml.observe import module_of
from nncosim.tb.aie_ml.rtl import run_rtl
from nncosim.tb.aie_ml.standing import standing
from nncosim.tb.aie_ml.timing import TIMING_BLOCKS, time_block
from nncosim.tb.aie_ml.units import UNITS, UNITS_ARE, unit_on_fpga, unit_part
from nncosim.tb.backend import MutationPlan, RunResult
from nncosim.tb.errors import BenchError
from nncosim.tb.fpga.block import FpgaBlock
from nncosim.tb.iss.elf import IssError
from nncosim.tb.lockstep import Difference
from nncosim.tb.netlist.mapping import Part
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.waves import Trace
from nncosim.tb.timing.sta import TimingReport

__all__ = ["BENCH", "AieMlBench"]


class AieMlBench:
    """Backends: rtl (the Verilated tile; drivers cocotb and direct) and iss (the instruction-set simulator)."""

    backends: ClassVar[tuple[str, ...]] = ("rtl", "iss")
    waveforms: ClassVar[tuple[str, ...]] = ("rtl",)
    observable: ClassVar[tuple[str, ...]] = ("rtl", "iss")
    patchable: ClassVar[tuple[str, ...]] = ("rtl",)
    hazard_checks: ClassVar[tuple[str, ...]] = ("rtl",)
    drivers: ClassVar[Mapping[str, tuple[str, ...]]] = {"rtl": ("cocotb", "direct"), "iss": ()}
    timing_blocks: ClassVar[Mapping[str, str]] = {name: what for name, (what, _) in TIMING_BLOCKS.items()}
    layout_blocks: ClassVar[tuple[str, ...]] = tuple(UNITS)
    fpga_blocks: ClassVar[Mapping[str, str]] = UNITS_ARE
    mutation: ClassVar[MutationPlan] = MutationPlan(
        "nncosim.hdl.aie_ml.array", ({},), "regress/networks/dense.onnx", "nncosim.regress.aie_ml_first_difference")

    def run(
        self,
        platform: AieMl,
        image: bytes,
        inputs: Sequence[Mapping[str, np.ndarray]],
        *,
        backend: str,
        driver: str | None = None,
        limit_cycles: int | None = None,
        seed: int = 0,
        trace: Trace | None = None,
        progress: Callable[[str], None] | None = None,
        hazards: bool = True,
        patch: RtlPatch | None = None,
        observe: bool = False,
    ) -> RunResult:
        """See `nncosim.tb.backend.Bench.run`.

        Args:
            hazards: on rtl, a violated latency ends the run with a "check" diagnosis (`nncosim.tb.aie_ml.hazards`).
            patch: of the RTL. observe: record what passes the machine's boundaries
                (`nncosim.tb.backend.RunResult.channels`).

        Raises:
            BenchError: no such backend, a waveform asked of the iss or behind the end of the run, a build that failed.
            ImageError: an image that does not fit the platform.
        """
        if backend == "iss":
            if trace is not None:
                raise BenchError("the iss has no signals to trace; use the backend rtl for a waveform")
            if patch is not None:
                raise BenchError("the iss has no RTL to patch; use the backend rtl")
            return run_iss(platform, image, inputs, limit_cycles=limit_cycles, seed=seed, observe=observe)
        if backend != "rtl":
            raise BenchError(f"AIE-ML has no backend {backend!r}; it has {', '.join(self.backends)}")
        return run_rtl(platform, image, inputs, driver=driver or "cocotb", limit_cycles=limit_cycles, seed=seed,
                       trace=trace, progress=progress, hazards=hazards, patch=patch,
                       observe=observe)  # fmt: skip

    def time_block(self, platform: AieMl, block: str, liberty: Path) -> TimingReport:
        """See `nncosim.tb.backend.Timed`, and `nncosim.tb.aie_ml.timing`."""
        return time_block(platform, block, liberty)

    def layout_part(self, platform: AieMl, block: str) -> Part:
        """See `nncosim.tb.layout.bench.LaidOut`, and `nncosim.tb.aie_ml.units`."""
        return unit_part(platform, block)

    def fpga_block(self, platform: AieMl, block: str) -> FpgaBlock:
        """See `nncosim.tb.fpga.bench.OnFpga`, and `nncosim.tb.aie_ml.units`."""
        return unit_on_fpga(platform, block)

    def interval(self, platform: AieMl, image: bytes) -> float | None:
        """See `nncosim.tb.backend.HasInterval`: the simulator's."""
        try:
            return CYCLE_MODEL.steady(image, platform)
        except IssError:
            return None

    def standing(
        self, platform: AieMl, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]], seed: int,
        first: Difference,
    ) -> list[str]:
        """See `nncosim.tb.backend.Observable`."""
        return standing(platform, image, inputs, seed, first)

    def module_of(self, platform: AieMl, block: str) -> str:
        """See `nncosim.tb.aie_ml.observe.module_of`."""
        return module_of(platform, block)

    def verilog(self, platform: AieMl) -> Mapping[str, str]:
        """See `nncosim.tb.backend.Patchable`, `Mutable`: tiles of both kinds, and two columns of an array of them."""
        return small_array(platform)


BENCH = AieMlBench()
