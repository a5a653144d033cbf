# SPDX-License-Identifier: Apache-2.0
"""A debug bundle: a folder with a run, all that it takes to run it again, and what was seen of it.

``bundle.json`` (`Bundle`) says how it ran and how it ended, and has the hashes of the files that a replay needs:
``image.elf``; ``inputs.npz``, each graph input as the integers that the machine takes, int64 (inferences, shape of the
tensor); ``rtl.patch``, where there was one. The rest is for people: story, report, waveform.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nncosim.hdl
import numpy as np
from nncosim.compiler.image.plain import PlainError, from_plain, to_plain
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.parameters import Value, plain_value
from nncosim.tb.backend import Patchable, get_bench
from nncosim.tb.debug.story import Story
from nncosim.tb.lockstep import Difference
from nncosim.tb.report.report import Report
from nncosim.tb.run.flow import RunOptions, make_frames
from nncosim.tb.run.inputs import InputError, read_npz
from nncosim.tb.run.program import Program, load_image, read_source
from nncosim.tb.sim.patches import RtlPatch, read_patch
from nncosim.tb.sim.versions import versions
from nncosim.tb.sim.waves import command_file, save_file
from nncosim.tb.system.files import sha256, text_bytes, unreadable, write_files
from nncosim.tb.system.npz import npz_bytes

__all__ = [
    "BUNDLE", "FILES", "SCHEMA", "STORY", "WAVEFORM", "Bundle", "BundleError", "Opened", "Rtl", "Seen", "open_bundle",
    "rtl_of", "seen_of", "write_bundle",
]  # fmt: skip

SCHEMA = 1
"""Of ``bundle.json``: another number is another meaning of its fields."""

BUNDLE, STORY, WAVEFORM = "bundle.json", "story.txt", "cause.fst"
_IMAGE, _INPUTS, _PATCH, _REPORT = "image.elf", "inputs.npz", "rtl.patch", "report.json"
FILES = (BUNDLE, STORY, _INPUTS, _PATCH, WAVEFORM, *(each(Path(WAVEFORM)).name for each in (save_file, command_file)))
"""Names of the files that a bundle has besides those of a run's results."""

_MOST_BYTES = 1 << 26


class BundleError(NncosimError):
    """A folder that is no debug bundle, or is not what was written."""


@dataclass(frozen=True)
class Seen:
    """How a run ended, in what two runs of the same failure have in common.

    `verdict`: the report's. `stopped`: by what, "" if by nothing. `first`: the first wrong element, "" for none.
    `cycles`: of each inference that ended. `layers`: of each layer, in each inference, None where it did not end.
    `difference`: the first from the simulator, "" for none, None where the two were not laid beside each other.
    """

    passed: bool
    verdict: str
    stopped: str
    first: str
    cycles: tuple[int, ...]
    layers: Mapping[str, tuple[int | None, ...]]
    difference: str | None

    @property
    def failure(self) -> str:
        """In a line; "" of a run that passes."""
        if self.passed:
            return ""
        if self.stopped:
            return self.stopped
        if self.first:
            return f"first wrong element: {self.first}"
        return f"first difference: {self.difference}" if self.difference else f"verdict {self.verdict}"


@dataclass(frozen=True)
class Rtl:
    """Which RTL it was. `verilog`: file to SHA-256, after the patch; empty where the bench cannot tell, or none ran.

    `sources`: of `nncosim.hdl`, what this platform's RTL may be made of: path to SHA-256.
    """

    verilog: Mapping[str, str]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Bundle:
    """A run and its end.

    `model`: what was compiled, by its name. `settings`: parameters that the user changed; `parameters`: all of them.
    `bus`, `stream`, `ignore_hazards`, `seed`, `driver`: as of `nncosim.tb.run.flow.RunOptions`. `command`: that ran it.
    `versions`: as of `nncosim.tb.sim.versions`. `files`: those that a replay needs, name to SHA-256.
    `story`: its lines.
    """

    schema: int
    date: str
    model: str
    platform: str
    settings: Mapping[str, Any]
    parameters: Mapping[str, Any]
    backend: str
    driver: str | None
    seed: int
    bus: bool
    stream: int
    ignore_hazards: bool
    command: str
    versions: Mapping[str, str]
    rtl: Rtl
    files: Mapping[str, str]
    seen: Seen
    story: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Opened:
    """A bundle that was read, ready to be run as it was."""

    bundle: Bundle
    program: Program
    platform: Platform
    settings: Mapping[str, Value]
    options: RunOptions


def seen_of(report: Report, found: Sequence[Difference] | None) -> Seen:
    """`found`: where it differs from the simulator; None: that is not known."""
    diagnosis, first = report.diagnosis, report.comparison.first
    difference = None if found is None else f"cycle {found[0].cycle:,}, {found[0].channel}" if found else ""
    return Seen(
        report.passed and not found, report.verdict,
        f"{diagnosis.kind}: {diagnosis.text.splitlines()[0]}" if diagnosis is not None else "",
        str(first) if first is not None else "", report.frame_cycles,
        {layer.name: tuple(pace.cycles for pace in layer.paces) for layer in report.layers}, difference,
    )  # fmt: skip


