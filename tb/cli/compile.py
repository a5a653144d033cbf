# SPDX-License-Identifier: Apache-2.0
"""`nncosim compile` and `nncosim check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from nncosim.compiler.backends import backend_for
from nncosim.compiler.compile import CheckResult, check_network
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.topology import topology
from nncosim.compiler.options import with_options
from nncosim.compiler.placement.placement import MemoryUse, fullest
from nncosim.platforms.base import Platform
from nncosim.tb.backend import predicted_interval
from nncosim.tb.cli.asked import Asked, model_options
from nncosim.tb.cli.options import (
    check_outputs,
    json_option,
    model_argument,
    out_option,
    output_console,
    progress,
    read_forms,
    resolve_options,
    resolve_platform,
    write_json,
)
from nncosim.tb.report.requantization import requantization_of
from nncosim.tb.report.table import model_title, print_remarks
from nncosim.tb.run.program import Program, compile_model, read_model, read_source
from nncosim.tb.system.files import sha256, write_files
from nncosim.tb.system.terminal import plain_table, printable
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["check_command", "compile_command"]


def _print_program(console: Console, program: Program, platform: Platform, interval: float | None) -> None:
    macs = {op.name: program.network.macs(op) for op in program.network.ops}
    names = {op.name: op.title for op in program.network.ops}
    table = plain_table()
    for column in ("layer", "operator", "engine", "MACs", "estimated", model_title(platform), "MAC/cycle"):
        table.add_column(column, justify="left" if column in ("layer", "operator", "engine") else "right")
    for step in program.schedule:
        count = sum(macs[op] for op in step.ops)
        rate = count / max(step.cycles.best, 1)
        what = " + ".join(names[op] for op in step.ops)
        cells = [step.name, what, step.engine, f"{count:,}", _cycles(step.estimated_cycles), str(step.cycles)]
        table.add_row(*map(escape, cells), f"{rate:,.1f}")
    console.print(table, "")
    total = sum(macs.values())
    console.print(f"by the {platform.cycle_model}: {program.iss_cycles:,} cycles for {total:,} MACs, "
                  f"{total / max(program.iss_cycles, 1):,.1f} MAC/cycle; estimated before linking: "
                  f"{_cycles(program.estimated_cycles)}")  # fmt: skip
    if interval is not None:
        console.print(f"in a stream: one inference every {interval:,.1f} cycles, predicted")


def _cycles(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


@click.command("compile")
@model_argument
@model_options
@click.option("--stream", is_flag=True, help="The next inputs may come in while the network runs (run --stream).")
@out_option(required=True)
@json_option
def compile_command(model: Path, asked: Asked, stream: bool, out: Path, json_file: Path | None) -> int:
    """Write the image, its listing, the memory map, and the cycles estimated and predicted, to --out."""
    check_outputs({"the model": model, "the data": asked.calibrate}, json_file=json_file, out=out)
    platform, overrides = resolve_platform(asked.platform_name, asked.settings)
    options = resolve_options(platform, asked.compiler_options)
    with progress() as say:
        data = read_source(model)
        say(f"importing {model.name}")
        forms = read_forms(model, asked.input_quant, asked.calibrate)
        network = read_model(model, data, platform, forms, asked.nearest)
        program = compile_model(model, data, platform, overrides, say, network, stream, options)
        interval = predicted_interval(platform, program.image)
    write_files(out, program.files)
    console = output_console(json_file)
    print_remarks(console, program.network.remarks)
    _print_program(console, program, platform, interval)
    for name, data in program.files.items():
        console.print(f"{escape(str(out / name))}  {len(data):,} bytes", soft_wrap=True)
    write_json({
        "model": model.name, "platform": platform.name, "compiler_options": options, "iss_cycles": program.iss_cycles,
        "interval_cycles": interval, "estimated_cycles": program.estimated_cycles,
        "remarks": list(program.network.remarks),
        "files": {name: {"bytes": len(data), "sha256": sha256(data)} for name, data in program.files.items()},
        "hashes": {"image": sha256(program.image), "model": program.model_hash},
    }, json_file)  # fmt: skip
    return 0


def _check_json(
    model: Path, platform: Platform, network: Network, result: CheckResult, interval: float | None
) -> dict[str, object]:
    return {
        "model": model.name, "platform": platform.name, "fits": not result.problems,
        "problems": [vars(problem) for problem in result.problems],
        "remarks": list(network.remarks),
        "topology": topology(network), "macs": sum(network.macs(op) for op in network.ops), "layers": len(network.ops),
        "requantization": requantization_of(network).to_json(),
        "memory": [{**vars(use), "free": use.free} for use in result.memory],
        "iss_cycles": result.compiled.iss_cycles if result.compiled else None, "interval_cycles": interval,
    }  # fmt: skip


_KINDS = {
    "weights": "weights", "parameters": "requantization parameters", "maps": "maps", "program": "programs",
    "list": "descriptors",
}  # fmt: skip


def _memory_table(memory: Sequence[MemoryUse]) -> Table:
    """What lies in each memory (of several alike, in the fullest): bytes by kind, what filling takes, what is free."""
    table = plain_table()
    for column in ("memory", "what", "bytes", "share"):
        table.add_column(column, justify="left" if column in ("memory", "what") else "right")
    for name, use in fullest(memory):
        known = [kind for kind in _KINDS if kind in use.by_kind]
        others = sorted(set(use.by_kind) - set(known))
        rows = [(_KINDS.get(kind, kind), use.by_kind[kind]) for kind in (*known, *others)]
        rows.append(("filling", use.peak - sum(use.by_kind.values())))
        for what, size in [row for row in rows if row[1]] + [("free", use.free), ("in all", use.size)]:
            table.add_row(name, what, f"{size:,}", f"{size / use.size:.1%}")
    return table


def _print_fit(
    console: Console, network: Network, platform: Platform, result: CheckResult, interval: float | None
) -> None:
    assert result.compiled is not None
    proof = requantization_of(network)
    console.print(_memory_table(result.memory), "")
    for use in result.memory:
        if use.step:
            alive = ", ".join(f"{escape(name)} {size:,}" for name, size in use.alive)
            console.print(f"most of {use.memory} is in use in layer {escape(use.step)}: {alive} bytes")
    console.print(
        f"{len(network.ops)} layers, requantization {escape(str(proof))}"
    )
    predicted = f"{result.compiled.iss_cycles:,} cycles by the {platform.cycle_model}"
    if interval is not None:
        predicted += f", in a stream one inference every {interval:,.1f} cycles"
    console.print(f"[green]fits {platform.name}[/]; {predicted}")


@click.command("check")
@model_argument
@model_options
@json_option
def check_command(model: Path, asked: Asked, json_file: Path | None) -> int:
    """Is the model supported, does it fit? If not, say everything that is wrong, and what to change.

    Exit status: 0 it compiles, 2 it does not.
    """
    check_outputs({"the model": model, "the data": asked.calibrate}, json_file=json_file)
    platform, _ = resolve_platform(asked.platform_name, asked.settings)
    backend = with_options(backend_for(platform), resolve_options(platform, asked.compiler_options))
    with progress() as say:
        say(f"importing {model.name}")
        data = read_source(model)
        forms = read_forms(model, asked.input_quant, asked.calibrate)
        network = read_model(model, data, platform, forms, asked.nearest)
        say("compiling")
        result = check_network(network, platform, backend)
        network = result.compiled.network if result.compiled else network
        interval = predicted_interval(platform, result.compiled.image.to_bytes()) if result.compiled else None
    console = output_console(json_file)
    write_json(_check_json(model, platform, network, result, interval), json_file)
    if result.problems:
        count = len(result.problems)
        what = f"{model} does not fit {platform.name}: {count} problem{'s' if count > 1 else ''}"
        lines = "".join(f"\n  {problem}" for problem in result.problems)
        click.echo(printable(f"nncosim: error: {what}{lines}"), err=True)
        return 2
    print_remarks(console, network.remarks)
    _print_fit(console, network, platform, result, interval)
    return 0
