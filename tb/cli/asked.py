# SPDX-License-Identifier: Apache-2.0
"""The options with which subcommands begin that read a model: the machine, how the model is read and compiled for it,
and of those that run it the inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
from nncosim.tb.cli.options import PATH, check_indices, image_options, input_options, platform_options

__all__ = ["Asked", "model_options", "run_options"]


class Asked(NamedTuple):
    """What `model_options` say."""

    platform_name: str | None = None
    settings: tuple[str, ...] = ()
    compiler_options: tuple[str, ...] = ()
    input_quant: tuple[str, ...] = ()
    calibrate: Path | None = None
    nearest: bool = False

    @property
    def of_compiling(self) -> bool:
        """Whether anything is said that an image has in it already, but for the machine."""
        return bool(self.input_quant or self.calibrate or self.nearest or self.compiler_options)


def model_options(command: Callable) -> Callable:
    """Options of `platform_options` and `input_options`, as `asked`."""
    @functools.wraps(command)
    def gathered(**given: object) -> object:
        asked = {name: given.pop(name) for name in Asked._fields}
        return command(asked=Asked(**asked), **given)  # type: ignore[arg-type]

    return platform_options(input_options(gathered))


def run_options(command: Callable) -> Callable:
    """A model or an image, as `source`; `model_options`; --input and --index of `image_options`, which go together."""
    @functools.wraps(command)
    def checked(*, indices: tuple[int, ...], input_file: Path | None, **given: object) -> object:
        check_indices(indices, input_file)
        return command(indices=indices, input_file=input_file, **given)

    source = click.argument("source", metavar="MODEL.onnx|IMAGE.elf", type=PATH)
    return source(model_options(image_options(checked)))
