# SPDX-License-Identifier: Apache-2.0
"""How far each layer's cycles lie from what was said of them before."""

from __future__ import annotations

from typing import Literal

from bokeh.models import (
    ColumnDataSource,
    FactorRange,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
    ResetTool,
)
from bokeh.models.annotations import BoxAnnotation
from bokeh.plotting import figure
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.labels import layer_labels

__all__ = ["deviation_plot", "deviations", "forecasts_of"]

Forecast = Literal["iss_cycles", "estimated_cycles"]
_COLOURS: dict[Forecast, str] = {"iss_cycles": "#0072b2", "estimated_cycles": "#8a8a8a"}
_LATE = "#d55e00"
ROW = 26


def forecasts_of(run: Run) -> dict[Forecast, str]:
    """Figures of a layer in report.json that its cycles are held against, in words; those that layers have."""
    words: dict[Forecast, str] = {
        "iss_cycles": f"by the {run.platform.cycle_model}", "estimated_cycles": "estimated before linking",
    }  # fmt: skip
    return {key: text for key, text in words.items() if any(layer.get(key) for layer in run.layers)}


def deviations(run: Run, key: Forecast) -> list[float | None]:
    """Percent of each layer beyond what was forecast of it; None where it did not end, or nothing was."""
    pairs = ((layer["cycles"], layer[key]) for layer in run.layers)
    return [100 * (cycles / forecast - 1) if cycles and forecast else None for cycles, forecast in pairs]


def deviation_plot(run: Run) -> figure | None:
    """A bar a layer and forecast, from 0; None where every layer took exactly what was forecast."""
    found = {key: deviations(run, key) for key in forecasts_of(run)}
    shown = {key: values for key, values in found.items() if any(values)}
    if not shown:
        return None
    names = layer_labels(run.layers)
    reach = max(5.5, *(abs(value) for values in shown.values() for value in values if value is not None)) * 1.15
    plot = figure(
        height=ROW * len(names) + 90, sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_range=Range1d(start=-reach, end=reach), tools=[ResetTool()], name="deviation",
        x_axis_label="percent that the layer took longer (right) or shorter (left)",
    )  # fmt: skip
    share = 100 * run.platform.limits.layer_share
    plot.add_layout(BoxAnnotation(left=-share, right=share, fill_color="#009e73", fill_alpha=0.08))
    height = 0.74 / len(shown)
    for number, (key, values) in enumerate(shown.items()):
        shift = (number - (len(shown) - 1) / 2) * height
        _bars(plot, run, key, values, [(name, -shift) for name in names], height * 0.9)
    plot.ygrid.visible = False
    plot.yaxis.major_label_text_font_size = "12px"
    plot.xaxis.formatter = NumeralTickFormatter(format="+0.[0]")
    plot.toolbar_location = None
    plot.add_layout(plot.legend[0], "above")
    plot.legend[0].orientation = "horizontal"
    plot.legend[0].border_line_color = None
    return plot


def _bars(
    plot: figure, run: Run, key: Forecast, values: list[float | None], at: list[tuple[str, float]], height: float
) -> None:
    layers, forecast = run.layers, forecasts_of(run)[key]
    judged = key == "iss_cycles"
    source = ColumnDataSource({
        "y": at, "right": [value or 0.0 for value in values], "name": [layer["name"] for layer in layers],
        "cycles": [layer["cycles"] or 0 for layer in layers], "forecast": [layer.get(key) or 0 for layer in layers],
        "said": ["did not end" if value is None else f"{value:+.2f} %" for value in values],
        "colour": [_LATE if judged and not layer["in_time"] else _COLOURS[key] for layer in layers],
    })  # fmt: skip
    bars = plot.hbar(y="y", right="right", height=height, color="colour", source=source, legend_label=forecast)
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[
        ("layer", "@name"), (forecast, "@forecast{0,0} cycles"), ("measured", "@cycles{0,0} cycles (@said)"),
    ]))  # fmt: skip
