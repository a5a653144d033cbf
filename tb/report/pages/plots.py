# SPDX-License-Identifier: Apache-2.0
"""The plots by layer: the roofline, and where the cycles went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    FactorRange,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    Tool,
    WheelZoomTool,
)
from bokeh.plotting import figure
from nncosim.tb.report.categories import category_name
from nncosim.tb.report.pages.colours import OPERATOR_COLOURS, category_colour, category_order
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.labels import NARROW, WIDTH, chosen_labels, layer_labels
from nncosim.tb.report.schema import LayerJson

__all__ = ["roofline_plot", "shares_plot"]

HEIGHT = 460
ROW = 26
"""Height of a layer's row in pixels."""
_MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex")
"""Of the movers of a roofline, in turn."""


def _tools(dimensions: Literal["width", "both"]) -> list[Tool]:
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


def _roofs(run: Run) -> dict[str, float]:
    """Bytes a cycle of each mover, all its instances together; those that moved something."""
    return {mover.name: mover.width_bits * mover.instances / 8 for mover in run.platform.movers
            if mover.width_bits and any(run.traffic[mover.name])}  # fmt: skip


def _points(run: Run, mover: str) -> ColumnDataSource:
    """The layers by what one mover moved for them. `limit`: share of the lowest roof over the layer, `roof`: whose."""
    colours, end = _kinds(run), run.end or 1
    rows: dict[str, list[str | float]] = {key: [] for key in (
        "x", "y", "size", "colour", "kind", "name", "op", "cycles", "macs", "bytes", "limit", "roof", "lowest",
    )}  # fmt: skip
    roofs, peak = _roofs(run), run.platform.peak_macs_per_cycle
    for number, layer in enumerate(run.layers):
        moved = run.traffic[mover][number]
        if not (layer["macs"] and moved and layer["cycles"]):
            continue
        x, y, kind = layer["macs"] / moved, layer["macs"] / layer["cycles"], _kind(layer["op"])
        over = {name: width * layer["macs"] / run.traffic[name][number] for name, width in roofs.items()
                if run.traffic[name][number]}  # fmt: skip
        first = min(over, key=lambda name: over[name])
        roof = min(peak, over[first])
        values: tuple[str | float, ...] = (
            x, y, 7 + 26 * math.sqrt(layer["cycles"] / end), colours[kind], kind, layer["name"], layer["op"],
            layer["cycles"], layer["macs"], moved, f"{y / roof:.1%}", first if roof < peak else "the peak",
            first == mover,
        )  # fmt: skip
        for key, value in zip(rows, values, strict=True):
            rows[key].append(value)
    return ColumnDataSource(rows)


def roofline_plot(run: Run) -> figure | None:
    """MAC/cycle against MAC a byte moved, under the machine's roofs: a mark for each layer and mover, and a roof for
    each mover; None where nothing is known of either."""
    roofs, peak = _roofs(run), run.platform.peak_macs_per_cycle
    points = {mover: _points(run, mover) for mover in roofs}
    points = {mover: source for mover, source in points.items() if source.data["x"]}
    if not points or not peak:
        return None
    xs, ys = ([v for source in points.values() for v in source.data[key]] for key in ("x", "y"))
    ridges = [peak / roofs[mover] for mover in points]
    x_range = min(*ridges, *(2 * x for x in xs)) / 4, max(*(16 * ridge for ridge in ridges), *(3 * x for x in xs))
    y_range = min(peak / 16, min(ys) / 1.7), peak * 1.8
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", x_axis_type="log", y_axis_type="log", tools=_tools("both"),
        x_range=Range1d(start=x_range[0], end=x_range[1]), y_range=Range1d(start=y_range[0], end=y_range[1]),
        x_axis_label="MAC for each byte moved", y_axis_label="MAC/cycle",
    )  # fmt: skip
    plot.text([x_range[1]], [peak], [f"{peak:,} MAC/cycle "], text_align="right", text_baseline="bottom",
              text_font_size="12px", text_color="#333333")  # fmt: skip
    for number, (mover, source) in enumerate(points.items()):
        _roof(plot, mover, roofs[mover], peak, x_range, y_range)
        _marks(plot, run, mover, source, number)
        for pixels in (WIDTH, NARROW):
            _label(plot, source, x_range, y_range, peak, _whole(run, mover), pixels)
    plot.legend.location = "bottom_right"
    plot.legend.label_text_font_size = "11px"
    plot.legend.background_fill_alpha = 0.8
    plot.xaxis.formatter = plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    plot.xaxis.ticker, plot.yaxis.ticker = _decades(*x_range), _decades(*y_range)
    plot.toolbar.logo = None
    return plot


