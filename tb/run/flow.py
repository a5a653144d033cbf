# SPDX-License-Identifier: Apache-2.0
"""The flow of one run: import, prove, compile, run on a bench, compare, report.

Nothing here knows a platform: the compiler's back end and the bench are found by the platform's name.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.image.expected import expected
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value, value_text
from nncosim.tb.backend import (
    AnyBench,
    Entering,
    GateChoice,
    Gated,
    Injectable,
    Observable,
    Patchable,
    RunResult,
    get_bench,
    predicted_interval,
)
from nncosim.tb.errors import BenchError
from nncosim.tb.floor_plan import FLOOR_PLAN, floor_plan_json
from nncosim.tb.reference.compare import Comparison, compare_frames
from nncosim.tb.report.build import build_report
from nncosim.tb.report.clue import clue_of
from nncosim.tb.report.report import Report
from nncosim.tb.report.timeline import TIMELINE, timeline_npz
from nncosim.tb.run.inputs import batch_size, frames, outputs_npz, random_frames, read_npz
from nncosim.tb.run.program import Program
from nncosim.tb.sim.patches import RtlPatch
from nncosim.tb.sim.versions import versions
from nncosim.tb.sim.waves import Trace
from nncosim.tb.system.files import sha256
from nncosim.tb.system.progress import Cycles, Progress

__all__ = ["HANG_FACTOR", "REFERENCE", "Outcome", "RunOptions", "check_entering", "check_frames", "check_gates",
           "check_hazards", "check_injectable", "check_observable", "check_patchable", "check_trace", "choose",
           "execute", "make_frames", "run_program", "trace_of"]

REFERENCE = "iss"
"""The backend that observed runs of the others are laid beside."""

HANG_FACTOR = 4
"""An inference past this many times the cycles predicted of it at most is a hang."""


@dataclass(frozen=True)
class RunOptions:
    """What the user asked of a run.

    `indices`: which images of the input file, one inference each. `trace_from`, `trace_to`, `trace_layer`: the part of
    the run that the waveform `trace` shows; see `nncosim.tb.sim.waves.Trace`. `bus`, `stream`: how image and inputs
    come in, see `nncosim.tb.backend.Entering`; `stream`: how many inputs, 0 for none. `forms`: of float inputs.
    `ignore_hazards`: a violated latency of a machine without interlocks does not end the run. `observe`: record what
    passes the machine's boundaries. `marks`, `about`: cycles that get markers in the waveform, and the block it is made
    for. `rtl_patch`: of the RTL. `inject`: it is for `nncosim.tb.faults`.
    `gates`: what is gates on a backend that runs a netlist.
    `frames`: each inference's inputs as the machine takes them, in place of `input` and of random ones. `limit`: cycles
    after which an inference is given up; None: some times those predicted.
    """

    backend: str | None = None
    driver: str | None = None
    input: Path | None = None
    indices: tuple[int, ...] = ()
    seed: int = 0
    trace: Path | None = None
    trace_from: int | None = None
    trace_to: int | None = None
    trace_layer: str | None = None
    bus: bool = False
    stream: int = 0
    forms: Mapping[str, InputForm] = field(default_factory=dict)
    ignore_hazards: bool = False
    observe: bool = False
    marks: tuple[int, ...] = ()
    about: str = ""
    rtl_patch: RtlPatch | None = None
    limit: int | None = None
    frames: tuple[Mapping[str, np.ndarray], ...] = field(default=(), compare=False)
    inject: bool = False
    gates: GateChoice | None = None

    @property
    def entering(self) -> Entering:
        return Entering(self.bus, self.stream > 0)


@dataclass(frozen=True)
class Outcome:
    """A report and the files that belong to it (name to contents), `report.json` left to the caller."""

    report: Report
    network: Network
    outputs: tuple[Mapping[str, np.ndarray], ...]
    result: RunResult
    files: Mapping[str, bytes] = field(default_factory=dict)


def choose(
    bench: AnyBench, platform: Platform, backend: str | None, driver: str | None, prefer: str = "rtl"
) -> tuple[str, str | None]:
    """Backend and driver; where the user gave none, the backend `prefer` if there is one, and the first driver.

    Raises:
        BenchError: the platform has no such backend, or the backend no such driver.
    """
    backends = tuple(bench.backends)
    chosen = backend or (prefer if prefer in backends else backends[0])
    if chosen not in backends:
        raise BenchError(f"platform {platform.name!r} has no backend {chosen!r}; it has {', '.join(backends)}")
    drivers = tuple(bench.drivers.get(chosen, ()))
    if driver is not None and driver not in drivers:
        choice = f"it has {', '.join(drivers)}" if drivers else "it has no choice of drivers; leave --driver out"
        raise BenchError(f"backend {chosen!r} of platform {platform.name!r} has no driver {driver!r}; {choice}")
    return chosen, driver or (drivers[0] if drivers else None)


def make_frames(network: Network, options: RunOptions) -> tuple[list[dict[str, np.ndarray]], str]:
    """The inferences' inputs, and what to call them in the report.

    Raises:
        InputError: the input file does not fit the model.
    """
    if options.frames:
        return [dict(frame) for frame in options.frames], "given"
    if options.input is None:
        part = f" (one of the graph's batch of {network.batch})" if network.batch > 1 and not options.stream else ""
        return random_frames(network, options.seed, options.stream or 1), "random" + part
    source = str(options.input)
    arrays = read_npz(options.input)
    indices = options.indices
    if not indices:
        count = batch_size(network, arrays, source)
        if options.stream:
            indices = tuple(range(min(count, options.stream)))
        elif count == network.batch:  # what the graph does at once, one after the other
            indices = tuple(range(count))
        elif count > 1:
            raise BenchError(f"{source} holds {count} images; choose with --index (0 to {count - 1}), or use evaluate")
        indices = indices or (0,)
    if options.stream:  # in turn
        indices = tuple(indices[k % len(indices)] for k in range(options.stream))
    shown = "" if indices == (0,) else "[" + ", ".join(map(str, indices)) + "]"
    return frames(network, arrays, indices, source), source + shown


def execute(
    program: Program,
    platform: Platform,
    inputs: list[dict[str, np.ndarray]],
    options: RunOptions,
    progress: Progress | None = None,
) -> RunResult:
    """Run the image on the platform's bench, bounded by `HANG_FACTOR` times the cycles predicted at most."""
    bench = get_bench(platform)
    backend, driver = choose(bench, platform, options.backend, options.driver)
    trace = trace_of(program, options)
    if trace is not None:
        check_trace(bench, platform, backend)
    extra: dict[str, Any] = {}
    if options.entering:
        check_entering(bench, platform, backend)
        extra["entering"] = options.entering
    if options.ignore_hazards:
        check_hazards(bench, platform, backend)
        extra["hazards"] = False
    if options.rtl_patch is not None:
        check_patchable(bench, platform, backend)
        extra["patch"] = options.rtl_patch
    if options.gates is not None:
        check_gates(bench, platform, backend, options.gates)
        extra["gates"] = options.gates
    if options.observe:
        extra["observe"] = True
    predicted = expected(program.notes, len(inputs))
    if progress is not None:
        progress = Cycles(progress, predicted[-1].end.best)
    if options.stream and not program.notes.streams:
        raise BenchError(f"{program.source} was not compiled for streaming; compile it with --stream")
    return bench.run(
        platform,
        program.image,
        inputs,
        backend=backend,
        driver=driver,
        seed=options.seed,
        progress=progress,
        limit_cycles=options.limit or HANG_FACTOR * max(each.cycles.bounds[1] for each in predicted),
        trace=trace,
        **extra,
    )


