# SPDX-License-Identifier: Apache-2.0
"""Many points at once: on a cluster of processes of this computer, or on one that runs already (dask.distributed)."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import dask
from dask.distributed import Client, Future, LocalCluster, WorkerPlugin, as_completed
from nncosim.tb.sim.versions import package_version
from nncosim.tb.sweep.sweep import DEFECT, Job, Point, Row, SweepError, run_point
from nncosim.tb.system.processes import kill_all
from nncosim.tb.system.progress import Progress

__all__ = ["connect", "run_points"]

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""

WAIT_SECONDS = 60
"""How long a sweep waits for workers when there are none."""
LOOK_SECONDS = 1.0
"""From one look at the workers to the next."""

LOST = "lost"


class _NoInterrupt(WorkerPlugin):
    """Ctrl-C reaches every process of a terminal: this one ends the others, which say nothing of their own.

    They are ended by SIGTERM, and end the tools that they run.
    """

    def setup(self, worker: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end_worker)


def _end_worker(number: int, frame: object) -> None:
    kill_all()
    os._exit(128 + number)


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
        with _local(workers) as cluster, Client(cluster) as client:
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


def _local(workers: int) -> LocalCluster:
    """Processes of this computer; tried once more where one does not start (killed, no memory)."""
    for last in (False, True):
        try:
            return LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0,
                host="127.0.0.1", silence_logs=logging.CRITICAL,
            )
        except Exception as error:  # dask passes on whatever a process that starts ends with
            if last:
                raise SweepError(f"the {workers} worker processes do not start ({_first_line(error)}); were they "
                                 "killed, or is memory short? Try fewer: --workers 1 uses none") from error  # fmt: skip
    raise AssertionError


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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


def run_points(
    client: Client, points: Sequence[Point], job: Job, progress: Progress | None = None,
    done: Callable[[Row], None] | None = None,
) -> list[Row]:
    """All rows, in the order of `points` whatever the order in which they were finished; `done` gets each at once.

    Where a worker dies, dask gives up what it was to do next, too: those points are run again, one at a time. A point
    that takes its worker with it then, too, is a row of verdict `DEFECT` that says so.

    Raises:
        SweepError: there are no workers any more, and none came for a minute.
    """
    say, keep = progress or (lambda text: None), done or (lambda row: None)
    rows: dict[int, Row] = {}
    lost = []
    futures: dict[Future, Point] = {}
    try:
        shared = _share(client, job)
        futures = {client.submit(run_point, point, shared, pure=False): point for point in points}
        for future in _finished(client, futures, say):
            row = _result(future, futures[future], job)
            if row.verdict == LOST:
                lost.append(futures[future])
            else:
                rows[row.point.number] = row
                keep(row)
            say(f"{len(rows)} of {len(points)} points")
        for point in lost:
            # The job anew: its task may be among what was given up.
            future = client.submit(run_point, point, _share(client, job), pure=False)
            futures[future] = point
            (future,) = _finished(client, [future], say)
            row = _result(future, point, job)
            if row.verdict == LOST:
                row = replace(row, verdict=DEFECT, reason=f"the worker died on it, twice ({row.reason})")
            rows[point.number] = row
            keep(row)
            say(f"{len(rows)} of {len(points)} points")
    finally:
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing to cancel
            client.cancel(list(futures))
    return [rows[point.number] for point in points]


def _share(client: Client, job: Job) -> Future:
    with warnings.catch_warnings():
        # The job is large, and goes to the scheduler once: unlike scattered data it survives the worker that has it.
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        return client.submit(_hold, job, pure=False)


def _finished(client: Client, futures: Iterable[Future], say: Progress) -> Iterator[Future]:
    """Futures as they end; gives up where there is nobody to run them."""
    wanted = list(futures)
    ending = as_completed(wanted)
    left, given_up = len(wanted), []  # what dask gives up, too, where the scheduler is gone
    seen = looked = time.monotonic()
    while left:
        ended = ending.next_batch(block=False)
        given_up += [future for future in ended if future.status in ("cancelled", "lost")]
        now = time.monotonic()
        if now - looked > LOOK_SECONDS:
            looked = now
            if _workers(client):
                seen = now
                ended, given_up = [*ended, *given_up], []
        for future in ended:
            if future not in given_up:
                left -= 1
                yield future
        if now - seen > WAIT_SECONDS:
            raise SweepError(f"there have been no workers for {WAIT_SECONDS} s, and {left} points are left; what is "
                             "done is kept: start workers again, and then the same command")  # fmt: skip
        if now - seen > 3 * LOOK_SECONDS:
            say(f"no workers; waiting {WAIT_SECONDS} s for one")
        if not ended:
            time.sleep(0.02)


def _workers(client: Client) -> int:
    """How many there are; none, too, where the scheduler does not answer."""
    try:
        return len(client.ncores()) if client.status == "running" else 0
    except (OSError, TimeoutError, ValueError):
        return 0


def _result(future: Future, point: Point, job: Job) -> Row:
    """The row of a point; of verdict `LOST` where its worker died, or cannot unpack what it was sent."""
    try:
        return future.result()
    except Exception as error:
        return Row(point, job.subjects[point.subject].name, LOST, reason=f"{type(error).__name__}: {error}")


def _hold(job: Job) -> Job:
    """A task whose result lies with the workers, and which the scheduler can repeat."""
    return job
