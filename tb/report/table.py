# SPDX-License-Identifier: Apache-2.0
"""The report for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import value_text
from nncosim.tb.report.categories import short_name
from nncosim.tb.report.floor_map import floor_map
from nncosim.tb.report.pace import deviation, verdict_text
from nncosim.tb.report.published import is_of, measured, published_title
from nncosim.tb.report.report import LayerReport, Report
from nncosim.tb.system.terminal import plain_table, printable
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

__all__ = ["model_title", "print_remarks", "print_report"]

NUMERIC = ("MACs", "estimated", "predicted", "cycles", "MAC/cycle")
WIDE = 120
"""Columns of a terminal that takes the table of layers in one piece."""


def print_remarks(console: Console, remarks: Iterable[str]) -> None:
    """What was assumed of a model, or is left to the host."""
    for remark in remarks:
        console.print(Text(printable(remark)), soft_wrap=True)


def model_title(platform: Platform) -> str:
    """Of a narrow column of cycles that the platform's cycle model gives: "iss", or "model"."""
    return platform.cycle_model.lower().rpartition(" ")[2]


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _estimate(estimated: int | None, cycles: int | None) -> str:
    """What the planner expected, and by how much that is off."""
    off = deviation(estimated, cycles)
    return _number(estimated) + (f" ({off:+.0%})" if off is not None else "")


def _others(layer: LayerReport) -> str:
    shares = layer.other_cycles()
    parts = [f"{short_name(name)} {share:.0%}" for name, share in shares.items() if share >= 0.005]
    return ", ".join(parts) or "-"


def _exactness(layer: LayerReport) -> Text:
    if layer.first is not None:
        return Text(str(layer.first), style="red")
    return Text("bit-exact", style="green") if layer.exact else Text("not compared", style="red")


def _layer_cells(layer: LayerReport) -> dict[str, str | Text]:
    return {
        "layer": escape("\n".join(member.name for member in layer.members) or layer.name),
        "operator": escape("\n".join(member.op for member in layer.members) or layer.op),
        "engine": escape(layer.engine),
        "MACs": _number(layer.macs),
        "estimated": _estimate(layer.estimated_cycles, layer.cycles),
        "predicted": str(layer.expected),
        "cycles": Text(_number(layer.cycles), style="" if layer.in_time else "red"),
        "MAC/cycle": _number(layer.mac_per_cycle, 1),
        "other cycles": _others(layer),
        "result": _exactness(layer),
    }


