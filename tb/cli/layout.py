# SPDX-License-Identifier: Apache-2.0
"""`nncosim layout`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from nncosim.platforms.base import Platform
from nncosim.platforms.plain import Json
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.about import library_json, machine_json, write_results
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    complete_layout_blocks,
    json_option,
    machine_options,
    out_option,
    output_console,
    progress,
    resolve_platform,
    write_json,
)
from nncosim.tb.errors import BenchError
from nncosim.tb.layout.bench import LaidOut
from nncosim.tb.layout.def_file import read_def
from nncosim.tb.layout.flow import OSU018_LEF, RoutedTiming, place_and_route, time_routed
from nncosim.tb.layout.lef import Lef, read_lef
from nncosim.tb.layout.picture import svg
from nncosim.tb.layout.table import layout_header, layout_json, layouts_table, wires_table
from nncosim.tb.system.progress import Progress
from nncosim.tb.system.terminal import Terminal
from nncosim.tb.timing.library import read_library, without_wires
from nncosim.tb.timing.sta import OSU018

__all__ = ["layout_command"]

_NAME, _CELLS = "layout", "cells.lib"
_OF_BLOCK = ("{}.v", "{}.spef", "{}.def", "{}.svg", "{}.tcl", "{}_cut.lib")
"""Files of a block in --out."""


def _bench(platform: Platform) -> LaidOut:
    bench = get_bench(platform)
    if not isinstance(bench, LaidOut):
        raise BenchError(f"the bench of platform {platform.name!r} has no units that can be laid out")
    return bench


def _lay_out(bench: LaidOut, platform: Platform, names: Sequence[str], liberty: Path, lef: Path,
             say: Progress) -> list[RoutedTiming]:
    blocks = []
    for name in dict.fromkeys(names):
        def step(text: str, unit: str = name) -> None:
            say(f"{unit}: {text}")

        routed = place_and_route(bench.layout_part(platform, name), liberty, lef, step)
        say(f"{name}: timing")
        blocks.append(time_routed(routed, name=name))
    return blocks


def _print(console: Terminal, blocks: Sequence[RoutedTiming], lef: Lef) -> None:
    console.print(layout_header(lef), "", wires_table(blocks), "", layouts_table(blocks), sep="\n")


def _write(out: Path, blocks: Sequence[RoutedTiming], lef: Lef, data: dict[str, Json], liberty: Path) -> None:
    """Tables, JSON; of each block its netlist, parasitics, layout and picture, and what OpenSTA needs to time it again:
    ``sta BLOCK.tcl`` in that folder."""
    files = {_CELLS: without_wires(liberty.read_text(errors="replace")).encode()}
    for block in blocks:
        name, made = block.name, block.routed
        kept = {"mapped.v": f"{name}.v", "wires.spef": f"{name}.spef", "cut.lib": f"{name}_cut.lib"}
        for path, suffix in ((made.verilog, "v"), (made.spef, "spef"), (made.def_file, "def")):
            files[f"{name}.{suffix}"] = path.read_bytes()
        files[f"{name}.svg"] = picture(block, lef).encode()
        if block.wired.folder is not None:
            files[f"{name}_cut.lib"] = (block.wired.folder / "cut.lib").read_bytes()
            commands = (block.wired.folder / "time.tcl").read_text()
            for old, new in kept.items():
                commands = commands.replace(f" {old}\n", f" {new}\n")
            files[f"{name}.tcl"] = commands.encode()
    write_results(out, _NAME, lambda console: _print(console, blocks, lef), data, files)


def picture(block: RoutedTiming, lef: Lef) -> str:
    """SVG of a block's layout."""
    made = block.routed
    title = f"{block.name}: {made.cells:,} cells, {made.nets:,} nets, {made.length / 1000:.1f} mm of wire"
    return "\n".join([*svg(read_def(made.def_file, lef), lef, read_library(made.liberty).storage, title), ""])


@click.command("layout")
@machine_options
@click.option("--block", "names", multiple=True, required=True, metavar="UNIT", shell_complete=complete_layout_blocks,
              help="Unit of the platform that is laid out; may be repeated.")
@click.option("--liberty", type=PATH, metavar="FILE", help="Timing of the cells [default: OSU 180 nm].")
@click.option("--lef", type=PATH, metavar="FILE",
              help="Technology and layout of the same cells [default: OSU 180 nm].")
@json_option
@out_option()
def layout_command(
    platform_name: str | None,
    settings: tuple[str, ...],
    names: tuple[str, ...],
    liberty: Path | None,
    lef: Path | None,
    json_file: Path | None,
    out: Path | None,
) -> int:
    """What do wires cost? Places (graywolf) and routes (qrouter) units of a machine that are mapped to a cell library.

    Of each unit: size, wires and their parasitics, the best period and the hold with them and without (OpenSTA). The
    layout is held against the netlist, and what OpenSTA finds of the parasitics against what was laid. --out has
    netlist, SPEF, DEF and a picture. A thousand cells take half a minute, three thousand some minutes.

    \b
      nncosim layout --platform j3dai --block counters --out DIR

    Exit status: 0 done; 2 bad input, a unit that cannot be routed, or a layout that fails a check.
    """
    check_outputs({"the cell library": liberty, "the LEF file": lef}, json_file=json_file, out=out,
                  results=(f"{_NAME}.txt", f"{_NAME}.json", _CELLS,
                           *(end.format(name) for name in names for end in _OF_BLOCK)))
    platform, overrides = resolve_platform(platform_name, settings)
    bench = _bench(platform)
    for name in names:
        if name not in bench.layout_blocks:
            raise click.UsageError(f"{platform.name} has no unit {name!r} to lay out; there are "
                                   f"{', '.join(bench.layout_blocks)}")
    if (liberty is None) != (lef is None):
        raise click.UsageError("--liberty and --lef are of the same cells: give both, or neither")
    liberty, lef = liberty or OSU018, lef or OSU018_LEF
    with progress() as say:
        blocks = _lay_out(bench, platform, names, liberty, lef, say)
    library: Json = {**library_json(liberty), "fo4_ns": blocks[0].wired.fo4_ns}
    about = {**machine_json(platform, overrides), "library": library, "lef": str(lef)}
    technology = read_lef(lef)
    data = layout_json(blocks, technology, about)
    _print(output_console(json_file), blocks, technology)
    if out is not None:
        _write(out, blocks, technology, data, liberty)
    write_json(data, json_file)
    return 0
