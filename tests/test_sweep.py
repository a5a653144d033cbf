# SPDX-License-Identifier: Apache-2.0
"""Sweeps: the grid, the front, the table and the files; what is refused, what fails, what is interrupted."""

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import toy
from command_line import refused
from dask.distributed import LocalCluster
from nncosim.compiler.backends import register_backend
from nncosim.platforms.errors import PlatformError
from nncosim.platforms.j3dai import PLATFORM
from nncosim.platforms.metrics import METRICS, Metric, sram_bytes
from nncosim.platforms.registry import register
from nncosim.tb import backend
from nncosim.tb.cli.main import invoke
from nncosim.tb.run.program import load_image
from nncosim.tb.sweep import cluster as sweep_cluster
from nncosim.tb.sweep.keep import Kept
from nncosim.tb.sweep.sweep import (
    MOST_POINTS,
    Point,
    Row,
    SweepError,
    front_metrics,
    grid_points,
    pareto_front,
    parse_grid,
    run_point,
    top_points,
)
from nncosim.tb.system.files import sha256
from sweep_benches import CountingBench, DyingBench, FailingBench, SlowBench, TwoBackends
from toy.bench import ToyBench
from toy.compiler import BACKEND
from toy.machine import Toy
from toy_models import branching_model, save

toy.install()


# ---- the grid

def test_the_grid_is_read_in_order():
    grid = parse_grid(toy.TOY, ("lanes=8, 32,16", "data_bytes=0x4000,512"))
    assert grid == {"lanes": (8, 32, 16), "data_bytes": (0x4000, 512)} and list(grid) == ["lanes", "data_bytes"]
    points = grid_points(2, toy.TOY, {}, grid)
    assert [p.number for p in points] == list(range(12)) and [p.subject for p in points] == [0] * 6 + [1] * 6
    assert [tuple(p.settings.values()) for p in points[:3]] == [(8, 0x4000), (8, 512), (32, 0x4000)]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "at least one --grid"),
        (("lanes",), "must look like"),
        (("lanes=",), "must look like"),
        (("=1,2",), "must look like"),
        (("lanes=1,,2",), "must look like"),
        (("lanes=1,2", "lanes=3"), "twice"),
        (("lanes=1,2,0x1",), "a value twice"),
    ],
)
def test_a_grid_that_makes_no_sense(texts, message):
    with pytest.raises(SweepError, match=message):
        parse_grid(toy.TOY, texts)


def test_names_are_checked_before_anything_runs():
    with pytest.raises(PlatformError, match="no parameter 'lane'; it has lanes, data_bytes"):
        grid_points(1, toy.TOY, {}, {"lane": (1,)})
    with pytest.raises(SweepError, match="--set and by --grid"):
        grid_points(1, toy.TOY, {"lanes": 4}, {"lanes": (1,)})


