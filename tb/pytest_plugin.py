# SPDX-License-Identifier: Apache-2.0
"""Pytest options and fixtures for benches of RTL blocks.

In a project of your own, put ``pytest_plugins = ["nncosim.tb.pytest_plugin"]`` into the top `conftest.py`. A bench
for a block then is (README has a whole one):

    def test_adder_directly(rtl_bench):               # a Python object to poke
        with rtl_bench(Adder(8)).model() as model:
            model.a, model.b = 3, 4
            assert model.sum == 7

    def test_adder_streams(rtl_bench):                # the cocotb tests of this module
        rtl_bench(Adder(8)).run(__name__, tests=["adds"])

Give cocotb tests names that do not start with `test_`, so that pytest leaves them to cocotb.

Options: ``--seed N`` (of every random number; shown with the command that repeats a failed test), ``--backend iss|rtl``
(tests with a `backend` argument run on it only), ``--driver cocotb|direct``, ``--waves`` (write a waveform),
``--limit-cycles N`` (a bench that runs longer has failed, and it is said who waits for what; 0 for no limit),
``--coverage DIR`` (which lines of RTL were reached and which bits toggled, in all simulations, by module and by
Amaranth source: tables at the end, and ``coverage.json`` there; simulations are built for it, and slower).
"""

import gc
import re
import shlex
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.lib import wiring
from nncosim.hdl.emit import emit_design
from nncosim.platforms.plain import Json
from nncosim.tb.coverage import collect
from nncosim.tb.errors import BenchError, hidden
from nncosim.tb.sim.cocotb_runner import LIMIT_CYCLES, CocotbResults, run_cocotb
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuildOptions, BuiltModel, build
from rich.console import Console

__all__ = ["BlockBench", "driver", "pytest_addoption", "pytest_configure", "pytest_generate_tests",
           "pytest_runtest_makereport", "pytest_sessionfinish", "pytest_terminal_summary", "pytest_unconfigure", "rng",
           "rtl_bench", "seed"]

__tracebackhide__ = hidden  # a failure points into the bench, not into these frames

