# SPDX-License-Identifier: Apache-2.0
"""`nncosim replay`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.tb.cli.options import (
    PATH,
    backend_option,
    check_outputs,
    driver_option,
    json_option,
    output_console,
    progress,
    write_json,
)
from nncosim.tb.debug.bundle import BUNDLE
from nncosim.tb.debug.replay import replay

__all__ = ["replay_command"]


@click.command("replay")
@click.argument("directory", metavar="DIR", type=PATH)
@backend_option("bundle", "that of then")
@driver_option
@json_option
def replay_command(directory: Path, backend: str | None, driver: str | None, json_file: Path | None) -> int:
    """Run a debug bundle again: the same image, inputs, seed and patch.

    DIR is what `nncosim debug` or `nncosim run --debug` wrote. Says whether it passes now, or fails as then; what is
    different if not; and whether RTL and tools are those of then.

    Exit status: 0 it passes now, 1 it fails, 2 bad input.
    """
    check_outputs({"the bundle": directory / BUNDLE}, json_file=json_file)
    with progress() as say:
        found = replay(directory, backend, driver, say)
    console = output_console(json_file)
    for line in found.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    write_json(found.to_json(), json_file)
    return 0 if found.now.passed else 1
