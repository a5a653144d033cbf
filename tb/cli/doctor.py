# SPDX-License-Identifier: Apache-2.0
"""`nncosim doctor`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.tb.cli.installation import Finding, examine
from nncosim.tb.cli.options import json_option, output_console, write_json
from nncosim.tb.system.terminal import plain_table
from rich.markup import escape

__all__ = ["doctor_command"]

STATES = {"ok": "[green]found[/]", "missing": "[red]missing[/]", "absent": "[yellow]not found (optional)[/]"}


def _row(finding: Finding) -> tuple[str, str, str, str]:
    return (
        finding.name,
        STATES[finding.state],
        finding.version or "-",
        escape(finding.use if finding.found else finding.help),
    )


@click.command("doctor")
@json_option
def doctor_command(json_file: Path | None) -> int:
    """Look for every tool and print its version. Exit status 1 if one is missing that runs need."""
    findings = examine()
    table = plain_table()
    for column in ("tool", "state", "version", "needed for / how to get it"):
        table.add_column(column)
    for finding in findings:
        table.add_row(*_row(finding))
    console = output_console(json_file)
    console.print(table)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    console.print(
        f"[red]missing: {', '.join(missing)}[/]" if missing else "[green]everything that runs need is here[/]"
    )
    write_json({"tools": [finding.to_json() for finding in findings], "missing": missing}, json_file)
    return 1 if missing else 0
