# SPDX-License-Identifier: Apache-2.0
"""Options that several subcommands share, and where their output goes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from nncosim.platforms.base import Platform, parse_overrides
from nncosim.platforms.registry import get_platform, platforms
from nncosim.tb.files import write_file
from rich.console import Console

__all__ = [
    "DEFAULT_PLATFORM",
    "Progress",
    "json_option",
    "model_argument",
    "out_option",
    "output_console",
    "platform_options",
    "progress",
    "resolve_platform",
    "write_json",
]

DEFAULT_PLATFORM = "j3dai"
Progress = Callable[[str], None]

_PATH = click.Path(path_type=Path)
model_argument = click.argument("model", metavar="MODEL.onnx", type=_PATH)
json_option = click.option(
    "--json", "json_file", type=_PATH, metavar="FILE", help="Write the JSON report; - is stdout."
)


def out_option(**extra: Any) -> Callable:
    text = "Folder for the results; it appears complete or not at all."
    return click.option("--out", type=_PATH, metavar="DIR", help=text, **extra)


def platform_options(command: Callable) -> Callable:
    """--platform NAME and --set PARAMETER=VALUE."""
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="PARAMETER=VALUE",
        help="Change a parameter of the platform; may be repeated.",
    )(command)
    return click.option(
        "--platform",
        "platform_name",
        metavar="NAME",
        help=f"The machine [default: {DEFAULT_PLATFORM}]; see `nncosim platforms`.",
    )(command)


def resolve_platform(name: str | None, settings: tuple[str, ...]) -> tuple[Platform, dict[str, int]]:
    """The platform with the user's settings, and the settings.

    Raises:
        PlatformError: unknown platform or parameter, or values that contradict each other.
    """
    overrides = parse_overrides(settings)
    if name is None:
        known = platforms()
        name = DEFAULT_PLATFORM if DEFAULT_PLATFORM in known else next(iter(known), DEFAULT_PLATFORM)
    platform = get_platform(name)
    return (platform.with_parameters(**overrides) if overrides else platform), overrides


def output_console(json_file: Path | None = None) -> Console:
    """Where tables go: stdout, or stderr when stdout carries the JSON. Wide where it is no terminal."""
    console = Console(stderr=json_file == Path("-"), highlight=False)
    if not console.is_terminal:
        console = Console(stderr=json_file == Path("-"), highlight=False, width=200)
    return console


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A function that shows what is going on: a line with a spinner on stderr, nothing if that is no terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("starting") as status:
        yield lambda text: status.update(text, spinner="dots")


def write_json(data: dict[str, Any], path: Path | None) -> None:
    """Write the JSON report to `path`; "-" prints it, None does nothing."""
    if path is None:
        return
    text = json.dumps(data, indent=2) + "\n"
    if path == Path("-"):
        click.echo(text, nl=False)
    else:
        write_file(path, text.encode())
