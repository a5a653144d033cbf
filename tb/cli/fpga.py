# SPDX-License-Identifier: Apache-2.0
"""`nncosim fpga`."""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value
from nncosim.platforms.plain import Json
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.about import machine_json, write_results
from nncosim.tb.cli.asked import Asked
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    complete_fpga_blocks,
    json_option,
    machine_options,
    out_option,
    output_console,
    progress,
    resolve_platform,
    seed_option,
    write_json,
)
from nncosim.tb.cli.run import program_of
from nncosim.tb.errors import BenchError
from nncosim.tb.fpga.bench import OnFpga, RecordsBlocks
from nncosim.tb.fpga.block import BlockOnFpga, FpgaBlock, check_tools, place_block, random_vectors
from nncosim.tb.fpga.device import DEFAULT_DEVICE, DEVICES, device_of
from nncosim.tb.fpga.netlist import simulation_files, simulation_sources
from nncosim.tb.fpga.replay import Replayed
from nncosim.tb.fpga.table import fpga_header, fpga_json, path_table, replay_text, used_table
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.run.flow import RunOptions, make_frames
from nncosim.tb.run.program import is_image, load_image, read_source
from nncosim.tb.system.progress import SIMULATING, Progress
from nncosim.tb.system.terminal import Terminal

__all__ = ["fpga_command"]

_NAME, _REPORT, _LOG = "fpga", "report.json", "nextpnr.log"
_RANDOM_EDGES = 2000


def _one(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> str:
    """Of an option that could be given twice, of which click would take the last."""
    if len(names) > 1:
        raise click.UsageError(f"one block is placed; --block is given {len(names)} times: {', '.join(names)}")
    return names[0]


def _on_fpga(platform: Platform, name: str, recorded: bool) -> OnFpga:
    bench = get_bench(platform)
    if not isinstance(bench, OnFpga):
        raise BenchError(f"the bench of platform {platform.name!r} has no block for an FPGA")
    if name not in bench.fpga_blocks:
        known = ", ".join(bench.fpga_blocks)
        raise click.UsageError(f"{platform.name} has no block {name!r} for an FPGA; there are {known}")
    if recorded and not isinstance(bench, RecordsBlocks):
        raise BenchError(f"the bench of platform {platform.name!r} cannot record what a block is given in a run of a "
                         "model; without --model, inputs are random")
    return bench


def _machine(model: Path | None, platform_name: str | None, settings: tuple[str, ...]
             ) -> tuple[Platform, dict[str, Value]]:
    """The platform and its settings, before anything is compiled: an image has its own."""
    if model is not None:
        data = read_source(model)
        if is_image(data):
            return load_image(model, data)[1:]
    return resolve_platform(platform_name, settings)


def _inference(model: Path, platform_name: str | None, settings: tuple[str, ...], seed: int, say: Progress
               ) -> tuple[bytes, list]:
    """A model's image, and the inputs of one inference."""
    options = RunOptions("rtl", None, None, (), seed)
    program, _, _, options = program_of(model, Asked(platform_name, settings), options, say)
    return program.image, make_frames(program.network, options)[0]


def _vectors(bench: OnFpga, platform: Platform, placed: BlockOnFpga, run: tuple[bytes, list] | None, edges: int | None,
             seed: int, say: Progress) -> Vectors:
    if run is None or not isinstance(bench, RecordsBlocks):
        say(f"{placed.block.name}: {SIMULATING}")
        return random_vectors(placed.block, placed.bits, edges or _RANDOM_EDGES, seed)
    say(f"{placed.block.name}: recording a run of the RTL")
    vectors = bench.fpga_vectors(platform, placed.block.name, *run)
    return vectors if edges is None else vectors.first(edges)


def _print(console: Terminal, placed: BlockOnFpga, replay: Replayed) -> None:
    console.print(fpga_header(placed), "", used_table(placed.routed), "", path_table(placed.routed),
                  replay_text(replay), sep="\n")


def _write(out: Path, placed: BlockOnFpga, replay: Replayed, data: dict[str, Json]) -> None:
    """What is shown, nextpnr's own report, and the Verilog that was simulated."""
    routed = placed.routed
    verilog = simulation_sources(routed.module, routed.top, placed.bits)
    write_results(out, _NAME, lambda console: _print(console, placed, replay), data, {
        _REPORT: (routed.folder / _REPORT).read_bytes(), _LOG: (routed.folder / _LOG).read_bytes(),
        **{name: content.encode() for name, content in verilog.items()}})  # fmt: skip


@click.command("fpga")
@machine_options
@click.option("--block", "name", required=True, multiple=True, metavar="NAME", callback=_one,
              shell_complete=complete_fpga_blocks, help="The block.")
@click.option("--device", "device_name", type=click.Choice(list(DEVICES)), default=DEFAULT_DEVICE, show_default=True,
              help="The FPGA, of Lattice's ECP5.")
@click.option("--model", type=PATH, metavar="MODEL.onnx",
              help="Replay what the block is given in an inference of it on the RTL [default: random inputs].")
@click.option("--edges", type=click.IntRange(min=8), metavar="N",
              help=f"Clock edges that are replayed [default: with --model all, else {_RANDOM_EDGES}].")
@seed_option("nextpnr's search, and of random inputs")
@json_option
@out_option()
def fpga_command(
    platform_name: str | None,
    settings: tuple[str, ...],
    name: str,
    device_name: str,
    model: Path | None,
    edges: int | None,
    seed: int,
    json_file: Path | None,
    out: Path | None,
) -> int:
    """A block of a machine on an FPGA: synthesized (Yosys), placed and routed (nextpnr), timed, simulated as routed.

    How fast each clock can be, with real wires; what the block takes of the FPGA; and whether each bit of its outputs
    is the RTL's at every edge, in a run of a model or with random inputs. The same seed gives the same placement. The
    first time takes a minute for a group of NCBs, some for a cluster.

    \b
      nncosim fpga --block ncb --model regress/networks/digits.onnx

    Exit status: 0 every bit is the RTL's; 1 one differs; 2 bad input, or a block that does not fit.
    """
    platform, overrides = _machine(model, platform_name, settings)
    bench = _on_fpga(platform, name, model is not None)
    block: FpgaBlock = bench.fpga_block(platform, name)
    check_outputs({"the model": model}, json_file=json_file, out=out,
                  results=(f"{_NAME}.txt", f"{_NAME}.json", _REPORT, _LOG, *simulation_files(block.top)))
    check_tools()
    with progress() as say:
        run = None if model is None else _inference(model, platform_name, settings, seed, say)
        placed = place_block(block, device_of(device_name), seed, say)
        vectors = _vectors(bench, platform, placed, run, edges, seed, say)
        say(f"{name}: simulating the routed netlist")
        replay = placed.replay(vectors)
    data = fpga_json(placed, replay, machine_json(platform, overrides))
    _print(output_console(json_file), placed, replay)
    if out is not None:
        _write(out, placed, replay, data)
    write_json(data, json_file)
    return 1 if replay.first is not None else 0
