# SPDX-License-Identifier: Apache-2.0
"""Running a network on a backend of a platform and judging it: every tensor, every layer's cycles, every counter.

    run = run_case("conv3x3_16", backend="rtl", driver="direct", seed=1)
    run.problems()                    # [] if all bits and cycles hold; else one line each
    run.cycles                        # of the first inference

A platform's own part is `TARGET` of `nncosim.regress.<platform>_target`, where it has one: how images are run, many in
a process, and what else its counters must add up to. Without it, images are run by its bench.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.image.expected import expected
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import PLATFORM
from nncosim.platforms.parts import Part
from nncosim.regress.cases import case, random_inputs
from nncosim.tb.backend import Frame, Interval, RunResult, get_bench
from nncosim.tb.reference.compare import Comparison, compare_frames
from nncosim.tb.report.build import build_report
from nncosim.tb.report.report import Report
from nncosim.tb.run.flow import HANG_FACTOR
from nncosim.tb.run.inputs import frames as frames_of
from nncosim.tb.run.inputs import read_npz

__all__ = [
    "TARGETS", "BenchTarget", "ComparedRun", "FailedRun", "Target", "command", "compile_case", "compile_digits",
    "digits_images", "digits_network", "run_case", "run_compiled", "run_image", "saturated", "target",
]  # fmt: skip

Inputs = Sequence[Mapping[str, np.ndarray]]


WAVES: Path | None = None
"""Where runs on the RTL write their waveforms: the test's own folder, with ``--waves``."""


class FailedRun(NamedTuple):
    """A run that failed, and how it ran."""

    run: ComparedRun
    backend: str
    driver: str | None
    seed: int


FAILED: list[FailedRun] | None = None
"""Where runs of `run_compiled` that fail are kept, with ``--debug-failures``; not those of spoilt images."""


class Target(Protocol):
    """A platform's own part of the harness."""

    def run(
        self, platform: Platform, image: bytes, inputs: Inputs, backend: str, driver: str | None, *,
        limit: int | None, seed: int, waves: Path | None,
    ) -> RunResult:
        """An image on a backend. `waves`: a folder for a waveform, where the backend has signals."""
        ...

    def problems(self, interval: Interval) -> Iterator[str]:
        """What of an interval's counters does not hold beyond what holds for every platform."""
        ...


class BenchTarget:
    """Runs on the platform's bench."""

    def run(
        self, platform: Platform, image: bytes, inputs: Inputs, backend: str, driver: str | None, *,
        limit: int | None, seed: int, waves: Path | None,
    ) -> RunResult:
        bench = get_bench(platform)
        known = bench.drivers.get(backend, ())
        chosen = driver if driver in known else None
        return bench.run(platform, image, inputs, backend=backend, driver=chosen, limit_cycles=limit, seed=seed)

    def problems(self, interval: Interval) -> Iterator[str]:
        yield from ()


TARGETS: Part[Target] = Part("nncosim.regress.{}_target", "TARGET")


def target(platform: Platform) -> Target:
    """How a platform's images are run in regressions."""
    return TARGETS.find(platform.name) or BenchTarget()


@functools.lru_cache(maxsize=4)
def compile_case(name: str, seed: int, platform: Platform = PLATFORM) -> Compiled:
    """A case of `nncosim.regress.cases`, compiled."""
    return compile_network(case(name).build(seed), platform)


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """What a run gave, and what it is held against. `inputs`: of each inference."""

    compiled: Compiled
    inputs: Inputs
    result: RunResult
    comparison: Comparison

    @property
    def cycles(self) -> int:
        """Of the first inference; 0 if it did not end."""
        return self.result.frames[0].cycles if self.result.frames else 0

    @cached_property
    def report(self) -> Report:
        """What `nncosim run` makes of it: the verdict, and what is late, are its."""
        compiled, notes = self.compiled, self.compiled.image.notes
        return build_report(
            compiled.network, compiled.platform, notes.steps, expected(notes, max(len(self.result.frames), 1)),
            self.result, self.comparison, model=compiled.network.name, settings={}, seed=0, input="", wall_seconds={},
            versions={}, hashes={},
        )  # fmt: skip

    def layers(self, frame: int = 0) -> list[tuple[str, int, int]]:
        """(name, cycles on the ISS, measured cycles) of each layer of an inference, the first if not told otherwise."""
        rows = [(layer.name, layer.paces[frame]) for layer in self.report.layers]
        return [(name, pace.expected.best, pace.cycles or 0) for name, pace in rows]

    def problems(self) -> list[str]:
        """Everything that does not hold, in words; nothing only of a run whose verdict is "pass"."""
        if self.result.diagnosis is not None:
            found = [f"{self.result.diagnosis.kind}: {self.result.diagnosis.text}"]
        else:
            found = [str(each) for each in self.report.late]
            found += [line for n, frame in enumerate(self.result.frames)
                      for line in _counter_problems(self.compiled.platform, n, frame)]
        if not self.comparison.bit_exact:
            found.append(f"first wrong element: {self.comparison.first}")
        return found or ([] if self.report.passed else [f"the verdict is {self.report.verdict}"])


