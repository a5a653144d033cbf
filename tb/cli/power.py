# SPDX-License-Identifier: Apache-2.0
"""`nncosim power`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.compiler.image.expected import expected
from nncosim.compiler.ir.topology import topology
from nncosim.platforms.base import Platform
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.about import library_json, machine_json, write_results
from nncosim.tb.cli.asked import Asked, run_options
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    json_option,
    out_option,
    output_console,
    progress,
    seed_option,
    write_json,
)
from nncosim.tb.cli.run import program_of
from nncosim.tb.errors import BenchError
from nncosim.tb.power.account import Process
from nncosim.tb.power.gates import Wiring
from nncosim.tb.power.memories import MemoryModel
from nncosim.tb.power.report import EnergyReport, Layer, Target, energy_json, energy_tables
from nncosim.tb.power.run import EnergyRun, Powered
from nncosim.tb.power.tables import power_library
from nncosim.tb.run.flow import HANG_FACTOR, RunOptions, check_frames, make_frames
from nncosim.tb.run.program import Program
from nncosim.tb.system.progress import Cycles, Progress
from nncosim.tb.system.terminal import Terminal
from nncosim.tb.timing.liberty import require_liberty
from nncosim.tb.timing.sta import OSU018

__all__ = ["power_command"]

_NAME = "power"
_OSU018_NM = 180.0
_POSITIVE = click.FloatRange(min=0, min_open=True)


def _powered(platform: Platform) -> Powered:
    bench = get_bench(platform)
    if not isinstance(bench, Powered):
        raise BenchError(f"the bench of platform {platform.name!r} has no gates whose changes it counts")
    return bench


def _run(program: Program, platform: Platform, options: RunOptions, process: Process, liberty: Path, say: Progress
         ) -> tuple[EnergyRun, bool]:
    """With whether every bit is right."""
    inputs, _ = make_frames(program.network, options)
    if len(inputs) != 1:
        raise BenchError(f"the energy of one inference is counted, not of {len(inputs)}; choose with --index")
    predicted = expected(program.notes, 1)[0]
    run = _powered(platform).energy(
        platform, program.image, inputs[0], process, liberty, seed=options.seed,
        limit_cycles=HANG_FACTOR * predicted.cycles.bounds[1], progress=Cycles(say, predicted.end.best))  # fmt: skip
    return run, check_frames(program, inputs, run.result).bit_exact


def _layers(program: Program, run: EnergyRun) -> list[Layer]:
    network = program.network
    ops = {op.name: op for op in network.ops}
    layers = []
    for interval in run.result.frames[0].intervals:
        step = program.schedule[interval.step]
        mine = [ops[name] for name in step.ops if name in ops]
        spans = tuple(number for number, each in enumerate(run.steps) if each == interval.step)
        layers.append(Layer(step.name, " + ".join(op.title for op in mine) or "-", sum(map(network.macs, mine)),
                            interval.end - interval.start, spans))  # fmt: skip
    return layers


def _print(console: Terminal, report: EnergyReport) -> None:
    console.print(energy_tables(report))
    if not report.exact:
        console.print("[red]not every bit of the run is right[/]")


@click.command("power")
@run_options
@click.option("--liberty", type=PATH, metavar="FILE",
              help="Cell library that the machine is mapped to, and whose energies count [default: OSU 180 nm].")
@click.option("--node", type=_POSITIVE, metavar="NM",
              help="Feature size of that library, which its file does not say; without --liberty 180.")
@click.option("--clock", type=_POSITIVE, metavar="MHZ", help="Clock: how long leakage lasts [default: the platform's].")
@click.option("--wire-load", type=click.FloatRange(min=0), default=0.0, show_default=True, metavar="FF",
              help="Capacitance of wires in fF, for each pin that a net goes to.")
@click.option("--sram-energy", type=_POSITIVE, default=MemoryModel.bit, show_default=True, metavar="PJ",
              help="Energy of a bit of an access to an SRAM of 8 KiB at 45 nm and 0.9 V.")
@click.option("--node-scale", type=_POSITIVE, metavar="FACTOR",
              help="Of energies, beside published ones [default: C V^2 to 28 nm and 0.9 V].")
@seed_option("random inputs (without --input), and of what memories and flip-flops hold first")
@json_option
@out_option()
def power_command(
    source: Path,
    asked: Asked,
    input_file: Path | None,
    indices: tuple[int, ...],
    liberty: Path | None,
    node: float | None,
    clock: float | None,
    wire_load: float,
    sram_energy: float,
    node_scale: float | None,
    seed: int,
    json_file: Path | None,
    out: Path | None,
) -> int:
    """What does an inference take of energy? Runs it on the machine's gates and counts what changes in them.

    Per MAC, layer, block and inference, the clock apart: an estimate, without wires (but --wire-load), a clock tree and
    glitches. The first time the gates of a machine are built takes many minutes.

    \b
      nncosim power regress/networks/digits.onnx --platform j3dai

    Exit status: 0 done; 1 a bit of the run is wrong; 2 bad input.
    """
    inputs = {"the model": source, "the input": input_file, "the data": asked.calibrate, "the cell library": liberty}
    check_outputs(inputs, json_file=json_file, out=out, results=(f"{_NAME}.txt", f"{_NAME}.json"))
    if (liberty is None) != (node is None):
        raise click.UsageError("--liberty and --node go together: a library, and its feature size, which its file does "
                               "not say")
    library = liberty or OSU018
    if not library.is_file():
        if liberty is None:
            require_liberty(library)
        raise BenchError(f"cannot read the cell library {library}: there is no such file")
    options = RunOptions("netlist", "direct", input_file, indices, seed)
    with progress() as say:
        program, platform, overrides, options = program_of(source, asked, options, say)
        hertz = clock * 1e6 if clock is not None else float(getattr(platform, "clock_hz", 0))
        if not hertz:
            raise click.UsageError(f"{platform.name} has no clock of its own: give --clock MHZ")
        process = Process(power_library(library), node or _OSU018_NM, hertz, Wiring(wire_ff=wire_load),
                          MemoryModel(sram_energy))  # fmt: skip
        run, exact = _run(program, platform, options, process, library, say)
    about = {**machine_json(platform, overrides), "model": source.name, "seed": seed,
             "library": library_json(library)}  # fmt: skip
    report = EnergyReport(about, topology(program.network), exact, run.account, process, Target(factor=node_scale),
                          _layers(program, run), run.missing, run.published)  # fmt: skip
    data = energy_json(report)
    _print(output_console(json_file), report)
    if out is not None:
        write_results(out, _NAME, lambda console: _print(console, report), data, {})
    write_json(data, json_file)
    return 0 if exact else 1
