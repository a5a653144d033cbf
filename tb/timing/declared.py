# SPDX-License-Identifier: Apache-2.0
"""From a place in emitted Verilog, which Yosys carries along, to the line of Python that declares the signal."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nncosim.hdl.source_lines import Verilog

__all__ = ["source_line"]

_PLACE = re.compile(r"([^:|]+):(\d+)")
_MODULE = re.compile(r"module \\?([^\s(;]+)")
_DECLARATION = re.compile(r"\s*(?:\(\*.*?\*\)\s*)*(?:(?:input|output|inout|reg|wire|signed)\s+)+(?:\[\d+:\d+\]\s*)?"
                          r"\\?([^\s;=\[]+)")


def source_line(sources: Mapping[str, str], place: str) -> str:
    """``FILE:LINE`` that declares the signal which a place of a design's Verilog declares; "" where that is not known.

    Of what was not emitted from Python, its place in the Verilog itself.

    Args:
        sources: file name to text, as `nncosim.hdl.emit.emit_design` gives it, with lines.
        place: ``FILE:LINE...``, as in Yosys' attribute `src`; of several the first counts.
    """
    found = _PLACE.match(place)
    if found is None or found[1] not in sources:
        return ""
    text, line = sources[found[1]], int(found[2])
    if not isinstance(text, Verilog):
        return f"{found[1]}:{line}"
    lines = text.split("\n")[:line]
    declaration = _DECLARATION.match(lines[-1])
    module = next((match[1] for each in reversed(lines) if (match := _MODULE.match(each))), "")
    number = text.lines.signals.get(module, {}).get(declaration[1]) if declaration else None
    return "" if number is None else text.lines.places[number]
