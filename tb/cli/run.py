# SPDX-License-Identifier: Apache-2.0
"""`nncosim run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.asked import Asked, run_options
from nncosim.tb.cli.options import (
    PATH,
    RESULTS,
    backend_option,
    check_outputs,
    complete_layers,
    driver_option,
    gate_options,
    gates_of,
    json_option,
    out_option,
    output_console,
    patch_option,
    progress,
    read_forms,
    resolve_options,
    resolve_platform,
    seed_option,
    write_json,
)
from nncosim.tb.coverage import collect
from nncosim.tb.coverage.sources import check_sources
from nncosim.tb.debug.bundle import FILES
from nncosim.tb.debug.failure import debug_failure, replay_command
from nncosim.tb.debug.story import Story
from nncosim.tb.report.table import print_report
from nncosim.tb.run.flow import (
    RunOptions,
    check_entering,
    check_gates,
    check_hazards,
    check_injectable,
    check_observable,
    check_patchable,
    check_trace,
    choose,
    make_frames,
    run_program,
)
from nncosim.tb.run.program import Program, compile_model, is_image, load_image, read_runnable, read_source
from nncosim.tb.sim.patches import read_patch
from nncosim.tb.sim.waves import command_file, save_file, trace_format
from nncosim.tb.system.files import prepare_directory, prepare_file, write_files
from nncosim.tb.system.progress import Progress
from nncosim.tb.system.terminal import Terminal

__all__ = ["print_story", "program_of", "run_command"]


def print_story(story: Story, directory: Path, console: Terminal) -> None:
    """The lines of a story, and how to go on from its bundle."""
    lines = story.lines()
    if not story.passed:
        lines.append(replay_command(directory))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def trace_options(command: Callable) -> Callable:
    """--trace FILE, and of which part of the run."""
    for option in (
        click.option("--trace-layer", metavar="NAME", shell_complete=complete_layers,
                     help="Waveform of this layer only (of the first inference)."),
        click.option("--trace-to", type=int, metavar="CYCLE", help="Waveform up to this clock cycle, exclusive."),
        click.option("--trace-from", type=int, metavar="CYCLE", help="Waveform from this clock cycle since reset."),
        click.option("--trace", type=PATH, metavar="FILE",
                     help="Write a waveform (rtl), FILE.fst or FILE.vcd; open FILE.gtkw, or FILE.sucl in Surfer."),
    ):
        command = option(command)
    return command


def _checked_debug(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        prepare_directory(path, "--debug")
    return path


def debug_option(command: Callable) -> Callable:
    """--debug [DIR]."""
    help_ = "If it fails, find where RTL and simulator part first; a bundle for `nncosim replay` [DIR: debug]."
    return click.option("--debug", type=PATH, is_flag=False, flag_value="debug", metavar="[DIR]", help=help_,
                        callback=_checked_debug)(command)  # fmt: skip


def _checked_coverage(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        prepare_directory(path, "--coverage")
        check_sources(path)
    return path


def coverage_option(command: Callable) -> Callable:
    """--coverage DIR."""
    help_ = "Count the lines and bits of RTL that the run reaches (rtl), and add it to what is in DIR."
    return click.option("--coverage", type=PATH, metavar="DIR", help=help_, callback=_checked_coverage)(command)


def program_of(
    source: Path, asked: Asked, options: RunOptions, say: Progress, counted: bool = False,
) -> tuple[Program, Platform, dict[str, Value], RunOptions]:
    """Load or compile `source`; what cannot run, or inputs that do not fit, are refused before anything is compiled.

    The options that are returned have what `asked` says. `counted`: coverage of the RTL is wanted.
    """
    data = read_source(source)
    if is_image(data):
        if asked.settings:
            raise click.UsageError("--set changes what is compiled; the image has its platform's parameters in it")
        if asked.of_compiling:
            given_here = "--input-quant, --calibrate, --nearest and --compiler-option"
            raise click.UsageError(f"{given_here} are for compiling a model; the image has that in it")
        program, platform, overrides = load_image(source, data)
        if asked.platform_name not in (None, platform.name):
            raise click.UsageError(f"{source} is an image for {platform.name!r}, not for {asked.platform_name!r}")
        if counted:
            bench = get_bench(platform)
            collect.check_counted(bench, platform, choose(bench, platform, options.backend, options.driver)[0])
        return program, platform, overrides, options
    platform, overrides = resolve_platform(asked.platform_name, asked.settings)
    told = resolve_options(platform, asked.compiler_options)
    bench = get_bench(platform)
    backend, _ = choose(bench, platform, options.backend, options.driver)
    if counted:
        collect.check_counted(bench, platform, backend)
    if options.trace is not None:
        check_trace(bench, platform, backend)
    if options.entering:
        check_entering(bench, platform, backend)
    if options.rtl_patch is not None:
        check_patchable(bench, platform, backend)
    if options.gates is not None:
        check_gates(bench, platform, backend, options.gates)
    if options.observe:
        check_observable(bench, platform, backend)
    if options.inject:
        check_injectable(bench, platform, backend)
    if options.ignore_hazards:
        check_hazards(bench, platform, backend)
    say(f"importing {source.name}")
    options = replace(options, forms=read_forms(source, asked.input_quant, asked.calibrate))
    network = read_runnable(source, data, platform, options.forms, asked.nearest)
    make_frames(network, options)
    program = compile_model(source, data, platform, overrides, say, network, options.stream > 0, told)
    return program, platform, overrides, options


@click.command("run")
@run_options
@backend_option("image", "rtl where the platform has it")
@driver_option
@click.option(
    "--boot",
    type=click.Choice(["backdoor", "bus"]),
    default="backdoor",
    show_default=True,
    help="How image and inputs get into the machine: past its ports, or over its entry port (rtl).",
)
@click.option(
    "--stream",
    type=click.IntRange(min=2),
    metavar="N",
    help="N inferences back to back, each input entering by the port while the network computes the one before (rtl).",
)
@click.option(
    "--ignore-hazards",
    is_flag=True,
    help="Go on where an instruction reads a register while a write to it is in flight (aie_ml, rtl).",
)
@patch_option
@gate_options
@seed_option("random inputs (without --input), and of the poison in memories")
@trace_options
@coverage_option
@debug_option
@out_option()
@json_option
def run_command(
    source: Path,
    asked: Asked,
    backend: str | None,
    driver: str | None,
    input_file: Path | None,
    indices: tuple[int, ...],
    boot: str,
    stream: int | None,
    ignore_hazards: bool,
    rtl_patch: Path | None,
    gate_blocks: str | None,
    liberty: Path | None,
    beside_rtl: bool,
    seed: int,
    trace: Path | None,
    trace_from: int | None,
    trace_to: int | None,
    trace_layer: str | None,
    coverage: Path | None,
    debug: Path | None,
    out: Path | None,
    json_file: Path | None,
) -> int:
    """Run a model (.onnx, .tflite), or an image compiled before, and check every bit and every cycle.

    Exit status: 0 all bits and cycles hold, 1 a mismatch, a hang or cycles other than those predicted, 2 bad input.
    """
    if trace is not None:
        trace_format(trace)
        for file in (trace, save_file(trace), command_file(trace)):
            prepare_file(file, "--trace")
    elif not trace_from == trace_to == trace_layer is None:
        raise click.UsageError("--trace-from, --trace-to and --trace-layer choose a part of it; give --trace FILE")
    inputs = {"the model": source, "the input": input_file, "the data": asked.calibrate, "the patch": rtl_patch}
    check_outputs(inputs, json_file=json_file, out=out, trace=trace)
    if coverage is not None and rtl_patch is not None:
        raise click.UsageError("--coverage adds up what is counted of the same sources, and --rtl-patch makes others")
    if debug is not None:
        check_outputs(inputs, json_file=json_file, out=debug, trace=trace, results=(*RESULTS, *FILES),
                      option="--debug")
    options = RunOptions(backend, driver, input_file, indices, seed, trace, trace_from, trace_to, trace_layer,
                         boot == "bus", stream or 0, ignore_hazards=ignore_hazards,
                         rtl_patch=read_patch(rtl_patch) if rtl_patch is not None else None,
                         gates=gates_of(gate_blocks, liberty, beside_rtl))
    with progress() as say:
        program, platform, overrides, options = program_of(source, asked, options, say, coverage is not None)
        with collect.collecting(coverage):
            outcome = run_program(program, platform, overrides, options, say)
        story = None
        if debug is not None and not outcome.report.passed:
            story = debug_failure(outcome, program, platform, overrides, options, debug, say)
    data = outcome.report.to_json()
    # Files before the table: who reads the table finds them there.
    if out is not None:
        write_files(out, {**outcome.files, "report.json": (json.dumps(data, indent=2) + "\n").encode()})
    console = output_console(json_file)
    print_report(outcome.report, console)
    if debug is not None and story is not None:
        print_story(story, debug, console)
    if coverage is not None:
        collect.report(coverage, console)
    write_json(data, json_file)
    return 0 if outcome.report.passed else 1
