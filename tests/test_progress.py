# SPDX-License-Identifier: Apache-2.0
"""What a command says while it works, what it proposes instead of a wrong name, and what a shell completes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from nncosim.platforms.errors import PlatformError
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb import demo
from nncosim.tb.cli.options import progress as command_progress
from nncosim.tb.system import progress
from nncosim.tb.system.progress import BUILDING, SIMULATING, Cycles, cycles_of, phase_of

DIGITS = Path(demo.__file__).parent.parent / "regress" / "networks" / "digits.onnx"


def test_without_a_terminal_a_line_a_phase(capfd):
    with command_progress() as say:
        for text in ("importing m.onnx", f"{BUILDING}: verilate 0/1", f"{BUILDING}: compile 3/9", "simulating",
                     f"{SIMULATING}: 0 of 9 cycles", f"{SIMULATING}: 5 of 9 cycles", "comparing"):  # fmt: skip
            say(text)
    assert capfd.readouterr() == ("", f"nncosim: {BUILDING}\nnncosim: {SIMULATING}\n")


def test_phases():
    confirming = f"confirming 1 of 2 on rtl (m): {BUILDING}"
    assert phase_of(f"{confirming}: link 0/1") == confirming
    assert phase_of("compiling") == ""


def test_cycles_of_those_expected_and_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    said: list[str] = []
    cycles = Cycles(said.append, 1_000_000)
    cycles("other")
    tell = cycles_of(cycles)
    for now[0], at in ((100.1, 10), (110.0, 250_000), (110.2, 260_000), (140.0, 1_000_001)):
        tell(at)
    assert said[0] == "other" and [text.removeprefix(f"{SIMULATING}: ") for text in said[1:]] == [
        "0 of 1,000,000 cycles", "250,000 of 1,000,000 cycles, 30 s left", "1,000,001 cycles, 1,000,000 were expected"
    ]  # fmt: skip
    assert cycles_of(None) is None and cycles_of(print) is None


@pytest.mark.parametrize(("word", "near"), [("rum", "run"), ("platform", "platforms"), ("docter", "doctor")])
def test_a_command_that_is_nearly_one(command, word, near):
    refused(command(word), f"No such command {word!r}; did you mean {near!r}?")


def test_a_command_that_is_none(command):
    refused(command("xyzzy"), "No such command 'xyzzy'; there are run, debug, replay, compile,")


def test_a_parameter_that_is_nearly_one(command):
    refused(command("run", DIGITS, "--set", "cluster=3"), "no parameter 'cluster'", "did you mean 'clusters'?")
    with pytest.raises(PlatformError, match=r"it has .*clusters[^;]*$"):
        PLATFORM.with_parameters(xyzzy=1)


COMPLETIONS = {
    ("run", "--platform", "j"): {"j3dai"},
    ("run", "--backend", ""): {"rtl", "iss", "netlist"},
    ("run", "--platform", "j3dai", "--driver", ""): {"cocotb", "direct"},
    ("run", "--set", "dmpa_b"): {"dmpa_bits="},
    ("sweep", "m.onnx", "--grid", "dmpa_b"): {"dmpa_bits="},
    ("run", str(DIGITS), "--trace-layer", "xyzzy"): set(),
    ("run", "--trace-layer", ""): set(),
    ("run", "--platform", "nothing", "--set", "c"): set(),
    ("fpga", "--block", "nc"): {"ncb"},
    ("timing", "--block", "n"): {"ncb"},
    ("ca",): {"cache"},
    ("po",): {"power"},
}


def completed(*words: str) -> set[str]:
    environment = {**os.environ, "_NNCOSIM_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("nncosim", *words)),
                   "COMP_CWORD": str(len(words))}  # fmt: skip
    script = "import sys; sys.argv[0] = 'nncosim'; from nncosim.tb.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return {line.partition(",")[2] for line in done.stdout.splitlines() if line}


@pytest.mark.parametrize("words", COMPLETIONS, ids=" ".join)
def test_what_a_shell_completes(words):
    assert completed(*words) == COMPLETIONS[words]


def test_a_shell_completes_layers():
    from nncosim.tb.run.program import read_runnable, read_source

    names = {op.name for op in read_runnable(DIGITS, read_source(DIGITS)).ops}
    assert completed("run", str(DIGITS), "--trace-layer", "") == names and len(names) > 3


def test_the_demo_prints_the_command_that_repeats_it(capfd, monkeypatch, tmp_path):
    run = []

    def invoke(words):
        run.append(words)
        np.savez(tmp_path / "outputs.npz", logits__float=np.eye(10)[9])
        return 0

    monkeypatch.setattr(demo, "invoke", invoke)
    monkeypatch.chdir(DIGITS.parent.parent.parent)
    monkeypatch.setattr(demo.sys, "executable", str(Path.cwd() / ".venv" / "bin" / "python"))
    demo.demo(tmp_path, ["--backend", "iss"])
    text = capfd.readouterr().out
    assert "\n  .venv/bin/nncosim run regress/networks/digits.onnx --platform j3dai --input regress/networks/" in text
    assert text.rstrip().endswith(f"--index 7 --out {tmp_path} --backend iss")
    assert run[0][1] == "regress/networks/digits.onnx"
