# SPDX-License-Identifier: Apache-2.0
"""The command line's `--trace`: what it refuses, before anything is simulated, and where the file goes."""

import os
import threading
from importlib.resources import as_file, files
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from command_line import refused
from nncosim.compiler.image.image import Image
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.backend import Bench
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai import rtl
from nncosim.tb.run.drive import Driven
from nncosim.tb.run.flow import check_trace
from nncosim.tb.sim.waves import Trace


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


# ---- where a waveform goes

@pytest.fixture
def waveform(monkeypatch):
    """Runs nothing, for 100 cycles: a waveform of four bytes; gives the paths whose save files would be written."""
    shown: list[Path] = []

    def drive(built, chip, driver, limit, seed, window, watch):
        window.path.write_bytes(b"wave")
        return Driven([], {"probe_cycle": 100, "lists_done": 0, "probe_counters": 0}, "")

    monkeypatch.setattr(rtl, "drive", drive)
    monkeypatch.setattr(rtl, "_frames", lambda *arguments: ((), []))
    monkeypatch.setattr(rtl, "_diagnose", lambda *arguments: None)
    monkeypatch.setattr(rtl, "show_first", lambda trace, platform, image: shown.append(trace.path))
    monkeypatch.setattr(Image, "from_bytes", classmethod(lambda cls, data, name="": cls(())))

    def run(path: Path, start: int | None = None) -> list[Path]:
        rtl.run_built(SimpleNamespace(key="key"), PLATFORM, b"", [], driver="direct", trace=Trace(path, start))
        return shown

    return run


def test_a_waveform_goes_through_links_and_pipes(waveform, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.vcd").symlink_to("real/w.vcd")
    assert waveform(tmp_path / "link.vcd") == [tmp_path / "link.vcd"]
    assert (tmp_path / "link.vcd").is_symlink() and (tmp_path / "real" / "w.vcd").read_bytes() == b"wave"
    os.mkfifo(tmp_path / "pipe.fst")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe.fst").read_bytes()), daemon=True)
    reader.start()
    assert waveform(tmp_path / "pipe.fst") == [tmp_path / "link.vcd"], "a pipe has no save file"
    reader.join(10)
    assert got == [b"wave"] and sorted(p.name for p in tmp_path.iterdir()) == ["link.vcd", "pipe.fst", "real"]


def test_an_old_waveform_outlives_a_window_behind_the_end(waveform, tmp_path):
    (tmp_path / "w.vcd").write_bytes(b"old")
    with pytest.raises(BenchError, match=r"w\.vcd would begin at cycle 100, but the run ended at cycle 100"):
        waveform(tmp_path / "w.vcd", start=100)
    assert (tmp_path / "w.vcd").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
