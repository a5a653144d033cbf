# SPDX-License-Identifier: Apache-2.0
"""The command line's outputs: devices, pipes and links as places, places that collide, full disks."""

import importlib
import json
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import toy
from command_line import Result, refused
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import RESULTS
from toy_models import branching_model, save

toy.install()

RUN = ("run", "m.onnx", "--platform", "toy")
NEEDS_FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, inputs, and a compiled image in c."""
    folder = tmp_path_factory.mktemp("outputs")
    save(branching_model(), folder / "m.onnx")
    np.savez(folder / "x.npz", x=np.zeros((1, 2, 8, 8), np.int64), labels=np.zeros(1, np.int64))
    assert invoke(["compile", str(folder / "m.onnx"), "--platform", "toy", "--out", str(folder / "c")]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


COMMANDS = {
    "run": RUN,
    "compile": ("compile", "m.onnx", "--platform", "toy", "--out", "c"),
    "check": ("check", "m.onnx", "--platform", "toy"),
    "evaluate": ("evaluate", "m.onnx", "--platform", "toy", "--data", "x.npz"),
    "sweep": ("sweep", "m.onnx", "--platform", "toy", "--grid", "lanes=16,32", "--workers", 1),
    "platforms": ("platforms", "toy"),
    "doctor": ("doctor",),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_json_to_a_pipe_and_through_a_link(command, name, tmp_path):
    """A reader that waits gets it, and the pipe stays one; a link stays a link, also to a file that is not there."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()), daemon=True)
    thread.start()
    assert command(*COMMANDS[name], "--json", tmp_path / "link").status == 0
    thread.join(10)
    assert isinstance(json.loads(got[0]), dict)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "link").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@NEEDS_FULL
@pytest.mark.parametrize("name", COMMANDS)
def test_json_to_a_full_device(command, name):
    status, _, err = command(*COMMANDS[name], "--json", "/dev/full")
    assert status == 2 and err == "nncosim: error: cannot write /dev/full: No space left on device\n"
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@NEEDS_FULL
def test_results_on_a_full_device(command, tmp_path):
    """A file of --out that is a link to somewhere else."""
    (tmp_path / "report.json").symlink_to("/dev/full")
    status, _, err = command(*RUN, "--out", tmp_path)
    assert status == 2 and "No space left on device" in err and (tmp_path / "report.json").is_symlink()


