# SPDX-License-Identifier: Apache-2.0
"""`nncosim inject`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from nncosim.tb.cli.about import machine_json
from nncosim.tb.cli.asked import Asked, run_options
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    json_option,
    output_console,
    progress,
    seed_option,
    write_json,
)
from nncosim.tb.cli.run import program_of
from nncosim.tb.faults.campaign import Chosen, Wanted, prepare_campaign
from nncosim.tb.faults.table import campaign_json, campaign_table, places_json, places_table
from nncosim.tb.run.flow import RunOptions
from nncosim.tb.system.files import prepare_file
from nncosim.tb.system.processes import default_workers

__all__ = ["inject_command"]


def fault_options(command: Callable) -> Callable:
    """What is turned, and when."""
    for option in (
        click.option("--list", "listed", is_flag=True, help="List what can be turned, and turn nothing."),
        click.option("--bit", type=click.IntRange(min=0), metavar="N", help="Which bit of --target."),
        click.option("--target", metavar="PATH[WORD]", help="One memory's word or register instead of random ones."),
        click.option("--at", type=click.IntRange(min=1), metavar="CYCLE",
                     help="After so many cycles of the inference --target is turned."),
        click.option("--block", "blocks", multiple=True, metavar="NAME",
                     help="Only in this block, or all whose names begin so (cluster); may be repeated."),
        click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, metavar="N",
                     help="Random flips, as many in each block."),
    ):
        command = option(command)
    return command


def _wanted(count: int, blocks: tuple[str, ...], target: str | None, bit: int | None, at: int | None) -> Wanted:
    if target is None and bit is None and at is None:
        return Wanted(count, blocks)
    if target is None or bit is None or at is None:
        raise click.UsageError("--target, --bit and --at name one flip together; give all three or none")
    if blocks:
        raise click.UsageError("--block chooses among random flips; --target names one")
    return Wanted(chosen=Chosen(target, bit, at))


@click.command("inject")
@run_options
@fault_options
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes [default: one for each core].")
@click.option("--journal", type=PATH, metavar="FILE",
              help="Keep each result there as it comes; the same campaign again goes on from it.")
@seed_option("the flips, random inputs (without --input), and of the poison in memories")
@json_option
def inject_command(
    source: Path,
    asked: Asked,
    input_file: Path | None,
    indices: tuple[int, ...],
    count: int,
    blocks: tuple[str, ...],
    at: int | None,
    target: str | None,
    bit: int | None,
    listed: bool,
    jobs: int | None,
    journal: Path | None,
    seed: int,
    json_file: Path | None,
) -> int:
    """Fault injection: one inference on the RTL again and again, each time with one bit of a memory or register turned.

    Each run is masked (outputs right), SDC (an output is wrong and nothing says so), a hang, or a trap; a table says
    how often, block by block. AVF is the share that is not masked.

    Exit status: 0 all flips were done, 2 bad input, or a run that is wrong without a fault.
    """
    if len(indices) > 1:
        raise click.UsageError("faults are injected into one inference; give --index once")
    wanted = _wanted(count, blocks, target, bit, at)
    if journal is not None:
        prepare_file(journal, "--journal")
    check_outputs({"the model": source, "the input": input_file, "the data": asked.calibrate, "the journal": journal},
                  json_file=json_file)  # fmt: skip
    options = RunOptions("rtl", None, input_file, indices, seed, inject=True)
    with progress() as say:
        program, platform, overrides, options = program_of(source, asked, options, say)
        campaign = prepare_campaign(program, platform, options, say)
        flips = [] if listed else campaign.flips(wanted)
        injections = campaign.run(flips, jobs or default_workers(), journal, say)
    console = output_console(json_file)
    if listed:
        console.print(places_table(campaign))
        write_json(places_json(campaign), json_file)
        return 0
    about = {"model": source.name, **machine_json(platform, overrides)}
    console.print(campaign_table(campaign, injections))
    write_json(campaign_json(campaign, injections, about), json_file)
    return 0
