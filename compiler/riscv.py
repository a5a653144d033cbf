# SPDX-License-Identifier: Apache-2.0
"""C for a RISC-V that runs without an operating system, compiled by the Zig package's clang."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from nncosim.compiler.errors import CompileError

__all__ = ["AddressRange", "RiscvProgram", "compile_c"]

_FLAGS = (
    "-target", "riscv32-freestanding-none", "-Os", "-g0", "-std=c11", "-ffreestanding",
    "-nostdlib", "-fno-sanitize=all", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Wall", "-Werror",
    "-Wl,--build-id=none", "-Wl,-T,link.ld",
)  # fmt: skip

_LINK = """ENTRY(_start)
MEMORY {{
  imem (rx) : ORIGIN = {code.address:#x}, LENGTH = {code.size}
  dmem (rw) : ORIGIN = {data.address:#x}, LENGTH = {data.size}
}}
SECTIONS {{
  .text : {{ KEEP(*(.start)) *(.text .text.*) }} > imem
  .data : {{
    *(.rodata .rodata.* .srodata .srodata.* .data .data.* .sdata .sdata.* .bss .bss.* .sbss .sbss.* COMMON)
  }} > dmem
  /DISCARD/ : {{ *(.comment .note.* .riscv.attributes .eh_frame*) }}
}}
"""


@dataclass(frozen=True)
class AddressRange:
    """Bytes of the address space that a program may fill."""

    address: int
    size: int


@dataclass(frozen=True)
class RiscvProgram:
    """What a program puts into its memories, whole words: `code` from its region's first byte on, where the entry is;
    `data` from its own on, zeros included, empty if it has none."""

    code: bytes
    data: bytes


def compile_c(
    files: Mapping[str, str], code: AddressRange, data: AddressRange, cpu: str = "generic_rv32+m+c"
) -> RiscvProgram:
    """Compile and link a program.

    Args:
        files: name to text. Each ``.c`` is compiled; the rest is what they include.
        code, data: where instructions and data lie. A function `_start` in section ``.start`` comes first. Room for
            the stack is the caller's: a region that ends below it.
        cpu: the compiler's name of the core and of its extensions.

    Raises:
        CompileError: the compiler is missing, the code is wrong, or does not fit.
    """
    raw = _compile(tuple(files.items()), _LINK.format(code=code, data=data), cpu)
    found: dict[str, tuple[int, bytes]] = {}
    for section in ELFFile(io.BytesIO(raw)).iter_sections():
        if section.name in (".text", ".data") and section["sh_size"]:
            found[section.name] = (section["sh_addr"], section.data())
    if ".text" not in found or found[".text"][0] != code.address:
        raise CompileError(f"the code does not begin at {code.address:#x}: it needs a _start in section .start")
    at, contents = found.get(".data", (data.address, b""))
    contents = bytes(at - data.address) + contents
    return RiscvProgram(_words(found[".text"][1]), _words(contents))


@functools.lru_cache(maxsize=64)
def _compile(files: tuple[tuple[str, str], ...], link: str, cpu: str) -> bytes:
    """The linked ELF file. Works in a folder of its own with relative names, so that no path gets into the result."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (*files, ("link.ld", link)):
            (Path(folder) / name).write_text(text)
        sources = [name for name, _ in files if name.endswith(".c")]
        command = [sys.executable, "-m", "ziglang", "cc", f"-mcpu={cpu}", *_FLAGS, *sources, "-o", "program.elf"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode < 0:  # a crash, of which the next attempt often knows nothing
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise CompileError(f"the C compiler does not start ({error}); install package ziglang") from error
        if done.returncode < 0:
            raise CompileError(f"the C compiler (package ziglang) crashed twice, by signal {-done.returncode}; "
                               "this is a failure of the tool, no verdict on the model")  # fmt: skip
        if done.returncode:
            raise CompileError(f"the C code did not compile; package ziglang says: {done.stderr.strip()[:2000]}")
        return (Path(folder) / "program.elf").read_bytes()


def _words(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
