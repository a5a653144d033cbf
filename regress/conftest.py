# SPDX-License-Identifier: Apache-2.0
"""Fixtures and options of the regressions: see nncosim.tb.pytest_plugin."""

from collections.abc import Generator
from importlib import import_module

import pytest
from nncosim.regress import block_backend, harness
from nncosim.tb import affected_tests, pytest_plugin
from nncosim.tb.pytest_plugin import (
    driver,
    pytest_generate_tests,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_unconfigure,
    rng,
    rtl_bench,
    seed,
)

__all__ = ["driver", "folders_of_bundles", "pytest_addoption", "pytest_configure", "pytest_generate_tests",
           "pytest_runtest_makereport", "pytest_runtest_setup", "pytest_sessionfinish", "pytest_terminal_summary",
           "pytest_unconfigure", "rng", "rtl_bench", "seed", "waveforms_of_networks"]


LONG = ("test_timing.py", "test_zoo.py")
"""Files that begin first. Of several processes, one without work takes it from the end of another's: there the tests
that share a file's long work would be torn apart and wait for each other, and the last of all would keep one busy."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of every bench, ``--update-baselines``, ``--debug-failures`` and ``--affected``."""
    pytest_plugin.pytest_addoption(parser)
    affected_tests.add_option(parser)
    group = parser.getgroup("nncosim")
    group.addoption("--update-baselines", action="store_true", help="write this run's cycles to regress/baselines.json")
    group.addoption("--debug-failures", action="store_true",
                    help="of a failed test's last run of a network that failed: its story, and a debug bundle")


_FOLDERS: pytest.StashKey[pytest.TempPathFactory] = pytest.StashKey()


@pytest.fixture(scope="session", autouse=True)
def folders_of_bundles(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where bundles go."""
    pytestconfig.stash[_FOLDERS] = tmp_path_factory


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """With ``--debug-failures``, what `nncosim.regress.harness` runs from now on is this test's, its fixtures' too."""
    harness.FAILED = [] if item.config.getoption("--debug-failures") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of every bench, and with ``--debug-failures`` the story of the last run that failed, while its RTL is there."""
    report = yield from pytest_plugin.pytest_runtest_makereport(item, call)
    if report.failed and harness.FAILED:
        last = harness.FAILED.pop()
        harness.FAILED.clear()
        directory = item.config.stash[_FOLDERS].mktemp(f"debug_{_plain(item.name)}")
        # By a name that is put together: no test depends on what its failure is told with (`nncosim.tb.affected`).
        failures = import_module(f"{harness.__package__}.failures")
        report.sections.append(("debug", "\n".join(failures.story_of_failure(last, directory))))
    return report


def _plain(name: str) -> str:
    """A test's name as that of a folder."""
    return "".join(c if c.isalnum() else "_" for c in name)[:60]


def pytest_configure(config: pytest.Config) -> None:
    """Act on ``--affected``, ``--coverage`` and, of single blocks, ``--backend netlist``."""
    block_backend.GATES = config.getoption("--backend") == "netlist"
    pytest_plugin.pytest_configure(config)
    affected_tests.use_option(config)


@pytest.fixture(autouse=True)
def waveforms_of_networks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
                          monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--waves``, networks that `nncosim.regress.harness` runs on the RTL leave waveforms in a folder."""
    if request.config.getoption("--waves"):
        monkeypatch.setattr(harness, "WAVES", tmp_path_factory.mktemp(f"waves_{_plain(request.node.name)}"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run when asked for: by ``-m``, by ``-k``, or by name. Long work begins first."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if config.option.markexpr or config.option.keyword or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
