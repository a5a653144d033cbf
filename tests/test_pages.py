# SPDX-License-Identifier: Apache-2.0
"""The pictures of the page: what was lost and why, how far cycles lie from what was said, what is folded, colours."""

import base64
import json
import zlib
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from bokeh.models import Range1d
from nncosim.compiler.image.notes import BufferNote
from nncosim.platforms.base import Engine, Mover, Platform
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.cli.main import invoke
from nncosim.tb.report.pages.colours import cause_colour, dark_colour, kind_colour
from nncosim.tb.report.pages.data import load_run
from nncosim.tb.report.pages.deviation_plot import deviation_plot, deviations
from nncosim.tb.report.pages.labels import layer_labels
from nncosim.tb.report.pages.losses import BELOW_PEAK, causes_of, losses_of, losses_plot
from nncosim.tb.report.pages.memory_plot import axis_of, memory_plot
from nncosim.tb.report.pages.page import report_page
from nncosim.tb.report.pages.plots import roofline_plot, shares_plot
from nncosim.tb.report.pages.timeline_plot import timeline_data
from nncosim.tb.report.trace_events import trace_events

WAITS = ("input", "weights", "results", "program", "room for results", "room for input", "room for weights", "host",
         "memory port", "data")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "run"
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        assert invoke(["run", str(model), "--platform", "j3dai", "--backend", "iss", "--out", str(out)]) == 0
    return load_run(out)


# ---- cycles lost

def test_ideal_and_lost_cycles_are_all(run):
    """Of each layer, from the report's counters alone: its cycles, its waits, and its MACs at the peak."""
    losses = {loss.name: loss for loss in losses_of(run)}
    assert set(losses) == {layer["name"] for layer in run.layers}
    for layer in run.layers:
        loss, clusters = losses[layer["name"]], [c for e, c in layer["counters"].items() if e.startswith("cluster")]
        assert loss.ideal == pytest.approx(layer["macs"] / 768)
        assert loss.ideal + loss.lost == pytest.approx(layer["cycles"])
        waits = sum(cycles for cause, cycles in loss.causes.items() if cause.startswith("wait: "))
        counted = sum(c[name] for c in clusters for name in ("wait_data", "wait_port", "wait_host")) / len(clusters)
        assert waits == pytest.approx(counted)
        busy = sum(c["busy"] for c in clusters) / len(clusters)
        assert loss.causes.get(BELOW_PEAK, 0.0) == pytest.approx(busy - loss.ideal if layer["macs"] else 0.0)
    assert [loss.lost for loss in losses_of(run)] == sorted((loss.lost for loss in losses_of(run)), reverse=True)


def test_causes_are_ranked(run):
    causes = causes_of(losses_of(run))
    assert list(causes.values()) == sorted(causes.values(), reverse=True)
    assert sum(causes.values()) == pytest.approx(run.report["cycles"] - run.report["macs"] / 768)
    assert {"wait: input", "control", "idle"} <= set(causes)


def test_a_wait_that_grows_is_lost_there(run):
    """A planted loss: 1,000 more cycles of waiting for weights in the third layer."""
    begin, end = run.intervals[2]
    rows = []
    for activity in run.activities:
        cycles = {name: values.copy() for name, values in activity.cycles.items()}
        if activity.engine == "cluster0":
            kinds = (*activity.kinds, "wait: weights")
            at = int(np.flatnonzero((activity.start >= begin) & (activity.end <= end))[0])
            kind = activity.kind.copy()
            kind[at] = len(kinds) - 1
            cycles["wait_data"][at] += 1000
            activity = replace(activity, kinds=kinds, kind=kind)
        rows.append(replace(activity, cycles=cycles))
    before, after = (causes_of(losses_of(r)) for r in (run, replace(run, activities=rows)))
    grown = after["wait: weights"] - before["wait: weights"]
    assert grown >= 1000 / 6 and sum(after.values()) - sum(before.values()) == pytest.approx(1000 / 6)
    assert losses_of(replace(run, activities=rows))[0].name == run.layers[2]["name"]


def test_it_is_the_first_picture(run):
    text = report_page(run).decode()
    places = [text.index(f"<h2>{title}") for title in ("Cycles lost", "Timeline", "Memory L2", "Roofline", "Measured")]
    assert places == sorted(places)


# ---- what the platform says: instances, categories, movers

def with_category(run, category):
    """The run with the cycles that cluster0 waited for data under another name."""
    layers = [{**layer, "counters": {engine: {category if (engine, name) == ("cluster0", "wait_data") else name: cycles
                                              for name, cycles in counters.items()}
                                     for engine, counters in layer["counters"].items()}} for layer in run.layers]
    activities = [replace(a, cycles={category if (a.engine, name) == ("cluster0", "wait_data") else name: cycles
                                     for name, cycles in a.cycles.items()}) for a in run.activities]
    return replace(run, report={**run.report, "layers": layers}, activities=activities)


