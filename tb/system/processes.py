# SPDX-License-Identifier: Apache-2.0
"""Tools in processes of their own, which end when this one does, and what is told of one that crashes.

Each tool leads a process group, so that what it starts (the compiler proper under g++) ends with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from nncosim.tb.errors import ToolCrash

__all__ = ["ProcessGroup", "crash_of", "default_workers", "ending_on_signals", "kill_all", "last_lines", "run",
           "run_retried", "started", "wait_for"]

TERMINATED = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program, and that Python would let end it without a word to anybody."""

def default_workers() -> int:
    """One process for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_lock = threading.Lock()
_running: set[subprocess.Popen] = set()
_thread = threading.local()


def last_lines(text: str, count: int = 10) -> str:
    """Of what a tool said, for a message: indented, long lines cut off."""
    return "\n".join(f"    {line[:300]}" for line in text.splitlines()[-count:])


class ProcessGroup:
    """The processes that some threads started: all end with `kill`, and none is started after it."""

    def __init__(self) -> None:
        self._members: set[subprocess.Popen] = set()
        self._over = False

    def join(self) -> None:
        """From here on, what this thread starts belongs to the group."""
        _thread.group = self

    def kill(self) -> None:
        with _lock:
            self._over = True
            members = list(self._members)
        for process in members:
            _kill(process)


def _kill(process: subprocess.Popen) -> None:
    if process.returncode is None:  # the number of one that was waited for may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def kill_all() -> None:
    """Kill every tool that runs, with all it started."""
    with _lock:
        members = list(_running)
    for process in members:
        _kill(process)


@contextlib.contextmanager
def started(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, output: IO | int = subprocess.PIPE
) -> Iterator[subprocess.Popen]:
    """A tool, its stdin empty, its stderr in `output` (its stdout). It is gone when the block ends, however it ends.

    Raises:
        OSError: it cannot be started.
    """
    group: ProcessGroup | None = getattr(_thread, "group", None)
    with _lock:
        if group is not None and group._over:
            raise ToolCrash(f"{command[0]} was not started: what it was for has failed")
        process = subprocess.Popen(command, cwd=cwd, env=None if env is None else dict(env), stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT, text=True, errors="replace",
                                   start_new_session=True)  # fmt: skip
        members = [_running] if group is None else [_running, group._members]
        for some in members:
            some.add(process)
    try:
        yield process
    finally:
        _kill(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        with _lock:
            for some in members:
                some.discard(process)


def wait_for(process: subprocess.Popen, watch: Callable[[], None] | None = None, seconds: float = 0.5) -> int:
    """Its exit status; `watch` is called every so many `seconds` until it ends."""
    while True:
        try:
            return process.wait(None if watch is None else seconds)
        except subprocess.TimeoutExpired:
            assert watch is not None
            watch()


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, stdout and stderr together in `stdout`."""
    with started(command, cwd=cwd, env=env) as process:
        text, _ = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, text)


# What tools say of themselves when they fail, and not of their input: WebAssembly's traps, assertions, no memory.
_CRASHES = re.compile(
    r"wasm trap|wasmtime\.\S*Trap|error while executing at wasm|ERROR: (?:Abort|Assert)\b.* in |std::bad_alloc|"
    r"terminate called|Internal Error:|internal compiler error|Killed signal terminated|Segmentation fault|"
    r"Stack overflow|^MemoryError", re.MULTILINE,
)  # fmt: skip


def crash_of(done: subprocess.CompletedProcess[str]) -> str:
    """How a tool crashed: by which signal, or its own words; "" if it came to an end, whatever it says of its input."""
    if not done.returncode:
        return ""
    number = -done.returncode if done.returncode < 0 else done.returncode - 128  # the second by way of a shell
    with contextlib.suppress(ValueError):
        return f"it was ended by {signal.Signals(number).name}"
    found = [line for line in (done.stdout or "").splitlines() if _CRASHES.search(line)]
    return f"it says {found[0].strip()[:200]!r}" if found else ""


def run_retried(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, name: str = "", what: str = "",
    note: Callable[[str], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """As `run`, but a tool that crashes is run once more: on a loaded machine it often does its work then.

    Args:
        name: of the tool.
        what: it was to do, for the message.
        note: gets a line about a first crash.

    Raises:
        ToolCrash: it crashed twice. That says nothing about the input.
        OSError: it cannot be started.
    """
    name = name or Path(command[0]).name
    first = run(command, cwd=cwd, env=env)
    why = crash_of(first)
    if not why:
        return first
    if note is not None:
        note(f"{name} crashed ({why}); trying once more")
    second = run(command, cwd=cwd, env=env)
    again = crash_of(second)
    if not again:
        return second
    shown = last_lines(second.stdout, 5)
    what = f" while it was to {what}" if what else ""
    raise ToolCrash(f"{name} crashed twice{what}: {why}, then {again}; this is a failure of the tool (often too little "
                    f"memory), no verdict on the design; repeat: {shlex.join(command)[:300]}\n{shown}".rstrip())


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """In the block SIGTERM and SIGHUP raise `SystemExit` (128 + number), so that processes and folders are cleared."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set what signals do
        return

    def end(number: int, frame: object) -> None:
        for one in TERMINATED:  # a second one is not to interrupt what clears up
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {one: signal.getsignal(one) for one in TERMINATED}
    try:
        for one, what in before.items():
            if what == signal.SIG_DFL:  # nohup's SIG_IGN stays
                signal.signal(one, end)
        yield
    finally:
        for one, what in before.items():
            if what is not None:
                signal.signal(one, what)
