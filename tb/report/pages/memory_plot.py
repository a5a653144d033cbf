# SPDX-License-Identifier: Apache-2.0
"""What lies where in a memory, from when to when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from nncosim.compiler.image.notes import BufferNote
from nncosim.tb.report.pages.colours import BUFFER_COLOURS, OTHER_COLOUR
from nncosim.tb.report.pages.data import Run
from nncosim.tb.report.pages.labels import NARROW, WIDTH, chosen_labels
from nncosim.tb.report.pages.timeline_plot import CYCLES, LEFT, x_tools

__all__ = ["Axis", "axis_of", "contents_of", "life_of", "memories_of", "memory_plot", "shown_name"]

HEIGHT = 420
KIB = 1024
FOLDED = 0.1
"""Share of the height for all that is folded."""


MOST = 4
"""Memories with a picture each."""


def memories_of(run: Run) -> list[str]:
    """The memories whose contents change during a run, the fullest first, and no more than a page can show."""
    used: dict[str, int] = {}
    for buffer in run.buffers:
        used[buffer.memory] = used.get(buffer.memory, 0) + buffer.bytes
    changing = {b.memory for b in run.buffers if not (b.from_start and b.to_end)}
    return sorted(changing, key=lambda name: (-used[name], name))[:MOST]


def shown_name(memory: str) -> str:
    """A memory's name for readers: L2, not l2."""
    return memory.upper() if len(memory) < 4 else memory


def contents_of(run: Run, memory: str) -> dict[str, str]:
    """Kinds of what lies in a memory, with their colours."""
    kinds = dict.fromkeys(b.kind for b in run.buffers if b.memory == memory)
    return {kind: BUFFER_COLOURS.get(kind, OTHER_COLOUR) for kind in [*BUFFER_COLOURS, *kinds] if kind in kinds}


def life_of(run: Run, buffer: BufferNote) -> tuple[int, int]:
    """From when to when a buffer's contents matter: the whole run for what is there before it and after it, else from
    the first access to the last; of a bench that records no accesses, from the start of the first layer that uses it to
    the end of the last."""
    names = [layer["name"] for layer in run.layers]
    used = [run.intervals[names.index(name)] for name in buffer.layers
            if name in names and names.index(name) < len(run.intervals)]  # fmt: skip
    spans = [run.accesses[buffer.name]] if buffer.name in run.accesses else used
    begin = 0 if buffer.from_start or not spans else min(start for start, _ in spans)
    end = run.end if buffer.to_end or not spans else max(stop for _, stop in spans)
    return begin, end