@pytest.mark.parametrize(("category", "words"), [("wait_lock", "waits for lock"), ("busy_idly", "busy idly")])
def test_a_category_that_no_page_has_seen_shows(run, category, words):
    changed = with_category(run, category)
    waited = sum(layer["counters"]["cluster0"]["wait_data"] for layer in run.layers)
    before, after = (causes_of(losses_of(r)) for r in (run, changed))
    assert sum(before.values()) == pytest.approx(sum(after.values()))
    assert after["wait: lock" if category == "wait_lock" else "busy idly"] == pytest.approx(waited / 6)
    plot = shares_plot(changed)
    shown = [item.label.value for item in plot.legend[0].items]
    assert words in shown and len(set(shown)) == len(shown)
    data = plot.renderers[0].data_source.data
    shares = [sum(data[name][row] for name in data if name.startswith("share ")) for row in range(len(run.layers))]
    assert shares == pytest.approx([100] * len(shares))
    timeline = zlib.decompress(base64.b64decode(timeline_data(changed)["tables"])).decode()
    assert json.dumps(category.removeprefix("wait_").replace("_", " ")) in timeline
    events = [e for e in trace_events(changed.report, changed.activities) if e["ph"] == "X" and e["cat"] != "layer"]
    quiet = sum(int(a.cycles[category][[a.kinds[k] in ("idle", "control", "sleep") for k in a.kind]].sum())
                for a in changed.activities if category in a.cycles)  # fmt: skip
    assert sum(event["args"].get(category, 0) for event in events) == waited - quiet > 0


@dataclass(frozen=True)
class Digits(Platform):
    name: ClassVar[str] = "digits"
    tiles: int = 12

    @property
    def engines(self):
        return (Engine("conv2d", 4, 3), Engine("conv2", 1), Engine("tile", 1, self.tiles))

    @property
    def movers(self):
        return (Mover("dma2", (), 64, 2), Mover("port", (), 8))


def test_instances_are_what_the_platform_says():
    engines = {"conv2d": "conv2d", "conv2d2": "conv2d", "conv2d3": None, "conv2": "conv2", "tile0": "tile",
               "tile11": "tile", "tile12": None, "tile": "tile", "host": None, "dma2": None, "tile_1": None}
    assert {name: Digits().engine_of(name) for name in engines} == engines
    assert [Digits().mover_of(name) for name in ("dma2", "dma20", "dma21", "dma22", "port", "conv2")] == [
        "dma2", "dma2", "dma2", None, "port", None]  # fmt: skip


@dataclass(frozen=True)
class TwoMovers(J3dai):
    @property
    def movers(self):
        return (*super().movers, Mover("side", ("l2", "l1"), 32, 2))


def two_movers(run, share):
    """The run, with `share` times the DMPA's bytes moved by two instances of another mover too."""
    (dmpa,) = (a for a in run.activities if a.engine == "dmpa")
    more = [replace(dmpa, engine=f"side{k}", bytes=(dmpa.bytes * share).astype(np.int64)) for k in (0, 1)]
    return replace(run, activities=[*run.activities, *more], platform=TwoMovers())


@pytest.mark.parametrize(("share", "lowest"), [(1 / 64, "dmpa"), (1.0, "side")])
def test_each_mover_has_its_roof(run, share, lowest):
    """128 byte/cycle and 8: which is the lower one over a layer depends on what each moves for it."""
    both = two_movers(run, share)
    assert both.traffic["dmpa"] == run.traffic["dmpa"] and set(run.traffic) == {"dmpa"}
    one, two = roofline_plot(run), roofline_plot(both)
    roofs = {mover: two.select_one({"name": f"roof-{mover}"}).data_source.data for mover in ("dmpa", "side")}
    for mover, width in (("dmpa", 128), ("side", 8)):
        (low, ridge, high), (foot, *top) = roofs[mover]["x"], roofs[mover]["y"]
        assert low < ridge < high and foot == pytest.approx(width * low) and top == [768, 768]
        assert width * ridge == pytest.approx(768)
    assert one.select_one({"name": "roof-side"}) is None
    for mover in roofs:
        marks = two.select_one({"name": f"marks-{mover}"}).data_source.data
        for name, x, y, limit, roof in zip(*(marks[k] for k in ("name", "x", "y", "limit", "roof")), strict=True):
            number = next(i for i, layer in enumerate(run.layers) if layer["name"] == name)
            layer, moved = run.layers[number], both.traffic[mover][number]
            assert x == pytest.approx(layer["macs"] / moved) and y == pytest.approx(layer["macs"] / layer["cycles"])
            over = {m: w * layer["macs"] / both.traffic[m][number] for m, w in (("dmpa", 128), ("side", 8))}
            assert limit == f"{y / min(768, *over.values()):.1%}"
            assert roof == (lowest if over[lowest] < 768 else "the peak") and over[lowest] == min(over.values())
    texts = [r.data_source.data["text"] for r in two.renderers if "text" in r.data_source.data]
    assert ["side: 8 byte/cycle"] in texts and ["dmpa: 128 byte/cycle"] in texts


