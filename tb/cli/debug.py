# SPDX-License-Identifier: Apache-2.0
"""`nncosim debug`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.tb.cli.asked import Asked, run_options
from nncosim.tb.cli.options import (
    PATH,
    RESULTS,
    check_outputs,
    driver_option,
    json_option,
    output_console,
    patch_option,
    progress,
    seed_option,
    write_json,
)
from nncosim.tb.cli.run import print_story, program_of
from nncosim.tb.debug.bundle import FILES, WAVEFORM, write_bundle
from nncosim.tb.debug.story import debug_program
from nncosim.tb.run.flow import RunOptions
from nncosim.tb.sim.patches import read_patch
from nncosim.tb.system.files import prepare_directory

__all__ = ["debug_command"]


@click.command("debug")
@run_options
@driver_option
@patch_option
@seed_option("random inputs (without --input), and of the poison in memories")
@click.option("--out", type=PATH, default="debug", show_default=True, metavar="DIR",
              help="Folder for the bundle: story, waveform, and what `nncosim replay DIR` needs.")
@json_option
def debug_command(
    source: Path,
    asked: Asked,
    driver: str | None,
    input_file: Path | None,
    indices: tuple[int, ...],
    rtl_patch: Path | None,
    seed: int,
    out: Path,
    json_file: Path | None,
) -> int:
    """Run a model or an image as `run` does on the RTL, and lay it beside the simulator, cycle by cycle.

    Says where they part first: cycle, block, values; where everybody stood then; and writes a waveform of these cycles,
    and all that `nncosim replay` needs to run it again.

    Exit status: 0 nothing is wrong, 1 something is, 2 bad input.
    """
    inputs = {"the model": source, "the input": input_file, "the data": asked.calibrate, "the patch": rtl_patch}
    check_outputs(inputs, json_file=json_file, out=out, results=(*RESULTS, *FILES))
    prepare_directory(out)
    patch = read_patch(rtl_patch) if rtl_patch is not None else None
    options = RunOptions(None, driver, input_file, indices, seed, rtl_patch=patch, observe=True)
    with progress() as say:
        program, platform, overrides, options = program_of(source, asked, options, say)
        story = debug_program(program, platform, overrides, options, out / WAVEFORM, say)
        write_bundle(out, program, platform, overrides, options, story)
    print_story(story, out, output_console(json_file))
    write_json({**story.to_json(), "bundle": str(out)}, json_file)
    return 0 if story.passed else 1
