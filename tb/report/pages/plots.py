# SPDX-License-Identifier: Apache-2.0
"""The plots by layer: the roofline, and where the cycles went."""

from __future__ import annotations

import math
from typing import Any, Literal

from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    FactorRange,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.plotting import figure
from nncosim.tb.report.pages.colours import CATEGORY_COLOURS, OPERATOR_COLOURS, category_name
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.labels import NARROW, WIDTH, chosen_labels, layer_labels
from nncosim.tb.report.pages.losses import own_engines

__all__ = ["roofline_plot", "shares_plot"]

HEIGHT = 460
ROW = 26
"""Height of a layer's row in pixels."""


def _tools(dimensions: Literal["width", "both"]) -> list[Any]:
    wheel = WheelZoomTool(dimensions=dimensions, modifiers={"ctrl": True})  # the wheel alone scrolls the page
    return [PanTool(dimensions=dimensions), wheel, BoxZoomTool(dimensions=dimensions), ResetTool()]


def _kinds(run: Run) -> dict[str, str]:
    """Operator, without its kernel's size, -> colour."""
    names = dict.fromkeys(_kind(layer["op"]) for layer in run.layers)
    return {name: OPERATOR_COLOURS[i % len(OPERATOR_COLOURS)] for i, name in enumerate(names)}


def _kind(op: str) -> str:
    if " + " in op:
        return "fused"
    words = [word for word in op.split() if not (word[0] in "sd" and word[1:].isdigit())]
    return " ".join(words)


def _bandwidth(run: Run) -> int:
    """Bytes a cycle of the machine's movers together."""
    return sum(mover.width_bits for mover in run.platform.movers) // 8


def _points(run: Run) -> ColumnDataSource:
    colours, end = _kinds(run), run.end or 1
    rows: dict[str, list[Any]] = {key: [] for key in (
        "x", "y", "size", "colour", "kind", "name", "op", "cycles", "macs", "bytes", "limit")}  # fmt: skip
    peak, width = run.platform.peak_macs_per_cycle, _bandwidth(run)
    for layer, moved in zip(run.layers, run.traffic, strict=True):
        if not (layer["macs"] and moved and layer["cycles"]):
            continue
        x, y = layer["macs"] / moved, layer["macs"] / layer["cycles"]
        roof = min(peak, width * x)
        values = (x, y, 7 + 26 * math.sqrt(layer["cycles"] / end), colours[_kind(layer["op"])], _kind(layer["op"]),
                  layer["name"], layer["op"], layer["cycles"], layer["macs"], moved, f"{y / roof:.1%}")  # fmt: skip
        for key, value in zip(rows, values, strict=True):
            rows[key].append(value)
    return ColumnDataSource(rows)


def roofline_plot(run: Run) -> Any | None:
    """MAC/cycle against MAC a byte moved, under the machine's roofs; None where nothing is known of either."""
    points, peak, width = _points(run), run.platform.peak_macs_per_cycle, _bandwidth(run)
    if not points.data["x"] or not peak or not width:
        return None
    ridge = peak / width
    xs, ys = points.data["x"], points.data["y"]
    low_x, high_x = min(ridge / 4, min(xs) / 2), max(ridge * 16, max(xs) * 3)
    low_y, high_y = min(peak / 16, min(ys) / 1.7), peak * 1.8
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", x_axis_type="log", y_axis_type="log", tools=_tools("both"),
        x_range=Range1d(start=low_x, end=high_x), y_range=Range1d(start=low_y, end=high_y),
        x_axis_label="MAC for each byte moved over the port", y_axis_label="MAC/cycle",
    )  # fmt: skip
    plot.line([low_x, ridge, high_x], [width * low_x, peak, peak], color="#333333", line_width=2)
    plot.text([high_x], [peak], [f"{peak:,} MAC/cycle "], text_align="right", text_baseline="bottom",
              text_font_size="12px", text_color="#333333")  # fmt: skip
    foot = max(low_x, low_y / width)
    plot.text([foot], [foot * width], [f"{width:,} byte/cycle"], text_align="left", text_baseline="bottom",
              x_offset=6, y_offset=-48, text_font_size="12px", text_color="#333333")  # fmt: skip
    marks = plot.scatter(x="x", y="y", size="size", color="colour", fill_alpha=0.65, line_color="#222222",
                         line_width=0.5, source=points, legend_group="kind")  # fmt: skip
    total, macs, cycles = sum(run.traffic), run.report["macs"], run.report["cycles"]
    whole = (macs / total, macs / cycles) if total and cycles else None
    for pixels in (WIDTH, NARROW):
        _label(plot, points, (low_x, high_x), (low_y, high_y), peak, whole, pixels)
    if whole is not None:
        star = plot.scatter([whole[0]], [whole[1]], marker="star", size=20, color="#000000",
                            legend_label="whole network")  # fmt: skip
        plot.add_tools(HoverTool(renderers=[star], tooltips=[("whole network", "@y{0,0.0} MAC/cycle")]))
    plot.add_tools(HoverTool(renderers=[marks], tooltips=[
        ("layer", "@name (@op)"), ("MAC/cycle", "@y{0,0.0}, @limit of its roof"), ("MAC/byte", "@x{0,0.0}"),
        ("MAC", "@macs{0,0}"), ("bytes", "@bytes{0,0}"), ("cycles", "@cycles{0,0}")]))  # fmt: skip
    plot.legend.location = "bottom_right"
    plot.legend.label_text_font_size = "11px"
    plot.legend.background_fill_alpha = 0.8
    plot.xaxis.formatter = plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    plot.xaxis.ticker, plot.yaxis.ticker = _decades(low_x, high_x), _decades(low_y, high_y)
    plot.toolbar.logo = None
    return plot


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 and their powers of ten between two values."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]