def check_entering(bench: AnyBench, platform: Platform, backend: str) -> None:
    """Refuse to boot or stream over a port that the backend has not.

    Raises:
        BenchError: It has none; names those that have.
    """
    lacks, help_ = "no port for image and inputs (--boot bus, --stream)", "no backend of this platform has"
    _require_backend(tuple(getattr(bench, "entries", ())), platform, backend, lacks, help_)


def check_gates(bench: AnyBench, platform: Platform, backend: str, gates: GateChoice) -> None:
    """Refuse a choice of what is gates on a backend that runs none, or of blocks or a library that there are not.

    Raises:
        BenchError: So it is; names those that are.
    """
    able = bench.gates if isinstance(bench, Gated) else ()
    _require_backend(able, platform, backend, "no gates to choose (--netlist, --liberty)",
                     "no backend of this platform has; leave them out")
    blocks = cast(Gated, bench).gate_blocks
    unknown = [name for name in gates.blocks if name not in (*blocks, "all")]
    if unknown or not gates.blocks:
        wrong = unknown[0] if unknown else ""
        raise BenchError(f"platform {platform.name!r} has no block {wrong!r} that can be gates; "
                         f"it has {', '.join(blocks)}, or all of them: all")
    if gates.liberty is not None and not gates.liberty.is_file():
        raise BenchError(f"there is no cell library {gates.liberty}")


