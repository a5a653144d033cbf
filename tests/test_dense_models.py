# SPDX-License-Identifier: Apache-2.0
"""The command that writes dense networks, as README has it, and what it refuses."""

import re
import shlex
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from nncosim.regress.dense_models import DenseSpec, dense_network, main

README = (Path(__file__).parents[1] / "README.md").read_text()
MAKES = r"^    python -m nncosim\.regress\.dense_models (.*?)(?:   #.*)?$"
USES = r"^    nncosim (\w+) (dense\.onnx .*?)(?:   #.*)?$"


def test_the_commands_of_the_readme(tmp_path, monkeypatch, command):
    """Those on the simulator are run."""
    monkeypatch.chdir(tmp_path)
    (given,) = re.findall(MAKES, README, re.M)
    done = CliRunner().invoke(main, shlex.split(given))
    assert done.exit_code == 0 and done.output == "dense.onnx: 16-64-32-32-8 b8 a8w8, 34,816 MAC\n"
    assert onnx.load("dense.onnx") == dense_network(DenseSpec((16, 64, 32, 32, 8)))
    uses = [(verb, shlex.split(words)) for verb, words in re.findall(USES, README, re.M)]
    assert len(uses) >= 4
    for verb, words in uses:
        if "iss" in words:
            status, text, error = command(verb, *words)
            assert status == 0 and "PASS: every bit is right" in text, error


def test_batch_bits_and_seed(tmp_path):
    out = tmp_path / "d.onnx"
    given = ["--sizes", "9, 7", "--out", str(out), "--batch", "3", "--bits", "16", "--seed", "4"]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0 and "9-7 b3 a16w8, 189 MAC" in done.output
    assert onnx.load(out) == dense_network(DenseSpec((9, 7), batch=3, bits=16, seed=4))


@pytest.mark.parametrize("sizes", ["16", "16,", "16,0", "16,x,8", "16,-4", "16,99999999"])
def test_sizes_that_are_none(tmp_path, sizes):
    done = CliRunner().invoke(main, ["--sizes", sizes, "--out", str(tmp_path / "d.onnx")])
    assert done.exit_code == 2 and "takes the features of the input and of each layer" in done.output
    assert not any(tmp_path.iterdir())