def rtl_of(platform: Platform, backend: str, patch: RtlPatch | None = None) -> Rtl:
    """The RTL of a run as it is now.

    Raises:
        BenchError: the patch does not fit.
    """
    bench, verilog = get_bench(platform), {}
    if isinstance(bench, Patchable) and backend in bench.patchable:
        emitted = bench.verilog(platform)
        verilog = dict(patch.applied(emitted) if patch is not None else emitted)
    root = Path(nncosim.hdl.__path__[0])
    paths = sorted([*root.glob("*"), *(root / platform.parts).rglob("*")])
    sources = {f"hdl/{path.relative_to(root).as_posix()}": sha256(path.read_bytes())
               for path in paths if path.suffix in (".py", ".v", ".sv")}  # fmt: skip
    return Rtl({name: sha256(text.encode()) for name, text in verilog.items()}, sources)


def write_bundle(
    directory: Path, program: Program, platform: Platform, settings: Mapping[str, Value], options: RunOptions,
    story: Story,
) -> None:
    """Write a run and its story to a folder; the waveform is there already, if there is one.

    Raises:
        OutputError: the operating system refuses.
    """
    report, lines = story.outcome.report, story.lines()
    inputs, _ = make_frames(program.network, options)
    stacked = {name: np.stack([frame[name] for frame in inputs]) for name in program.network.inputs}
    needed = {_IMAGE: program.image, _INPUTS: npz_bytes(stacked, compress=True)}
    if options.rtl_patch is not None:
        needed[_PATCH] = options.rtl_patch.text.encode()
    bundle = Bundle(
        SCHEMA, report.date, program.source.name, platform.name,
        {name: plain_value(value) for name, value in settings.items()},
        asdict(platform),  # type: ignore[call-overload]
        report.backend, report.driver, options.seed, options.bus, options.stream, options.ignore_hazards,
        report.command, versions(), rtl_of(platform, report.backend, options.rtl_patch),
        {name: sha256(data) for name, data in needed.items()},
        seen_of(report, story.found or (None if story.aside else ())), tuple(lines),
    )  # fmt: skip
    write_files(directory, {
        **story.outcome.files, **needed, _REPORT: _json(report.to_json()), STORY: text_bytes("\n".join(lines) + "\n"),
        BUNDLE: _json(to_plain(bundle)),
    })  # fmt: skip


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def open_bundle(directory: Path) -> Opened:
    """Read a bundle and what it needs.

    Raises:
        BundleError: it is none, incomplete, spoilt, or of another schema.
        NncosimError: its image is of no platform that is here.
    """
    bundle = _read(directory)
    for name in (_IMAGE, _INPUTS, *(name for name in bundle.files if name not in (_IMAGE, _INPUTS))):
        _check(directory, name, bundle.files.get(name))
    program, platform, settings = load_image(directory / _IMAGE, read_source(directory / _IMAGE))
    program = replace(program, source=Path(bundle.model))
    options = RunOptions(
        bundle.backend, bundle.driver, seed=bundle.seed, bus=bundle.bus, stream=bundle.stream,
        ignore_hazards=bundle.ignore_hazards, frames=_frames(directory / _INPUTS, program),
        rtl_patch=read_patch(directory / _PATCH) if _PATCH in bundle.files else None,
    )  # fmt: skip
    return Opened(bundle, program, platform, settings, options)


def _read(directory: Path) -> Bundle:
    path = directory / BUNDLE
    if not directory.is_dir():
        raise BundleError(f"there is no folder {directory}")
    if unreadable(path, _MOST_BYTES):
        raise BundleError(f"{directory} is no debug bundle: {unreadable(path, _MOST_BYTES)}; `nncosim debug` and "
                          "`nncosim run --debug` write one")  # fmt: skip
    try:
        data = json.loads(path.read_bytes())
    except ValueError as problem:
        raise BundleError(f"{path} is damaged: {problem}") from problem
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise BundleError(f"{path} has the schema {schema!r:.40}, and this version of nncosim reads {SCHEMA}")
    try:
        return from_plain(Bundle, data)
    except PlainError as problem:
        raise BundleError(f"{path} is damaged: {problem}") from problem


def _check(directory: Path, name: str, digest: str | None) -> None:
    """Refuse a file that is not the one that was written."""
    path = directory / name
    if digest is None or name not in (_IMAGE, _INPUTS, _PATCH):
        raise BundleError(f"{directory / BUNDLE} is damaged: files {'lacks' if digest is None else 'names'} {name}")
    if unreadable(path):
        raise BundleError(f"{directory} is incomplete: {unreadable(path)}")
    if sha256(path.read_bytes()) != digest:
        raise BundleError(f"{path} is not the file that the bundle was written with: its hash is another")


def _frames(path: Path, program: Program) -> tuple[Mapping[str, np.ndarray], ...]:
    """Of each inference, each graph input by name."""
    arrays, network = read_npz(path), program.network
    count = len(next(iter(arrays.values()), ()))
    right = {name: (count, *network.tensors[name].shape) for name in network.inputs}
    if not count or {name: array.shape for name, array in arrays.items()} != right:
        raise InputError(f"{path} does not hold the inputs of the image: expected arrays of the shapes {right}")
    return tuple({name: array[k].astype(np.int64) for name, array in arrays.items()} for k in range(count))