def _counter_problems(platform: Platform, number: int, frame: Frame) -> list[str]:
    """Intervals that leave gaps, or in which an engine's counters are not the interval's length."""
    found = []
    before = 0
    for interval in frame.intervals:
        if interval.start != before:
            found.append(f"inference {number + 1}, layer {interval.step} begins at {interval.start}, not at {before}")
        before = interval.end
        for engine, counters in interval.counters.items():
            if sum(counters.values()) != interval.end - interval.start:
                found.append(f"inference {number + 1}, layer {interval.step}, {engine}: {dict(counters)} do not add "
                             f"up to {interval.end - interval.start} cycles")
        where = f"inference {number + 1}, layer {interval.step}"
        found += [f"{where}: {problem}" for problem in target(platform).problems(interval)]
    if before != frame.cycles:
        found.append(f"inference {number + 1}: the layers end at {before}, the inference at {frame.cycles}")
    return found


def run_image(
    platform: Platform, image: bytes, inputs: Inputs, backend: str, driver: str | None = "direct", *,
    limit: int | None = None, seed: int = 0,
) -> RunResult:
    """An image on a backend, as `nncosim run` does it."""
    return target(platform).run(platform, image, inputs, backend, driver, limit=limit, seed=seed, waves=WAVES)


def run_compiled(
    compiled: Compiled, backend: str, driver: str | None = "direct", *, seed: int = 1, frames: int = 1,
    inputs: Inputs | None = None, spoil: Callable[[bytes], bytes] | None = None,
) -> ComparedRun:
    """Run a compiled network on random inputs (or those given) and compare with the exact executor.

    Args:
        spoil: changes the image before it runs, to see that it is noticed.
    """
    chosen = inputs or [random_inputs(compiled.network, seed + n) for n in range(frames)]
    image = compiled.image.to_bytes()
    result = run_image(
        compiled.platform, spoil(image) if spoil else image, chosen, backend, driver,
        limit=HANG_FACTOR * compiled.iss_cycles, seed=seed,
    )  # fmt: skip
    right = tuple(evaluate(compiled.network, values) for values in chosen)
    run = ComparedRun(compiled, chosen, result, compare_frames(compiled.network, right, result.frames))
    if FAILED is not None and spoil is None and run.problems():
        FAILED.append(FailedRun(run, backend, driver, seed))
    return run


def run_case(
    name: str, backend: str, driver: str | None = "direct", seed: int = 1, frames: int = 1,
    platform: Platform = PLATFORM,
) -> ComparedRun:
    """A case of the table, built and fed from `seed`."""
    return run_compiled(compile_case(name, seed, platform), backend, driver, seed=seed, frames=frames)


def saturated(network: Network, tensors: Mapping[str, np.ndarray]) -> float:
    """The largest share of values at an end of their range among the outputs of operators that requantize freely.

    Maxima, copies and joins keep the values of their inputs and do not count.
    """
    worst = 0.0
    for op in network.ops:
        if op.function is None or type(op).__name__ in ("Concat", "Resize"):
            continue
        kind = network.tensors[op.output].type
        values = tensors[op.output]
        worst = max(worst, float(np.mean((values <= kind.lo) | (values >= kind.hi))))
    return worst


def command(file: str, name: str, backend: str, driver: str, seed: int) -> str:
    """The shell command that runs one case again."""
    words = ["pytest", file, "-k", name, "--backend", backend, "--seed", str(seed)]
    return shlex.join([*words, "--driver", driver] if backend == "rtl" else words)


def digits_network() -> Network:
    """The shipped network."""
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as path:
        return import_model(path)


@functools.lru_cache(maxsize=2)
def compile_digits(platform: Platform = PLATFORM) -> Compiled:
    """The shipped network, compiled."""
    return compile_network(digits_network(), platform)


def digits_images(compiled: Compiled, *indices: int) -> list[dict[str, np.ndarray]]:
    """Images of the test split as inputs."""
    with as_file(files("nncosim.regress.networks") / "digits_test.npz") as path:
        return frames_of(compiled.network, read_npz(path), indices, path.name)
