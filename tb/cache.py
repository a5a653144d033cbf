# SPDX-License-Identifier: Apache-2.0
"""A cache of built things, addressed by what they were built from.

An entry is a folder. It is filled in a scratch folder beside its final place and renamed into it, under a
lock of its own, so that processes may ask for one entry at the same time and an interrupted build leaves
nothing that could be taken for an entry.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from nncosim.tb.errors import CacheError

__all__ = ["cache_root", "content_key", "obtain"]


def cache_root() -> Path:
    """Folder of the cache: ``$NNCOSIM_CACHE``, or ``~/.cache/nncosim``."""
    return Path(os.environ.get("NNCOSIM_CACHE") or Path.home() / ".cache" / "nncosim")


def content_key(parts: Iterable[str | bytes]) -> str:
    """SHA-256 over `parts`, each delimited by its length; as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def obtain(key: str, fill: Callable[[Path], None], kind: str = "simulations") -> Path:
    """The entry `key`, made by `fill(scratch folder)` if it is not there yet.

    A second caller waits for the first. When `fill` raises, the exception passes on and no entry remains.

    Raises:
        CacheError: the folder of the cache is none, or cannot be written.
    """
    parent = cache_root() / kind
    entry = parent / key
    if entry.is_dir():
        return entry
    lock = FileLock(parent / f"{key}.lock")
    with _writable():
        parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if entry.is_dir():
            return entry
        # What a killed process left behind; the lock says that nobody is working on it.
        for stale in parent.glob(f"{key}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        scratch = parent / f"{key}.{os.getpid()}.partial"
        with _writable():
            scratch.mkdir()
        try:
            fill(scratch)
            scratch.rename(entry)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        lock.release()
    return entry


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"what is built cannot be kept in {cache_root()}: {error.strerror or error}"
        raise CacheError(f"{what}; set NNCOSIM_CACHE to a folder that can be written") from error
