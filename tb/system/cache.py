# SPDX-License-Identifier: Apache-2.0
"""A cache of built things, addressed by what they were built from.

An entry is a folder. It is filled in a scratch folder beside its final place and renamed into it, under a
lock of its own, so that processes may ask for one entry at the same time and an interrupted build leaves
nothing that could be taken for an entry. A list of its files lies in it: an entry that is not what the list says (a
file lost, cut off or changed) is made anew.
"""

import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from nncosim.tb.errors import BuildError, CacheError

__all__ = ["KINDS", "Usage", "cache_root", "clear", "content_key", "obtain", "usage"]

KINDS = ("simulations", "runtimes", "iss", "objects", "verilog", "netlists", "layouts", "timing", "networks", "logs",
         "sweeps")
"""Its folders: built simulations and what they share, simulators in C++, objects of designs that stand on libraries
and of C++ that is given with designs, emitted Verilog, netlists, their layouts and timing, networks that code builds,
logs of what failed, sweeps that did not end."""
LIST = "entry.json"
"""The list of an entry's files: name to [bytes, CRC-32]."""
_UNLISTED = {"simulations": ("info.json",), "runtimes": ("runtime.a",), "timing": ("report.json", "fo4")}
"""The last file written, one of these, of an entry from before there were lists."""
_FULL = "No space left on device"
_SAID_OF_FULL = (_FULL, "ld terminated with signal 7")
"""The linker writes its output as memory: where that has no room, it ends with a bus error."""
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def cache_root() -> Path:
    """Folder of the cache: ``$NNCOSIM_CACHE``, or ``nncosim`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``."""
    own = os.environ.get("NNCOSIM_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # Its specification: a path that is not absolute is to be ignored.
    return (Path(shared) if os.path.isabs(shared) else Path.home() / ".cache") / "nncosim"


def content_key(parts: Iterable[str | bytes]) -> str:
    """SHA-256 over `parts`, each delimited by its length; as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def obtain(key: str, fill: Callable[[Path], None], kind: str = "simulations") -> Path:
    """The entry `key`, made by `fill(scratch folder)` if it is not there yet, or not as it was made.

    A second caller waits for the first. When `fill` raises, the exception passes on and no entry remains.

    Raises:
        CacheError: the folder of the cache is none, or cannot be written; its disk is full; it was deleted meanwhile.
    """
    parent = cache_root() / kind
    entry = parent / key
    if _is_whole(entry, kind):
        return entry
    lock = FileLock(parent / f"{key}.lock")
    with _writable():
        parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if _is_whole(entry, kind):
            return entry
        # What a killed process left behind; the lock says that nobody is working on it.
        for stale in parent.glob(f"{key}.*.partial"):
            _remove(stale)
        scratch = parent / f"{key}.{os.getpid()}.partial"
        with _writable():
            scratch.mkdir()
        try:
            with _told(scratch):
                fill(scratch)
                _write_list(scratch)
                if entry.exists():
                    entry.rename(parent / f"{key}.{os.getpid()}.damaged.partial")
                scratch.rename(entry)
        finally:
            for path in parent.glob(f"{key}.{os.getpid()}.*partial"):
                _remove(path)
    finally:
        lock.release()
    return entry


def _remove(path: Path) -> None:
    """A folder, or the file that took its place; what cannot be removed stays."""
    if path.is_file():
        with suppress(OSError):
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)


# ---- what an entry consists of

def _listed(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of the files that lie in `folder` itself: what is used. Folders in it are for people."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != LIST:
            data = path.read_bytes()
            found[path.name] = [len(data), zlib.crc32(data)]
    return found


def _write_list(folder: Path) -> None:
    (folder / LIST).write_text(json.dumps(_listed(folder)))


def _is_whole(entry: Path, kind: str) -> bool:
    try:
        if (entry / LIST).is_file():
            return bool(json.loads((entry / LIST).read_text()) == _listed(entry))
        if any((entry / name).is_file() for name in _UNLISTED.get(kind, ())):
            _write_list(entry)
            return True
    except (OSError, ValueError):
        pass
    return False


# ---- what can go wrong with a disk

def _failure(why: object) -> CacheError:
    what = f"what is built cannot be kept in {cache_root()}: {why}"
    return CacheError(f"{what}; set NNCOSIM_CACHE to a folder that can be written and has room (`nncosim cache` says "
                      "what is in it, and empties it)")  # fmt: skip


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failure(error.strerror or error) from error


@contextmanager
def _told(scratch: Path) -> Iterator[None]:
    """Of what fails while an entry is made, tell as `CacheError` what comes from the disk."""
    try:
        yield
    except Exception as error:
        if not scratch.is_dir():
            raise _failure("its folder was deleted during the build; start again") from error
        if isinstance(error, OSError):
            inside = error.filename is not None and str(error.filename).startswith(str(cache_root()))
            if inside or error.errno in _OF_THE_DISK:
                raise _failure(error.strerror or error) from error
        elif any(word in _said(error) for word in _SAID_OF_FULL):
            raise _failure(_FULL) from error
        raise


def _said(error: Exception) -> str:
    """All that the tools of a build said, not only what is shown of it."""
    log = error.log if isinstance(error, BuildError) else None
    with suppress(OSError):
        return f"{error}\n{log.read_text(errors='replace') if log is not None and log.is_file() else ''}"
    return str(error)


# ---- what is in it

@dataclass(frozen=True)
class Usage:
    """What one folder of the cache holds."""

    kind: str
    entries: int
    bytes: int


def usage() -> list[Usage]:
    """What is in the cache, by kind; hard links count once a name."""
    out = []
    for kind in KINDS:
        found = [path for path in _entries(kind) if path.suffix != ".lock"]
        out.append(Usage(kind, len(found), sum(map(_size, found))))
    return out


def _entries(kind: str) -> list[Path]:
    try:
        return sorted((cache_root() / kind).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CacheError(f"cannot look into the cache {cache_root()}: {error.strerror or error}") from error


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path) if path.is_dir() else [(str(path.parent), [], [path.name])]:
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total


def clear() -> list[str]:
    """Empty the cache; files that are not its own stay. Returns the keys of entries that are being built: they stay.

    Raises:
        CacheError: something cannot be deleted.
    """
    busy = []
    for kind in KINDS:
        for key in sorted({path.name.partition(".")[0] if kind in KINDS[:4] else path.name for path in _entries(kind)}):
            lock = FileLock(cache_root() / kind / f"{key}.lock")
            with _deletable():
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    busy.append(key)
                    continue
                try:
                    for path in (cache_root() / kind).glob(f"{key}*"):
                        if path.name != f"{key}.lock":
                            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                    (cache_root() / kind / f"{key}.lock").unlink(missing_ok=True)
                finally:
                    lock.release()
    return busy


@contextmanager
def _deletable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(f"cannot empty the cache {cache_root()}: {error.strerror or error}") from error
