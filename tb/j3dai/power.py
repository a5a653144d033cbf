# SPDX-License-Identifier: Apache-2.0
"""What an inference on J3DAI takes of energy: its gates simulated with what changes in them counted
(`nncosim.tb.netlist.counting`), by block and by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from nncosim.platforms.base import Published
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.build import COUNTERS_STREAM, soc_verilog
from nncosim.tb.j3dai.netlist import BLOCKS, block_of, build_gates, netlist_design, soc_modules
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.counting import Counter
from nncosim.tb.power.account import Process, account
from nncosim.tb.power.run import EnergyRun
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuildProgress, BuiltModel
from nncosim.tb.system.progress import building, cycles_of

__all__ = ["NOT_COUNTED", "PUBLISHED", "build_counting", "energy_run"]

_CHAPTER = PLATFORM.published[0].source
_TOPOLOGIES = {each.network: each.topology for each in PLATFORM.published}
PUBLISHED = tuple(
    Published(network, "power at 30 frames/s", milliwatts, "mW", _CHAPTER, topology=_TOPOLOGIES[network])
    for network, milliwatts in (("MobileNetV1 256x192", 47.6), ("MobileNetV2 256x192", 30.5),
                                ("MobileNetV1-0.5 FPN 512x384", 63.8)))  # fmt: skip
"""Of the chip, in 28 nm FDSOI."""

NOT_COUNTED = ("SRAMs without an access, and their leakage",
               "clock trees; wires but for a capacitance that is given",
               "glitches: a net changes once a cycle at most")
"""What is not in the energies."""


def build_counting(platform: J3dai, liberty: Path, *, quick: bool = False, jobs: int = 2,
                   progress: BuildProgress | None = None) -> tuple[BuiltModel, tuple[Counter, ...]]:
    """The SoC with all blocks as gates that count, and what they count. quick: as of
    `nncosim.tb.j3dai.netlist.build_gates`.

    Raises:
        BuildError, ToolError, BenchError, ToolCrash: as `nncosim.tb.j3dai.netlist.build_with_names`.
    """
    design, gates = netlist_design(platform, tuple(BLOCKS), liberty, jobs=jobs, progress=progress,
                                   marks=COUNTERS_STREAM)  # fmt: skip
    return build_gates(design, gates, quick=quick, jobs=jobs, progress=progress), gates.counters


def energy_run(platform: J3dai, image: bytes, inputs: Mapping[str, np.ndarray], process: Process, liberty: Path, *,
               limit_cycles: int | None = None, seed: int = 0, quick: bool = False,
               progress: Callable[[str], None] | None = None) -> EnergyRun:
    """See `nncosim.tb.power.run.Powered`. A span of the account ends with each step of the image, and with the frame.
    quick: as of `build_counting`.

    Raises:
        BuildError, ToolError, BenchError, ToolCrash: as `build_counting`; BenchError also if the run did not end.
    """
    built, counters = build_counting(platform, liberty, quick=quick, progress=building(progress))
    records: dict[int, np.ndarray] = {}

    def taken(model: Backdoor) -> None:
        assert isinstance(model, Model)  # the driver is the direct one
        model.tick(2)  # the end of the frame is seen at the clock behind it
        records.update({counter.stream: model.log(counter.stream) for counter in counters})

    result = run_built(built, platform, image, [inputs], driver="direct", limit_cycles=limit_cycles, seed=seed,
                       watch=cycles_of(progress), plusargs=(f"count_from={RESET_CYCLES}",), taken=taken)  # fmt: skip
    if result.diagnosis is not None:
        raise BenchError(f"the run on gates did not come to its end: {result.diagnosis.text}")
    sources = {name: str(text) for name, text in soc_verilog(platform).items()}
    spent = account(soc_modules(sources, liberty), cell_models(liberty), counters, records, process, block_of,
                    tuple(BLOCKS))  # fmt: skip
    (frame,) = result.frames
    begin = spent.ends[-1] - frame.cycles  # counting begins some cycles before the inference is asked for
    steps = tuple(next((each.step for each in frame.intervals if begin < end <= begin + each.end), -1)
                  for end in spent.ends)  # fmt: skip
    return EnergyRun(replace(result, backend="netlist"), spent, steps, NOT_COUNTED, PUBLISHED)
