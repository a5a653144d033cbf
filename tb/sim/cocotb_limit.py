# SPDX-License-Identifier: Apache-2.0
"""Runs inside the simulator: ends with the process that started it, and ends a test that waits for ever.

The limit is in cycles of the first clock that a test starts, be it cocotb's own or a `FreeClock`. One timer keeps it,
so that it costs nothing a cycle.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

import cocotb
from cocotb import _test_manager
from cocotb._test_manager import TestManager
from cocotb.clock import Clock
from cocotb.task import Task
from cocotb.triggers import Timer
from nncosim.tb.errors import SimulationTimeout
from nncosim.tb.sim.cocotb_runner import LIMIT_VARIABLE
from nncosim.tb.sim.coverage import record_at_exit

__all__ = ["arm", "at_end_of_test", "install"]

_PR_SET_PDEATHSIG = 1
_watched: TestManager | None = None  # the test that has its limit


def install() -> None:
    """Called before the first test is run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    record_at_exit()
    start = Clock.start

    def start_and_arm(self: Clock, start_high: bool = True) -> Task[None]:
        arm(int(self._period_steps))
        return start(self, start_high)

    Clock.start = start_and_arm  # type: ignore[method-assign]


def arm(period_steps: int) -> None:
    """Set the limit of the test that runs, unless it has one. `period_steps`: of its clock, in steps of time."""
    global _watched
    limit = os.environ.get(LIMIT_VARIABLE)
    test = _test_manager._current_test
    if not limit or test is None or test is _watched:
        return
    _watched = test
    cocotb.start_soon(_end(int(limit), period_steps))


def at_end_of_test(call: Callable[[], None]) -> None:
    """Have it called when the test that runs, if any, has ended."""
    test = _test_manager._current_test
    if test is not None:
        test._main_task._add_done_callback(lambda _: call())


async def _end(limit: int, period_steps: int) -> None:
    await Timer(limit * period_steps)
    raise SimulationTimeout(
        f"the test has not ended within {limit} clock cycles\n{_who_waits()}\n  a test that takes longer: "
        "limit_cycles of run_cocotb, or pytest's --limit-cycles (0: none)"
    )


def _who_waits() -> str:
    """Each task that waits, where, and for what."""
    lines = []
    test = _test_manager._current_test
    for task in list(test._tasks) if test is not None else ():
        try:
            stack = task._get_coro_stack()
        except TypeError:
            continue
        own = [frame for frame in stack if os.sep + "cocotb" + os.sep not in frame.filename]
        if not own or own[0].filename == __file__:
            continue
        name, where = getattr(task._coro, "__qualname__", task.get_name()), own[-1]
        lines.append(f"  {name} waits for {task._trigger!r} at {where.filename}:{where.lineno}: {where.line}")
    return "\n".join(lines) or "  no task waits"