def check_hazards(bench: AnyBench, platform: Platform, backend: str) -> None:
    """Refuse to ignore hazards on a backend that does not look for them.

    Raises:
        BenchError: It does not; names those that do.
    """
    lacks, help_ = "no check of latencies (--ignore-hazards)", "no backend of this platform has; leave it out"
    _require_backend(tuple(getattr(bench, "hazard_checks", ())), platform, backend, lacks, help_)


def check_injectable(bench: AnyBench, platform: Platform, backend: str) -> Injectable[Any]:
    """The bench of a machine that takes faults.

    Raises:
        BenchError: it takes none, or not on this backend.
    """
    able = bench.injectable if isinstance(bench, Injectable) else ()
    lacks, help_ = "nothing to inject faults into", "no backend of this platform has"
    _require_backend(able, platform, backend, lacks, help_)
    return cast(Injectable[Any], bench)


def check_observable(bench: AnyBench, platform: Platform, backend: str) -> Observable[Any]:
    """The bench of a machine that can be laid beside its simulator.

    Raises:
        BenchError: it cannot, or not on this backend.
    """
    able = bench.observable if isinstance(bench, Observable) else ()
    if isinstance(bench, Observable) and REFERENCE in able and backend in able and backend != REFERENCE:
        return bench
    others = [each for each in able if each != REFERENCE]
    help_ = f"use --backend {' or '.join(others)}" if others else "nncosim run --trace writes a waveform"
    raise BenchError(f"backend {backend!r} of platform {platform.name!r} cannot be laid beside its simulator; {help_}")


def check_patchable(bench: AnyBench, platform: Platform, backend: str) -> None:
    """Refuse to patch what is no RTL.

    Raises:
        BenchError: It is none; names those that are.
    """
    able = bench.patchable if isinstance(bench, Patchable) else ()
    lacks, help_ = "no RTL that can be patched (--rtl-patch)", "no backend of this platform has; leave it out"
    _require_backend(able, platform, backend, lacks, help_)


def check_trace(bench: AnyBench, platform: Platform, backend: str) -> None:
    """Refuse a waveform of a backend that has none.

    Raises:
        BenchError: It has none; names those that have.
    """
    lacks, help_ = "no signals to trace", "no backend of this platform has; leave --trace out"
    _require_backend(tuple(getattr(bench, "waveforms", ())), platform, backend, lacks, help_)


def _require_backend(able: tuple[str, ...], platform: Platform, backend: str, lacks: str, otherwise: str) -> None:
    """`able`: the backends that have what is asked for; `otherwise`: what to say where none has."""
    if backend not in able:
        help_ = f"use --backend {' or '.join(able)}" if able else otherwise
        raise BenchError(f"backend {backend!r} of platform {platform.name!r} has {lacks}; {help_}")


def trace_of(program: Program, options: RunOptions) -> Trace | None:
    """The waveform that the options ask for.

    Raises:
        BenchError: No such layer, an empty window, or a file that is no waveform by its suffix.
    """
    if options.trace is None:
        return None
    step = None
    if options.trace_layer is not None:
        wanted = options.trace_layer
        found = [k for k, entry in enumerate(program.schedule) if wanted == entry.name or wanted in entry.ops]
        if not found:
            names = ", ".join(entry.name for entry in program.schedule)
            raise BenchError(f"there is no layer {wanted!r} to trace; the layers are {names}")
        step = found[0]
    return Trace(options.trace, options.trace_from, options.trace_to, step, options.marks, options.about)


