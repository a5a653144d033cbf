# SPDX-License-Identifier: Apache-2.0
"""`nncosim timing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
from nncosim.platforms.base import Platform
from nncosim.platforms.plain import Json
from nncosim.tb.backend import Timed, get_bench
from nncosim.tb.cli.about import machine_json, write_results
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    complete_timing_blocks,
    json_option,
    machine_options,
    out_option,
    output_console,
    progress,
    resolve_platform,
    write_json,
)
from nncosim.tb.errors import BenchError
from nncosim.tb.system.progress import MAPPING, Progress
from nncosim.tb.system.terminal import Terminal
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.sta import OSU018, fo4_delay
from nncosim.tb.timing.table import (
    BlockTiming,
    Clocking,
    failures,
    paths_table,
    summary_table,
    timing_header,
    timing_json,
)
from rich.text import Text

__all__ = ["timing_command"]

_NAME, _CELLS = "timing", "cells.lib"
_KEPT = {"mapped.v": "{}.v", "cut.lib": "{}_cut.lib", "time.tcl": "{}.tcl"}
"""What a block's analysis leaves, and its name in --out."""


def _timed(platform: Platform) -> Timed:
    bench = get_bench(platform)
    if not isinstance(bench, Timed):
        raise BenchError(f"the bench of platform {platform.name!r} says of no block how it is timed")
    return bench


def _chosen(bench: Timed, platform: Platform, names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in bench.timing_blocks:
            known = ", ".join(bench.timing_blocks)
            raise click.UsageError(f"{platform.name} has no block {name!r} to time; there are {known}")
    return [name for name in bench.timing_blocks if name in names or not names]


def _time(bench: Timed, platform: Platform, names: Sequence[str], liberty: Path, say: Progress) -> list[BlockTiming]:
    blocks = []
    for name in names:
        say(f"{name}: {MAPPING}")
        blocks.append(BlockTiming(name, bench.timing_blocks[name], bench.time_block(platform, name, liberty)))
    return blocks


def _print(console: Terminal, blocks: Sequence[BlockTiming], clocking: Clocking) -> None:
    console.print(timing_header(blocks, clocking), "", summary_table(blocks, clocking), sep="\n")
    for block in blocks:
        console.print("", paths_table(block, clocking), sep="\n")
    failed = failures(blocks, clocking)
    if failed:
        console.print("", *(Text(text, style="red") for text in failed), sep="\n")
    elif clocking.period is not None:
        console.print("", f"[green]every path holds {clocking.period:g} ns[/]", sep="\n")


def _write(out: Path, blocks: Sequence[BlockTiming], clocking: Clocking, data: dict[str, Json],
           show: Callable[[Terminal], None]) -> None:
    """Tables, JSON, and what OpenSTA needs to time the blocks again: ``sta BLOCK.tcl`` in that folder."""
    files = {_CELLS: clocking.liberty.read_bytes()}
    for block in blocks:
        if block.report.folder is None:
            continue
        for name, kept in _KEPT.items():
            content = (block.report.folder / name).read_text()
            if name == "time.tcl":
                for other in ("mapped.v", "cut.lib"):
                    content = content.replace(f" {other}\n", f" {_KEPT[other].format(block.name)}\n")
            files[kept.format(block.name)] = content.encode()
    write_results(out, _NAME, show, data, files)


@click.command("timing")
@machine_options
@click.option("--block", "names", multiple=True, metavar="NAME", shell_complete=complete_timing_blocks,
              help="Only this block; may be repeated [default: all that the platform's bench has].")
@click.option("--liberty", type=PATH, metavar="FILE",
              help="Cell library that the blocks are mapped to and timed with [default: OSU 180 nm].")
@click.option("--period", type=click.FloatRange(min=0, min_open=True), metavar="NS",
              help="Clock period in ns of that library: slacks are shown, and a path that is longer is a failure.")
@json_option
@out_option()
def timing_command(
    platform_name: str | None,
    settings: tuple[str, ...],
    names: tuple[str, ...],
    liberty: Path | None,
    period: float | None,
    json_file: Path | None,
    out: Path | None,
) -> int:
    """How fast can a machine be clocked? Maps its blocks to a cell library (Yosys) and times them (OpenSTA).

    Of each block: the longest path, which is the best period; the least slack of hold; its area; and its ten longest
    paths with the lines that declare the registers at their ends. Before placement: the clock is ideal, there are no
    wires but what the library's own model says, and what lies beyond ports and in SRAMs is a budget. The first time a
    block is mapped takes minutes.

    \b
      nncosim timing --platform j3dai --block control --period 7

    Exit status: 0 done; 1 with --period: a path is longer, or the hold of a register fails; 2 bad input.
    """
    platform, overrides = resolve_platform(platform_name, settings)
    bench = _timed(platform)
    chosen = _chosen(bench, platform, names)
    check_outputs({"the cell library": liberty}, json_file=json_file, out=out,
                  results=(f"{_NAME}.txt", f"{_NAME}.json", _CELLS,
                           *(kept.format(name) for name in chosen for kept in _KEPT.values())))
    liberty = liberty or OSU018
    if not liberty.is_file() and liberty != OSU018:
        raise BenchError(f"cannot read the cell library {liberty}: there is no such file")
    with progress() as say:
        fo4 = fo4_delay(liberty)
        clocking = Clocking(liberty, read_library(liberty), fo4, period)
        blocks = _time(bench, platform, chosen, liberty, say)
    data = timing_json(blocks, clocking, machine_json(platform, overrides))
    _print(output_console(json_file), blocks, clocking)
    if out is not None:
        _write(out, blocks, clocking, data, lambda console: _print(console, blocks, clocking))
    write_json(data, json_file)
    return 1 if failures(blocks, clocking) else 0
