# SPDX-License-Identifier: Apache-2.0
"""`nncosim mutate`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from nncosim.platforms.plain import Json
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    json_option,
    output_console,
    platform_option,
    progress,
    resolve_platform,
    seed_option,
    write_json,
)
from nncosim.tb.mutation.campaign import VERDICTS, Judged, Judges, LocalJudges, read_reviewed, run_campaign
from nncosim.tb.mutation.mutant import Mutant, sampled
from nncosim.tb.mutation.mutators import KINDS
from nncosim.tb.mutation.report import campaign_json, figures, print_campaign, print_mutants, stale
from nncosim.tb.mutation.subject import Subject, subject_of
from nncosim.tb.system.processes import default_workers
from nncosim.tb.system.terminal import printable

__all__ = ["mutate_command"]

LIMIT = 300
"""Seconds of a stage."""


def _chosen(subject: Subject, blocks: Sequence[str], kinds: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """The sample of what the options leave."""
    for option, given, known in (("--block", blocks, tuple(subject.blocks)), ("--kind", kinds, tuple(KINDS))):
        for name in given:
            if name not in known:
                raise click.UsageError(f"{option} {name!r} is none; there are {', '.join(known)}")
    left = [mutant for mutant in subject.mutants if mutant.block in (blocks or subject.blocks)
            and mutant.kind in (kinds or KINDS)]  # fmt: skip
    if not left:
        raise click.UsageError("there is no mutant of these blocks and kinds")
    return sampled(left, count, seed)


def _tell(one: Judged) -> None:
    """A line a mutant, where nobody watches."""
    verdict = one.verdict
    if not sys.stderr.isatty():
        by = f" by {verdict.test}" if verdict.test else ""
        click.echo(printable(f"{one.mutant.place} ({one.mutant.kind}) {verdict.verdict}{by}, {verdict.seconds:.0f} s"),
                   err=True)  # fmt: skip


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="nncosim-mutate-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _judges(
    subject: Subject, scratch: Path, jobs: int | None, limit: float, scheduler: str | None
) -> Iterator[Judges]:
    if scheduler is None:
        yield LocalJudges(subject, scratch, jobs or default_workers(), limit)
        return
    from nncosim.tb.mutation.remote import RemoteJudges  # dask takes a second to load
    from nncosim.tb.sweep.cluster import connect

    with connect(scheduler, 0) as client:
        yield RemoteJudges(client, subject, limit)


@click.command("mutate")
@platform_option
@click.option("--block", "blocks", multiple=True, metavar="NAME", help="Plant in this block only; may be repeated.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help=f"Of {', '.join(KINDS)}; may be repeated.")
@click.option("--count", type=click.IntRange(min=1), default=40, show_default=True, metavar="N",
              help="How many, blocks and kinds in turn.")
@seed_option("the sample")
@click.option("--list", "list_only", is_flag=True, help="Say which, run nothing.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Mutants at a time [default: one a core].")
@click.option("--limit", type=click.FloatRange(min=1), default=LIMIT, show_default=True, metavar="S",
              help="Seconds after which a stage (a block's bench, further tests, the run) counts as noticed.")
@click.option("--out", type=PATH, metavar="DIR", help=f"Folder in which {VERDICTS} grows, a line a mutant.")
@click.option("--resume", is_flag=True, help="Go on with the campaign in --out.")
@click.option("--debug", is_flag=True, help="Then ask of each that counts whether `nncosim debug` names its block.")
@click.option("--scheduler", metavar="ADDRESS", help="Use a dask cluster that runs already, such as tcp://host:8786, "
              "whose workers have the same checkout.")
@json_option
def mutate_command(
    platform_name: str | None,
    blocks: tuple[str, ...],
    kinds: tuple[str, ...],
    count: int,
    seed: int,
    list_only: bool,
    jobs: int | None,
    limit: float,
    out: Path | None,
    resume: bool,
    debug: bool,
    scheduler: str | None,
    json_file: Path | None,
) -> int:
    """How many design bugs do the tests let through? Plants mistakes in a platform's hardware, one at a time.

    Each mutant is emitted; where that fails or gives the same RTL, it is not counted. Then run the tests of its block,
    those around it, and a network on the RTL, until one fails. A mutant that none notices is shown with its place.

    \b
      nncosim mutate --platform j3dai --block requantizer --count 10 --out mutants

    Exit status: 0 all were noticed, 1 some were not, 2 bad input.
    """
    if scheduler is not None and jobs is not None:
        raise click.UsageError("--jobs is for this computer; with --scheduler it has as many as its workers")
    if resume and out is None:
        raise click.UsageError("--resume goes on with a campaign; give its --out DIR")
    check_outputs({}, json_file=json_file, out=out, results=(VERDICTS,))
    platform, _ = resolve_platform(platform_name, ())
    subject = subject_of(platform)
    mutants = _chosen(subject, blocks, kinds, count, seed)
    console = output_console(json_file)
    left_over = stale(read_reviewed(subject.equivalent), subject.mutants)
    facts: dict[str, Json] = {"platform": platform.name, "seed": seed, "mutants_in_all": len(subject.mutants)}
    if list_only:
        print_mutants(console, mutants)
        console.print(f"{len(mutants)} of {len(subject.mutants):,} mutants in {len(subject.blocks)} blocks")
        write_json({**facts, "mutants": [{"block": m.block, "kind": m.kind, "file": m.file, "line": m.edit.line,
                    "before": m.before, "after": m.after} for m in mutants]}, json_file)  # fmt: skip
        return 0
    begin = time.perf_counter()
    with progress() as say, _folder(out) as folder, _judges(subject, folder, jobs, limit, scheduler) as judges:
        judged = run_campaign(subject, mutants, folder, judges, resume=resume, debug=debug, progress=say, done=_tell)
    print_campaign(console, judged, left_over)
    seconds = round(time.perf_counter() - begin, 1)
    write_json(campaign_json(judged, left_over, {**facts, "wall_seconds": seconds}), json_file)
    return 1 if figures(judged)["survived"] else 0
