# SPDX-License-Identifier: Apache-2.0
"""An image whose host reads performance counters over MMIO when its layer is done, and stores them in its memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nncosim.compiler.compile import Compiled
from nncosim.compiler.image.image import Image
from nncosim.compiler.j3dai.firmware import LayerStart, compile_host, firmware_source
from nncosim.compiler.j3dai.notes import J3daiNotes, j3dai_notes
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, MMIO_BASE, Reg
from nncosim.platforms.j3dai import J3dai

__all__ = ["place", "with_reader"]

READER = """
static void read_counters(void)
{
    static const uint32_t engines[] = { @engines@ };
    volatile uint32_t *out = (volatile uint32_t *)@at@u;

    for (uint32_t e = 0; e < sizeof engines / sizeof *engines; e++)
        for (uint32_t kind = 0; kind < @kinds@u; kind++) {
            J3DAI_COUNTER_SELECT = engines[e] | kind << 4;
            *out++ = J3DAI_COUNTER_VALUE;
        }
@registers@}

__attribute__((noreturn, used)) void host_main(void)
"""


def place(platform: J3dai) -> int:
    """Where in its data memory the host stores what it read: a byte's address in it."""
    return platform.host_dmem_bytes // 2


def with_reader(compiled: Compiled, platform: J3dai, engines: Iterable[int], kinds: int,
                registers: Iterable[Reg] = ()) -> Image:
    """The image with a host program that reads all kinds of all engines before it reports the inference done.

    Args:
        engines: numbers for COUNTER_SELECT. kinds: so many counters of each. registers: that it reads behind them.
    """
    source = _firmware(j3dai_notes(compiled.image), platform, engines, kinds, registers)
    others = tuple(s for s in compiled.image.segments if not s.memory.startswith("host"))
    return replace(compiled.image, segments=(*compile_host(source, platform), *others))


def _firmware(notes: J3daiNotes, platform: J3dai, engines: Iterable[int], kinds: int, registers: Iterable[Reg]) -> str:
    starts = [LayerStart(i, each.word, each.clusters, each.program_counter) for i, each in enumerate(notes.lists)]
    source = firmware_source(platform, starts, notes.input_lists)
    reader = READER.replace("@engines@", ", ".join(map(str, engines))).replace("@kinds@", str(kinds))
    reads = [f"    *out++ = *(volatile uint32_t *){MMIO_BASE + register:#x}u;\n" for register in registers]
    reader = reader.replace("@registers@", "".join(reads))
    head, call = "\n__attribute__((noreturn, used)) void host_main(void)\n", "        infer();\n"
    assert source.count(head) == 1 and source.count(call) == 1
    source = source.replace(head, reader.replace("@at@", hex(HOST_DMEM_BASE + place(platform))))
    return source.replace(call, call + "        read_counters();\n")
