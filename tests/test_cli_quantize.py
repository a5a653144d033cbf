# SPDX-License-Identifier: Apache-2.0
"""`nncosim quantize` from the command line, and what it writes in `nncosim run`."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from float_models import branched
from nncosim.tb.cli.main import invoke


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("float")
    model, images = branched()
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "x.npz", x=images, labels=np.arange(32) % 10)
    np.savez(folder / "plain.npz", x=images[0])
    return folder


def quantize(files, tmp_path, *more: str, data: str = "x.npz", out: str = "q.onnx") -> int:
    paths = ["--data", str(files / data), "--out", str(tmp_path / out)]
    return invoke(["quantize", str(files / "net.onnx"), *paths, *more])


def test_what_it_writes_runs_bit_exact(files, tmp_path, capsys):
    """Single shift on J3DAI: every requantization is proved exact."""
    assert quantize(files, tmp_path, "--scales", "shift", "--json", str(tmp_path / "q.json")) == 0
    text = capsys.readouterr().out
    assert "left to the host: Softmax 'probabilities'" in text and "accuracy on 32 images: float" in text
    report = json.loads((tmp_path / "q.json").read_text())
    assert len(report["layers"]) == 12 and report["layers"][1]["weight_bits"] == 8
    assert report["left_to_the_host"] == ["Softmax 'probabilities'"] and report["accuracy"]["images"] == 32
    run = ["run", str(tmp_path / "q.onnx"), "--input", str(files / "x.npz"), "--index", "5", "--backend", "iss"]
    assert invoke([*run, "--json", str(tmp_path / "run.json")]) == 0
    ran = json.loads((tmp_path / "run.json").read_text())
    assert ran["verdict"] == "pass" and ran["requantization"]["exact_layers"] == ran["requantization"]["layers"]


def test_bits_and_sensitivity(files, tmp_path, capsys):
    (tmp_path / "bits.json").write_text('{"second": 4, "left": 2}')
    arguments = ["--bits", str(tmp_path / "bits.json"), "--sensitivity", "--images", "4"]
    assert quantize(files, tmp_path, *arguments, "--json", str(tmp_path / "q.json")) == 0
    assert "the outputs, if one layer" in capsys.readouterr().out
    report = json.loads((tmp_path / "q.json").read_text())
    assert {row["layer"]: row["weight_bits"] for row in report["layers"]}["left"] == 2
    assert report["sensitivity"][0]["layer"] == "left" and report["average_weight_bits"] < 6
    assert quantize(files, tmp_path, "--bits", "5", "--images", "2", "--json", str(tmp_path / "q.json")) == 0
    assert json.loads((tmp_path / "q.json").read_text())["average_weight_bits"] <= 5


def test_one_image_without_labels(files, tmp_path, capsys):
    assert quantize(files, tmp_path, data="plain.npz") == 0
    assert "calibrated on 1 images" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "text"), [
    (["--bits", "none.json"], "--bits none.json: expected a number or a JSON file (No such file"),
    (["--bits", "1"], "an average of 1 bits is asked for; the fewest bits of a weight are 2"),
    (["--method", "median"], "'median' is not one of"),
    (["--test", "missing.npz"], "missing.npz"),
    (["--json", "{out}"], "are one place; give two names"),
    (["--out", "{data}"], "would replace the data"),
], ids=["no file", "too few bits", "method", "test data", "same file", "the data"])  # fmt: skip
def test_bad_input_is_told_in_a_line(files, tmp_path, capsys, more, text):
    names = {"out": tmp_path / "q.onnx", "data": files / "x.npz"}
    assert quantize(files, tmp_path, *(word.format(**names) for word in more)) == 2
    told = capsys.readouterr().err
    assert text in told and told.count("\n") <= 2 and not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize("bad", ["[1, 2]", '{"left": 9}', '{"left": "4"}', "{"])
def test_bits_that_are_none(files, tmp_path, capsys, bad):
    (tmp_path / "bits.json").write_text(bad)
    assert quantize(files, tmp_path, "--bits", str(tmp_path / "bits.json")) == 2
    assert "bits.json" in capsys.readouterr().err