def _label(
    plot: Any, points: ColumnDataSource, x_range: tuple[float, float], y_range: tuple[float, float], peak: float,
    whole: tuple[float, float] | None, width: int,
) -> None:
    """The names of the layers as far as they fit into `width` pixels, the longest-running first. `whole`: the point of
    the network."""
    data = points.data
    order = sorted(range(len(data["x"])), key=lambda i: -data["cycles"][i])

    def pixels(value: float, ends: tuple[float, float], length: int) -> float:
        return math.log(value / ends[0]) / math.log(ends[1] / ends[0]) * length

    texts = [data["name"][i] for i in order]
    x = [pixels(data["x"][i], x_range, width) for i in order]
    y = [pixels(data["y"][i], y_range, HEIGHT - 60) for i in order]
    half = [data["size"][i] / 2 for i in order]
    points_ = [(a - h, a + h, b - h, b + h) for a, b, h in zip(x, y, half, strict=True)]
    if whole is not None:
        a, b = pixels(whole[0], x_range, width), pixels(whole[1], y_range, HEIGHT - 60)
        points_.append((a - 11, a + 11, b - 11, b + 11))
    roof = [(0.0, float(width), top - 1, top + 18) for top in [pixels(peak, y_range, HEIGHT - 60)]]
    beside = [a + h + 3 for a, h in zip(x, half, strict=True)]
    shown = chosen_labels(texts, beside, y, (0.0, -14.0), [*points_, *roof])
    labels = {key: [data[key][order[i]] for i in shown] for key in ("x", "y", "name")}
    labels["right"] = [half[i] + 3 for i in shown]
    labels["down"] = [-shift for shift in shown.values()]
    plot.text(x="x", y="y", text="name", x_offset="right", y_offset="down", text_baseline="middle",
              text_font_size="11px", text_color="#333333", source=ColumnDataSource(labels),
              name=f"labels-{width}", visible=width == WIDTH)  # fmt: skip


def _own(layer: dict[str, Any]) -> list[dict[str, int]]:
    """Counters of the engines that computed a layer."""
    return [layer["counters"][name] for name in own_engines(layer)]


def shares_plot(run: Run) -> Any:
    """Where the cycles of the engine that computes a layer went, mean of its instances."""
    names = layer_labels(run.layers)
    categories = [c for c in CATEGORY_COLOURS if any(c in own for layer in run.layers for own in _own(layer))]
    data: dict[str, list[Any]] = {"name": names, "layer": [layer["name"] for layer in run.layers]}
    for category in categories:
        data[category] = []
        for layer in run.layers:
            own, cycles = _own(layer), layer["cycles"]
            mean = sum(c.get(category, 0) for c in own) / len(own) if own else 0.0
            data[category].append(100 * mean / cycles if cycles else 0.0)
    plot = figure(
        height=ROW * len(names) + 90, sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_range=Range1d(start=0, end=100), tools=[ResetTool()], x_axis_label="percent of the layer's cycles",
    )  # fmt: skip
    labels = [category_name(category) for category in categories]
    bars = plot.hbar_stack(categories, y="name", height=0.7, color=[CATEGORY_COLOURS[c] for c in categories],
                           source=ColumnDataSource(data), legend_label=labels)  # fmt: skip
    for category, label, bar in zip(categories, labels, bars, strict=True):
        plot.add_tools(HoverTool(renderers=[bar], tooltips=[("layer", "@layer"), (label, f"@{category}{{0.0}} %")]))
    _by_layer(plot)
    return plot


def _by_layer(plot: Any) -> None:
    plot.add_layout(plot.legend[0], "above")
    plot.legend[0].orientation = "horizontal"
    plot.legend[0].label_text_font_size = "11px"
    plot.legend[0].border_line_color = None
    plot.legend[0].padding = 2
    plot.ygrid.visible = False
    plot.yaxis.major_label_text_font_size = "12px"
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.toolbar.logo = None
