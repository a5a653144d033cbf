# SPDX-License-Identifier: Apache-2.0
"""`nncosim report`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.tb.cli.options import PATH, progress
from nncosim.tb.report.pages.data import load_run
from nncosim.tb.report.pages.page import PAGE, report_page
from nncosim.tb.report.trace_events import TRACE, trace_json
from nncosim.tb.system.files import prepare_directory, write_files
from nncosim.tb.system.terminal import printable

__all__ = ["report_command"]


@click.command("report")
@click.argument("directory", metavar="DIR", type=PATH)
def report_command(directory: Path) -> int:
    """Draw a run: DIR/report.html, one page to open in a browser, and DIR/timeline.trace.json, for Perfetto.

    DIR is the folder of an earlier `nncosim run MODEL.onnx --out DIR`.
    """
    with progress() as say:
        say(f"reading {directory}")
        run = load_run(directory)
        prepare_directory(directory)
        say("drawing")
        files = {PAGE: report_page(run), TRACE: trace_json(run.report, run.rows)}
        write_files(directory, files)
    for name, data in files.items():
        click.echo(printable(f"{directory / name}  {len(data):,} bytes"))
    return 0
