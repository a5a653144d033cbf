# SPDX-License-Identifier: Apache-2.0
"""README's examples as a user copies them; the pytest plugin's fixture, options and repetition of a failure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = 'pytest_plugins = ["nncosim.tb.pytest_plugin"]\n'
# The bench and the prompt's lines are README's own, as they stand there.
README = (Path(__file__).parents[1] / "README.md").read_text()
BENCH, PROMPT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
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


def test_numbers_depend_on_the_seed_alone(project):
    def numbers(seed: str) -> list[str]:
        lines = run(project, "-k", "test_backend", "--seed", seed).splitlines()
        return [line.split()[-1] for line in lines if line.startswith("on ")]
    assert numbers("3") == numbers("3") != numbers("4")


def test_prompt(tmp_path):
    ran = subprocess.run([sys.executable, "-i"], input=PROMPT, cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "10" and "Error" not in ran.stderr, ran.stderr
    assert not list(tmp_path.iterdir())