def _layer_table(report: Report, columns: tuple[str, ...]) -> Table:
    table = plain_table()
    for column in columns:
        numeric = column in NUMERIC
        title = model_title(report.platform) if column == "predicted" else column
        table.add_column(title, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for layer in report.layers:
        cells = _layer_cells(layer)
        table.add_row(*(cells[column] for column in columns))
    return table


def _layers(report: Report, width: int) -> list[Table]:
    """One table; on a narrow terminal two, so that no column is lost."""
    everything = ("layer", "operator", "engine", *NUMERIC, "other cycles", "result")
    if width >= WIDE:
        return [_layer_table(report, everything)]
    first = tuple(column for column in everything[:-2] if column != "estimated")
    return [_layer_table(report, first), _layer_table(report, ("layer", "estimated", "result", "other cycles"))]


def _time(seconds: float) -> str:
    """In milliseconds, or where they would be none to the eye, in microseconds."""
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-5 else f"{seconds * 1e6:.3f} us"


def _totals(report: Report) -> Table:
    table = plain_table()
    table.add_column("total")
    table.add_column("measured", justify="right")
    table.add_column(model_title(report.platform), justify="right")
    table.add_column("estimated before linking", justify="right")
    expected = report.iss_cycles, report.estimated_cycles
    ideal, planned = (report.macs / cycles if cycles else None for cycles in expected)
    estimate = _estimate(report.estimated_cycles, report.cycles)
    table.add_row("cycles", _number(report.cycles), str(report.expected), estimate)
    table.add_row("MAC/cycle", _number(report.mac_per_cycle, 1), _number(ideal, 1), _number(planned, 1))
    use = report.utilization
    table.add_row(
        "of the peak", "-" if use is None else f"{use:.1%}", f"{report.platform.peak_macs_per_cycle:,} MAC/cycle"
    )
    clock = getattr(report.platform, "clock_hz", None)
    if clock and report.cycles:
        table.add_row(
            f"at {clock / 1e6:g} MHz",
            _time(report.cycles / clock),
            _time(report.iss_cycles / clock),
        )
    if report.steady:
        measured, predicted = report.steady
        table.add_row("then an inference every", f"{measured:,.1f}", f"{predicted:,.1f}")
    if report.interval_cycles is not None:
        table.add_row("one inference in a stream every", "", f"{report.interval_cycles:,.1f}")
    for number, pace in enumerate(report.paces[1:], 2):
        table.add_row(f"cycles of inference {number}", _number(pace.cycles), str(pace.expected))
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1e3 else f"{value:.4g}"


def _published(report: Report) -> list[RenderableType]:
    figures = report.platform.published
    if not figures:
        return []
    own = any(is_of(figure, report.topology) for figure in figures)
    sources = list(dict.fromkeys(figure.source for figure in figures))
    table = plain_table(published_title(report.platform))
    table.add_column("network", overflow="fold")
    configured = any(figure.configuration for figure in figures)
    if configured:
        table.add_column("configuration", overflow="fold")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("")
    if own:
        table.add_column("this run", justify="right")
        table.add_column("of that", justify="right")
    for figure in figures:
        cells = [escape(figure.network), *([escape(figure.configuration)] if configured else [])]
        cells += [escape(figure.quantity), f"{_figure(figure.value)} {figure.unit}"]
        cells.append(f"({sources.index(figure.source) + 1})")
        mine = is_of(figure, report.topology)
        value = measured(figure, report.cycles, report.mac_per_cycle) if mine else None
        cells += ["", ""] if value is None else [_figure(value), f"{value / figure.value:.1%}"]
        table.add_row(*cells[: len(table.columns)], style="bold" if mine else "")
    return [table, *(f"({number}) {escape(source)}" for number, source in enumerate(sources, 1)), ""]


def _entry(report: Report) -> list[str]:
    """What came in by the machine's own port, and at what cost."""
    lines, clock = [], getattr(report.platform, "clock_hz", None)

    def cycles(count: int) -> str:
        return f"{count:,} cycles" + (f" ({count / clock * 1e3:.3f} ms)" if clock else "")

    boot, stream = report.entry.get("boot"), report.entry.get("stream")
    if boot:
        lines.append(
            f"boot over the entry port: {boot['bytes']:,} bytes ({boot['input_bytes']:,} of the first input) in "
            f"{cycles(boot['cycles'])}, before the cycles above; the port was busy in {boot['port_share']:.1%} of them"
        )
    if stream:
        every = "-" if stream["cycles_with"] is None else cycles(stream["cycles_with"])
        apart = f"an input alone ({stream['input_cycles']:,}), then its inference: {cycles(stream['cycles_without'])}"
        lines.append(
            f"{stream['inputs']} inputs of {stream['input_bytes']:,} bytes streamed: an inference every "
            f"{every}; {apart}"
        )
        lines.append(
            f"words that waited for L2: {stream['wait_port']:,} cycles in all for {stream['words']:,} words, "
            f"{stream['longest_wait']:,} the longest; for the place of the input before: {stream['wait_input']:,}"
        )
    return lines


def _facts(report: Report) -> list[str]:
    lines = [*_entry(report), *report.remarks]
    lines.append(f"requantization: {report.requantization}")
    wrong = sum(not t.exact for t in report.comparison.tensors)
    lines.append(
        f"compared: {report.comparison.elements:,} elements in {len(report.comparison.tensors)} tensors "
        f"({report.comparison.from_memory} as they lie in memory at the end too), "
        f"{wrong or 'no'} tensor{'' if wrong == 1 else 's'} wrong; input: {report.input}, seed {report.seed}"
    )
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.wall_seconds.items())
    lines.append(f"wall time: {times}")
    return [escape(line) for line in lines]


def _explanation(report: Report) -> list[str]:
    lines = []
    if report.diagnosis is not None:
        lines += [f"  {escape(line)}" for line in report.diagnosis.text.splitlines()]
    if report.comparison.first is not None:
        lines.append(f"  first wrong element: {escape(str(report.comparison.first))}")
    lines += [f"  {escape(line)}" for line in (report.clue.lines() if report.clue else ())]
    if report.verdict == "cycles":
        lines += [f"  {escape(str(found))}" for found in report.late]
    if not report.passed and report.command:
        lines.append(f"  repeat with: {escape(report.command)}")
    if report.waveform is not None:
        lines.append(f"  waveform: {escape(str(report.waveform))}")
    return lines


def _verdict(report: Report) -> str:
    colour = "green" if report.passed else "red"
    said = verdict_text(report.verdict, report.platform)
    return f"[bold {colour}]{escape(report.verdict.upper())}[/]" + (f": {said}" if said else "")


def _marked(text: str) -> Text:
    return Text.from_markup(printable(text), emoji=False)


def print_report(report: Report, console: Console) -> None:
    """Print the table of layers, the totals beside the published figures, and the verdict."""
    driver = f", driver {report.driver}" if report.driver else ""
    settings = "".join(f" {key}={value_text(value)}" for key, value in report.settings.items())
    settings += "".join(f" {key}={value}" for key, value in report.compiler_options.items())
    title = f"{report.model} on {report.platform.name}{settings}, backend {report.backend}{driver}"
    parts: list[RenderableType] = [Text(title, style="bold"), ""]
    for table in _layers(report, console.width):
        parts += [table, ""]
    if report.floor_plan is not None:
        parts += [*map(escape, floor_map(report.floor_plan)), ""]
    parts += [_totals(report), "", *_published(report)]
    parts += [*_facts(report), "", _verdict(report)]
    console.print(
        Group(*(_marked(part) if isinstance(part, str) else part for part in parts)), soft_wrap=False
    )
    # Commands are copied: the terminal may break them, not we.
    for line in _explanation(report):
        console.print(Text.from_markup(line), soft_wrap=True)
