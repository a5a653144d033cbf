# SPDX-License-Identifier: Apache-2.0
"""J3DAI in `nncosim.regress.harness`: its simulation is built once and then used by all cases of a process."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.tb.backend import Interval, RunResult
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.iss_backend import run_iss
from nncosim.tb.j3dai.netlist import BLOCKS, build_netlist
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.sim.waves import Trace

__all__ = ["TARGET", "netlist", "simulation"]

TRANSFER_SUMS = (("busy", "beats", ("load", "store")), ("wait_data", "wait_data", ("load", "store", "sync")),
                 ("wait_port", "wait_port", ("load", "store")))
"""What the DMPA's counters are by kind of transfer: category, counter of the transfers, kinds."""


@functools.cache
def simulation(platform: J3dai = PLATFORM) -> BuiltModel:
    """The platform's Verilated SoC, built (or found in the cache) once a process."""
    return build_soc(platform)


@functools.cache
def netlist(platform: J3dai = PLATFORM) -> BuiltModel:
    """The same with all blocks as gates. Whole networks run on the default machine, on others only small ones."""
    return build_netlist(platform, tuple(BLOCKS), quick=platform != PLATFORM)


class J3daiTarget:
    """See `nncosim.regress.harness.Target`."""

    def run(
        self, platform: Platform, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]], backend: str,
        driver: str | None, *, limit: int | None, seed: int, waves: Path | None,
    ) -> RunResult:
        """Waveforms: run1.fst, run2.fst..."""
        assert isinstance(platform, J3dai)
        if backend == "iss":
            return run_iss(platform, image, inputs, limit_cycles=limit, seed=seed)
        if backend == "netlist":
            return run_built(netlist(platform), platform, image, inputs, driver=driver or "direct", limit_cycles=limit,
                             seed=seed)  # fmt: skip
        trace = None if waves is None else Trace(waves / f"run{len(list(waves.glob('run*.fst'))) + 1}.fst")
        built = simulation(platform) if trace is None else build_soc(platform, trace="fst")
        return run_built(
            built, platform, image, inputs, driver=driver or "direct", limit_cycles=limit, seed=seed, trace=trace
        )

    def problems(self, interval: Interval) -> Iterator[str]:
        """The DMPA's cycles are those of its transfers."""
        for category, which, kinds in TRANSFER_SUMS:
            parts = sum(interval.transfers[kind][which] for kind in kinds)
            if parts != interval.counters["dmpa"][category]:
                yield (f"the DMPA's {category} is {interval.counters['dmpa'][category]}, "
                       f"by kind of transfer {parts}")  # fmt: skip


TARGET = J3daiTarget()