def test_a_layer_on_an_engine_without_counters_is_not_counted(run):
    layers = [{**layer, "instances": [] if k == 1 else layer["instances"]} for k, layer in enumerate(run.layers)]
    loss = next(x for x in losses_of(replace(run, report={**run.report, "layers": layers}))
                if x.name == run.layers[1]["name"])  # fmt: skip
    assert loss.causes == {"not counted": run.layers[1]["cycles"]} and loss.ideal == 0


# ---- deviation

def test_deviation(run):
    layers = [dict(layer) for layer in run.layers]
    layers[1]["iss_cycles"] = layers[1]["cycles"] * 2
    layers[2]["cycles"] = None
    changed = replace(run, report={**run.report, "layers": layers})
    assert deviations(changed, "iss_cycles") == [0.0, -50.0, None] + [0.0] * (len(layers) - 3)
    assert deviation_plot(changed) is not None
    exact = [{**layer, "estimated_cycles": None} for layer in run.layers]
    plain = replace(run, report={**run.report, "layers": exact})
    assert deviation_plot(plain) is None
    assert "took exactly the cycles that the ISS counts" in report_page(plain).decode()


# ---- the memory

def buffer(address: int, size: int, constant: bool) -> BufferNote:
    kind = "parameters" if constant else "tensor"
    return BufferNote("some", "l2", address, size, kind, None, (), constant, constant)


def test_what_never_changes_is_folded():
    """4 MiB of parameters before and behind 1 MiB of tensors: nine tenths of the height are the tensors'."""
    mib = 1 << 20
    axis = axis_of([buffer(0, 2 * mib, True), buffer(2 * mib, mib, False), buffer(3 * mib, 2 * mib, True)], 0)
    heights = [axis.height(k * 1024) for k in (0, 2, 2.5, 3, 5)]
    assert heights == pytest.approx([0, 0.05, 0.5, 0.95, 1])
    assert {"2,048", "3,072"} <= set(axis.ticks().values()) and all(0 <= at <= 1 for at in axis.ticks())


def test_a_memory_without_parameters_or_without_tensors_has_its_height():
    assert axis_of([buffer(0, 2048, False)], 0).height(1) == pytest.approx(0.5)
    assert axis_of([buffer(0, 2048, True)], 0).height(1) == pytest.approx(0.5)


def test_tensors_have_the_height_of_the_map(run):
    plot = memory_plot(run, "l2", Range1d(start=0, end=run.end))
    data = next(r.data_source.data for r in plot.renderers if "kind" in r.data_source.data)
    tops = [top for top, kind in zip(data["top"], data["kind"], strict=True) if kind == "tensor"]
    bottoms = [low for low, kind in zip(data["bottom"], data["kind"], strict=True) if kind == "tensor"]
    assert max(tops) - min(bottoms) >= 0.85
    assert any("folded" in name for name in data["name"])


# ---- colours, names, styles

def lab(colour: str) -> tuple[float, float, float]:
    """CIE 1976 L*a*b* of an sRGB colour under D65."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
              for v in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))]  # fmt: skip
    matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    x, y, z = (sum(m * v for m, v in zip(row, linear, strict=True)) / white
               for row, white in zip(matrix, (0.95047, 1.0, 1.08883), strict=True))  # fmt: skip
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def distance(a: str, b: str) -> float:
    return sum((p - q) ** 2 for p, q in zip(lab(a), lab(b), strict=True)) ** 0.5


def test_waits_differ_in_colour():
    """From each other, from work, control and idling: as far apart as is told at a glance (a just noticeable difference
    is about 2.3)."""
    kinds = [*(f"wait: {name}" for name in WAITS), "compute", "control", "idle"]
    for colour_of in (kind_colour, dark_colour, cause_colour):
        close = {(a, b): distance(colour_of(a), colour_of(b)) for a, b in combinations(kinds, 2)}
        assert min(close.values()) > 23, min(close, key=close.__getitem__)


def test_the_checker_of_colours_sees_two_alike():
    assert distance("#f6d5c9", "#dfc3b3") < 23 and distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)


def test_labels_of_layers_are_unique():
    labels = layer_labels([{"name": "a" * 60}, {"name": "a" * 60}])
    assert len(set(labels)) == 2 and all(len(label) < 34 for label in labels)


def test_bars_of_layers_with_long_names(run):
    layers = [{**layer, "name": f"{'x' * 60}{k}"} for k, layer in enumerate(run.layers)]
    plot = losses_plot(replace(run, report={**run.report, "layers": layers}))
    assert all(len(name) < 34 for name in plot.y_range.factors) and len(set(plot.y_range.factors)) == len(layers)


def test_page_has_styles_for_dark_print_and_narrow_and_a_date(run):
    text = report_page(run).decode()
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 1000px"):
        assert rule in text, rule
    date = run.report["date"]
    assert f"ran on {date[:10]} at {date[11:16]} UTC" in text
    assert (Path(__file__).parents[1] / "tb" / "report" / "pages" / "theme.js").read_text() in text
