# SPDX-License-Identifier: Apache-2.0
"""What a sweep found: the table, the Pareto front, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from nncosim.tb.report.report import rounded
from nncosim.tb.report.table import plain_table
from nncosim.tb.sweep.sweep import DEFECT, Job, Row, pareto_front
from nncosim.tb.system.files import text_bytes
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

__all__ = ["CSV_COLUMNS", "csv_bytes", "print_sweep", "rows_json", "sweep_json"]

CSV_COLUMNS = (
    "verdict", "cycles", "iss_cycles", "macs", "mac_per_cycle", "utilization", "in_use_bytes", "sram_bytes",
    "area_nand2", "exact_layers", "layers", "pareto", "confirmed_backend", "confirmed_cycles", "confirmed_verdict",
    "image_sha256", "reason",
)  # fmt: skip
"""After the columns `model` and one for each parameter that is swept."""


def _flat(row: Row, front: frozenset[int]) -> dict[str, Any]:
    return {
        "verdict": row.verdict,
        "reason": row.reason,
        "cycles": row.cycles,
        "iss_cycles": row.iss_cycles,
        "macs": row.macs,
        "mac_per_cycle": rounded(row.mac_per_cycle),
        "utilization": rounded(row.utilization, 6),
        "in_use_bytes": row.in_use_bytes,
        "sram_bytes": row.sram_bytes,
        "area_nand2": row.area_nand2,
        "exact_layers": row.exact_layers,
        "layers": row.layers,
        "pareto": row.point.number in front,
        "image_sha256": row.image_sha256,
    }


def rows_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One object a point, in the order of the grid."""
    front = pareto_front(rows)
    return [
        {"model": row.model, "settings": dict(row.point.settings)}
        | _flat(row, front)
        | {"confirmed": dict(row.confirmed) or None}
        for row in rows
    ]


def sweep_json(
    rows: Sequence[Row], job: Job, grid: Mapping[str, Sequence[int]], fixed: Mapping[str, int], **facts: Any
) -> dict[str, Any]:
    """The whole sweep. `facts`: `verdict`, `wall_seconds`, `versions`, ..."""
    front = pareto_front(rows)
    return {
        "models": [{"name": s.name, "sha256": s.digest} for s in job.subjects],
        "platform": job.platform.name,
        "settings": dict(fixed),
        "grid": {name: list(values) for name, values in grid.items()},
        "seed": job.options.seed,
        "points": rows_json(rows),
        "pareto": [row.point.number for row in rows if row.point.number in front],
        **facts,
    }


def csv_bytes(rows: Sequence[Row], grid: Mapping[str, Sequence[int]]) -> bytes:
    """A header and a line a point; nothing in it depends on how long anything took, or where it ran."""
    front = pareto_front(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["model", *grid, *CSV_COLUMNS], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        settings = {name: row.point.settings[name] for name in grid}
        confirmed = {f"confirmed_{key}": row.confirmed.get(key) for key in ("backend", "cycles", "verdict")}
        writer.writerow({"model": row.model, **settings, **_flat(row, front), **confirmed})
    return text_bytes(text.getvalue())


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _reason(row: Row) -> str:
    """The whole reason; of a defect, whose traceback goes to stderr, its last line."""
    return row.reason.splitlines()[-1] if row.verdict == DEFECT and row.reason else row.reason


def _result(row: Row, reasons: Sequence[str]) -> Text:
    if row.verdict != "pass":
        mark = f" ({reasons.index(_reason(row)) + 1})" if row.reason else ""
        return Text(f"{row.verdict}{mark}", style="red")
    if row.confirmed:
        good = row.confirmed["verdict"] == "pass"
        text = f"{row.confirmed['backend']}: {_number(row.confirmed['cycles'])} cycles, {row.confirmed['verdict']}"
        return Text(text if good else f"{text}; {row.confirmed['reason']}", style="green" if good else "red")
    return Text("bit-exact", style="green")


def _kilo(nand2: int | None) -> str:
    return "-" if nand2 is None else f"{nand2 / 1000:,.0f}k"


def _table(
    rows: Sequence[Row], grid: Mapping[str, Sequence[int]], front: frozenset[int], reasons: Sequence[str]
) -> Table:
    """A row a point. `reasons`: those under the table, by number in it."""
    table = plain_table()
    several = len({row.point.subject for row in rows}) > 1
    if several:
        table.add_column("model")
    weighed = any(row.area_nand2 is not None for row in rows)
    for name in (*grid, "cycles", "MAC/cycle", "of peak", "in use", "SRAM", *(["area"] if weighed else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("front")
    table.add_column("result", overflow="fold")
    for row in rows:
        share = "-" if row.utilization is None else f"{row.utilization:.1%}"
        cells: list[str | Text] = [escape(row.model)] if several else []
        cells += [_number(row.point.settings[name]) for name in grid]
        cells += [_number(row.cycles), _number(row.mac_per_cycle, 1), share]
        cells += [_number(row.in_use_bytes), _number(row.sram_bytes)]
        if weighed:
            cells.append(_kilo(row.area_nand2))
        table.add_row(*cells, "*" if row.point.number in front else "", _result(row, reasons))
    return table


def print_sweep(
    rows: Sequence[Row], job: Job, grid: Mapping[str, Sequence[int]], backend: str, console: Console
) -> None:
    """The table in the order of the grid, and under it the Pareto front of each model, fewest cycles first."""
    front = pareto_front(rows)
    names = ", ".join(subject.name for subject in job.subjects)
    console.print(Text(f"{names} on {job.platform.name}, backend {backend}", style="bold"), "")
    reasons = list(dict.fromkeys(_reason(row) for row in rows if row.verdict != "pass" and row.reason))
    console.print(_table(rows, grid, front, reasons), "")
    for number, reason in enumerate(reasons, 1):
        console.print(Text(f"({number}) {reason}"))
    if reasons:
        console.print("")
    for number, subject in enumerate(job.subjects):
        best = [row for row in rows if row.point.number in front and row.point.subject == number]
        if not best:
            console.print(f"{escape(subject.name)}: no point could be run")
            continue
        weighed = best[0].area_nand2 is not None
        console.print(f"Pareto front of {escape(subject.name)} (cycles, {'area' if weighed else 'bytes of SRAM'}):")
        for row in sorted(best, key=lambda r: r.cycles or 0):
            what = " ".join(f"{name}={row.point.settings[name]}" for name in grid)
            area = f"area {_kilo(row.area_nand2)}, " if weighed else ""
            console.print(f"  {what}: {_number(row.cycles)} cycles, {area}{_number(row.sram_bytes)} bytes of SRAM, "
                          f"{_number(row.in_use_bytes)} in use")  # fmt: skip
    console.print("")
    memories = ", ".join(memory.name for memory in job.platform.memories)
    console.print(
        f"SRAM: bytes of all memories of the machine, every instance ({memories}). In use: the most that the compiler "
        "has in place at a time. Area: thousands of NAND2 equivalents, logic and SRAM (nncosim platforms "
        f"{job.platform.name}).\n*: on the front: nothing has fewer cycles without more area (SRAM, where no area is "
        "known), or less of it without more cycles."
    )
