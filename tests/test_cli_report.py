# SPDX-License-Identifier: Apache-2.0
"""`nncosim report`: the page is complete and loads nothing, the timeline adds up; what does not is refused."""

import base64
import contextlib
import io
import json
import re
import shutil
import zlib
from html.parser import HTMLParser
from importlib.resources import as_file, files
from pathlib import Path

import command_line
import numpy as np
import pytest
import toy
from nncosim.compiler.image.expected import expected
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.main import invoke
from nncosim.tb.report.build import build_report
from nncosim.tb.report.pages.data import load_run
from nncosim.tb.report.pages.labels import LINE, chosen_labels
from nncosim.tb.report.timeline import TIMELINE, TimelineError, disagreements, read_timeline, timeline_npz
from nncosim.tb.run.flow import RunOptions, check_frames, make_frames
from nncosim.tb.run.program import compile_model
from nncosim.tb.system.files import sha256, write_files
from toy_models import branching_model, save

toy.install()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """The folder of a run of the digits network on the simulator, with its report."""
    out = tmp_path_factory.mktemp("report") / "run"
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        assert invoke(["run", str(model), "--platform", "j3dai", "--backend", "iss", "--out", str(out)]) == 0
    assert invoke(["report", str(out)]) == 0
    return out


@pytest.fixture
def copy(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


@pytest.fixture
def refused(command):
    return lambda directory, *texts: command_line.refused(command("report", directory), *texts)


class _Page(HTMLParser):
    """Addresses that a page's elements load, its visible text, and its scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.code: dict[str, str] = {}
        self.styles: list[str] = []
        self._inside, self._id = "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self._inside, self._id = tag, found.get("id", "")
        self.loads += [found[key] for key in ("src", "href", "data", "action", "poster") if found.get(key)]
        self.styles.append(found.get("style") or "")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside == "script":
            self.code[self._id] = self.code.get(self._id, "") + data
        else:
            self.text.append(data)


def page_of(directory: Path) -> _Page:
    return _Page((directory / "report.html").read_text(encoding="utf-8"))


def tables_of(page: _Page) -> dict:
    return json.loads(zlib.decompress(base64.b64decode(page.code["timeline-tables"])))


def numbers_of(page: _Page) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(page.code["timeline-numbers"])), "<i4")


# ---- the page

def test_page_loads_nothing(drawn):
    page = page_of(drawn)
    assert not page.loads
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    for style in page.styles:
        assert "@import" not in style
        assert all(address.strip("'\" ").startswith("data:") for address in re.findall(r"url\(([^)]*)", style))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', (drawn / "report.html").read_text())
    assert policy and policy[1].startswith("default-src 'none'") and "http" not in policy[1]


def test_page_says_what_ran(drawn):
    report, text = json.loads((drawn / "report.json").read_text()), " ".join(page_of(drawn).text)
    for word in ("digits.onnx", "j3dai", "PASS", f"{report['cycles']:,}", "992,000", "cycles measured"):
        assert word in text, word
    for layer in report["layers"]:
        assert layer["name"] in text and layer["op"] in text and f"{layer['macs']:,}" in text


def test_page_has_every_layer_in_every_picture(drawn):
    report, page = json.loads((drawn / "report.json").read_text()), page_of(drawn)
    names = [layer["name"] for layer in report["layers"]]
    tables = tables_of(page)
    assert [layer["name"] for layer in tables["layers"]] == names and tables["end"] == report["cycles"]
    assert sum(layer["end"] - layer["start"] for layer in tables["layers"]) == report["cycles"]
    plots = page.code[""]
    for number, name in enumerate(names):
        assert plots.count(json.dumps(f"{number}  {name}")) >= 2, name  # the bars of shares
    for layer in report["layers"]:
        assert layer["macs"] == 0 or json.dumps(layer["name"]) in plots  # roofline


def test_numbers_in_the_page_add_up_to_the_report(drawn):
    """What timeline.js unpacks, read independently of what wrote it."""
    report, page = json.loads((drawn / "report.json").read_text()), page_of(drawn)
    tables, numbers, at = tables_of(page), numbers_of(page).astype(np.int64), 0
    known = {"data": "wait_data", "port": "wait_port", "host": "wait_host"}
    for engine in tables["engines"]:
        n = engine["count"]
        lengths, kind, text, step, moved = numbers[at : at + 5 * n].reshape(5, n)
        cycles = numbers[at + 5 * n : at + (5 + len(engine["categories"])) * n].reshape(-1, n)
        at += (5 + len(engine["categories"])) * n
        assert (cycles.sum(axis=0) == lengths).all() and (lengths > 0).all() and lengths.sum() == report["cycles"]
        for row, category in zip(cycles, engine["categories"], strict=True):
            total = sum(layer["counters"][engine["name"]][known.get(category, category)] for layer in report["layers"])
            assert row.sum() == total, (engine["name"], category)
        assert 0 <= kind.min() and kind.max() < len(tables["kinds"]) and text.max() < len(tables["texts"])
        assert step.max() < len(tables["names"]) and moved.min() >= 0
    assert at == len(numbers)


def test_kinds_have_colours_of_their_own(drawn):
    tables = tables_of(page_of(drawn))
    assert len(set(tables["colours"])) == len(tables["colours"]) > 8
    assert {"compute", "load input", "load weights", "load program", "store", "wait: results"} <= set(tables["kinds"])


# ---- the timeline

def test_spans_serve_the_layers(drawn):
    run = load_run(drawn)
    names = [layer["name"] for layer in run.layers]
    dmpa = next(a for a in run.activities if a.engine == "dmpa")
    for i in np.nonzero(dmpa.bytes)[0]:
        text, step = dmpa.texts[dmpa.text[i]], names[dmpa.step[i]]
        owner = dmpa.buffers[dmpa.buffer[i]].rpartition(".")[0]
        if "parameters" in text or "program" in text:
            assert owner == step, text
    for cluster in (a for a in run.activities if a.engine.startswith("cluster")):
        busy = cluster.cycles["busy"] > 0
        layers = [run.intervals[step] for step in cluster.step[busy]]
        # A program of the layer after may begin early, never late.
        assert all(end <= stop for end, (_, stop) in zip(cluster.end[busy], layers, strict=True))
        assert {cluster.kinds[k] for k in np.unique(cluster.kind[busy])} == {"compute"}


def test_bytes_are_those_of_the_tensors(drawn):
    """Each tensor is stored once, in whole words; the first layer's input is loaded at least once."""
    run = load_run(drawn)
    dmpa = next(a for a in run.activities if a.engine == "dmpa")
    stored = {}
    for i in np.nonzero(dmpa.bytes)[0]:
        if dmpa.kinds[dmpa.kind[i]] == "store":
            name = dmpa.buffers[dmpa.buffer[i]]
            stored[name] = stored.get(name, 0) + int(dmpa.bytes[i])
    sizes = {b.name: b.bytes for b in run.buffers if b.kind == "tensor" and not b.from_start}
    assert stored == {name: size for name, size in sizes.items() if name in stored} and len(stored) >= 4


@pytest.mark.parametrize("column", range(2))
def test_a_cycle_too_many_is_seen(copy, refused, column):
    with np.load(copy / TIMELINE) as file:
        arrays = dict(file)
    arrays["3.cycles"][5, column] += 1
    np.savez_compressed(copy / TIMELINE, **arrays)
    refused(copy, "timeline.npz is not of the run", "cluster3", "accounts for")


def test_a_lost_span_is_seen(copy, refused):
    with np.load(copy / TIMELINE) as file:
        arrays = dict(file)
    arrays["6.start"] = np.delete(arrays["6.start"], 10)
    for name in ("kind", "text", "buffer", "step", "bytes", "cycles"):
        arrays[f"6.{name}"] = np.delete(arrays[f"6.{name}"], 10, axis=0)
    np.savez_compressed(copy / TIMELINE, **arrays)
    refused(copy, "timeline.npz is not of the run", "dmpa")


def test_a_counter_of_the_report_that_differs_is_seen(copy, refused):
    report = json.loads((copy / "report.json").read_text())
    report["layers"][2]["counters"]["host"]["busy"] += 1
    (copy / "report.json").write_text(json.dumps(report))
    refused(copy, report["layers"][2]["name"], "host", "busy")


def test_disagreements_name_nothing_that_holds(drawn):
    assert disagreements(json.loads((drawn / "report.json").read_text()), read_timeline(drawn / TIMELINE)) == []


# ---- the trace file

def test_trace_is_in_the_format(drawn):
    trace, report = (json.loads((drawn / name).read_text()) for name in ("timeline.trace.json", "report.json"))
    # No displayTimeUnit: older Perfetto would take it for the unit of `ts`.
    assert set(trace) == {"traceEvents", "otherData"}
    threads, places, open_until = {}, {}, {}
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str) and isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            if event["name"] == "thread_name":
                threads[event["tid"]] = event["args"]["name"]
            elif event["name"] == "thread_sort_index":
                places[event["tid"]] = event["args"]["sort_index"]
        elif event["ph"] == "C":
            # At 0, older Perfetto loses the value and fails.
            assert event["ts"] > 0 and all(isinstance(v, int | float) for v in event["args"].values())
        else:
            assert event["ph"] == "X" and event["dur"] > 0 and event["cat"] and isinstance(event["args"], dict)
            assert event["ts"] >= open_until.get(event["tid"], 0), "events of a thread must not overlap"
            open_until[event["tid"]] = event["ts"] + event["dur"]
    # Newer viewers sort by the index, older ones by the number of the thread.
    order = ["layers", "host", "dmpa", *(f"cluster{number}" for number in range(6))]
    assert [threads[tid] for tid in sorted(places, key=places.__getitem__)] == order
    assert [threads[tid] for tid in sorted(threads)] == order and set(order[1:]) == set(report["layers"][0]["counters"])
    assert max(open_until.values()) == report["cycles"]
    layers = [e for e in trace["traceEvents"] if e["ph"] == "X" and threads[e["tid"]] == "layers"]
    assert [e["name"] for e in layers] == [layer["name"] for layer in report["layers"]]
    assert sum(e["dur"] for e in layers) == report["cycles"]