BACKENDS = ("iss", "rtl")
DRIVERS = ("cocotb", "direct")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register ``--seed``, ``--backend``, ``--driver`` and ``--waves``."""
    group = parser.getgroup("nncosim")
    group.addoption("--seed", type=int, default=1, help="seed of all random stimuli (default 1)")
    group.addoption("--backend", choices=(*BACKENDS, "netlist"),
                    help="run on this backend only (default: on iss and rtl)")
    group.addoption("--driver", choices=DRIVERS, help="what drives the RTL (default: cocotb, or what a test prefers)")
    group.addoption("--limit-cycles", type=int, default=LIMIT_CYCLES, metavar="N",
                    help=f"clock cycles after which an RTL bench has failed; 0: no limit (default {LIMIT_CYCLES})")
    group.addoption("--coverage", metavar="DIR", help="line and toggle coverage of all RTL, added up there")
    group.addoption("--waves", action="store_true", help="write waveforms of RTL benches, in the test's folder")


def pytest_configure(config: pytest.Config) -> None:
    """With ``--coverage``, simulations of this process, and of those that it starts, are built for it."""
    folder = config.getoption("--coverage")
    if folder is not None:
        try:
            collect.start(Path(folder))
        except BenchError as error:
            raise pytest.UsageError(f"--coverage: {error}") from error


def pytest_unconfigure(config: pytest.Config) -> None:
    """What comes after is built as usual."""
    if config.getoption("--coverage") is not None:
        collect.stop()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Simulations that nobody holds leave what they have counted."""
    gc.collect()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The tables of ``--coverage``."""
    if config.getoption("--coverage") is None or hasattr(config, "workerinput"):  # a process of pytest-xdist
        return
    collect.report(Path(config.getoption("--coverage")), Console(width=160, file=terminalreporter._tw._file))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `backend` runs once on each backend, or on the one of ``--backend``."""
    if "backend" in metafunc.fixturenames and not any(
            "backend" in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize")):
        chosen = metafunc.config.getoption("--backend")
        metafunc.parametrize("backend", [chosen] if chosen else list(BACKENDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed, the command that repeats a failed test, and the waveforms that it wrote."""
    report = yield
    if report.failed:
        report.sections.append(("seed and repetition", repetition(item)))
        written = [text for bench in item.stash.get(_BENCHES, []) for text in bench.written()]
        if written:
            report.sections.append(("waveforms", "\n".join(written)))
    return report


def repetition(item: pytest.Item) -> str:
    """The seed of a test run, and the shell command that runs this test again in the same way."""
    options = item.config.option
    command = ["pytest", item.nodeid, "--seed", str(options.seed)]
    # Where nothing was asked for, leaving it out repeats what ran.
    command += ["--driver", options.driver] if options.driver else []
    if options.backend:
        command += ["--backend", options.backend]
    command += ["--waves"] if options.waves else []
    return f"seed {options.seed}; repeat with:\n  {shlex.join(command)}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run, ``--seed``."""
    return int(request.config.getoption("--seed"))


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> np.random.Generator:
    """A numpy generator of this test's own: it depends on ``--seed`` and the test's name, not on other tests."""
    return np.random.default_rng([seed, zlib.crc32(request.node.nodeid.rpartition("/")[2].encode())])


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> str:
    """What drives the RTL: "cocotb" or "direct"."""
    return str(request.config.getoption("--driver") or "cocotb")


_BENCHES: pytest.StashKey[list["BlockBench"]] = pytest.StashKey()
"""The benches of a test."""


class BlockBench:
    """A built block, ready to be driven either way.

    `limit_cycles`: of every run; None for no limit.
    """

    def __init__(self, built: BuiltModel, directory: Path, seed: int, limit_cycles: int | None = LIMIT_CYCLES):
        self.built, self.directory, self.seed, self.limit_cycles = built, directory, seed, limit_cycles

    @property
    def waves(self) -> Path | None:
        """Where the waveform goes, if one is written."""
        kind = self.built.options.trace
        return self.directory / f"{self.built.top}.{kind}" if kind else None

    def written(self) -> list[str]:
        """What there is of a waveform: the file, its size, the command that shows it."""
        path = self.waves
        if path is None or not path.is_file():
            return []
        return [f"{path}, {path.stat().st_size:,} bytes; open it with: {shlex.join(['gtkwave', str(path)])}"]

    def model(self, **options: Any) -> Model:
        """A running simulation under the direct driver; `options` as of `nncosim.tb.sim.model.Model`."""
        model = Model(self.built, **({"seed": self.seed, "limit_cycles": self.limit_cycles} | options))
        if self.waves is not None:
            model.trace(self.waves)
        return model

    def run(self, test_module: str, *, tests: Sequence[str] = (), arguments: Mapping[str, Json] | None = None,
            **options: Any) -> CocotbResults:
        """Run the cocotb tests of a module; `options` as of `nncosim.tb.sim.cocotb_runner.run_cocotb`.

        Raises:
            CocotbError: If a test fails.
        """
        options = {"limit_cycles": self.limit_cycles} | options
        return run_cocotb(self.built, test_module, self.directory, tests=tests, seed=self.seed,
                          arguments=arguments, trace=self.waves, **options)


@pytest.fixture
def rtl_bench(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Callable[..., BlockBench]:
    """Builds a block (once; the build is cached) and returns its `BlockBench`.

    ``rtl_bench(component, name=None, options=None, **build_arguments)``: `name` is the Verilog module's (the class
    name in lower case), `options` a `BuildOptions`, the rest goes to `nncosim.tb.sim.verilate.build`.
    """
    waves = bool(request.config.getoption("--waves"))
    limit = request.config.getoption("--limit-cycles") or None

    def make(component: wiring.Component, name: str | None = None, options: BuildOptions | None = None,
             **arguments: Any) -> BlockBench:
        top = name or re.sub(r"(?<!^)(?=[A-Z])", "_", type(component).__name__).lower()
        chosen = options or BuildOptions()
        if waves and chosen.trace is None:
            chosen = replace(chosen, trace="vcd")
        built = build(emit_design(component, top), top, options=chosen, **arguments)
        directory = tmp_path / top
        directory.mkdir(exist_ok=True)
        bench = BlockBench(built, directory, seed, limit)
        request.node.stash.setdefault(_BENCHES, []).append(bench)
        return bench

    return make
