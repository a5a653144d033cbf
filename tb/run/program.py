# SPDX-License-Identifier: Apache-2.0
"""A compiled network with what it takes to judge a run of it: from a model, or from an image compiled before."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.compiler.backends import AnyBackend, HasStreaming, backend_for
from nncosim.compiler.compile import Compiled, compile_network, prove_network
from nncosim.compiler.errors import CompileError, ModelError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.frontend.prepare import load_model
from nncosim.compiler.image.image import Image, ImageError
from nncosim.compiler.image.notes import Notes, Origin, Step
from nncosim.compiler.image.plain import PlainError, from_plain, to_plain
from nncosim.compiler.ir.evaluate import Reference
from nncosim.compiler.ir.network import Network
from nncosim.compiler.options import with_options
from nncosim.compiler.placement.placement import MemoryUse, PlacementError
from nncosim.kernels.base import KernelError, reference_of
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.parameters import Value, plain_value
from nncosim.platforms.registry import get_platform
from nncosim.tb.run.listing import buffer_table, listing, memory_map
from nncosim.tb.run.network_json import network_from_json, network_to_json
from nncosim.tb.system.files import sha256, text_bytes, unreadable
from nncosim.tb.system.progress import Progress
from nncosim.tb.system.terminal import printable

__all__ = [
    "MAX_SOURCE_BYTES",
    "Program",
    "SourceError",
    "compile_model",
    "is_image",
    "load_image",
    "packed",
    "prove_model",
    "read_model",
    "read_runnable",
    "read_source",
    "seal",
]

ELF_MAGIC = b"\x7fELF"

MAX_SOURCE_BYTES = (1 << 31) - 1
"""What protobuf takes: a model with larger weights keeps them in a file of their own."""


class SourceError(NncosimError):
    """A model or image file that cannot be read, or is something else."""


@dataclass(frozen=True, eq=False)
class Program:
    """What a bench runs, and what its result is held against.

    `network`: proved. `reference`: what the chosen kernels make of its operators. `notes`: of the image, what is
    predicted among them. `files`: name to contents, for --out.
    `memory`: the compiler's memory table; empty of an image compiled before.
    """

    source: Path
    platform_name: str
    network: Network
    image: bytes
    notes: Notes
    model_hash: str
    reference: Reference
    compile_seconds: float = 0.0
    from_image: bool = False
    memory: tuple[MemoryUse, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def schedule(self) -> tuple[Step, ...]:
        """The layers in the order of completion."""
        return self.notes.steps

    @property
    def options(self) -> Mapping[str, str]:
        """What the compiler was told."""
        return self.notes.origin.options if self.notes.origin else {}

    @property
    def iss_cycles(self) -> int:
        """The best estimate of what the first inference takes."""
        return self.notes.cycles.best

    @property
    def estimated_cycles(self) -> int | None:
        """Of an inference, by the planner alone; None where the image does not say."""
        known = [step.estimated_cycles for step in self.schedule if step.estimated_cycles is not None]
        return sum(known) if len(known) == len(self.schedule) else None


def read_source(path: Path) -> bytes:
    """The bytes of a model or image.

    Raises:
        SourceError: no such file, none that can be read to its end (a device, a pipe), or too large a one.
    """
    reason = unreadable(path, MAX_SOURCE_BYTES)
    if reason:
        raise SourceError(reason)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise SourceError(f"{path} is empty")
    return data


def is_image(data: bytes) -> bool:
    return data.startswith(ELF_MAGIC)


def read_model(
    source: Path, data: bytes, platform: Platform | None = None, forms: Mapping[str, InputForm] | None = None,
    nearest: bool = False,
) -> Network:
    """Import a model.

    Args:
        data: the bytes of `source`. platform: whether its batch is kept is for this one to say.
        forms, nearest: see `compiler.frontend.import_model`.

    Raises:
        SourceError: an image where a model belongs.
        CompileError: not ONNX, or a model that is not supported.
    """
    if is_image(data):
        raise SourceError(f"{source} is a compiled image; this command takes an ONNX model")
    return import_model(source, keep_batch=platform is not None and platform.keeps_batch, forms=forms,
                        nearest=nearest)  # fmt: skip


def read_runnable(
    source: Path, data: bytes, platform: Platform | None = None, forms: Mapping[str, InputForm] | None = None,
    nearest: bool = False,
) -> Network:
    """Import a model where an image would do too.

    Raises:
        SourceError: neither of the two.
        CompileError: a model that is not supported.
    """
    try:
        return read_model(source, data, platform, forms, nearest)
    except ModelError as error:
        try:
            load_model(source)
        except ModelError as unreadable:
            begin = data[: len(ELF_MAGIC)]
            raise SourceError(
                f"{source}: {unreadable.problems[0].expected}, and not an image of `nncosim compile` either; expected "
                f"an ONNX model, or an ELF file, which begins with {ELF_MAGIC.hex(' ')}; this file begins with "
                f"{begin.hex(' ')} ({ascii(begin)[1:]})"
            ) from error
        raise


def prove_model(
    source: Path, data: bytes, platform: Platform, forms: Mapping[str, InputForm] | None = None, nearest: bool = False
) -> Network:
    """Import a model and find its requantization for `platform`; raises as `read_model` and `prove_network`."""
    return prove_network(read_model(source, data, platform, forms, nearest), platform)


def _program(
    source: Path, image: Image, network: Network, platform: Platform, origin: Origin, raw: bytes,
    from_image: bool = False, files: Mapping[str, bytes] | None = None,
) -> Program:
    reference = reference_of(origin.kernels, backend_for(platform).kernels, network, platform)
    return Program(
        source, origin.platform, network, raw, image.notes, origin.model_sha256, reference, from_image=from_image,
        files=files or {},
    )  # fmt: skip


def compile_model(
    source: Path,
    data: bytes,
    platform: Platform,
    settings: Mapping[str, Value],
    progress: Progress | None = None,
    network: Network | None = None,
    stream: bool = False,
    options: Mapping[str, str] | None = None,
) -> Program:
    """Compile a model for a platform, and put into the image what a later run needs to judge it.

    Args:
        data: the bytes of `source`. settings: what the user changed of the platform.
        network: what `data` was imported to before (proved or not), so that `source` need not be there any more.
        stream: the next inputs may come in while the network runs.
        options: of the platform's compiler.

    Raises:
        NncosimError: a model that is not supported, or does not fit.
    """
    say = progress or (lambda text: None)
    begin = time.perf_counter()
    say(f"importing {source.name}")
    network = network or read_model(source, data, platform)
    backend = with_options(backend_for(platform), options or {})
    backend = _streaming(platform, backend) if stream else backend
    try:
        compiled = compile_network(network, platform, progress=lambda name: say(f"compiling: {name}"), backend=backend)
    except PlacementError as error:
        if not stream:
            raise
        raise PlacementError(
            f"{error}; with --stream the inputs' place is theirs alone: without it they make room for other tensors",
            error.missing, error.step, error.alive,
        ) from error
    program = packed(compiled, source, sha256(data), settings, options)
    return dataclasses.replace(program, compile_seconds=time.perf_counter() - begin)


def packed(
    compiled: Compiled, source: Path, model_hash: str, settings: Mapping[str, Value] | None = None,
    options: Mapping[str, str] | None = None,
) -> Program:
    """What was compiled, with all that it takes to judge a run of it in its image.

    Args:
        source: what to call it. model_hash: of the model's bytes; "" where there is no file.
        settings, options: as of `compile_model`.
    """
    platform = compiled.platform
    parameters = dataclasses.asdict(platform)  # type: ignore[call-overload]
    plain = {name: plain_value(value) for name, value in (settings or {}).items()}
    origin = Origin(
        source.name, model_hash, platform.name, parameters, plain, network_to_json(compiled.network),
        compiled.kernels, dict(options or {}),
    )  # fmt: skip
    notes = dataclasses.replace(compiled.image.notes, buffers=buffer_table(compiled), origin=origin)
    image = dataclasses.replace(compiled.image, notes=notes)
    program = _program(source, image, compiled.network, platform, origin, seal(image).to_bytes())
    return dataclasses.replace(program, memory=compiled.memory, files=_files(compiled, program))


def _streaming(platform: Platform, backend: AnyBackend) -> AnyBackend:
    """Raises CompileError where the platform's compiler cannot."""
    if not isinstance(backend, HasStreaming):
        raise CompileError(f"the compiler of platform {platform.name!r} cannot let the next inputs in during a run")
    return backend.streaming()


