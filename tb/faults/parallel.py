# SPDX-License-Identifier: Apache-2.0
"""Many flips at once: processes of this computer, each with the one built simulation loaded."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from nncosim.tb.errors import BenchError
from nncosim.tb.fault_target import FaultTarget
from nncosim.tb.faults.injector import Injector
from nncosim.tb.faults.model import Flip
from nncosim.tb.faults.outcomes import Injection

__all__ = ["run_flips"]

_injector: Injector | None = None
"""That of a worker process."""


def run_flips(target: FaultTarget, limit: int, seed: int, flips: Sequence[Flip], jobs: int) -> Iterator[Injection]:
    """What comes of each flip, as it is known. Every one begins with the same state, so the order does not matter.

    Args:
        jobs: processes; with one it is this process.

    Raises:
        BenchError: a bit that did not turn, or a process that died.
    """
    jobs = min(jobs, len(flips))
    if jobs <= 1:
        if flips:
            injector = Injector(target, limit, seed)
            yield from map(injector.run, flips)
            injector.close()
        return
    # Spawned: a fork of a process with threads may hang, and a simulation belongs to the process that made it.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (target, limit, seed))
    try:
        for future in as_completed([pool.submit(_run, flip) for flip in flips]):
            yield future.result()
    except BrokenProcessPool as problem:
        raise BenchError(f"a process that injects faults died: {problem}; --jobs 1 shows where") from problem
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()


def _begin(target: FaultTarget, limit: int, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, it reaches all: the one that waits ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    global _injector
    _injector = Injector(target, limit, seed)


def _run(flip: Flip) -> Injection:
    assert _injector is not None
    return _injector.run(flip)
