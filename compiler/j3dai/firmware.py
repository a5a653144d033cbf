# SPDX-License-Identifier: Apache-2.0
"""Host code: generated C, compiled for RV32IMC by the Zig package's clang."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from elftools.elf.elffile import ELFFile
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Segment
from nncosim.hdl.j3dai.header import c_header
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE
from nncosim.platforms.j3dai import J3dai

__all__ = ["LayerStart", "compile_host", "firmware_segments", "firmware_source"]

_FLAGS = (
    "-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c", "-Os", "-g0", "-std=c11", "-ffreestanding",
    "-nostdlib", "-fno-sanitize=all", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Wall", "-Werror",
    "-Wl,--build-id=none", "-Wl,-T,link.ld",
)  # fmt: skip

_LINK = """ENTRY(_start)
MEMORY {{
  imem (rx) : ORIGIN = {imem:#x}, LENGTH = {imem_bytes}
  dmem (rw) : ORIGIN = {dmem:#x}, LENGTH = {dmem_bytes}
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
class LayerStart:
    """What the host does for one layer. list: word address in L2; clusters: mask; counter: program counter."""

    index: int
    list: int
    clusters: int
    counter: int

    @property
    def start(self) -> int:
        return self.clusters | self.counter << 16

    @property
    def armed(self) -> int:
        return self.clusters << 8


def firmware_source(platform: J3dai, layers: Sequence[LayerStart], input_lists: int = 0) -> str:
    """The C text of the host's program.

    input_lists: so many lists, the first ones, read the inputs; then the next ones may come. 0: nothing is told.
    """
    loader = jinja2.PackageLoader("nncosim.compiler.j3dai", ".")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    stack = HOST_DMEM_BASE + platform.host_dmem_bytes
    return environment.get_template("firmware.c.j2").render(layers=layers, stack=stack, input_lists=input_lists)


@functools.lru_cache(maxsize=64)
def _compile(source: str, header: str, link: str) -> bytes:
    """The linked ELF file. Works in a folder of its own with relative names, so that no path gets into the result."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("host.c", source), ("j3dai.h", header), ("link.ld", link)):
            (Path(folder) / name).write_text(text)
        command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS, "host.c", "-o", "host.elf"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode < 0:  # a crash, of which the next attempt often knows nothing
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise CompileError(f"the host's C compiler does not start ({error}); install package ziglang") from error
        if done.returncode < 0:
            raise CompileError(f"the host's C compiler (package ziglang) crashed twice, by signal {-done.returncode}; "
                               "this is a failure of the tool, no verdict on the model")  # fmt: skip
        if done.returncode:
            raise CompileError(f"the host's C code did not compile; package ziglang says: {done.stderr.strip()[:2000]}")
        return (Path(folder) / "host.elf").read_bytes()


def firmware_segments(platform: J3dai, layers: Sequence[LayerStart], input_lists: int = 0) -> tuple[Segment, ...]:
    """Host instruction and data memory contents, as `firmware_source`; raises as `compile_host`."""
    return compile_host(firmware_source(platform, layers, input_lists), platform)


def compile_host(source: str, platform: J3dai) -> tuple[Segment, ...]:
    """The segments of a host program in C, which may include `j3dai.h` and begins with section `.start`.

    Raises:
        CompileError: the compiler is missing, the code is wrong, or does not fit.
    """
    link = _LINK.format(
        imem=HOST_IMEM_BASE, imem_bytes=platform.host_imem_bytes, dmem=HOST_DMEM_BASE,
        dmem_bytes=platform.host_dmem_bytes - 4096,
    )  # fmt: skip
    raw = _compile(source, c_header(platform), link)
    found: dict[str, tuple[int, bytes]] = {}
    for section in ELFFile(io.BytesIO(raw)).iter_sections():
        if section.name in (".text", ".data") and section["sh_size"]:
            found[section.name] = (section["sh_addr"], section.data())
    if ".text" not in found or found[".text"][0] != HOST_IMEM_BASE:
        raise CompileError("the host's code does not begin at the reset vector")
    out = [Segment("host_imem", *_words(*found[".text"]), flags=5)]
    if ".data" in found:
        out.append(Segment("host_dmem", *_words(*found[".data"])))
    return tuple(out)


def _words(address: int, data: bytes) -> tuple[int, bytes]:
    return address, data + bytes(-len(data) % 4)
