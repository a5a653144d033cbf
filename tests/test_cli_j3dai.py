# SPDX-License-Identifier: Apache-2.0
"""The command line on J3DAI's instruction-set simulator, with the shipped digits network."""

import json
import re
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from models import Graph
from nncosim.compiler.frontend import import_model
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.demo import demo, drawing
from nncosim.tb.run.evaluate import executor_predictions, float_images
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from toy_models import save

NETWORKS = files("nncosim.regress.networks")


@pytest.fixture(scope="module")
def digits():
    """(model, test split) as paths."""
    with as_file(NETWORKS / "digits.onnx") as model, as_file(NETWORKS / "digits_test.npz") as data:
        yield model, data


def test_a_test_image_is_bit_exact_and_timed(digits, command, tmp_path):
    model, data = digits
    status, text, err = command("run", model, "--platform", "j3dai", "--backend", "iss", "--input", data, "--index", 3,
                                "--out", tmp_path / "o")  # fmt: skip
    assert status == 0, text + err
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["verdict"] == "pass" and report["backend"] == "iss" and report["driver"] is None
    assert report["requantization"]["exact_layers"] == report["requantization"]["layers"] == 8
    assert report["tensors"]["compared"] >= 8 and sum(len(y["members"]) or 1 for y in report["layers"]) == 8
    assert report["macs"] == 166_336 and report["utilization"] == pytest.approx(report["mac_per_cycle"] / 768, rel=1e-3)
    for layer in report["layers"]:
        assert layer["counters"] and layer["bit_exact"]
        assert all(sum(c.values()) == layer["cycles"] for c in layer["counters"].values()), layer["name"]
    assert sum(layer["cycles"] for layer in report["layers"]) == report["cycles"]
    listing = (tmp_path / "o" / "listing.txt").read_text()
    assert "mac " in listing and "load " in listing and "halt" in listing
    words_and_bytes(listing, (tmp_path / "o" / "memory.txt").read_text())


def words_and_bytes(listing: str, memory: str) -> None:
    """Listing and memory map give every place both ways, and the same: a word of L2 is 16 bytes."""
    base, found = 0x8000_0000, re.findall(r" l2=(\d+) \((0x[0-9a-f]+)\)", listing)
    assert len(found) == listing.count(" l2=") > 20
    assert all(int(address, 16) == base + 16 * int(word) for word, address in found)
    rows = re.findall(r"^l2 +(0x[0-9a-f]+) +(\d+) +(\d+) +(\d+)  (\w+) +(\S+)$", memory, re.M)
    assert rows and all(int(address, 16) == base + 16 * int(word) for address, _, word, *_ in rows)
    assert all(int(words) == -(-int(size) // 16) for _, size, _, words, *_ in rows)
    for address, size, word, words, kind, name in rows:
        if kind in ("program", "list"):
            last = int(word) + int(words) - 1
            assert f"; {kind} {name}: l2 {address}, {size} bytes, words {word} to {last}\n" in listing


def test_the_image_alone_gives_the_same(digits, command, tmp_path):
    model, data = digits
    assert command("compile", model, "--platform", "j3dai", "--out", tmp_path / "c", "--set", "clusters=3")[0] == 0
    image = tmp_path / "c" / "image.elf"
    options = ("--backend", "iss", "--input", data, "--index", 0)
    status, text, err = command("run", image, *options, "--out", tmp_path / "a")
    assert status == 0 and "clusters=3" in text, text + err
    assert command("run", model, "--set", "clusters=3", *options, "--out", tmp_path / "b")[0] == 0
    a, b = (np.load(tmp_path / name / "outputs.npz") for name in "ab")
    assert np.array_equal(a["logits"], b["logits"]) and np.array_equal(a["logits__float"], b["logits__float"])
    assert image.read_bytes() == (tmp_path / "b" / "image.elf").read_bytes()
    assert Image.load(image).machine == 243


def test_evaluate_agrees_with_the_executor_on_every_image(digits, command, tmp_path):
    model, data = digits
    status, text, err = command("evaluate", model, "--data", data, "--json", tmp_path / "e.json")
    assert status == 0, text + err
    found = json.loads((tmp_path / "e.json").read_text())
    network = import_model(model)
    images = float_images(network, np.load(data), str(data))
    assert found["backend"] == "iss" and found["images"] == len(images) == 450 and found["bit_exact"]
    assert found["predictions"] == executor_predictions(Path(model), network, images).tolist()
    # the executor on the model file as it is, without anything of ours in between
    untouched = ModelWrapper(str(model)).transform(InferShapes())
    for image, prediction in zip(images[:20], found["predictions"], strict=False):
        assert int(np.argmax(execute_onnx(untouched, dict(image))["logits"])) == prediction
    assert found["accuracy"] >= 0.97
    assert found["labels"] == np.load(data)["labels"].tolist()


def test_against_qonnx(digits, command):
    status, text, _ = command("evaluate", digits[0], "--against", "qonnx", "--images", 5, "--seed", 12)
    assert status == 0 and "equal to exact arithmetic everywhere" in text


def test_a_model_too_large_for_l2_is_refused(command, tmp_path):
    graph = Graph((1, 16, 1024, 512))
    x = graph.quant("x", 0.05)
    save(graph.model(graph.quant(graph.conv(x, 16, 16, 1), 0.3)), tmp_path / "large.onnx")
    for name in ("check", "run", "compile"):
        extra = [] if name == "check" else ["--out", tmp_path / "o"]
        result = command(name, tmp_path / "large.onnx", "--platform", "j3dai", *extra)
        refused(result, "'l2'", f"{PLATFORM.l2_bytes}")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("option", "text"), [
    (("--set", "clusters=9"), "clusters must be 1 to 8"),
    (("--set", "l2_bytes=100"), "l2_bytes"),
    (("--backend", "fpga"), "no backend 'fpga'; it has rtl, iss, netlist"),
    (("--backend", "iss", "--driver", "cocotb"), "no driver 'cocotb'"),
    (("--backend", "iss", "--trace", "w.fst"), "--backend rtl"),
])  # fmt: skip
def test_bad_options_are_refused(digits, command, option, text):
    refused(command("run", digits[0], *option), text)


@pytest.mark.parametrize(("options", "text"), [
    (("--netlist", "cluster"), "backend 'rtl' of platform 'j3dai' has no gates to choose"),
    (("--backend", "netlist", "--netlist", "cluster,npu"), "has no block 'npu' that can be gates; it has soc, host,"),
    (("--backend", "netlist", "--netlist", ","), "has no block '' that can be gates"),
    (("--backend", "netlist", "--liberty", "none.lib"), "there is no cell library none.lib"),
    (("--backend", "netlist", "--trace", "x.vcd"), "has no signals to trace; use --backend rtl"),
])  # fmt: skip
def test_bad_choices_of_gates_are_refused(digits, command, options, text):
    refused(command("run", digits[0], *options), text)


def test_the_demo_names_the_digit(command, tmp_path, capfd):
    assert demo(tmp_path / "d", ["--backend", "iss"]) == 0
    out = capfd.readouterr().out
    assert "the accelerator says 5, the label is 5" in out and "PASS" in out and "@@" in out


def test_a_drawing_has_a_character_pair_a_pixel():
    assert drawing(np.array([[0.0, 16.0], [16.0, 0.0]])) == "  @@\n@@"
