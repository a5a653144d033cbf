"""A compiled network with what it takes to judge a run of it: from a model, or from an image compiled before."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nncosim.compiler.backends import backend_for
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.image import Image, ImageError
from nncosim.compiler.ir import Network
from nncosim.compiler.proof import prove
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.registry import get_platform
from nncosim.tb.files import sha256
from nncosim.tb.network_json import network_from_json, network_to_json
from nncosim.tb.report import Step

__all__ = ["Program", "SourceError", "compile_model", "is_image", "load_image", "prove_model", "read_source"]

ELF_MAGIC = b"\x7fELF"
ORIGIN = "origin"
"""Key of the image's schedule section: model, platform and network, for runs without the model."""

Progress = Callable[[str], None]


class SourceError(NncosimError):
    """A model or image file that cannot be read, or is something else."""


@dataclass(frozen=True, eq=False)
class Program:
    """What a bench runs, and what its result is held against.

    `network`: proved. `schedule`: the layers in the order of completion. `files`: name to contents, for --out.
    """

    source: Path
    platform_name: str
    network: Network
    image: bytes
    schedule: tuple[Step, ...]
    predicted_cycles: int
    model_hash: str
    compile_seconds: float = 0.0
    from_image: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)


def read_source(path: Path) -> bytes:
    """The bytes of a model or image.

    Raises:
        SourceError: no such file, or it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {path}") from error
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise SourceError(f"{path} is empty")
    return data


def is_image(data: bytes) -> bool:
    return data.startswith(ELF_MAGIC)


def prove_model(source: Path, data: bytes, platform: Platform) -> Network:
    """Import a model and find its requantization for `platform`.

    Raises:
        SourceError: an image where a model belongs.
        CompileError: not ONNX, or a model that is not supported.
    """
    if is_image(data):
        raise SourceError(f"{source} is a compiled image; this command takes an ONNX model")
    return prove(import_model(source), backend_for(platform).caps)
