# SPDX-License-Identifier: Apache-2.0
"""What becomes of a mutant: is it hardware at all, does it differ, and which test notices first."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.mutation.overlay import Overlay, overlaid
from nncosim.tb.mutation.subject import Subject
from nncosim.tb.system.processes import ProcessGroup, started

__all__ = ["BLOCK", "COUNTED", "EQUIVALENT", "KILLED", "RUN", "STILLBORN", "SURVIVED", "TIMEOUT", "UNCHANGED",
           "UNDECIDED", "Judge", "Verdict"]

KILLED, TIMEOUT, SURVIVED = "killed", "timeout", "survived"
STILLBORN, UNCHANGED, EQUIVALENT, UNDECIDED = "stillborn", "unchanged", "equivalent", "undecided"
"""Not counted: no RTL comes of it; the RTL is the design's own; a reader has found that it does the same; a tool failed
and says itself that this is no verdict on the design."""

COUNTED = (KILLED, TIMEOUT, SURVIVED)

EMIT, BLOCK, AROUND, RUN, DEBUG = "emit", "block", "around", "run", "debug"
"""Stages; the last one follows whatever the others said."""
_OPTIONS = ("-x", "-q", "-rfE", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-m", "not slow and not text")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py\b.*?)(?: - (.*))?$", re.MULTILINE)
"""Of pytest's summary. Names of parameters have spaces."""
_NO_VERDICT = "no verdict on the design"
"""What is said of tools that crash (`nncosim.tb.system.processes.run_retried`)."""
_USAGE, _NOTHING_RAN = 4, 5  # of pytest's status
_BAD_INPUT = 2  # of the command line's


@dataclass(frozen=True)
class Verdict:
    """verdict: one of those above. stage: that in which it ended. test: that noticed, or the run's command.
    message: the failure's first line. own: it is one of the block's own benches. names_block: the test or the message
    names it, or the unit it is a part of. seconds: in all; stages: those of each.

    What ``debug`` says, where it was asked (else None): blamed: the block that differs first, "" for no difference, or
    why there was no answer; blamed_module: that describes it; blames_block: the mistake is found there.
    """

    verdict: str
    stage: str = ""
    test: str = ""
    message: str = ""
    own: bool = False
    names_block: bool = False
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    blamed: str | None = None
    blamed_module: str = ""
    blames_block: bool = False


@dataclass
class _Ended:
    """A command. status: None where it was out of time."""

    status: int | None
    text: str