def test_trace_has_all_busy_cycles(drawn):
    trace, report = (json.loads((drawn / name).read_text()) for name in ("timeline.trace.json", "report.json"))
    threads = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    for tid, engine in threads.items():
        if engine != "layers":
            got = sum(e["args"].get("busy", 0) for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == tid)
            assert got == sum(layer["counters"][engine]["busy"] for layer in report["layers"])


def test_trace_says_what_a_span_serves(drawn):
    """The layer, the members of a fused group, and the bytes that were moved."""
    trace, report = (json.loads((drawn / name).read_text()) for name in ("timeline.trace.json", "report.json"))
    threads = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    fused = {layer["name"]: [m["name"] for m in layer["members"]] for layer in report["layers"] if layer["members"]}
    assert fused
    for name, members in fused.items():
        own = [e for e in spans if name in (e["name"], e["args"].get("layer"))]
        assert len({threads[e["tid"]] for e in own}) > 2
        assert all(member in e["args"]["fused"] for e in own for member in members)
    assert all(("fused" in e["args"]) == (e["args"]["layer"] in fused) for e in spans if "layer" in e["args"])
    moved = sum(e["args"].get("bytes", 0) for e in spans if threads[e["tid"]] == "dmpa")
    dmpa = next(a for a in load_run(drawn).activities if a.engine == "dmpa")
    assert moved == dmpa.bytes.sum() > 0


