# SPDX-License-Identifier: Apache-2.0
"""Errors of the test bench."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nncosim.platforms.errors import NncosimError

if TYPE_CHECKING:
    import pytest

__all__ = [
    "BenchError", "BuildError", "CacheError", "CapacityError", "CocotbError", "ProtocolError", "SimulationError",
    "SimulationTimeout", "ToolCrash", "ToolError", "UnknownValueError", "hidden",
]  # fmt: skip


def hidden(info: "pytest.ExceptionInfo[BaseException]") -> bool:
    """For a module's `__tracebackhide__`: whether pytest leaves its frames out of a failure's traceback.

    Of the bench's own errors, which tell the user of what the user's code did; a defect here stays in sight. `info`:
    pytest's `ExceptionInfo`.
    """
    return bool(info.errisinstance(NncosimError))


class BenchError(NncosimError):
    """The test bench cannot do what was asked: no such backend, port, memory or build option."""


class ToolError(BenchError):
    """A tool that the bench needs is missing or does not work."""


class ToolCrash(ToolError):
    """A tool that crashed, and did so again: nothing follows for what it was given."""


class CacheError(BenchError):
    """What is built cannot be kept: the cache's folder is none, or cannot be written."""


class BuildError(BenchError):
    """A simulation that did not build. `log` is the complete tool output."""

    def __init__(self, message: str, log: Path):
        super().__init__(message)
        self.log = log


class CapacityError(BenchError):
    """More words than a memory of the bench itself holds, of which a test bench on RTL has some."""


class SimulationError(BenchError):
    """A running simulation stopped: a failed assertion, `$stop`, no convergence."""


class SimulationTimeout(SimulationError):
    """A condition did not come true within the cycles allowed."""


class CocotbError(BenchError):
    """A cocotb run whose tests failed, or that ended without results. `log` is the simulator's output."""

    def __init__(self, message: str, log: Path):
        super().__init__(message)
        self.log = log


class UnknownValueError(BenchError):
    """A waveform has x or z where a number is asked for."""


class ProtocolError(BenchError):
    """A waveform breaks a rule. `violations`: all of them, of which the message has the first few."""

    def __init__(self, message: str, violations: Sequence[object]):
        super().__init__(message)
        self.violations = tuple(violations)
