# SPDX-License-Identifier: Apache-2.0
"""Mutants judged in processes of a dask cluster, each with the same sources as here."""

from __future__ import annotations

import functools
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path

from dask.distributed import Client
from nncosim.platforms.registry import get_platform
from nncosim.tb.errors import BenchError
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.mutation.subject import Subject, subject_of
from nncosim.tb.mutation.verdict import Judge, Verdict

__all__ = ["RemoteJudges"]

_lock = threading.Lock()


class RemoteJudges:
    """As `nncosim.tb.mutation.campaign.LocalJudges`, on the workers of a cluster, one mutant a thread of theirs."""

    def __init__(self, client: Client, subject: Subject, limit: float):
        self._client, self._executor = client, client.get_executor(pure=False)
        self._job = (subject.name, subject.sources(), limit)
        self.jobs = sum(client.nthreads().values())

    def prepare(self) -> None:
        """Nothing: each worker does so for itself."""

    def judge(self, mutant: Mutant) -> Future[Verdict]:
        """What becomes of it."""
        future: Future[Verdict] = self._executor.submit(_judged, *self._job, mutant)
        return future

    def debugged(self, mutant: Mutant, verdict: Verdict) -> Future[Verdict]:
        """The verdict with what ``debug`` says."""
        future: Future[Verdict] = self._executor.submit(_debugged, *self._job, mutant, verdict)
        return future

    def stop(self) -> None:
        """Nothing more is started; workers finish what they are at."""
        self._executor.shutdown(wait=False)


# ---- on a worker

def _judged(platform: str, sources: str, limit: float, mutant: Mutant) -> Verdict:
    return _judge(platform, sources, limit).judge(mutant)


def _debugged(platform: str, sources: str, limit: float, mutant: Mutant, verdict: Verdict) -> Verdict:
    return _judge(platform, sources, limit).debugged(mutant, verdict)


def _judge(platform: str, sources: str, limit: float) -> Judge:
    with _lock:  # made once
        return _made(platform, sources, limit)


@functools.cache
def _made(platform: str, sources: str, limit: float) -> Judge:
    subject = subject_of(get_platform(platform))
    if subject.sources() != sources:
        raise BenchError(f"a worker has other sources of the hardware, in {subject.root}, than there are here; bring "
                         "both to the same commit")
    judge = Judge(subject, Path(tempfile.gettempdir()), limit)
    judge.prepare()
    return judge
