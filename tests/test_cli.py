# SPDX-License-Identifier: Apache-2.0
"""The command line from outside: what it writes, what it says, how it ends. Runs on the toy platform, in process."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
import toy.bench
from command_line import Result, refused
from models import Graph
from nncosim.compiler.frontend import quant
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import NOTES_VERSION
from nncosim.kernels.base import Cost
from nncosim.tb.cli.main import invoke
from nncosim.tb.run.program import seal
from toy.machine import BASES, Command
from toy_models import branching_model, save

toy.install()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, its image, and inputs: x.npz one image, many.npz ten with labels."""
    folder = tmp_path_factory.mktemp("cli")
    save(branching_model(), folder / "m.onnx")
    rng = np.random.default_rng(4)
    images = rng.integers(0, 15, (10, 2, 8, 8), endpoint=True)
    np.savez(folder / "x.npz", x=images[:1])
    np.savez(folder / "many.npz", x=(images * 0.25).astype(np.float32), labels=np.zeros(10, dtype=np.int64))
    assert invoke(["compile", str(folder / "m.onnx"), "--platform", "toy", "--out", str(folder / "c")]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


# ---- run

def test_run_prints_and_writes_everything(command, tmp_path):
    out = tmp_path / "deep" / "out"
    status, text, err = command("run", "m.onnx", "--platform", "toy", "--input", "x.npz", "--out", out,
                                "--json", tmp_path / "r.json", "--set", "lanes=32")  # fmt: skip
    assert status == 0 and err == ""
    assert "PASS" in text and "branch" in text and "bit-exact" in text and "MAC/cycle" in text
    names = {"image.elf", "listing.txt", "memory.txt", "outputs.npz", "cycles.json", "report.json", "timeline.npz"}
    assert {p.name for p in out.iterdir()} == names
    assert [p.name for p in out.parent.iterdir()] == ["out"], "a temporary folder was left"
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"] == "pass" and report["bit_exact"] is True and report["first_divergence"] is None
    assert report["settings"] == {"lanes": 32} and report["platform"] == "toy" and report["model"] == "m.onnx"
    assert report["macs"] == 2 * 2 * 9 * 64 + 128 * 6
    assert set(report["wall_seconds"]) == {"compile", "build", "simulate"}
    assert set(report["hashes"]) == {"rtl", "image", "model"} and "onnx" in report["versions"]
    outputs = np.load(out / "outputs.npz")
    assert outputs["y"].shape == (1, 6) and np.array_equal(outputs["y__float"], outputs["y"] * np.float32(0.75))


def test_the_seed_makes_the_input(command, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert command("run", "m.onnx", "--platform", "toy", "--seed", seed, "--out", tmp_path / name)[0] == 0
    outputs = {name: (tmp_path / name / "outputs.npz").read_bytes() for name in "abc"}
    assert outputs["a"] == outputs["b"] != outputs["c"]


def test_float_and_integer_inputs_are_the_same(command, tmp_path):
    integers = np.load("x.npz")["x"]
    np.savez(tmp_path / "f.npz", x=(integers * 0.25).astype(np.float32))
    for name, source in (("a", "x.npz"), ("b", tmp_path / "f.npz")):
        assert command("run", "m.onnx", "--platform", "toy", "--input", source, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a" / "outputs.npz").read_bytes() == (tmp_path / "b" / "outputs.npz").read_bytes()


def test_images_back_to_back(command, tmp_path):
    result = command("run", "m.onnx", "--platform", "toy", "--input", "many.npz", "--index", 3, "--index", 5,
                     "--out", tmp_path / "o")  # fmt: skip
    assert result[0] == 0 and "inference 2" in result[1]
    assert np.load(tmp_path / "o" / "outputs.npz")["y"].shape == (2, 6)


def test_json_on_stdout_is_json_alone(command):
    status, out, err = command("run", "m.onnx", "--platform", "toy", "--json", "-")
    assert status == 0 and json.loads(out)["verdict"] == "pass" and "PASS" in err


def test_an_image_runs_without_its_model(command, folder, tmp_path):
    (tmp_path / "i.elf").write_bytes((folder / "c" / "image.elf").read_bytes())
    assert command("run", "m.onnx", "--platform", "toy", "--input", "x.npz", "--out", tmp_path / "a")[0] == 0
    status, text, _ = command("run", tmp_path / "i.elf", "--input", "x.npz", "--out", tmp_path / "b")
    assert status == 0 and "PASS" in text
    assert (tmp_path / "a" / "outputs.npz").read_bytes() == (tmp_path / "b" / "outputs.npz").read_bytes()


def test_an_existing_folder_keeps_its_other_files(command, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "image.elf").write_text("old")
    assert command("run", "m.onnx", "--platform", "toy", "--out", tmp_path)[0] == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "image.elf").read_bytes().startswith(b"\x7fELF")


# ---- failures of the machine: exit status 1

def faulty(folder: Path, path: Path, change) -> Path:
    """An image with a fault put in before it was sealed: what a compiler or a machine with a bug would give."""
    image = Image.load(folder / "c" / "image.elf")
    path.write_bytes(seal(change(image)).to_bytes())
    return path


def with_memory(image: Image, memory: str, change) -> Image:
    def changed(s: Segment) -> Segment:
        return replace(s, data=change(s)) if s.memory == memory else s

    return replace(image, segments=tuple(changed(s) for s in image.segments))


def test_a_wrong_weight_is_a_mismatch(command, folder, tmp_path):
    largest = max(len(s.data) for s in Image.load(folder / "c" / "image.elf").segments if s.memory == "data")

    def spoil(segment: Segment) -> bytes:
        return bytes(b ^ 0x40 for b in segment.data) if len(segment.data) == largest else segment.data

    path = faulty(folder, tmp_path / "f.elf", lambda image: with_memory(image, "data", spoil))
    status, text, err = command("run", path, "--seed", 1, "--json", tmp_path / "r.json")
    assert status == 1 and "MISMATCH" in text and "first wrong element: y[" in text and not err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"] == "mismatch" and report["bit_exact"] is False
    first = report["first_divergence"]
    assert first["tensor"] == "y" and first["expected"] != first["got"]
    assert [layer["bit_exact"] for layer in report["layers"]].count(False) == 1


def test_a_hang_says_who_waits_for_whom(command, folder, tmp_path):
    def wait_for_ever(segment: Segment) -> bytes:
        first = Command.from_buffer_copy(segment.data)
        first.waits = 1 << 40
        return bytes(first) + segment.data[len(bytes(first)):]

    path = faulty(folder, tmp_path / "f.elf", lambda image: with_memory(image, "matrix", wait_for_ever))
    assert Image.load(path).segments[-2].address == BASES["matrix"]
    status, text, _ = command("run", path, "--json", tmp_path / "r.json", "--out", tmp_path / "o")
    assert status == 1 and "HANG" in text and re.search(r"matrix: task \d waits for tasks \[40\]", text)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"] == "hang" and report["cycles"] is None and report["bit_exact"] is False
    assert np.load(tmp_path / "o" / "outputs.npz").files == []


def scaled_cycles(image: Image, factor: float) -> Image:
    def scaled(cost: Cost) -> Cost:
        return Cost.exactly(int(cost.best * factor))

    steps = tuple(replace(step, cycles=scaled(step.cycles)) for step in image.notes.steps)
    return replace(image, notes=replace(image.notes, steps=steps, cycles=scaled(image.notes.cycles)))


def test_a_run_past_four_times_its_cycles_on_the_iss_is_a_hang(command, folder, tmp_path):
    path = faulty(folder, tmp_path / "f.elf", lambda image: scaled_cycles(image, 0.24))
    status, text, _ = command("run", path)
    assert status == 1 and "HANG" in text and "past" in text


def test_cycles_that_are_not_those_of_the_iss_fail(command, folder, tmp_path):
    path = faulty(folder, tmp_path / "f.elf", lambda image: scaled_cycles(image, 0.8))
    status, text, _ = command("run", path)
    assert status == 1 and "CYCLES" in text and "layer " in text


# ---- bad input: exit status 2, one message, nothing written

def test_missing_and_wrong_files(command, tmp_path):
    refused(command("run", "no.onnx", "--platform", "toy"), "there is no file no.onnx")
    (tmp_path / "t.onnx").write_text("this is no model")
    refused(command("run", tmp_path / "t.onnx", "--platform", "toy"), "t.onnx", "not an ONNX")
    (tmp_path / "e.onnx").write_bytes(b"")
    refused(command("check", tmp_path / "e.onnx", "--platform", "toy"), "is empty")
    refused(command("run", tmp_path, "--platform", "toy"), str(tmp_path))
    (tmp_path / "i.elf").write_bytes(b"\x7fELG" + Path("c/image.elf").read_bytes()[4:])
    refused(command("run", tmp_path / "i.elf"), "not an ONNX", "7f 45 4c 46", "begins with 7f 45 4c 47 ('\\x7fELG')")
    refused(command("compile", "c/image.elf", "--platform", "toy", "--out", tmp_path / "o"), "is a compiled image")
    assert not (tmp_path / "o").exists()


def test_an_image_of_another_version(command, tmp_path):
    ours, path = f'"version":{NOTES_VERSION}}}'.encode(), tmp_path / "old.elf"
    path.write_bytes(Path("c/image.elf").read_bytes().replace(ours, b'"version":1}'))
    text = refused(command("run", path), "old.elf", "has version 1", f"reads version {NOTES_VERSION}")
    assert "compile the model again" in text


def test_unsupported_models(command, tmp_path):
    no_quant = Graph((1, 2, 8, 8))
    save(no_quant.model(no_quant.relu("x")), tmp_path / "f.onnx")
    refused(command("run", tmp_path / "f.onnx", "--platform", "toy", "--out", tmp_path / "o"), "f")
    graph = Graph((1, 2, 8, 8))
    node = graph.node("Softmax", [graph.quant("x", 0.25, bits=4, signed=0)], name="soft", axis=1)
    save(graph.model(graph.quant(node, 0.1)), tmp_path / "s.onnx")
    for name in ("run", "check", "compile"):
        extra = ["--out", tmp_path / "o"] if name != "check" else []
        refused(command(name, tmp_path / "s.onnx", "--platform", "toy", *extra), "soft", "Softmax")
    assert not (tmp_path / "o").exists()


def test_a_model_that_does_not_fit(command, tmp_path):
    for name in ("run", "compile"):
        result = command(name, "m.onnx", "--platform", "toy", "--set", "data_bytes=512", "--out", tmp_path / "o")
        refused(result, "'data' holds 512 bytes", "would help")
    status, _, err = command("check", "m.onnx", "--platform", "toy", "--set", "data_bytes=512")
    assert status == 2 and "'data' holds 512 bytes" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_model_that_fits(command, tmp_path):
    status, text, err = command("check", "m.onnx", "--platform", "toy", "--json", tmp_path / "c.json")
    assert status == 0 and "fits toy" in text and not err
    data = json.loads((tmp_path / "c.json").read_text())
    assert data["fits"] is True and data["problems"] == [] and data["layers"] == 4


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"X": np.zeros((1, 2, 8, 8))}, "no array 'x'"),
        ({"x": np.zeros((1, 2, 8, 9))}, "(1, 2, 8, 9); expected (1, 2, 8, 8)"),
        ({"x": np.full((1, 2, 8, 8), 16)}, "16"),
        ({"x": np.full((1, 2, 8, 8), -1)}, "-1"),
        ({"x": np.zeros((4, 2, 8, 8))}, "choose with --index"),
        ({"x": np.full((1, 2, 8, 8), np.inf)}, "finite"),
    ],
)
def test_bad_inputs(command, tmp_path, arrays, text):
    np.savez(tmp_path / "i.npz", **arrays)
    refused(command("run", "m.onnx", "--platform", "toy", "--input", tmp_path / "i.npz", "--out", tmp_path / "o"), text)
    refused(command("run", "c/image.elf", "--input", tmp_path / "i.npz", "--out", tmp_path / "o"), text)
    assert not (tmp_path / "o").exists()


