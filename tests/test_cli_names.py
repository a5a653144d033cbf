# SPDX-License-Identifier: Apache-2.0
"""Names that models and files may have: for Python, for a terminal, for a terminal without Unicode, for the page."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
from command_line import refused
from models import Graph
from nncosim.compiler.frontend import import_model
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import output_console, progress
from nncosim.tb.run.inputs import outputs_npz
from nncosim.tb.system.terminal import Terminal, printable
from rich.text import Text
from toy_models import save

toy.install()

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
HOSTILE = {
    "controls": "\x1b[2J\x1b]0;title\x07\x9b31m a\rb\x08c\x7fd \u202eabc\u2066",
    "markup": "[/]",
    "more markup": "[bold red]x[/nothing] :warning: %s {0} {x} \\",
    "letters": "äß\U0001f600</script><script>alert(1)</script>",
}


def model_with(name: str, path: Path) -> Path:
    """Names of all kinds, in input, layers, tensors and output: each begins in its own way and ends in `name`."""
    g = Graph((1, 2, 8, 8), seed=5)
    g.inputs[0].name = f"x{name}"
    x = g.quant(f"x{name}", 0.25, bits=4, signed=0, name=f"q{name}")
    conv = g.relu(g.conv(x, 2, 2, 3, name=f"conv{name}", weights=g.weights((2, 2, 3, 3), bits=4)))
    middle = g.quant(conv, 1.375, bits=4, signed=0, name=f"m{name}")
    pool = g.node("MaxPool", [middle], name=f"pool{name}", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    return save(g.model(g.quant(pool, 1.375, bits=4, signed=0, name=f"y{name}")), path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_names_do_nothing_but_be_names(command, tmp_path, kind):
    """Every command, on a file whose own name is as bad as those in it; the name is seen, letter by letter."""
    name = HOSTILE[kind]
    file = model_with(name, tmp_path / f"{name.replace('/', '_')}.onnx")
    np.savez(tmp_path / "x.npz", labels=np.zeros(1, np.int64))
    said = []
    for arguments in (
        ("run", file, "--out", tmp_path / "o"), ("compile", file, "--out", tmp_path / "c"), ("check", file),
        ("evaluate", file, "--against", "qonnx", "--images", 1),
        ("sweep", file, "--grid", "lanes=16", "--workers", 1, "--out", tmp_path / "s"),
    ):
        status, out, err = command(*arguments, "--platform", "toy")
        assert status == 0 and not err, (arguments, err)
        said.append(out)
    assert command("report", tmp_path / "o").status == 0
    said.append(refused(command("run", file, "--platform", "toy", "--input", tmp_path / "x.npz")))
    said += [(tmp_path / "c" / name).read_text() for name in ("listing.txt", "memory.txt")]
    assert not [UNSAFE.search(text) for text in said if UNSAFE.search(text)]
    assert f"conv{printable(name)}" in said[1]
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["layers"][0]["name"] == f"conv{name}"
    assert np.load(tmp_path / "o" / "outputs.npz").files == [f"y{name}", f"y{name}__float"]
    assert "<script>alert(1)" not in (tmp_path / "o" / "report.html").read_text()


@pytest.mark.parametrize("kind", HOSTILE)
def test_names_in_the_line_that_shows_what_goes_on(capfd, monkeypatch, kind):
    """On a terminal, where it is drawn."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress() as say:
        say(f"compiling: {HOSTILE[kind]}")
    assert not re.search("\x1b\\[2J|\x07|\x9b|\u202e|\x08", capfd.readouterr().err)


def test_text_of_any_origin_is_printed_safely(capfd):
    console = output_console()
    assert isinstance(console, Terminal)
    console.print(Text("\x1b[2J"), "\x1b[3J", f"[red]\x07[/] {chr(0x202E)}\ttab")
    out = capfd.readouterr().out
    assert not UNSAFE.search(out) and "\\x1b[2J \\x1b[3J" in out


class Narrow(io.TextIOWrapper):
    """A terminal without Unicode."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="iso8859-1", errors="strict")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("iso8859-1")  # type: ignore[attr-defined]


@pytest.mark.parametrize("command_line", [
    ("run", "ä\U0001f600.onnx"), ("compile", "ä\U0001f600.onnx", "--out", "ö"), ("check", "ä\U0001f600.onnx"),
    ("sweep", "ä\U0001f600.onnx", "--grid", "lanes=16", "--workers", "1"),
    ("evaluate", "ä\U0001f600.onnx", "--against", "qonnx", "--images", "1"), ("platforms",), ("doctor",),
    ("run", "nicht-da-\u2026.onnx"),
], ids=lambda arguments: arguments[0])  # fmt: skip
def test_a_terminal_without_unicode(tmp_path, monkeypatch, command_line):
    monkeypatch.chdir(tmp_path)
    model_with("é\u2026", Path("ä\U0001f600.onnx"))
    out, err = Narrow(), Narrow()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    more = ["--platform", "toy"] if command_line[0] not in ("platforms", "doctor") else []
    status = invoke([*command_line, *more])
    if command_line[1:] == ("nicht-da-\u2026.onnx",):
        assert status == 2 and "there is no file nicht-da-\\u2026.onnx" in err.text()
    else:
        assert status in ((0, 1) if command_line[0] == "doctor" else (0,)) and not err.text(), err.text()


def test_a_file_whose_name_is_no_text(command, tmp_path):
    """Bytes that are no UTF-8: in the table, in JSON, CSV and the page."""
    file = model_with("", tmp_path / "a\udcff.onnx")
    assert command("run", file, "--platform", "toy", "--out", tmp_path / "o").status == 0
    assert command("report", tmp_path / "o").status == 0
    assert "a\\udcff" in (tmp_path / "o" / "report.html").read_text()
    assert command("compile", file, "--platform", "toy", "--out", tmp_path / "c").status == 0
    assert command("sweep", file, "--platform", "toy", "--grid", "lanes=16", "--workers", 1,
                   "--out", tmp_path / "s").status == 0  # fmt: skip
    assert "a\\udcff" in (tmp_path / "s" / "sweep.csv").read_text()


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args", "kwds", "self", "a/b", "y.npy", "../up"])
def test_an_output_of_any_name_is_in_its_file(command, tmp_path, name):
    g = Graph((1, 2, 8, 8), seed=5)
    x = g.quant("x", 0.25, bits=4, signed=0)
    pool = g.node("MaxPool", [x], name="pool", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    file = save(g.model(g.quant(pool, 0.25, bits=4, signed=0, name=name)), tmp_path / "m.onnx")
    assert command("run", file, "--platform", "toy", "--out", tmp_path / "o").status == 0
    outputs = np.load(tmp_path / "o" / "outputs.npz")
    assert outputs.files == [name, f"{name}__float"] and outputs[name].shape == (1, 2, 8, 8)


def test_an_output_called_like_another_s_floats():
    g = Graph((1, 2, 8, 8), seed=5)
    x = g.quant("x", 0.25, bits=4, signed=0)
    outputs = [g.quant(x, scale, bits=4, signed=0, name=name) for name, scale in (("y", 0.5), ("y__float", 0.75))]
    values = {name: np.full((2, 8, 8), value) for name, value in zip(outputs, (3, 5), strict=True)}
    arrays = np.load(io.BytesIO(outputs_npz(import_model(g.model(*outputs)), [values])))
    assert {name: arrays[name][0, 0, 0, 0] for name in arrays.files} == {
        "y": 3, "y__float_": 1.5, "y__float": 5, "y__float__float": 3.75,
    }  # fmt: skip
