# SPDX-License-Identifier: Apache-2.0
"""`nncosim cache`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.tb.cli.options import json_option, output_console, write_json
from nncosim.tb.system.cache import cache_root, clear, usage
from nncosim.tb.system.terminal import plain_table

__all__ = ["cache_command"]


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


@click.command("cache")
@click.option("--clear", "empty", is_flag=True, help="Delete all that is in it; what is being built stays.")
@json_option
def cache_command(empty: bool, json_file: Path | None) -> int:
    """Where built simulations are kept, and how much that is; --clear empties it.

    The folder is $NNCOSIM_CACHE, or nncosim in $XDG_CACHE_HOME or in ~/.cache.
    """
    found = usage()
    busy = clear() if empty else []
    left = usage() if empty else found
    console = output_console(json_file)
    console.print(str(cache_root()), markup=False, soft_wrap=True)
    table = plain_table()
    for column in ("holds", "entries", "size"):
        table.add_column(column, justify="left" if column == "holds" else "right")
    for part in left:
        table.add_row(part.kind, str(part.entries), _mib(part.bytes))
    table.add_row("all", str(sum(part.entries for part in left)), _mib(sum(part.bytes for part in left)))
    console.print(table)
    if empty:
        freed = sum(part.bytes for part in found) - sum(part.bytes for part in left)
        console.print(f"deleted {_mib(freed)}" + (f"; left, as it is being built: {len(busy)}" if busy else ""))
    parts = {part.kind: {"entries": part.entries, "bytes": part.bytes} for part in left}
    write_json({"path": str(cache_root()), "bytes": sum(part.bytes for part in left), "holds": parts}, json_file)
    return 0
