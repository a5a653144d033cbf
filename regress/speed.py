# SPDX-License-Identifier: Apache-2.0
"""How much faster the instruction-set simulator of J3DAI is than its RTL, on single layers; start-up excluded.

    python -m nncosim.regress.speed [CASE ...]

CPU time of the inference alone (the direct driver, all monitors on), best of the repeats, one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from nncosim.compiler.compile import compile_network
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import CASES as ALL_CASES
from nncosim.regress.cases import case, random_inputs
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.j3dai.rtl import load_image, write_inputs
from nncosim.tb.run.capture import pack_input
from nncosim.tb.sim.model import Model

__all__ = ["case_names", "main"]

CASES = ("conv3x3_128", "conv3x3_512_7x7")
"""Layers of 100 M MAC and more in the table of cases."""

REPEATS = 3


def _best(run: Callable[[], int]) -> tuple[float, int]:
    """Least CPU seconds of the repeats, and the cycles simulated."""
    seconds, cycles = [], 0
    for _ in range(REPEATS):
        begin = time.process_time()
        cycles = run()
        seconds.append(time.process_time() - begin)
    return min(seconds), cycles


def _measure(name: str) -> tuple[tuple[float, int], tuple[float, int]]:
    network = case(name).build(1)
    compiled = compile_network(network, PLATFORM)
    inputs = random_inputs(network, 1)
    image: Image = compiled.image
    machine = Machine(PLATFORM, seed=1)
    machine.load_elf(image.to_bytes())
    table = places(image)
    for key, values in inputs.items():
        data = pack_input(table[key], values)
        at = table[key].word * PLATFORM.word_bytes
        machine.l2[at : at + len(data)] = memoryview(data)
    iss = _best(lambda: machine.run_frame(10_000_000).cycles)
    with Model(build_soc(PLATFORM), seed=1) as model:
        load_image(model, PLATFORM, image)
        write_inputs(model, image, inputs)
        model.monitor_enable = 1
        model.reset(cycles=4)

        def frame() -> int:
            model.frame = 1
            model.tick()
            model.frame = 0
            return model.run_until("stopped", 1, 10_000_000)

        rtl = _best(frame)
    return iss, rtl


def case_names(module: str, description: str, default: Sequence[str]) -> list[str]:
    """The cases that the command line of a module names, or the default ones; an unknown one ends it with a message."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    known = [known.name for known in ALL_CASES]
    parser.add_argument("names", nargs="*", metavar="CASE", default=default, help=f"default: {', '.join(default)}")
    names: list[str] = parser.parse_args().names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no case {unknown[0]!r}; the cases are {', '.join(known)}")
    return names


def main() -> None:
    """Print a line a case."""
    for name in case_names("nncosim.regress.speed", "Speed of iss against RTL.", CASES):
        (iss, cycles), (rtl, ticks) = _measure(name)
        print(
            f"{name}: {cycles:,} cycles; iss {iss:.3f} s ({cycles / iss / 1e6:.1f} M cycles/s), "
            f"rtl {rtl:.2f} s ({ticks / rtl / 1e3:.0f} k cycles/s), ratio {rtl / iss:.0f}"
        )


if __name__ == "__main__":
    main()