def _digest(image: Image) -> str:
    notes = dataclasses.replace(image.notes, digest="")
    told = to_plain([image.entry, image.machine, image.tiles, notes])
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    parts = [(s.address.to_bytes(8, "little"), len(s.data).to_bytes(8, "little"), s.data) for s in image.segments]
    loaded = b"".join(b"".join(part) for part in parts)
    return sha256(text.encode() + b"\0" + loaded)


def seal(image: Image) -> Image:
    """The image with a checksum over everything in it, by which `load_image` knows a damaged one."""
    return dataclasses.replace(image, notes=dataclasses.replace(image.notes, digest=_digest(image)))


def _files(compiled: Compiled, program: Program) -> dict[str, bytes]:
    cycles = {
        "model": program.source.name, "platform": program.platform_name, "iss_cycles": program.iss_cycles,
        "estimated_cycles": program.estimated_cycles,
        "repeat_cycles": program.notes.repeat.best if program.notes.repeat else None,
        "image_sha256": sha256(program.image),
        "layers": [{"name": s.name, "ops": list(s.ops), "engine": s.engine, "iss_cycles": s.cycles.best,
                    "estimated_cycles": s.estimated_cycles}
                   for s in program.schedule],
    }  # fmt: skip
    return {
        "image.elf": program.image,
        "listing.txt": text_bytes(printable(listing(compiled))),
        "memory.txt": text_bytes(printable(memory_map(compiled))),
        "cycles.json": (json.dumps(cycles, indent=2) + "\n").encode(),
        **{name: text_bytes(printable(text)) for name, text in compiled.lowered.files.items()},
    }


