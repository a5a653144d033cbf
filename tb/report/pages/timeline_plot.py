# SPDX-License-Identifier: Apache-2.0
"""The timeline: a row an engine, drawn by timeline.js for whatever is in sight."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CustomJS,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    Tool,
    WheelZoomTool,
    ZoomInTool,
    ZoomOutTool,
)
from bokeh.plotting import figure
from nncosim.tb.report.categories import short_name
from nncosim.tb.report.pages.colours import category_colour, dark_colour, kind_colour, kind_order
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.timeline import COARSE, members_text

__all__ = ["CYCLES", "LEFT", "kinds_of", "timeline_data", "timeline_plot", "x_tools"]

CYCLES = "0,0"
LEFT = 90
"""Room in pixels for the labels at the left, so that plots over time stand exactly below each other."""
ROW = 34
"""Height of an engine's row in pixels."""

_TOOLTIP = """<div class="tip"><b>@what{safe}</b><br>@when<br>@detail{safe}</div>"""


def kinds_of(run: Run) -> list[str]:
    """All kinds of the timeline, in the order of the legend."""
    return sorted({kind for activity in run.activities for kind in activity.kinds}, key=kind_order)


def _packed(arrays: list[np.ndarray], tables: Mapping[str, object]) -> dict[str, str]:
    numbers = np.concatenate(arrays).astype("<i4") if arrays else np.zeros(0, "<i4")
    parts = {"numbers": numbers.tobytes(), "tables": json.dumps(tables, separators=(",", ":")).encode()}
    return {name: base64.b64encode(zlib.compress(data, 9)).decode() for name, data in parts.items()}


def timeline_data(run: Run) -> dict[str, str]:
    """The spans for timeline.js, as base64 of zlib streams: `numbers` (32-bit integers, of each engine the lengths of
    its spans, kinds, texts, steps, bytes, and cycles by category), `tables` (JSON). `coarse`: colours of the categories
    of an engine whose spans say no more than how many cycles of each they hold."""
    kinds, texts, arrays, engines = kinds_of(run), {"": 0}, [], []
    for a in run.rows:
        kind = np.array([kinds.index(k) for k in a.kinds])
        text = np.array([texts.setdefault(t, len(texts)) for t in a.texts])
        arrays += [a.end - a.start, kind[a.kind], text[a.text], a.step, a.bytes, *a.cycles.values()]
        categories = [short_name(name) for name in a.cycles]
        coarse = [category_colour(name) for name in a.cycles] if set(a.kinds) == {COARSE} else []
        engines.append({"name": a.engine, "count": len(a.start), "categories": categories, "coarse": coarse})
    layers = [
        {"name": layer["name"], "op": members_text(layer) or layer["op"], "start": start, "end": end,
         "macs": layer["macs"], "predicted": layer["iss_cycles"],
         "members": [member["name"] for member in layer["members"]]}
        for layer, (start, end) in zip(run.layers, run.intervals, strict=False)
    ]  # fmt: skip
    if run.unfinished is not None:
        layer, start, end = run.unfinished
        layers.append({"name": layer["name"], "op": "stopped in it", "start": start, "end": end, "macs": 0,
                       "predicted": layer["iss_cycles"]})  # fmt: skip
    names = [layer["name"] for layer in run.layers]
    members = [", ".join(member["name"] for member in layer["members"]) for layer in run.layers]
    colours, dark = [kind_colour(kind) for kind in kinds], [dark_colour(kind) for kind in kinds]
    return _packed(arrays, {"engines": engines, "kinds": kinds, "colours": colours, "dark": dark, "texts": list(texts),
                            "layers": layers, "names": names, "members": members, "end": run.end,
                            "cycle_model": run.platform.cycle_model})  # fmt: skip


def x_tools(dimensions: Literal["width", "both"] = "width") -> list[Tool]:
    """Tools of a plot over time; the wheel alone scrolls the page. `dimensions`: of panning and of the box."""
    return [
        PanTool(dimensions=dimensions), WheelZoomTool(dimensions="width", modifiers={"ctrl": True}),
        BoxZoomTool(dimensions=dimensions), ZoomInTool(dimensions="width"), ZoomOutTool(dimensions="width"),
        ResetTool(),
    ]  # fmt: skip


def timeline_plot(run: Run, x_range: Range1d) -> figure:
    """An empty plot that timeline.js fills."""
    rows = ["layers", *(activity.engine for activity in run.rows)]
    plot = figure(
        height=ROW * len(rows) + 80, sizing_mode="stretch_width", min_border_left=LEFT,
        x_range=x_range, y_range=Range1d(start=len(rows), end=0),
        tools=x_tools(), toolbar_location="right", x_axis_label="cycles since the inference began", name="timeline",
    )  # fmt: skip
    source = ColumnDataSource(
        {name: [] for name in ("left", "right", "top", "bottom", "colour", "what", "when", "detail")}, name="spans"
    )
    labels = ColumnDataSource({"x": [], "y": [], "text": []}, name="labels")
    spans = plot.quad(
        left="left", right="right", top="top", bottom="bottom", fill_color="colour", line_color="colour",
        line_width=0.5, source=source,
    )  # fmt: skip
    plot.text(x="x", y="y", text="text", source=labels, text_align="center", text_baseline="middle",
              text_font_size="12px", text_color="#222222")  # fmt: skip
    plot.add_tools(HoverTool(renderers=[spans], tooltips=_TOOLTIP, point_policy="follow_mouse", attachment="below"))
    plot.yaxis.ticker = [index + 0.5 for index in range(len(rows))]
    plot.yaxis.major_label_overrides = {index + 0.5: name for index, name in enumerate(rows)}
    plot.yaxis.major_label_text_font_size = "12px"
    plot.xaxis.formatter = NumeralTickFormatter(format=CYCLES)
    plot.ygrid.visible = False
    plot.yaxis.major_tick_line_color = None
    plot.toolbar.logo = None
    redraw = CustomJS(code="if (window.nncosimTimeline) window.nncosimTimeline.changed()")
    x_range.js_on_change("start", redraw)
    x_range.js_on_change("end", redraw)
    return plot
