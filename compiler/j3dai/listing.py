# SPDX-License-Identifier: Apache-2.0
"""Code in a J3DAI image as text, for the listing beside it."""

from __future__ import annotations

import re

from nncosim.hdl.j3dai.asm import disassemble as cluster_lines
from nncosim.hdl.j3dai.asm import disassemble_descriptors, words_of
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import J3dai

__all__ = ["disassemble"]


def disassemble(kind: str, data: bytes, platform: J3dai) -> list[str] | None:
    """One line an instruction of a cluster program ("program"), or a descriptor of a DMPA list ("list").

    Addresses in L2 stand as words, as the hardware counts, and as the bytes of the memory map.
    """
    if kind == "program":
        words = words_of(data)
        while words and not words[-1]:  # the filling of the last line
            words.pop()
        return cluster_lines(words)
    if kind != "list":
        return None

    def with_bytes(found: re.Match[str]) -> str:
        return f"{found[0]} ({L2_BASE + int(found[1]) * platform.word_bytes:#010x})"

    return [re.sub(r"\bl2=(\d+)", with_bytes, line) for line in disassemble_descriptors(data)]
