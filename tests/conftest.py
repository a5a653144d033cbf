# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several files of tests."""

from collections.abc import Callable

import pytest
from command_line import Result, runner


@pytest.fixture
def command(capfd) -> Callable[..., Result]:
    """Run a command line: `command("run", model, "--seed", 3)` gives (status, stdout, stderr)."""
    return runner(capfd)
