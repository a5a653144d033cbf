# SPDX-License-Identifier: Apache-2.0
"""Arrays in .npz files: written under any name, read after a look at their headers.

`numpy.savez` takes the names of arrays as those of Python arguments, so that one called "file" is an error and one
called "allow_pickle" is lost; and `numpy.load` believes whatever size a header claims.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from nncosim.tb.system.files import unreadable
from numpy.lib import format as npy

__all__ = ["MAX_BYTES", "NPZ_ERRORS", "NpzError", "npz_bytes", "read_arrays"]

NPZ_ERRORS = (
    OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, MemoryError, OverflowError,
    TypeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise of an .npz file that is damaged."""

MAX_BYTES = 1 << 32
"""What the arrays of one file may take in memory, all together."""

_SUFFIX = ".npy"


class NpzError(ValueError):
    """A file that is no .npz, is damaged, or holds what is not read; the caller says which file."""


def npz_bytes(arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> bytes:
    """The contents of an .npz file, each array under its name, whatever that is; the same for the same arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            with file.open(f"{name}{_SUFFIX}", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    Raises:
        NpzError: no such file, none of that format, a damaged one, Python objects, or more than `MAX_BYTES`: that is
            known from the headers, before memory is taken.
    """
    reason = unreadable(path)
    if reason:
        raise NpzError(reason)
    try:
        if not zipfile.is_zipfile(path):
            raise NpzError(_no_zip(path))
        with zipfile.ZipFile(path) as file:
            members = [info for info in file.infolist() if info.filename.endswith(_SUFFIX)]
            _check_sizes(file, members)
            return {info.filename.removesuffix(_SUFFIX): _array(file, info) for info in members}
    except NPZ_ERRORS as error:
        if isinstance(error, NpzError):
            raise
        raise NpzError(str(error) or type(error).__name__) from error


def _no_zip(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            return "it holds one nameless array"
    return "not a zip file, as every .npz is"


def _array(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with file.open(info) as member:
        return npy.read_array(member, allow_pickle=False)


def _check_sizes(file: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    names, total = set(), 0
    for info in members:
        name = info.filename.removesuffix(_SUFFIX)
        if name in names:
            raise NpzError(f"array {name!r} is in it twice")
        names.add(name)
        with file.open(info) as member:
            total += _claimed_bytes(name, member, info.file_size)
        if total > MAX_BYTES:
            raise NpzError(f"with array {name!r} it holds {total:,} bytes; at most {MAX_BYTES:,} are read")


def _claimed_bytes(name: str, member: IO[bytes], size: int) -> int:
    """What an array will take by its header. `size`: of header and data, as the zip file's directory says."""
    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise NpzError(f"array {name!r} is not one of numbers (format {version[0]}.{version[1]})")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.hasobject:
        raise NpzError(f"array {name!r} holds Python objects")
    if any(length < 0 for length in shape) or not dtype.itemsize:
        raise NpzError(f"array {name!r} cannot have shape {shape} of {dtype}")
    claimed, there = math.prod(shape) * dtype.itemsize, size - member.tell()
    if claimed > there:
        raise NpzError(f"array {name!r} has shape {shape} of {dtype}, {claimed:,} bytes, and only {there:,} are there")
    return claimed