class Judge:
    """Judges mutants of one subject; many threads may.

    Args:
        scratch: folder for overlays. limit: seconds of a stage.
    """

    def __init__(self, subject: Subject, scratch: Path, limit: float):
        self.subject, self.scratch, self.limit = subject, scratch, limit
        self._right: dict[str, bool] = {}
        self._group = ProcessGroup()
        self._lock = threading.Lock()
        self._own_rtl: bytes | None = None

    def prepare(self) -> None:
        """Emit the design itself, once.

        Raises:
            BenchError: that fails.
        """
        with overlaid(self.subject.tree, None, self.scratch) as overlay:
            rtl, said = self._emit(overlay)
        if rtl is None:
            raise BenchError(f"the RTL of {self.subject.name} itself cannot be emitted: {_last(said)}")
        self._own_rtl = rtl

    def stop(self) -> None:
        """End what runs; nothing more is started."""
        self._group.kill()

    def judge(self, mutant: Mutant) -> Verdict:
        """What becomes of it."""
        assert self._own_rtl is not None
        self._group.join()
        begin, took = time.monotonic(), {}
        with overlaid(self.subject.tree, mutant, self.scratch) as overlay:
            for stage, way in ((EMIT, self._differs), (BLOCK, self._own), (AROUND, self._around), (RUN, self._run)):
                since = time.monotonic()
                found = way(overlay, mutant)
                took[stage] = round(time.monotonic() - since, 1)
                if found is not None:
                    break
        seconds = round(time.monotonic() - begin, 1)
        found = found or Verdict(SURVIVED)
        return Verdict(found.verdict, stage if found.verdict != SURVIVED else "", found.test, found.message,
                       stage == BLOCK and found.verdict in (KILLED, TIMEOUT), self._names(mutant, found), seconds, took)

    def _names(self, mutant: Mutant, found: Verdict) -> bool:
        words = f"_{re.sub(r'[^a-z0-9]+', '_', f'{found.test} {found.message}'.lower())}_"
        module = self.subject.blocks[mutant.block]
        return any(f"_{name}_" in words for name in (module.stem, self.subject.unit(module)))

    def debugged(self, mutant: Mutant, verdict: Verdict) -> Verdict:
        """The verdict with what ``debug`` says of the mutant."""
        self._group.join()
        begin = time.monotonic()
        blamed, module, right = "", "", False
        with overlaid(self.subject.tree, mutant, self.scratch) as overlay:
            for command in self.subject.debug:
                said, module = self._blamed(overlay, command)
                blamed = said or blamed
                if module:
                    break
        if module:
            right = self.subject.describes(self.subject.graph.names[module], mutant.block)
        took = round(time.monotonic() - begin, 1)
        return replace(verdict, blamed=blamed, blamed_module=module, blames_block=right,
                       stages={**verdict.stages, DEBUG: took})

    def _blamed(self, overlay: Overlay, command: Sequence[str]) -> tuple[str, str]:
        """A block and its module, or why not, and ""."""
        file = overlay.folder / "story.json"
        done = self._command([*command, f"--json={file}"], overlay)
        if done.status not in (0, 1) or not file.is_file():
            return _last(done.text) if done.status is not None else f"no end within {self.limit:g} s", ""
        first = json.loads(file.read_text())["first"]
        return (first["block"], first["module"]) if first else ("", "")

    # ---- the stages: a verdict, or None to go on

    def _differs(self, overlay: Overlay, mutant: Mutant) -> Verdict | None:
        rtl, said = self._emit(overlay)
        if rtl is None:
            return Verdict(UNDECIDED if _NO_VERDICT in said else STILLBORN, message=_last(said))
        return Verdict(UNCHANGED) if rtl == self._own_rtl else None

    def _emit(self, overlay: Overlay) -> tuple[bytes | None, str]:
        file = overlay.folder / "rtl"
        done = self._command([*self.subject.emit, str(file)], overlay)
        if done.status is None:
            return None, f"not emitted within {self.limit:g} s, {_NO_VERDICT}"
        return (file.read_bytes() if done.status == 0 and file.is_file() else None), done.text

    def _own(self, overlay: Overlay, mutant: Mutant) -> Verdict | None:
        return self._tests(overlay, self.subject.benches(mutant.block).own)

    def _around(self, overlay: Overlay, mutant: Mutant) -> Verdict | None:
        return self._tests(overlay, self.subject.benches(mutant.block).around)

    def _tests(self, overlay: Overlay, files: Sequence[Path]) -> Verdict | None:
        left_out: list[str] = []
        while files:
            words = [path.relative_to(self.subject.root).as_posix() for path in files]
            done = self._command([*_pytest(), *words, *(f"--deselect={test}" for test in left_out)], overlay)
            if done.status is None:
                return Verdict(TIMEOUT, test=" ".join(words), message=f"no end within {self.limit:g} s")
            if done.status in (0, _NOTHING_RAN):
                return None
            if _NO_VERDICT in done.text:
                return Verdict(UNDECIDED, test=" ".join(words), message=_last(done.text))
            if done.status == _USAGE:
                raise BenchError(f"pytest cannot be used on {' '.join(words)}: {_last(done.text)}")
            match = _FAILED.search(done.text)
            if match is None:  # it did not come to a summary: what it was given cannot be imported, or it crashed
                return Verdict(KILLED, test=" ".join(words), message=_last(done.text))
            if self._fails_anyway(match[1]):
                left_out.append(match[1])
                continue
            return Verdict(KILLED, test=match[1], message=(match[2] or "").strip()[:300])
        return None

    def _fails_anyway(self, test: str) -> bool:
        """Whether a test fails on the design itself: then it says nothing of a mutant."""
        with self._lock:
            if test not in self._right:
                with overlaid(self.subject.tree, None, self.scratch) as overlay:
                    done = self._command([*_pytest(), test], overlay)
                self._right[test] = done.status in (0, _NOTHING_RAN)
            return not self._right[test]

    def _run(self, overlay: Overlay, mutant: Mutant) -> Verdict | None:
        if not self.subject.run:
            return None
        done = self._command(self.subject.run, overlay)
        what = " ".join(self.subject.run[self.subject.run.index("run"):] if "run" in self.subject.run
                        else self.subject.run)
        if done.status is None:
            return Verdict(TIMEOUT, test=what, message=f"no end within {self.limit:g} s")
        if done.status == 0:
            return None
        undecided = done.status == _BAD_INPUT or _NO_VERDICT in done.text  # it could not even run
        return Verdict(UNDECIDED if undecided else KILLED, test=what, message=_last(done.text))

    def _command(self, command: Sequence[str], overlay: Overlay) -> _Ended:
        environment = overlay.environment() | {"COLUMNS": "400"}
        with tempfile.TemporaryFile("w+", errors="replace") as file:
            with started(command, cwd=self.subject.root, env=environment, output=file) as process:
                try:
                    status: int | None = process.wait(self.limit)
                except subprocess.TimeoutExpired:
                    status = None
            file.seek(0)
            return _Ended(status, file.read())


def _pytest() -> list[str]:
    return [sys.executable, "-m", "pytest", *_OPTIONS]


def _last(text: str) -> str:
    """The line that tells most of a failure: the first one that says so, or else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(?:MISMATCH|HANG|TRAP|CHECK|CYCLES|nncosim: error|E  )", line)]
    return (telling or lines[-1:] or [""])[0][:300]
