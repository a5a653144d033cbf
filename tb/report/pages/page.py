# SPDX-License-Identifier: Apache-2.0
"""The page: one HTML file with everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bokeh.embed import components
from bokeh.model import Model
from bokeh.models import Range1d
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader
from nncosim.tb.report.categories import category_name
from nncosim.tb.report.pace import verdict_text
from nncosim.tb.report.pages.colours import (
    category_colour,
    cause_colour,
    dark_colour,
    kind_colour,
)
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.deviation_plot import deviation_plot, forecasts_of
from nncosim.tb.report.pages.floor_plot import floor_plot, group_chips
from nncosim.tb.report.pages.labels import NARROW
from nncosim.tb.report.pages.losses import causes_of, losses_of, losses_plot
from nncosim.tb.report.pages.memory_plot import contents_of, memories_of, memory_plot, shown_name
from nncosim.tb.report.pages.plots import roofline_plot, shares_plot
from nncosim.tb.report.pages.timeline_plot import kinds_of, timeline_data, timeline_plot
from nncosim.tb.report.published import is_of, published_title
from nncosim.tb.report.timeline import overlap
from nncosim.tb.system.files import text_bytes

__all__ = ["PAGE", "report_page"]

PAGE = "report.html"
_HERE = Path(__file__).parent


def _plots(run: Run) -> dict[str, Model]:
    x_range = Range1d(start=0, end=max(run.end, 1), bounds="auto", name="cycles")
    # Cycles of layers that overlap do not add up to those of the inference.
    adds_up = bool(run.intervals) and not overlap(run.layers)
    plots: dict[str, Model] = {"losses": losses_plot(run)} if adds_up else {}
    if run.end:
        plots["timeline"] = timeline_plot(run, x_range)
    roofline = roofline_plot(run)
    if roofline is not None:
        plots["roofline"] = roofline
    deviation = deviation_plot(run)
    if deviation is not None:
        plots["deviation"] = deviation
    if run.intervals:
        plots["shares"] = shares_plot(run)
    for memory in memories_of(run):
        plots[f"memory-{memory}"] = memory_plot(run, memory, x_range)
    return plots


def _chips(run: Run) -> list[dict[str, str]]:
    if run.is_fine:
        return [{"name": kind, "colour": kind_colour(kind), "dark": dark_colour(kind)} for kind in kinds_of(run)]
    known = dict.fromkeys(name for activity in run.activities for name in activity.cycles)
    colours = {category: category_colour(category) for category in known}
    return [{"name": category_name(c), "colour": colour, "dark": colour} for c, colour in colours.items()]


@dataclass(frozen=True)
class _Lost:
    """What the first picture's caption says, and its legend: name, cycles and colour of each cause."""

    ideal: float
    lost: float
    cycles: int
    causes: list[dict[str, str | float]]


def _lost(run: Run) -> _Lost:
    losses = losses_of(run)
    causes = causes_of(losses)
    return _Lost(
        sum(loss.ideal for loss in losses), sum(causes.values()), run.cycles,
        [{"name": name, "cycles": cycles, "colour": cause_colour(name)} for name, cycles in causes.items()],
    )  # fmt: skip


def _published(run: Run) -> list[dict[str, str | bool]]:
    """A row a network and configuration: its figures by unit, and whether it is the one that ran."""
    rows: dict[str, dict[str, str | bool]] = {}
    for known in run.platform.published:
        value = f"{known.value:,.0f}" if known.value >= 1e4 else f"{known.value:,g}"
        name = ", ".join(filter(None, (known.network, known.configuration)))
        own = is_of(known, run.report["topology"])
        row = rows.setdefault(name, {"network": name, "source": known.source, "own": own})
        row[known.unit] = value
    return list(rows.values())


def report_page(run: Run) -> bytes:
    """The page of a run: UTF-8, nothing loaded from anywhere."""
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    plots = _plots(run)
    script, divisions = components(plots)
    clock = getattr(run.platform, "clock_hz", None)
    text = environment.get_template("report.html.j2").render(
        run=run, report=run.report, platform=run.platform, plots=divisions, plot_script=script,
        bokeh=Resources("inline", components=["bokeh"]).render_js(), script=(_HERE / "timeline.js").read_text(),
        theme=(_HERE / "theme.js").read_text(), narrow=NARROW, lost=_lost(run), forecasts=forecasts_of(run),
        data=timeline_data(run), chips=_chips(run), clock=clock,
        verdict=verdict_text(run.report["verdict"], run.platform) or run.report["verdict"],
        shown_name=shown_name, memories={memory: contents_of(run, memory) for memory in memories_of(run)},
        floor=floor_plot(run), groups=group_chips(run),
        published=_published(run), published_title=published_title(run.platform),
        units=list(dict.fromkeys(known.unit for known in run.platform.published)),
        sources=list(dict.fromkeys(known.source for known in run.platform.published)),
    )  # fmt: skip
    return text_bytes(text)
