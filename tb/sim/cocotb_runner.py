# SPDX-License-Identifier: Apache-2.0
"""The cocotb driver: a cocotb test module run over a built simulation, in a process of its own."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cocotb_tools.config
import find_libpython
from nncosim.platforms.plain import Json
from nncosim.tb.errors import BenchError, CacheError, CocotbError, ToolError, hidden
from nncosim.tb.sim.model import runtime_arguments, trace_conditions
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.system.processes import started, wait_for

__all__ = ["LIMIT_CYCLES", "CocotbResults", "CocotbTest", "run_cocotb"]

LIMIT_CYCLES = 10_000_000
"""Clock cycles after which a test that has not ended has failed, where nothing else is asked for."""

__tracebackhide__ = hidden

ARGUMENTS_VARIABLE = "NNCOSIM_BENCH_ARGUMENTS"
"""Environment variable with the path of the JSON file that `nncosim.tb.cocotb_bench.arguments` reads."""


ENTRY_POINTS = ("cocotb_tools._coverage:start_cocotb_library_coverage", "cocotb.logging:_configure",
                "cocotb._init:init_package_from_simulation", "nncosim.tb.sim.cocotb_limit:install",
                "cocotb.regression:_run_regression")
"""What runs in the simulator's Python: cocotb's own, in its order, and ours before the first test."""
LIMIT_VARIABLE = "NNCOSIM_LIMIT_CYCLES"
"""Environment variable with the limit that `nncosim.tb.sim.cocotb_limit` keeps; empty for none."""


@dataclass(frozen=True)
class CocotbTest:
    """One cocotb test: `failure` is None, or the message and traceback."""

    name: str
    failure: str | None
    wall_seconds: float


@dataclass(frozen=True)
class CocotbResults:
    """What a cocotb run gave.

    Attributes:
        tests: In the order they ran.
        log: The simulator's output.
        directory: Working directory of the run; the tests may leave files there.
    """

    tests: tuple[CocotbTest, ...]
    log: Path
    directory: Path

    @property
    def failures(self) -> tuple[CocotbTest, ...]:
        """The tests that failed."""
        return tuple(test for test in self.tests if test.failure is not None)


def run_cocotb(
    built: BuiltModel,
    test_module: str,
    directory: Path,
    *,
    tests: Sequence[str] = (),
    seed: int = 1,
    arguments: Mapping[str, Json] | None = None,
    plusargs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    trace: Path | None = None,
    trace_window: tuple[int, int] | None = None,
    trace_when: Mapping[str, tuple[int, int]] | None = None,
    check: bool = True,
    limit_cycles: int | None = LIMIT_CYCLES,
    watch: Callable[[], None] | None = None,
    keep_log: Path | None = None,
) -> CocotbResults:
    """Run the cocotb tests of a Python module.

    Args:
        built: The simulation.
        test_module: Importable name of the module, from this process's `sys.path`.
        directory: Created if need be; receives ``cocotb.log``, ``results.xml`` and what the tests write.
        tests: Names of the test functions to run; all when empty.
        seed: Of cocotb's and the tests' random numbers, and of unknown values.
        arguments: JSON data that the tests read with `nncosim.tb.cocotb_bench.arguments`.
        plusargs: For `$value$plusargs`, without the plus sign.
        environment: Further environment variables.
        trace: Waveform file to write; the model must be built with `trace=`.
        trace_window: First and one past the last clock cycle traced, of those that `Backdoor.cycles` counts.
        trace_when: Port to (low, high): only cycles in which low <= port < high are traced.
        check: Whether a failed test raises.
        limit_cycles: Clock cycles, of the first clock that a test starts, after which the test fails and says who
            waits for what; None for no limit.
        watch: Called some times a second while the simulator runs.
        keep_log: Where the log is copied to before an error names it, for a `directory` that does not stay.

    Raises:
        CocotbError: If a test failed and `check` is set, or the run left no results.
        ToolError: If this Python has no shared library to embed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    results_file, log = directory / "results.xml", directory / "cocotb.log"
    results_file.unlink(missing_ok=True)
    if limit_cycles is not None and limit_cycles < 0:
        raise BenchError(f"limit_cycles is {limit_cycles}; give a number of clock cycles, or None for no limit")
    arguments_file = directory / "arguments.json"
    arguments_file.write_text(json.dumps(dict(arguments or {})))
    variables = _environment(built, test_module, seed, tests)
    variables |= {"COCOTB_RESULTS_FILE": str(results_file.resolve()), ARGUMENTS_VARIABLE: str(arguments_file.resolve())}
    variables[LIMIT_VARIABLE] = str(limit_cycles or "")
    if trace is not None:
        if built.options.trace is None:
            raise CocotbError(f"{built.top!r} was built without waveforms; build it with trace='vcd' or 'fst'", log)
        variables["NNCOSIM_TRACE"] = str(trace.resolve())
        if trace_window is not None:
            variables["NNCOSIM_TRACE_START"], variables["NNCOSIM_TRACE_STOP"] = map(str, trace_window)
        variables["NNCOSIM_TRACE_WHEN"] = trace_conditions(trace_when)
    command = [str(built.executable), *runtime_arguments(seed), *(f"+{argument}" for argument in plusargs)]
    try:
        status = _execute(command, directory, _with_libraries(variables | dict(environment or {})), log, watch)
        return _results(built, test_module, directory, log, tests, seed, status, check)
    except CocotbError as error:
        if keep_log is None:
            raise
        keep_log.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, keep_log)
        raise CocotbError(str(error).replace(str(log), str(keep_log)), keep_log) from None