def test_page_names_the_members_of_a_group(drawn):
    report, tables = json.loads((drawn / "report.json").read_text()), tables_of(page_of(drawn))
    assert tables["members"] == [", ".join(m["name"] for m in layer["members"]) for layer in report["layers"]]
    assert any(tables["members"])
    for layer, shown in zip(report["layers"], tables["layers"], strict=True):
        assert all(f"{m['name']} ({m['op']})" in shown["op"] for m in layer["members"])


def test_that_only_the_first_inference_is_drawn_is_said(tmp_path, drawn):
    assert "inferences" not in " ".join(page_of(drawn).text)
    model, out = save(branching_model(), tmp_path / "m.onnx"), tmp_path / "out"
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 2, 8, 8), np.int64))
    options = ["--platform", "toy", "--input", str(tmp_path / "x.npz"), "--index=0", "--index=1", "--index=0"]
    assert invoke(["run", str(model), *options, "--out", str(out)]) == 0 and invoke(["report", str(out)]) == 0
    report, text = json.loads((out / "report.json").read_text()), " ".join(page_of(out).text)
    assert "3 inferences ran back to back" in text and "in the first of the 3 inferences" in text
    assert f"the others took {report['frames'][1]:,}, {report['frames'][2]:,} cycles" in text
    names = [e["args"]["name"] for e in json.loads((out / "timeline.trace.json").read_text())["traceEvents"]
             if e["name"] == "process_name"]  # fmt: skip
    assert len(names) == 1 and "first of 3 inferences" in names[0]


# ---- what is not a run

def test_a_folder_without_a_run_is_refused(tmp_path, refused):
    refused(tmp_path, "holds no complete run", "report.json", "nncosim run MODEL.onnx --out")
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is a file")


def test_a_compiled_folder_is_refused(tmp_path, refused):
    model = save(branching_model(), tmp_path / "m.onnx")
    assert invoke(["compile", str(model), "--platform", "toy", "--out", str(tmp_path / "c")]) == 0
    refused(tmp_path / "c", "report.json")


@pytest.mark.parametrize("name", ["report.json", "image.elf", "timeline.npz"])
def test_a_damaged_or_missing_file_is_refused(copy, refused, name):
    (copy / name).write_bytes(b"nothing of the kind")
    refused(copy, name)
    (copy / name).unlink()
    refused(copy, name)


