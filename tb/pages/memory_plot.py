# SPDX-License-Identifier: Apache-2.0
"""What lies where in a memory, from when to when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import AdaptiveTicker, ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from nncosim.tb.pages.colours import BUFFER_COLOURS, OTHER_COLOUR
from nncosim.tb.pages.data import Run
from nncosim.tb.pages.labels import WIDTH, chosen_labels
from nncosim.tb.pages.timeline_plot import CYCLES, LEFT, x_tools

__all__ = ["contents_of", "life_of", "memories_of", "memory_plot", "shown_name"]

HEIGHT = 420
KIB = 1024


def memories_of(run: Run) -> list[str]:
    """The memories whose contents change during a run, the fullest first."""
    used: dict[str, int] = {}
    for buffer in run.buffers:
        used[buffer["memory"]] = used.get(buffer["memory"], 0) + buffer["bytes"]
    changing = {b["memory"] for b in run.buffers if not (b["from_start"] and b["to_end"])}
    return sorted(changing, key=lambda name: -used[name])


def shown_name(memory: str) -> str:
    """A memory's name for readers: L2, not l2."""
    return memory.upper() if len(memory) < 4 else memory


def contents_of(run: Run, memory: str) -> dict[str, str]:
    """Kinds of what lies in a memory, with their colours."""
    kinds = dict.fromkeys(b["kind"] for b in run.buffers if b["memory"] == memory)
    return {kind: BUFFER_COLOURS.get(kind, OTHER_COLOUR) for kind in [*BUFFER_COLOURS, *kinds] if kind in kinds}


def life_of(run: Run, buffer: Mapping[str, Any]) -> tuple[int, int]:
    """From when to when a buffer's contents matter: the whole run for what is there before it and after it, else from
    the first access to the last; of a bench that records no accesses, from the start of the first layer that uses it to
    the end of the last."""
    names = [layer["name"] for layer in run.layers]
    used = [run.intervals[names.index(name)] for name in buffer["layers"]
            if name in names and names.index(name) < len(run.intervals)]  # fmt: skip
    spans = [run.accesses[buffer["name"]]] if buffer["name"] in run.accesses else used
    begin = 0 if buffer["from_start"] or not spans else min(start for start, _ in spans)
    end = run.end if buffer["to_end"] or not spans else max(stop for _, stop in spans)
    return begin, end


def _source(run: Run, memory: str, base: int) -> ColumnDataSource:
    rows: dict[str, list[Any]] = {key: [] for key in (
        "left", "right", "bottom", "top", "colour", "name", "kind", "bytes", "place", "alpha", "accessed")}  # fmt: skip
    mine = [buffer for buffer in run.buffers if buffer["memory"] == memory]
    for buffer in sorted(mine, key=lambda b: -b["bytes"]):
        begin, end = life_of(run, buffer)
        at, size = (buffer["address"] - base) / KIB, buffer["bytes"] / KIB
        seen = run.accesses.get(buffer["name"])
        accessed = f"cycles {seen[0]:,} to {seen[1]:,}" if seen else "not recorded"
        values = (begin, end, at, at + size, BUFFER_COLOURS.get(buffer["kind"], OTHER_COLOUR), buffer["name"],
                  buffer["kind"], buffer["bytes"], f"{buffer['address']:#010x}", 0.4 if buffer["parent"] else 0.75,
                  accessed)  # fmt: skip
        for key, value in zip(rows, values, strict=True):
            rows[key].append(value)
    return ColumnDataSource(rows)


def memory_plot(run: Run, memory: str, x_range: Range1d) -> Any:
    """A rectangle a buffer: from its first cycle to its last, from its first byte to its last."""
    mine = [buffer for buffer in run.buffers if buffer["memory"] == memory]
    sizes = {m.name: m.size_bytes for m in run.platform.memories}
    size = sizes.get(memory, max(b["address"] + b["bytes"] for b in mine))
    base = min(b["address"] for b in mine)
    base -= base % max(1 << (size - 1).bit_length(), 1)
    source = _source(run, memory, base)
    top = max(source.data["top"]) * 1.08
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", x_range=x_range, y_range=Range1d(start=0, end=min(size / KIB, top)),
        min_border_left=LEFT,
        tools=x_tools("both"), x_axis_label="cycles since the inference began",
        y_axis_label=f"address in {shown_name(memory)} (KiB)",
    )  # fmt: skip
    boxes = plot.quad(left="left", right="right", bottom="bottom", top="top", fill_color="colour", fill_alpha="alpha",
                      line_color="#ffffff", line_width=0.7, source=source)  # fmt: skip
    _label(plot, source, top, run.end)
    plot.add_tools(HoverTool(renderers=[boxes], tooltips=[
        ("", "@name"), ("kind", "@kind"), ("bytes", "@bytes{0,0} at @place"),
        ("holds", "cycles @left{0,0} to @right{0,0}"), ("read or written", "@accessed")]))  # fmt: skip
    plot.xaxis.formatter = NumeralTickFormatter(format=CYCLES)
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    plot.yaxis.ticker = AdaptiveTicker(base=2, mantissas=[1], desired_num_ticks=8)
    plot.toolbar.logo = None
    return plot


def _label(plot: Any, source: ColumnDataSource, top: float, end: int) -> None:
    """Names in the boxes that have room for them, the largest first."""
    data, pixels = source.data, (HEIGHT - 60) / top
    roomy = [
        i for i in range(len(data["name"]))
        if (data["top"][i] - data["bottom"][i]) * pixels > 13
        and (data["right"][i] - data["left"][i]) * WIDTH > (7 * len(data["name"][i]) + 8) * end
    ]  # fmt: skip
    texts, left = [data["name"][i] for i in roomy], [data["left"][i] for i in roomy]
    middle = [(data["top"][i] + data["bottom"][i]) / 2 for i in roomy]
    shown = chosen_labels(texts, [x * WIDTH / max(end, 1) for x in left], [y * pixels for y in middle])
    plot.text(
        x=[left[i] for i in shown], y=[middle[i] for i in shown], text=[texts[i] for i in shown], x_offset=4,
        text_baseline="middle", text_font_size="11px", text_color="#111111",
    )  # fmt: skip