@dataclass(frozen=True)
class Axis:
    """A memory's addresses (KiB from its begin) as heights: stretches whose contents never change are folded.

    `stretches`: (low, high, folded), ascending, without gaps. What is folded takes `FOLDED` of the height in all.
    """

    stretches: Sequence[tuple[float, float, bool]]

    @cached_property
    def _points(self) -> tuple[list[float], list[float]]:
        folded = sum(f for _, _, f in self.stretches)
        live = sum(high - low for low, high, f in self.stretches if not f) or 1.0
        share = FOLDED if folded < len(self.stretches) else 1.0
        at, heights = [self.stretches[0][0]], [0.0]
        for low, high, is_folded in self.stretches:
            height = share / folded if is_folded else (1 - share * bool(folded)) * (high - low) / live
            at.append(high)
            heights.append(heights[-1] + height)
        return at, heights

    def height(self, address: float) -> float:
        """0 to 1."""
        return float(np.interp(address, *self._points))

    def ticks(self) -> dict[float, str]:
        """Heights to addresses: the ends of what is folded, and powers of two between them, where there is room."""
        live = sum(high - low for low, high, folded in self.stretches if not folded)
        step = 2.0 ** math.ceil(math.log2(max(live, 1e-3) / 7))
        wanted = [end for low, high, folded in self.stretches if folded for end in (low, high)]
        for low, high, folded in self.stretches:
            wanted += [] if folded else [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
        found: dict[float, str] = {}
        for address in wanted:
            height = self.height(address)
            if all(abs(height - other) > 0.04 for other in found):
                found[height] = f"{address:,.2f}".rstrip("0").rstrip(".")
        return found


def axis_of(buffers: Sequence[BufferNote], base: int) -> Axis:
    """Folds what lies there during the whole run and is no tensor, if there is anything else."""
    live = sorted((b.address - base, b.address - base + b.bytes) for b in buffers if not _is_constant(b))
    top = max(b.address - base + b.bytes for b in buffers)
    merged: list[list[int]] = []
    for low, high in live:
        if merged and low <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    stretches, at = [], 0
    for low, high in merged:
        stretches += [(at / KIB, low / KIB, True)] if low > at else []
        stretches.append((low / KIB, high / KIB, False))
        at = high
    stretches += [(at / KIB, top / KIB, True)] if top > at else []
    return Axis(stretches)


def _is_constant(buffer: BufferNote) -> bool:
    return buffer.from_start and buffer.to_end and buffer.kind != "tensor"


def _rows_of(run: Run, mine: Sequence[BufferNote], base: int, axis: Axis) -> Iterator[tuple[str | float, ...]]:
    """(left, right, bottom, top, colour, name, kind, bytes, place, alpha, accessed) of each rectangle, the largest
    first; of a folded stretch one."""
    for buffer in sorted((b for b in mine if not _is_constant(b)), key=lambda b: -b.bytes):
        begin, end = life_of(run, buffer)
        at, size = (buffer.address - base) / KIB, buffer.bytes / KIB
        seen = run.accesses.get(buffer.name)
        accessed = f"cycles {seen[0]:,} to {seen[1]:,}" if seen else "not recorded"
        yield (begin, end, axis.height(at), axis.height(at + size),
               BUFFER_COLOURS.get(buffer.kind, OTHER_COLOUR), buffer.name, buffer.kind, buffer.bytes,
               f"{buffer.address:#010x}", 0.4 if buffer.parent else 0.75, accessed)  # fmt: skip
    for low, high, folded in axis.stretches:
        kinds: dict[str, int] = {}
        for b in mine:
            if folded and _is_constant(b) and low <= (b.address - base) / KIB < high and not b.parent:
                kinds[b.kind] = kinds.get(b.kind, 0) + b.bytes
        if kinds:
            most = max(kinds, key=lambda kind: kinds[kind])
            name = f"{', '.join(sorted(kinds, key=lambda kind: -kinds[kind]))}: {high - low:,.0f} KiB, folded"
            yield (0, run.end, axis.height(low), axis.height(high), BUFFER_COLOURS.get(most, OTHER_COLOUR), name,
                   ", ".join(f"{kind} {size:,}" for kind, size in kinds.items()), sum(kinds.values()),
                   f"{base + round(low * KIB):#010x}", 0.45, "the whole run")  # fmt: skip


def _source(run: Run, mine: Sequence[BufferNote], base: int, axis: Axis) -> ColumnDataSource:
    keys = ("left", "right", "bottom", "top", "colour", "name", "kind", "bytes", "place", "alpha", "accessed")
    rows = list(_rows_of(run, mine, base, axis))
    return ColumnDataSource({key: [row[i] for row in rows] for i, key in enumerate(keys)})


def memory_plot(run: Run, memory: str, x_range: Range1d) -> figure:
    """A rectangle a buffer: from its first cycle to its last, from its first byte to its last."""
    mine = [buffer for buffer in run.buffers if buffer.memory == memory]
    sizes = {m.name: m.size_bytes for m in run.platform.memories}
    size = sizes.get(memory.partition("[")[0], max(b.address + b.bytes for b in mine))
    base = min(b.address for b in mine)
    base -= base % max(1 << (size - 1).bit_length(), 1)
    axis = axis_of(mine, base)
    source = _source(run, mine, base, axis)
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", x_range=x_range, y_range=Range1d(start=0, end=1.02),
        min_border_left=LEFT, name=f"memory-{memory}",
        tools=x_tools("both"), x_axis_label="cycles since the inference began",
        y_axis_label=f"address in {shown_name(memory)} (KiB)",
    )  # fmt: skip
    boxes = plot.quad(left="left", right="right", bottom="bottom", top="top", fill_color="colour", fill_alpha="alpha",
                      line_color="#ffffff", line_width=0.7, source=source)  # fmt: skip
    for width in (WIDTH, NARROW):
        _label(plot, source, run.end, width)
    plot.add_tools(HoverTool(renderers=[boxes], tooltips=[
        ("", "@name"), ("kind", "@kind"), ("bytes", "@bytes{0,0} at @place"),
        ("holds", "cycles @left{0,0} to @right{0,0}"), ("read or written", "@accessed")]))  # fmt: skip
    plot.xaxis.formatter = NumeralTickFormatter(format=CYCLES)
    ticks = axis.ticks()
    plot.yaxis.ticker = FixedTicker(ticks=sorted(ticks))
    plot.yaxis.major_label_overrides = dict(ticks.items())
    plot.toolbar.logo = None
    return plot


def _label(plot: figure, source: ColumnDataSource, end: int, width: int) -> None:
    """Names in the boxes that have room for them in a plot of `width` pixels, the largest first."""
    data, pixels = source.data, HEIGHT - 60
    roomy = [
        i for i in range(len(data["name"]))
        if (data["top"][i] - data["bottom"][i]) * pixels > 13
        and (data["right"][i] - data["left"][i]) * width > (7 * len(data["name"][i]) + 8) * end
    ]  # fmt: skip
    texts, left = [data["name"][i] for i in roomy], [data["left"][i] for i in roomy]
    middle = [(data["top"][i] + data["bottom"][i]) / 2 for i in roomy]
    shown = chosen_labels(texts, [x * width / max(end, 1) for x in left], [y * pixels for y in middle])
    plot.text(
        x=[left[i] for i in shown], y=[middle[i] for i in shown], text=[texts[i] for i in shown], x_offset=4,
        text_baseline="middle", text_font_size="11px", text_color="#111111", name=f"labels-{width}",
        visible=width == WIDTH,
    )  # fmt: skip
