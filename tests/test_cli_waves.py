# SPDX-License-Identifier: Apache-2.0
"""The command line's `--trace`: what it refuses, before anything is simulated."""

from importlib.resources import as_file, files
from typing import cast

import pytest
from command_line import refused
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.backend import Bench
from nncosim.tb.errors import BenchError
from nncosim.tb.run import check_trace


@pytest.fixture
def message(command):
    """Runs the digits network; gives the one message, and checks that there is nothing else."""
    def run(*options: object) -> str:
        with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
            return refused(command("run", model, "--platform", "j3dai", *options))

    return run


def test_a_backend_without_waveforms(message, tmp_path):
    text = message("--backend", "iss", "--trace", tmp_path / "w.fst")
    assert "backend 'iss' of platform 'j3dai' has no signals to trace; use --backend rtl" in text
    assert not list(tmp_path.iterdir())


def test_a_suffix_that_is_no_format(message, tmp_path):
    text = message("--trace", tmp_path / "w.txt")
    assert "w.txt" in text and ".fst" in text and ".vcd" in text and "'.txt' is neither" in text


@pytest.mark.parametrize("option", ["--trace-from", "--trace-to", "--trace-layer"])
def test_a_window_without_a_waveform(message, option):
    assert "give --trace FILE" in message(option, "1")


def test_a_layer_that_does_not_exist(message, tmp_path):
    text = message("--trace", tmp_path / "w.fst", "--trace-layer", "Conv_99")
    assert "no layer 'Conv_99'" in text and "Conv_0" in text


def test_an_empty_window(message, tmp_path):
    text = message("--trace", tmp_path / "w.vcd", "--trace-from", 50, "--trace-to", 50)
    assert "from cycle 50 to 50 is empty" in text


def test_a_platform_without_waveforms():
    """A bench that says nothing of waveforms has none."""
    with pytest.raises(BenchError, match="'fast' of platform 'j3dai' has no signals to trace; no backend of this plat"):
        check_trace(cast(Bench, object()), PLATFORM, "fast")
