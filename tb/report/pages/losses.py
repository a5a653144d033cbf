# SPDX-License-Identifier: Apache-2.0
"""The cycles lost: what a layer takes beyond its MACs at the machine's peak, by cause, the worst layer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, NumeralTickFormatter, Range1d, ResetTool
from bokeh.plotting import figure
from nncosim.tb.backend import Activity
from nncosim.tb.report.pages.colours import cause_colour, cause_of
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.labels import shortened

__all__ = ["BELOW_PEAK", "NO_MACS", "Loss", "causes_of", "losses_of", "losses_plot", "spent"]

BELOW_PEAK = "busy below the peak"
"""Cause of busy cycles in which not every multiplier has work: channels and pixels that fill no word, ends of tiles."""
NO_MACS = "busy without MACs"
"""Cause of busy cycles of a layer whose operator multiplies nothing."""
NOT_COUNTED = "not counted"
"""Cause of all cycles of a layer on an engine that the bench has no counters of."""

ROW = 26
MOST = 16
"""Layers with a row of their own; the others share one."""


@dataclass(frozen=True)
class Loss:
    """One layer: `ideal` cycles at the machine's peak, and the others by cause; together its cycles."""

    name: str
    ideal: float
    causes: Mapping[str, float]

    @property
    def lost(self) -> float:
        return sum(self.causes.values())


def losses_of(run: Run) -> list[Loss]:
    """The layers that ended, the one that loses most first."""
    peak, found = run.platform.peak_macs_per_cycle, []
    for layer, (begin, end) in zip(run.layers, run.intervals, strict=False):
        engines = [activity for activity in run.activities if activity.engine in layer["instances"]]
        causes: dict[str, float] = {} if engines else {NOT_COUNTED: float(end - begin)}
        for activity in engines:
            for cause, cycles in spent(activity, begin, end).items():
                causes[cause] = causes.get(cause, 0.0) + cycles / len(engines)
        busy = causes.pop("busy", 0.0)
        ideal = min(layer["macs"] / peak, busy) if peak else 0.0
        if busy > ideal:
            causes[BELOW_PEAK if layer["macs"] else NO_MACS] = busy - ideal
        found.append(Loss(layer["name"], ideal, causes))
    return sorted(found, key=lambda loss: -loss.lost)


def spent(activity: Activity, begin: int, end: int) -> dict[str, int]:
    """Cycles of an engine within an interval by cause; "busy" for those in which it works."""
    inside = (activity.start >= begin) & (activity.end <= end)
    out: dict[str, int] = {}
    for category, cycles in activity.cycles.items():
        if category != "wait_data":
            out[cause_of(category)] = int(cycles[inside].sum())
            continue
        sums = np.bincount(activity.kind[inside], cycles[inside], len(activity.kinds))
        for kind, number in zip(activity.kinds, sums, strict=True):
            cause = kind if kind.startswith("wait: ") else cause_of(category)
            out[cause] = out.get(cause, 0) + int(number)
    return {cause: cycles for cause, cycles in out.items() if cycles}


def causes_of(losses: Sequence[Loss]) -> dict[str, float]:
    """Lost cycles of all layers by cause, the worst first."""
    total: dict[str, float] = {}
    for loss in losses:
        for cause, cycles in loss.causes.items():
            total[cause] = total.get(cause, 0.0) + cycles
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _rows(losses: Sequence[Loss]) -> list[Loss]:
    """The worst, and what is left put together."""
    if len(losses) <= MOST + 1:
        return list(losses)
    rest = losses[MOST:]
    return [*losses[:MOST], Loss(f"{len(rest)} other layers", sum(loss.ideal for loss in rest), causes_of(rest))]


def losses_plot(run: Run) -> figure:
    """A bar a layer, the worst first, in the colours of the causes."""
    rows, causes = _rows(losses_of(run)), list(causes_of(losses_of(run)))
    names = [f"{number}  {shortened(loss.name)}" for number, loss in enumerate(rows, 1)]
    most = max([1.0, *(loss.lost for loss in rows)])
    data: dict[str, Sequence[str | float]] = {"row": names, "name": [loss.name for loss in rows]}
    data |= {cause: [loss.causes.get(cause, 0.0) for loss in rows] for cause in causes}
    data["all"] = [loss.lost for loss in rows]
    data["said"] = [f"{loss.lost:,.0f}  ({loss.lost / max(run.cycles, 1):.1%})" for loss in rows]
    source = ColumnDataSource(data)
    plot = figure(
        height=ROW * len(names) + 60, sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_range=Range1d(start=0, end=most * 1.25), tools=[ResetTool()], x_axis_label="cycles lost", name="losses",
    )  # fmt: skip
    bars = plot.hbar_stack(causes, y="row", height=0.74, color=[cause_colour(c) for c in causes], source=source)
    for cause, bar in zip(causes, bars, strict=True):
        plot.add_tools(HoverTool(renderers=[bar], tooltips=[
            ("layer", "@name"), (cause, f"@{{{cause}}}{{0,0}} cycles"), ("lost in all", "@said")]))  # fmt: skip
    plot.text(x="all", y="row", text="said", x_offset=6, text_baseline="middle", text_font_size="12px",
              text_color="#333333", source=source)  # fmt: skip
    plot.ygrid.visible = False
    plot.yaxis.major_label_text_font_size = "12px"
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.toolbar_location = None
    return plot
