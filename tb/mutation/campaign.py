# SPDX-License-Identifier: Apache-2.0
"""Many mutants: some at a time, each verdict kept as it comes, so that a campaign that was interrupted goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nncosim.platforms.plain import Json
from nncosim.tb.errors import BenchError
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.mutation.overlay import OVERLAY
from nncosim.tb.mutation.subject import Subject
from nncosim.tb.mutation.verdict import COUNTED, EQUIVALENT, Judge, Verdict
from nncosim.tb.system.files import OutputError
from nncosim.tb.system.progress import Progress

__all__ = ["VERDICTS", "Judged", "Reviewed", "judged_json", "read_reviewed", "run_campaign"]

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
        digest = hashlib.sha256()
        for file in sorted(subject.package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(subject.package).as_posix().encode() + b"\0" + file.read_bytes())
        self._head = {"subject": subject.name, "sources": digest.hexdigest()}

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

def run_campaign(
    subject: Subject, mutants: Sequence[Mutant], out: Path, *, jobs: int, limit: float, resume: bool = False,
    debug: bool = False, progress: Progress | None = None, done: Callable[[Judged], None] | None = None,
) -> list[Judged]:
    """Judge all of them, in the order of `mutants`; `done` is told each as it comes.

    Args:
        out: folder of the verdicts, and of what mutants need while they run.
        jobs: mutants at a time. limit: seconds of a stage.
        resume: take what is in `out` from there. debug: also ask ``debug`` of each that counts.

    Raises:
        BenchError: the design itself cannot be emitted, or its tests cannot be run.
        OutputError: see `_Kept.load`.
    """
    kept = _Kept(out / VERDICTS, subject)
    reviewed = read_reviewed(subject.equivalent)
    found = {key: Judged(mutant, verdict) for key, verdict in kept.load(mutants, resume).items()
             for mutant in mutants if mutant.key == key}
    for left_behind in out.glob(f"{OVERLAY}*"):  # by a campaign that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    for mutant in mutants:
        for entry in reviewed:
            if entry.is_of(mutant):
                found[mutant.key] = Judged(mutant, Verdict(EQUIVALENT), entry.reason)
    judge, say = Judge(subject, out, limit), progress or (lambda text: None)

    def each(judging: Callable[[Mutant], Verdict], left: Sequence[Mutant]) -> None:
        for one in _judged(judging, left, jobs, len(mutants) - len(left), say, judge.stop):
            found[one.mutant.key] = one
            kept.add(one)
            if done is not None:
                done(one)

    left = [mutant for mutant in mutants if mutant.key not in found]
    if left:
        judge.prepare()
    each(judge.judge, left)
    if debug:
        each(lambda mutant: judge.debugged(mutant, found[mutant.key].verdict), [
            one.mutant for one in found.values() if one.verdict.verdict in COUNTED and one.verdict.blamed is None])
    return [found[mutant.key] for mutant in mutants]


def _judged(
    judge: Callable[[Mutant], Verdict], mutants: Sequence[Mutant], jobs: int, before: int, say: Progress,
    stop: Callable[[], None],
) -> Iterator[Judged]:
    """As they end. Whoever stops listening ends what runs."""
    total, ended = before + len(mutants), before
    with ThreadPoolExecutor(jobs) as pool:
        waiting = list(mutants)
        running: dict[Future[Verdict], Mutant] = {}
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    mutant = waiting.pop(0)
                    running[pool.submit(judge, mutant)] = mutant
                say(f"{ended} of {total} mutants; {', '.join(f'{m.place} ({m.kind})' for m in running.values())}")
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    mutant = running.pop(future)
                    ended += 1
                    yield Judged(mutant, future.result())
        finally:
            if running:
                stop()
