# SPDX-License-Identifier: Apache-2.0
"""Records of what passes a machine's boundaries: one table of layouts, of which the RTL's taps and the simulator's
structs (seen.h) are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["FIRST_STREAM", "HEAD", "MOST_BITS", "Layouts", "seen_header", "seen_source"]

Layouts = Mapping[str, np.dtype[np.void]]
"""By name of the record; each begins with the fields of `HEAD`."""

FIRST_STREAM = 16
"""Event-log stream of the first layout; the others follow."""
MOST_BITS = 2048
"""Of a record of the event log."""
HEAD = [("cycle", "<u8"), ("unit", "<u4")]
"""The cycle since reset; which of several alike parts of the machine."""

_C_TYPES = {"u1": "uint8_t", "u2": "uint16_t", "u4": "uint32_t", "u8": "uint64_t", "i4": "int32_t"}


def seen_header(layouts: Layouts) -> list[str]:
    """Lines of C++: `SEEN`, how many layouts there are, and a packed struct for each, "l2_read" as `SeenL2Read`."""
    out = [f"constexpr int SEEN = {len(layouts)};"]
    for number, (name, layout) in enumerate(layouts.items()):
        members = []
        for each in layout.names or ():
            base = layout[each].base.str.lstrip("<|")
            sizes = "".join(f"[{size}]" for size in layout[each].shape)
            members.append(f"{_C_TYPES[base]} {each if each != 'register' else 'reg'}{sizes};")
        title = "".join(part.capitalize() for part in name.split("_"))
        out.append(f"struct __attribute__((packed)) Seen{title} {{ static constexpr int number = {number}; "
                   + " ".join(members) + " };")
    return out


def seen_source() -> dict[str, str]:
    """seen.h, beside which a simulator's own sources are compiled: file name to text."""
    path = Path(__file__).with_name("seen.h")
    return {path.name: path.read_text()}
