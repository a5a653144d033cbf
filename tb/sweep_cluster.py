# SPDX-License-Identifier: Apache-2.0
"""Many points at once: on a cluster of processes of this computer, or on one that runs already (dask.distributed)."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import dask
from dask.distributed import Client, Future, LocalCluster, WorkerPlugin, as_completed
from nncosim.tb.sweep import DEFECT, Job, Point, Row, SweepError, run_point
from nncosim.tb.versions import package_version

__all__ = ["connect", "default_workers", "run_points"]

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""

LOST = "lost"
Progress = Callable[[str], None]


def default_workers() -> int:
    """One process for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _NoInterrupt(WorkerPlugin):
    """Ctrl-C reaches every process of a terminal: this one ends the others, which say nothing of their own."""

    def setup(self, worker: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at that address, or of `workers` processes of this computer that end with it.

    Raises:
        SweepError: nobody answers there, or the workers have another version of nncosim.
    """
    with _configured():
        if scheduler is not None:
            with _remote(scheduler) as client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0,
                host="127.0.0.1", silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            client.register_plugin(_NoInterrupt(), name="nncosim-no-interrupt")
            yield client


@contextlib.contextmanager
def _configured() -> Iterator[None]:
    """dask's own messages (a worker starts, a connection ends) are none of the user's."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        # A point whose worker dies is tried again by us, once, not by dask three times.
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            yield
    finally:
        logger.setLevel(before)


def _remote(address: str) -> Client:
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise SweepError(f"no scheduler answers at {address!r} ({error}); start one with `dask scheduler`, or leave "
                         "--scheduler out to use processes of this computer") from error  # fmt: skip
    found = client.run(package_version, "nncosim")
    ours = package_version("nncosim")
    problem = ""
    if not found:
        problem = "has no workers; start some with `dask worker`"
    elif others := sorted({f"{worker}: {version}" for worker, version in found.items() if version != ours}):
        problem = f"has workers with another version of nncosim than {ours} here: {', '.join(others)}"
    if problem:
        client.close()
        raise SweepError(f"the scheduler at {address!r} {problem}")
    return client


def run_points(client: Client, points: Sequence[Point], job: Job, progress: Progress | None = None) -> list[Row]:
    """All rows, in the order of `points` whatever the order in which they were finished.

    Where a worker dies, dask gives up what it was to do next, too: those points are run again, one at a time.
    """
    with warnings.catch_warnings():
        # The job is large, and goes to the scheduler once: unlike scattered data it survives the worker that has it.
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        shared = client.submit(_hold, job, pure=False)
    rows: dict[int, Row] = {}
    lost = []
    futures = {client.submit(run_point, point, shared, pure=False): point for point in points}
    try:
        for future in as_completed(list(futures)):
            point = futures[future]
            row = _result(future, point, job)
            if row.verdict == LOST:
                lost.append(point)
            else:
                rows[point.number] = row
            if progress is not None:
                progress(f"{len(rows)} of {len(points)} points")
        for point in lost:
            row = _result(client.submit(run_point, point, shared, pure=False), point, job)
            rows[point.number] = replace(row, verdict=DEFECT) if row.verdict == LOST else row
    finally:
        client.cancel(list(futures))
    return [rows[point.number] for point in points]


def _result(future: Future, point: Point, job: Job) -> Row:
    """The row of a point; of verdict `LOST` where its worker died, or cannot unpack what it was sent."""
    try:
        return future.result()
    except Exception as error:
        return Row(point, job.subjects[point.subject].name, LOST, reason=f"{type(error).__name__}: {error}")


def _hold(job: Job) -> Job:
    """A task whose result lies with the workers, and which the scheduler can repeat."""
    return job
