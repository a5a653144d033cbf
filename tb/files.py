# SPDX-License-Identifier: Apache-2.0
"""Writing results so that nothing is ever left half-written."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from nncosim.platforms.errors import NncosimError

__all__ = ["NPZ_ERRORS", "OutputError", "prepare_directory", "prepare_file", "sha256", "write_file", "write_files"]


NPZ_ERRORS = (
    OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise of an .npz file that is damaged."""


class OutputError(NncosimError):
    """A place where results cannot be written."""


def sha256(data: bytes) -> str:
    """The hexadecimal digest that reports carry for models and images."""
    return hashlib.sha256(data).hexdigest()


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


def prepare_directory(directory: Path, option: str = "--out") -> None:
    """Refuse a place where results cannot go, before the work is done. Creates nothing.

    Raises:
        OutputError: it is a file, or may not be written.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{option} {directory}: this is a file; give a folder")
    _check_writable(directory / "file", option)


def prepare_file(path: Path, option: str = "--json") -> None:
    """The same for a single file."""
    if path.is_dir():
        raise OutputError(f"{option} {path}: this is a folder; give a file")
    _check_writable(path, option)


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` (name to contents) to `directory`, which is created if need be.

    All are first written to a temporary folder beside it; a new directory appears with all its files in one rename,
    in an existing one each file is replaced in one rename, and files of other names stay.

    Raises:
        OutputError: the operating system refuses.
    """
    temporary = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        temporary.chmod(0o755)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        if not directory.exists():
            temporary.rename(directory)
        else:
            for name in files:
                os.replace(temporary / name, directory / name)
    except OSError as error:
        raise OutputError(f"cannot write to {directory}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_file(path: Path, data: bytes) -> None:
    """Write one file by way of a temporary name beside it.

    Raises:
        OutputError: the operating system refuses.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
