# SPDX-License-Identifier: Apache-2.0
"""Writing results so that nothing is ever left half-written, and reading no more than a file can hold.

Everything that nncosim writes for its user goes through `write_file` or `write_files`. A file that is there, or not
there yet, is written under a temporary name beside it and renamed; where the name is a symbolic link, that happens
where the link points, and the link stays. What is no file (a device, a pipe) is written straight, as any program does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from nncosim.platforms.errors import NncosimError

__all__ = ["OutputError", "deliver", "is_stream", "prepare_directory", "prepare_file", "sha256", "text_bytes",
           "unreadable", "write_file", "write_files"]  # fmt: skip


class OutputError(NncosimError):
    """A place where results cannot be written."""


def sha256(data: bytes) -> str:
    """The hexadecimal digest that reports carry for models and images."""
    return hashlib.sha256(data).hexdigest()


def text_bytes(text: str) -> bytes:
    """UTF-8; what no Unicode stands for (bytes of a file's name that are none) as an escape, `\\udcff`."""
    return text.encode("utf-8", "backslashreplace")


def unreadable(path: Path, limit: int | None = None) -> str:
    """Why a file is not to be read: it is not there, no file (a device would be read without end), or has more than
    `limit` bytes; "" if it may be."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return f"there is no file {path}"
    except OSError as error:
        return f"cannot read {path}: {error.strerror or error}"
    if stat.S_ISDIR(status.st_mode):
        return f"{path} is a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is a {_kind(status.st_mode)}, not a file; save what it holds to a file first"
    if limit is not None and status.st_size > limit:
        return f"{path} has {status.st_size:,} bytes; at most {limit:,} can be read"
    return ""


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "special file")


# ---- before the work: can it be written?

@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """What the operating system refuses, as an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{what}: {error.strerror or error}") from error


def is_stream(path: Path) -> bool:
    """Whether a path is there and no file: a device, a pipe. It is written straight.

    Raises:
        OutputError: it is a folder or a socket, or cannot be looked at.
    """
    with _told(f"cannot write {path}"):
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: this is a folder; give a file")
    if stat.S_ISSOCK(mode):
        raise OutputError(f"cannot write {path}: this is a socket; give a file")
    return not stat.S_ISREG(mode) or _own_descriptor(path) is not None


def _own_descriptor(path: Path) -> int | None:
    """The open file of this process that a path such as /dev/stdout or /dev/fd/3 stands for."""
    folder = os.path.realpath("/proc/self/fd")
    for _ in range(40):
        if path.name.isdecimal() and os.path.realpath(path.parent) == folder:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / os.readlink(path)
    return None


def _nearest_folder(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _check_writable(path: Path, option: str) -> None:
    above = _nearest_folder(path.parent)
    if not above.is_dir():
        raise OutputError(f"{option} {path}: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"{option} {path}: no permission to write to {above}")


def _resolved(path: Path) -> Path:
    """Where a path leads, symbolic links followed; it need not be there.

    Raises:
        OSError: a circle of links, a name too long.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.stat(path)
    return Path(os.path.realpath(path))


def prepare_directory(directory: Path, option: str = "--out") -> None:
    """Refuse a place where results cannot go, before the work is done. Creates nothing.

    Raises:
        OutputError: it is a file, or may not be written.
    """
    with _told(f"{option} {directory}"):
        if directory.exists() and not directory.is_dir():
            raise OutputError(f"{option} {directory}: this is a file; give a folder")
        _check_writable(_resolved(directory) / "file", option)


def prepare_file(path: Path, option: str = "--json") -> None:
    """The same for a single file, device or pipe."""
    with _told(f"{option} {path}"):
        if path.is_dir():
            raise OutputError(f"{option} {path}: this is a folder; give a file")
        if path.exists() and not os.access(path, os.W_OK):
            raise OutputError(f"{option} {path}: no permission to write to it")
        if not is_stream(path):
            _check_writable(_resolved(path), option)


# ---- writing

class _Staged:
    """Contents on their way to a file: under a temporary name in its folder until `commit`."""

    def __init__(self, path: Path, suffix: str = ""):
        self.path = path
        self.target = _resolved(path)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = _temporary(self.target.parent, suffix)

    def write(self, data: bytes) -> None:
        with os.fdopen(os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)

    def commit(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # what is replaced keeps its rights
            status = os.stat(self.target)
            with contextlib.suppress(PermissionError):
                os.chown(self.temporary, status.st_uid, status.st_gid)
            os.chmod(self.temporary, stat.S_IMODE(status.st_mode))
        os.replace(self.temporary, self.target)

    def discard(self) -> None:
        self.temporary.unlink(missing_ok=True)


def _temporary(folder: Path, suffix: str = "") -> Path:
    """A new name; short, as a result's own may be as long as the file system allows."""
    return folder / f".nncosim-{secrets.token_hex(8)}{suffix}"


def _open_straight(path: Path) -> BinaryIO:
    for stream in (sys.stdout, sys.stderr):  # it may be one of them
        stream.flush()
    own = _own_descriptor(path)
    return os.fdopen(os.open(path, os.O_WRONLY) if own is None else os.dup(own), "wb")


def _write_all(files: Mapping[Path, bytes]) -> None:
    """Write files that are there or not there yet: all contents are on the disk before the first takes its place."""
    straight = [path for path in files if is_stream(path)]
    staged: list[_Staged] = []
    try:
        for path, data in files.items():
            if path not in straight:
                with _told(f"cannot write {path}"):
                    staged.append(_Staged(path))
                    staged[-1].write(data)
        for entry in staged:
            with _told(f"cannot write {entry.path}"):
                entry.commit()
        for path in straight:
            with _told(f"cannot write {path}"), _open_straight(path) as file:
                file.write(files[path])
    finally:
        for entry in staged:
            entry.discard()


def write_file(path: Path, data: bytes) -> None:
    """Write one file, device or pipe.

    Raises:
        OutputError: the operating system refuses.
    """
    _write_all({path: data})


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` (name to contents) to `directory`, which is created if need be.

    A new directory appears with all its files in one rename; in an existing one each file is replaced in one rename
    when all are on the disk, and files of other names stay.

    Raises:
        OutputError: the operating system refuses.
    """
    temporary = None
    try:
        with _told(f"cannot write to {directory}"):
            target = _resolved(directory)
            if target.is_dir():
                return _write_all({directory / name: data for name, data in files.items()})
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary(target.parent)
            temporary.mkdir()
            for name, data in files.items():
                (temporary / name).write_bytes(data)
            temporary.rename(target)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def deliver(path: Path) -> Iterator[Path]:
    """A file for a tool that writes files by itself: it goes to `path` if the block ends without an exception.

    Yields:
        A name that is not there yet, with the suffix of `path`. What lies there at the end is renamed to `path`, or
        copied where that is a device or a pipe.

    Raises:
        OutputError: the operating system refuses.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
            temporary = _temporary(Path(folder), path.suffix)
            yield temporary
            with _told(f"cannot write {path}"), temporary.open("rb") as made, _open_straight(path) as file:
                shutil.copyfileobj(made, file)
        return
    with _told(f"cannot write {path}"):
        staged = _Staged(path, path.suffix)
    try:
        yield staged.temporary
        with _told(f"cannot write {path}"):
            staged.commit()
    finally:
        staged.discard()