def test_results_go_where_links_lead(command, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    (tmp_path / "real" / "report.json").symlink_to("../far.json")
    assert command(*RUN, "--out", tmp_path / "out").status == 0
    assert json.loads((tmp_path / "far.json").read_text())["verdict"] == "pass"
    assert (tmp_path / "real" / "report.json").is_symlink()
    assert {p.name for p in (tmp_path / "real").iterdir()} <= set(RESULTS), "check_outputs does not know a result"
    assert command("report", tmp_path / "out").status == 0
    assert {p.name for p in (tmp_path / "real").iterdir()} <= set(RESULTS), "check_outputs does not know a result"


def test_dev_stdout_is_stdout(command, tmp_path):
    status, out, _ = command(*RUN, "--json", "/dev/stdout")
    assert status == 0 and "PASS" in out and json.loads(out[out.index("\n{\n"):])["verdict"] == "pass"


COLLISIONS = {
    "json is the trace": (*RUN, "--json", "x.fst", "--trace", "x.fst"),
    "json is the trace's save file": (*RUN, "--json", "x.gtkw", "--trace", "x.fst"),
    "json is the trace's command file": (*RUN, "--json", "x.sucl", "--trace", "x.fst"),
    "json is a table of the trace": (*RUN, "--json", "x.1-op.txt", "--trace", "x.vcd"),
    "out is json": (*RUN, "--out", "x", "--json", "x"),
    "out is json, written otherwise": (*RUN, "--out", "x", "--json", "./c/../x"),
    "out is the trace": (*RUN, "--out", "x.fst", "--trace", "x.fst"),
    "json is a folder of out's": (*RUN, "--json", "x", "--out", "x/y"),
    "json is a result": (*RUN, "--out", "x", "--json", "x/image.elf"),
    "trace lies in json": (*RUN, "--json", "x", "--trace", "x/y.fst"),
    "json is the model": (*RUN, "--json", "m.onnx"),
    "json is the input": (*RUN, "--input", "x.npz", "--json", "x.npz"),
    "outputs are the input": ("run", "c/image.elf", "--input", "x/outputs.npz", "--out", "x"),
    "compile: out is json": ("compile", "m.onnx", "--platform", "toy", "--out", "x", "--json", "x"),
    "compile: json is the model": ("compile", "m.onnx", "--platform", "toy", "--out", "x", "--json", "m.onnx"),
    "compile: json is a result": ("compile", "m.onnx", "--platform", "toy", "--out", "x", "--json", "x/memory.txt"),
    "check: json is the model": ("check", "m.onnx", "--platform", "toy", "--json", "m.onnx"),
    "evaluate: json is the data": ("evaluate", "m.onnx", "--data", "x.npz", "--json", "x.npz"),
    "sweep: json is a model": ("sweep", "m.onnx", "c/image.elf", "--platform", "toy", "--grid", "lanes=16",
                               "--json", "c/image.elf"),
    "sweep: json is a result": ("sweep", "m.onnx", "--platform", "toy", "--grid", "lanes=16", "--out", "x",
                                "--json", "x/sweep.csv"),
    "a link to the model": (*RUN, "--json", "link.onnx"),
    "a result is a folder": (*RUN, "--out", "taken"),
}


@pytest.mark.parametrize("case", COLLISIONS)
def test_outputs_that_collide_are_refused_before_the_work(command, folder, case, monkeypatch):
    (folder / "taken" / "report.json").mkdir(parents=True, exist_ok=True)
    if not (folder / "link.onnx").is_symlink():
        (folder / "link.onnx").symlink_to("m.onnx")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("nncosim.compiler.frontend.importer.import_details", None)  # importing would fail
    message = refused(command(*COLLISIONS[case]))
    assert "give" in message or "is a folder" in message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_only_looks_like_a_collision(command, folder, tmp_path):
    """An image that is written again, a report beside the results, two outputs to one device."""
    assert command("run", folder / "c" / "image.elf", "--out", folder / "c").status == 0
    assert command(*RUN, "--out", tmp_path / "o", "--json", tmp_path / "o" / "mine.json").status == 0
    assert json.loads((tmp_path / "o" / "mine.json").read_text())["verdict"] == "pass"
    assert command(*RUN, "--out", tmp_path / "x", "--json", tmp_path / "xy.json").status == 0


# ---- the tools beside the command

@pytest.mark.parametrize(("module", "arguments", "reason"), [
    ("zoo.__main__", ("mobilenet_v1", "--out", "m.onnx/x"), "is a file, not a folder"),
    ("zoo.__main__", ("mobilenet_v1", "--out", "x.onnx", "--images", "c"), "is a directory"),
    ("fusion", ("gone.onnx",), "there is no file gone.onnx"),
    ("fusion", ("m.onnx", "--set", "clusters=x"), "clusters"),
])  # fmt: skip
def test_tools_end_as_the_command_does(capfd, module, arguments, reason):
    tool = importlib.import_module(f"nncosim.regress.{module}")
    status = invoke(arguments, command=tool.main, name="tool")
    refused(Result(status, *capfd.readouterr()), reason)


@NEEDS_FULL
def test_a_network_of_the_zoo_on_a_full_device(capfd, folder, monkeypatch):
    monkeypatch.setattr("nncosim.regress.zoo.model_path", lambda name: folder / "m.onnx")  # building it takes seconds
    tool = importlib.import_module("nncosim.regress.zoo.__main__")
    status = invoke(("mobilenet_v1", "--out", "/dev/full"), command=tool.main, name="tool")
    refused(Result(status, *capfd.readouterr()), "cannot write /dev/full: No space left on device")
