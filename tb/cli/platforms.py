# SPDX-License-Identifier: Apache-2.0
"""`nncosim platforms`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import click
from nncosim.compiler.backends import backend_for
from nncosim.compiler.options import CompilerOption, options_of
from nncosim.platforms.area import sram_nand2
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.parameters import Value, plain_value, value_text
from nncosim.platforms.plain import Json
from nncosim.platforms.registry import platforms
from nncosim.tb.backend import Patchable, get_bench
from nncosim.tb.cli.options import PATH, json_option, output_console, resolve_platform, write_json
from nncosim.tb.errors import BenchError
from nncosim.tb.report.published import published_title
from nncosim.tb.system.files import prepare_directory, write_files
from nncosim.tb.system.terminal import plain_table
from rich.console import Console
from rich.markup import escape

__all__ = ["platforms_command"]


def _size(size_bytes: int) -> str:
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:g} {unit}"
    return f"{size_bytes} bytes"


def _parameters(platform: Platform) -> dict[str, Value]:
    return {field.name: getattr(platform, field.name) for field in fields(platform)}


def _backends(platform: Platform) -> dict[str, list[str]]:
    try:
        bench = get_bench(platform)
    except NncosimError:
        return {}
    return {backend: list(bench.drivers.get(backend, ())) for backend in bench.backends}


def _options(platform: Platform) -> tuple[CompilerOption, ...]:
    try:
        return options_of(backend_for(platform))
    except NncosimError:
        return ()


def _facts(platform: Platform) -> dict[str, Json]:
    """What a platform says of itself beyond the common fields: figures like its storage in flip-flops."""
    return dict(getattr(platform, "facts", {}) or {})


def _area(platform: Platform) -> dict[str, Json] | None:
    """NAND2 equivalents, and bits of SRAM by ports; None where nobody has measured the machine."""
    area = platform.area
    if area is None:
        return None
    return {
        "logic": [{**vars(block), "total": block.total} for block in area.logic],
        "memories": [{"name": m.name, "bits": m.bits, "ports": m.ports, "total": sram_nand2(m.bits, m.ports)}
                     for m in area.memories],
        "logic_nand2": area.logic_nand2, "sram_nand2": area.sram_nand2, "total_nand2": area.total,
    }  # fmt: skip


def _json(platform: Platform) -> dict[str, Json]:
    return {
        "name": platform.name,
        "title": platform.title,
        "parameters": {name: plain_value(value) for name, value in _parameters(platform).items()},
        "peak_macs_per_cycle": platform.peak_macs_per_cycle,
        "engines": [vars(e) | {"rates": {f"{a}x{w}": macs for (a, w), macs in e.rates.items()}}
                    for e in platform.engines],
        "memories": [vars(m) for m in platform.memories],
        "movers": [vars(m) for m in platform.movers],
        "published": [vars(p) for p in platform.published],
        "published_for": published_title(platform),
        "area": _area(platform),
        "backends": _backends(platform),
        "compiler_options": [{"name": o.name, "default": o.default, "takes": o.takes, "values": list(o.values)}
                             for o in _options(platform)],
        "facts": _facts(platform),
    }


def _print_list(console: Console, known: dict[str, Platform]) -> None:
    table = plain_table()
    for column in ("platform", "what it is", "MAC/cycle", "backends"):
        table.add_column(column)
    for name, platform in sorted(known.items()):
        table.add_row(
            name, escape(platform.title), f"{platform.peak_macs_per_cycle:,}", ", ".join(_backends(platform)) or "-"
        )
    console.print(table)
    console.print("nncosim platforms NAME tells the sizes, the choices made, and the published figures.")


def _print_parts(console: Console, platform: Platform) -> None:
    parameters = plain_table("parameters (--set NAME=VALUE)")
    for column in ("parameter", "value"):
        parameters.add_column(column)
    for name, value in _parameters(platform).items():
        parameters.add_row(name, f"{value:,}" if type(value) is int else escape(value_text(value)))
    for name, fact in _facts(platform).items():
        parameters.add_row(escape(str(name)), escape(str(fact)))
    told = plain_table("compiler options (--compiler-option NAME=VALUE)")
    for column in ("option", "default", "what it is"):
        told.add_column(column)
    for option in _options(platform):
        values = f": {', '.join(option.values)}" if option.values else ""
        told.add_row(option.name, option.default or "-", escape(f"{option.takes}{values}"))
    engines = plain_table("engines")
    for column in ("engine", "instances", "MAC/cycle each"):
        engines.add_column(column)
    for engine in platform.engines:
        engines.add_row(engine.name, str(engine.instances), str(engine.macs_per_cycle))
    memories = plain_table("memories")
    for column in ("memory", "instances", "size each", "banks", "bits a bank"):
        memories.add_column(column)
    for memory in platform.memories:
        memories.add_row(
            memory.name, str(memory.instances), _size(memory.size_bytes), str(memory.banks), str(memory.width_bits)
        )
    movers = plain_table("movers")
    for column in ("mover", "reaches", "bits a cycle"):
        movers.add_column(column)
    for mover in platform.movers:
        movers.add_row(mover.name, ", ".join(mover.reaches), str(mover.width_bits))
    for table in (parameters, told, engines, memories, movers):
        if table.row_count:
            console.print(table, "")


def _print_area(console: Console, platform: Platform) -> None:
    area = platform.area
    if area is None:
        return
    table = plain_table("area (thousands of NAND2 equivalents; a model fitted to mapped netlists)")
    for column in ("block", "instances", "gates", "flip-flops", "each", "all", "share"):
        table.add_column(column, justify="left" if column == "block" else "right")
    for block in area.logic:
        each = [f"{value / 1000:,.1f}" for value in (block.gates, block.flip_flops, block.one, block.total)]
        table.add_row(escape(block.name), str(block.instances), *each, f"{block.total / area.total:.1%}")
    table.add_row("logic", "", "", "", "", f"{area.logic_nand2 / 1000:,.1f}", f"{area.logic_nand2 / area.total:.1%}")
    for ports, text in ((1, "SRAM, one port"), (2, "SRAM, read and write port")):
        nand2 = sram_nand2(area.bits(ports), ports)
        size = f"{text}: {area.bits(ports) // 8192:,} KiB"
        table.add_row(size, "", "", "", "", f"{nand2 / 1000:,.1f}", f"{nand2 / area.total:.1%}")
    console.print(table, "")


def _print_published(console: Console, platform: Platform) -> None:
    if not platform.published:
        return
    table = plain_table(published_title(platform))
    for column in ("network", "quantity", "value", "source"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for figure in platform.published:
        name = ", ".join(filter(None, (figure.network, figure.configuration)))
        table.add_row(*map(escape, (name, figure.quantity, f"{figure.value:,} {figure.unit}", figure.source)))
    console.print(table)


def _write_verilog(platform: Platform, out: Path) -> None:
    prepare_directory(out, "--verilog")
    bench = get_bench(platform)
    if not isinstance(bench, Patchable):
        raise BenchError(f"platform {platform.name!r} has no Verilog of its own to write (--verilog)")
    write_files(out, {name: text.encode() for name, text in bench.verilog(platform).items()})


@click.command("platforms")
@click.argument("name", required=False)
@click.option("--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="Describe it with other parameters.")
@click.option("--verilog", type=PATH, metavar="DIR", help="Write its RTL as Verilog, for --rtl-patch.")
@json_option
def platforms_command(
    name: str | None, settings: tuple[str, ...], verilog: Path | None, json_file: Path | None
) -> int:
    """List the machines; with NAME its sizes, the choices made for it with their reasons, and published figures."""
    console = output_console(json_file)
    if name is None:
        if settings or verilog is not None:
            raise click.UsageError(f"{'--set' if settings else '--verilog'} needs the NAME of a platform")
        known = platforms()
        _print_list(console, known)
        write_json({"platforms": [_json(platform) for platform in known.values()]}, json_file)
        return 0
    platform, _ = resolve_platform(name, settings)
    if verilog is not None:
        _write_verilog(platform, verilog)
    console.print(f"[bold]{platform.name}[/]: {escape(platform.title)}")
    console.print(escape(inspect.getdoc(type(platform)) or ""), "")
    _print_parts(console, platform)
    _print_area(console, platform)
    _print_published(console, platform)
    write_json(_json(platform), json_file)
    return 0
