# SPDX-License-Identifier: Apache-2.0
"""`nncosim sweep`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from nncosim.compiler.image.plain import to_plain
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import value_text
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.asked import Asked, model_options
from nncosim.tb.cli.options import (
    PATH,
    backend_option,
    check_outputs,
    complete_parameters,
    json_option,
    out_option,
    output_console,
    progress,
    read_forms,
    resolve_options,
    resolve_platform,
    seed_option,
    write_json,
)
from nncosim.tb.report.table import print_remarks
from nncosim.tb.run.flow import RunOptions, choose, run_program
from nncosim.tb.sim.versions import versions
from nncosim.tb.sweep.keep import Kept
from nncosim.tb.sweep.report import csv_bytes, print_sweep, sweep_json
from nncosim.tb.sweep.sweep import (
    DEFECT,
    Job,
    Point,
    Row,
    front_metrics,
    grid_points,
    load_subject,
    make_job,
    parse_grid,
    program_of,
    reason_of,
    run_point,
    top_points,
)
from nncosim.tb.system.files import sha256, write_files
from nncosim.tb.system.processes import default_workers
from nncosim.tb.system.progress import Progress
from nncosim.tb.system.terminal import printable

__all__ = ["sweep_command"]

CONFIRM = "rtl"
"""The backend of --confirm."""
RESULTS = ("sweep.csv", "sweep.json")
"""Files of --out."""


def _confirm(row: Row, job: Job, options: RunOptions, say: Progress) -> Row:
    """Run a point again, on another backend: the same image must give the same cycles within their bounds."""
    program, platform = program_of(row.point, job)
    report = run_program(program, platform, row.point.settings, options, say).report
    verdict, reason = report.verdict, reason_of(report)
    if sha256(program.image) != row.image_sha256:
        verdict, reason = "mismatch", "compiled here, the image differs from the one that was swept"
    return replace(row, confirmed={
        "backend": report.backend, "cycles": report.cycles, "verdict": verdict, "reason": reason,
    })  # fmt: skip


def _confirm_all(rows: Sequence[Row], chosen: Sequence[Row], job: Job, options: RunOptions, say: Progress) -> list[Row]:
    out = list(rows)
    for done, row in enumerate(chosen):
        what = f"{row.model} {' '.join(f'{k}={value_text(v)}' for k, v in row.point.settings.items())}"
        prefix = f"confirming {done + 1} of {len(chosen)} on {options.backend} ({what})"
        say(prefix)
        out[row.point.number] = _confirm(row, job, options, lambda text, p=prefix: say(f"{p}: {text}"))  # type: ignore[misc]
    return out


def _sweep(points: Sequence[Point], job: Job, scheduler: str | None, workers: int | None, say: Progress) -> list[Row]:
    """All rows. Those that are done are kept until all are: the same sweep, started again, goes on with the others."""
    kept = Kept(points, job)
    rows = kept.load()
    left = [point for point in points if point.number not in rows]
    if rows:
        click.echo(f"{len(rows)} of {len(points)} points were done by a sweep that did not end, and are taken from "
                   "there", err=True)  # fmt: skip
    for row in _run(left, job, scheduler, workers, say, kept) if left else ():
        rows[row.point.number] = row
    kept.drop()
    return [rows[point.number] for point in points]


def _run(
    points: Sequence[Point], job: Job, scheduler: str | None, workers: int | None, say: Progress, kept: Kept
) -> list[Row]:
    # Imported here: dask takes a second to load, and a grid that makes no sense is refused before.
    from nncosim.tb.sweep.cluster import connect, run_points

    workers = min(workers or default_workers(), len(points))
    if scheduler is None and workers == 1:
        rows: list[Row] = []
        for point in points:
            say(f"{len(rows)} of {len(points)} points")
            rows.append(run_point(point, job))
            kept.add(rows[-1])
        return rows
    say("starting workers" if scheduler is None else f"connecting to {scheduler}")
    with connect(scheduler, workers) as client:
        say(f"0 of {len(points)} points")
        return run_points(client, points, job, say, kept.add)


def _options(platform: Platform, backend: str | None, seed: int, confirm: int) -> tuple[RunOptions, RunOptions | None]:
    """Of the sweep and of the confirmation."""
    bench = get_bench(platform)
    chosen, driver = choose(bench, platform, backend, None, prefer="iss")
    options = RunOptions(chosen, driver, seed=seed)
    if not confirm:
        return options, None
    other, other_driver = choose(bench, platform, CONFIRM, None)
    return options, RunOptions(other, other_driver, seed=seed)


def _status(rows: Sequence[Row]) -> int:
    """0 all that could run is right, 1 something is not, 2 nothing could run, 3 a defect."""
    for row in rows:
        if row.verdict == DEFECT:
            click.echo(printable(f"{row.model} {to_plain(row.point.settings)}:\n{row.reason}"), err=True)
    if any(row.verdict == DEFECT for row in rows):
        click.echo("nncosim: error: this is a defect of nncosim, not of your input; please report it with the lines "
                   "above", err=True)  # fmt: skip
        return 3
    if not any(row.ran for row in rows):
        click.echo("nncosim: error: no point of the grid can be run; the table says why", err=True)
        return 2
    return 0 if all(row.passed or not row.ran for row in rows) else 1


@click.command("sweep")
@click.argument("models", metavar="MODEL.onnx...", type=PATH, nargs=-1, required=True)
@model_options
@click.option("--grid", "axes", multiple=True, metavar="PARAMETER=A,B,...", shell_complete=complete_parameters,
              help="Values of a parameter of the platform; repeat it for more dimensions.")
@click.option("--front", "names", metavar="METRIC,METRIC,...", default="",
              help="What the Pareto front is of, such as cycles,sram_bytes [default: the platform says].")
@backend_option("points", "iss")
@click.option("--confirm", type=click.IntRange(min=0), default=0, metavar="N",
              help="Run the N best points of each model on rtl too. A machine that was never built takes minutes.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N",
              help="Processes [default: one a core]; 1: this one alone.")
@click.option("--scheduler", metavar="ADDRESS", help="Use a dask cluster that runs already, such as tcp://host:8786.")
@seed_option("the inputs")
@out_option()
@json_option
def sweep_command(
    models: tuple[Path, ...],
    asked: Asked,
    axes: tuple[str, ...],
    names: str,
    backend: str | None,
    confirm: int,
    workers: int | None,
    scheduler: str | None,
    seed: int,
    out: Path | None,
    json_file: Path | None,
) -> int:
    """What if? Run models on every machine of a grid, in parallel, and print the Pareto front.

    A point that cannot be (a network that does not fit) is a row with the reason. A sweep that is interrupted goes on
    where it was when the same command is given again. --out gets sweep.csv and sweep.json.

    \b
      nncosim sweep net.onnx --grid clusters=2,4,6 --grid dmpa_bits=512,1024 --confirm 2

    Exit status: 0 every point that could run is right, 1 one is not, or its confirmation is not, 2 bad input, or no
    point could run.
    """
    if scheduler is not None and workers is not None:
        raise click.UsageError("--workers is for processes of this computer; leave it out with --scheduler")
    inputs = {f"model {n}": path for n, path in enumerate(models, 1)} | {"the data": asked.calibrate}
    check_outputs(inputs, json_file=json_file, out=out,
                  results=RESULTS)  # fmt: skip
    platform, fixed = resolve_platform(asked.platform_name, asked.settings)
    told = resolve_options(platform, asked.compiler_options)
    grid = parse_grid(platform, axes)
    front = front_metrics(platform, tuple(name.strip() for name in names.split(",")) if names else ())
    points = grid_points(len(models), platform, fixed, grid)
    options, confirm_options = _options(platform, backend, seed, confirm)
    begin = time.perf_counter()
    with progress() as say:
        subjects = []
        for model in models:
            say(f"importing {model.name}")
            forms = read_forms(model, asked.input_quant, asked.calibrate)
            subjects.append(load_subject(model, platform, forms, asked.nearest))
        job = make_job(platform, subjects, options, told)
        rows = _sweep(points, job, scheduler, workers, say)
        if confirm_options is not None:
            rows = _confirm_all(rows, top_points(rows, confirm, front), job, confirm_options, say)
    status = _status(rows)
    verdict = ("pass", "failed", "refused", "defect")[status]
    seconds = round(time.perf_counter() - begin, 3)
    data = sweep_json(rows, job, front, grid, fixed, backend=options.backend, verdict=verdict, wall_seconds=seconds,
                      versions=versions())  # fmt: skip
    if out is not None:
        contents = (csv_bytes(rows, job.platform, front, grid), (json.dumps(data, indent=2) + "\n").encode())
        write_files(out, dict(zip(RESULTS, contents, strict=True)))
    print_remarks(output_console(json_file), dict.fromkeys(text for each in subjects for text in each.network.remarks))
    print_sweep(rows, job, front, grid, options.backend or "", output_console(json_file))
    write_json(data, json_file)
    return status