def test_inputs_that_do_not_fit_are_refused_before_compiling(command, monkeypatch, tmp_path):
    monkeypatch.setattr("nncosim.tb.cli.run.compile_model", lambda *_: pytest.fail("it was compiled"))
    refused(command("run", "m.onnx", "--platform", "toy", "--input", "many.npz"), "many.npz holds 10 images", "--index")
    refused(command("run", "m.onnx", "--platform", "toy", "--input", "x.npz", "--index", 1), "there is no image 1")
    np.savez(tmp_path / "i.npz", X=np.zeros((1, 2, 8, 8)))
    refused(command("run", "m.onnx", "--platform", "toy", "--input", tmp_path / "i.npz"), "no array 'x'")


def test_labels_that_do_not_fit_are_refused_before_compiling(command, monkeypatch):
    monkeypatch.setattr("nncosim.tb.cli.evaluate.compile_model", lambda *_: pytest.fail("it was compiled"))
    refused(command("evaluate", "m.onnx", "--platform", "toy", "--data", "x.npz"), "no array 'labels'")


def test_corrupt_images_are_refused(command, folder, tmp_path):
    """Cut off anywhere, or with any byte changed: never a run, never a traceback."""
    whole = (folder / "c" / "image.elf").read_bytes()
    rng = np.random.default_rng(9)
    path = tmp_path / "bad.elf"
    for size in (4, 16, 51, 52, 60, *rng.integers(4, len(whole) - 1, 25).tolist()):
        path.write_bytes(whole[:size])
        refused(command("run", path, "--input", "x.npz"), "bad.elf")
    unchanged = 0
    for position in rng.integers(4, len(whole), 150).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        result = command("run", path, "--input", "x.npz")
        if result[0] == 0:  # a byte of the ELF file that nobody reads: alignment, a section's flags
            unchanged += 1
        else:
            refused(result, "bad.elf")
    assert unchanged < 15


