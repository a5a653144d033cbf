# SPDX-License-Identifier: Apache-2.0
"""Loading an image into the memories of a simulator."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from nncosim.tb.backend import BenchError

__all__ = ["IssError", "Memory", "load_elf"]

Memory = tuple[int, npt.NDArray[np.uint8]]
"""Physical address and storage."""


class IssError(BenchError):
    """An image that cannot be loaded, or a simulator used in the wrong order."""


def load_elf(image: str | Path | bytes, memories: Sequence[Memory]) -> int:
    """Load every PT_LOAD segment of an image to its physical address; returns the entry point.

    Raises:
        IssError: not a 32-bit RISC-V ELF file, or a segment outside the memories.
    """
    raw = image if isinstance(image, bytes) else Path(image).read_bytes()
    try:
        elf = ELFFile(io.BytesIO(raw))
        if elf["e_machine"] != "EM_RISCV" or elf.elfclass != 32:
            raise IssError(f"the image is for {elf.elfclass}-bit {elf['e_machine']}; the host is 32-bit RISC-V")
        segments = [(s["p_paddr"], s.data(), s["p_memsz"]) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        entry = int(elf["e_entry"])
    except ELFError as error:
        raise IssError(f"the image is not an ELF file: {error}") from error
    for address, contents, size in segments:
        _load_segment(address, contents + bytes(size - len(contents)), memories)
    return entry


def _load_segment(address: int, contents: bytes, memories: Sequence[Memory]) -> None:
    for base, memory in memories:
        if base <= address and address + len(contents) <= base + len(memory):
            memory[address - base : address - base + len(contents)] = np.frombuffer(contents, np.uint8)
            return
    if contents:
        raise IssError(f"segment {address:#x}..{address + len(contents):#x} lies in none of the memories: "
                       + ", ".join(f"{base:#x}..{base + len(memory):#x}" for base, memory in memories))
