# SPDX-License-Identifier: Apache-2.0
"""What a sweep found: the table, the Pareto front, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from nncosim.compiler.image.plain import to_plain
from nncosim.platforms.base import Platform
from nncosim.platforms.metrics import Metric
from nncosim.platforms.parameters import Value, value_text
from nncosim.platforms.plain import Json
from nncosim.tb.report.report import rounded
from nncosim.tb.sweep.sweep import DEFECT, Confirmation, Job, Row, pareto_front
from nncosim.tb.system.files import text_bytes
from nncosim.tb.system.terminal import plain_table
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

__all__ = ["csv_bytes", "csv_columns", "print_sweep", "rows_json", "sweep_json"]

Grid = Mapping[str, Sequence[Value]]


def csv_columns(platform: Platform) -> tuple[str, ...]:
    """After the columns `model` and one for each parameter that is swept."""
    return (
        "verdict", "iss_cycles", "macs", *(metric.name for metric in platform.metrics), "exact_layers", "layers",
        "pareto", "confirmed_backend", "confirmed_cycles", "confirmed_verdict", "image_sha256", "reason",
    )  # fmt: skip


def _flat(row: Row, platform: Platform, best: frozenset[int]) -> dict[str, Json]:
    return {
        "verdict": row.verdict,
        "reason": row.reason,
        "iss_cycles": row.iss_cycles,
        "macs": row.macs,
        **{metric.name: rounded(row.metrics.get(metric.name), 6) for metric in platform.metrics},
        "exact_layers": row.exact_layers,
        "layers": row.layers,
        "pareto": row.point.number in best,
        "image_sha256": row.image_sha256,
    }


def rows_json(rows: Sequence[Row], platform: Platform, front: Sequence[Metric]) -> list[dict[str, Json]]:
    """One object a point, in the order of the grid."""
    best = pareto_front(rows, front)
    return [
        {
            "model": row.model, "settings": to_plain(row.point.settings), **_flat(row, platform, best),
            "confirmed": _confirmed_json(row.confirmed) if row.confirmed else None,
        }
        for row in rows
    ]  # fmt: skip


def _confirmed_json(given: Confirmation) -> dict[str, Json]:
    return {
        "backend": given["backend"], "cycles": given["cycles"], "verdict": given["verdict"], "reason": given["reason"],
    }  # fmt: skip


def sweep_json(
    rows: Sequence[Row], job: Job, front: Sequence[Metric], grid: Grid, fixed: Mapping[str, Value], **facts: Json
) -> dict[str, Json]:
    """The whole sweep. `facts`: `verdict`, `wall_seconds`, `versions`, ..."""
    best = pareto_front(rows, front)
    return {
        "models": [{"name": s.name, "sha256": s.digest, "remarks": list(s.network.remarks)} for s in job.subjects],
        "platform": job.platform.name,
        "settings": to_plain(fixed),
        "compiler_options": to_plain(job.compiler_options),
        "grid": to_plain(grid),
        "seed": job.options.seed,
        "metrics": [{"name": m.name, "unit": m.unit, "more_is_better": m.more_is_better} for m in job.platform.metrics],
        "front": [metric.name for metric in front],
        "points": rows_json(rows, job.platform, front),
        "pareto": [row.point.number for row in rows if row.point.number in best],
        **facts,
    }


def csv_bytes(rows: Sequence[Row], platform: Platform, front: Sequence[Metric], grid: Grid) -> bytes:
    """A header and a line a point; nothing in it depends on how long anything took, or where it ran."""
    best = pareto_front(rows, front)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["model", *grid, *csv_columns(platform)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        settings = {name: value_text(row.point.settings[name]) for name in grid}
        confirmed = {f"confirmed_{key}": row.confirmed.get(key) for key in ("backend", "cycles", "verdict")}
        writer.writerow({"model": row.model, **settings, **_flat(row, platform, best), **confirmed})
    return text_bytes(text.getvalue())


def _reason(row: Row) -> str:
    """The whole reason; of a defect, whose traceback goes to stderr, its last line."""
    return row.reason.splitlines()[-1] if row.verdict == DEFECT and row.reason else row.reason


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"


def _result(row: Row, reasons: Sequence[str]) -> Text:
    if row.verdict != "pass":
        mark = f" ({reasons.index(_reason(row)) + 1})" if row.reason else ""
        return Text(f"{row.verdict}{mark}", style="red")
    if row.confirmed:
        good = row.confirmed["verdict"] == "pass"
        text = f"{row.confirmed['backend']}: {_number(row.confirmed['cycles'])} cycles, {row.confirmed['verdict']}"
        return Text(text if good else f"{text}; {row.confirmed['reason']}", style="green" if good else "red")
    return Text("bit-exact", style="green")


def _setting(value: Value) -> str:
    return f"{value:,}" if type(value) is int else escape(value_text(value))


def _known(rows: Sequence[Row], platform: Platform) -> list[Metric]:
    """The metrics of which some row has a figure."""
    return [m for m in platform.metrics if any(row.metrics.get(m.name) is not None for row in rows)]


def _table(
    rows: Sequence[Row], metrics: Sequence[Metric], grid: Grid, best: frozenset[int], reasons: Sequence[str]
) -> Table:
    """A row a point. `reasons`: those under the table, by number in it."""
    table = plain_table()
    several = len({row.point.subject for row in rows}) > 1
    if several:
        table.add_column("model")
    for name in (*grid, *(metric.title for metric in metrics)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("front")
    table.add_column("result", overflow="fold")
    for row in rows:
        cells: list[str | Text] = [escape(row.model)] if several else []
        cells += [_setting(row.point.settings[name]) for name in grid]
        cells += [metric.text(row.metrics.get(metric.name)) for metric in metrics]
        table.add_row(*cells, "*" if row.point.number in best else "", _result(row, reasons))
    return table


def print_sweep(
    rows: Sequence[Row], job: Job, front: Sequence[Metric], grid: Grid, backend: str, console: Console
) -> None:
    """The table in the order of the grid, and under it the Pareto front of each model, by its first metric."""
    best = pareto_front(rows, front)
    names = ", ".join(subject.name for subject in job.subjects)
    console.print(Text(f"{names} on {job.platform.name}, backend {backend}", style="bold"), "")
    reasons = list(dict.fromkeys(_reason(row) for row in rows if row.verdict != "pass" and row.reason))
    metrics = _known(rows, job.platform)
    console.print(_table(rows, metrics, grid, best, reasons), "")
    for number, reason in enumerate(reasons, 1):
        console.print(Text(f"({number}) {reason}"))
    if reasons:
        console.print("")
    shown = [*front, *(metric for metric in metrics if metric.unit == "bytes" and metric not in front)]
    for number, subject in enumerate(job.subjects):
        mine = [row for row in rows if row.point.number in best and row.point.subject == number]
        if not mine:
            console.print(f"{escape(subject.name)}: {_no_front(rows, number, front)}")
            continue
        console.print(f"Pareto front of {escape(subject.name)} ({_titles(front)}):")
        for row in sorted(mine, key=lambda row: front[0].rank(row.metrics[front[0].name] or 0)):
            what = " ".join(f"{name}={escape(value_text(row.point.settings[name]))}" for name in grid)
            figures = ", ".join(f"{m.title} {m.text(row.metrics.get(m.name))}" for m in shown)
            console.print(f"  {what}: {figures}")
    console.print("")
    memories = ", ".join(memory.name for memory in job.platform.memories)
    about = [f"{metric.title}: {metric.about}." for metric in metrics if metric.about]
    console.print(" ".join(about) + f" Memories: {memories} (nncosim platforms {job.platform.name}).")
    console.print(f"*: on the front: no machine is better in one of {_titles(front)} and no worse in the others.")


def _titles(front: Sequence[Metric]) -> str:
    return ", ".join(metric.title for metric in front)


def _no_front(rows: Sequence[Row], subject: int, front: Sequence[Metric]) -> str:
    ran = [row for row in rows if row.point.subject == subject and row.passed and row.ran]
    unknown = [m.title for m in front if ran and all(row.metrics.get(m.name) is None for row in ran)]
    return f"no front: nothing is known of {', '.join(unknown)}" if unknown else "no point could be run"