def test_a_stripped_or_foreign_image_is_refused(command, folder, tmp_path):
    image = Image.load(folder / "c" / "image.elf")
    (tmp_path / "s.elf").write_bytes(image.stripped().to_bytes())
    refused(command("run", tmp_path / "s.elf", "--input", "x.npz"), "stripped")
    refused(command("run", "c/image.elf", "--platform", "j3dai"), "an image for 'toy', not for 'j3dai'")
    refused(command("run", "c/image.elf", "--set", "lanes=4"), "--set")


def test_wrong_options(command, tmp_path):
    refused(command("run", "m.onnx", "--platform", "tox"), "no platform 'tox'", "did you mean 'toy'")
    refused(command("run", "m.onnx", "--platform", "toy", "--set", "lane=3"), "no parameter 'lane'")
    refused(command("run", "m.onnx", "--platform", "toy", "--set", "lanes"), "must look like lanes=16, not")
    refused(command("run", "m.onnx", "--platform", "toy", "--backend", "rtl"), "no backend 'rtl'; it has python")
    refused(command("run", "m.onnx", "--platform", "toy", "--driver", "cocotb"), "no driver 'cocotb'")
    refused(command("run", "m.onnx", "--platform", "toy", "--seed", "-1"), "--seed")
    refused(command("run", "m.onnx", "--platform", "toy", "--input", "no.npz"), "there is no file no.npz")
    refused(command("run", "m.onnx", "--platform", "toy", "--index", "1"), "--index")
    refused(command("run", "m.onnx", "--platform", "toy", "--fast"), "--fast")
    refused(command("run"), "MODEL.onnx|IMAGE.elf")
    refused(command("fly"), "fly")
    refused(command("compile", "m.onnx"), "--out")
    refused(command("evaluate", "m.onnx", "--platform", "toy"), "--data")


