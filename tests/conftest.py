# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several files of tests, and an option."""

from collections.abc import Callable

import pytest
from command_line import Result, runner
from nncosim.tb import affected_tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--affected``."""
    affected_tests.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Act on ``--affected``."""
    affected_tests.use_option(config)


@pytest.fixture
def command(capfd) -> Callable[..., Result]:
    """Run a command line: `command("run", model, "--seed", 3)` gives (status, stdout, stderr)."""
    return runner(capfd)