def _roof(
    plot: figure, mover: str, width: float, peak: float, x_range: tuple[float, float], y_range: tuple[float, float]
) -> None:
    low, high = x_range
    plot.line([low, peak / width, high], [width * low, peak, peak], color="#333333", line_width=2, name=f"roof-{mover}")
    foot = max(low, y_range[0] / width)
    plot.text([foot], [foot * width], [f"{mover}: {width:,g} byte/cycle"], text_align="left", text_baseline="bottom",
              x_offset=6, y_offset=-48, text_font_size="12px", text_color="#333333")  # fmt: skip


def _whole(run: Run, mover: str) -> tuple[float, float] | None:
    """The point of the network."""
    total, macs, cycles = sum(run.traffic[mover]), run.report["macs"], run.report["cycles"]
    return (macs / total, macs / cycles) if total and cycles else None


class _Legend(TypedDict, total=False):
    """How a glyph is named in the legend."""

    legend_group: str
    legend_label: str


def _marks(plot: figure, run: Run, mover: str, source: ColumnDataSource, number: int) -> None:
    """The marks of mover number `number`; the first one's make the legend."""
    legend: _Legend = {} if number else {"legend_group": "kind"}
    marks = plot.scatter(x="x", y="y", size="size", color="colour", fill_alpha=0.65, line_color="#222222",
                         line_width=0.5, marker=_MARKERS[number % len(_MARKERS)], source=source,
                         name=f"marks-{mover}", **legend)  # fmt: skip
    plot.add_tools(HoverTool(renderers=[marks], tooltips=[
        ("layer", "@name (@op)"), ("MAC/cycle", "@y{0,0.0}, @limit of its lowest roof (@roof)"),
        (f"MAC/byte of {mover}", "@x{0,0.0}"), ("MAC", "@macs{0,0}"), ("bytes", "@bytes{0,0}"),
        ("cycles", "@cycles{0,0}")]))  # fmt: skip
    whole = _whole(run, mover)
    if whole is not None:
        label: _Legend = {} if number else {"legend_label": "whole network"}
        star = plot.scatter([whole[0]], [whole[1]], marker="star", size=20, color="#000000", **label)
        plot.add_tools(HoverTool(renderers=[star], tooltips=[("whole network", "@y{0,0.0} MAC/cycle")]))


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 and their powers of ten between two values."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]


def _label(
    plot: figure, points: ColumnDataSource, x_range: tuple[float, float], y_range: tuple[float, float], peak: float,
    whole: tuple[float, float] | None, width: int,
) -> None:
    """The names of the layers as far as they fit into `width` pixels, the longest-running first. `whole`: the point of
    the network."""
    data = points.data
    shown_here = [i for i, lowest in enumerate(data["lowest"]) if lowest]  # a layer has one name, whatever its marks
    order = sorted(shown_here, key=lambda i: -data["cycles"][i])

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


def _own(layer: LayerJson) -> list[dict[str, int]]:
    """Counters of the engines that computed a layer."""
    return [layer["counters"][name] for name in layer["instances"]]


def shares_plot(run: Run) -> figure:
    """Where the cycles of the engine that computes a layer went, mean of its instances."""
    names = layer_labels(run.layers)
    found = dict.fromkeys(category for layer in run.layers for own in _own(layer) for category in own)
    categories = sorted(found, key=category_order)
    data: dict[str, Sequence[str | float]] = {"name": names, "layer": [layer["name"] for layer in run.layers]}
    for category in categories:
        shares: list[float] = []
        for layer in run.layers:
            own, cycles = _own(layer), layer["cycles"]
            mean = sum(c.get(category, 0) for c in own) / len(own) if own else 0.0
            shares.append(100 * mean / cycles if cycles else 0.0)
        data[f"share {category}"] = shares
    plot = figure(
        height=ROW * len(names) + 90, sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_range=Range1d(start=0, end=100), tools=[ResetTool()], x_axis_label="percent of the layer's cycles",
    )  # fmt: skip
    labels = [category_name(category) for category in categories]
    columns = [f"share {category}" for category in categories]
    bars = plot.hbar_stack(columns, y="name", height=0.7, color=[category_colour(c) for c in categories],
                           source=ColumnDataSource(data), legend_label=labels)  # fmt: skip
    for column, label, bar in zip(columns, labels, bars, strict=True):
        plot.add_tools(HoverTool(renderers=[bar], tooltips=[("layer", "@layer"), (label, f"@{{{column}}}{{0.0}} %")]))
    _by_layer(plot)
    return plot


def _by_layer(plot: figure) -> None:
    plot.add_layout(plot.legend[0], "above")
    plot.legend[0].orientation = "horizontal"
    plot.legend[0].label_text_font_size = "11px"
    plot.legend[0].border_line_color = None
    plot.legend[0].update(padding=2)
    plot.ygrid.visible = False
    plot.yaxis.major_label_text_font_size = "12px"
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.toolbar.logo = None
