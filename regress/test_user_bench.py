# SPDX-License-Identifier: Apache-2.0
"""README's examples as a user copies them; the pytest plugin's fixture, options and repetition of a failure."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nncosim.tb.waves.rules import check, payload_stable
from nncosim.tb.waves.streams import stream_of
from nncosim.tb.waves.wave import Wave

CONFTEST = 'pytest_plugins = ["nncosim.tb.pytest_plugin"]\n'
# The bench and the prompt's lines are README's own, as they stand there.
README = (Path(__file__).parents[1] / "README.md").read_text()
BENCH, PROMPT, WAVEFORM = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MORE_TESTS = '''
def test_backend(backend, driver, seed, rng):
    print(f"on {backend} {driver} {seed} {rng.integers(1000)}")

def test_fails(seed):
    assert seed == 0
'''


@pytest.fixture
def project(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_doubler.py").write_text(BENCH + MORE_TESTS)
    return tmp_path


def run(project, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True).stdout


def test_bench_and_repetition(project):
    output = run(project, "--seed", "5", "--driver", "direct")
    assert "4 passed" in output and "1 failed" in output
    assert "seed 5; repeat with:\n  pytest test_doubler.py::test_fails --seed 5 --driver direct\n" in output
    assert "on iss direct 5" in output and "on rtl direct 5" in output


def test_options(project):
    output = run(project, "--backend", "rtl", "-k", "test_backend or test_fails")
    assert "on rtl cocotb 1" in output and "on iss" not in output
    assert "pytest test_doubler.py::test_fails --seed 1 --backend rtl\n" in output


def test_waves(project):
    output = run(project, "--waves", "-k", "test_directly or test_streams", "--basetemp", str(project / "out"))
    assert "2 passed" in output
    assert len(list((project / "out").glob("*0/doubler/doubler.vcd"))) == 2


def test_transactions_of_a_cocotb_bench(project):
    """What cocotb sends and receives is what its waveform shows at the clock's edges, stalls included."""
    run(project, "--seed", "5", "--waves", "-k", "test_streams", "--basetemp", str(project / "out"))
    (path,) = (project / "out").glob("*0/doubler/doubler.vcd")
    clock = Wave.open(path).clocked("clk")
    sent, received = stream_of(clock, "i", 8), stream_of(clock, "o", 9)
    check(payload_stable(sent), payload_stable(received))
    numbers = random.Random("5/values")
    values = [numbers.randrange(256) for _ in range(50)][:-1]  # the edge at which the bench ends is not in the file
    assert [each.payload for each in sent.transactions()] == values
    assert [each.payload for each in received.transactions()] == [2 * value for value in values]
    assert sum(each.stalls for each in received.transactions()) > 10

WRONG = '''
def test_too_large(rtl_bench):
    with rtl_bench(Doubler()).model() as model:
        model.i__payload = 256

def test_fails_in_the_simulator(rtl_bench):
    rtl_bench(Doubler()).run(__name__, tests=["is_wrong"])

def test_defect(rtl_bench):
    with rtl_bench(Doubler()).model() as model:
        model.tick("many")

@cocotb.test()
async def is_wrong(dut):
    FreeClock(dut.clk, 10).start()
    await reset(dut)
    assert dut.o__payload.value == 511, "this is what is wrong"
'''


def test_a_failure_points_into_the_bench(project):
    """Not into frames of nncosim; it names the waveform, and repeats with one. A defect of ours stays in sight."""
    (project / "test_doubler.py").write_text(BENCH + WRONG)
    options = ("--waves", "-k", "too_large or fails_in or defect", "--basetemp", str(project / "out"))
    output = run(project, *options)
    assert "3 failed" in output
    large, simulator, defect = (output.partition(f"_ {name} _")[2].partition("\n___")[0] for name in (
        "test_too_large", "test_fails_in_the_simulator", "test_defect"))
    assert "model.i__payload = 256" in large and "holds 0 to 255, not 256" in large
    assert "model.py" not in large and "pytest_plugin.py" not in large
    assert 'tests=["is_wrong"]' in simulator and "this is what is wrong" in simulator
    assert "cocotb_runner.py" not in simulator and "pytest_plugin.py" not in simulator
    assert "model.py" in defect
    for text, name in ((large, "test_too_large"), (simulator, "test_fails_in_the_simulator")):
        (path,) = (project / "out").glob(f"{name}0/doubler/doubler.vcd")
        assert f"{path}, {path.stat().st_size:,} bytes; open it with: gtkwave {path}" in text
        assert f"pytest test_doubler.py::{name} --seed 1 --waves\n" in text


def test_numbers_depend_on_the_seed_alone(project):
    def numbers(seed: str) -> list[str]:
        lines = run(project, "-k", "test_backend", "--seed", seed).splitlines()
        return [line.split()[-1] for line in lines if line.startswith("on ")]
    assert numbers("3") == numbers("3") != numbers("4")


def test_prompt(tmp_path):
    ran = subprocess.run([sys.executable, "-i"], input=PROMPT, cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "10" and "Error" not in ran.stderr, ran.stderr
    assert not list(tmp_path.iterdir())


def test_waveform(tmp_path):
    """Two stalls before each transfer but the first; what number 9 waits are the cycles before its transfer."""
    ran = subprocess.run([sys.executable, "-i"], input=WAVEFORM, cwd=tmp_path, capture_output=True, text=True)
    assert "Error" not in ran.stderr, ran.stderr
    begin, end, stalls, spans = ran.stdout.splitlines()[-1].split(" ", 3)
    assert (int(end) - int(begin), int(stalls)) == (2, 2) and spans == f"[({begin}, {end})]"
