# SPDX-License-Identifier: Apache-2.0
"""Fixtures and options of the regressions: see nncosim.tb.pytest_plugin."""

import pytest
from nncosim.regress import harness
from nncosim.tb import affected_tests, pytest_plugin
from nncosim.tb.pytest_plugin import driver, pytest_generate_tests, pytest_runtest_makereport, rng, rtl_bench, seed

__all__ = ["driver", "pytest_addoption", "pytest_generate_tests", "pytest_runtest_makereport", "rng", "rtl_bench",
           "seed", "waveforms_of_networks"]


LONG = ("test_timing.py", "test_zoo.py")
"""Files that begin first. Of several processes, one without work takes it from the end of another's: there the tests
that share a file's long work would be torn apart and wait for each other, and the last of all would keep one busy."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of every bench, ``--update-baselines`` and ``--affected``."""
    pytest_plugin.pytest_addoption(parser)
    affected_tests.add_option(parser)
    group = parser.getgroup("nncosim")
    group.addoption("--update-baselines", action="store_true", help="write this run's cycles to regress/baselines.json")


def pytest_configure(config: pytest.Config) -> None:
    """Act on ``--affected``."""
    affected_tests.use_option(config)


@pytest.fixture(autouse=True)
def waveforms_of_networks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
                          monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--waves``, networks that `nncosim.regress.harness` runs on the RTL leave waveforms in a folder."""
    if request.config.getoption("--waves"):
        name = "".join(c if c.isalnum() else "_" for c in request.node.name)[:60]
        monkeypatch.setattr(harness, "WAVES", tmp_path_factory.mktemp(f"waves_{name}"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run when asked for: by ``-m``, by ``-k``, or by name. Long work begins first."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if config.option.markexpr or config.option.keyword or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
