# SPDX-License-Identifier: Apache-2.0
"""A simulator's core in C++: built once, cached by content, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from nncosim.tb.sim.toolchain import CommandFailed, Log, compiler, tool_versions
from nncosim.tb.system.cache import content_key, obtain

__all__ = ["NativeSources", "Signatures", "records"]

_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fno-exceptions", "-Wall", "-Wextra")

if TYPE_CHECKING:
    CType: TypeAlias = type[ctypes._CDataType]
Signatures: TypeAlias = "Mapping[str, tuple[CType | None, Sequence[CType]]]"
"""Function without the library's prefix to the ctypes of its result and of its arguments."""


@dataclass(frozen=True)
class NativeSources:
    """What a library is made of.

    title: in messages, "the J3DAI simulator". folder, files: its sources, of which the last is compiled and the others
    are included. prefix: of the names of its functions.
    """

    title: str
    folder: Path
    files: tuple[str, ...]
    prefix: str

    def load(self, generated: Mapping[str, str], functions: Signatures) -> ctypes.CDLL:
        """The library, with `generated` files (name to text) beside its sources.

        Raises:
            BuildError, ToolError: it cannot be built.
        """
        versions = tool_versions()
        sources = [(self.folder / name).read_bytes() for name in self.files]
        named = [text for pair in generated.items() for text in pair]
        key = content_key([*named, *sources, *_FLAGS, versions["compiler"], versions["cpu"]])
        library = ctypes.CDLL(str(obtain(key, lambda folder: self._build(folder, generated), "iss") / "library.so"))
        for name, (result, arguments) in functions.items():
            function = getattr(library, self.prefix + name)
            function.restype, function.argtypes = result, arguments
        return library

    def _build(self, folder: Path, generated: Mapping[str, str]) -> None:
        for name in self.files:
            shutil.copyfile(self.folder / name, folder / name)
        for name, text in generated.items():
            (folder / name).write_text(text)
        log = Log(folder / "build.log")
        try:
            log.run([*compiler(), *_FLAGS, self.files[-1], "-o", "library.so"], folder)
        except CommandFailed:
            raise log.failure(self.title, folder.parent / "iss_failed.log") from None


def records(function: Callable[..., int], core: ctypes.c_void_p, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """The records that `function(core, &count)` points to, a copy."""
    count = ctypes.c_uint64()
    address = function(core, ctypes.byref(count))
    raw = ctypes.string_at(address, count.value * dtype.itemsize) if count.value else b""
    return np.frombuffer(raw, dtype).copy()
