# SPDX-License-Identifier: Apache-2.0
"""The C++ compiler: `$CXX`, or g++, and whether it compiles."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nncosim.tb.errors import ToolError

__all__ = ["compiler", "has_headers", "require_header"]

_HELP = "install g++ (Debian: apt-get install g++) or set CXX"


def compiler() -> list[str]:
    """Command line prefix of the C++ compiler: the words of ``$CXX`` (such as ``ccache g++``), or g++.

    Raises:
        ToolError: If it is not on the path, or does not compile.
    """
    text = os.environ.get("CXX", "").strip() or "g++"
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ToolError(f"CXX is {text!r}, which are no words of a command ({error})") from error
    _check(words, os.environ.get("PATH", ""))
    return list(words)


@functools.cache
def _check(words: tuple[str, ...], path: str) -> None:
    """Once for each command and `path`: an exception is not kept."""
    name = shlex.join(words)
    if shutil.which(words[0], path=path) is None:
        raise ToolError(f"C++ compiler {words[0]!r} is not on PATH; {_HELP}")
    with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
        source, made = Path(folder) / "empty.cpp", Path(folder) / "empty.o"
        # A file, not a pipe: to write to what has ended already may end this process.
        source.write_text("int main() { return 0; }\n")
        done = _run([*words, "-std=c++20", "-x", "c++", "-c", str(source), "-o", str(made)])
        if done.returncode or not made.is_file():
            said = done.stdout.strip().splitlines()
            why = said[0][:200] if said else f"it ends with status {done.returncode} and makes no object file"
            raise ToolError(f"C++ compiler {name!r} does not compile an empty C++20 program: {why}; {_HELP}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, errors="replace", timeout=60)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, str(error))


def has_headers(*headers: str) -> bool:
    """Whether the compiler finds C headers of system libraries; raises as `compiler`."""
    included = [word for header in headers for word in ("-include", header)]
    return not _run([*compiler(), "-E", "-x", "c++", *included, os.devnull, "-o", os.devnull]).returncode


def require_header(header: str, package: str, purpose: str) -> None:
    """Check that a system library's C header is there.

    Raises:
        ToolError: If it is not; names the Debian package.
    """
    if not has_headers(header):
        raise ToolError(f"{purpose} need the C header {header}, which the compiler does not find "
                        f"(Debian: apt-get install {package})")  # fmt: skip
