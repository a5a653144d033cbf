# SPDX-License-Identifier: Apache-2.0
"""``--debug-failures``: a failed test of a network tells its story and leaves a bundle; others leave nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nncosim.tb.cli.main import invoke
from nncosim.tb.sim.waves import changes

TESTS = '''
import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images, run_compiled
from nncosim.regress.test_debug import BUGS
from nncosim.tb.j3dai import build

@pytest.fixture
def wrong(monkeypatch):
    bug = BUGS["a weight's bit in one NCB"]
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))

def problems():
    compiled = compile_digits(PLATFORM.with_parameters(clusters=1))
    return run_compiled(compiled, "rtl", "direct", inputs=digits_images(compiled, 0)).problems()

def test_network(wrong):
    assert problems() == []

def test_expects_it(wrong):
    assert problems() != []

def test_something_else():
    assert run_compiled.__doc__ == ""
'''


def run(project: Path, *options: str) -> str:
    (project / "conftest.py").write_text("from nncosim.regress.conftest import *\n")
    (project / "test_network.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(project / "out"), *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True).stdout


def test_a_failed_test_of_a_network(tmp_path: Path) -> None:
    output = run(tmp_path, "--debug-failures")
    assert "2 failed, 1 passed" in output and output.count("- debug -") == 1, output
    network, _, rest = output.partition("_ test_something_else _")
    assert "- debug -" in network and "- debug -" not in rest
    first = re.search(r"^first difference: cycle (\d+), layer \S+ cluster0 NCB 3", network, re.M)
    assert first, network
    (folder,) = (tmp_path / "out").glob("debug_*0")
    assert f"run it again with: nncosim replay {folder}\n" in network
    assert int(first[1]) in [value for _, value in changes(folder / "cause.fst", "j3dai_tb.probe_cycle")]
    assert invoke(["replay", str(folder), "--backend=iss"]) == 0
    assert invoke(["replay", str(folder)]) == 0, "the right RTL, in this process"


def test_without_the_option(tmp_path: Path) -> None:
    output = run(tmp_path, "test_network.py::test_network")
    assert "1 failed" in output and "- debug -" not in output and not list((tmp_path / "out").glob("debug_*"))