def _read_image(source: Path, data: bytes) -> Image:
    try:
        return Image.from_bytes(data, str(source))
    except ImageError as error:
        if str(source) in str(error):
            raise
        raise ImageError(f"{source}: {error}; compile it again") from error


def load_image(source: Path, data: bytes) -> tuple[Program, Platform, dict[str, Value]]:
    """An image that `compile_model` made, its platform, and the settings the user gave then.

    Raises:
        ImageError: damaged, cut off, stripped, or not made by nncosim.
    """
    image = _read_image(source, data)
    origin = image.notes.origin
    if origin is None:
        raise ImageError(
            f"{source}: has no section that says what it computes (stripped, or not made by `nncosim compile`); "
            "compile it again"
        )
    if image.notes.digest != _digest(image):
        raise ImageError(f"{source}: is damaged (its contents do not match its checksum); compile it again")
    network = network_from_json(origin.network, str(source))
    platform = _platform(origin, str(source))
    try:
        program = _program(source, image, network, platform, origin, data, from_image=True, files={"image.elf": data})
    except KernelError as error:
        raise ImageError(f"{source}: {error}; compile it again") from error
    return program, platform, {name: getattr(platform, name) for name in origin.settings}


def _platform(origin: Origin, where: str) -> Platform:
    try:
        return from_plain(type(get_platform(origin.platform)), to_plain(origin.parameters), "parameters")
    except PlainError as error:
        raise ImageError(f"{where}: the machine that it is for is none of platform {origin.platform!r} here ({error}); "
                         "compile it again") from error  # fmt: skip