def check_frames(program: Program, inputs: list[dict[str, np.ndarray]], result: RunResult) -> Comparison:
    """Compare every tensor of every inference with what the chosen kernels say they compute."""
    right = tuple(evaluate(program.network, frame, reference=program.reference) for frame in inputs)
    return compare_frames(program.network, right, result.frames)


def _command(
    program: Program, settings: Mapping[str, Value], backend: str, driver: str | None, options: RunOptions
) -> list[str]:
    words = ["nncosim", "run", str(program.source)]
    if not program.from_image:
        words += ["--platform", program.platform_name]
        words += [f"--set={key}={value_text(value)}" for key, value in settings.items()]
        words += [f"--compiler-option={key}={value}" for key, value in program.options.items()]
        given = ((f"{key}=" if key else "") + form.text for key, form in options.forms.items())
        words += [f"--input-quant={text}" for text in given]
    words += ["--backend", backend]
    words += ["--driver", driver] if driver else []
    if options.input is not None:
        words += ["--input", str(options.input), *(f"--index={i}" for i in options.indices)]
    words += ["--boot", "bus"] if options.bus else []
    words += ["--stream", str(options.stream)] if options.stream else []
    words += ["--ignore-hazards"] if options.ignore_hazards else []
    words += ["--rtl-patch", str(options.rtl_patch.path)] if options.rtl_patch is not None else []
    words += ["--seed", str(options.seed)]
    return words


def _explained(
    report: Report, program: Program, platform: Platform, settings: Mapping[str, Value], result: RunResult,
    options: RunOptions,
) -> Report:
    """The report with what helps after a failure, and the waveform."""
    able = tuple(getattr(get_bench(platform), "waveforms", ()))
    command: list[str] = []
    if able:
        traced = result.backend in able
        backend, driver = (result.backend, result.driver) if traced else (able[0], None)
        command = _command(program, settings, backend, driver, options)
    return replace(report, clue=clue_of(report, result, command), waveform=result.waveform)


def run_program(
    program: Program,
    platform: Platform,
    settings: Mapping[str, Value],
    options: RunOptions,
    progress: Progress | None = None,
) -> Outcome:
    """Run a compiled program, compare, and report.

    Raises:
        NncosimError: bad input, or a bench that cannot run. Mismatches and hangs are results, not errors.
    """
    say = progress or (lambda text: None)
    inputs, name = make_frames(program.network, options)
    say("simulating")
    begin = time.perf_counter()
    result = execute(program, platform, inputs, options, progress)
    elapsed = time.perf_counter() - begin
    say("comparing")
    comparison = check_frames(program, inputs, result)
    build = result.wall_seconds.get("build", 0.0)
    seconds = {
        "compile": program.compile_seconds,
        "build": build,
        "simulate": result.wall_seconds.get("simulate", elapsed - build),
    }
    hashes = {"rtl": result.rtl_hash, "image": sha256(program.image), "model": program.model_hash}
    report = build_report(
        program.network,
        platform,
        program.schedule,
        expected(program.notes, max(len(result.frames), 1)),
        result,
        comparison,
        model=program.source.name,
        settings=settings,
        compiler_options=program.options,
        seed=options.seed,
        input=name,
        wall_seconds=seconds,
        versions=versions(),
        hashes=hashes,
        command=shlex.join(_command(program, settings, result.backend, result.driver, options)),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        entry=result.entry,
        interval_cycles=predicted_interval(platform, program.image) if result.diagnosis is None else None,
    )
    report = _explained(report, program, platform, settings, result, options)
    outputs = tuple(
        {n: frame.memory[n] for n in program.network.outputs if n in frame.memory} for frame in result.frames
    )
    files = {**program.files, "outputs.npz": outputs_npz(program.network, outputs)}
    if result.frames:
        files[TIMELINE] = timeline_npz(result.frames[0])
    if result.floor_plan is not None:
        files[FLOOR_PLAN] = floor_plan_json(result.floor_plan, sha256(program.image))
    return Outcome(report, program.network, outputs, result, files)
