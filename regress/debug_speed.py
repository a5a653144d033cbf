# SPDX-License-Identifier: Apache-2.0
"""What waveforms and taps cost a simulation of J3DAI, and how long `nncosim debug` takes beside the run that fails.

    python -m nncosim.regress.debug_speed [CASE ...]

CPU time of whole runs by the direct driver, side by side, best of the repeats; the plain simulation is 1.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import random_inputs
from nncosim.regress.harness import compile_case
from nncosim.regress.speed import case_names
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.iss_backend import run_iss
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.lockstep import differences
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.sim.waves import Trace

__all__ = ["main"]

CASES = ("conv3x3_large_k", "inverted_residuals")
REPEATS = 5
WINDOW = 1000
"""Cycles, at the end of the run."""


def _ways(name: str, folder: Path) -> dict[str, Callable[[], object]]:
    platform = PLATFORM.with_parameters(clusters=1)
    compiled = compile_case(name, 0, platform)
    image, inputs = compiled.image.to_bytes(), [random_inputs(compiled.network, 0)]
    plain, traced = build_soc(platform), build_soc(platform, trace="fst")
    tapped = build_soc(platform, inside=True, trace="fst")
    cycles = compiled.image.notes.cycles.best
    window = Trace(folder / "window.fst", cycles - WINDOW, cycles)

    def run(built: BuiltModel, observe: bool = False, trace: Trace | None = None) -> object:
        return run_built(built, platform, image, inputs, driver="direct", observe=observe, trace=trace)

    def debugged() -> object:
        """All that `nncosim debug` runs, with a window at the end: where a difference costs most."""
        found = run_built(tapped, platform, image, inputs, driver="direct", observe=True)
        right = run_iss(platform, image, inputs, observe=True)
        return differences(found.channels, right.channels), run(tapped, trace=window)

    return {
        "plain": lambda: run(plain), "able to trace, no window": lambda: run(traced),
        f"window of {WINDOW} cycles": lambda: run(traced, trace=window), "taps": lambda: run(tapped, observe=True),
        "debug in all": debugged,
    }  # fmt: skip


def main() -> None:
    """Print a line a way of running."""
    for name in case_names("nncosim.regress.debug_speed", "Cost of waveforms and taps.", CASES):
        with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
            ways = _ways(name, Path(folder))
            best = dict.fromkeys(ways, float("inf"))
            for _ in range(REPEATS):
                for way, run in ways.items():
                    begin = time.process_time()
                    run()
                    best[way] = min(best[way], time.process_time() - begin)
        for way, seconds in best.items():
            print(f"{name}: {way}: {seconds:.2f} s, {seconds / best['plain']:.2f} of the plain run")


if __name__ == "__main__":
    main()
