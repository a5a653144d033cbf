# SPDX-License-Identifier: Apache-2.0
"""Code in a J3DAI image as text, for the listing beside it."""

from __future__ import annotations

from nncosim.hdl.j3dai.asm import disassemble as cluster_lines
from nncosim.hdl.j3dai.asm import disassemble_descriptors, words_of

__all__ = ["disassemble"]


def disassemble(kind: str, data: bytes) -> list[str] | None:
    """One line an instruction of a cluster program ("program"), or a descriptor of a DMPA list ("list")."""
    if kind == "program":
        words = words_of(data)
        while words and not words[-1]:  # the filling of the last line
            words.pop()
        return cluster_lines(words)
    return disassemble_descriptors(data) if kind == "list" else None