def test_a_damaged_timeline_gives_no_advice_of_numpy(copy, refused):
    """Foreign bytes, cut off, pickled objects, one array, any byte changed: never numpy's advice, never a traceback."""
    path, whole = copy / TIMELINE, (copy / TIMELINE).read_bytes()
    with np.load(path) as file:
        names = dict(file)
    objects, single = io.BytesIO(), io.BytesIO()
    np.savez(objects, **{**names, "names": np.array([{}], object)})
    np.save(single, np.arange(3))
    for data in (b"nothing of the kind", b"", whole[: len(whole) // 2], objects.getvalue(), single.getvalue()):
        path.write_bytes(data)
        text = refused(copy, "timeline.npz is damaged", "run the model again")
        assert "allow_pickle" not in text and "NpzFile" not in text
    rng = np.random.default_rng(3)
    for position in rng.integers(0, len(whole), 40).tolist():
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with contextlib.suppress(TimelineError):
            read_timeline(path)


def test_an_image_of_another_run_is_refused(copy, refused):
    (copy / "image.elf").write_bytes((copy / "image.elf").read_bytes() + b"\0")
    refused(copy, "image.elf is not the image of report.json")


# ---- another platform, and a run that failed

def test_a_platform_that_records_only_layers(tmp_path):
    model, out = save(branching_model(), tmp_path / "m.onnx"), tmp_path / "out"
    assert invoke(["run", str(model), "--platform", "toy", "--out", str(out)]) == 0
    assert invoke(["report", str(out)]) == 0
    report, page = json.loads((out / "report.json").read_text()), page_of(out)
    tables = tables_of(page)
    assert [e["name"] for e in tables["engines"]] == ["matrix", "stream"] and tables["kinds"] == ["step"]
    assert [layer["name"] for layer in tables["layers"]] == [layer["name"] for layer in report["layers"]]
    text = " ".join(page.text)
    assert "records no more than the layers" in text and "Memory data over time" in text
    assert "Memory kernels" not in text and "Roofline" not in text


@pytest.mark.parametrize("limit", [100, 900])
def test_a_hang_is_drawn(tmp_path, limit):
    """The layers that ran until the limit (none, or some), and why it stopped."""
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        program = compile_model(model, model.read_bytes(), PLATFORM, {})
    inputs, name = make_frames(program.network, RunOptions())
    result = get_bench(PLATFORM).run(PLATFORM, program.image, inputs, backend="iss", limit_cycles=limit)
    report = build_report(
        program.network, PLATFORM, program.schedule, expected(program.notes, 1), result,
        check_frames(program, inputs, result), model="digits.onnx", settings={}, seed=0, input=name, wall_seconds={},
        versions={}, hashes={"image": sha256(program.image), "rtl": None, "model": None},
    ).to_json()  # fmt: skip
    assert report["verdict"] == "hang"
    write_files(tmp_path / "out", {**program.files, "report.json": json.dumps(report).encode(),
                                   TIMELINE: timeline_npz(result.frames[0])})  # fmt: skip
    assert invoke(["report", str(tmp_path / "out")]) == 0
    page = page_of(tmp_path / "out")
    text, tables = " ".join(page.text), tables_of(page)
    assert "HANG" in text and f"no end within {limit} cycles" in text
    # The timeline goes to where the run stopped, and says in which layer that was.
    done = [layer for layer in report["layers"] if layer["cycles"] is not None]
    stopped_in = report["layers"][len(done)]["name"]
    assert tables["end"] == limit and tables["layers"][-1]["end"] == limit
    assert [layer["name"] for layer in tables["layers"]] == [*(layer["name"] for layer in done), stopped_in]
    assert f"up to cycle {limit:,}, where the run stopped in layer {stopped_in}" in text
    assert "records no more" not in text and "None" not in text and "got nothing (never written)" in text


def test_labels_do_not_cover_each_other():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 300, 200), rng.uniform(0, 300, 200)
    shown = chosen_labels(["label"] * 200, list(x), list(y), (0.0, 20.0), [(0, 50, 0, 50)])
    at = {i: (x[i], y[i] + shift) for i, shift in shown.items()}
    assert 20 < len(at) < 200 and set(shown.values()) == {0.0, 20.0}
    for i, (a, b) in at.items():
        assert a >= 50 or b >= 50 + LINE / 2
        assert all(i == j or abs(a - c) >= 30 or abs(b - d) >= LINE for j, (c, d) in at.items())


def test_the_timeline_file_is_the_same_each_time(drawn, tmp_path):
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        assert invoke(["run", str(model), "--backend", "iss", "--out", str(tmp_path / "o")]) == 0
    assert (tmp_path / "o" / TIMELINE).read_bytes() == (drawn / TIMELINE).read_bytes()
    assert io.BytesIO((drawn / TIMELINE).read_bytes()).read(2) == b"PK"
