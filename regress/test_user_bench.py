# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin as a project of a user's own has it: fixture, options, repetition of a failure."""

import subprocess
import sys

import pytest

CONFTEST = 'pytest_plugins = ["nncosim.tb.pytest_plugin"]\n'
BENCH = '''
import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.tb.cocotb_bench import FreeClock, reset, rng, seed
from nncosim.tb.streams import Streams, random_pauses

class Doubler(wiring.Component):
    i: In(stream.Signature(8))
    o: Out(stream.Signature(9))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.o.payload.eq(self.i.payload * 2), self.o.valid.eq(self.i.valid),
                     self.i.ready.eq(self.o.ready)]
        return m

def test_directly(rtl_bench):
    with rtl_bench(Doubler()).model() as model:
        model.i__payload = 100
        assert model.o__payload == 200

def test_streams(rtl_bench):
    rtl_bench(Doubler()).run(__name__, tests=["doubles"])

def test_backend(backend, driver, seed, rng):
    print(f"on {backend} {driver} {seed} {rng.integers(1000)}")

def test_fails(seed):
    assert seed == 0

@cocotb.test()
async def doubles(dut):
    FreeClock(dut.clk, 10).start()
    streams = Streams(dut, Doubler())
    await reset(dut)
    values = [rng("values").randrange(256) for _ in range(50)]
    streams["i"].pause = random_pauses(rng("source"), 0.3)
    streams["o"].pause = random_pauses(rng("sink"), 0.3)
    streams["i"].put(values)
    assert await streams["o"].receive(50) == [2 * value for value in values]
'''


@pytest.fixture
def project(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_doubler.py").write_text(BENCH)
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