def test_an_empty_path_is_not_the_current_folder(command):
    for option in ("--out", "--json", "--input", "--trace"):
        refused(command("run", "m.onnx", "--platform", "toy", option, ""), option, "the path is empty")
    refused(command("report", ""), "DIR", "the path is empty")


@pytest.mark.parametrize("arguments", [["platforms"], ["--help"], ["run", "--help"]])
def test_output_that_cannot_be_written(arguments):
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-m", "nncosim.tb.cli", *arguments], stdout=full,
                                 stderr=subprocess.PIPE, text=True)  # fmt: skip
    refused(Result(process.returncode, "", process.stderr), "cannot write the output", "No space left")


@pytest.mark.parametrize("arguments", [["platforms"], ["--help"]])
def test_a_reader_that_leaves_early_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([sys.executable, "-m", "nncosim.tb.cli", *arguments], stdout=writer,
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, "")


def test_a_failing_file_of_our_own_is_a_defect(command, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nncosim.tb.cli.run.run_program", fail)
    status, _, err = command("run", "m.onnx", "--platform", "toy")
    assert status == 3 and "Traceback" in err


def test_places_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("")
    refused(command("run", "m.onnx", "--platform", "toy", "--out", tmp_path / "file"), "this is a file")
    refused(command("run", "m.onnx", "--platform", "toy", "--out", tmp_path / "file" / "o"), "is a file, not a folder")
    refused(command("run", "m.onnx", "--platform", "toy", "--json", tmp_path), "this is a folder")
    refused(command("evaluate", "m.onnx", "--platform", "toy", "--data", "many.npz", "--json", tmp_path), "--json")
    for name in ("platforms", "doctor"):
        refused(command(name, "--json", tmp_path), "this is a folder")


def test_a_defect_of_our_own_is_not_called_the_users(command, monkeypatch):
    monkeypatch.setattr("nncosim.tb.cli.run.print_report", lambda *_: 1 / 0)
    status, _, err = command("run", "m.onnx", "--platform", "toy")
    assert status == 3 and "ZeroDivisionError" in err and "defect" in err


# ---- the other commands

def test_compile_gives_the_same_bytes_again(command, folder, tmp_path):
    assert command("compile", "m.onnx", "--platform", "toy", "--out", tmp_path / "d")[0] == 0
    first, second = ({p.name: p.read_bytes() for p in d.iterdir()} for d in (folder / "c", tmp_path / "d"))
    assert first == second and set(first) == {"image.elf", "listing.txt", "memory.txt", "cycles.json"}


def test_evaluate_counts_and_agrees_with_the_executor(command, tmp_path):
    options = ("--platform", "toy", "--data", "many.npz", "--json", tmp_path / "e.json")
    status, text, err = command("evaluate", "m.onnx", *options, "--against", "qonnx")
    assert status == 0, text + err
    data = json.loads((tmp_path / "e.json").read_text())
    assert data["images"] == 10 and data["predictions"] == data["executor_predictions"] and data["bit_exact"]
    assert data["right"] == data["predictions"].count(0) and data["accuracy"] == data["right"] / 10
    assert data["qonnx"]["ok"] and data["qonnx"]["images"] == 10
    assert command("evaluate", "m.onnx", *options, "--images", 4)[0] == 0
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 4


def test_more_images_than_there_are_is_refused(command, monkeypatch):
    monkeypatch.setattr("nncosim.tb.cli.evaluate.compile_model", lambda *_: pytest.fail("it was compiled"))
    options = ("--data", "many.npz", "--images", 11)
    for extra in ((), ("--against", "qonnx"), ("--against", "qonnx", "--reference")):
        machine = () if "--reference" in extra else ("--platform", "toy")
        refused(command("evaluate", "m.onnx", *machine, *options, *extra), "--images 11: many.npz holds 10 images")


def test_evaluate_against_qonnx_on_random_images(command, tmp_path):
    options = ("--platform", "toy", "--images", 6, "--seed", 3, "--json", tmp_path / "q.json")
    status, text, _ = command("evaluate", "m.onnx", "--against", "qonnx", *options)
    data = json.loads((tmp_path / "q.json").read_text())
    assert status == 0 and "equal to exact arithmetic" in text and data["qonnx"]["seed"] == 3
    assert data["qonnx"]["values"] == 6 * (128 * 3 + 6)


def test_evaluate_against_qonnx_on_no_machine(command, tmp_path):
    """Also of a model that no machine takes, and of images in a file."""
    options = ("--against", "qonnx", "--reference", "--images", 3, "--json", tmp_path / "r.json")
    g = Graph((1, 2, 8, 8))
    flat = g.node("Flatten", [g.quant("x", 0.25, bits=4, signed=0)], axis=1)
    save(g.model(g.gemm(flat, 128, 6, name="head")), tmp_path / "open.onnx")
    refused(command("check", tmp_path / "open.onnx", "--platform", "toy"), "32 bits")
    for model in ("m.onnx", tmp_path / "open.onnx"):
        status, text, err = command("evaluate", model, *options)
        assert status == 0 and err == "" and "equal to exact arithmetic everywhere" in text
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["verdict"] == "pass" and report["platform"] is None and report["qonnx"]["images"] == 3
        assert report["requantization"]["exact_layers"] == report["requantization"]["layers"] > 0
    np.savez(tmp_path / "f.npz", x=np.load("many.npz")["x"] * np.float32(0.25))
    assert command("evaluate", "m.onnx", *options, "--data", tmp_path / "f.npz")[0] == 0
    refused(command("evaluate", "m.onnx", "--reference"), "--against qonnx")
    refused(command("evaluate", "m.onnx", "--reference", "--data", "many.npz"), "--against qonnx")
    for extra in (("--platform", "toy"), ("--set", "lanes=3"), ("--backend", "iss")):
        refused(command("evaluate", "m.onnx", "--reference", "--against", "qonnx", *extra), "--reference")


def test_evaluate_against_the_graph(command, tmp_path, monkeypatch):
    """On random images, on a file's beside the accuracy, on no machine; and what an importer's error looks like."""
    options = ("--against", "onnx", "--images", 3, "--json", tmp_path / "o.json")
    for more in (("--platform", "toy"), ("--reference",), ("--platform", "toy", "--data", "many.npz")):
        status, text, err = command("evaluate", "m.onnx", *options, *more)
        assert status == 0 and "what the graph says: 0 of 1,170 values differ unexplained" in text, text + err
        report = json.loads((tmp_path / "o.json").read_text())
        assert report["verdict"] == "pass" and report["onnx"]["ok"] and report["onnx"]["images"] == 3
        assert ("accuracy" in report) == ("--data" in more)
    right = quant.read_parameters
    monkeypatch.setattr(quant, "read_parameters", lambda node: replace(right(node), zero_point=1)
                        if node.name == "y" else right(node))  # fmt: skip
    status, text, _ = command("evaluate", "m.onnx", *options, "--platform", "toy")
    report = json.loads((tmp_path / "o.json").read_text())
    assert status == 1 and "means something else than the graph: zero point 1, in the graph 0" in text
    assert report["verdict"] == "mismatch" and [x["name"] for x in report["onnx"]["layers"] if x["meaning"]] == ["head"]


def test_evaluate_needs_labels_that_fit(command, tmp_path):
    images = np.zeros((3, 2, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "n.npz", x=images)
    refused(command("evaluate", "m.onnx", "--platform", "toy", "--data", tmp_path / "n.npz"), "no array 'labels'")
    np.savez(tmp_path / "w.npz", x=images, labels=np.zeros(4, dtype=int))
    refused(command("evaluate", "m.onnx", "--platform", "toy", "--data", tmp_path / "w.npz"), "shape (3,)")


def test_evaluate_fails_where_the_machine_is_wrong(command, monkeypatch):
    monkeypatch.setattr(toy.bench, "convolve", lambda memory, command: None)
    status, text, _ = command("evaluate", "m.onnx", "--platform", "toy", "--data", "many.npz")
    assert status == 1 and "first wrong element" in text


def test_platforms(command, tmp_path):
    status, text, err = command("platforms")
    assert status == 0 and "j3dai" in text and "toy" in text, err
    status, text, _ = command("platforms", "j3dai", "--json", tmp_path / "p.json")
    assert status == 0 and "561.5 MAC/cycle" in text and "5 MiB" in text and "wmem_bytes" in text
    assert json.loads((tmp_path / "p.json").read_text())["peak_macs_per_cycle"] == 768
    smaller = json.loads(command("platforms", "j3dai", "--set", "clusters=2", "--json", "-")[1])
    assert smaller["peak_macs_per_cycle"] == 256
    refused(command("platforms", "j3da"), "did you mean 'j3dai'")


def test_doctor(command, monkeypatch):
    status, text, _ = command("doctor")
    assert status == 0 and "verilator" in text and "C++ compiler" in text
    monkeypatch.setenv("CXX", "no-such-compiler")
    status, text, _ = command("doctor")
    assert status == 1 and "missing: C++ compiler" in text and "apt-get install g++" in text


@pytest.mark.parametrize(("tool", "uses"), [("iverilog", ("FPGA", "gates", "layouts")), ("osu018 cells", ("power",))])
def test_doctor_says_what_a_tool_is_for(command, tool, uses):
    found = {each["name"]: each["use"] for each in json.loads(command("doctor", "--json", "-").out)["tools"]}
    assert all(use in found[tool] for use in uses)


def test_help_and_version(command):
    status, text, _ = command("--help")
    assert status == 0 and all(name in text for name in ("run", "compile", "check", "evaluate", "platforms", "doctor"))
    assert command("run", "--help")[0] == 0
    status, text, _ = command("--version")
    assert status == 0 and "nncosim" in text


def test_a_model_of_another_batch_takes_one_image(command, tmp_path):
    model = branching_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    save(model, tmp_path / "n.onnx")
    assert command("run", tmp_path / "n.onnx", "--platform", "toy", "--input", "x.npz")[0] == 0