def test_a_grid_of_millions_is_refused_at_once():
    with pytest.raises(SweepError, match=r"1,000,000,000,000 points \(1 models, lanes \(1000000\) x data_bytes"):
        grid_points(1, toy.TOY, {}, {"lanes": range(10**6), "data_bytes": range(10**6)})
    assert len(grid_points(1, toy.TOY, {}, {"lanes": range(MOST_POINTS)})) == MOST_POINTS
    with pytest.raises(SweepError, match="fix some with --set"):
        grid_points(2, toy.TOY, {}, {"lanes": range(MOST_POINTS // 2 + 1)})


# ---- the front

def row(number, cycles, sram, in_use=100, subject=0, verdict="pass", **more):
    metrics = {"cycles": cycles, "sram_bytes": sram, "in_use_bytes": in_use, **more}
    return Row(Point(number, subject, {}), "m", verdict, metrics=metrics)


SMALL_AND_FAST = front_metrics(toy.TOY)


def test_the_front_by_hand():
    rows = [row(0, 100, 50), row(1, 90, 60), row(2, 100, 60), row(3, 80, 70), row(4, 80, 70, 99), row(5, 200, 50),
            row(6, 1, 1, verdict="mismatch"), row(7, 300, 300, subject=1), Row(Point(8, 0, {}), "m", "refused")]
    assert [metric.name for metric in SMALL_AND_FAST] == ["cycles", "sram_bytes"]
    assert pareto_front(rows, SMALL_AND_FAST) == {0, 1, 4, 7}
    assert [r.point.number for r in top_points(rows, 2, SMALL_AND_FAST)] == [1, 4, 7]
    assert [r.point.number for r in top_points(rows, 4, SMALL_AND_FAST)] == [0, 1, 3, 4, 7]


def test_j3dai_is_weighed_by_its_area():
    """A machine with less SRAM and more area is not on its front, whatever its SRAM."""
    rows = [row(0, 100, 50, area_nand2=900), row(1, 100, 60, area_nand2=800)]
    assert pareto_front(rows, front_metrics(PLATFORM)) == {1}
    assert pareto_front(rows, front_metrics(PLATFORM, ("cycles", "sram_bytes"))) == {0}
    assert pareto_front([row(0, 100, 50, area_nand2=None)], front_metrics(PLATFORM)) == set(), "not weighed"


def test_the_front_of_what_the_user_chooses():
    """Of one, two or three metrics, of which more may be better."""
    rows = [row(0, 100, 50, mac_per_cycle=9.0), row(1, 90, 60, mac_per_cycle=10.0), row(2, 95, 70, mac_per_cycle=11.0)]

    def front(*names):
        return pareto_front(rows, front_metrics(toy.TOY, names))

    assert front("cycles") == {1} and front("sram_bytes") == {0} and front("mac_per_cycle") == {2}
    assert front("cycles", "mac_per_cycle") == {1, 2}
    assert front("cycles", "sram_bytes") == {0, 1} and front("cycles", "sram_bytes", "mac_per_cycle") == {0, 1, 2}
    assert [r.point.number for r in top_points(rows, 2, front_metrics(toy.TOY, ("mac_per_cycle", "cycles")))] == [1, 2]
    assert top_points(rows, 1, front_metrics(toy.TOY, ("mac_per_cycle", "cycles")))[0].point.number == 2


@pytest.mark.parametrize(("names", "message"), [
    (("energy",), "platform 'toy' has no metric 'energy'; it has cycles, mac_per_cycle"),
    (("cycle",), r"has no metric 'cycle'.*did you mean 'cycles'\?"), (("cycles", "cycles"), "a metric twice"),
])  # fmt: skip
def test_a_front_of_what_there_is_not(names, message):
    with pytest.raises(SweepError, match=message):
        front_metrics(toy.TOY, names)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    rows = [row(i, int(c), int(s)) for i, (c, s) in enumerate(rng.integers(0, 12, (40, 2)))]
    front = pareto_front(rows, SMALL_AND_FAST)
    at = {r.point.number: (r.metrics["cycles"], r.metrics["sram_bytes"]) for r in rows}
    for one, (cycles, sram) in at.items():
        better = [o for o in at.values() if o != (cycles, sram) and o[0] <= cycles and o[1] <= sram]
        assert (one in front) == (not better)


def test_sram_counts_every_instance():
    cluster = PLATFORM.l1_bytes + PLATFORM.wmem_bytes + PLATFORM.imem_bytes
    host = PLATFORM.host_imem_bytes + PLATFORM.host_dmem_bytes
    assert sram_bytes(PLATFORM) == 5 * 1024 * 1024 + 6 * cluster + host


# ---- the command

@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    save(branching_model(), folder / "m.onnx")
    save(branching_model(seed=6), folder / "n.onnx")
    return folder


@pytest.fixture
def sweep(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    return lambda *arguments: command("sweep", *arguments, "--platform", "toy")


@pytest.fixture
def bench(monkeypatch):
    """Put another bench in the place of the toy's."""
    return lambda instance: monkeypatch.setitem(backend.BENCHES._known, "toy", instance)


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


ALONE = ("--workers", 1)
"""In this process: where the cluster is not what is tested."""
GRID = ("--grid", "lanes=4,16,64", "--grid", "data_bytes=512,32768")


def test_two_models_on_a_grid(sweep, tmp_path):
    status, text, err = sweep("m.onnx", "n.onnx", *GRID, *ALONE, "--out", tmp_path / "o",
                                "--json", tmp_path / "r.json")  # fmt: skip
    assert status == 0 and err == "", err
    assert text.count("'data' holds 512 bytes") == 1 and text.count("refused (1)") == 6 and "(2)" not in text
    assert "Pareto front of n.onnx" in text and "bit-exact" in text
    lines = lines_of(tmp_path / "o" / "sweep.csv")
    settings = list(itertools.product(("m.onnx", "n.onnx"), ("4", "16", "64"), ("512", "32768")))
    assert [(line["model"], line["lanes"], line["data_bytes"]) for line in lines] == settings
    assert [line["verdict"] for line in lines] == ["refused", "pass"] * 6
    assert all(bool(line["reason"]) != bool(line["cycles"]) for line in lines)
    cycles = [int(line["cycles"]) for line in lines if line["cycles"]]
    assert cycles[0] > cycles[1] > cycles[2] and cycles[3] > cycles[4] > cycles[5]
    data = json.loads((tmp_path / "o" / "sweep.json").read_text())
    assert data == json.loads((tmp_path / "r.json").read_text())
    assert data["verdict"] == "pass" and data["pareto"] == [5, 11] and data["grid"]["lanes"] == [4, 16, 64]
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"sweep.csv", "sweep.json"}


def test_a_sweep_is_what_single_runs_are(sweep, tmp_path):
    """The same image bytes as `compile` writes, the same cycles as `run` measures."""
    assert sweep("m.onnx", "--grid", "lanes=8,32", "--workers", 1, "--out", tmp_path / "o")[0] == 0
    for line in lines_of(tmp_path / "o" / "sweep.csv"):
        out = tmp_path / line["lanes"]
        assert invoke(["run", "m.onnx", "--platform", "toy", "--set", f"lanes={line['lanes']}", "--out", str(out)]) == 0
        report = json.loads((out / "report.json").read_text())
        assert int(line["cycles"]) == report["cycles"] and int(line["macs"]) == report["macs"]
        assert line["image_sha256"] == report["hashes"]["image"] == sha256((out / "image.elf").read_bytes())


def test_the_same_bytes_however_many_work_on_it(sweep, tmp_path):
    for name, extra in (("a", ALONE), ("b", ("--workers", 2))):
        assert sweep("m.onnx", *GRID, *extra, "--out", tmp_path / name)[0] == 0
    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert sweep("m.onnx", *GRID, "--scheduler", address, "--out", tmp_path / "d")[0] == 0
        refused(sweep("m.onnx", *GRID, "--scheduler", address, "--workers", 2), "--workers")
    assert len({(tmp_path / name / "sweep.csv").read_bytes() for name in "abd"}) == 1


def test_nothing_fits(sweep, tmp_path):
    status, text, err = sweep("m.onnx", "--grid", "data_bytes=256,512", *ALONE, "--out", tmp_path / "o")
    assert status == 2 and text.count("holds 256 bytes") == 1 and text.count("holds 512 bytes") == 1
    assert err == "nncosim: error: no point of the grid can be run; the table says why\n"
    assert [line["verdict"] for line in lines_of(tmp_path / "o" / "sweep.csv")] == ["refused"] * 2


def test_bad_input_is_refused_before_anything_runs(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("nncosim.tb.cli.sweep._sweep", lambda *_: pytest.fail("it ran"))
    out = ("--out", tmp_path / "o")
    refused(sweep(*GRID, *out), "MODEL.onnx")
    refused(sweep("m.onnx", *out), "at least one --grid")
    refused(sweep("m.onnx", "--grid", "lane=1,2", *out), "no parameter 'lane'")
    refused(sweep("m.onnx", "--grid", "lanes=1,two", *out), "parameter 'lanes'", "takes a whole number", "not 'two'")
    refused(sweep("m.onnx", *GRID, "--front", "cycles,energy", *out), "no metric 'energy'")
    refused(sweep("m.onnx", "--grid", "lanes=1,2", "--set", "lanes=3", *out), "leave one out")
    refused(sweep("m.onnx", "no.onnx", *GRID, *out), "there is no file no.onnx")
    refused(sweep("m.onnx", *GRID, "--confirm", 1, *out), "no backend 'rtl'")
    refused(sweep("m.onnx", *GRID, "--backend", "iss", *out), "no backend 'iss'")
    refused(sweep("m.onnx", *GRID, "--workers", 0, *out), "--workers")
    (tmp_path / "file").write_text("")
    refused(sweep("m.onnx", *GRID, "--out", tmp_path / "file"), "this is a file")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1", "nonsense", "ftp://x:1", "tcp://no.such.invalid:9"])
def test_a_scheduler_that_does_not_answer(sweep, monkeypatch, tmp_path, address):
    monkeypatch.setattr(sweep_cluster, "CONNECT_SECONDS", 1)
    refused(sweep("m.onnx", *GRID, "--scheduler", address, "--out", tmp_path / "o"), "no scheduler answers", address)
    assert list(tmp_path.iterdir()) == []


# ---- what the platform declares

class Mode(Enum):
    EAGER = "eager"
    LAZY = "lazy"


@dataclass(frozen=True)
class Tuned(Toy):
    """The toy with parameters of every type, which cost energy."""

    name: ClassVar[str] = "tuned"
    metrics: ClassVar = (*METRICS, Metric(
        "energy_pj", "energy", "pJ", lambda platform, run: sum(kinds["busy"] for kinds in run.counters.values())
        * platform.volts ** 2 * (0.5 if platform.mode is Mode.LAZY else 1), about="of all engines", digits=2,
    ))  # fmt: skip
    front: ClassVar = ("energy_pj", "cycles")
    volts: float = 1.0
    gated: bool = False
    mode: Mode = Mode.EAGER
    corner: str = "typical"


@pytest.fixture
def tuned(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    platform = Tuned()
    register(platform)
    register_backend("tuned", BACKEND)
    backend.register_bench("tuned", ToyBench())
    return lambda name, *arguments: command(name, *arguments, "--platform", "tuned")


def test_any_type_can_be_swept_and_any_metric_weighed(tuned, tmp_path):
    grid = ("--grid", "volts=0.5,1", "--grid", "mode=eager,lazy", "--grid", "lanes=8,32")
    fixed = ("--set", "gated=true", "--set", "corner=slow, cold")
    status, text, _ = tuned("sweep", "m.onnx", *grid, *fixed, *ALONE, "--out", tmp_path / "o")
    assert status == 0 and "Pareto front of m.onnx (energy, cycles)" in text and "energy: of all engines." in text
    data, lines = json.loads((tmp_path / "o" / "sweep.json").read_text()), lines_of(tmp_path / "o" / "sweep.csv")
    assert data["grid"] == {"volts": [0.5, 1.0], "mode": ["eager", "lazy"], "lanes": [8, 32]}
    assert data["settings"] == {"gated": True, "corner": "slow, cold"} and data["front"] == ["energy_pj", "cycles"]
    assert {"name": "energy_pj", "unit": "pJ", "more_is_better": False} in data["metrics"]
    assert [tuple(line[key] for key in ("volts", "mode", "lanes")) for line in lines] == list(
        itertools.product(("0.5", "1.0"), ("eager", "lazy"), ("8", "32")))  # fmt: skip
    energy = {(line["volts"], line["mode"], line["lanes"]): float(line["energy_pj"]) for line in lines}
    for (volts, mode, lanes), value in energy.items():
        share = float(volts) ** 2 * (0.5 if mode == "lazy" else 1)
        assert value == pytest.approx(energy["1.0", "eager", lanes] * share)
    assert data["pareto"] == [3], "least energy, and fewest cycles, on the most lanes"
    other = ("--front", "sram_bytes", "--json", tmp_path / "r.json")
    assert tuned("sweep", "m.onnx", *grid, *fixed, *ALONE, *other)[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["front"] == ["sram_bytes"]


def test_an_image_keeps_settings_of_any_type(tuned, tmp_path):
    settings = ("--set", "volts=0.75", "--set", "gated=TRUE", "--set", "mode=lazy", "--set", "corner=slow")
    assert tuned("run", "m.onnx", *settings, "--out", tmp_path / "o")[0] == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["settings"] == {"volts": 0.75, "gated": True, "mode": "lazy", "corner": "slow"}
    told = "--set=volts=0.75 --set=gated=true --set=mode=lazy --set=corner=slow"
    assert told in report["command"]
    _, platform, again = load_image(tmp_path / "o" / "image.elf", (tmp_path / "o" / "image.elf").read_bytes())
    assert again == {"volts": 0.75, "gated": True, "mode": Mode.LAZY, "corner": "slow"}
    assert platform == Tuned(volts=0.75, gated=True, mode=Mode.LAZY, corner="slow")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("volts=high", ("parameter 'volts' of platform 'tuned' takes a number, such as volts=1.0, not 'high'",)),
        ("gated=1", ("takes true or false, such as gated=false, not '1'",)),
        ("mode=fast", ("takes eager or lazy, such as mode=eager, not 'fast'",)),
        ("lanes=1.5", ("takes a whole number, such as lanes=", "not '1.5'")),
        ("volts", ("--set must look like lanes=",)), ("volt=1", ("no parameter 'volt'", "did you mean 'volts'?")),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_one_message(tuned, setting, words):
    refused(tuned("run", "m.onnx", "--set", setting), *words)


# ---- what goes wrong in a point

def test_a_wrong_bit_in_one_point_fails_the_sweep(sweep, bench, tmp_path):
    bench(TwoBackends(iss=16))
    status, text, _ = sweep("m.onnx", "--grid", "lanes=4,16,64", *ALONE, "--out", tmp_path / "o")
    assert status == 1 and "mismatch (1)" in text and "(1) first wrong element: y[0, 0, 0]" in text
    lines = lines_of(tmp_path / "o" / "sweep.csv")
    assert [line["verdict"] for line in lines] == ["pass", "mismatch", "pass"]
    assert [line["pareto"] for line in lines] == ["False", "False", "True"]


def test_the_best_are_confirmed(sweep, bench, tmp_path):
    bench(TwoBackends())
    options = ("--grid", "lanes=4,16,64", *ALONE, "--confirm", 2, "--out", tmp_path / "o")
    status, text, _ = sweep("m.onnx", "n.onnx", *options)
    assert status == 0 and "rtl: " in text
    lines = lines_of(tmp_path / "o" / "sweep.csv")
    assert [line["confirmed_verdict"] for line in lines] == ["", "pass", "pass"] * 2
    assert all(line["confirmed_cycles"] in ("", line["cycles"]) for line in lines)


@pytest.mark.parametrize(("lanes", "status"), [(64, 1), (4, 0)])
def test_a_confirmation_that_fails(sweep, bench, tmp_path, lanes, status):
    """Of the best, it fails the sweep; the rest is not confirmed."""
    bench(TwoBackends(rtl=lanes))
    result = sweep("m.onnx", "--grid", "lanes=4,16,64", *ALONE, "--confirm", 1, "--json", tmp_path / "r.json")
    assert result[0] == status and ("rtl: " in result[1])
    points = json.loads((tmp_path / "r.json").read_text())["points"]
    assert [p["confirmed"] and p["confirmed"]["verdict"] for p in points] == [
        None, None, "mismatch" if status else "pass"]
    assert [p["verdict"] for p in points] == ["pass"] * 3


def test_an_image_that_comes_out_differently_here_is_a_mismatch(sweep, bench, monkeypatch):
    """The workers' image and this computer's must be the same bytes: here a digest is changed on the way."""
    bench(TwoBackends())
    monkeypatch.setattr("nncosim.tb.cli.sweep.sha256", lambda data: "0" * 64)
    status, text, _ = sweep("m.onnx", "--grid", "lanes=4,16", *ALONE, "--confirm", 1)
    assert status == 1 and "the image differs" in text


def test_a_defect_in_one_point_leaves_the_others(sweep, bench, tmp_path):
    bench(FailingBench())
    status, text, err = sweep("m.onnx", "--grid", "lanes=4,32,64", *ALONE, "--out", tmp_path / "o")
    assert status == 3 and "ZeroDivisionError: planted" in err and "defect of nncosim" in err
    assert "defect (1)" in text and "(1) ZeroDivisionError: planted" in text
    assert [line["verdict"] for line in lines_of(tmp_path / "o" / "sweep.csv")] == ["pass", "defect", "pass"]


def test_a_worker_that_dies_leaves_the_others(sweep, bench, tmp_path):
    bench(DyingBench())
    status, text, _ = sweep("m.onnx", "--grid", "lanes=4,32,64", "--workers", 2, "--out", tmp_path / "o")
    assert status == 3 and "KilledWorker" in text and "the worker died on it, twice" in " ".join(text.split())
    verdicts = {line["lanes"]: line["verdict"] for line in lines_of(tmp_path / "o" / "sweep.csv")}
    assert verdicts["32"] == "defect" and verdicts["4"] == verdicts["64"] == "pass"


def test_what_was_done_is_taken_up_again(sweep, bench, tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    command = ("m.onnx", "--grid", "lanes=4,16,32,64", *ALONE)
    bench(CountingBench(tmp_path, 32, "interrupt"))
    (tmp_path / "armed").touch()
    assert sweep(*command, "--out", tmp_path / "o")[0] == 130 and not (tmp_path / "o").exists()
    (tmp_path / "armed").unlink()
    (kept,) = (tmp_path / "cache" / "sweeps").iterdir()
    kept.write_text(kept.read_text() + '{"number": 3, "row"')  # as after a kill
    assert sweep(*command, "--seed", 1)[0] == 0, "another sweep knows nothing of it"
    (tmp_path / "ran").unlink()
    status, _, err = sweep(*command, "--out", tmp_path / "o")
    assert status == 0 and "2 of 4 points were done by a sweep that did not end" in err
    assert (tmp_path / "ran").read_text().split() == ["32", "64"]
    assert not list((tmp_path / "cache" / "sweeps").iterdir())
    status, _, err = sweep(*command, "--out", tmp_path / "again")
    assert status == 0 and err == "", "what has ended is not kept"
    assert (tmp_path / "again" / "sweep.csv").read_bytes() == (tmp_path / "o" / "sweep.csv").read_bytes()


def test_a_worker_that_dies_once_costs_nothing(sweep, bench, tmp_path):
    bench(CountingBench(tmp_path, 32, "exit"))
    (tmp_path / "armed").touch()
    status, text, _ = sweep("m.onnx", "--grid", "lanes=4,32,64", "--workers", 2, "--out", tmp_path / "o")
    assert status == 0, text
    assert [line["verdict"] for line in lines_of(tmp_path / "o" / "sweep.csv")] == ["pass"] * 3


def test_a_sweep_without_workers_ends(sweep, tmp_path, monkeypatch):
    """The only worker of a cluster ends; what it did is kept."""
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sweep_cluster, "WAIT_SECONDS", 2)
    monkeypatch.setattr(sweep_cluster, "LOOK_SECONDS", 0.2)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        real = Kept.add

        def add_and_end(self, row):
            real(self, row)
            cluster.scale(0)

        monkeypatch.setattr(Kept, "add", add_and_end)
        monkeypatch.setattr(sweep_cluster, "run_point", slow_point)
        done = sweep("m.onnx", "--grid", "lanes=4,8,16,32", "--scheduler", cluster.scheduler_address)
    text = refused(done, "there have been no workers for 2 s", "points are left", "is kept")
    assert "start workers again" in text and list((tmp_path / "cache" / "sweeps").iterdir())


def slow_point(point, job):
    time.sleep(0.5)
    return run_point(point, job)


def test_workers_that_do_not_start_are_tried_once_more(sweep, monkeypatch):
    tried = []

    def killed(**options):
        tried.append(options)
        raise RuntimeError("Nanny failed to start.\nmore")

    monkeypatch.setattr(sweep_cluster, "LocalCluster", killed)
    text = refused(sweep("m.onnx", "--grid", "lanes=4,8", "--workers", 2), "2 worker processes do not start (Nanny")
    assert len(tried) == 2 and "--workers 1" in text
    monkeypatch.setattr(sweep_cluster, "LocalCluster", lambda **options: killed() if len(tried) < 3 else
                        LocalCluster(**options))  # fmt: skip
    assert sweep("m.onnx", "--grid", "lanes=4,8", "--workers", 2)[0] == 0


def group_lives(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupted_sweep_leaves_nothing(folder, tmp_path):
    """Ctrl-C reaches every process of the group: the sweep ends with status 130, no file, no process left."""
    begun = tmp_path / "begun"
    script = (
        "import sys, toy; from pathlib import Path; from nncosim.tb import backend\n"
        "from nncosim.tb.cli.main import main\nfrom sweep_benches import SlowBench\n"
        f"toy.install(); backend.register_bench('toy', SlowBench(Path({str(begun)!r}))); main()"
    )
    command = ["sweep", str(folder / "m.onnx"), "--platform", "toy", "--grid", "lanes=4,8,16,32", "--workers", "2",
               "--out", str(tmp_path / "out" / "o"), "--json", str(tmp_path / "r.json")]  # fmt: skip
    assert SlowBench.__module__ == "sweep_benches"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", script, *command], env=environment, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    while not begun.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=50)
    assert process.returncode == 130 and out == "" and err.strip() == "nncosim: interrupted", err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["begun"]
    for _ in range(200):  # those that watch over the others end a moment later
        if not group_lives(process.pid):
            break
        time.sleep(0.1)
    assert not group_lives(process.pid)
