# SPDX-License-Identifier: Apache-2.0
"""Host code: generated C, compiled for RV32IMC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from nncosim.compiler.image.image import Segment
from nncosim.compiler.riscv import AddressRange, compile_c
from nncosim.hdl.j3dai.header import c_header
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE
from nncosim.platforms.j3dai import J3dai

__all__ = ["LayerStart", "compile_host", "firmware_segments", "firmware_source"]

_STACK_BYTES = 4096
"""At the end of data memory."""


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


def firmware_segments(platform: J3dai, layers: Sequence[LayerStart], input_lists: int = 0) -> tuple[Segment, ...]:
    """Host instruction and data memory contents, as `firmware_source`; raises as `compile_host`."""
    return compile_host(firmware_source(platform, layers, input_lists), platform)


def compile_host(source: str, platform: J3dai) -> tuple[Segment, ...]:
    """The segments of a host program in C, which may include `j3dai.h` and begins with section `.start`.

    Raises:
        CompileError: the compiler is missing, the code is wrong, or does not fit.
    """
    program = compile_c(
        {"host.c": source, "j3dai.h": c_header(platform)}, AddressRange(HOST_IMEM_BASE, platform.host_imem_bytes),
        AddressRange(HOST_DMEM_BASE, platform.host_dmem_bytes - _STACK_BYTES),
    )  # fmt: skip
    code = Segment("host_imem", HOST_IMEM_BASE, program.code, flags=5)
    return (code, Segment("host_dmem", HOST_DMEM_BASE, program.data)) if program.data else (code,)
