# SPDX-License-Identifier: Apache-2.0
"""Many mutants: some at a time, each verdict kept as it comes, so that a campaign that was interrupted goes on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from nncosim.platforms.plain import Json
from nncosim.tb.errors import BenchError
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.mutation.overlay import OVERLAY
from nncosim.tb.mutation.subject import Subject
from nncosim.tb.mutation.verdict import COUNTED, EQUIVALENT, Judge, Verdict
from nncosim.tb.system.files import OutputError
from nncosim.tb.system.progress import Progress

__all__ = ["VERDICTS", "Judged", "Judges", "LocalJudges", "Reviewed", "judged_json", "read_reviewed", "run_campaign"]

VERDICTS = "verdicts.jsonl"
"""File of --out: a line for what was judged, then a line a verdict."""


@dataclass(frozen=True)
class Judged:
    """A mutant and what became of it. reason: why it is equivalent, where it is."""

    mutant: Mutant
    verdict: Verdict
    reason: str = ""


# ---- mutants that a reader has found to do the same as the design

@dataclass(frozen=True)
class Reviewed:
    """file, before, after: as of `Mutant`. reason: why nothing can tell them apart."""

    file: str
    before: str
    after: str
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        return (self.file, self.before, self.after) == (mutant.file, mutant.before, mutant.after)


def read_reviewed(path: Path | None) -> list[Reviewed]:
    """The entries of a file such as `regress/mutants_equivalent.json`; [] without one.

    Raises:
        BenchError: it is something else, or an entry has no reason.
    """
    if path is None or not path.is_file():
        return []
    try:
        entries = [Reviewed(**entry) for entry in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise BenchError(f"{path} is no list of file, before, after and reason: {error}") from error
    if not all(entry.reason for entry in entries):
        raise BenchError(f"{path} has an entry without a reason")
    return entries


# ---- what is kept

def judged_json(judged: Judged) -> dict[str, Json]:
    """As it is kept and reported."""
    mutant = judged.mutant
    return {"key": mutant.key, "block": mutant.block, "kind": mutant.kind, "file": mutant.file,
            "line": mutant.edit.line, "before": mutant.before, "after": mutant.after,
            **asdict(judged.verdict), "reason": judged.reason}  # fmt: skip


class _Kept:
    """The file of verdicts. Those of other sources of hardware do not count for these."""

    def __init__(self, path: Path, subject: Subject):
        self.path, self._lock = path, threading.Lock()
        self._head = {"subject": subject.name, "sources": subject.sources()}

    def load(self, mutants: Sequence[Mutant], resume: bool) -> dict[str, Verdict]:
        """Verdicts by the mutants' keys.

        Raises:
            OutputError: there is such a file, and it is of other sources, or is not to be resumed.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self._head) + "\n")
            return {}
        if not resume:
            raise OutputError(f"{self.path} has verdicts already; go on with --resume, or give another --out")
        lines = [_line(text) for text in self.path.read_text(errors="replace").splitlines()]
        if not lines or lines[0] != self._head:
            raise OutputError(f"{self.path} is of another platform, or the sources have changed; give another --out")
        if not self.path.read_text(errors="replace").endswith("\n"):  # cut off
            with self.path.open("a") as file:
                file.write("\n")
        known = {mutant.key for mutant in mutants}
        names = set(Verdict.__dataclass_fields__)
        return {line["key"]: Verdict(**{name: line[name] for name in names}) for line in lines[1:]
                if line.get("key") in known and names <= set(line)}  # fmt: skip

    def add(self, judged: Judged) -> None:
        with self._lock, self.path.open("a") as file:
            file.write(json.dumps(judged_json(judged)) + "\n")


def _line(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:  # cut off
        return {}
    return found if isinstance(found, dict) else {}


# ---- running it

class Judges(Protocol):
    """Who judges, as many as `jobs` at a time."""

    jobs: int

    def prepare(self) -> None: ...

    def judge(self, mutant: Mutant) -> Future[Verdict]: ...

    def debugged(self, mutant: Mutant, verdict: Verdict) -> Future[Verdict]: ...

    def stop(self) -> None: ...


class LocalJudges:
    """Judges in threads of this process; what they run are processes of this computer.

    Args:
        scratch: folder for what mutants need while they run. jobs: mutants at a time. limit: seconds of a stage.
    """

    def __init__(self, subject: Subject, scratch: Path, jobs: int, limit: float):
        for left_behind in scratch.glob(f"{OVERLAY}*"):  # by a campaign that was killed
            shutil.rmtree(left_behind, ignore_errors=True)
        self.jobs, self._judge, self._pool = jobs, Judge(subject, scratch, limit), ThreadPoolExecutor(jobs)

    def prepare(self) -> None:
        """See `Judge.prepare`."""
        self._judge.prepare()

    def judge(self, mutant: Mutant) -> Future[Verdict]:
        """See `Judge.judge`."""
        return self._pool.submit(self._judge.judge, mutant)

    def debugged(self, mutant: Mutant, verdict: Verdict) -> Future[Verdict]:
        """See `Judge.debugged`."""
        return self._pool.submit(self._judge.debugged, mutant, verdict)

    def stop(self) -> None:
        """End what runs."""
        self._judge.stop()
        self._pool.shutdown()


def run_campaign(
    subject: Subject, mutants: Sequence[Mutant], out: Path, judges: Judges, *, resume: bool = False,
    debug: bool = False, progress: Progress | None = None, done: Callable[[Judged], None] | None = None,
) -> list[Judged]:
    """Judge all of them, in the order of `mutants`; `done` is told each as it comes.

    Args:
        out: folder of the verdicts. resume: take what is in `out` from there.
        debug: also ask ``debug`` of each that counts.

    Raises:
        BenchError: the design itself cannot be emitted, or its tests cannot be run.
        OutputError: see `_Kept.load`.
    """
    kept = _Kept(out / VERDICTS, subject)
    reviewed = read_reviewed(subject.equivalent)
    found = {key: Judged(mutant, verdict) for key, verdict in kept.load(mutants, resume).items()
             for mutant in mutants if mutant.key == key}
    for mutant in mutants:
        for entry in reviewed:
            if entry.is_of(mutant):
                found[mutant.key] = Judged(mutant, Verdict(EQUIVALENT), entry.reason)

    def each(asking: Callable[[Mutant], Future[Verdict]], left: Sequence[Mutant]) -> None:
        for one in _judged(asking, left, judges.jobs, len(mutants) - len(left), progress or (lambda text: None)):
            found[one.mutant.key] = one
            kept.add(one)
            if done is not None:
                done(one)

    left = [mutant for mutant in mutants if mutant.key not in found]
    try:
        if left:
            judges.prepare()
        each(judges.judge, left)
        if debug:
            each(lambda mutant: judges.debugged(mutant, found[mutant.key].verdict), [
                one.mutant for one in found.values()
                if one.verdict.verdict in COUNTED and one.verdict.blamed is None])
    finally:
        judges.stop()
    return [found[mutant.key] for mutant in mutants]


def _judged(
    asking: Callable[[Mutant], Future[Verdict]], mutants: Sequence[Mutant], jobs: int, before: int, say: Progress
) -> Iterator[Judged]:
    """As they end."""
    total, ended = before + len(mutants), before
    waiting = list(mutants)
    running: dict[Future[Verdict], Mutant] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop(0)
            running[asking(mutant)] = mutant
        say(f"{ended} of {total} mutants; {', '.join(f'{m.place} ({m.kind})' for m in running.values())}")
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            mutant = running.pop(future)
            ended += 1
            yield Judged(mutant, future.result())