def _results(built: BuiltModel, test_module: str, directory: Path, log: Path, tests: Sequence[str], seed: int,
             status: int, check: bool) -> CocotbResults:
    results_file = directory / "results.xml"
    if not results_file.is_file():
        raise CocotbError(f"the simulator of {built.top!r} ended with status {status} and no results:\n"
                          f"{_tail(log)}\n  full log: {log}", log)
    results = CocotbResults(_parse(results_file), log, directory)
    if check and not results.tests:
        raise CocotbError(f"{test_module} has no cocotb test{' named ' + ', '.join(tests) if tests else ''}", log)
    if check and (results.failures or status):
        raise CocotbError(_describe(results, test_module, seed, status), log)
    return results


def _environment(built: BuiltModel, test_module: str, seed: int, tests: Sequence[str]) -> dict[str, str]:
    """What cocotb's libraries read when the simulator starts."""
    libpython = find_libpython.find_libpython()
    if libpython is None:
        raise ToolError("cocotb needs Python's shared library (libpython3.x.so), and this Python has none; "
                        "use a Python built with --enable-shared (Debian: apt-get install libpython3-dev)")
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython};{cocotb_tools.config.pygpi_entry_point()}",
        "PYGPI_USERS": ",".join(ENTRY_POINTS),
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TOPLEVEL": built.top,
        "COCOTB_TEST_MODULES": test_module,
        "COCOTB_RANDOM_SEED": str(seed),
        # Writes take effect in the simulator's own write region, which also lets cocotb's clock run in C++.
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
    }
    if tests:
        variables["COCOTB_TEST_FILTER"] = r"(^|\.)(" + "|".join(tests) + r")(/.*)?$"
    return variables


def _with_libraries(variables: Mapping[str, str]) -> dict[str, str]:
    """With cocotb's own libraries before all that are to be found: those of this Python, whichever built the model."""
    folders = (str(cocotb_tools.config.libs_dir), variables.get("LD_LIBRARY_PATH", ""))
    return {**variables, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders))}


def _execute(command: list[str], directory: Path, variables: Mapping[str, str], log: Path,
             watch: Callable[[], None] | None) -> int:
    if not os.access(command[0], os.X_OK):
        raise CacheError(f"the built simulation {command[0]} is gone, or may not be run; start again, and it is built")
    with log.open("w") as output, started(command, cwd=directory, env=variables, output=output) as process:
        return wait_for(process, watch)


def _parse(path: Path) -> tuple[CocotbTest, ...]:
    found = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        failure = None
        for kind in ("failure", "error"):
            for node in case.findall(kind):
                failure = "\n".join(part for part in (node.get("message"), node.text) if part) or kind
        if case.find("skipped") is None:
            found.append(CocotbTest(case.get("name", "?"), failure, float(case.get("time", 0))))
    return tuple(found)


def _describe(results: CocotbResults, test_module: str, seed: int, status: int) -> str:
    lines = [f"{len(results.failures)} of {len(results.tests)} cocotb tests of {test_module} failed (seed {seed}):"]
    for test in results.failures:
        lines += [f"  {test.name}: {test.failure}"]
    # What the shim says when an assertion or a fatal error ended the simulation.
    output = results.log.read_text(errors="replace").splitlines()
    lines += [f"  {line}" for line in output if line.startswith("nncosim: ")]
    if not results.failures:
        lines += [f"  the simulator ended with status {status}", _tail(results.log)]
    return "\n".join([*lines, f"  full log: {results.log}"])


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])
